"""Signals: the first one asks for a save at the next step, the second one leaves at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

HANDLED = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While open, SIGINT and SIGTERM set `received` in place of ending the process.

    Only the main thread can take signals over; elsewhere it stays a flag that nobody sets.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in HANDLED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)  # twice: at once; what is on disk is complete at every instant
        self.received = number

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
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.received or 0)
