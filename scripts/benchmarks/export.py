"""The data that this toolkit trains on, for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import slipstream
from slipstream.config import validate
from slipstream.data import load
from slipstream.training.inputs import ready


def export(overrides: Sequence[str], path: Path, *, flat: bool = True) -> tuple[list[int], int]:
    """Write the scaled rows to train and validate on to an .npz; the shape of an input, the rows to train on.

    flat: images as vectors.
    """
    config = validate(slipstream.compose(*overrides))
    data = load({"name": config.data.name, **config.data.settings})
    scaled = replace(data.form, scaling=None)
    x, xv = (ready(part.inputs, data.form, scaled) for part in (data.train, data.validation))
    if flat:
        x, xv = x.flatten(1), xv.flatten(1)
    names = {"x": x, "y": data.train.targets, "xv": xv, "yv": data.validation.targets}
    np.savez(path, **{name: tensor.numpy() for name, tensor in names.items()})
    return list(x.shape[1:]), len(x)
