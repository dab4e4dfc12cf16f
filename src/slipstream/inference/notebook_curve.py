"""The live curve of a run that trains in a notebook, and the table at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from slipstream.inference.run_display import curves_svg
from slipstream.training.loop import Progress
from slipstream.training.member import Member

SECONDS = 0.5  # between two updates
KERNEL = "ZMQInteractiveShell"  # IPython's class in a notebook; a terminal has another


def in_notebook() -> bool:
    """Return True inside the kernel of a notebook. IPython is not imported."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == KERNEL


class NotebookCurve:
    """A watcher of one run that shows its losses by epoch."""

    def __init__(self) -> None:
        from IPython import display

        shown: Any = display  # it has no types
        self._html, self._handle = shown.HTML, shown.DisplayHandle()
        self._member: Member | None = None
        self._drawn = 0.0

    def begin(self, members: Sequence[Member]) -> None:
        """Choose the first member, and reserve the place of the curve."""
        self._member = members[0]
        self._handle.display(self._html("training"))

    def epoch(self, progress: Progress, finished: Sequence[int]) -> None:
        """Redraw the curve, at most twice a second."""
        now = time.monotonic()
        if self._member is not None and now - self._drawn > SECONDS:
            self._drawn = now
            epochs = self._member.config.trainer.max_epochs
            self._handle.update(self._html(curves_svg(self._member.records, epochs=epochs)))

    def interrupted(self, progress: Progress, broken: Sequence[int] = ()) -> None:
        """Do nothing: the end of the run says so."""

    def end(self, html: str) -> None:
        """Replace the curve with the run's table."""
        self._handle.update(self._html(html))
