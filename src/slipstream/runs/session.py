"""A session: from a validated configuration to a finished run folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slipstream.config.run_config import Config
from slipstream.core.errors import ConfigError
from slipstream.core.wording import shell, typed
from slipstream.data.in_memory import InMemory
from slipstream.runs import resuming, run_folder, setup, summary
from slipstream.runs.pack_session import PackSession, Slot, opened, prepared, with_idle
from slipstream.runs.progress import Screen
from slipstream.runs.recorder import flat
from slipstream.runs.summary import Result
from slipstream.runs.symptoms import end_of_run, symptoms
from slipstream.runs.tracking import Tracking, require_installed
from slipstream.runs.trained import Trained
from slipstream.training.interrupts import Interrupts
from slipstream.training.lifting import why_alone
from slipstream.training.loop import Watcher
from slipstream.training.member import FINISHED, INTERRUPTED, Member
from slipstream.training.pack import signature

if TYPE_CHECKING:
    from slipstream.data import Data


class Curve(Watcher, Protocol):
    """A watcher that shows the progress of runs."""

    def begin(self, members: Sequence[Member]) -> None:
        """Handle the beginning of training."""


def train_pack(
    configs: Sequence[Config],
    directories: Sequence[str | Path] | None = None,
    *,
    given: InMemory | None = None,
    keep: list[Trained] | None = None,
) -> list[Result]:
    """Train runs as one stacked computation (see `slipstream.train_pack`). given, keep: as in `run_pack`."""
    if not configs:
        return []
    if len({signature(config) for config in configs}) > 1:
        raise ConfigError([_difference(configs)])
    places = [None] * len(configs) if directories is None else [Path(path) for path in directories]
    return run_pack(configs, places, [()] * len(configs), quiet=True, given=given, keep=keep)


def run(config: Config, directory: Path, overrides: Sequence[str] = (), resume: bool = False) -> Result:
    """Train the run of a folder from its start or, when resuming, from its newest valid checkpoint."""
    return run_pack([config], [directory], [overrides], resume=resume)[0]


def run_pack(
    configs: Sequence[Config],
    directories: Sequence[Path | None],
    overrides: Sequence[Sequence[str]],
    *,
    resume: bool = False,
    quiet: bool = False,
    given: InMemory | None = None,
    loaded: tuple[Sequence[Data], Sequence[int]] | None = None,
    keep: list[Trained] | None = None,
    curve: Curve | None = None,
) -> list[Result]:
    """Claim the folders, read the data, train, and write the summaries.

    given: the rows of data=memory. loaded: the result of `setup.load_all`, if the data have been read. keep:
    called with everything about each finished run, for use without a folder. curve: another watcher. Members
    whose network cannot be vectorized train one after another.
    """
    if any(directory is not None for directory in directories):
        require_installed(configs[0])
    asked = _Asked(configs, directories, overrides, resume, quiet, given, loaded, keep, curve)
    try:
        return _run_together(asked)
    except OneByOne as apart:
        results: list[Result] = []
        for k in range(len(configs)):
            signal = results[-1].exit_code - 128 if results and results[-1].status == INTERRUPTED else None
            results += _run_together(asked.alone(k), () if k else (str(apart),), signal)
        return results


class OneByOne(Exception):
    """Members that cannot train together as one computation, with the reason."""


@dataclass(frozen=True)
class _Asked:
    """The arguments of `run_pack`."""

    configs: Sequence[Config]
    directories: Sequence[Path | None]
    overrides: Sequence[Sequence[str]]
    resume: bool
    quiet: bool
    given: InMemory | None
    loaded: tuple[Sequence[Data], Sequence[int]] | None
    keep: list[Trained] | None
    curve: Curve | None

    def advice(self, directory: Path) -> str | None:
        """Return what to do in Python with a folder that has a run; None for a command line."""
        if not self.quiet:
            return None
        more = f"slipstream {typed('resume', directory)} in a shell"
        if self.given is not None:
            more = f"slipstream.fit(..., directory={str(directory)!r}, resume=True)"
        return f"pass another directory, or continue the run with {more}"

    def alone(self, k: int) -> _Asked:
        """Return what is asked of one run."""
        read = self.loaded and (self.loaded[0], [self.loaded[1][k]])
        return replace(
            self,
            configs=[self.configs[k]],
            directories=[self.directories[k]],
            overrides=[self.overrides[k]],
            loaded=read,
        )


def _run_together(asked: _Asked, told: Sequence[str] = (), signal: int | None = None) -> list[Result]:
    """Train members together. told: initial warnings. Raises OneByOne before anything is written.

    signal: one that ended an earlier run, and ends these at their first update.
    """
    with ExitStack() as stack:
        for directory in asked.directories:
            if directory is not None:
                advice = asked.advice(directory)
                stack.enter_context(run_folder.claim(directory, resume=asked.resume, advice=advice))
        interrupts = stack.enter_context(Interrupts())
        interrupts.received = signal
        stack.enter_context(setup.portable_kernels(asked.configs[0]))
        slots, datas, warnings = _slots(asked)
        known, config = range(len(slots)), slots[0].member.config
        _require_liftable(config, datas[0], len(slots))
        saved = slots[0].saved
        if (saved is not None and saved[1].get("packed")) or config.trainer.portable:
            slots = with_idle(slots)  # a pack, which is rounded differently from a single run
        tracking = Tracking()
        stack.callback(tracking.close)
        session = stack.enter_context(opened(slots, datas, tracking))
        if asked.resume and not any(resuming.unfinished(session.members[k]) for k in known):
            results = _nothing_left(session, known, interrupts.exit_code, quiet=asked.quiet)
            _keep(session, known, results, asked.keep)
            return results
        kind = "none" if asked.quiet else config.trainer.progress
        screen = Screen(kind, session.members, session.engine.batching.examples)
        try:
            session.begin(screen.warn)
            _introduce(screen, session, [*told, *warnings, *datas[0].warnings], resume=asked.resume)
            if asked.curve is not None:
                asked.curve.begin(session.members)
            session.advance([screen, *([asked.curve] if asked.curve is not None else [])], interrupts)
        finally:
            screen.close()
        results = _conclude(session, known, screen, interrupts.exit_code)
        for text in tracking.close():
            screen.warn(text)
        _keep(session, known, results, asked.keep)
        return results


def _slots(asked: _Asked) -> tuple[list[Slot], Sequence[Data], list[str]]:
    """Return a slot for each run, the data, and warnings about checkpoints."""
    warnings: list[str] = []
    saved = [resuming.find(path, warnings) if asked.resume else None for path in asked.directories]
    datas, folds = asked.loaded or setup.load_all(asked.configs, asked.given)
    if any(setup.form(other) != setup.form(datas[0]) for other in datas):
        raise ConfigError(["data.fold: the folds differ in size or in the scaling of the target"])
    slots = []
    for k, (fold, entry) in enumerate(zip(folds, saved, strict=True)):
        config = setup.as_saved(asked.configs[k], entry)
        member = prepared(config, asked.directories[k], datas[fold], entry)
        slots.append(Slot(member, fold, asked.overrides[k], saved=entry, resume=asked.resume))
    return slots, datas, warnings


def _require_liftable(config: Config, data: Data, members: int) -> None:
    """Raise OneByOne, or ConfigError if a pack was requested, for a network that cannot be vectorized."""
    if members == 1 and not config.trainer.portable:
        return
    if reason := why_alone(config, data):
        if config.trainer.portable:
            found = "trainer.portable: trains each run as a member of a pack, but"
            raise ConfigError([f"{found} model={config.model.name} cannot be one: {reason}"])
        raise OneByOne(f"model={config.model.name} trains one run after another: {reason}")


def _keep(
    session: PackSession[Slot], known: Sequence[int], results: Sequence[Result], keep: list[Trained] | None
) -> None:
    if keep is not None:
        keep += [session.trained(k, result) for k, result in zip(known, results, strict=True)]


def _introduce(screen: Screen, session: PackSession[Slot], warnings: Sequence[str], *, resume: bool) -> None:
    """Show the data, warnings, and the epoch at which the run continues."""
    data, first = session.datas[0], session.members[0]
    screen.say(data.card)
    for warning in (*warnings, *setup.warnings(first.config, session.engine)):
        screen.warn(warning)
    if sentence := setup.optimism(first.config, data):
        screen.warn(sentence)
    if resume:
        screen.say(f"continuing at epoch {first.epoch + 1} of {first.config.trainer.max_epochs}")


def _conclude(
    session: PackSession[Slot], known: Sequence[int], screen: Screen, exit_code: int
) -> list[Result]:
    """Write and show the results of a pack that has ended."""
    for k in known:
        member = session.members[k]
        if member.best_epoch and member.best_value is None:
            screen.warn(
                f"{member.metric} was never defined, so the best epoch is unknown and the last "
                "weights are kept"
            )
    results = session.conclude(known, exit_code)
    for k, result in zip(known, results, strict=True):
        summary.show(screen, session.members[k], result, session.datas[0].target)
        _suspect(screen, session, k, result)
    return results


def _suspect(screen: Screen, session: PackSession[Slot], k: int, result: Result) -> None:
    """Show what is suspicious about a run that has ended, and the command that finds out why."""
    if screen.kind == "none" or result.status == INTERRUPTED:
        return
    slot = session.slots[k]
    found = symptoms(end_of_run(session.members[k].config, session.datas[slot.fold], result))
    if found:
        ask = (
            ""
            if result.directory is None
            else f"; to find out why: slipstream why {shell(str(result.directory))}"
        )
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        screen.say(f"suspicious: {found[0]}{more}{ask}")


def _nothing_left(
    session: PackSession[Slot], known: Sequence[int], exit_code: int, *, quiet: bool
) -> list[Result]:
    """Return the results of runs that have already ended, without changing their folders."""
    results = summary.results(session.engine, session.members, known, session.progress, exit_code)
    kind = "none" if quiet else session.members[0].config.trainer.progress
    screen = Screen(kind, session.members, session.engine.batching.examples)
    for result in results:
        screen.say(f"nothing left to do: {result.status}, {result.reason}")
        if result.status == FINISHED:
            screen.say("to continue, increase trainer.max_epochs")
    screen.close()
    return results


def _difference(configs: Sequence[Config]) -> str:
    first = flat(configs[0].raw)
    for number, config in enumerate(configs[1:], start=1):
        if signature(config) != signature(configs[0]):
            other = flat(config.raw)
            keys = [key for key in first | other if first.get(key) != other.get(key)]
            return f"members 0 and {number} of a pack differ in structure, among {', '.join(keys)}"
    return "members of a pack differ in structure"
