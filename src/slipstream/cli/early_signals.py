"""Signals before training hears them: a command ends as after Ctrl-C, and leaves no empty folder."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGXCPU") if hasattr(signal, name)]


class Terminated(KeyboardInterrupt):
    """A signal from outside in place of Ctrl-C. number: the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


@contextmanager
def raised() -> Iterator[None]:
    """Raise Terminated on the signals that would end the process at once, and on no others.

    One that is ignored (`nohup`) or handled already stays so. In training `Interrupts` hears them.
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
