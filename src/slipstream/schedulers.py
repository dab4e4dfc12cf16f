"""Learning rate schedules: factors on `optimizer.lr` as functions of the step.

A schedule is a pure function of a clock, so there is no state to save. The host evaluates it once per
epoch, for all steps of that epoch:

    f(clock, *, ...) -> factors [S], float64

Schedules over the whole training reach their end one step after the last: step i of n sees the
fraction i / n. The names of settings give the unit: `_epochs`, `_steps`, or a fraction of the training.
All schedules share `warmup_steps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from numpy.typing import NDArray

from slipstream.core.registry import Component, register, shared
from slipstream.core.traits import Traits
from slipstream.core.types import Count, Fraction, Natural, NonNegative, Plain, Positive, Probability

Factors = NDArray[np.float64]
Share = Annotated[float, Gt(0), Le(1)]
Shrinking = Annotated[float, Gt(0), Lt(1)]


@dataclass(frozen=True)
class Clock:
    """The updates that factors are computed for, and the history so far.

    step: indices of updates from 0, int [S]; all of one epoch.
    steps_per_epoch, total_steps: of the planned training, at least 1.
    history: the monitored metric after each finished epoch, negated if larger is better, so that
    smaller is always better.
    """

    step: NDArray[np.int64]
    steps_per_epoch: int
    total_steps: int
    history: Sequence[float] = field(default=())

    @property
    def epoch(self) -> NDArray[np.int64]:
        """The epoch of each step, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def epochs(self) -> Factors:
        """The fractional number of epochs before each step."""
        return self.step / self.steps_per_epoch

    @property
    def fraction(self) -> Factors:
        """The fraction of the training before each step, in [0, 1]; stays at 1 past the end."""
        return np.minimum(self.step / self.total_steps, 1.0)


@shared("scheduler")
def warm_up(clock: Clock, *, warmup_steps: Natural) -> Factors:
    """min(1, (step + 1) / warmup_steps): a linear warm-up that multiplies every schedule.

    warmup_steps: updates until the full rate; 0 and 1 mean no warm-up.
    """
    return np.minimum((clock.step + 1) / max(warmup_steps, 1), 1.0)


def factors(schedule: Component[Traits], settings: Mapping[str, Plain], clock: Clock) -> Factors:
    """Return the factors on lr at the clock's steps: schedule times warm-up, float64 [S]."""
    own = {name: settings[name] for name in schedule.own_settings}
    result: Factors = schedule(clock, **own) * warm_up(clock, warmup_steps=settings["warmup_steps"])
    return result


def falling_cosine(share: Factors, end: float) -> Factors:
    """Return half a cosine, from 1 at share 0 to `end` at share 1."""
    return end + (1 - end) * (1 + np.cos(np.pi * share)) / 2


@register("scheduler")
def constant(clock: Clock) -> Factors:
    """The same learning rate throughout.

    factor = 1
    """
    return np.ones(len(clock.step))


