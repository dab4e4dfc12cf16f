"""The training, validation and test splits, on the device or in their file."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from slipstream.data.image.stored import Sliced, Stored
from slipstream.training.backend.streaming import chunks
from slipstream.training.evaluate import chunk_of
from slipstream.training.inputs import form_of, ready
from slipstream.training.model_spec import original_units
from slipstream.training.step import Part

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.core.types import Target
    from slipstream.data import Data, Split


class Splits:
    """The splits `train`, `val` and `test` of some folds, whose splits have equal sizes.

    data: every fold. forms: the network's input spec per fold. rows: the size of each split of one fold.
    files: the inputs that stay in their file, concatenated over folds.
    """

    def __init__(self, data: Sequence[Data], config: Config, device: torch.device) -> None:
        self.data, self.device = list(data), device
        self.forms = [form_of(config, each) for each in self.data]
        self.rows = {name: len(split.inputs) for name, split in _named(self.data[0]).items()}
        self.files = {name: stored for name in self.rows if (stored := self._file(name)) is not None}
        self._stored = {name: self._store(name) for name in self.rows}

    @property
    def folded(self) -> bool:
        """True if there is more than one fold."""
        return len(self.data) > 1

    @property
    def shown(self) -> str:
        """The split whose outputs are plotted: validation, or training if there is none."""
        return "val" if self.rows["val"] else "train"

    def _file(self, name: str) -> Stored | None:
        """Return a split of all folds if it stays in its file: if it exceeds one evaluation chunk."""
        parts = [_named(data)[name].inputs for data in self.data]
        stored = [part for part in parts if isinstance(part, Stored)]
        return Stored.joined(stored) if stored and self.rows[name] > chunk_of(self.forms[0]) else None

    def _store(self, name: str) -> Part:
        """Return a split of every fold on the device, [F, N, ...].

        Inputs that stay in their file have no rows here.
        """
        splits = [_named(data)[name] for data in self.data]
        if name in self.files:
            x = torch.empty(len(splits), 0, *self.forms[0].shape, dtype=torch.uint8)
        else:
            pairs = zip(splits, self.data, self.forms, strict=True)
            x = _together([ready(_in_memory(split), data.form, form) for split, data, form in pairs])
        y, weights = (
            _together([getattr(s, part) for s in splits]).to(self.device) for part in ("targets", "weights")
        )
        metric_targets, counts = y, weights
        if self.data[0].target.task == "regression":
            truths = zip(splits, self.data, strict=True)
            metric_targets = _together([_truth(split, data.target) for split, data in truths]).to(self.device)
        if splits[0].counts is not None:
            counts = _together([s.weights if s.counts is None else s.counts for s in splits]).to(self.device)
        return Part(x.to(self.device), y, metric_targets, weights, counts)

    def part(self, name: str, fold: int) -> Part:
        """Return a split of one fold, without inputs that stay in a file."""
        return self._stored[name].each(lambda tensor: tensor[fold])

    def parts(self, name: str, folds: Sequence[int]) -> Part:
        """Return the same for several folds, with a leading axis K."""
        which = torch.tensor(folds, device=self.device)
        return self._stored[name].each(lambda tensor: tensor[which])

    def joined(self, name: str) -> Part:
        """Return the same, concatenated over all folds."""
        return self._stored[name].each(lambda tensor: tensor.flatten(0, 1))

    def training_inputs(self, fold: int) -> Tensor | Sliced:
        """Return the training inputs of one fold on the CPU, for slicing."""
        if "train" not in self.files:
            return self.part("train", fold).inputs.cpu()
        rows = self.rows["train"]
        return Sliced(self.files["train"].part(np.arange(rows) + fold * rows))

    def read(self, name: str, folds: int | Sequence[int]) -> Generator[Tensor]:
        """Yield the inputs of a split from its file in evaluation chunks. The caller closes the generator.

        folds: one fold gives [N, ...], several give [K, N, ...].
        """
        return chunks(self.files[name], self.rows[name], chunk_of(self.forms[0]), folds, self.device)


def _named(data: Data) -> dict[str, Split]:
    return {"train": data.train, "val": data.validation, "test": data.test}


def _truth(split: Split, target: Target) -> Tensor:
    """Return regression targets for metrics, float64 [N, D]."""
    return original_units(split.targets, target) if split.metric_targets is None else split.metric_targets


def _in_memory(split: Split) -> Tensor:
    return split.inputs.tensor() if isinstance(split.inputs, Stored) else split.inputs


def _together(parts: Sequence[Tensor]) -> Tensor:
    """Stack with a leading fold axis, without a copy for one fold."""
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(list(parts))
