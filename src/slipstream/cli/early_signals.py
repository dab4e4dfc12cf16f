"""Signals that arrive before training handles them: a command ends as after Ctrl-C, without empty folders."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGXCPU") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """A signal other than Ctrl-C. number: the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


@contextmanager
def raised() -> Iterator[None]:
    """Raise Terminated on the signals that would otherwise end the process at once.

    A signal that is ignored (`nohup`) or already handled stays so. `Interrupts` handles them during training.
    """
    main = threading.current_thread() is threading.main_thread()
    taken = [number for number in ENDING if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