@register("scheduler")
def step(clock: Clock, *, every_epochs: Count, factor: Share) -> Factors:
    """A drop by a factor every few epochs.

    factor^floor(epoch / every_epochs)

    every_epochs: at least 1. factor: in (0, 1].
    """
    return np.power(factor, clock.epoch // every_epochs, dtype=np.float64)


@register("scheduler")
def multi_step(clock: Clock, *, milestones_epochs: list[Count], factor: Share) -> Factors:
    """A drop by a factor at each of the given epochs.

    factor^(number of milestones <= epoch)

    milestones_epochs: epochs from 0, in any order; a repeated one drops twice. factor: in (0, 1].
    """
    passed = np.sum(clock.epoch[:, None] >= np.array(milestones_epochs, dtype=np.int64), axis=1)
    result: Factors = np.power(factor, passed, dtype=np.float64)
    return result


@register("scheduler")
def exponential(clock: Clock, *, factor_per_epoch: Share) -> Factors:
    """Exponential decay by the same factor every epoch.

    factor_per_epoch^epochs, continuous within an epoch

    factor_per_epoch: in (0, 1].
    """
    return np.power(factor_per_epoch, clock.epochs)


@register("scheduler")
def inverse_time(clock: Clock, *, decay_per_epoch: NonNegative) -> Factors:
    """Decay like 1 / t, the classical condition for SGD to converge.

    1 / (1 + decay_per_epoch epochs)

    decay_per_epoch: at least 0. Source: Robbins and Monro 1951.
    """
    return 1 / (1 + decay_per_epoch * clock.epochs)


@register("scheduler")
def inverse_sqrt(clock: Clock, *, hold_steps: Count) -> Factors:
    """Constant at first, then decay like 1 / sqrt(t); with warm-up, the transformer's schedule.

    sqrt(hold_steps / max(step + 1, hold_steps))

    hold_steps: updates before the decay; if equal to warmup_steps, this is the schedule of Vaswani et
    al., "Attention is all you need", 2017, with its peak at lr.
    """
    return np.sqrt(hold_steps / np.maximum(clock.step + 1, hold_steps))


@register("scheduler")
def linear(clock: Clock, *, end: Probability) -> Factors:
    """Linear decay over the whole training.

    1 + (end - 1) step / total_steps

    end: the factor after the last step, in [0, 1].
    """
    return 1 + (end - 1) * clock.fraction


@register("scheduler")
def polynomial(clock: Clock, *, power: Positive, end: Probability) -> Factors:
    """Polynomial decay over the whole training.

    end + (1 - end) (1 - step / total_steps)^power

    power: above 0; 1 is `linear`. end: the factor after the last step, in [0, 1].
    """
    return end + (1 - end) * (1 - clock.fraction) ** power


@register("scheduler")
def cosine(clock: Clock, *, end: Probability) -> Factors:
    """Cosine decay over the whole training.

    end + (1 - end) (1 + cos(pi step / total_steps)) / 2

    end: the factor after the last step, in [0, 1].
    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts.
    """
    return falling_cosine(clock.fraction, end)


@register("scheduler")
def cosine_restarts(
    clock: Clock, *, first_cycle_epochs: Count, growth: Annotated[float, Ge(1)], end: Probability
) -> Factors:
    """Cosine decay with warm restarts, each cycle longer than the last.

    end + (1 - end) (1 + cos(pi share)) / 2, share = epochs since the restart / length of the cycle

    first_cycle_epochs: the length of the first cycle. growth: the ratio of each cycle's length to the
    previous one's, at least 1. end: the factor at the end of a cycle, in [0, 1].
    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    """
    edges, length = [0.0, float(first_cycle_epochs)], float(first_cycle_epochs)
    while edges[-1] <= clock.epochs.max(initial=0.0):
        length *= growth
        edges.append(edges[-1] + length)
    starts, lengths = np.array(edges), np.diff(edges)
    cycle = np.searchsorted(starts, clock.epochs, side="right") - 1
    return falling_cosine((clock.epochs - starts[cycle]) / lengths[cycle], end)


@register("scheduler")
def one_cycle(clock: Clock, *, rise: Shrinking, start: Probability, end: Probability) -> Factors:
    """A rise to the full rate and a fall to almost zero, along half cosines.

    from `start` to 1 over the first `rise` of the training, from 1 to `end` over the rest

    rise: fraction of the training, in (0, 1). start, end: factors of the first and the last step.
    Unlike the other schedules it reaches its end at the last step, like torch's OneCycleLR.
    Source: Smith and Topin, "Super-convergence", 2017, in two phases.
    """
    last = clock.total_steps - 1
    peak = rise * clock.total_steps - 1
    # With only a few steps there may be no room for the rise (peak <= 0) or for the fall.
    rising = np.clip(clock.step / max(peak, 1e-9), 0, 1)
    falling = np.clip((clock.step - peak) / max(last - peak, 1e-9), 0, 1)
    return np.where(
        clock.step <= peak, 1 + start - falling_cosine(rising, start), falling_cosine(falling, end)
    )


@register("scheduler")
def flat_cosine(clock: Clock, *, flat: Fraction, end: Probability) -> Factors:
    """Constant for most of the training, then cosine decay.

    1 until `flat`, then end + (1 - end) (1 + cos(pi share of the rest)) / 2

    flat: fraction of the training, in [0, 1). end: the factor after the last step, in [0, 1].
    """
    return falling_cosine(np.maximum(clock.fraction - flat, 0) / (1 - flat), end)


@register("scheduler")
def coslog(clock: Clock, *, cycles: Count) -> Factors:
    """Rises from 0 and falls back, each cycle twice as long as the last.

    (1 - cos(2 pi log2(1 + (2^cycles - 1) step / total_steps))) / 2

    cycles: rises and falls over the training; 4 is RealMLP's coslog4, which peaks at 3, 12, 31 and 69 %
    of it. Source: Holzmueller et al., "Better by default", arXiv 2407.04491.
    """
    return (1 - np.cos(2 * np.pi * np.log2(1 + (2.0**cycles - 1) * clock.fraction))) / 2


@register("scheduler")
def warmup_stable_decay(
    clock: Clock, *, decay: Share, shape: Literal["linear", "one_minus_sqrt"], end: Probability
) -> Factors:
    """Warm-up, a constant rate, then decay over the last part of the training.

    1, then over the last `decay` of the training 1 - (1 - end) share (linear)
    or 1 - (1 - end) sqrt(share) (one_minus_sqrt); the warm-up is `warmup_steps`

    decay: fraction of the training, in (0, 1]. end: the factor after the last step, in [0, 1].
    Source: Hu et al., "MiniCPM", 2024; the shapes from Haegele et al., "Scaling laws and
    compute-optimal training beyond fixed training durations", 2024.
    """
    share = np.maximum(clock.fraction - (1 - decay), 0) / decay
    return 1 - (1 - end) * (share if shape == "linear" else np.sqrt(share))


@register("scheduler")
def reduce_on_plateau(
    clock: Clock,
    *,
    factor: Shrinking,
    patience: Natural,
    threshold: NonNegative,
    cooldown: Natural,
    end: Probability,
) -> Factors:
    """A drop by a factor whenever the monitored metric stops improving.

    After more than `patience` consecutive epochs without improvement the rate drops by `factor`; the
    `cooldown` epochs after a drop do not count.

    factor: in (0, 1). patience, cooldown: epochs. threshold: an epoch improves if the metric beats the
    best by more than threshold |best|. end: the smallest factor, in [0, 1].
    Edge: NaN is not an improvement. The factors follow from the whole history; there is no state.
    Equals torch.optim.lr_scheduler.ReduceLROnPlateau with threshold_mode "rel".
    """
    current, best, bad, cooling = 1.0, np.inf, 0, 0
    for value in clock.history:
        if value < (best - threshold * abs(best) if np.isfinite(best) else best):
            best, bad = value, 0
        else:
            bad += 1
        if cooling > 0:
            cooling, bad = cooling - 1, 0
        if bad > patience:
            current, cooling, bad = max(current * factor, end), cooldown, 0
    return np.full(len(clock.step), current)
