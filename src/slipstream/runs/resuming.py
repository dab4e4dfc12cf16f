"""Resuming runs that were stopped by a signal, a crash or their own end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from slipstream.core import kernels
from slipstream.core.errors import DataError, UserError
from slipstream.core.types import Plain
from slipstream.runs import checkpoints, run_folder
from slipstream.training.loop import Progress
from slipstream.training.member import Member
from slipstream.training.snapshot import Taken, restore

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.data import Data
    from slipstream.training.engine import Engine


def find(directory: Path | None, warnings: list[str]) -> Taken | None:
    """Return the newest valid checkpoint. Append a warning for every newer one that is not valid."""
    if directory is None:
        return None
    checkpoints.clean(directory / "checkpoints")
    path, damaged = checkpoints.latest(directory / "checkpoints")
    warnings += [f"{reason}; using an earlier checkpoint" for reason in damaged]
    if path is None:
        warnings.append(f"{directory}: has no checkpoint; the run starts again")
        return None
    taken = checkpoints.load(path)
    kernels.use(taken[1].get("mkl_cbwr", kernels.NONE))
    kernels.use_capability(taken[1].get("cpu_capability"))
    warnings += other_kernels(directory, taken[1])
    return taken


def other_kernels(directory: Path, saved: Mapping[str, Plain]) -> list[str]:
    """Return a warning if a run cannot continue with the kernels that it was saved with.

    This happens if this process has already computed with others, or if the processor lacks them.
    """
    found, differ = [], "the last digits may differ from an uninterrupted run's"
    before, now = saved.get("mkl_cbwr", kernels.NONE), kernels.mode()
    if before != now and None not in (before, now):
        setting = f"{kernels.VARIABLE}={before}"
        found.append(
            f"{directory}: was trained with {setting}, but this process has {now or 'no mode'}: {differ}; "
            f"set {setting} before starting Python"
        )
    instructions = kernels.capability()
    if saved.get("cpu_capability", instructions) != instructions:
        was = saved["cpu_capability"]
        found.append(f"{directory}: was trained with {was}, but this process has {instructions}: {differ}")
    return found


class How(NamedTuple):
    """The conditions that a run's bytes depend on, in addition to configuration and threads."""

    packed: bool
    compile: bool


class Begun(NamedTuple):
    """The steps of the current epoch in a run's newest checkpoint, and its conditions; None if unknown."""

    steps: int = 0
    how: How | None = None


def begun(directory: Path) -> Begun:
    """Return a run's progress and the conditions of its training so far. Raises CheckpointError."""
    if not (directory / run_folder.CONFIG).exists():
        return Begun()
    path, _ = checkpoints.latest(directory / "checkpoints")
    if path is None:
        return Begun()
    state = checkpoints.load(path)[1]
    known = "packed" in state and "compile" in state  # early versions lack these
    return Begun(int(state["steps_into_epoch"]), How(state["packed"], state["compile"]) if known else None)


def require_same_data(config: Config, data: Data, saved: Taken | None) -> None:
    """Raise DataError if a run would continue with different data, unless this is allowed."""
    allowed = config.trainer.allow_changed_data
    if saved is not None and saved[1]["fingerprint"] != data.fingerprint and not allowed:
        files = ", ".join(map(str, data.sources)) or config.data.name
        raise DataError(
            f"{files}: the data have changed since this run started; restore them, start a new run, "
            "or continue anyway with trainer.allow_changed_data=true"
        )


def begin(engine: Engine, members: Sequence[Member], saved: Sequence[Taken | None]) -> Progress:
    """Return the progress of a new or resumed pack, with its members' histories."""
    if any(entry is not None for entry in saved):
        _require_same_weights(engine, members[0], saved)
        return restore(engine, members, saved)
    state = engine.start()
    return Progress(state, engine.evaluated(state))


def _require_same_weights(engine: Engine, member: Member, saved: Sequence[Taken | None]) -> None:
    """Raise UserError if the file of initial weights has changed since the run began."""
    began = {entry[1].get("weights") for entry in saved if entry is not None}
    if began != {engine.weights_digest}:
        path = member.config.model.settings["weights"]
        raise UserError(
            f"model.weights: {path or 'none'}: the run began with another file of weights (SHA-256 "
            f"{next(iter(began - {engine.weights_digest})) or 'none'}); restore it, or start a new run"
        )


def unfinished(member: Member) -> bool:
    """Return True if epochs remain, or the summary, which a run writes last."""
    return member.running or member.directory is None or not (member.directory / run_folder.SUMMARY).exists()
