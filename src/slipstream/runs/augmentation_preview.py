"""A preview of the selected augmentations on some examples, for TensorBoard."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from slipstream.augmentations import augment
from slipstream.augmentations.picture import strip
from slipstream.core import random
from slipstream.core.console import number
from slipstream.core.registry import BoundComponent
from slipstream.core.traits import AugmentationTraits
from slipstream.core.types import Plain
from slipstream.models.layers import unit

if TYPE_CHECKING:
    from PIL.Image import Image

    from slipstream.config.run_config import Config
    from slipstream.training.engine import Engine

COLUMNS = 6  # examples shown
DRAWS = 16  # per example and augmentation; the draw that changes it most is shown
TOGETHER = 2  # rows with all augmentations
CHANGES = 1 / 255  # the smallest difference that an image can show


def augmented(engine: Engine, config: Config) -> Image:
    """Return training images of several classes, with each augmentation alone and with all together.

    An augmentation acts with some probability and amount. Of 16 draws of each augmentation alone, the one
    that changes the image most is shown. All augmentations together are shown as drawn. Members of a pack
    with equal augmentations share one image.
    """
    return _picture(engine, json.dumps(config.augmentations, sort_keys=True))


@lru_cache(maxsize=4)
def _picture(engine: Engine, text: str) -> Image:
    program, settings = engine.program, json.loads(text)
    x, y, names = _examples(engine)
    key, classes = random.make_key(0, random.BATCH), len(program.target.classes)
    numbers = {c.name: c.part.split(settings[c.name])[0] for c in program.augmentations}

    def draw(chosen: list[BoundComponent[AugmentationTraits]], draws: int) -> torch.Tensor:
        many = x.repeat(draws, 1, 1, 1), y.repeat(draws, *[1] * (y.dim() - 1))
        made, _ = augment(*many, chosen, key, numbers, classes, program.form)
        return made.reshape(draws, *x.shape)

    rows = {"original": x}
    for choice in program.augmentations:
        versions = draw([choice], DRAWS)
        differences = (versions - x).abs().flatten(2)  # [draws, N, ...]
        shown = differences.mean(2).argmax(0)
        title = _title(choice.name, settings[choice.name])
        rows[title if differences.max() > CHANGES else f"{title}: no change in {DRAWS} draws"] = versions[
            shown, torch.arange(len(x))
        ]
    if len(program.augmentations) > 1:
        for row, version in enumerate(draw(list(program.augmentations), TOGETHER), start=1):
            rows[f"all together, draw {row}"] = version
    return strip({title: row.numpy() for title, row in rows.items()}, names)


def _title(name: str, settings: Plain) -> str:
    """Name an augmentation with its settings.

    >>> _title("rotation", {"degrees": 15.0, "fill": "zeros"})
    'rotation: degrees 15, fill zeros'
    """
    said = ", ".join(
        f"{key} {number(value) if isinstance(value, float) else value}" for key, value in settings.items()
    )
    return f"{name}: {said}" if said else name


def _examples(engine: Engine) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Return images [N, C, H, W] from 0 to 1 on the CPU, their targets and their names.

    The image shows as many classes as fit, with the first examples of each.
    """
    fold = engine.folds[0]
    targets = engine.splits.part("train", fold).targets
    target, y = engine.program.target, targets.cpu()
    if target.task in ("binary", "multiclass"):
        labels = y.flatten().numpy()
        present = np.unique(labels)[:COLUMNS]
        each = -(-COLUMNS // len(present))
        rows = np.concatenate([np.flatnonzero(labels == label)[:each] for label in present])[:COLUMNS]
        names = [target.classes[int(label)] for label in labels[rows]]
    else:
        rows = np.arange(min(COLUMNS, len(y)))
        names = [f"row {row}" for row in rows]
    inputs = engine.splits.training_inputs(fold)
    x = torch.cat([inputs[row : row + 1] for row in rows.tolist()])
    return unit(x).cpu(), y[torch.from_numpy(rows)], names
