"""The learning rate of a run, found by training many constant rates for a while, as one pack."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Literal

from slipstream.config.files import defaults
from slipstream.config.run_config import Config
from slipstream.config.validation import composed, validate
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.types import Plain
from slipstream.data import Data
from slipstream.diagnosis.branches import SEEDS, Change, Origin
from slipstream.runs import setup
from slipstream.runs.grouped import Ended, train_grouped
from slipstream.runs.summary import Result
from slipstream.training.epoch_plan import Batching
from slipstream.training.member import DIVERGED
from slipstream.training.snapshot import Taken

# A factor of two apart, from 1e-6 to 33, in two digits: 0.001, 0.002, 0.004, 0.008, 0.016, ...
RATES = tuple(float(f"{0.001 * 2.0**k:.2g}") for k in range(-10, 16))
# The numbers were chosen from the curves of 21 sweeps (docs/why.md).
SHARE, FEWEST, MOST = 2, 40, 2000  # the best rates are trained for half the run, within these bounds
FIRST, MIDDLE = 4, 2  # all rates are trained for a quarter of this, the best for a half
GO_ON, REMAIN = 8, 5  # rates that go on after the quarter, and after the half
CLOSE = 0.5  # excess over the lowest loss, relative to it, above which a rate stops after the half
TRAINS = 0.5  # share of the largest decrease of the loss from which a rate trains
SWINGS = 0.5  # ratio of rises to falls of the loss from which a rate oscillates

Look = Literal["best", "trains", "too low", "too high", "oscillates", "diverges"]


@dataclass(frozen=True)
class TriedRate:
    """A rate that was trained.

    Attributes:
        lr: the rate.
        losses: the loss by the number of updates made, at the ends of epochs and of the training.
        again: the same with the next seed; empty for a rate that did not go on.
        diverged: True if a value became non-finite.
        look: best | trains | too low | too high | oscillates | diverges.
    """

    lr: float
    losses: Mapping[int, float]
    again: Mapping[int, float] = field(default_factory=dict)
    diverged: bool = False
    look: Look = "trains"

    @property
    def updates(self) -> int:
        """The number of updates that it was trained for."""
        return max(self.losses, default=0)

    @property
    def lowest(self) -> float:
        """The lowest loss, the mean over both seeds if there are two; infinity after a divergence."""
        return math.inf if self.diverged else self.until(self.updates)

    def until(self, updates: int) -> float:
        """Return the lowest loss of the first updates, the mean over the seeds; infinity without any."""
        seeds = ([loss for made, loss in one.items() if made <= updates] for one in (self.losses, self.again))
        lowest = [min(losses) for losses in seeds if losses]
        return fmean(lowest) if lowest else math.inf


@dataclass(frozen=True)
class Rates:
    """The rates that were tried.

    Attributes:
        source: the run's folder, or the words of the command line.
        metric: the loss that is compared: val/loss, or train/loss without validation rows.
        updates: the number of updates that the best rates were trained for; the others got fewer.
        optimizer: its name.
        before: the rate of the configuration.
        named: the rate to take, None if no rate lowers the loss.
        tried: all rates, from the smallest.
    """

    source: str
    metric: str
    updates: int
    optimizer: str
    before: float
    named: float | None
    tried: tuple[TriedRate, ...]

    @property
    def line(self) -> str:
        """The override to paste, empty if no rate lowers the loss."""
        return "" if self.named is None else f"optimizer.lr={self.named:g}"


def find_lr(
    run: str | Path | Mapping[str, Plain] | Result = "", *overrides: str, updates: int | None = None
) -> Rates:
    """Find the learning rate with the lowest loss by training many at once.

    Every rate of `RATES` that the optimizer allows begins with the same weights and sees the same batches and
    noise, at a constant rate (after the warm-up, if there is one), without early stopping. They train as one
    pack for a quarter of `updates`. The best eight go on to a half, and are also trained with the next seed;
    then those close to the best, at most five, go on to the end. A rate is judged by its lowest validation
    loss so far at the end of an epoch, as the best epoch of a run is; with two seeds, by the mean. Nothing is
    written to disk.

    Args:
        run: the folder of a run, the result of `slipstream.train` with a folder, a configuration of
            `slipstream.compose`, or the first override.
        overrides: settings as on the command line, such as "optimizer=sgd".
        updates: the number of updates of the best rates; by default half of the run's, at least 40 and at
            most 2,000.

    Returns:
        The rate, and the losses of all rates.

    Raises:
        ConfigError: the configuration cannot run. UserError: the folder holds no run, or the run makes fewer
            updates.

    Example:
        >>> import slipstream
        >>> found = slipstream.find_lr("data=wine", "model.width=8", updates=40)
        >>> 0.001 < found.named < 1, found.line.startswith("optimizer.lr=0.")
        (True, True)
    """
    source, raw = _asked(run, overrides)
    configs = _configs(raw)
    first = configs[0]
    with setup.portable_kernels(first):
        (data,), _ = setup.load_all([first])
    rows = Batching.of(len(data.train), first.data.settings["batch_size"], first.trainer.accumulate)
    whole = rows.steps * first.trainer.max_epochs
    if updates is not None and updates > whole:
        longer = f"trainer.max_epochs={-(-updates // rows.steps)}"
        raise UserError(f"updates: found {updates}, but the run makes {whole}; add {longer}")
    wanted = updates or min(max(whole // SHARE, FEWEST), MOST, whole)
    metric = "val/loss" if len(data.validation) else "train/loss"
    again = _configs({**raw, "seed": (int(raw["seed"]) + 1) % SEEDS})
    tried = _trained(configs, again, data, metric, wanted)
    named = chosen(tried)
    return Rates(
        source,
        metric,
        max(each.updates for each in tried),
        first.optimizer.name,
        float(raw["optimizer"]["lr"]),
        None if named is None else named.lr,
        tuple(described(tried, named)),
    )


def _asked(
    run: str | Path | Mapping[str, Plain] | Result, overrides: Sequence[str]
) -> tuple[str, Mapping[str, Plain]]:
    """Return the run in words, such as its folder, and its configuration."""
    if isinstance(run, Mapping):
        if overrides:
            raise ConfigError(["find_lr: a configuration takes no overrides; compose it with them"])
        return "the configuration", run
    words = [word for word in (str(run), *overrides) if word]
    if isinstance(run, str) and (not words or "=" in words[0]) and not Path(run or "?").is_dir():
        return " ".join(words) or "the defaults", composed(words)
    origin = Origin(run)
    return str(origin.folder), Origin.composed(origin.typed(Change(tuple(overrides)))).raw


def _configs(raw: Mapping[str, Plain]) -> list[Config]:
    """Return the configuration with each rate. Raises ConfigError if the optimizer allows none."""
    raw = {key: value for key, value in raw.items() if key not in ("resume", "experiment")}
    warm_up = raw["scheduler"]["warmup_steps"]
    constant = {"name": "constant", **defaults("scheduler", "constant"), "warmup_steps": warm_up}
    watched = {key: raw["early_stopping"][key] for key in ("metric", "mode")}
    never = {"name": "none", **defaults("early_stopping", "none"), **watched}
    same = {"scheduler": constant, "early_stopping": never, "logger": {}}
    same["trainer"] = {**raw["trainer"], "observations": False, "compile": False}
    valid, refused = [], []
    for lr in RATES:
        try:
            valid.append(validate({**raw, **same, "optimizer": {**raw["optimizer"], "lr": lr}}))
        except ConfigError as error:
            refused.append(error)
    if not valid:
        raise refused[0]
    return valid


def _trained(
    configs: Sequence[Config], again: Sequence[Config], data: Data, metric: str, updates: int
) -> list[TriedRate]:
    """Train all rates for a while, and the best of them for longer and with the other seed, too."""
    short, middle = max(updates // FIRST, 1), max(updates // MIDDLE, 1)
    tried = [TriedRate(config.optimizer.settings["lr"], {}) for config in configs]
    on, first, second = list(range(len(tried))), dict[int, Taken](), dict[int, Taken]()
    for until, following in ((short, going_on), (middle, remaining), (updates, going_on)):
        for seed, saved in ((configs, first), (again, second)):
            if seed is configs or until > short:
                entries = [saved.get(k) for k in on]
                ended = train_grouped([seed[k] for k in on], entries, loaded=data, updates=until)
                for k, end in zip(on, ended, strict=True):
                    saved[k] = end.trained.snapshot
                    tried[k] = _longer(tried[k], end, metric, again=seed is again)
        on = following(tried, on)
        if not on:
            break
    return tried


def _longer(each: TriedRate, ended: Ended, metric: str, *, again: bool) -> TriedRate:
    """Return a rate with the losses of its training so far."""
    result, losses = ended.result, dict(each.again if again else each.losses)
    values = {int(record["step"]): record.get(metric) for record in result.records}
    if result.status != DIVERGED:
        values[ended.trained.step] = result.last.get(metric)
    losses |= {updates: value for updates, value in values.items() if value is not None}
    losses, diverged = dict(sorted(losses.items())), each.diverged or result.status == DIVERGED
    if again:
        return replace(each, again=losses, diverged=diverged)
    return replace(each, losses=losses, diverged=diverged)


def going_on(tried: Sequence[TriedRate], on: Sequence[int]) -> list[int]:
    """Return the indices of the rates that go on after the quarter: those with the lowest losses."""
    ranked = sorted(on, key=lambda k: tried[k].lowest)
    return sorted(k for k in ranked[:GO_ON] if not tried[k].diverged)


def remaining(tried: Sequence[TriedRate], on: Sequence[int]) -> list[int]:
    """Return the indices of the rates that go on after the half: those near the best in loss.

    None go on if all of them are the best rate's neighbors: the best is then known to a step of the grid.
    """
    best, *others = sorted(on, key=lambda k: tried[k].lowest)
    bound = tried[best].lowest + CLOSE * abs(tried[best].lowest)
    close = [best, *(k for k in others[: REMAIN - 1] if tried[k].lowest <= bound)]
    return [] if all(abs(k - best) <= 1 for k in close) else sorted(close)


def chosen(tried: Sequence[TriedRate]) -> TriedRate | None:
    """Return the rate with the lowest loss of those that were trained longest, None if none lowers it.

    tried: from the smallest rate, which has hardly trained.
    """
    start = next(iter(tried[0].losses.values()), math.inf)
    longest = max(each.updates for each in tried)
    best = min((each for each in tried if each.updates == longest), key=lambda each: each.lowest)
    return best if best.lowest < start else None


def described(tried: Sequence[TriedRate], named: TriedRate | None) -> Iterator[TriedRate]:
    """Yield the rates, each with how it looks compared with the named one."""
    start = next(iter(tried[0].losses.values()), math.inf)
    lowest = min(each.lowest for each in tried)
    for each in tried:
        trains = named is not None and start - each.lowest >= TRAINS * (start - lowest)
        look: Look = "trains"
        if each.diverged:
            look = "diverges"
        elif each is named:
            look = "best"
        elif named is None or each.lr < named.lr:
            look = "trains" if trains else "too low"
        elif _swings(each):
            look = "oscillates"
        elif not trains:
            look = "too high"
        yield replace(each, look=look)


def _swings(each: TriedRate) -> bool:
    """Return True if the loss rises at least `SWINGS` times as much as it falls."""
    steps = [after - before for before, after in pairwise(each.losses.values())]
    rises, falls = sum(s for s in steps if s > 0), -sum(s for s in steps if s < 0)
    return falls > 0 and rises >= SWINGS * falls
