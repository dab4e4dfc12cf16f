"""The augmentation of a batch, kind by kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from slipstream.augmentations import geometry
from slipstream.core.lazy import torch
from slipstream.core.random import fold, uniform_rows
from slipstream.core.registry import BoundComponent, registered
from slipstream.core.traits import AugmentationTraits
from slipstream.core.types import InputSpec, Numbers

if TYPE_CHECKING:
    from torch import Tensor

    from slipstream.core.random import Key

KINDS = ("geometry", "warp", "values", "mix")
ROWS = 16  # most draws of one augmentation
FIELDS = 2048  # sites of number fields follow those of the draws


def augment(
    x: Tensor,
    y: Tensor,
    chosen: Sequence[BoundComponent[AugmentationTraits]],
    key: Key,
    numbers: Numbers,
    classes: int,
    form: InputSpec,
) -> tuple[Tensor, Tensor]:
    """Apply the chosen augmentations to a batch, in their fixed order.

    x [N, ...]; images float in [0, 1]. y: class indices [N], or floats [N, ...]. chosen: with name, part
    (the component) and function (its structure settings bound). numbers: name -> number settings.
    key [4]: of this update. Returns x and y; y as distributions [N, classes] if an augmentation mixes.
    """
    order = registered("augmentation")
    chosen = sorted(chosen, key=lambda choice: order.index(choice.name))
    places = {choice.name: order.index(choice.name) for choice in chosen}
    rows = {choice.name: choice.part.traits.draws for choice in chosen}
    sites = [ROWS * places[name] + row for name, count in rows.items() for row in range(count)]
    parts = uniform_rows(key, sites, len(x)).split(list(rows.values()))
    u = dict(zip(rows, parts, strict=True))
    keys = {name: fold(key, FIELDS + place) for name, place in places.items()}

    of = {kind: [c for c in chosen if c.part.traits.kind == kind] for kind in KINDS}
    x = geometry.resample(x, of["geometry"], of["warp"], u, keys, numbers)
    for choice in of["geometry"]:
        if also := choice.part.traits.values:
            x = also(x, u[choice.name], **choice.function.keywords, **numbers[choice.name])
    for choice in of["values"]:
        x = choice.function(x, u[choice.name], keys[choice.name], form, **numbers[choice.name])
    if of["mix"] and y.dim() == 1:
        y = (y[:, None] == torch.arange(classes, device=y.device)).to(torch.float32)
    for choice in of["mix"]:
        x, y = choice.function(x, y, u[choice.name], **numbers[choice.name])
    return x, y
