"""A session: from a validated configuration to a finished run folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slipstream.config.run_config import Config
from slipstream.core.errors import ConfigError
from slipstream.data.in_memory import InMemory
from slipstream.runs import resuming, run_folder, setup, summary
from slipstream.runs.pack_session import PackSession, Slot, opened, prepared, with_idle
from slipstream.runs.progress import Screen
from slipstream.runs.recorder import flat
from slipstream.runs.summary import Result
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
    """A watcher that shows where the runs stand."""

    def begin(self, members: Sequence[Member]) -> None:
        """Handle the begin of training."""


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

    given: the rows of data=memory. loaded: what `setup.load_all` returns, if the data have been read. keep:
    takes all of every run that ended, for use without a folder. curve: another watcher. Members whose network
    cannot be vectorized train one after another.
    """
    if any(directory is not None for directory in directories):
        require_installed(configs[0])
    try:
        return _run_together(configs, directories, overrides, (), resume, quiet, given, loaded, keep, curve)
    except OneByOne as apart:
        results: list[Result] = []
        for k, config in enumerate(configs):
            if results and results[-1].status == INTERRUPTED:
                break
            told, read = () if results else (str(apart),), loaded and (loaded[0], [loaded[1][k]])
            one = [config], [directories[k]], [overrides[k]]
            results += _run_together(*one, told, resume, quiet, given, read, keep, curve)
        return results


class OneByOne(Exception):
    """Members that cannot train together as one computation, with the reason."""


def _run_together(
    configs: Sequence[Config],
    directories: Sequence[Path | None],
    overrides: Sequence[Sequence[str]],
    told: Sequence[str],
    resume: bool,
    quiet: bool,
    given: InMemory | None,
    loaded: tuple[Sequence[Data], Sequence[int]] | None,
    keep: list[Trained] | None,
    curve: Curve | None,
) -> list[Result]:
    """Train members together. told: warnings to begin with. Raises OneByOne before anything is written."""
    with ExitStack() as stack:
        for directory in directories:
            if directory is not None:
                stack.enter_context(run_folder.claim(directory, resume=resume))
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(setup.portable_kernels(configs[0]))
        warnings = list(told)
        saved = [resuming.find(directory, warnings) if resume else None for directory in directories]
        datas, folds = loaded or setup.load_all(configs, given)
        if any(setup.form(other) != setup.form(datas[0]) for other in datas):
            raise ConfigError(["data.fold: the folds differ in size or in the scaling of the target"])
        slots = []
        for k, (fold, entry) in enumerate(zip(folds, saved, strict=True)):
            member = prepared(setup.as_saved(configs[k], entry), directories[k], datas[fold], entry)
            slots.append(Slot(member, fold, overrides[k], saved=entry, resume=resume))
        known, config = range(len(slots)), slots[0].member.config
        _require_liftable(config, datas[0], len(slots))
        if (saved[0] is not None and saved[0][1].get("packed")) or config.trainer.portable:
            slots = with_idle(slots)  # a pack, which is rounded differently from a single run
        tracking = Tracking()
        stack.callback(tracking.close)
        session = stack.enter_context(opened(slots, datas, tracking))
        if resume and not any(resuming.unfinished(session.members[k]) for k in known):
            results = _nothing_left(session, known, interrupts.exit_code, quiet=quiet)
            _keep(session, known, results, keep)
            return results
        kind = "none" if quiet else config.trainer.progress
        screen = Screen(kind, session.members, session.engine.batching.examples)
        try:
            session.begin(screen.warn)
            _introduce(screen, session, [*warnings, *datas[0].warnings], resume=resume)
            if curve is not None:
                curve.begin(session.members)
            session.advance([screen, *([curve] if curve is not None else [])], interrupts)
        finally:
            screen.close()
        results = _conclude(session, known, screen, interrupts.exit_code)
        for text in tracking.close():
            screen.warn(text)
        _keep(session, known, results, keep)
        return results


def _require_liftable(config: Config, data: Data, members: int) -> None:
    """Raise OneByOne or, where packs are asked for, ConfigError for a network that cannot be vectorized."""
    if members == 1 and not config.trainer.portable:
        return
    if reason := why_alone(config, data):
        if config.trainer.portable:
            found = "trainer.portable: trains each run as a member of a pack, and"
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
    return results


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
