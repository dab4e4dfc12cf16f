"""Benchmark: what `slipstream why` says of planted faults and healthy runs.

    python scripts/why_bench.py [--part dev] [--set planted] [--kind lr_high] [--limit 20] [--jobs 2] [-o F]

Every case is trained into a folder and `why` is asked. It prints how many faults are noticed (any symptom or
verdict), how many are named first, and among the first three; how many first remedies hold on seeds that were
never used (they take back half of the harm); how many healthy runs raise an alarm (a verdict); and the time,
as a multiple of the run's. With Wilson intervals of 95 %, beside AutoTrainer's rules and a random search that
trains as many runs as `why`. --part held is to be looked at once. Sets: planted and deepfd
(scripts/why_cases), shared (--cases FOLDER).
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from scipy.stats import binomtest

import slipstream
from slipstream.core.errors import UserError
from slipstream.diagnosis.branches import Change, Origin
from why_cases import files
from why_cases.measuring import MENDED_ON, QUIET, measures, taken_back, typed
from why_cases.panel import RULES, old_rules, panel

CASES = Path(__file__).parent / "why_cases"
SEED = 0  # of the run that is asked about
FIRST = 3  # verdicts that count: a list of everything says nothing
HOLDS = 0.5  # of the harm that a remedy takes back
BUDGET = 24  # runs of the random search where `why` does not say how many it trained


class Verdict(Protocol):
    """A cause that was found, the overrides that mend it, and whether that was confirmed."""

    cause: str
    remedy: tuple[str, ...]
    confirmed: bool


class Diagnosis(Protocol):
    """What `slipstream.diagnosis.why.why` returns of a run's folder; causes ordered by importance."""

    verdicts: Sequence[Verdict]
    symptoms: Sequence[Any]


@dataclass(frozen=True)
class Case:
    """A line of a table of cases. verdict: empty for a healthy run. mended: what the remedy reaches."""

    id: str
    part: str
    kind: str
    arguments: str
    metric: str
    verdict: str = ""
    also: tuple[str, ...] = ()
    remedy: str = ""
    faulty: tuple[float | None, ...] = ()
    mended: tuple[float | None, ...] = ()


@dataclass
class Found:
    """What was said of a case. regained: share of the harm that the first remedy takes back, if any."""

    id: str
    kind: str
    faulty: bool
    verdicts: list[str] = field(default_factory=list)
    noticed: bool = False
    first: bool = False
    among: bool = False
    regained: float | None = None
    run_seconds: float = 0.0
    why_seconds: float = 0.0
    trained: int = 0
    rules: list[str] = field(default_factory=list)
    rules_named: bool = False
    searched: float | None = None
    budget: int = 0
    error: str = ""


def cases(path: Path) -> list[Case]:
    """Read a table of cases."""
    lines = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    names = lines[0]
    found = []
    for line in lines[1:]:
        row = dict(zip(names, line, strict=True))
        also = tuple(filter(None, row.get("also", "").split(";")))
        values = [_numbers(row.get(name, "")) for name in ("faulty", "mended")]
        head = row["id"], row["part"], row.get("kind", "healthy"), row["arguments"], row["metric"]
        found.append(Case(*head, row.get("verdict", ""), also, row.get("remedy", ""), *values))
    return found


def _numbers(text: str) -> tuple[float | None, ...]:
    return tuple(None if word == "diverged" else float(word) for word in text.split(",") if word)


def ask(case: Case, data: Path, why: Callable[[Path], Diagnosis] | None, *, search: bool) -> Found:
    """Train a case, ask why, and try what is said on fresh seeds."""
    found = Found(case.id, case.kind, bool(case.verdict))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        began = time.perf_counter()
        try:
            told = (*typed(case.arguments, data, SEED), "logger=none")
            run = slipstream.train(slipstream.compose(*told), folder)
        except UserError as error:
            found.error = f"cannot be trained: {error}"
            return found
        found.run_seconds = time.perf_counter() - began
        found.rules = old_rules(run.records, run.observations, run.status)
        named = {cause for rule in found.rules[:FIRST] for cause in RULES[rule]}
        found.rules_named = bool(named & {case.verdict, *case.also})
        if why is not None:
            _diagnose(found, case, folder, why)
        if search and found.faulty:
            found.budget = found.trained or BUDGET
            found.searched = _search(case, folder, found.budget)
    return found


