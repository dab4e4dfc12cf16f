"""Sources of a step's examples: the device, or a file that is read a few updates in advance.

Both give a step the same rows, so its bytes are the same. Results do not depend on reading ahead, since
missing rows are read on demand.
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

WORKERS = 4  # threads, which wait for the disk or copy, both without holding the GIL
AHEAD = 8  # maximum number of requests in progress or waiting to be used
BUFFER = 2**28  # maximum bytes of all requests; two are always allowed


class BatchSource(Protocol):
    """The training examples of a pack."""

    def ahead(self, strides: Sequence[Sequence[Batch]]) -> AbstractContextManager[None]:
        """Announce the batches that will be taken inside the block, in this order."""

    def take(self, batches: Sequence[Batch]) -> tuple[Examples, Sequence[Batch]]:
        """Return examples with the batches' rows, and the batches with indices into them."""


class Resident:
    """Examples on the device."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def ahead(self, strides: Sequence[Sequence[Batch]]) -> AbstractContextManager[None]:
        """Do nothing: all examples are available."""
        return nullcontext()

    def take(self, batches: Sequence[Batch]) -> tuple[Examples, Sequence[Batch]]:
        """Return all examples."""
        return self.examples, batches


class Request(NamedTuple):
    """Rows [R] of some batches, grouped by distinct order of examples.

    orders: the index of each member's order. Members with one seed share an order, which is read once.
    """

    rows: np.ndarray
    orders: tuple[int, ...]


class Streamed:
    """Examples whose inputs stay in a file. Targets, which are small, are on the device.

    stored, targets: of all folds, concatenated. fixed: return tables of one size, even if the number of
    distinct orders changes between epochs, for compiled steps.
    """

    def __init__(self, stored: Stored, targets: Tensor, pack: Pack, *, fixed: bool) -> None:
        self.stored, self.targets, self.pack, self.fixed = stored, targets, pack, fixed
        self._coming = deque[tuple[Batch, Request]]()
        self._inputs: Iterator[Tensor] = iter(())
        self._places: dict[tuple[int, ...], list[tuple[Tensor, ...]]] = {}

    @contextmanager
    def ahead(self, strides: Sequence[Sequence[Batch]]) -> Iterator[None]:
        """Read ahead in threads inside the block. The threads end with the block, also on an exception."""
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
        """Return only the rows of these batches. Raises DataError if the file can no longer be read."""
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
        """Return the rows to read for batches. Waits for the device."""
        if not strides:
            return []
        micro = torch.stack([i for stride in strides for batch in stride for i in batch.indices])
        size = micro.shape[-1]
        if micro.is_meta:  # to count memory, assume the maximum: every member has its own rows
            micro = torch.arange(micro.numel(), device="cpu")
        host = micro.view(len(strides), -1, self.pack.size, size).transpose(1, 2).cpu().numpy()
        return [self._request(orders.reshape(self.pack.size, -1)) for orders in host]

    def _request(self, orders: np.ndarray) -> Request:
        """Return the request for the rows that each member needs. orders: [K, L]."""
        if len(orders) == 1:
            return Request(orders[0], (0,))
        distinct: dict[bytes, int] = {}
        which = tuple(distinct.setdefault(order.tobytes(), len(distinct)) for order in orders)
        rows = orders[[which.index(number) for number in range(len(distinct))]]
        return Request(rows.ravel(), which)

    def _indices(self, request: Request, batches: Sequence[Batch]) -> list[tuple[Tensor, ...]]:
        """Return the positions of each micro-batch's rows among the rows that were read."""
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
    """Extend the table to `rows` rows. The content of the additional rows is never used."""
    if len(table) == rows:
        return table
    wide = table.new_empty(rows, *table.shape[1:])
    wide[: len(table)] = table
    return wide


def read_ahead(stored: Stored, wanted: Sequence[np.ndarray], device: torch.device) -> Generator[Tensor]:
    """Yield the rows of every request in turn, on the device, while threads read the next ones.

    Closing the generator ends the threads. Raises DataError if the file can no longer be read.
    """
    pinned, example = device.type == "cuda", stored.shape[1:]
    size = prod(example)

    def read(rows: np.ndarray) -> Tensor:
        if device.type == "meta":
            return torch.empty(len(rows), *example, dtype=torch.uint8, device=device)
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
    """Return the number of requests read ahead. size: bytes of one request."""
    return max(min(AHEAD, BUFFER // size), 2)


def bytes_ahead(size: int) -> int:
    """Return the peak bytes of requests of `size` bytes: those read ahead, one in use, and the next."""
    return (depth(size) + 2) * size


def chunks(
    stored: Stored, rows: int, size: int, folds: int | Sequence[int], device: torch.device
) -> Generator[Tensor]:
    """Yield a split in chunks: [size, ...] for one fold, or [K, size, ...] with each member's own fold.

    stored: all folds, each with `rows` rows.
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
