"""Sweeps from Python: `slipstream.sweep(space)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core.types import Plain
from slipstream.core.wording import counted, spell
from slipstream.data.in_memory import InMemory
from slipstream.sweeps import report, runner
from slipstream.sweeps.plan import planning, store
from slipstream.sweeps.work import processes

if TYPE_CHECKING:
    import polars

    from slipstream.sweeps.plan.job import Outcome
    from slipstream.sweeps.report import Report
    from slipstream.sweeps.report.aggregates import Group


@dataclass(frozen=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        directory: the sweep's folder.
        report: ranking, comparisons, importance and advice, as in report.json.
        given: the rows in memory, if the sweep was trained on such rows.
        exit_code: 0, or 3 if members diverged or failed, or 129, 130, 143 or 152 if a signal ended it.

    Example:
        >>> import slipstream
        >>> found = slipstream.sweep({"optimizer.lr": [0.01]}, "data=iris", "trainer.max_epochs=1")
        >>> found.exit_code, [member.status for member in found.runs], len(found.frame())
        (0, ['finished'], 1)
    """

    directory: Path
    report: Report
    exit_code: int
    given: InMemory | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        best, metric = self.best, self.report.metric
        told = "no trial succeeded"
        if best is not None:
            values = " ".join(f"{key}={spell(value)}" for key, value in best.values.items())
            told = f"best {metric} {best.mean:.6g}" + (f" with {values}" if values else "")
        trials, runs = counted(len(self.report.groups), "trial"), counted(len(self.runs), "member")
        return f"<sweep of {trials}, {runs}: {told}; {self.directory}>"

    @property
    def best(self) -> Group | None:
        """The best trial: `values`, `mean`, `std`, `members`. None if no trial succeeded."""
        return self.report.best

    @property
    def runs(self) -> tuple[Outcome, ...]:
        """All members by number: `values`, `status`, `value`, `best`, `directory`, `test` (for reports)."""
        return self.report.outcomes

    def frame(self) -> polars.DataFrame:
        """Return the leaderboard with one row per member, starting with the best trial's members.

        The columns are those of leaderboard.csv, starting with rank, value and the swept keys.
        """
        import polars

        table = polars.read_csv(self.directory / report.LEADERBOARD, infer_schema_length=None)
        first = ["rank", "value", *(key for key in self.report.keys if key in table.columns)]
        return table.select(list(dict.fromkeys([*first, *table.columns])))


def sweep(
    space: Mapping[str, Plain],
    *overrides: str,
    directory: str | Path | None = None,
    given: InMemory | None = None,
    **settings: Plain,
) -> SweepResult:
    """Train a sweep (see `slipstream.sweep`).

    given: the rows of data=memory.
    """
    typed = ["trainer.progress=none", *overrides]
    typed += [f"sweep.{name}={spell(value)}" for name, value in settings.items()]
    plan = planning.plan(typed, space)
    if directory is None:
        name = plan.example.config.name
        directory = Path("outputs") / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S_%f}"
    directory = Path(directory).absolute()
    plan = store.freeze(plan, directory)
    code, made = runner.work(plan, directory, processes.MODULE, given)
    assert made is not None  # this process leads
    return SweepResult(directory, made, code, given)
