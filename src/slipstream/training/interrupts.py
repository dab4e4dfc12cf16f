"""Signals. The first one requests a checkpoint after the current step, and the second one exits immediately.

A long operation that can be restarted, such as a compilation, is `abandonable`: the first signal aborts it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

HANGUP: int | None = getattr(signal, "SIGHUP", None)  # Windows has none
# The CPU time limit is exceeded. The signal repeats every second until SIGKILL at the hard limit.
OUT_OF_TIME: int | None = getattr(signal, "SIGXCPU", None)
HANDLED = (signal.SIGINT, signal.SIGTERM)


class Abandoned(BaseException):
    """A signal has aborted an operation that can be restarted and has changed nothing."""


_open: list[Interrupts] = []  # active ones, the innermost last
_abandonable = False


@contextmanager
def abandonable() -> Iterator[None]:
    """Raise Abandoned in the main thread on the first signal inside the block, or on an earlier one.

    A failure after a signal is attributed to it: Ctrl-C also reaches a compiler's process.
    """
    global _abandonable
    listening = bool(_open) and threading.current_thread() is threading.main_thread()
    _abandonable = listening
    try:
        if listening and _open[-1].received is not None:
            raise Abandoned
        yield
    except Exception as error:
        if listening and _open[-1].received is not None:
            raise Abandoned from error
        raise
    finally:
        _abandonable = False


class Interrupts:
    """While open, SIGINT, SIGTERM, SIGHUP and SIGXCPU set `received` instead of ending the process.

    SIGHUP, from a closing terminal, stays ignored if it was: `nohup` relies on that.
    Only the main thread can handle signals; in another thread `received` stays None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}  # returned by signal.signal(): a function, a number or None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            numbers: list[int] = [*HANDLED]
            more = (HANGUP, OUT_OF_TIME)
            numbers += [n for n in more if n is not None and signal.getsignal(n) is not signal.SIG_IGN]
            _open.append(self)
            self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            _open.pop()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            if _abandonable:
                raise Abandoned
        elif number not in (
            HANGUP,
            OUT_OF_TIME,
        ):  # these may arrive twice, from the shell and from the system
            os._exit(128 + number)  # exit immediately; files on disk are always complete

    def wait(self, seconds: float) -> None:
        """Sleep until a signal arrives, at most for `seconds`."""
        until = time.monotonic() + seconds
        while self.received is None and time.monotonic() < until:
            time.sleep(min(0.1, seconds))

    @property
    def name(self) -> str:
        """The name of the signal for messages."""
        return "Ctrl-C" if self.received == signal.SIGINT else signal.Signals(self.received or 0).name

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 152 after SIGXCPU."""
        return 128 + (self.received or 0)
