"""Functions shared by losses: numbers of outputs, scores, and targets in the outputs' shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.types import Target

if TYPE_CHECKING:
    from torch import Tensor

FEW = 16  # the largest number of classes for which the transposed softmax is faster
ONE_LABEL = ("binary", "multiclass")
REGRESSION = ("regression",)
ALL = (*ONE_LABEL, "multilabel", *REGRESSION)


# The number of outputs for a target


def one_per_column(target: Target, **settings: object) -> int:
    """Return one output per target column."""
    return len(target.names)


def one_per_class(target: Target, **settings: object) -> int:
    """Return one output per class, two for a binary target."""
    return len(target.classes)


def one_if_binary(target: Target, **settings: object) -> int:
    """Return one output per class or column, a single one for a binary target."""
    return len(target.classes) if target.task == "multiclass" else len(target.names)


# From outputs to scores


def values(outputs: Tensor, target: Target, **settings: object) -> Tensor:
    """Return the outputs; for a binary target y the scores 1 - y and y."""
    return torch.cat([1 - outputs, outputs], -1) if target.task == "binary" else outputs


def margins(outputs: Tensor, target: Target, **settings: object) -> Tensor:
    """Return the outputs; for a binary target the scores -f and f."""
    return torch.cat([-outputs, outputs], -1) if target.task == "binary" else outputs


def probabilities(outputs: Tensor, target: Target, **settings: object) -> Tensor:
    """Return the sigmoid of single logits, or the softmax of one logit per class."""
    if target.task != "multilabel" and outputs.shape[-1] > 1:
        return log_probabilities(outputs).exp()
    if target.task == "binary":
        # Not 1 - p, which would round small probabilities away.
        outputs = torch.cat([-outputs, outputs], -1)
    # torch.sigmoid rounds a tensor's last elements differently: see slipstream.activations.
    return torch.exp(torch.nn.functional.logsigmoid(outputs))


def log_probabilities(outputs: Tensor) -> Tensor:
    """Return the log softmax over the classes, [N, C]."""
    # Along the transpose's first axis torch processes whole vectors of examples: on a CPU up to six times
    # faster for few classes, and slower for many.
    if outputs.shape[-1] > FEW:
        return torch.log_softmax(outputs, -1)
    return torch.log_softmax(outputs.mT, -2).mT


# Targets in the form that losses expect


def as_numbers(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the targets as floats in the shape of the outputs [N, C].

    Class indices become 0 and 1, or one-hot rows if there is one output per class. For a
    distribution over two classes, a single output gets the probability of the second class.
    """
    if targets.dim() == 2:
        return targets if targets.shape == outputs.shape else targets[:, 1:]
    if outputs.shape[-1] == 1:
        return targets.unsqueeze(-1).to(outputs.dtype)
    return one_hot(outputs, targets).to(outputs.dtype)


def one_hot(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return a mask that is True at each example's class: bool [N, C]."""
    return targets.unsqueeze(-1) == torch.arange(outputs.shape[-1], device=outputs.device)
