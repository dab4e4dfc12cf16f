"""What a data source returns, what the engine gets, and the settings that all data share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from slipstream.core.registry import shared
from slipstream.core.types import Count, Fraction, InputSpec, Natural, Positive, Target, Word
from slipstream.data.messages import Where
from slipstream.data.tabular.values import Frame

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.data.image.stored import Stored
    from slipstream.data.sequence.long_table import Sequences
    from slipstream.data.text.vocabulary import Texts

Settings = Mapping[str, Any]
PARTS = ("train", "validation", "test")
AUTO_SHARE = 0.15  # of the rows, for validation and for test, where `auto` cuts them off


@dataclass(frozen=True)
class Split:
    """One part of the data, ready for the engine.

    inputs: float32 [N, ...]; images as they were read, uint8 or float32 (the engine scales them by
    `Data.form`), or Stored where they stay in their file; tokens as whole numbers. targets: int64 [N]
    (binary, multiclass), float32 [N, L] (multilabel) or float32 [N, D] (regression, scaled). weights:
    float32 [N], what rows weigh in the updates, 1 where nothing else is asked for. counts: the same in
    metrics, where classes are not weighed; None where both are equal. metric_targets: regression targets in
    original units, float64 [N, D]; None where `targets` tell them.
    """

    inputs: Tensor | Stored
    targets: Tensor
    weights: Tensor
    counts: Tensor | None = None
    metric_targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Data:
    """The three parts, and what is needed to describe, repeat and undo the way to them.

    validation and test may have no rows. preprocessing: as JSON, for `Preprocessing.from_json`.
    summary: all about them in markdown, warnings included. card: the same in at most 12 short lines of
    plain text, without the warnings. fingerprint: SHA-256 over the tensors and the files read, `sources`.
    """

    train: Split
    validation: Split
    test: Split
    target: Target
    form: InputSpec
    input_names: tuple[str, ...]
    preprocessing: dict[str, Any]
    summary: str
    card: str
    warnings: tuple[str, ...]
    fingerprint: str
    sources: tuple[str, ...]

    @cached_property
    def fitted(self) -> str:
        """What preprocessing.json holds: the same for all members of a sweep that have these data."""
        return json.dumps({"inputs": self.preprocessing, "target": asdict(self.target)}, indent=1) + "\n"


@dataclass
class RawData:
    """What a source read, before it is split, scaled and turned into tensors.

    inputs: an array [N, ...], a Frame, Sequences or Texts; a mapped array of images may stay in its file.
    digest: SHA-256 that stands for the content of all inputs, where the source knows one: then they are
    not read for the fingerprint. targets: int64 [N] class indices, [N, L] of 0 and 1, or
    float64 [N, D]. parts: int8 [N], where the source itself says what is train (0), validation (1)
    and test (2); the others of the three are cut from the rows marked 0. groups: int64 [N].
    order: float64 [N], the time of each row, None where their place in the data is all there is.
    left_out: the file's columns that serve for nothing. notes: sentences for the summary.
    kind: of the form (`types.Form`), None where the number of axes tells it. vocabulary: of tokens, the
    words by id. masked: as in `InputSpec`. where: says of a row where it stands, in its own part's file.
    """

    inputs: np.ndarray | Frame | Sequences | Texts
    input_names: tuple[str, ...]
    targets: np.ndarray
    target: Target
    weights: np.ndarray | None = None
    parts: np.ndarray | None = None
    groups: np.ndarray | None = None
    order: np.ndarray | None = None
    sources: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kind: str | None = None
    vocabulary: tuple[str, ...] = ()
    masked: bool = False
    digest: str = ""
    where: Where | None = None

    def __len__(self) -> int:
        return len(self.targets)


@shared("data")
def common(
    *,
    batch_size: Count | Literal["full"],
    split: Literal["auto", "random", "stratified", "group", "time"],
    validation: Fraction | Literal["auto"],
    test: Fraction | Literal["auto"],
    folds: Count | None,
    fold: Natural,
    split_seed: Natural,
    scaling: Literal["standard", "minmax", "robust", "global", "none"],
    target_scaling: Literal["auto", "standard", "none"],
    class_weights: Literal["none", "balanced"] | dict[Word, Positive],
) -> None:
    """Settings that every data source shares.

    batch_size: rows per step, or `full` for the whole training part.
    split: how rows are cut into parts. `auto` is `group` or `time` where the data name a group or a
        time, `stratified` (every class in its share, and at least one row of each in train) for
        classes, and `random` otherwise. `group` keeps the rows of a group together. `time` trains on
        the earliest rows and tests on the latest; rows of one time stay together.
    validation, test: share of the rows, 0 for none; `auto` is 0.15, or what files, a split column,
        the arrays' keys or `folds` say. A share is an error where one of those says it already.
    folds: number of equal parts for cross-validation, of which number `fold` (from 0) is the
        validation part; null for a single validation part. The test part is the same in every fold.
    split_seed: what the random order of the split depends on, apart from the run's seed, so that
        runs with different seeds share their data.
    scaling: of the inputs, fitted on train: `standard` (mean 0, deviation 1) or `minmax` (0 to 1) by
        column (by channel where inputs have more axes); `robust` (median 0, middle half 1 wide, values
        far out clipped smoothly to 3), for tables and sequences; `global` is `standard` with one mean and
        one deviation for all, for pixels and spectra, not for tables. Categories and booleans stay 0 and 1.
    target_scaling: of regression targets; `auto` is `standard` there. Undone in metrics and predictions.
    class_weights: of the rows in the loss, in train only: `balanced` gives every class the same sum
        (rows / (classes * rows of the class), where rows have weights the sums of those); a mapping names
        every class. Multiplied with the rows' own weights.
    """
