"""Where a step's examples come from: the device, or a file that is read a few updates ahead.

A step gets the same rows either way, and so gives the same bytes. Nothing depends on what was read
ahead: what was not is read when it is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import islice
from math import prod
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from slipstream.data.image.stored import Stored
from slipstream.training.pack import Pack
from slipstream.training.step import Batch, Examples

WORKERS = 4  # threads: they wait for the disk, or copy, both without Python's lock
AHEAD = 8  # requests that are read or wait to be used, at most
BUFFER = 2**28  # bytes that they may take together, though two are always allowed


class BatchSource(Protocol):
    """The training examples of a pack."""

    def ahead(self, strides: Sequence[Sequence[Batch]]) -> AbstractContextManager[None]:
        """While this is entered, these batches are about to be taken, in this order."""

    def take(self, batches: Sequence[Batch]) -> tuple[Examples, Sequence[Batch]]:
        """Examples that hold the batches' rows, and the batches with indices into them."""


class Resident:
    """Examples that lie on the device."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def ahead(self, strides: Sequence[Sequence[Batch]]) -> AbstractContextManager[None]:
        """Nothing is left to be done."""
        return nullcontext()

    def take(self, batches: Sequence[Batch]) -> tuple[Examples, Sequence[Batch]]:
        """All of them."""
        return self.examples, batches


class Request(NamedTuple):
    """Rows [R] of some batches: first all of one order of examples, then all of the next one.

    orders: which of the orders each member has. Those of one seed have one, which is read once.
    """

    rows: np.ndarray
    orders: tuple[int, ...]


class Streamed:
    """Examples whose inputs stay in a file. Targets lie on the device: they are small.

    stored, targets: of all folds, one after another. fixed: members whose orders differ from one epoch to
    another get tables of one size all the same, for compiled steps.
    """

    def __init__(self, stored: Stored, targets: Tensor, pack: Pack, *, fixed: bool) -> None:
        self.stored, self.targets, self.pack, self.fixed = stored, targets, pack, fixed
        self._coming = deque[tuple[Batch, Request]]()
        self._inputs: Iterator[Tensor] = iter(())
        self._places: dict[tuple[int, ...], list[tuple[Tensor, ...]]] = {}

    @contextmanager
    def ahead(self, strides: Sequence[Sequence[Batch]]) -> Iterator[None]:
        """Read on in threads while this is entered. They have ended when it is left, however it is left."""
        requests = self._requests(strides)
        self._coming.extend((stride[0], request) for stride, request in zip(strides, requests, strict=True))
        rows = [request.rows for request in requests]
        with closing(read_ahead(self.stored, rows, self.targets.device)) as inputs:
            self._inputs = inputs
            try:
                yield
            finally:
                self._coming.clear()

    def take(self, batches: Sequence[Batch]) -> tuple[Examples, Sequence[Batch]]:
        """The rows of just these batches. Raises DataError where the file cannot be read any more."""
        if self._coming and self._coming[0][0] is batches[0]:
            _, request = self._coming.popleft()
            inputs = next(self._inputs)
        else:
            (request,) = self._requests([batches])
            (inputs,) = read_ahead(self.stored, [request.rows], self.targets.device)
        targets = self.targets.index_select(0, torch.from_numpy(request.rows).to(self.targets.device))
        if self.fixed:
            rows = len(inputs) // (max(request.orders) + 1) * self.pack.size
            inputs, targets = _widened(inputs, rows), _widened(targets, rows)
        places = self._indices(request, batches)
        parts = zip(places, batches, strict=True)
        return Examples(inputs, targets), [Batch(indices, batch.weights) for indices, batch in parts]

    def _requests(self, strides: Sequence[Sequence[Batch]]) -> list[Request]:
        """What is to be read for batches. Waits for the device."""
        if not strides:
            return []
        micro = torch.stack([i for stride in strides for batch in stride for i in batch.indices])
        size = micro.shape[-1]
        host = micro.view(len(strides), -1, self.pack.size, size).transpose(1, 2).cpu().numpy()
        return [self._request(orders.reshape(self.pack.size, -1)) for orders in host]

    def _request(self, orders: np.ndarray) -> Request:
        """orders [K, L]: the rows that each member wants."""
        if len(orders) == 1:
            return Request(orders[0], (0,))
        distinct: dict[bytes, int] = {}
        which = tuple(distinct.setdefault(order.tobytes(), len(distinct)) for order in orders)
        rows = orders[[which.index(number) for number in range(len(distinct))]]
        return Request(rows.ravel(), which)

    def _indices(self, request: Request, batches: Sequence[Batch]) -> list[tuple[Tensor, ...]]:
        """Where the rows of each micro-batch of each batch stand among those that were read."""
        key = (len(batches), *request.orders)
        if key not in self._places:
            self._places.clear()
            length = len(request.rows) // (max(request.orders) + 1)
            orders = torch.tensor(request.orders, device=self.targets.device) * length
            places = torch.arange(length, device=self.targets.device)
            table = places if self.pack.single else orders[:, None] + places
            pieces = iter(table.split(batches[0].indices[0].shape[-1], dim=-1))
            self._places[key] = [
                tuple(piece.contiguous() for piece in islice(pieces, len(batch.indices))) for batch in batches
            ]
        return self._places[key]


def _widened(table: Tensor, rows: int) -> Tensor:
    """The table with so many rows; what the further ones hold is never looked at."""
    if len(table) == rows:
        return table
    wide = table.new_empty(rows, *table.shape[1:])
    wide[: len(table)] = table
    return wide


def read_ahead(stored: Stored, wanted: Sequence[np.ndarray], device: torch.device) -> Generator[Tensor]:
    """The rows of every request in turn, on the device, while threads read the next ones.

    Closing the generator ends the threads. Raises DataError where the file cannot be read any more.
    """
    pinned, example = device.type == "cuda", stored.shape[1:]
    size = prod(example)

    def read(rows: np.ndarray) -> Tensor:
        out = torch.empty(len(rows), *example, dtype=torch.uint8, pin_memory=pinned)
        stored.read(rows, out.numpy())
        return out

    if not wanted:
        return
    if len(wanted) == 1:
        yield read(wanted[0]).to(device, non_blocking=True)
        return
    left, begun = iter(wanted), deque[Future[Tensor]]()
    with ThreadPoolExecutor(WORKERS, "slipstream-reader") as threads:
        try:
            begun.extend(threads.submit(read, rows) for rows in islice(left, depth(len(wanted[0]) * size)))
            while begun:
                inputs = begun.popleft().result()
                begun.extend(threads.submit(read, rows) for rows in islice(left, 1))
                yield inputs.to(device, non_blocking=True)
        finally:
            for future in begun:
                future.cancel()


def depth(size: int) -> int:
    """How many requests of so many bytes are read ahead."""
    return max(min(AHEAD, BUFFER // size), 2)


def bytes_ahead(size: int) -> int:
    """The most memory that requests of so many bytes take: those ahead, one in use, one that follows it."""
    return (depth(size) + 2) * size


def chunks(
    stored: Stored, rows: int, size: int, folds: int | Sequence[int], device: torch.device
) -> Generator[Tensor]:
    """A split of one fold, so many rows at a time [size, ...], or that of each member's own [K, size, ...].

    stored: of all folds, each with so many rows.
    """
    each = [folds] if isinstance(folds, int) else folds
    distinct = sorted(set(each))
    spans = [np.arange(first, min(first + size, rows)) for first in range(0, rows, size)]
    wanted = [np.concatenate([fold * rows + span for fold in distinct]) for span in spans]
    which = torch.tensor([distinct.index(fold) for fold in each], device=device)
    with closing(read_ahead(stored, wanted, device)) as found:
        for inputs in found:
            apart = inputs.view(len(distinct), -1, *stored.shape[1:])
            yield inputs if isinstance(folds, int) else apart[which]
