"""Early stopping: pure functions of the history, called on the host after each epoch.

    f(history, *, ...) -> reason to stop, or None

There is no state to save: a resumed run calls the function with the same history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from slipstream.core.errors import UserError
from slipstream.core.registry import Component, components, register, shared
from slipstream.core.traits import EarlyStoppingTraits
from slipstream.core.types import Count, Natural, NonNegative, Plain, Positive, Real


@dataclass(frozen=True)
class History:
    """The history up to the last finished epoch; each sequence has one entry per epoch.

    raw: the monitored metric, in its own units. sign: 1 if smaller is better, -1 if larger is.
    train_loss: mean over the epoch. validation_loss: after the epoch.
    seconds: training time so far, over all resumes.
    """

    raw: Sequence[float]
    sign: int
    train_loss: Sequence[float]
    validation_loss: Sequence[float]
    seconds: float

    @property
    def values(self) -> NDArray[np.float64]:
        """The monitored metric, negated if larger is better, so that smaller is always better."""
        return self.sign * np.asarray(self.raw, dtype=np.float64)


@shared("early_stopping")
def monitoring(*, metric: str, mode: Literal["auto", "min", "max"], restore_best: bool) -> None:
    """The settings shared by all rules, which the engine applies.

    metric: the monitored metric, as split/name. mode: the direction of improvement, see `direction`.
    restore_best: keep the weights of the best epoch at the end, even if the rule did not stop the run;
    otherwise those of the last epoch.
    """


def direction(metric: str, mode: str) -> int:
    """Return 1 if smaller values of a metric are better, -1 if larger ones are.

    mode auto uses the metric's own direction; losses and unregistered names are minimized.
    """
    if mode != "auto":
        return 1 if mode == "min" else -1
    known = components("metric").get(metric.rpartition("/")[2])
    return -1 if known is not None and known.traits.mode == "max" else 1


def best_epoch(values: Sequence[float] | NDArray[np.float64], warm_up: int = 0) -> int | None:
    """Return the index of the smallest finite value (the first of equal ones), or None if there is none.

    warm_up: the number of leading values that count only until a later one is finite.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    if finite[warm_up:].any():
        finite[:warm_up] = False
    return int(np.argmin(np.where(finite, values, np.inf))) if finite.any() else None


def reason_to_stop(
    rule: Component[EarlyStoppingTraits], settings: Mapping[str, Plain], history: History
) -> str | None:
    """Apply a rule with its settings to the history; return the reason to stop now, or None."""
    result: str | None = rule(history, **{name: settings[name] for name in rule.own_settings})
    return result


@register("early_stopping")
def none(history: History) -> str | None:
    """No early stopping: train for all epochs.

    `restore_best` still applies.
    """
    return None


@register("early_stopping")
def patience(history: History, *, patience: Count, min_delta: NonNegative, warm_up: Natural) -> str | None:
    """Stops when the monitored metric has not improved for a number of epochs.

    An epoch improves if its value beats that of the last improvement by more than min_delta. Stops after
    `patience` consecutive epochs without improvement. The reason names the value to beat; with
    min_delta, the best epoch, whose weights are kept, may be better than that.

    patience: epochs, at least 1. min_delta: in the metric's units. warm_up: epochs at the start that
    count neither as improvements (their weights are not kept either) nor as failures.
    Edge: NaN is not an improvement. The semantics are those of Keras' EarlyStopping (warm_up is its
    start_from_epoch) and, without warm_up, of Lightning's.
    """
    beaten, waited = np.inf, 0
    for value in history.values[warm_up:].tolist():
        if value < beaten - min_delta:
            beaten, waited = value, 0
        else:
            waited += 1
    if waited < patience:
        return None
    span = "1 epoch" if waited == 1 else f"{waited} epochs"
    if np.isinf(beaten):
        return f"the monitored metric had no value for {span}"
    by = f" by more than {min_delta:g}" if min_delta else ""
    return f"no improvement on {history.sign * beaten:.6g}{by} for {span}"


