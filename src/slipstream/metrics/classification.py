"""Classification metrics, for classes and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.core.lazy import torch
from slipstream.core.registry import register
from slipstream.metrics.sums import CLASSIFICATION, ONE_LABEL, counted, hits, mean, one_hot, weights_below

if TYPE_CHECKING:
    from torch import Tensor

BINS = 15


# By the predicted class


def _counts(scores: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights of correct predictions, of predictions and of examples per class: float64 [C]."""
    weights = weights.double()
    if targets.dim() == 2:
        shares, said, true = weights.unsqueeze(-1), scores > 0.5, targets > 0.5
        return (shares * (said & true)).sum(0), (shares * said).sum(0), (shares * true).sum(0)
    guesses, zeros = scores.argmax(-1), weights.new_zeros(scores.shape[-1])
    right = zeros.index_add(0, targets, weights * (guesses == targets))
    return right, zeros.index_add(0, guesses, weights), zeros.index_add(0, targets, weights)


def _per_class(values: Tensor, there: Tensor) -> Tensor:
    """Average the values [C] over the classes that occur; NaN if none does."""
    return torch.where(there, values, 0.0).sum() / there.sum(dtype=torch.float64)


def confusion_matrix(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weight of examples of true class i predicted as class j: float64 [C, C].

    For binary and multiclass; scores [N, C], targets [N], weights [N].
    """
    classes = scores.shape[-1]
    weights = weights.double()
    cells = targets * classes + scores.argmax(-1)
    return weights.new_zeros(classes * classes).index_add(0, cells, weights).view(classes, classes)


@register("metric", tasks=CLASSIFICATION, mode="max", order_only=True)
def accuracy(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The fraction of correct predictions; for multilabel, of correct labels."""
    return mean(hits(scores, targets), weights).mean()


@register("metric", tasks=ONE_LABEL, mode="max")
def balanced_accuracy(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean over the classes of recall; another name for recall_macro.

    1 / C for a constant prediction.
    """
    return recall_macro(scores, targets, weights)


def _top(k: int, scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    best = scores.topk(min(k, scores.shape[-1]), -1).indices
    return mean((best == targets.unsqueeze(-1)).any(-1), weights)


@register("metric", tasks=("multiclass",), mode="max", min_classes=4)
def top_3_accuracy(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The fraction of examples whose class is among the 3 largest scores; 1 for up to 3 classes."""
    return _top(3, scores, targets, weights)


@register("metric", tasks=("multiclass",), mode="max", min_classes=6)
def top_5_accuracy(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The fraction of examples whose class is among the 5 largest scores; 1 for up to 5 classes."""
    return _top(5, scores, targets, weights)


@register("metric", tasks=CLASSIFICATION, mode="max")
def precision_macro(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean over the classes of precision: correct predictions of a class / predictions of it.

    A class that is never predicted counts as 0.
    """
    right, said, true = _counts(scores, targets, weights)
    return _per_class(torch.where(said > 0, right / said, 0.0), true > 0)


@register("metric", tasks=CLASSIFICATION, mode="max")
def recall_macro(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean over the classes of recall: correct predictions of a class / examples of it."""
    right, _, true = _counts(scores, targets, weights)
    return _per_class(right / true, true > 0)


@register("metric", tasks=CLASSIFICATION, mode="max")
def f1_macro(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean over the classes of F1, the harmonic mean of precision and recall."""
    right, said, true = _counts(scores, targets, weights)
    return _per_class(2 * right / (said + true), true > 0)


@register("metric", tasks=CLASSIFICATION, mode="max")
def f1_weighted(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean over the classes of F1, weighted by their shares of the examples.

    A class that does not occur has weight 0. NaN for multilabel data without any positive label.
    """
    right, said, true = _counts(scores, targets, weights)
    f1 = torch.where(true > 0, 2 * right / (said + true), 0.0)
    return (f1 * true).sum() / true.sum()


def _agreement(scores: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the accuracy, and the shares of the predicted and of the true classes [C]."""
    right, said, true = _counts(scores, targets, weights)
    return right.sum() / true.sum(), said / said.sum(), true / true.sum()


@register("metric", tasks=ONE_LABEL, mode="max")
def mcc(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Matthews' correlation coefficient between prediction and class (Gorodkin 2004), -1 to 1.

    0 if only one class is predicted. NaN if only one occurs; scikit-learn returns 0, which would suggest a
    prediction no better than chance where nothing can be said.
    """
    right, said, true = _agreement(scores, targets, weights)
    spread_said, spread_true = 1 - said.square().sum(), 1 - true.square().sum()
    correlation = (right - (said * true).sum()) / (spread_said * spread_true).sqrt()
    return torch.where((spread_said == 0) & (spread_true > 0), 0.0, correlation)


@register("metric", tasks=ONE_LABEL, mode="max")
def kappa(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cohen's kappa: (accuracy - chance) / (1 - chance), chance from the class shares of both sides.

    NaN if a single class occurs and is always predicted.
    """
    right, said, true = _agreement(scores, targets, weights)
    return (right - (said * true).sum()) / (1 - (said * true).sum())


# By scores and probabilities


def _one_against_rest(scores: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ascending scores and the weights of positives and negatives: [C, N], binary [1, N]."""
    positive = one_hot(scores, targets)
    if targets.dim() == 1 and scores.shape[-1] == 2:
        scores, positive = scores[:, 1:], positive[:, 1:]
    ordered, order = counted(scores, weights).mT.contiguous().sort(-1)
    share = weights.double().expand(order.shape).gather(-1, order)
    positive = positive.mT.gather(-1, order)
    return ordered, share * positive, share * ~positive


@register("metric", tasks=CLASSIFICATION, mode="max")
def roc_auc(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The probability that a positive example scores above a negative one; ties count half.

    multiclass: the mean over the classes, each against the rest; multilabel: over the labels. Classes
    without a positive or a negative example are skipped. The scale of scores does not matter.
    """
    scores, yes, no = _one_against_rest(scores, targets, weights)
    ((smaller, not_larger),) = weights_below(scores, no)
    pairs = yes.sum(-1) * no.sum(-1)
    return _per_class((yes * (smaller + not_larger)).sum(-1) / (2 * pairs), pairs > 0)


@register("metric", tasks=CLASSIFICATION, mode="max")
def pr_auc(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The area under the precision-recall curve as average precision: sum of precision x gain in recall.

    multiclass: the mean over the classes, each against the rest; multilabel: over the labels. Classes
    without a positive example are skipped. A random score gives the share of positives.
    """
    scores, yes, no = _one_against_rest(scores, targets, weights)
    positives, negatives = yes.sum(-1, keepdim=True), no.sum(-1, keepdim=True)
    (right_below, _), (wrong_below, _) = weights_below(scores, yes, no)
    right, wrong = positives - right_below, negatives - wrong_below
    precision = torch.where(yes > 0, right / (right + wrong), 0.0)
    positives = positives.squeeze(-1)
    return _per_class((yes * precision).sum(-1) / positives, positives > 0)


@register("metric", tasks=CLASSIFICATION, mode="min", probabilistic=True)
def log_loss(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The mean of -log p, p the probability of the true class; for multilabel also over the labels.

    A probability below the machine epsilon (1.2e-7 in float32) counts as the epsilon.
    """
    if targets.dim() == 2:
        p = torch.where(targets > 0.5, scores, 1 - scores)
    else:
        p = scores.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    return mean(-p.clamp(min=torch.finfo(p.dtype).eps).log(), weights).mean()


@register("metric", tasks=CLASSIFICATION, mode="min", probabilistic=True)
def brier(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The squared distance between probabilities and one-hot targets (Brier 1950).

    binary: (p - y)^2, from 0 to 1; multiclass: sum_c (p_c - y_c)^2, from 0 to 2; multilabel: the
    mean of (p - y)^2 over the labels.
    """
    squares = (scores - one_hot(scores, targets).to(scores.dtype)).square()
    columns = mean(squares, weights)
    return columns.mean() if targets.dim() == 2 or scores.shape[-1] == 2 else columns.sum()


@register("metric", tasks=ONE_LABEL, mode="min", probabilistic=True)
def ece(scores: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Expected calibration error: |accuracy - confidence| over 15 bins of confidence (Guo et al. 2017).

    Confidence is the probability of the predicted class; the bins are equally wide, (a, b].
    """
    confidence = counted(scores.amax(-1).double(), weights)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = weights.double() * (confidence - hits(scores, targets).double())
    return gaps.new_zeros(BINS).index_add(0, bins, gaps).abs().sum() / weights.double().sum()
