"""The default loss for a task."""

from __future__ import annotations

from typing import NoReturn

from slipstream.core.registry import register
from slipstream.core.types import Target
from slipstream.losses.target_forms import ALL


def undecided(*_: object, **settings: object) -> NoReturn:
    """Raise an error: a run replaces `auto` by the loss that `choose` selects."""
    raise AssertionError("loss=auto was not replaced")


@register("loss", name="auto", auto=True, tasks=ALL, outputs=undecided, predict=undecided)
def choose(target: Target) -> str:
    """The default loss for the target.

    binary and multilabel: binary_cross_entropy; multiclass: cross_entropy; regression: mse; each
    with the settings of its YAML.
    """
    usual = {"multiclass": "cross_entropy", "regression": "mse"}
    return usual.get(target.task, "binary_cross_entropy")
