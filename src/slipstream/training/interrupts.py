"""Signals: the first one asks for a save at the next step, the second one leaves at once.

What takes long and can be begun anew, such as a compilation, is `abandonable`: the first signal ends it.
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
# The processor's time that a user or a cluster allows is used up: a second later comes the next one, and
# at the hard limit SIGKILL.
OUT_OF_TIME: int | None = getattr(signal, "SIGXCPU", None)
HANDLED = (signal.SIGINT, signal.SIGTERM)


class Abandoned(BaseException):
    """A signal came while something was made that can be begun anew. Nothing has changed by it."""


_open: list[Interrupts] = []  # those that listen, the innermost last
_abandonable = False


@contextmanager
def abandonable() -> Iterator[None]:
    """In here the first signal raises Abandoned in the main thread, as does one that came before.

    What fails after a signal does so because of it: Ctrl-C reaches a compiler that was started, too.
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
    """While open, SIGINT, SIGTERM, SIGHUP and SIGXCPU set `received` in place of ending the process.

    SIGHUP, of a terminal that closes, stays ignored where it was: so `nohup` asks.
    Only the main thread can take signals over; elsewhere it stays a flag that nobody sets.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

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
        elif number not in (HANGUP, OUT_OF_TIME):  # which come twice, from the shell and from the system
            os._exit(128 + number)  # twice: at once; what is on disk is complete at every instant

    def wait(self, seconds: float) -> None:
        """Sleep, at most until a signal comes."""
        until = time.monotonic() + seconds
        while self.received is None and time.monotonic() < until:
            time.sleep(min(0.1, seconds))

    @property
    def name(self) -> str:
        """What a person calls the signal."""
        return "Ctrl-C" if self.received == signal.SIGINT else signal.Signals(self.received or 0).name

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 152 after SIGXCPU."""
        return 128 + (self.received or 0)
