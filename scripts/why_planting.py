"""Plant faults and healthy runs, measure each over three seeds, and keep what is clear.

    python scripts/why_planting.py --part dev --memory measured.jsonl [--healthy | --deepfd] [--data FOLDER]

A fault is kept where it hurts by a clear margin, in every seed, and its remedy mends it; a healthy run where
no change of a panel betters it. It writes one part's lines of scripts/why_cases/{faults,healthy}.tsv, and
leaves the other's. What was measured stays in the memory file: a second call goes on from there, and
several can measure shares of it at once, with --share 0/3, 1/3 and 2/3, before one without it writes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import slipstream
from slipstream.core.errors import UserError
from why_cases import files
from why_cases.deepfd import programs
from why_cases.healthy_runs import healthy
from why_cases.measuring import Measured, Unknown, changed, clear, gain, margin, taken_back, typed
from why_cases.panel import panel
from why_cases.templates import KINDS, Base, Kind, Ladder, eligible, metric_of

CASES = Path(__file__).parent / "why_cases"
COLUMNS = (
    *("id", "part", "data", "kind", "verdict", "also", "prepare", "arguments", "remedy", "metric", "faulty"),
    *("mended", "proof", "seconds"),
)
PER_PART, TRIES = 4, 6  # cases of a kind in a part; bases that are tried for them


@dataclass(frozen=True)
class Case:
    """A line of faults.tsv, without its id."""

    part: str
    base: Base
    kind: Kind
    arguments: str
    remedy: str
    metric: str
    faulty: list[float | None]
    mended: list[float | None]
    seconds: float
    also: str = ""

    def fields(self) -> list[str]:
        """Return the columns after the id."""
        values = [
            ",".join("diverged" if v is None else f"{v:.4g}" for v in x) for x in (self.faulty, self.mended)
        ]
        kind = self.kind
        head = [
            self.part,
            self.base.data,
            kind.name,
            kind.verdict,
            self.also,
            "-",
            self.arguments,
            self.remedy,
        ]
        return [*head, self.metric, *values, kind.proof, f"{self.seconds:.1f}"]


def planted(kind: Kind, one: Base, ladder: Sequence[tuple[str, str]], measured: Measured) -> Case | None:
    """Return the first fault of the ladder that is clear."""
    metric = metric_of(kind, one)
    for bad, remedy in ladder:
        faulty = changed(one.words, bad)
        mended = changed(faulty, remedy)
        if measured.refuses(faulty) or measured.refuses(mended):
            continue
        if not clear([measured.metric(faulty, metric, 0)], [measured.metric(mended, metric, 0)], metric):
            continue
        found = [measured.metrics(words, metric) for words in (faulty, mended)]
        sound = measured.metrics(one.words, one.metric) if None in found[0] else []
        if clear(*found, metric) and near(found[1], sound, metric):
            seconds = measured.seconds(faulty)
            return Case(one.part, one, kind, faulty, remedy.strip(), metric, *found, seconds, kind.also)
    return None


def near(mended: Sequence[float | None], sound: Sequence[float | None], metric: str) -> bool:
    """Return True if a remedy comes near to the sound run: not to break is not enough."""
    pairs = [(a, b) for a, b in zip(sound, mended, strict=False) if a is not None and b is not None]
    return all(gain(a, b, metric) >= -3 * margin(metric, a) for a, b in pairs)


def faults(part: str, measured: Measured, most: int, kinds: Sequence[Kind] = KINDS) -> Iterator[Case]:
    """Yield the clear faults of a part: at most so many of each kind, on different data sets if there are."""
    for kind in kinds:
        kept, tried = 0, spread(list(eligible(kind, part)))
        tried = tried[: TRIES if measured.trains else None]
        for one, ladder in tried:
            with suppress(Unknown):
                if kept < most and (case := planted(kind, one, ladder, measured)):
                    kept += 1
                    yield case
        print(f"{part} {kind.name}: {kept} of {most}", flush=True)


# Changes of the panel, and the verdict that each would mean.
CONFUSED = {
    "rate x10": "learning rate too low",
    "rate /10": "learning rate too high",
    "epochs x4": "too few epochs",
    "width x4": "network too small",
    "channels x4": "network too small",
    "batch /8": "batch too large",
    "loss auto": "wrong loss",
}
NEARLY = 0.8  # of the harm: a remedy that takes back this much makes its verdict no mistake


def confused(case: Case, measured: Measured) -> str:
    """Return the other verdicts whose remedy mends a fault nearly as well, for the first seed."""
    table, metric = ([case.faulty[0]], [case.mended[0]]), case.metric
    raw = slipstream.compose(*typed(case.arguments, measured.folder, 0))
    also = list(filter(None, case.also.split(";")))
    for name, overrides in panel(raw):
        verdict = CONFUSED.get(name)
        if verdict is None or verdict in (case.kind.verdict, *also) or case.kind.proof != "rerun":
            continue
        line = changed(case.arguments, " ".join(overrides))
        with suppress(UserError, Unknown):
            slipstream.compose(*typed(line, measured.folder, 0))
            if taken_back(case.faulty[0], measured.metric(line, metric, 0), table, metric) >= NEARLY:
                also.append(verdict)
    return ";".join(also)


def spread(found: list[tuple[Base, Ladder]]) -> list[tuple[Base, Ladder]]:
    """Return the bases in an order in which data sets come once each before any comes again."""
    data = [one.data for one, _ in found]
    turns = [data[:k].count(name) for k, name in enumerate(data)]
    return [found[k] for k in sorted(range(len(found)), key=lambda k: turns[k])]


def lines_of(path: Path, other: str) -> list[list[str]]:
    """Return the fields, without ids, of the lines of a part."""
    if not path.exists():
        return []
    rows = [line.split("\t") for line in path.read_text().splitlines() if line[:1] not in ("#", "i", "")]
    return [row[1:] for row in rows if row[1] == other]


def write(
    path: Path, letter: str, head: str, columns: Sequence[str], part: str, rows: list[list[str]]
) -> None:
    """Write one part's lines into a file, keeping the other's."""
    other = "held" if part == "dev" else "dev"
    kept = lines_of(path, other)
    ordered = [*rows, *kept] if part == "dev" else [*kept, *rows]
    lines = [f"{letter}{number:03d}\t" + "\t".join(row) for number, row in enumerate(ordered, start=1)]
    path.write_text("\n".join([head, "\t".join(columns), *lines]) + "\n")


HEAD = """# Planted faults, made by scripts/why_planting.py. arguments: of train.py, {data} is the folder that
# scripts/why_cases/files.py writes; remedy: overrides that mend it (a key is replaced, ~PREFIX takes away)
# faulty, mended: the metric for seed=data.split_seed=0,1,2; also: verdicts that are no mistake either; proof:
# rerun, the remedy is a whole file (data), or only fresh rows show it (fresh: FILE_fresh.csv; optimism: the
# test part's metric less that of fresh rows)."""
HEALTHY = """# Healthy runs, made by scripts/why_planting.py --healthy: no change of the panel
# (scripts/why_cases/panel.py) betters the metric by 0.05 (accuracy) or 0.06 (R2) over three seeds. looks: why
# it may seem suspicious."""
SHORT = ["id", "part", "data", "prepare", "arguments", "metric", "value", "looks", "seconds"]