def _diagnose(found: Found, case: Case, folder: Path, why: Callable[[Path], Diagnosis]) -> None:
    """Ask why, and say how right it is."""
    began = time.perf_counter()
    try:
        said = why(folder)
    except Exception as error:
        found.error = f"{type(error).__name__}: {error}"
        return
    found.why_seconds = time.perf_counter() - began
    found.trained = int(getattr(said, "trained", 0))
    found.verdicts = [one.cause for one in said.verdicts]
    right = {case.verdict, *case.also}
    found.noticed = bool(said.verdicts or said.symptoms)
    found.first = bool(found.verdicts) and found.verdicts[0] in right
    found.among = bool(right & set(found.verdicts[:FIRST])) and found.faulty
    if found.faulty and said.verdicts and said.verdicts[0].remedy:
        found.regained = regained(case, folder, tuple(said.verdicts[0].remedy))


def regained(case: Case, folder: Path, remedy: tuple[str, ...]) -> float:
    """Return the share of the harm that overrides take back, the mean over seeds that were never used."""
    shares = []
    for seed in MENDED_ON:
        before = _again(case, folder, (), seed)
        after = _again(case, folder, remedy, seed)
        shares.append(taken_back(before, after, (case.faulty, case.mended), case.metric))
    return statistics.fmean(shares)


def _again(case: Case, folder: Path, change: tuple[str, ...], seed: int) -> float | None:
    """Return the case's metric of a branch with another seed and split, None if it breaks."""
    origin = Origin(folder)
    try:
        change = (*change, f"data.split_seed={seed}", *QUIET)
        words = origin.typed(Change(change), seed)
        return measures(origin.composed(words), case.metric).get(case.metric)
    except UserError:
        return None


def _search(case: Case, folder: Path, budget: int) -> float | None:
    """Return what the best of as many random changes regains, chosen as the run chooses its best epoch."""
    origin, rng = Origin(folder), random.Random(case.id)
    changes = panel(origin.raw)
    best: tuple[float, tuple[str, ...]] | None = None
    for _ in range(budget):
        change = tuple(word for _, words in rng.sample(changes, rng.choice((1, 1, 2))) for word in words)
        try:
            config = origin.composed(origin.typed(Change((*change, *QUIET))))
            run = slipstream.train(config)
        except UserError:
            continue
        value = run.best.get(config.trainer.monitor)
        if value is None or run.status == "diverged":
            continue
        low = -value if "loss" in config.trainer.monitor or "rmse" in config.trainer.monitor else value
        if best is None or low > best[0]:
            best = low, change
    return None if best is None else regained(case, folder, best[1])


def share(values: Iterable[bool]) -> str:
    """Return a share with its Wilson interval.

    >>> share([True] * 9 + [False])
    '9/10 = 90 % (60 ... 98)'
    """
    held = list(values)
    if not held:
        return "-"
    low, high = (
        round(100 * bound) for bound in binomtest(sum(held), len(held)).proportion_ci(method="wilson")
    )
    return f"{sum(held)}/{len(held)} = {round(100 * sum(held) / len(held))} % ({low} ... {high})"


def report(found: Sequence[Found], *, asked: bool) -> list[str]:
    """Return the lines of the tables."""
    faults, healthy = [one for one in found if one.faulty], [one for one in found if not one.faulty]
    lines = [f"{len(faults)} faults, {len(healthy)} healthy runs"]
    if asked:
        told = [one.regained for one in faults if one.regained is not None]
        lines += table(
            "slipstream why",
            {
                "noticed": share(one.noticed for one in faults),
                "named first": share(one.first for one in faults),
                f"among the first {FIRST}": share(one.among for one in faults),
                "first remedy holds": share(part >= HOLDS for part in told),
                "healthy, with a verdict": share(bool(one.verdicts) for one in healthy),
                "healthy, with a symptom": share(one.noticed for one in healthy),
                "time over the run's": _multiple(found),
            },
        )
    lines += table(
        "AutoTrainer's rules",
        {
            "noticed": share(bool(one.rules) for one in faults),
            "cause among the repairs": share(one.rules_named for one in faults),
            "healthy, with a symptom": share(bool(one.rules) for one in healthy),
        },
    )
    searched = [one for one in faults if one.budget]
    if searched:
        held = share((one.searched or 0) >= HOLDS for one in searched)
        lines += table("random search of as many runs", {"remedy holds": held})
    return [*lines, *(by_kind(faults) if asked else [])]


def table(title: str, rows: Mapping[str, str]) -> list[str]:
    """Return a title and a line for each row."""
    return ["", title, *(f"  {name:25}{value}" for name, value in rows.items())]


def _multiple(found: Sequence[Found]) -> str:
    """Return the time of `why` as a multiple of the run's: all together, the median and the largest."""
    ratios = [one.why_seconds / one.run_seconds for one in found if one.run_seconds and one.why_seconds]
    if not ratios:
        return "-"
    whole = sum(one.why_seconds for one in found) / sum(one.run_seconds for one in found)
    return f"{whole:.1f} in all, median {statistics.median(ratios):.1f}, largest {max(ratios):.1f}"


