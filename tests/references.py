"""Every metric by scikit-learn: f(targets, scores, sample_weight), in the package's conventions."""

import numpy as np
import sklearn.metrics as sk
from sklearn.preprocessing import label_binarize


def one_against_rest(function):
    """The mean over classes or labels of a binary metric of scores."""

    def metric(targets, scores, sample_weight):
        if targets.ndim == 1 and scores.shape[1] == 2:
            return function(targets, scores[:, 1], sample_weight=sample_weight)
        yes = targets if targets.ndim == 2 else label_binarize(targets, classes=range(scores.shape[1]))
        columns = range(scores.shape[1])
        return np.mean([function(yes[:, c], scores[:, c], sample_weight=sample_weight) for c in columns])

    return metric


def predicted(function, **settings):
    """A metric of predicted classes or labels."""

    def metric(targets, scores, sample_weight):
        guesses = scores.argmax(1) if targets.ndim == 1 else (scores > 0.5).astype(float)
        return function(targets, guesses, sample_weight=sample_weight, **settings)

    return metric


def accuracy(targets, scores, sample_weight):
    if targets.ndim == 1:
        return predicted(sk.accuracy_score)(targets, scores, sample_weight)
    labels = [sk.accuracy_score(t, s > 0.5, sample_weight=sample_weight) for t, s in zip(targets.T, scores.T)]
    return np.mean(labels)


def sum_to_one(scores):
    """float32 rows that sum to 1, as scikit-learn wants them: in float64."""
    return scores / scores.sum(1, keepdims=True)


def log_loss(targets, scores, sample_weight):
    if targets.ndim == 1:
        return sk.log_loss(targets, sum_to_one(scores), sample_weight=sample_weight)
    return one_against_rest(sk.log_loss)(targets, scores, sample_weight)


def brier(targets, scores, sample_weight):
    if targets.ndim == 1 and scores.shape[1] > 2:
        return sk.brier_score_loss(targets, sum_to_one(scores), sample_weight=sample_weight)
    return one_against_rest(sk.brier_score_loss)(targets, scores, sample_weight)


def ece(targets, scores, sample_weight):
    confidence, right = scores.max(1), scores.argmax(1) == targets
    total = 0.0
    for k in range(15):
        inside = (confidence > k / 15) & (confidence <= (k + 1) / 15)
        w = sample_weight[inside]
        if w.sum():
            total += w.sum() * abs(
                np.average(right[inside], weights=w) - np.average(confidence[inside], weights=w)
            )
    return total / sample_weight.sum()


def top(k):
    return lambda t, s, sample_weight: sk.top_k_accuracy_score(t, s, k=k, sample_weight=sample_weight)


def columns(function):
    return lambda t, s, sample_weight: function(t, s, sample_weight=sample_weight)


REFERENCES = {
    "accuracy": accuracy,
    "balanced_accuracy": predicted(sk.balanced_accuracy_score),
    "top_3_accuracy": top(3),
    "top_5_accuracy": top(5),
    "precision_macro": predicted(sk.precision_score, average="macro"),
    "recall_macro": predicted(sk.recall_score, average="macro"),
    "f1_macro": predicted(sk.f1_score, average="macro"),
    "f1_weighted": predicted(sk.f1_score, average="weighted"),
    "mcc": predicted(sk.matthews_corrcoef),
    "kappa": predicted(lambda a, b, sample_weight: sk.cohen_kappa_score(a, b, sample_weight=sample_weight)),
    "roc_auc": one_against_rest(sk.roc_auc_score),
    "pr_auc": one_against_rest(sk.average_precision_score),
    "log_loss": log_loss,
    "brier": brier,
    "ece": ece,
    "mse": columns(sk.mean_squared_error),
    "rmse": columns(sk.root_mean_squared_error),
    "mae": columns(sk.mean_absolute_error),
    "r2": columns(sk.r2_score),
    "mape": columns(sk.mean_absolute_percentage_error),
    "median_absolute_error": columns(sk.median_absolute_error),
    "spearman": None,  # scikit-learn has none: tests of its own
}
