"""The terminal output of a sweep's results at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from slipstream.core.console import number, print_table
from slipstream.core.types import Plain
from slipstream.core.wording import counted, shell, spell, typed
from slipstream.sweeps.report.aggregates import Group
from slipstream.sweeps.report.comparisons import LEAST_PAIRS, Comparison
from slipstream.sweeps.report.making import LEADERBOARD, REPORT, Report
from slipstream.training.member import AGAINST_DIVERGENCE

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# With more than 40 runs, TensorBoard selects none unless an expression leaves a few, here three trials.
PAGE = "http://localhost:6006/#custom_scalars&regexInput=trials%2F"
TOO_FEW = "too few to tell"
VERDICTS = ("worse", "tie", TOO_FEW)
TESTED = 4  # test scores of the best trial to show; all of them are in report.json
REASONS = 3  # reasons of diverged members to show
SHOWN = 10  # trials in the table, and failures in the list


def show(console: Console, report: Report) -> None:
    """Show the best trials, the important keys, advice, failures, and the location of the files."""

    def say(line: str = "") -> None:
        console.print(line, soft_wrap=True)

    say()
    say(_counts(report))
    best = report.best
    if best is not None:
        print_table(console, _table(report, console))
        if len(report.groups) > SHOWN:
            say(f"and {len(report.groups) - SHOWN} more in {LEADERBOARD}")
        if any(len(group.members) > 1 for group in report.groups):
            say("folder: of the trial's best member")
        if best.values:
            say(f"\nbest: {overrides(best.values)}")
    for line in _remarks(report, "±" if _has(console, "±") else "+/-"):
        say(line)
    say(f"\nsweep: {report.directory}")
    if any(report.directory.glob("events.out.tfevents.*")):
        say(f"curves: tensorboard --logdir {shell(str(report.directory))}")
        say(f"best, median and worst: {PAGE}")


def _counts(report: Report) -> str:
    statuses = Counter(outcome.status for outcome in report.outcomes)
    said = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in statuses.most_common())
    members, trials = len(report.outcomes), len(report.groups)
    of = "" if members == trials else f" of {counted(trials, 'trial')}"
    return f"{counted(members, 'member')}{of}: {said}" if report.outcomes else "no members"


def _table(report: Report, console: Console) -> Table:
    """Create a table of the best trials with a column per key, or one for all keys if it is too wide."""
    from rich.table import Table

    keys = [key for key in report.keys if _differs(key, report.groups)]
    sign = "±" if _has(console, "±") else "+/-"
    heads = _short(keys)
    for columns in (True, False):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("rank", justify="right", no_wrap=True)
        for head in [heads[key] for key in keys] if columns else ["trial"]:
            table.add_column(head, overflow="fold", no_wrap=columns)
        table.add_column(report.metric, justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        table.add_column("folder", justify="right", no_wrap=True)
        for rank, (group, compared) in enumerate(
            zip(report.groups[:SHOWN], report.comparisons, strict=False), start=1
        ):
            cells = [_shown(group.values, key) for key in keys]
            if not columns:
                pairs = zip(keys, cells, strict=True)
                cells = [" ".join(f"{heads[key]}={cell}" for key, cell in pairs if cell)]
            value = _with_deviation(group.mean, group.std, group.n, sign)
            table.add_row(str(rank), *cells, value, _mark(group, compared), _folder(group, report))
        wide = console.measure(table, options=console.options.update(width=1000)).maximum
        if wide <= console.width or (not console.is_terminal and len(keys) <= SHOWN):
            break
    return table


def _differs(key: str, groups: Sequence[Group]) -> bool:
    """Return True if a key distinguishes trials."""
    return len({spell(group.values[key]) if key in group.values else None for group in groups}) > 1


def _shown(values: Mapping[str, Plain], key: str) -> str:
    if key not in values:
        return ""
    value = values[key]
    return number(value) if isinstance(value, float) else value if isinstance(value, str) else spell(value)


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Return the last part of each key if it is unambiguous, otherwise the whole key."""
    words = Counter(key.rpartition(".")[2] for key in keys)
    return {key: word if words[word := key.rpartition(".")[2]] == 1 else key for key in keys}


def _with_deviation(mean: float | None, std: float | None, n: int, sign: str) -> str:
    return number(mean) if std is None else f"{number(mean)} {sign} {number(std, 2)} ({n})"


def _mark(group: Group, compared: Comparison | None) -> str:
    """Return the note about a trial's members, or its comparison with the best one if there is one."""
    if compared is None or compared.pairs < 2:
        return group.remark
    return group.remark or ("?" if compared.verdict == TOO_FEW else compared.verdict)


