"""The scaling of images: once before training, or in the network for every batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slipstream.core.types import InputSpec
from slipstream.data.image.stored import Stored

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.data import Data

BLOCK = 4096  # rows scaled at a time, in float64


def form_of(config: Config, data: Data) -> InputSpec:
    """Return the input spec for the network of this configuration.

    Images of bytes stay bytes on the device, which takes a quarter of the memory, and augmentation works on
    raw images. In both cases the network scales the images. Other inputs are scaled once before training.
    """
    inputs = data.train.inputs
    bytes_ = isinstance(inputs, Stored) or inputs.dtype == torch.uint8
    raw = data.form.scaling is not None and (bytes_ or config.augmentations)
    return data.form if raw else replace(data.form, scaling=None)


def ready(inputs: Tensor, given: InputSpec, wanted: InputSpec) -> Tensor:
    """Convert inputs [N, ...] from the data's spec to that of the network."""
    if given.scaling is None or (wanted.scaling is not None and inputs.dtype == torch.uint8):
        return inputs
    if wanted.scaling is None:
        offset, factor = given.scaling.offset, given.scaling.factor
    else:
        low, high = given.scaling.low, given.scaling.high
        offset, factor = (low,), (1 / (high - low),)
    axes = (1,) * (inputs.dim() - 2)
    shift, scale = (torch.tensor(v, dtype=torch.float64).view(-1, *axes) for v in (offset, factor))
    parts = [((block.double() - shift) * scale).float() for block in inputs.split(BLOCK)]
    return torch.cat(parts) if parts else inputs.float()
