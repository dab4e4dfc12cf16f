"""From a validated configuration to a finished run directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from slipstream import resuming, rundir, summary
from slipstream.config import Config, validate
from slipstream.data import Data, load
from slipstream.errors import ConfigError
from slipstream.files import replace, writing
from slipstream.metrics import defaults
from slipstream.models.layers import Residual
from slipstream.packs import signature
from slipstream.progress import Screen
from slipstream.recording import Recorder, flat, open_logger, yaml_text
from slipstream.registry import component
from slipstream.summary import Result
from slipstream.training.engine import Engine, choose_device
from slipstream.training.interrupts import Interrupts
from slipstream.training.loop import Progress
from slipstream.training.loop import train_pack as train_members
from slipstream.training.member import FINISHED, Member

if TYPE_CHECKING:
    from slipstream.loggers import TensorBoard


def train(config: Mapping[str, Any] | Config, directory: str | Path | None = None) -> Result:
    """Train one run. Without a directory nothing is written to disk.

    Nothing is shown but warnings, on standard error: `trainer.progress` is for the command line.
    config: a composed configuration (`slipstream.compose("optimizer=adam")`) or a validated one.
    Raises ConfigError and DataError, both UserError, before training starts.
    """
    return train_pack([config], None if directory is None else [directory])[0]


def train_pack(
    configs: Sequence[Mapping[str, Any] | Config], directories: Sequence[str | Path] | None = None
) -> list[Result]:
    """Train K runs as one stacked computation, each as if it were alone.

    The configurations may differ in seeds and in every number (learning rates, decays, penalty
    weights, rates of dropout, schedules, patience) and must agree in structure. Raises ConfigError
    where they do not.
    """
    if not configs:
        return []
    valid = [config if isinstance(config, Config) else validate(config) for config in configs]
    if len({signature(config) for config in valid}) > 1:
        raise ConfigError([_difference(valid)])
    places = [None] * len(valid) if directories is None else [Path(path) for path in directories]
    return run_pack(valid, places, [()] * len(valid), quiet=True)


def run(config: Config, directory: Path, overrides: Sequence[str] = (), resume: bool = False) -> Result:
    """Train the run of a directory, from its start or, resuming, from its newest good checkpoint."""
    return run_pack([config], [directory], [overrides], resume=resume)[0]


def run_pack(
    configs: Sequence[Config],
    directories: Sequence[Path | None],
    overrides: Sequence[Sequence[str]],
    *,
    resume: bool = False,
    quiet: bool = False,
) -> list[Result]:
    """Claim the directories, read the data, train, and write the summaries."""
    with ExitStack() as stack:
        for directory in directories:
            if directory is not None:
                stack.enter_context(rundir.claim(directory, resume=resume))
        interrupts = stack.enter_context(Interrupts())
        warnings: list[str] = []
        saved = [resuming.find(directory, warnings) if resume else None for directory in directories]
        saved = resuming.together(directories, saved)
        data = load({"name": configs[0].data.name, **configs[0].data.settings})
        configs = [_resolved(config, data, entry) for config, entry in zip(configs, saved, strict=True)]
        resuming.require_same_data(configs[0], data, saved)
        device = _set_up(configs[0])
        # Moments of nearly dead weights decay into denormal numbers, on which a CPU is many times slower.
        torch.set_flush_denormal(True)
        stack.callback(torch.set_flush_denormal, False)
        engine = Engine(configs, data, device)
        members = [Member(config, directory) for config, directory in zip(configs, directories, strict=True)]
        progress = resuming.begin(engine, members, saved)
        if resume and not any(map(resuming.unfinished, members)):
            return _nothing_left(engine, members, progress, interrupts, quiet)
        for member, typed in zip(members, overrides, strict=True):
            _write_start(member, typed, data)
        upto = engine.batching.steps * progress.epoch if resume else None
        loggers = [open_logger(member, engine, data, upto) for member in members]
        for logger in loggers:
            stack.callback(_close, logger)
        screen = Screen(
            "none" if quiet else configs[0].trainer.progress,
            configs[0].trainer.max_epochs,
            engine.batching.examples,
            progress.epoch,
        )
        screen.say(data.card)
        for warning in (*warnings, *data.warnings, *_warnings(configs[0], engine)):
            screen.warn(warning)
        if resume:
            screen.say(f"going on at epoch {progress.epoch + 1} of {configs[0].trainer.max_epochs}")
        made_with = summary.conditions(engine, data, device)
        recorder = Recorder(engine, members, loggers, screen, made_with)
        try:
            train_members(engine, members, progress, recorder, interrupts)
        finally:
            screen.close()
        results = summary.results(engine, members, progress, interrupts)
        for k, result in enumerate(results):
            summary.log_end(engine, members[k], k, result, progress, loggers[k])
            summary.write(engine, members[k], result, made_with)
            summary.show(screen, members[k], result)
        return results


def _resolved(config: Config, data: Data, saved: resuming.Saved | None) -> Config:
    """The configuration with what only the data, or an earlier start, could tell."""
    config = config.for_target(data.target)
    if component("loss", config.loss.name).traits.get("unscaled"):
        _require_counts(config, data)
    trainer = config.trainer
    if trainer.metrics == "auto":
        trainer = changed(trainer, metrics=list(defaults(data.target.task)))
    watched = config.early_stopping.settings["metric"].partition("/")[2]
    if watched not in ("loss", *trainer.metrics):
        trainer = changed(trainer, metrics=[*trainer.metrics, watched])
    if saved is not None:  # bytes are promised for the same threads and the same compile mode
        trainer = changed(trainer, compile=saved[1]["compile"], threads=saved[1]["threads"])
    metric = config.early_stopping.settings["metric"]
    if metric.startswith("val/") and not len(data.validation.inputs):
        raise ConfigError(
            [f"early_stopping.metric: {metric} needs validation data, and there is none; use train/loss"]
        )
    return changed(config, trainer=trainer)


def _require_counts(config: Config, data: Data) -> None:
    """A loss of counts needs targets in their own units, 0 or above."""
    if any(scale != 1 for scale in data.target.scale):
        raise ConfigError(
            [f"loss={config.loss.name}: is of counts, and they were scaled; set data.target_scaling=none"]
        )
    lowest = min(float(part.targets.min()) for part in (data.train, data.validation, data.test) if len(part))
    if lowest < 0:
        raise ConfigError(
            [f"loss={config.loss.name}: is of counts, 0 or above, and the target has {lowest:g}; take mse"]
        )


def _set_up(config: Config) -> torch.device:
    device = choose_device(config.trainer.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        found = "trainer.device: found cuda, this machine has no usable CUDA device"
        raise ConfigError([f"{found}; use auto or cpu"])
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    return device


def _nothing_left(
    engine: Engine, members: Sequence[Member], progress: Progress, interrupts: Interrupts, quiet: bool
) -> list[Result]:
    """The results of runs that ended before; their directories stay as they are."""
    results = summary.results(engine, members, progress, interrupts)
    screen = Screen("none" if quiet else members[0].config.trainer.progress, 0, 0)
    for result in results:
        screen.say(f"nothing left to do: {result.status}, {result.reason}")
        if result.status == FINISHED:
            screen.say("to go on, raise trainer.max_epochs")
    screen.close()
    return results


def _warnings(config: Config, engine: Engine) -> Iterator[str]:
    """Choices that are legal and do not do what was meant."""
    chosen = component("initializer", config.initializer.name).traits.get("warns")
    if chosen:
        yield f"initializer={config.initializer.name}: {chosen}"
    asked, batching = config.data.settings["batch_size"], engine.batching
    rows = batching.examples
    if asked != "full" and asked > rows:
        yield f"data.batch_size is {asked} and there are {rows} training rows: every batch holds all of them"
    elif batching.accumulate > 1 and batching.size * (batching.accumulate - 1) >= rows:
        yield f"trainer.accumulate is {batching.accumulate}: every update sees all {rows} training rows"
    warm_up, updates = config.scheduler.settings["warmup_steps"], batching.steps * config.trainer.max_epochs
    if warm_up >= updates:
        yield f"scheduler.warmup_steps: {warm_up}, but the run has {updates} updates: the rate stays below lr"
    if config.trainer.threads and config.trainer.threads > (os.cpu_count() or 1):
        yield f"trainer.threads is {config.trainer.threads} and there are {os.cpu_count()} processors"
    layers = engine.program.module.modules()
    if config.model.settings.get("residual") and not any(isinstance(layer, Residual) for layer in layers):
        yield "model.residual: no hidden layer is as wide as its input, so nothing is added"


def _write_start(member: Member, overrides: Sequence[str], data: Data) -> None:
    if member.directory is None:
        return
    rundir.write_start(member.directory, overrides, yaml_text(member.config.raw))
    fitted = {"inputs": data.preprocessing, "target": asdict(data.target)}
    replace(member.directory / "preprocessing.json", json.dumps(fitted, indent=1) + "\n")
    member.rewrite()
    # Written when a run ends: one that goes on has none.
    with writing(member.directory / rundir.SUMMARY):
        (member.directory / rundir.SUMMARY).unlink(missing_ok=True)


def _close(logger: TensorBoard | None) -> None:
    """Whatever happened: a full disk has been spoken of by then."""
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
