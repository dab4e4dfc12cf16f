"""Remarks on a diagnosis: the limits of the answer, and problems that no configuration fixes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from slipstream.core.wording import counted
from slipstream.diagnosis.branches import NOTHING, Change, branches
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.judging import Measure
from slipstream.diagnosis.trials import TrainedChange, repeated
from slipstream.sweeps.report.comparisons import LEVEL

FEW_ROWS = 50  # validation rows below which a remark says what one difference means
CHANCE = 2.0  # smallest gain of the best epoch over its neighbors that is called chance; 1 matters
BESIDE = 2  # neighboring epochs on either side
REPEATS = 1e-3  # largest relative difference of a repeated loss: other processors round differently
GAP = 2.0  # smallest gain of training rows over validation rows with which more rows may help
RANDOM = ("auto", "random", "stratified")  # splits whose training rows can be halved


def remarks(run: Evidence, judges: Sequence[Measure]) -> Iterator[str]:
    """Yield sentences about few validation rows, a lucky epoch, and losses that do not repeat."""
    yield from _few_validation_rows(run)
    yield from _lucky_epoch(run, judges)
    yield from _not_repeated(run)


def _few_validation_rows(run: Evidence) -> Iterator[str]:
    rows = len(run.data.validation.inputs) if run.split == "val" else 0
    if not rows:
        yield "no validation rows: changes are judged on training rows, where overfitting looks good"
    elif rows < FEW_ROWS and run.classes:
        few = counted(rows, "validation row")
        yield f"{few}: a difference in accuracy of less than {2 / rows:.2g} is at most one row"


def _lucky_epoch(run: Evidence, judges: Sequence[Measure]) -> Iterator[str]:
    """Yield a sentence if early stopping followed noise: the chosen epoch stands out from its neighbors."""
    metric, best = str(run.setting("early_stopping.metric")), int(run.summary["best_epoch"] or 0)
    judge = next((one for one in judges if one.name == metric), None)
    if judge is None or not best or not run.keeps_best:
        return
    curve = run.curve(metric)
    beside = np.r_[curve[max(best - 1 - BESIDE, 0) : best - 1], curve[best : best + BESIDE]]
    beside = beside[np.isfinite(beside)]
    if len(beside) < 2 * BESIDE:
        return
    # The best of the neighbors: on a slope or after a spike, one side is far off anyway.
    nearest = float(beside.min() if judge.minimize else beside.max())
    if judge.gain(nearest, float(curve[best - 1])) >= CHANCE:
        yield (
            f"epoch {best} was chosen by chance: {metric} is {curve[best - 1]:.4g}, but at best "
            f"{nearest:.4g} in the {counted(len(beside), 'neighboring epoch')}; more validation rows or a "
            "lower learning rate make it steadier"
        )


def _not_repeated(run: Evidence) -> Iterator[str]:
    """Yield a sentence if training the first epoch again gives another loss."""
    if not run.records:
        return
    again = branches(run.origin, [NOTHING], until=1)[0].result.records
    for name in (f"{run.split}/loss", "train/loss"):
        before, after = (records[0].get(name) if records else None for records in (run.records, again))
        if not isinstance(before, float) or not math.isfinite(before):
            continue
        if not isinstance(after, float) or abs(after - before) > REPEATS * max(abs(before), abs(after)):
            yield (
                f"the run does not repeat: {name} of epoch 1 was {before:.6g}, but is {_number(after)} when "
                f"trained again; to find out why: slipstream verify {run.folder}"
            )
            return


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "missing"


def more_rows(run: Evidence, judges: Sequence[Measure], seeds: int) -> Iterator[str]:
    """Yield a sentence if the run is worse with half of its training rows: more rows would help.

    Tried only for a run that fits its training rows better than its validation rows, and only with a random
    split, where a larger validation split halves the training rows.
    """
    part = halved(run)
    if part is None or not any(_gap(run, judge) >= GAP for judge in judges):
        return
    half = repeated(run, [Change((f"data.validation={part:.4g}",))], seeds)[0]
    swapped = TrainedChange(half.change, half.control, half.branches).gain(judges)
    if swapped.mean >= 1 and swapped.p is not None and swapped.p < LEVEL:
        yield (
            f"too few rows: {swapped.metric} is {swapped.after:.4g} with "
            f"{counted(run.rows, 'training row')}, but {swapped.before:.4g} with half of them, worse for "
            f"{swapped.better} of {counted(swapped.pairs, 'seed')}; more rows would help"
        )


def _gap(run: Evidence, judge: Measure) -> float:
    """Return the gain of training rows over validation rows, where 1 matters; 0 if it is unknown."""
    name = judge.name.partition("/")[2]
    train, other = run.scored(name, "train"), run.scored(name)
    return judge.gain(other, train) if math.isfinite(train) and math.isfinite(other) else 0.0


def halved(run: Evidence) -> float | None:
    """Return the validation fraction that halves the training rows, None if the split is not random."""
    if run.split != "val" or run.setting("data.split") not in RANDOM or run.setting("data.folds"):
        return None
    if any(run.setting(f"data.{key}") for key in ("validation_path", "split_column", "group_column")):
        return None
    rows, validation, test = (len(part) for part in (run.data.train, run.data.validation, run.data.test))
    return (validation + rows / 2) / (rows + validation + test)
