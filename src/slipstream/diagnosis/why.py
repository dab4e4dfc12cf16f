"""The causes of a run that does not work, tried as branches and confirmed with fresh seeds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from slipstream.core.wording import counted
from slipstream.diagnosis.ablation import Ablation, ablate, removals
from slipstream.diagnosis.best_trials import best_trials
from slipstream.diagnosis.branches import Change, folder_of
from slipstream.diagnosis.causes.known import suspicions
from slipstream.diagnosis.data_checks.checking import data_findings
from slipstream.diagnosis.data_checks.finding import SURE, Finding
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.judging import Gain, Measure, measures
from slipstream.diagnosis.remarks import more_rows, remarks
from slipstream.diagnosis.suspicion import Suspicion
from slipstream.diagnosis.trials import TrainedChange, explored, repeated
from slipstream.diagnosis.verdicts import MATTERS, NOTHING_FOUND, Diagnosis, TriedCause, Verdict
from slipstream.runs.summary import Result
from slipstream.runs.symptoms import symptoms
from slipstream.sweeps.plan.store import holds_sweep
from slipstream.sweeps.report.comparisons import LEVEL, holm

CONFIRMED = 5  # fresh seeds of each finalist
# Causes in the data that a branch can prove. The remedies of others do not show on the run's own rows.
TRIED = ("inputs not scaled", "target not scaled", "class imbalance", "outliers")
MOST = 24  # causes that are tried
FINALISTS = 3  # causes that are confirmed
HARM = -0.7  # mean gain on any other measure below which a change is no remedy
SAME = 0.7  # share of the largest gain from which a change counts as equally good
SHORT = 10.0  # longest run, in seconds, whose ingredients are removed in turn
STRONG = 0.8  # score of evidence that is reported without proof
LUCK, LUCKY_SPREADS = 1.5, 4.0  # lead over other seeds: as a gain, and in their standard deviations
REPEAT = 0.3  # p below which as many seeds again may decide
LEAST_P = 0.0001  # smallest p that is printed


def why(run: str | Path | Result) -> Diagnosis:
    """Find and prove the causes that keep a run from working.

    The evidence (settings, curves, observations and data) suggests causes. Each is tried as a branch that
    differs from the run in one thing and has the run's own seed. The most promising are trained again with
    fresh seeds, each with its own random split. Differences are paired by seed; p is that of a one-sided
    paired t-test with Holm's correction. Of the changes that improve the run equally, the one with the
    strongest evidence is named as the root cause. Nothing is written to disk.

    Args:
        run: the folder of a run that has ended, or the result of `slipstream.train` with a folder; or the
            folder of a sweep, whose best trials are trained again with fresh seeds (see `best_trials`).

    Returns:
        The verdicts, the likeliest root cause first, and the causes that were tried. For a run that works,
        also the effect of removing each of its ingredients.

    Raises:
        UserError: the folder holds no run that has ended, or the run was trained on rows in memory.

    Example:
        >>> import slipstream
        >>> words = ("data=iris", "optimizer.lr=1e-7", "trainer.max_epochs=10")
        >>> result = slipstream.train(slipstream.compose(*words), "runs/slow")
        >>> slipstream.why("runs/slow").verdicts[0].cause
        'learning rate too low'
    """
    folder = folder_of(run)
    if holds_sweep(folder):
        return best_trials(folder)
    began = time.monotonic()
    evidence = Evidence(folder)
    judges = measures(evidence)
    findings = data_findings(evidence.config, evidence.data)
    suspected = [*map(_of_data, filter(_is_tried, findings)), *suspicions(evidence)][:MOST]
    first = explored(evidence, [change for suspicion in suspected for change in suspicion.changes])
    tried = list(_tried(suspected, first, judges))
    finalists = sorted(filter(_promising, tried), key=_promise)[-FINALISTS:]
    fresh = repeated(evidence, [cause.change for cause in finalists], CONFIRMED)
    if any(_undecided(one.gain(judges)) for one in fresh):
        fresh = repeated(evidence, [one.change for one in fresh], CONFIRMED, before=fresh)
    shown = [_shown(one) for one in findings if one.strength >= SURE and one.cause not in TRIED]
    proved = [*shown, *_verdicts(finalists, fresh, judges)]
    verdicts = tuple(sorted(proved, key=lambda one: -one.score)) or tuple(_likely(finalists))
    works = None if verdicts or evidence.seconds > SHORT else _ablated(evidence, judges[0].name)
    if works is not None and works.control:
        verdicts = tuple(_lucky(works, judges[0]))
    overfits = all(verdict.cause == "overfitting" for verdict in verdicts)  # or nothing was found
    more = more_rows(evidence, judges, CONFIRMED) if overfits else ()
    return Diagnosis(
        evidence.folder,
        tuple(symptoms(evidence.end)),
        verdicts,
        tuple(tried),
        () if works is None else works.effects,
        (*remarks(evidence, judges), *more),
        trained=evidence.origin.trained + (0 if works is None else works.trained),
        seconds=time.monotonic() - began,
        nothing=_nothing(works, judges[0]),
    )


def _ablated(run: Evidence, metric: str) -> Ablation | None:
    """Return the effects of removing the run's ingredients; None if all settings have their defaults."""
    ingredients = [
        text
        for text, change in removals(run.raw).items()
        if not text.startswith("data.") and not run.origin.refusal(change)
    ]
    return ablate(run.folder, ingredients, metric=metric, seeds=CONFIRMED) if ingredients else None


