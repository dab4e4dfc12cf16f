"""Delivery of metrics to a logger in its own thread, so that training never waits.

Metrics that a logger cannot accept are kept, up to a limit, and sent again. The thread is a daemon, so a
logger that hangs does not keep the process alive.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from slipstream.core.wording import counted
from slipstream.loggers.tracker import Point, Tracker

MOST = 50_000  # the largest number of epochs kept, over all runs
AT_ONCE = 500  # epochs of one run per call
PAUSE = 0.2  # seconds to collect the epochs of a pack
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before a retry
TELL_SECONDS = 30.0  # of failure before a long run warns; a short run reports at its end what is missing
IN_A_ROW = 3  # consecutive failing runs after which the others also wait
CLOSE_SECONDS = 30.0  # how long the end of a run waits for a logger
LETTERS = 200  # characters of an error that are shown


class Sending:
    """The connection of one run to one logger. make: returns its tracker; called in the thread."""

    def __init__(self, make: Callable[[], Tracker], epochs: int, delivery: Delivery) -> None:
        self._make, self._epochs, self._delivery = make, epochs, delivery
        self._tracker: Tracker | None = None
        self.points: deque[Point] = deque()
        self.ended: tuple[str, Mapping[str, float], int] | None = None
        self.done = False

    def epoch(self, point: Point) -> None:
        """Send the metrics of an epoch."""
        self._delivery.add(self, point)

    def end(self, status: str, values: Mapping[str, float], epoch: int) -> None:
        """Send the end, after all epochs."""
        self._delivery.end(self, (status, values, epoch))

    def waits(self) -> bool:
        """Return True if there is something to send. A run appears even before its first epoch."""
        return not self.done and (self._tracker is None or bool(self.points) or self.ended is not None)

    def send(self) -> None:
        """Send everything that is waiting. If the logger raises an error, nothing changes."""
        if self._tracker is None:
            made = self._make()
            last = self._epochs if made.last_epoch is None else made.last_epoch
            while self.points and self.points[0].epoch <= last:
                self._sent(1)
            self._tracker = made
        while self.points:
            points = [self.points[n] for n in range(min(len(self.points), AT_ONCE))]
            self._tracker.log_points(points)
            self._sent(len(points))
        if self.ended is not None:
            self._tracker.end(*self.ended)
            self.done = True

    def _sent(self, count: int) -> None:
        for _ in range(count):
            self.points.popleft()
        self._delivery.sent(count)


class Delivery:
    """The thread of one logger. name: as in `logger=name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._changed = threading.Condition()
        self._sendings: list[Sending] = []
        self._last: Callable[[], None] | None = None  # after all runs have ended
        self.kept = self._dropped = self._failures = 0
        self._error = ""
        self._since: float | None = None  # when it began to fail
        self._news: list[str] = []
        self._told = self._closing = self._gone = self._work = False
        threading.Thread(target=self._run, name=f"logger={name}", daemon=True).start()

    def begin(self, make: Callable[[], Tracker], epochs: int) -> Sending:
        """Return the connection for one more run."""
        with self._changed:
            self._sendings.append(Sending(make, epochs, self))
            self._wake()
            return self._sendings[-1]

    def add(self, sending: Sending, point: Point) -> None:
        """Queue the metrics of an epoch, or drop them if too many are waiting."""
        with self._changed:
            if self.kept >= MOST:
                self._dropped += 1
                return
            self.kept += 1
            sending.points.append(point)
            self._wake()

    def sent(self, count: int) -> None:
        """Count the epochs that were sent."""
        with self._changed:
            self.kept -= count

    def end(self, sending: Sending, ended: tuple[str, Mapping[str, float], int]) -> None:
        """Queue the end of a run."""
        with self._changed:
            sending.ended = sending.ended or ended
            self._wake()

    def finally_(self, last: Callable[[], None]) -> None:
        """Call a function in the thread when all runs have ended."""
        with self._changed:
            self._last = last
            self._wake()

    def news(self) -> list[str]:
        """Return the warnings since the last call."""
        with self._changed:
            news, self._news = self._news, []
        return news

    def close(self, seconds: float = CLOSE_SECONDS) -> str | None:
        """Wait until everything is sent, or for this time. Return a warning if anything is missing."""
        end = time.monotonic() + seconds
        with self._changed:
            for sending in self._sendings:
                sending.ended = sending.ended or ("interrupted", {}, 0)
            self._closing = True
            self._wake()
            while self._unsent() and not self._gone and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            self._gone = True
            self._changed.notify_all()
            return self._missing()

    def _missing(self) -> str | None:
        waiting = [one for one in self._sendings if not one.done]
        epochs = sum(len(one.points) for one in waiting) + self._dropped
        if not waiting and not epochs and self._last is None:
            return None
        why = self._error or f"it took longer than {CLOSE_SECONDS:g} seconds"
        what = f"{counted(epochs, 'epoch')} and the ends of {counted(len(waiting), 'run')}"
        return f"logger={self.name}: {what} were not sent: {why}. metrics.jsonl has all of them"

    def _unsent(self) -> bool:
        return self._last is not None or any(not one.done for one in self._sendings)

    def _wake(self) -> None:
        self._work = True
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._work and not self._gone:
                    self._changed.wait()
                if self._gone:
                    return
                self._work = False
                last_round = self._closing
                waiting = [one for one in self._sendings if one.waits()]
            failed = self._round(waiting)
            with self._changed:
                self._sendings = [one for one in self._sendings if not one.done]
                self._gone = self._gone or (failed and last_round)
                self._changed.notify_all()
                wait = min(FIRST_WAIT * 2**self._failures, LONGEST_WAIT) if failed else PAUSE
                self._failures = self._failures + 1 if failed else 0
                self._since = self._since if failed else None
                self._work = self._work or failed
                end = time.monotonic() + wait
                while not self._closing and not self._gone and (left := end - time.monotonic()) > 0:
                    self._changed.wait(left)

    def _round(self, waiting: Sequence[Sending]) -> bool:
        """Send everything that is waiting. Return True if something failed."""
        failed = in_a_row = 0
        for one in waiting:
            try:
                one.send()
                in_a_row = 0
            except Exception as error:  # a logger may be any code; no exception of it may end a run
                self._tell(error)
                failed, in_a_row = failed + 1, in_a_row + 1
            if in_a_row == IN_A_ROW or self._gone:
                break
        if not failed and self._last is not None and all(one.done for one in self._sendings):
            try:
                self._last()
            except Exception as error:  # as above
                self._tell(error)
                return True
            self._last = None
        return failed > 0

    def _tell(self, error: Exception) -> None:
        """Keep the reason, and warn once if failures persist, since a short failure loses nothing."""
        said = " ".join(str(error).split())
        said = f"{said[:LETTERS].rstrip('.')} ..." if len(said) > LETTERS else said
        with self._changed:
            self._error = f"{type(error).__name__}{said and f': {said}'}"
            now = time.monotonic()
            self._since = now if self._since is None else self._since
            if not self._told and now - self._since >= TELL_SECONDS:
                self._told = True
                self._news.append(
                    f"logger={self.name}: {self._error}. Training continues. Unsent metrics are kept and "
                    "sent again, and metrics.jsonl has all of them"
                )
