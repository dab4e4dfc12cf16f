"""The reasons for a prediction, by occlusion: scores of one example with one feature replaced at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slipstream.core.types import InputSpec
from slipstream.data.array_preprocessing import ArrayPreprocessing
from slipstream.data.preprocessing import Preprocessing
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.perturbations import perturbations, slices
from slipstream.inference.serving.fields import typical
from slipstream.runs.prediction import Model

GRID, WORDS = 4, 40  # regions along each side of an image; words of a text
ABOUT = {
    "vector": "The prediction minus the prediction with one column at its typical training value.",
    "sequence": "The prediction minus the prediction with one column at its typical value in all steps.",
    "image": "The prediction minus the prediction with one region filled with the image's mean color.",
    "tokens": "The prediction minus the prediction for the text without one word.",
}


@dataclass(frozen=True)
class Replacement:
    """A replacement of one feature of an example, by one value or by several whose scores are averaged.

    inputs: those of each network, [V, ...] for V values. told: a description of the replacement.
    """

    name: str
    told: str
    inputs: tuple[Tensor, ...]


def replacements(ensemble: Ensemble, inputs: Sequence[Tensor]) -> list[Replacement]:
    """Return the replacements of one example. inputs: those of each network, [1, ...].

    A column takes its typical value (median, mean or most frequent value as `data.impute` says; each of its
    categories in turn), a region of an image takes the mean color, and a word is removed.
    """
    first = ensemble.first.preprocessing
    if first.spec.kind in ("image", "tokens"):
        made = perturbations([m.preprocessing for m in ensemble.models], inputs, GRID, WORDS)
        told = "the image's mean color" if first.spec.kind == "image" else "nothing"
        order = torch.zeros(1, dtype=torch.int64)
        return [
            Replacement(one.name, told, tuple(one.change(i, x, order) for i, x in enumerate(inputs)))
            for one in made
            if not one.shuffles
        ]
    return [
        Replacement(
            name, told, tuple(_replaced(m, x, name) for m, x in zip(ensemble.models, inputs, strict=True))
        )
        for name, told in _columns(ensemble.first)
    ]


def _columns(model: Model) -> list[tuple[str, str]]:
    preprocessing = model.preprocessing
    return [
        (column.name, _typical(model, number)[1])
        for number, (column, place) in enumerate(
            zip(preprocessing.columns, slices(preprocessing).values(), strict=True)
        )
        if place.stop > place.start and not _is_mask(preprocessing, preprocessing.spec, place)
    ]


def _is_mask(preprocessing: Preprocessing, spec: InputSpec, place: slice) -> bool:
    return isinstance(preprocessing, ArrayPreprocessing) and spec.masked and place.stop == spec.shape[-1]


def _typical(model: Model, number: int) -> tuple[np.ndarray, str]:
    settings = model.data
    return typical(
        model.preprocessing.columns[number],
        settings.get("scaling", "standard"),
        settings.get("impute", "median"),
        isinstance(model.preprocessing, ArrayPreprocessing),
    )


def _replaced(model: Model, x: Tensor, name: str) -> Tensor:
    """Return the inputs [V, ...] with a column's encoding replaced by its V typical ones."""
    places = slices(model.preprocessing)
    values = torch.from_numpy(_typical(model, list(places).index(name))[0].T)  # [V, outputs]
    made = x.repeat(len(values), *(1,) * (x.dim() - 1))
    place = places[name]
    if x.dim() == 2:
        made[:, place] = values
    else:
        made[..., place] = values[:, None]
        if model.preprocessing.spec.masked:  # padding stays 0
            made[..., place] *= x[..., -1:]
    return made
