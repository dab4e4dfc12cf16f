"""Remarks on a diagnosis: what limits the answer, and what no change of the configuration fixes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from slipstream.core.wording import counted
from slipstream.diagnosis.branches import NOTHING, Change, branches
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.judging import Measure
from slipstream.diagnosis.trials import repeated
from slipstream.sweeps.report.comparisons import LEVEL

FEW_ROWS = 50  # of validation
CHANCE = 2.0  # gain of the best epoch over those beside it that is called chance, in units of what matters
BESIDE = 2  # epochs on either side
REPEATS = 1e-3  # relative; other processors round differently, and one epoch makes little of it
GAP = 2.0  # gain of the training rows over the validation rows from which more rows may help
RANDOM = ("auto", "random", "stratified")  # splits of which the training part can be halved


def remarks(run: Evidence, judges: Sequence[Measure]) -> Iterator[str]:
    """Yield sentences about validation rows, the choice of the epoch, and whether the run repeats."""
    yield from _few_validation_rows(run)
    yield from _lucky_epoch(run, judges)
    yield from _not_repeated(run)


def _few_validation_rows(run: Evidence) -> Iterator[str]:
    rows = len(run.data.validation.inputs) if run.split == "val" else 0
    if not rows:
        yield "no rows validate: changes are judged on training rows, where overfitting looks good"
    elif rows < FEW_ROWS and run.classes:
        least = 2 / rows
        yield f"{counted(rows, 'row')} validate: differences of accuracy below {least:.2g} are two rows"


def _lucky_epoch(run: Evidence, judges: Sequence[Measure]) -> Iterator[str]:
    """Early stopping on noise: the chosen epoch stands out from those beside it."""
    metric, best = str(run.setting("early_stopping.metric")), int(run.summary["best_epoch"] or 0)
    judge = next((one for one in judges if one.name == metric), None)
    if judge is None or not best or not run.keeps_best:
        return
    curve = run.curve(metric)
    beside = np.r_[curve[max(best - 1 - BESIDE, 0) : best - 1], curve[best : best + BESIDE]]
    beside = beside[np.isfinite(beside)]
    if len(beside) < 2 * BESIDE:
        return
    # The nearest of the neighbors: on a slope or after a spike, one side is far off by itself.
    nearest = float(beside.min() if judge.minimize else beside.max())
    if judge.gain(nearest, float(curve[best - 1])) >= CHANCE:
        yield (
            f"epoch {best} was chosen by chance: {metric} is {curve[best - 1]:.4g}, and at most as good as "
            f"{nearest:.4g} in the {counted(len(beside), 'epoch')} beside it; more validation rows, or a "
            "lower learning rate, make it steadier"
        )


def _not_repeated(run: Evidence) -> Iterator[str]:
    """Results that do not repeat: the first epoch again gives another loss."""
    if not run.records:
        return
    again = branches(run.origin, [NOTHING], until=1)[0].result.records
    for name in (f"{run.split}/loss", "train/loss"):
        before, after = (records[0].get(name) if records else None for records in (run.records, again))
        if not isinstance(before, float) or not math.isfinite(before):
            continue
        if not isinstance(after, float) or abs(after - before) > REPEATS * max(abs(before), abs(after)):
            yield (
                f"the run does not repeat: {name} of epoch 1 was {before:.6g}, and is {_number(after)} when "
                f"it is trained again; see slipstream verify {run.folder}"
            )
            return


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "missing"


def more_rows(run: Evidence, judges: Sequence[Measure], seeds: int) -> Iterator[str]:
    """Yield a sentence if the run with half of its training rows is worse: more rows would help.

    Only a run that fits its training rows better than the others is tried, and only one whose split is
    random, so that a larger share of validation halves the training part.
    """
    part = halved(run)
    if part is None or not any(_gap(run, judge) >= GAP for judge in judges):
        return
    half = repeated(run, [Change((f"data.validation={part:.4g}",))], seeds)[0]
    swapped = type(half)(half.change, half.control, half.branches).gain(judges)
    if swapped.mean >= 1 and swapped.p is not None and swapped.p < LEVEL:
        yield (
            f"too few rows: {swapped.metric} is {swapped.after:.4g} with "
            f"{counted(run.rows, 'training row')}, and {swapped.before:.4g} with half of them, worse in "
            f"{swapped.better} of {counted(swapped.pairs, 'seed')}; more rows would help"
        )


def _gap(run: Evidence, judge: Measure) -> float:
    """Return how much better the training rows are fitted, in units of what matters; 0 if unknown."""
    name = judge.name.partition("/")[2]
    train, other = run.scored(name, "train"), run.scored(name)
    return judge.gain(other, train) if math.isfinite(train) and math.isfinite(other) else 0.0


def halved(run: Evidence) -> float | None:
    """Return the fraction for validation with which half of the training rows are left, None if none does."""
    if run.split != "val" or run.setting("data.split") not in RANDOM or run.setting("data.folds"):
        return None
    if any(run.setting(f"data.{key}") for key in ("validation_path", "split_column", "group_column")):
        return None
    rows, validation, test = (len(part) for part in (run.data.train, run.data.validation, run.data.test))
    return (validation + rows / 2) / (rows + validation + test)
