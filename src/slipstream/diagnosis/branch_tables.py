"""Terminal tables of branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from slipstream.core.console import number, print_table
from slipstream.core.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from slipstream.diagnosis.ablation import Ablation
    from slipstream.diagnosis.forking import Fork
    from slipstream.diagnosis.paired_effects import Effect

SHOWN = 4  # metrics of a fork


def show_fork(screen: Console, found: Fork) -> None:
    """Show how each future ends, its best epoch and the metrics there."""
    results = [branch.result for branch in found.branches]
    split = found.metric.partition("/")[0]
    named = dict.fromkeys(name for result in results for name in result.best if name.startswith(f"{split}/"))
    names = [found.metric, *(name for name in named if name != found.metric)][:SHOWN]
    several = len({branch.seed for branch in found.branches}) > 1
    table = Table(title=f"futures of {found.folder} after epoch {found.epoch}", title_justify="left")
    for heading in ("change", *(["seed"] if several else []), "end", "best epoch", *names):
        table.add_column(heading)
    for branch in found.branches:
        result = branch.result
        seed = [str(branch.seed)] if several else []
        values = [number(result.best.get(name)) for name in names]
        table.add_row(str(branch.change), *seed, result.status, str(result.best_epoch), *values)
    print_table(screen, table)


def show_ablation(screen: Console, found: Ablation) -> None:
    """Show the effect of removing each ingredient, the largest loss first."""
    seeds = counted(len(found.control), "seed")
    title = f"{found.metric} of {found.folder} without each ingredient, {seeds}"
    table = Table(title=title, title_justify="left")
    for heading in ("change", found.metric, "difference", "95 % interval", "p (Holm)", "verdict"):
        table.add_column(heading)
    table.add_row("unchanged", number(_mean(found.control)), "", "", "", "")
    for effect in found.effects:
        table.add_row(str(effect.change), number(_mean(effect.values)), *_described(effect))
    print_table(screen, table)
    for sentence in found.needed:
        screen.print(sentence, soft_wrap=True)


def _described(effect: Effect) -> tuple[str, str, str, str]:
    difference = "diverged" if effect.difference is None else f"{effect.difference:+.4g}"
    interval = "" if effect.interval is None else f"{effect.interval[0]:+.4g} ... {effect.interval[1]:+.4g}"
    p = "" if effect.p is None else f"{effect.p:.2g}"
    return difference, interval, p, effect.verdict


def _mean(values: tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
