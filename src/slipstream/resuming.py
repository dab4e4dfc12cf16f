"""Going on with runs that were stopped, by a signal, a crash or their own end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipstream import checkpoints, rundir
from slipstream.errors import DataError
from slipstream.training.loop import Progress
from slipstream.training.member import INTERRUPTED, RUNNING, Member
from slipstream.training.snapshot import Tensors, restore

if TYPE_CHECKING:
    from slipstream.config import Config
    from slipstream.data import Data
    from slipstream.training.engine import Engine

Saved = tuple[Tensors, Mapping[str, Any]]  # the tensors of a checkpoint by file, and its state
UNENDED = (RUNNING, INTERRUPTED)


def find(directory: Path | None, warnings: list[str]) -> Saved | None:
    """The newest checkpoint that verifies; a warning for every newer one, which does not."""
    if directory is None:
        return None
    checkpoints.clean(directory / "checkpoints")
    path, damaged = checkpoints.latest(directory / "checkpoints")
    warnings += [f"{reason}; an earlier checkpoint is used" for reason in damaged]
    if path is None:
        warnings.append(f"{directory}: has no checkpoint; the run begins anew")
    return None if path is None else checkpoints.load(path)


def together(directories: Sequence[Path | None], saved: Sequence[Saved | None]) -> list[Saved | None]:
    """What was saved of a pack, with all members that had not ended at the step of the slowest.

    A pack that is killed while it saves has some members a save ahead.
    """
    steps = {k: entry[1]["step"] for k, entry in enumerate(saved) if entry and entry[1]["status"] in UNENDED}
    slowest, found = min(steps.values(), default=0), list(saved)
    for k, step in steps.items():
        directory = directories[k]
        if directory is not None and step > slowest:
            found[k] = checkpoints.load(directory / "checkpoints" / f"step-{slowest:08d}")
    return found


def require_same_data(config: Config, data: Data, saved: Sequence[Saved | None]) -> None:
    """Raise DataError where a run would go on with other data than it began with, unless allowed."""
    for entry in saved:
        if entry is None or entry[1]["fingerprint"] == data.fingerprint or config.trainer.allow_changed_data:
            continue
        files = ", ".join(map(str, data.sources)) or config.data.name
        raise DataError(
            f"{files}: the data changed since this run began; restore it, start a new run, "
            "or go on regardless with trainer.allow_changed_data=true"
        )


def begin(engine: Engine, members: Sequence[Member], saved: Sequence[Saved | None]) -> Progress:
    """Where a pack stands that goes on, or begins: its progress, and its members' histories with it."""
    known = [entry for entry in saved if entry is not None]
    if len(known) < len(members):  # nothing was saved yet: the same run from its start
        state = engine.start()
        return Progress(state, engine.evaluated(state))
    return restore(engine, members, known)


def unfinished(member: Member) -> bool:
    """Whether anything is left to do: epochs, or the summary, which a run writes last."""
    return member.running or member.directory is None or not (member.directory / rundir.SUMMARY).exists()
