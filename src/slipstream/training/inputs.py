"""Where images are scaled: once, on their way to the device, or in the network, batch by batch."""

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

BLOCK = 4096  # rows that are scaled at a time in float64


def form_of(config: Config, data: Data) -> InputSpec:
    """The form of the inputs as the network of this configuration gets them.

    Bytes stay bytes on the device, a quarter of the memory, and augmentation works on raw images: then the
    network scales. All others are scaled before, and not once an epoch.
    """
    inputs = data.train.inputs
    bytes_ = isinstance(inputs, Stored) or inputs.dtype == torch.uint8
    raw = data.form.scaling is not None and (bytes_ or config.augmentations)
    return data.form if raw else replace(data.form, scaling=None)


def ready(inputs: Tensor, given: InputSpec, wanted: InputSpec) -> Tensor:
    """Inputs [N, ...] of the data's form as a network of the wanted form gets them."""
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
