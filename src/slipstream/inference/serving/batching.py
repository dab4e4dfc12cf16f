"""Batching of requests that arrive together. No request waits for another one to arrive."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from slipstream.core.wording import counted
from slipstream.inference.serving.refusals import RequestError

Q = TypeVar("Q")
A = TypeVar("A")
INLINE = (
    0.005  # seconds: a shorter computation is not worth a thread, which would compete for the interpreter
)


@dataclass(frozen=True)
class Waiting(Generic[Q, A]):
    """A request in the queue."""

    question: Q
    rows: int
    answer: asyncio.Future[A]
    since: float


class Batcher(Generic[Q, A]):
    """Collects requests during a computation, and answers them together in the next one.

    A request that arrives alone is computed at once. Under load, all requests that arrive during one
    computation form the next batch. Computations never overlap.

    Args:
        compute: maps requests to an answer or a RequestError each.
        most: the largest number of rows in a batch; a larger request is computed separately.
        queue: the largest number of waiting rows; further requests are refused with status 503.
        told: called with the rows of every batch and the seconds that each of its requests waited.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Q]], Sequence[A | RequestError]],
        most: int,
        queue: int,
        told: Callable[[int, Sequence[float]], None],
    ) -> None:
        self.compute, self.most, self.limit, self.told = compute, most, queue, told
        self._waiting: deque[Waiting[Q, A]] = deque()
        self._rows = 0
        self._busy = False  # a computation is scheduled or running
        self._pace = (1, 0.0)  # rows and seconds of the last one
        self._thread = ThreadPoolExecutor(1, "slipstream-compute")

    async def ask(self, question: Q, rows: int) -> A:
        """Return the answer to a request with this number of rows. Raises RequestError."""
        if self._waiting and self._rows + rows > self.limit:
            raise RequestError(503, f"{counted(self._rows, 'row')} already waiting; try again in a second")
        loop = asyncio.get_running_loop()
        one: Waiting[Q, A] = Waiting(question, rows, loop.create_future(), time.perf_counter())
        self._waiting.append(one)
        self._rows += rows
        if not self._busy:
            self._busy = True
            # Deferred, so that requests whose bytes have already arrived join the batch.
            loop.call_soon(self._begin)
        return await one.answer

    def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False)

    def _begin(self) -> None:
        batch, rows = [self._waiting.popleft()], 0
        rows = batch[0].rows
        while self._waiting and rows + self._waiting[0].rows <= self.most:
            batch.append(self._waiting.popleft())
            rows += batch[-1].rows
        self._rows -= rows
        now = time.perf_counter()
        self.told(rows, [now - one.since for one in batch])
        last, seconds = self._pace
        if seconds and seconds * max(1, rows / last) < INLINE:
            self._end(batch, rows, self._answers(batch))
            return
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, self._answers, batch)
        future.add_done_callback(lambda done: self._end(batch, rows, done.result()))

    def _answers(
        self, batch: Sequence[Waiting[Q, A]]
    ) -> tuple[float, Sequence[A | RequestError] | Exception]:
        begun = time.perf_counter()
        try:
            found: Sequence[A | RequestError] | Exception = self.compute([one.question for one in batch])
        except Exception as error:  # reaches every request of the batch
            found = error
        return time.perf_counter() - begun, found

    def _end(
        self,
        batch: Sequence[Waiting[Q, A]],
        rows: int,
        result: tuple[float, Sequence[A | RequestError] | Exception],
    ) -> None:
        seconds, found = result
        self._pace = (rows, seconds)
        answers = [found] * len(batch) if isinstance(found, Exception) else found
        for one, answer in zip(batch, answers, strict=True):
            if one.answer.done():  # its client has disconnected
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._begin)
        else:
            self._busy = False