def _errors(losses: Sequence[float], which: str) -> NDArray[np.float64]:
    """Return losses as Prechelt's errors. Raises UserError for a negative loss, whose ratios mean nothing."""
    errors = np.asarray(losses, dtype=np.float64)
    negative = np.flatnonzero(errors < 0)
    if len(negative):
        raise UserError(
            f"early_stopping compares ratios of the {which} loss, which is "
            f"{errors[negative[0]]:.6g} in epoch {negative[0]}: they have no meaning below 0. "
            "Use early_stopping=patience with this loss."
        )
    return errors


def _excess(value: float, least: float) -> float:
    """Return value / least - 1 for 0 <= least <= value; infinite if only least is 0, 0 if both are."""
    if least > 0:
        return value / least - 1
    return np.inf if value > 0 else 0.0 * value


def _generalization_loss(history: History) -> float:
    errors = _errors(history.validation_loss, "validation")
    best = best_epoch(errors)
    return np.nan if best is None else 100 * _excess(float(errors[-1]), float(errors[best]))


@register("early_stopping", validates=True)
def generalization_loss(history: History, *, percent: NonNegative) -> str | None:
    """Stops when the validation loss exceeds its minimum by a given percentage.

    GL(t) = 100 (E_va(t) / min E_va - 1);  stops at the first GL(t) > percent

    percent: at least 0; Prechelt's GL_1 to GL_5 are 1 to 5. Uses the validation loss
    regardless of the monitored metric.
    Edge: a NaN loss is not a minimum and does not stop the run. Raises UserError for a negative loss.
    Source: Prechelt, "Early stopping - but when?", 1998.
    """
    loss = _generalization_loss(history)
    if not loss > percent:
        return None
    return f"the validation loss is {loss:.4g} % above its minimum, more than {percent:g} %"


@register("early_stopping", validates=True)
def progress_quotient(history: History, *, quotient: NonNegative, strip: Count) -> str | None:
    """Stops when generalization worsens faster than training progresses.

    P_k(t) = 1000 (mean of the last k training losses / their minimum - 1);
    stops at the end of a strip of k epochs with GL(t) / P_k(t) > quotient, GL as `generalization_loss`

    quotient: at least 0; Prechelt's PQ_0.5 to PQ_3 are 0.5 to 3. strip: k in epochs; Prechelt uses 5.
    Edge: with no progress at all (P = 0) training stops if GL > 0. A NaN in the strip or as the last
    validation loss does not stop the run. Raises UserError for a negative loss.
    Source: Prechelt, "Early stopping - but when?", 1998.
    """
    epochs = len(history.train_loss)
    if epochs == 0 or epochs % strip:
        return None
    recent = _errors(history.train_loss, "training")[-strip:]
    progress = 1000 * _excess(float(recent.mean()), float(recent.min()))
    loss = _generalization_loss(history)
    # A product, because GL / P > quotient would divide by zero progress.
    if not loss > quotient * progress:
        return None
    return f"generalization loss {loss:.4g} against progress {progress:.4g}: a quotient above {quotient:g}"


@register("early_stopping", by_clock=True)
def time_limit(history: History, *, seconds: Positive) -> str | None:
    """Stops after the epoch in which the training time reaches a limit.

    seconds: above 0, over all resumes of the run.
    """
    if history.seconds < seconds:
        return None
    return f"{history.seconds:.1f} seconds of training, the limit is {seconds:g}"


@register("early_stopping")
def target(history: History, *, value: Real) -> str | None:
    """Stops when the monitored metric reaches a value.

    raw <= value if smaller is better, raw >= value if larger is

    value: in the metric's own units. Edge: NaN never reaches it.
    """
    if len(history.raw) == 0 or not history.values[-1] <= history.sign * value:
        return None
    return f"the monitored metric reached {history.raw[-1]:.6g}, the target is {value:g}"
