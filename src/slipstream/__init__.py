"""slipstream: a PyTorch training toolkit driven by Hydra YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slipstream import kernels

if TYPE_CHECKING:
    from slipstream.config import compose as compose
    from slipstream.prediction import load as load
    from slipstream.registry import register as register
    from slipstream.run import train as train
    from slipstream.run import train_pack as train_pack
    from slipstream.summary import Result as Result
    from slipstream.sweep.python import SweepResult as SweepResult
    from slipstream.sweep.python import sweep as sweep

__version__ = "0.1.0"

kernels.choose()  # here, because everything else may load torch

_HOMES = {
    "compose": "slipstream.config",
    "load": "slipstream.prediction",
    "register": "slipstream.registry",
    "Result": "slipstream.summary",
    "SweepResult": "slipstream.sweep.python",
    "train": "slipstream.run",
    "train_pack": "slipstream.run",
}


def __getattr__(name: str) -> Any:
    # Imported at their first use: the command line needs none of torch before it trains.
    import importlib

    if name == "sweep":
        return importlib.import_module("slipstream.sweep")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_HOMES, "sweep", "__version__"]
