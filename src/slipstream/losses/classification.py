"""Classification losses, one value per example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.core.types import NonNegative, Positive, Scalar
from slipstream.losses.target_forms import (
    ONE_LABEL,
    as_numbers,
    log_probabilities,
    margins,
    one_hot,
    one_if_binary,
    one_per_class,
    probabilities,
)

if TYPE_CHECKING:
    from torch import Tensor


@register(
    "loss",
    tasks=("binary", "multilabel"),
    outputs=one_if_binary,
    predict=probabilities,
    soft=True,
    probabilistic=True,
    expects_logits=True,
)
def binary_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-(t log p + (1 - t) log(1 - p)) with p = sigmoid(output), averaged over the outputs.

    binary: one logit. multilabel: one logit per label, independently. Finite for every finite logit.
    """
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    return bce(outputs, as_numbers(outputs, targets), reduction="none").mean(-1)


@register(
    "loss",
    tasks=ONE_LABEL,
    outputs=one_per_class,
    predict=probabilities,
    soft=True,
    probabilistic=True,
    expects_logits=True,
)
def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-sum_c t_c log p_c with p = softmax(outputs): -log p of the true class.

    One logit per class, two for a binary target.
    """
    log_p = log_probabilities(outputs)
    if targets.dim() == 2:
        return -(targets * log_p).sum(-1)
    return torch.nn.functional.nll_loss(log_p, targets, reduction="none")


@register(
    "loss",
    tasks=ONE_LABEL,
    outputs=one_per_class,
    predict=probabilities,
    soft=True,
    probabilistic=True,
    expects_logits=True,
)
def kl_divergence(outputs: Tensor, targets: Tensor) -> Tensor:
    """sum_c t_c (log t_c - log p_c) with p = softmax(outputs): 0 if the prediction equals the target.

    Cross-entropy minus the target's entropy: equal for class indices, and with the same gradient for soft
    targets (label smoothing, mixup), whose losses it makes comparable. 0 log 0 counts as 0.
    """
    t = as_numbers(outputs, targets)
    return (torch.xlogy(t, t) - t * log_probabilities(outputs)).sum(-1)


@register(
    "loss",
    tasks=(*ONE_LABEL, "multilabel"),
    outputs=one_if_binary,
    predict=probabilities,
    probabilistic=True,
    expects_logits=True,
)
def focal(outputs: Tensor, targets: Tensor, *, gamma: NonNegative) -> Tensor:
    """-(1 - p)^gamma log p, p of the true class: cross-entropy that down-weights easy examples.

    gamma: at least 0; 0 is cross-entropy, 2 the paper's choice (Lin et al. 2017). binary: one logit,
    sigmoid; multiclass: one logit per class, softmax; multilabel: one logit per label, sigmoids,
    averaged over the labels. The paper's alpha is a class weight: `data.class_weights`.
    The predicted probabilities are underconfident.
    """
    # In terms of log(1 - p): a power of 1 - p has no finite gradient where p rounds to 1.
    if targets.dim() == 2 or outputs.shape[-1] == 1:
        sign = 2 * as_numbers(outputs, targets) - 1
        log_p = torch.nn.functional.logsigmoid(sign * outputs)
        log_rest = torch.nn.functional.logsigmoid(-sign * outputs)
        return -(torch.exp(gamma * log_rest) * log_p).mean(-1)
    true, rest = _true_and_rest(log_probabilities(outputs), targets)
    return -torch.exp(gamma * torch.logsumexp(rest, -1)) * true


def _true_and_rest(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the true class's output [N], and all outputs with that one set to -inf [N, C]."""
    true = outputs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return true, outputs.masked_fill(one_hot(outputs, targets), float("-inf"))


def _violation(outputs: Tensor, targets: Tensor, margin: Scalar) -> Tensor:
    """Return the amount by which the true class's lead falls short of `margin`, [N], at least 0."""
    if outputs.shape[-1] == 1:
        sign = 2 * as_numbers(outputs, targets) - 1
        lead = (sign * outputs).squeeze(-1)
    else:
        true, rest = _true_and_rest(outputs, targets)
        lead = true - rest.amax(-1)
    return torch.relu(margin - lead)


@register("loss", tasks=ONE_LABEL, outputs=one_if_binary, predict=margins)
def hinge(outputs: Tensor, targets: Tensor, *, margin: Positive) -> Tensor:
    """max(0, margin - lead): the loss of the support vector machine.

    binary: lead = s f with one output f and s = +1 or -1 (Cortes and Vapnik 1995). multiclass: one
    output per class, lead = f_y - max over k != y of f_k (Crammer and Singer 2001).
    margin: above 0. Gives scores, not probabilities.
    """
    return _violation(outputs, targets, margin)


@register("loss", tasks=ONE_LABEL, outputs=one_if_binary, predict=margins)
def squared_hinge(outputs: Tensor, targets: Tensor, *, margin: Positive) -> Tensor:
    """max(0, margin - lead)^2: the hinge loss, smooth at the margin, harder on large violations.

    Lead and outputs as in `hinge`. margin: above 0. Gives scores, not probabilities.
    """
    return _violation(outputs, targets, margin).square()