def _lucky(found: Ablation, judge: Measure) -> Iterator[Verdict]:
    """Yield a verdict if the run is far better than with other seeds."""
    own, *others = (judge.floor if value is None else value for value in found.control)
    seeds = counted(len(others), "other seed")
    usual, spread = float(np.mean(others)), float(np.std(others, ddof=1))
    if judge.gain(usual, own) >= LUCK and abs(own - usual) > LUCKY_SPREADS * spread:
        yield Verdict(
            "lucky seed",
            f"{judge.name} is {own:.4g}, and {usual:.4g} ± {spread:.2g} with {seeds}",
            "report the mean of several seeds: seed=0,1,2,3,4 -m",
            (),
            True,
        )


def _nothing(works: Ablation | None, judge: Measure) -> str:
    """Return the sentence to print without verdicts; it names an ingredient that harms the run, if any."""
    better = [e for e in works.effects if e.verdict == "better"] if works else []
    means = [(judge.gain(_mean(e.control), _mean(e.values)), e) for e in better if e.difference is not None]
    gain, effect = max(means, key=lambda pair: pair[0], default=(0.0, None))
    if effect is None or gain < 1:
        return NOTHING_FOUND
    return (
        f"no known cause was found, but the run is better with {effect.change}: {judge.name} is "
        f"{_mean(effect.values):.4g} instead of {_mean(effect.control):.4g}, better for {effect.better} of "
        f"{counted(len(effect.values), 'seed')}"
    )


def _mean(values: Sequence[float | None]) -> float:
    return fmean(value for value in values if value is not None)


def _is_tried(finding: Finding) -> bool:
    return bool(finding.remedy) and finding.cause in TRIED


def _of_data(finding: Finding) -> Suspicion:
    """Return the suspicion that a data check raises, for training to prove."""
    measure = "balanced_accuracy" if finding.cause == "class imbalance" else ""
    change = Change(finding.remedy)
    return Suspicion(finding.cause, finding.strength, _said(finding), (change,), measure)


def _said(finding: Finding) -> str:
    """Return the evidence without its cause, with which a verdict begins."""
    return finding.evidence.removeprefix(f"{finding.cause}: ")


def _shown(finding: Finding) -> Verdict:
    """Return the verdict of a data check, which is its own proof."""
    return Verdict(finding.cause, _said(finding), finding.advice, finding.remedy, True, finding.strength)


def _tried(
    suspected: Sequence[Suspicion], trained: Sequence[TrainedChange], judges: Sequence[Measure]
) -> Iterator[TriedCause]:
    """Yield each suspicion with its best change."""
    for suspicion in suspected:
        asked = _judges(suspicion.measure, judges)
        known = [(one.gain(asked), one.change) for one in trained if one.change in suspicion.changes]
        if known:
            gain, change = max(known, key=lambda pair: pair[0].mean)
            yield TriedCause(
                suspicion.cause, suspicion.score, suspicion.evidence, change, gain, suspicion.measure
            )


def _judges(measure: str, judges: Sequence[Measure]) -> Sequence[Measure]:
    """Return the measures that judge a cause: the named one if the run has it, otherwise all."""
    return [judge for judge in judges if judge.name.endswith(f"/{measure}")] or judges


def _promising(cause: TriedCause) -> bool:
    return cause.gain.mean >= MATTERS and cause.gain.worst > HARM


def _promise(cause: TriedCause) -> float:
    """Return the rank of a cause: its score times its gain, of which at most 3 counts."""
    return cause.score * min(cause.gain.mean, 3.0)


def _verdicts(
    finalists: Sequence[TriedCause], fresh: Sequence[TrainedChange], judges: Sequence[Measure]
) -> Iterator[Verdict]:
    """Yield the finalists that fresh seeds confirm and that gain about the same, the likeliest root first."""
    trained = {one.change: one for one in fresh}
    gains = [trained[cause.change].gain(_judges(cause.measure, judges)) for cause in finalists]
    corrected = holm([gain.p for gain in gains])
    accepted = [
        (cause, gain, p)
        for cause, gain, p in zip(finalists, gains, corrected, strict=True)
        if p is not None and p < LEVEL and _helps(gain)
    ]
    if not accepted:
        return
    best = max((gain for _, gain, _ in accepted), key=lambda gain: gain.mean)
    for cause, gain, p in sorted(accepted, key=lambda one: -one[0].score):
        if trained[cause.change].gain_on(best.metric, judges).mean >= SAME * best.mean:
            remedy = cause.change.overrides
            yield Verdict(
                cause.cause, cause.evidence, _proof(cause, gain, p), remedy, True, cause.score, gain
            )


def _likely(finalists: Sequence[TriedCause]) -> Iterator[Verdict]:
    """Yield the finalist with strong evidence that fresh seeds did not confirm."""
    for cause in sorted(finalists, key=lambda one: -one.score)[:1]:
        if cause.score >= STRONG and cause.gain.mean >= 1:
            gain = cause.gain
            proof = (
                f"not proved: with {cause.change}, {gain.metric} is {gain.after:.4g} instead of "
                f"{gain.before:.4g} for the run's own seed, but fresh seeds do not confirm it"
            )
            yield Verdict(cause.cause, cause.evidence, proof, cause.change.overrides, False, cause.score)


def _undecided(gain: Gain) -> bool:
    return gain.mean >= 1 and gain.p is not None and LEVEL / FINALISTS < gain.p < REPEAT


def _helps(gain: Gain) -> bool:
    return gain.mean >= 1 and gain.worst > HARM


def _proof(cause: TriedCause, gain: Gain, p: float) -> str:
    chance = f"p = {p:.2g}" if p >= LEAST_P else f"p < {LEAST_P:g}" if p else "each by the same"
    return (
        f"with {cause.change}, {gain.metric} is {gain.after:.4g} instead of {gain.before:.4g}, better for "
        f"{gain.better} of {gain.pairs} fresh seeds ({chance})"
    )
