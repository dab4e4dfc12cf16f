"""Images that remain on disk: rows of an array in a file, read on demand."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.errors import ConfigError, DataError
from slipstream.core.lazy import torch
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import counted
from slipstream.data.image.pixel_moments import BLOCK, is_pixels

if TYPE_CHECKING:
    from torch import Tensor


class _File:
    """An open file that remains readable even if it is renamed or deleted."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.number = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror})") from error
        weakref.finalize(self, os.close, self.number)

    def fill(self, out: memoryview, offset: int) -> None:
        """Fill `out` with bytes from the file. Truncating a memory-mapped file would kill the process."""
        while out:
            try:
                count = os.preadv(self.number, [out], offset)
            except OSError as error:
                raise self._error(str(error.strerror)) from error
            if not count:
                size = os.fstat(self.number).st_size
                raise self._error(f"it was truncated to {counted(size, 'byte')}")
            out, offset = out[count:], offset + count

    def _error(self, reason: str) -> DataError:
        return DataError(
            f"{self.path}: can no longer be read: {reason}; start again, or continue with resume=, when "
            "it is complete (a damaged cache is rebuilt)"
        )


class Stored:
    """Rows of an array of bytes [M, ...] in a file, in any order.

    Like an array, it has shape, dtype, nbytes and a length, and `stored[places]` reads rows. rows: int64 [N],
    their indices in the file's array.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, file: _File, offset: int, example: tuple[int, ...], rows: np.ndarray) -> None:
        self._file, self._offset, self._example, self.rows = file, offset, example, rows

    @classmethod
    def of(cls, array: DataLike) -> DataLike:
        """Return all rows of a memory-mapped array of images; other inputs are returned unchanged."""
        mapped = getattr(array, "_mmap", None)  # numpy.memmap has it but does not declare it
        whole = mapped is not None and array.base is mapped and array.flags.c_contiguous
        if not whole or not is_pixels(array):
            return array
        return cls(_File(str(array.filename)), array.offset, array.shape[1:], np.arange(len(array)))

    @classmethod
    def joined(cls, parts: Sequence[Stored]) -> Stored:
        """Concatenate the rows of several selections from one file."""
        first = parts[0]
        return cls(first._file, first._offset, first._example, np.concatenate([p.rows for p in parts]))

    def part(self, places: np.ndarray) -> Stored:
        """Select rows without reading them."""
        return Stored(self._file, self._offset, self._example, self.rows[places])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as for an array."""
        return (len(self.rows), *self._example)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the rows in bytes."""
        return prod(self.shape)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Read rows in the given order. Raises DataError if the file can no longer be read."""
        out = np.empty((len(places), *self._example), np.uint8)
        self.read(places, out)
        return out

    def read(self, places: np.ndarray, out: np.ndarray) -> None:
        """Read rows into an existing, C-contiguous array."""
        size = prod(self._example)
        if not len(places):
            return
        rows, bytes_ = self.rows[places], memoryview(out.data).cast("B")
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)  # read adjacent rows together
        ends = np.append(starts[1:], len(rows))
        for start, end, row in zip(starts.tolist(), ends.tolist(), rows[starts].tolist(), strict=True):
            self._file.fill(bytes_[start * size : end * size], self._offset + row * size)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all rows, some megabytes at a time."""
        count = max(BLOCK // prod(self._example), 1)
        for first in range(0, len(self), count):
            yield self[np.arange(first, min(first + count, len(self)))]

    def tensor(self) -> Tensor:
        """Return all rows in memory, uint8 [N, ...]."""
        return torch.from_numpy(self[np.arange(len(self))])


class Sliced:
    """Stored rows that are indexed like a tensor. Only the selected rows are read."""

    def __init__(self, stored: Stored) -> None:
        self._stored, self.shape = stored, stored.shape

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, rows: slice) -> Tensor:
        return self._stored.part(np.arange(len(self))[rows]).tensor()


def materialize(
    inputs: Sequence[np.ndarray | Stored], settings: Mapping[str, Plain], room: int | None
) -> list[Tensor | Stored]:
    """Read the splits into memory, except for images that stay in their file.

    settings: `streaming` is never, always, or auto, which streams if the images exceed the available memory,
    unless a batch has all rows. Raises ConfigError if there is no file.
    """
    streaming, stored = settings.get("streaming", "never"), [p for p in inputs if isinstance(p, Stored)]
    in_file = len(stored) == len(inputs)
    if streaming == "auto":
        possible = in_file and room is not None and settings["batch_size"] != "full"
        streaming = "always" if possible and sum(part.nbytes for part in inputs) > (room or 0) else "never"
    if streaming == "never":
        return [part.tensor() if isinstance(part, Stored) else torch.from_numpy(part) for part in inputs]
    if not in_file:
        raise ConfigError(
            [
                "data.streaming: always reads images from their cache, but there is none; set data.cache to "
                "a writable folder"
            ]
        )
    return [*stored]
