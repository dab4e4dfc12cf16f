"""Signals: the first one asks for a save at the next step, the second one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

HANGUP: int | None = getattr(signal, "SIGHUP", None)  # Windows has none
HANDLED = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While open, SIGINT, SIGTERM and SIGHUP set `received` in place of ending the process.

    SIGHUP, of a terminal that closes, stays ignored where it was: so `nohup` asks.
    Only the main thread can take signals over; elsewhere it stays a flag that nobody sets.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            numbers: list[int] = [*HANDLED]
            if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
                numbers.append(HANGUP)
            self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
        elif number != HANGUP:  # which comes twice, from the shell and from the system
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
        """130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
        return 128 + (self.received or 0)
