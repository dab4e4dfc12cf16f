"""The section of a report with a sweep's leaderboard and statistics, from report.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.table import Table

from slipstream.core.console import number
from slipstream.core.types import Plain
from slipstream.core.wording import counted, spell
from slipstream.sweeps.report import LEADERBOARD, REPORT

SHOWN = 20  # trials


def read_report(sweep: Path) -> Mapping[str, Plain]:
    """Return the content of a sweep's report.json, which exists because its best trial was read from it."""
    found: Mapping[str, Plain] = json.loads((sweep / REPORT).read_text("utf-8"))
    return found


def leaderboard(found: Mapping[str, Plain]) -> Table:
    """Return the best trials with their values, means and deviations, and their comparison with the first."""
    trials = found["trials"][:SHOWN]
    keys = list(dict.fromkeys(key for trial in trials for key in trial["values"]))
    table = Table("rank", *keys, found["metric"], "members", "", title="leaderboard", title_justify="left")
    for trial in trials:
        values = [spell(trial["values"][key]) if key in trial["values"] else "" for key in keys]
        deviation = "" if trial["std"] is None else f" ± {number(trial['std'], 2)}"
        against = trial["against_the_best"]
        mark = trial["remark"] or (against["verdict"] if against and against["pairs"] > 1 else "")
        mean = f"{number(trial['mean'])}{deviation}"
        table.add_row(str(trial["rank"]), *values, mean, str(len(trial["members"])), mark)
    return table


def remarks(found: Mapping[str, Plain]) -> Iterator[str]:
    """Yield sentences: how the members ended, which settings mattered, advice, and the test metrics."""
    members = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in found["statuses"].items())
    yield f"{counted(len(found['trials']), 'trial')}; members: {members}."
    if len(found["trials"]) > SHOWN:
        yield f"{len(found['trials']) - SHOWN} more in {LEADERBOARD}."
    tests = {t["against_the_best"]["test"] for t in found["trials"] if t["against_the_best"]}
    if any(t["against_the_best"]["pairs"] > 1 for t in found["trials"] if t["against_the_best"]):
        yield f"Compared with the best: {', '.join(sorted(tests))}, Holm's correction, 5 %."
    shares = [
        f"{one['key']} {100 * one['share']:.0f} ± {100 * one['std']:.0f} %"
        for one in found["importance"]
        if one["clear"]
    ]
    if shares:
        yield f"What mattered: {', '.join(shares)}."
    elif found["no_importance_because"]:
        yield found["no_importance_because"]
    yield from found["advice"]
    test = found["test_of_the_best"]
    if test:
        said = ", ".join(f"{name} {number(one['mean'])} (n {one['n']})" for name, one in test.items())
        yield f"The best trial on the test rows, which were not used for selection: {said}."
