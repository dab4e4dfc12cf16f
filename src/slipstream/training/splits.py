"""The examples of training, validation and test: on the device, or in their file."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from slipstream.data.stored import Sliced, Stored
from slipstream.training.evaluate import chunk_of
from slipstream.training.inputs import form_of, ready
from slipstream.training.step import Examples
from slipstream.training.streaming import chunks

if TYPE_CHECKING:
    from slipstream.config import Config
    from slipstream.data import Data, Split


class Splits:
    """The splits `train`, `val` and `test` of some folds, whose parts have equal sizes.

    data: every fold. forms: what a network gets of each. rows: examples of each split of one fold.
    files: the inputs that stay in their file, those of all folds one after another.
    """

    def __init__(self, data: Sequence[Data], config: Config, device: torch.device) -> None:
        self.data, self.device = list(data), device
        self.forms = [form_of(config, each) for each in self.data]
        self.rows = {name: len(split.inputs) for name, split in _named(self.data[0]).items()}
        self.files = {name: stored for name in self.rows if (stored := self._file(name)) is not None}
        self._stored = {name: self._store(name) for name in self.rows}

    @property
    def folded(self) -> bool:
        """Whether there is more than one fold."""
        return len(self.data) > 1

    @property
    def shown(self) -> str:
        """Whose outputs are drawn: validation, or training where there is none."""
        return "val" if self.rows["val"] else "train"

    def _file(self, name: str) -> Stored | None:
        """The rows of a split of all folds where they stay in their file: more than are evaluated at once."""
        parts = [_named(data)[name].inputs for data in self.data]
        stored = [part for part in parts if isinstance(part, Stored)]
        return Stored.joined(stored) if stored and self.rows[name] > chunk_of(self.forms[0]) else None

    def _store(self, name: str) -> tuple[Examples, Tensor]:
        """A split of every fold on the device, [F, N, ...]: its examples and its weights. Of inputs that
        stay in their file there are no rows."""
        splits = [_named(data)[name] for data in self.data]
        if name in self.files:
            x = torch.empty(len(splits), 0, *self.forms[0].shape, dtype=torch.uint8)
        else:
            pairs = zip(splits, self.data, self.forms, strict=True)
            x = _together([ready(_in_memory(split), data.form, form) for split, data, form in pairs])
        y, weights = (_together([getattr(s, part) for s in splits]) for part in ("targets", "weights"))
        return Examples(x.to(self.device), y.to(self.device)), weights.to(self.device)

    def part(self, name: str, fold: int) -> tuple[Examples, Tensor]:
        """The examples [N, ...] and weights [N] of a split of one fold, no inputs in a file."""
        examples, weights = self._stored[name]
        return Examples(*(part[fold] for part in examples)), weights[fold]

    def parts(self, name: str, folds: Sequence[int]) -> tuple[Examples, Tensor]:
        """The same of several folds [K], with an axis K in front."""
        examples, weights = self._stored[name]
        which = torch.tensor(folds, device=self.device)
        return Examples(*(part[which] for part in examples)), weights[which]

    def joined(self, name: str) -> tuple[Examples, Tensor]:
        """The same of all folds, one after another."""
        examples, weights = self._stored[name]
        return Examples(*(part.flatten(0, 1) for part in examples)), weights.flatten()

    def training_inputs(self, fold: int) -> Tensor | Sliced:
        """Those of one fold on the CPU, to be cut."""
        if "train" not in self.files:
            return self.part("train", fold)[0].inputs.cpu()
        rows = self.rows["train"]
        return Sliced(self.files["train"].part(np.arange(rows) + fold * rows))

    def read(self, name: str, folds: int | Sequence[int]) -> Generator[Tensor]:
        """The inputs of a split that stay in their file, as many at a time as are evaluated at once: of one
        fold [N, ...], or of several [K, N, ...]. To be closed."""
        return chunks(self.files[name], self.rows[name], chunk_of(self.forms[0]), folds, self.device)


def _named(data: Data) -> dict[str, Split]:
    return {"train": data.train, "val": data.validation, "test": data.test}


def _in_memory(split: Split) -> Tensor:
    return split.inputs.tensor() if isinstance(split.inputs, Stored) else split.inputs


def _together(parts: Sequence[Tensor]) -> Tensor:
    """A fold axis in front; one alone is not copied."""
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(list(parts))
