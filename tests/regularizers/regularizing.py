"""What the tests of regularizers share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from slipstream.core.random import NOISE, make_key
from slipstream.core.registry import Component, component

CONFIGS = Path(__file__).parents[2] / "configs" / "regularizer"
KEY = make_key(7, NOISE)


def defaults(name: str) -> dict[str, Any]:
    """The settings of its YAML."""
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def regularizer(name: str) -> Component:
    return component("regularizer", name)


def sample(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
