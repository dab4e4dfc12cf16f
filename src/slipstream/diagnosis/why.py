"""Why a run is as it is: suspected causes are tried as branches, and confirmed on fresh seeds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from slipstream.core.errors import UserError
from slipstream.diagnosis.branches import NOTHING, Branch, Change, branches, with_change
from slipstream.diagnosis.causes.known import suspicions
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.judging import Gain, Measure, gain_of, gain_on, measures
from slipstream.diagnosis.suspicion import Suspicion
from slipstream.diagnosis.verdicts import Diagnosis, TriedCause, Verdict
from slipstream.runs.summary import Result
from slipstream.runs.symptoms import symptoms
from slipstream.sweeps.report.comparisons import LEVEL, holm

CONFIRMED = 5  # fresh seeds of each finalist
MOST = 24  # causes that are tried
FINALISTS = 3  # causes that are confirmed
PROMISING = 0.8  # gain on the run's own seed that is worth fresh seeds
HARM = -0.7  # gain on another measure below which a change is no remedy
SAME = 0.7  # of the largest gain: a change that gains this much explains the same
LEAST_P = 0.0001  # that is shown
PACKED = 3  # branches of one structure from which on a pack is faster


def why(run: str | Path) -> Diagnosis:
    """Find out what keeps a run from working, and prove it.

    The evidence - settings, curves, observations, data - suggests causes. Each is tried as a branch of the
    run that differs in one thing and has the run's own seed. The most promising are trained again with fresh
    seeds, and each seed with its own random split; differences are paired, p is of a one-sided paired t-test
    with Holm's correction. Of the changes that mend the run equally, the one with the strongest evidence is
    the root cause. Nothing is written to disk.

    Args:
        run: the folder of a run that has ended.

    Returns:
        The verdicts, the likeliest root cause first, and what was tried.

    Raises:
        UserError: the folder holds no run that has ended, or rows in memory trained it.

    Example:
        >>> import slipstream
        >>> words = ("data=iris", "optimizer.lr=1e-7", "trainer.max_epochs=10")
        >>> result = slipstream.train(slipstream.compose(*words), "runs/slow")
        >>> slipstream.why("runs/slow").verdicts[0].cause
        'learning rate too low'
    """
    began = time.monotonic()
    evidence = Evidence(run)
    judges = measures(evidence)
    suspected = suspicions(evidence)[:MOST]
    possible = _possible(evidence, [change for suspicion in suspected for change in suspicion.changes])
    explored = branches(evidence.origin, possible, least=PACKED)
    trials = list(_trials(suspected, explored, _itself(evidence), judges))
    finalists = sorted(filter(_promising, trials), key=_promise)[-FINALISTS:]
    fresh: list[Branch] = []
    if finalists:
        fresh = branches(
            evidence.origin,
            [NOTHING, *dict.fromkeys(trial.change for trial in finalists)],
            seeds=CONFIRMED,
            first=1,
            split_again=True,
            least=PACKED,
        )
    return Diagnosis(
        evidence.folder,
        tuple(symptoms(evidence.facts)),
        tuple(_verdicts(finalists, fresh, judges)),
        tuple(trials),
        trained=len(explored) + len(fresh),
        seconds=time.monotonic() - began,
    )


def _possible(evidence: Evidence, changes: Sequence[Change]) -> list[Change]:
    """Return the changes, each once, that make a valid configuration."""
    found = []
    for change in dict.fromkeys(changes):
        try:
            evidence.origin.composed(evidence.origin.typed(change))
        except UserError:
            continue
        found.append(change)
    return found


def _itself(run: Evidence) -> Branch:
    """Return the run as a branch without a change."""
    result = Result(run.status, "", 0, run.summary["best"], run.summary["last"], [], {})
    return Branch(NOTHING, int(run.raw["seed"]), result, run.keeps_best)


def _trials(
    suspected: Sequence[Suspicion], explored: Sequence[Branch], control: Branch, judges: Sequence[Measure]
) -> Iterator[TriedCause]:
    """Yield each suspicion with its best change."""
    for suspicion in suspected:
        gains = [
            (gain_of(found, [control], judges), change)
            for change in suspicion.changes
            if (found := with_change(change, explored))
        ]
        if gains:
            gain, change = max(gains, key=lambda pair: pair[0].mean)
            yield TriedCause(suspicion.cause, suspicion.score, suspicion.evidence, change, gain)


def _promising(trial: TriedCause) -> bool:
    return trial.gain.mean >= PROMISING and trial.gain.worst > HARM


def _promise(trial: TriedCause) -> float:
    """Return the order of trials: evidence, and a gain up to three times what matters."""
    return trial.score * min(trial.gain.mean, 3.0)


def _verdicts(
    finalists: Sequence[TriedCause], fresh: Sequence[Branch], judges: Sequence[Measure]
) -> Iterator[Verdict]:
    """Yield the finalists that fresh seeds confirm and that explain the same, the likeliest root first."""
    control = with_change(NOTHING, fresh)
    gains = [gain_of(with_change(trial.change, fresh), control, judges) for trial in finalists]
    corrected = holm([gain.p for gain in gains])
    accepted = [
        (trial, gain, p)
        for trial, gain, p in zip(finalists, gains, corrected, strict=True)
        if p is not None and p < LEVEL and gain.mean >= 1 and gain.worst > HARM
    ]
    if not accepted:
        return
    best = max((gain for _, gain, _ in accepted), key=lambda gain: gain.mean)
    for trial, gain, p in sorted(accepted, key=lambda one: -one[0].score):
        on_same = gain_on(best.metric, with_change(trial.change, fresh), control, judges)
        if on_same.mean >= SAME * best.mean:
            yield Verdict(
                trial.cause,
                trial.evidence,
                _proof(trial, gain, p),
                trial.change.overrides,
                True,
                trial.score,
                gain,
            )


def _proof(trial: TriedCause, gain: Gain, p: float) -> str:
    chance = f"p = {p:.2g}" if p >= LEAST_P else f"p < {LEAST_P:g}"
    return (
        f"with {trial.change} {gain.metric} is {gain.after:.4g} instead of {gain.before:.4g}, better in "
        f"{gain.better} of {gain.pairs} fresh seeds ({chance})"
    )
