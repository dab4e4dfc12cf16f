"""torch, imported at its first use.

Validating a configuration or completing a word at the prompt needs the components' signatures and
not torch, whose import takes a second. Component modules therefore write

    from slipstream.core.lazy import torch

and use it like the module. The standard library's `LazyLoader` does not serve: every further
`import torch` statement touches `__spec__`, which loads it.

torch is then made ready to repeat to the bit: where the first logarithm, sine or tanh of a process is
taken by several threads, MKL's vector functions give some of them a coarse one (docs/decisions/0037).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


class LazyModule:
    """Stands for a module until one of its attributes is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        module = importlib.import_module(self._name)
        module.log(module.ones(1, device="cpu"))  # by one thread
        # With its attributes in place, torch.compile reads them without tracing this method.
        self.__dict__.update(module.__dict__)
        return getattr(module, attribute)


if TYPE_CHECKING:
    import torch as torch
else:
    torch = LazyModule("torch")
