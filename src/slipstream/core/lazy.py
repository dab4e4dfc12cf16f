"""torch, imported on first use.

Validation of a configuration and shell completion need the signatures of components, but not torch, which
takes a second to import. Component modules therefore write

    from slipstream.core.lazy import torch

and use it like the module. The standard library's `LazyLoader` does not work here: every other `import torch`
statement reads `__spec__`, which loads the module.

The first use also prepares torch for bit-identical repeats. If several threads together compute the first
logarithm, sine or tanh of a process, MKL's vector functions give some of them an inaccurate result
(docs/decisions/0037).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


class LazyModule:
    """A stand-in for a module, imported when one of its attributes is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:  # the type depends on the attribute
        module = importlib.import_module(self._name)
        module.log(module.ones(1, device="cpu"))  # in one thread
        # Once the attributes are set, torch.compile reads them without tracing this method.
        self.__dict__.update(module.__dict__)
        return getattr(module, attribute)


if TYPE_CHECKING:
    import torch as torch
else:
    torch = LazyModule("torch")
