"""Sweeps: many runs from one command, trained as packs, and what they say together.

The package has the name of what it does: called, it sweeps. `slipstream.sweep(space)` is
`slipstream.sweep.python.sweep`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slipstream.sweep.python import SweepResult


class _Callable(ModuleType):
    def __call__(self, *arguments: Any, **named: Any) -> SweepResult:
        from slipstream.sweep.python import sweep

        return sweep(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
