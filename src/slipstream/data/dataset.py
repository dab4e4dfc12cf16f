"""The types that data sources return and the engine receives, and settings that all data share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from slipstream.core.registry import shared
from slipstream.core.types import Count, DataLike, Fraction, InputSpec, Natural, Plain, Positive, Target, Word
from slipstream.data.messages import Where
from slipstream.data.scaling import ScalingName

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.data.image.stored import Stored

Settings = Mapping[str, Plain]
PARTS = ("train", "validation", "test")
UNITS = {"tokens": "text", "sequence": "sequence", "image": "image"}  # kind -> the noun for an example
AUTO_SHARE = 0.15  # the fraction of rows for validation and for test under `auto`


@dataclass(frozen=True)
class Split:
    """One split of the data, ready for the engine.

    inputs: float32 [N, ...]; unscaled images, uint8 or float32 (the engine scales them by `Data.form`), or
    Stored if they stay in their file; tokens as integers. targets: int64 [N] (binary, multiclass), float32
    [N, L] (multilabel) or float32 [N, D] (regression, scaled). weights: float32 [N], the rows' weights in
    updates, 1 by default. counts: the weights in metrics, which ignore class weights; None if both are equal.
    metric_targets: regression targets in original units, float64 [N, D]; None if `targets`
    already has original units.
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
    """The three splits, with everything needed to describe, repeat and invert their preprocessing.

    validation and test may have no rows. preprocessing: as JSON, for `kinds.from_json`. summary: a
    full description in Markdown, with warnings. card: the same in at most 12 short lines of plain text,
    without warnings. fingerprint: SHA-256 over the tensors and the files read, `sources`. rows_keys: SHA-256
    of each split's row numbers and targets, independent of the inputs' encoding.
    """

    train: Split
    validation: Split
    test: Split
    target: Target
    form: InputSpec
    input_names: tuple[str, ...]
    preprocessing: dict[str, Plain]
    summary: str
    card: str
    warnings: tuple[str, ...]
    fingerprint: str
    sources: tuple[str, ...]
    rows_keys: tuple[str, ...] = ()

    @cached_property
    def fitted(self) -> str:
        """Return the content of preprocessing.json, shared by all members of a sweep with these data."""
        return json.dumps({"inputs": self.preprocessing, "target": asdict(self.target)}, indent=1) + "\n"


@dataclass
class RawData:
    """Data as read by a source, before they are split, scaled and converted to tensors.

    inputs: an array [N, ...], a Frame, Sequences or Texts; a memory-mapped array of images may stay in its
    file. digest: SHA-256 of all inputs, if the source knows it; the fingerprint then does not read them.
    targets: int64 [N] class indices, [N, L] of 0 and 1, or float64 [N, D]. parts: int8 [N], if the source
    assigns splits: train (0), validation (1), test (2); missing splits are drawn from the rows marked 0.
    groups: int64 [N]. order: float64 [N], the time of each row; None if only the row's position is known.
    left_out: the file's unused columns. notes: sentences for the summary. kind: of the `InputSpec`, None
    if the number of axes determines it. vocabulary: for tokens, the words by id. masked: as in
    `InputSpec`. where: returns a row's location in the file of its split.
    """

    inputs: DataLike
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

    @property
    def unit(self) -> str:
        """The noun for an example."""
        return UNITS.get(self.kind or "", "row")


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
    scaling: ScalingName,
    target_scaling: Literal["auto", "standard", "none"],
    class_weights: Literal["none", "balanced"] | dict[Word, Positive],
) -> None:
    """Declare the settings that all data sources share.

    batch_size: rows per step, or `full` for the whole training split.
    split: how rows are assigned to splits. `auto` is `group` or `time` if the data have a group or a time,
        `stratified` (each class in proportion, with at least one row in train) for classes, and `random`
        otherwise. `group` keeps the rows of a group together. `time` trains on the earliest rows and tests on
        the latest ones; rows with equal times stay together.
    validation, test: fraction of the rows, 0 for none; `auto` is 0.15 unless files, a split column, the
        arrays' keys or `folds` define the split. In that case a number is an error.
    folds: number of equal parts for cross-validation, of which number `fold` (from 0) is the validation
        split; null for a single validation split. The test split is the same in every fold.
    split_seed: seed of the split's random order, separate from the run's seed, so that runs with different
        seeds share their data.
    scaling: of the inputs, fitted on train: `standard` (mean 0, deviation 1) or `minmax` (0 to 1) by column
        (by channel where inputs have more axes); `robust` (median 0, interquartile range 1, outliers clipped
        smoothly to 3), for tables and sequences; `global` is `standard` with one mean and one deviation for
        all channels, for pixels and spectra but not for tables. Categories and booleans stay 0 and 1.
    target_scaling: of regression targets; `auto` means `standard`. Metrics and predictions are in original
        units.
    class_weights: weights of classes in the training loss only: `balanced` gives every class the same total
        (rows / (classes * rows of the class), or the sums of row weights); a mapping has a weight for every
        class. They multiply the rows' own weights.
    """