def _folder(group: Group, report: Report) -> str:
    """Return the folder of the trial's best member."""
    sign = 1 if report.minimize else -1
    known = [(sign * m.value, m.number) for m in group.members if m.value is not None]
    return str(min(known)[1] if known else group.members[0].number)


def _remarks(report: Report, sign: str) -> Iterator[str]:
    """Yield the sentences below the table."""
    compared = [entry for entry in report.comparisons if entry is not None]
    repeated = [entry for entry in compared if entry.pairs > 1]
    if repeated:
        verdicts = Counter[str](entry.verdict for entry in compared)
        said = ", ".join(f"{verdicts[name]} {name}" for name in VERDICTS if verdicts[name])
        tests = list(dict.fromkeys(entry.test for entry in repeated))
        yield f"compared with it: {said} ({', '.join(tests)}, Holm's correction, 5 %)"
        if verdicts[TOO_FEW]:
            most, folds = (max(getattr(entry, name) for entry in repeated) for name in ("pairs", "folds"))
            members = counted(most, "member") + (f" of {counted(folds, 'fold')}" if 0 < folds < most else "")
            what, more = (
                ("folds", 2 * max(folds, LEAST_PAIRS)) if folds else ("repeats", 2 * max(most, LEAST_PAIRS))
            )
            yield f"?: too few to tell, {members} per trial; use more {what}, such as sweep.{what}={more}"
    elif compared:
        yield "one member per trial, so noise cannot be estimated; try sweep.repeats=5"
    if report.importance:
        unclear = [entry.key for entry in report.importance if not entry.clear]
        clear = [
            f"{entry.key} {100 * entry.share:.0f} {sign} {100 * entry.std:.0f} %"
            for entry in report.importance
            if entry.clear
        ]
        yield f"important: {', '.join(clear) or 'no key clearly'}"
        if unclear:
            yield f"not distinguishable from chance: {', '.join(unclear)}"
    elif report.silence:
        yield report.silence
    yield from report.advice
    yield from _tested(report, sign)
    yield from _diverged(report)
    yield from _failures(report)


def _tested(report: Report, sign: str) -> Iterator[str]:
    """Yield the test scores of the best trial, starting with the monitored metric."""
    decides = f"test/{report.metric.partition('/')[2]}"
    names = sorted(report.test, key=lambda name: name != decides)[:TESTED]
    if names:
        said = ", ".join(f"{name} {_with_deviation(*report.test[name], sign)}" for name in names)
        yield f"test scores of the best (not used for selection): {said}"


def _diverged(report: Report) -> Iterator[str]:
    found = [outcome for outcome in report.outcomes if outcome.status == "diverged"]
    if not found:
        return
    yield "\nall members diverged:" if len(found) == len(report.outcomes) else "\ndiverged:"
    for outcome in found[:REASONS]:
        yield f"  {outcome.number}  {overrides(outcome.values)}: {outcome.reason}"
    if more := [outcome.number for outcome in found[REASONS:]]:
        yield f"  and {_numbers(more)}; their reasons are in {LEADERBOARD}"
    yield f"against divergence: {AGAINST_DIVERGENCE}"


def _failures(report: Report) -> Iterator[str]:
    if not report.failures:
        return
    yield "\nfailed:"
    for outcome in report.failures[:SHOWN]:
        yield f"  {outcome.number}  {overrides(outcome.values)}: {outcome.reason}"
    if len(report.failures) > SHOWN:
        yield f"  and {len(report.failures) - SHOWN} more in {REPORT}"
    which = "it" if len(report.failures) == 1 else "them"
    again = typed("resume", report.directory)
    yield f"to train {which} again after fixing the cause: python train.py {again}"


def _numbers(found: Sequence[int]) -> str:
    named = ", ".join(map(str, found[: 2 * SHOWN]))
    return named if len(found) <= 2 * SHOWN else f"{named} and {len(found) - 2 * SHOWN} more"


def overrides(values: Mapping[str, Plain]) -> str:
    """Return the swept values as overrides.

    >>> overrides({"optimizer": "adam", "optimizer.lr": 0.01, "regularizer": ["l2"]})
    'optimizer=adam optimizer.lr=0.01 "regularizer=[l2]"'
    """
    return " ".join(typed(key, value) for key, value in values.items())


def _has(console: Console, sign: str) -> bool:
    """Return True if the console's encoding has a character."""
    try:
        sign.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True