def by_kind(faults: Sequence[Found]) -> list[str]:
    """Return a line for each kind of fault."""
    lines = ["", f"{'kind':22}{'noticed':>9}{'first':>7}{'among':>7}{'holds':>7}  said instead"]
    for kind in dict.fromkeys(one.kind for one in faults):
        rows = [one for one in faults if one.kind == kind]
        told = [one.regained >= HOLDS for one in rows if one.regained is not None]
        counts = [
            sum(one.noticed for one in rows),
            sum(one.first for one in rows),
            sum(one.among for one in rows),
        ]
        cells = [f"{n}/{len(rows)}" for n in counts] + [f"{sum(told)}/{len(told)}"]
        instead = sorted({one.verdicts[0] for one in rows if one.verdicts and not one.first})
        lines.append(f"{kind:22}{cells[0]:>9}{cells[1]:>7}{cells[2]:>7}{cells[3]:>7}  {', '.join(instead)}")
    return lines


def chosen(asked: argparse.Namespace) -> list[Case]:
    """Return the cases that were asked for."""
    folder = asked.cases or CASES
    names = {"planted": ("faults", "healthy"), "deepfd": ("deepfd",), "shared": ("faulty", "healthy")}[
        asked.set
    ]
    found = [
        case for name in names if (folder / f"{name}.tsv").exists() for case in cases(folder / f"{name}.tsv")
    ]
    found = [
        case for case in found if case.part == asked.part and (not asked.kind or case.kind in asked.kind)
    ]
    if asked.limit and len(found) > asked.limit:
        found = random.Random(0).sample(found, asked.limit)
    return found


def asking() -> Callable[[Path], Diagnosis] | None:
    """Return `why`, None where this version has none."""
    try:
        from slipstream.diagnosis.why import why
    except ImportError:
        return None
    return why  # type: ignore[no-any-return]


def work(case: Case, data: Path, search: bool, rules_alone: bool) -> Found:
    """Measure a case, in a process of its own or not."""
    return ask(case, data, None if rules_alone else asking(), search=search)


def main() -> None:
    """Measure the cases and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=("dev", "held"), default="dev")
    parser.add_argument("--set", choices=("planted", "deepfd", "shared"), default="planted")
    parser.add_argument("--kind", action="append", help="only these kinds; healthy is one, too")
    parser.add_argument("--limit", type=int, help="a sample of so many cases")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--cases", type=Path, help="a folder with tables of cases, and data/, instead of ours"
    )
    parser.add_argument(
        "--no-search", action="store_true", help="without the random search, which costs as much as why"
    )
    parser.add_argument("--rules-alone", action="store_true", help="without why")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file of every case")
    asked = parser.parse_args()
    todo, rules_alone = chosen(asked), asked.rules_alone or asking() is None
    with tempfile.TemporaryDirectory() as temporary:
        data = asked.cases / "data" if asked.cases else Path(temporary)
        if not asked.cases:
            files.write(data)
        found = list(_all(todo, data, asked, rules_alone))
    conditions = {
        "set": asked.set, "part": asked.part, "cases": len(todo), "seed": SEED,
        "fresh seeds": list(MENDED_ON),
        "slipstream": slipstream.__version__, "processor": platform.processor() or platform.machine(),
        "jobs": asked.jobs, "date": str(date.today()),
    }  # fmt: skip
    print("\n" + ", ".join(f"{name} {value}" for name, value in conditions.items()))
    print("\n".join(report(found, asked=not rules_alone)))
    if asked.output:
        asked.output.write_text(
            json.dumps({"conditions": conditions, "cases": [asdict(one) for one in found]}, indent=1)
        )


def _all(todo: Sequence[Case], data: Path, asked: argparse.Namespace, rules_alone: bool) -> Iterable[Found]:
    """Yield what is found of each case, with a line for each on the way."""
    search = not asked.no_search
    fresh = get_context("spawn")  # a fork may inherit a lock of polars, and wait for ever
    with ProcessPoolExecutor(asked.jobs, mp_context=fresh) as pool:
        futures = [pool.submit(work, case, data, search, rules_alone) for case in todo]
        for case, future in zip(todo, futures, strict=True):
            one = future.result()
            said = ", ".join(one.verdicts[:FIRST]) or "nothing"
            print(f"{one.id} {one.kind} [{case.verdict}]: {said} {one.error}", flush=True)
            yield one


if __name__ == "__main__":
    main()
