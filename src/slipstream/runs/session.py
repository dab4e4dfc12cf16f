"""A session: from a validated configuration to a finished run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.config.run_config import Config
from slipstream.config.validation import validate
from slipstream.core.errors import ConfigError
from slipstream.core.types import Plain
from slipstream.runs import resuming, run_folder, setup, summary
from slipstream.runs.progress import Screen
from slipstream.runs.recorder import Recorder, Shown, flat
from slipstream.runs.summary import Result
from slipstream.training.engine import Engine
from slipstream.training.interrupts import Interrupts
from slipstream.training.loop import Progress
from slipstream.training.loop import train_pack as train_members
from slipstream.training.member import FINISHED, IDLE, Member
from slipstream.training.pack import signature

if TYPE_CHECKING:
    from slipstream.loggers.tensorboard import TensorBoard


def train(config: Mapping[str, Plain] | Config, directory: str | Path | None = None) -> Result:
    """Train one run.

    Only warnings are shown, on standard error: `trainer.progress` is for the command line.

    Args:
        config: a configuration from `slipstream.compose`, or a validated one.
        directory: the run's folder; None writes nothing to disk.

    Returns:
        The metrics, weights and history of the run.

    Raises:
        ConfigError: the configuration cannot run.
        DataError: the data cannot be used. Like ConfigError it is a UserError, raised before training.

    Example:
        >>> import slipstream
        >>> result = slipstream.train(slipstream.compose("data=iris", "trainer.max_epochs=1"))
        >>> result.status, len(result.records)
        ('finished', 1)
    """
    return train_pack([config], None if directory is None else [directory])[0]


def train_pack(
    configs: Sequence[Mapping[str, Plain] | Config], directories: Sequence[str | Path] | None = None
) -> list[Result]:
    """Train K runs as one stacked computation, each as if it were alone.

    Args:
        configs: one configuration per run. They may differ in seeds and in every number (learning rates,
            decays, penalty weights, dropout rates, schedules, patience), but not in structure.
        directories: one folder per run; None writes nothing to disk.

    Returns:
        One result per run, in the order of `configs`.

    Raises:
        ConfigError: a configuration cannot run, or they differ in structure.
        DataError: the data cannot be used.

    Example:
        >>> import slipstream
        >>> both = [slipstream.compose("data=iris", "trainer.max_epochs=1", f"seed={k}") for k in (1, 2)]
        >>> [result.status for result in slipstream.train_pack(both)]
        ['finished', 'finished']
    """
    if not configs:
        return []
    valid = [config if isinstance(config, Config) else validate(config) for config in configs]
    if len({signature(config) for config in valid}) > 1:
        raise ConfigError([_difference(valid)])
    places = [None] * len(valid) if directories is None else [Path(path) for path in directories]
    return run_pack(valid, places, [()] * len(valid), quiet=True)


def run(config: Config, directory: Path, overrides: Sequence[str] = (), resume: bool = False) -> Result:
    """Train the run of a folder, from its start or, resuming, from its newest valid checkpoint."""
    return run_pack([config], [directory], [overrides], resume=resume)[0]


def run_pack(
    configs: Sequence[Config],
    directories: Sequence[Path | None],
    overrides: Sequence[Sequence[str]],
    *,
    resume: bool = False,
    quiet: bool = False,
) -> list[Result]:
    """Claim the folders, read the data, train, and write the summaries."""
    with ExitStack() as stack:
        for directory in directories:
            if directory is not None:
                stack.enter_context(run_folder.claim(directory, resume=resume))
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(setup.portable_kernels(configs[0]))
        warnings: list[str] = []
        saved = [resuming.find(directory, warnings) if resume else None for directory in directories]
        datas, folds = setup.load_all(configs)
        data = datas[0]
        if any(setup.form(other) != setup.form(data) for other in datas):
            raise ConfigError(["data.fold: these folds differ in their sizes or in the target's scaling"])
        configs = [
            setup.resolve(config, datas[fold], entry)
            for config, fold, entry in zip(configs, folds, saved, strict=True)
        ]
        for fold, entry in zip(folds, saved, strict=True):
            resuming.require_same_data(configs[0], datas[fold], entry)
        device = setup.set_up(configs[0])
        stack.enter_context(setup.flushing_denormals())
        stack.enter_context(setup.explain_oom(configs[0]))
        members = [Member(config, directory) for config, directory in zip(configs, directories, strict=True)]
        known = range(len(members))
        was_packed = saved[0] is not None and saved[0][1].get("packed")
        if len(members) == 1 and (was_packed or configs[0].trainer.portable):
            # As a member of a pack, whose rounding differs from that of a run alone.
            members, saved, folds = [*members, Member(configs[0], None, status=IDLE)], [*saved, None], [0, 0]
        engine = Engine([member.config for member in members], datas, device, folds)
        stack.enter_context(setup.limit_threads(engine))
        progress = resuming.begin(engine, members, saved)
        if resume and not any(resuming.unfinished(members[k]) for k in known):
            return _nothing_left(engine, members, known, progress, interrupts, quiet)
        typed = [*overrides, ()]
        loggers = [
            setup.open_member(member, typed[k], engine, k, resume=resume, alone=len(known) == 1)
            for k, member in enumerate(members)
        ]
        for logger in loggers:
            stack.callback(_close, logger)
        trainer = configs[0].trainer
        done = members[0].epoch
        kind = "none" if quiet else trainer.progress
        screen = Screen(kind, trainer.max_epochs, engine.batching.examples, done)
        screen.say(data.card)
        for warning in (*warnings, *data.warnings, *setup.warnings(configs[0], engine)):
            screen.warn(warning)
        if sentence := setup.optimism(configs[0], data):
            screen.warn(sentence)
        if resume:
            screen.say(f"going on at epoch {done + 1} of {trainer.max_epochs}")
        recorder = Recorder(engine, members, loggers, screen.warn, summary.conditions)
        try:
            train_members(engine, members, progress, Shown(recorder, screen), interrupts)
        finally:
            screen.close()
        for member in members[: len(known)]:
            if member.best_epoch and member.best_value is None:
                screen.warn(
                    f"{member.metric} was never defined: nothing says which epoch was best, the last one's "
                    "weights are kept"
                )
        results = summary.conclude(engine, members, known, progress, loggers, interrupts.exit_code)
        for member, result in zip(members, results, strict=False):
            summary.show(screen, member, result, data.target)
        return results


def _nothing_left(
    engine: Engine,
    members: Sequence[Member],
    places: Sequence[int],
    progress: Progress,
    interrupts: Interrupts,
    quiet: bool,
) -> list[Result]:
    """Return the results of runs that ended before; their folders are not changed."""
    results = summary.results(engine, members, places, progress, interrupts.exit_code)
    screen = Screen("none" if quiet else members[0].config.trainer.progress, 0, 0)
    for result in results:
        screen.say(f"nothing left to do: {result.status}, {result.reason}")
        if result.status == FINISHED:
            screen.say("to go on, raise trainer.max_epochs")
    screen.close()
    return results


def _close(logger: TensorBoard | None) -> None:
    """Close everything, without raising: a full disk has been reported by then."""
    if logger is not None:
        with suppress(OSError):
            logger.close()


def _difference(configs: Sequence[Config]) -> str:
    first = flat(configs[0].raw)
    for number, config in enumerate(configs[1:], start=1):
        if signature(config) != signature(configs[0]):
            other = flat(config.raw)
            keys = [key for key in first | other if first.get(key) != other.get(key)]
            return f"members 0 and {number} of a pack differ in structure, among {', '.join(keys)}"
    return "members of a pack differ in structure"
