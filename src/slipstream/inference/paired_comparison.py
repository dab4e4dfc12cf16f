"""Comparison of trained networks on the same examples: paired tests against the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from slipstream.config.changes import differing
from slipstream.core.console import number
from slipstream.core.errors import ConfigError, DataError, UserError, did_you_mean
from slipstream.core.registry import component
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import counted
from slipstream.inference import own_data
from slipstream.inference.asked_data import asked_data
from slipstream.inference.ensemble import Ensemble, RunLike, RunOrigin, open_run
from slipstream.inference.new_data import NewData
from slipstream.inference.paired_tests import McNemar, MetricDifference, PairedScores, known
from slipstream.metrics import defaults, every
from slipstream.sweeps.report.comparisons import LEVEL, holm

Verdict = Literal["better", "worse", "inconclusive"]


@dataclass(frozen=True)
class AgainstFirst:
    """A run compared with the first. p: of the deciding test, with Holm's correction for several runs."""

    name: str
    differences: Mapping[str, MetricDifference]
    mcnemar: McNemar | None
    test: str
    p: float | None
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class ComparisonResult:
    """Runs side by side on the same rows.

    Attributes:
        names: of the runs. rows: the number of examples, which come from `source`.
        settings: the settings that differ, each with a value per run, None where a run lacks the setting.
        metric: the deciding metric, by default the first run's, and its better direction, `mode`.
        values: metrics, one value for each run, None if undefined. others: the runs after the first.
        origins: of each run, or of its members: their folders and configurations.
    """

    names: tuple[str, ...]
    source: str
    rows: int
    settings: Mapping[str, Sequence[str | None]]
    metric: str
    mode: str
    values: Mapping[str, Sequence[float | None]]
    others: tuple[AgainstFirst, ...]
    origins: tuple[tuple[RunOrigin, ...], ...]

    def __repr__(self) -> str:
        """Return the verdicts, one per line."""
        told = "\n".join(other.sentence for other in self.others)
        return f"<comparison of {', '.join(self.names)} on {counted(self.rows, 'example')}: {told}>"


def compare(
    runs: Sequence[RunLike], *data: DataLike, target: DataLike = None, metric: str | None = None
) -> ComparisonResult:
    """Compare trained networks on the same examples with paired tests against the first.

    The bootstrap resamples the same rows for all runs. For classification, McNemar's exact test counts the
    rows that only one of two runs predicts correctly. With several comparisons, Holm's correction applies.

    Args:
        runs: at least two folders of runs or sweeps, or results of `slipstream.fit`, `train` or `sweep`.
        data: as in `slipstream.evaluate`; without any, the test rows of the runs, which must be the same.
        target: the targets of examples in memory.
        metric: the deciding metric; by default the one that chose the first run's best epoch.

    Returns:
        The settings that differ, metrics, differences with intervals, and verdicts.

    Raises:
        UserError: a folder holds no trained run, or the runs have different test rows.
        ConfigError, DataError: the data or the metric do not fit the runs.

    Example:
        >>> import slipstream
        >>> configs = [slipstream.compose("data=iris", f"trainer.max_epochs={n}") for n in (1, 30)]
        >>> runs = [slipstream.train(config, f"runs/{i}").directory for i, config in enumerate(configs)]
        >>> found = slipstream.compare(runs)
        >>> dict(found.settings), found.rows, found.others[0].verdict
        ({'trainer.max_epochs': ['1', '30']}, 22, 'better')
    """
    if len(runs) < 2:
        raise ConfigError(["compare: found one run, expected at least two"])
    ensembles = [open_run(run) for run in runs]
    _require_one_task(ensembles)
    raws = [ensemble.origins[0].config for ensemble in ensembles]
    datas, source = _rows(ensembles, data, target)
    names = _metrics(ensembles, raws)
    decides = _decides(ensembles[0], raws[0], names, metric)
    paired = PairedScores.of(ensembles, datas)
    labels = _labels(ensembles)
    values = {name: [known(value) for value in paired.values(name)] for name in names}
    mode = _mode(decides)
    differences = paired.differences(names)
    exact = [paired.mcnemar(i) for i in range(1, len(runs))]
    found = []
    for label, difference, test in zip(labels[1:], differences, exact, strict=True):
        counts = decides == "accuracy" and test is not None and paired.unweighted
        p = test.p if counts and test is not None else difference[decides].p
        by = "McNemar's exact test" if counts else "the paired bootstrap"
        found.append(AgainstFirst(label, difference, test, by, p, "inconclusive", ""))
    corrected = holm([one.p for one in found])
    others = [
        _judged(replace(one, p=p), labels[0], decides, mode, len(found) > 1)
        for one, p in zip(found, corrected, strict=True)
    ]
    return ComparisonResult(
        tuple(labels),
        source,
        len(datas[0]),
        differing(raws),
        decides,
        mode,
        values,
        tuple(others),
        tuple(ensemble.origins for ensemble in ensembles),
    )