def plant(asked: argparse.Namespace, measured: Measured) -> None:
    """Measure what was asked for, and write it."""
    part = asked.part
    if asked.deepfd:
        head, rows = programs(measured)
        (CASES / "deepfd.tsv").unlink(missing_ok=True)  # its lines are of both parts
        write(CASES / "deepfd.tsv", "d", head, COLUMNS, part, rows)
    elif asked.healthy:
        rows = [list(row) for row in healthy(part, measured)]
        write(CASES / "healthy.tsv", "q", HEALTHY, SHORT, part, rows)
    else:
        place, count = map(int, asked.share.split("/"))
        for most in range(1, PER_PART + 1):
            rows = []
            for case in faults(part, measured, most, KINDS[place::count]):
                also = confused(case, measured) if asked.also else case.also
                rows.append(replace(case, also=also).fields())
            if count == 1:  # a table after each, so that one can stop early
                write(CASES / "faults.tsv", "p", HEAD, COLUMNS, part, rows)


def main() -> None:
    """Measure one part and write its lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--part", choices=("dev", "held"), required=True)
    parser.add_argument("--memory", type=Path, required=True, help="JSON lines of what was measured")
    parser.add_argument("--data", type=Path, help="the folder of the data files; made if it is not there")
    parser.add_argument("--share", default="0/1", help="only every so many-th kind, and no table")
    parser.add_argument("--known", action="store_true", help="only what the memory holds, without training")
    parser.add_argument("--also", action="store_true", help="try the remedies of other verdicts, too")
    parser.add_argument("--healthy", action="store_true", help="the healthy runs, not the faults")
    parser.add_argument("--deepfd", action="store_true", help="the programs of DeepFD, not the faults")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.data or Path(temporary)
        if not any(folder.glob("*.csv")):
            files.write(folder)
        measured = Measured(folder, asked.memory, not asked.known)
        plant(asked, measured)
    for words, text in measured.refused.items():
        print(f"refused: {words}\n  {text}")


if __name__ == "__main__":
    main()