def _require_one_task(ensembles: Sequence[Ensemble]) -> None:
    first = ensembles[0].target
    for ensemble in ensembles[1:]:
        target = ensemble.target
        if (target.task, target.classes, target.names) != (first.task, first.classes, first.names):
            raise UserError(
                f"compare: {ensemble.path} predicts {_meaning(ensemble)}, and {ensembles[0].path} "
                f"{_meaning(ensembles[0])}; only runs with the same target can be compared"
            )


def _meaning(ensemble: Ensemble) -> str:
    target = ensemble.target
    what = counted(len(target.classes), "class") if target.classes else "numbers"
    return f"{target.task} {', '.join(target.names)} ({what})"


def _rows(
    ensembles: Sequence[Ensemble], data: Sequence[DataLike], target: DataLike
) -> tuple[list[NewData], str]:
    """Return the same examples as encoded for each run, and their origin."""
    first = ensembles[0]
    if data:
        found = [asked_data(one, data, target) for one in ensembles]
        datas, source = [rows for rows, _ in found], found[0][1]
        for one, rows in zip(ensembles[1:], datas[1:], strict=True):
            if not np.array_equal(rows.raw.targets, datas[0].raw.targets):
                raise DataError(f"{source}: {one.path} reads different rows than {first.path}")
        return datas, source
    own = [own_data.unseen_rows(one) for one in ensembles]
    for one, other in zip(ensembles[1:], own[1:], strict=True):
        if (other.split, other.key) != (own[0].split, own[0].key):
            raise UserError(
                f"compare: the {other.split} rows of {one.path} differ from the {own[0].split} rows of "
                f"{first.path}; add data.path=FILE to compare all runs on the rows of one file"
            )
    return [each.data for each in own], f"the {own[0].split} rows of the runs"


def _metrics(ensembles: Sequence[Ensemble], raws: Sequence[Mapping[str, Plain]]) -> list[str]:
    """Return the metrics that all runs have, and the loss if all runs have the same one in the same unit."""
    target = ensembles[0].target
    probabilistic = all(model.probabilistic for one in ensembles for model in one.models)
    names = every(target.task, len(target.classes), probabilistic)
    scales = {(model.target.offset, model.target.scale) for one in ensembles for model in one.models}
    same = all(raw["loss"] == raws[0]["loss"] for raw in raws) and len(scales) == 1
    return ["loss", *names] if same else names


def _decides(first: Ensemble, raw: Mapping[str, Plain], names: Sequence[str], asked: str | None) -> str:
    if asked is not None and asked not in names:
        raise ConfigError([f"--metric {asked}: not a metric of all runs, {did_you_mean(asked, names)}"])
    monitored = str(raw["early_stopping"]["metric"]).partition("/")[2]
    usual = monitored if monitored in names else defaults(first.target.task)[0]
    return asked or usual


def _mode(metric: str) -> str:
    return "min" if metric == "loss" else str(component("metric", metric).traits.mode)


def _labels(ensembles: Sequence[Ensemble]) -> list[str]:
    """Return the folders' last names, or the whole paths where these are equal, or numbers."""
    short, whole = [one.path.name for one in ensembles], [str(one.path) for one in ensembles]
    if any(one.held for one in ensembles) and len(set(short)) < len(short):
        return [f"run {i}" for i in range(1, len(short) + 1)]
    return short if len(set(short)) == len(short) and all(short) else whole


def _judged(one: AgainstFirst, first: str, metric: str, mode: str, several: bool) -> AgainstFirst:
    """Return the comparison with its verdict and a sentence that explains it."""
    found, label = one.differences[metric], one.name
    verdict: Verdict = "inconclusive"
    if found.difference and one.p is not None and one.p < LEVEL:
        verdict = "better" if (found.difference > 0) == (mode == "max") else "worse"
    if verdict == "inconclusive":
        said = f"Inconclusive: the rows do not show whether {label} or {first} is better"
    else:
        said = f"{label} is {verdict} than {first}"
    if found.difference is None:
        return replace(one, verdict=verdict, sentence=f"{said}: {metric} is undefined.")
    side = "more" if found.difference > 0 else "less"
    said += f": {metric} {number(abs(found.difference))} {side}" if found.difference else f": equal {metric}"
    if found.interval is not None:
        said += f" (difference {' to '.join(map(number, found.interval))})"
    if one.p is None:
        return replace(one, verdict=verdict, sentence=f"{said}; there are too few rows for a test.")
    corrected = ", after Holm's correction" if several else ""
    return replace(one, verdict=verdict, sentence=f"{said}, p = {number(one.p, 2)} by {one.test}{corrected}.")
