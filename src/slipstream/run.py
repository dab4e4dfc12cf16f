"""From a validated configuration to a finished run directory."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from dataclasses import replace as changed
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from slipstream import resuming, rundir
from slipstream.config import Config, validate
from slipstream.data import Data, load
from slipstream.errors import ConfigError
from slipstream.metrics import defaults, final
from slipstream.packs import signature
from slipstream.progress import Screen, metrics_table
from slipstream.recording import Recorder, flat, log_pictures, open_logger, yaml_text
from slipstream.registry import component
from slipstream.training.engine import Engine, choose_device
from slipstream.training.interrupts import Interrupts
from slipstream.training.loop import Progress
from slipstream.training.loop import train_pack as train_members
from slipstream.training.member import (
    DIVERGED,
    FINISHED,
    INTERRUPTED,
    STOPPED,
    Member,
    as_values,
    replace,
    writing,
)

if TYPE_CHECKING:
    from slipstream.loggers import TensorBoard

EXIT_CODES = {FINISHED: 0, STOPPED: 0, DIVERGED: 3}
Values = dict[str, float | None]


@dataclass(frozen=True)
class Result:
    """How a run ended.

    status: finished | stopped_early | diverged | interrupted. best, last: metrics of the weights of
    the best epoch and of the last, `split/name` -> value. weights: the parameters by name, those of
    the best epoch where early_stopping.restore_best is set. records: the lines of metrics.jsonl.
    exit_code: what the command line ends with.
    """

    status: str
    reason: str
    best_epoch: int
    best: Values
    last: Values
    records: list[dict[str, Any]] = field(repr=False)
    weights: dict[str, Tensor] = field(repr=False)
    directory: Path | None = None
    exit_code: int = 0


def train(config: Mapping[str, Any] | Config, directory: str | Path | None = None) -> Result:
    """Train one run. Without a directory nothing is written to disk.

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
        screen.say(data.summary)
        for warning in (*warnings, *data.warnings, *_warnings(configs[0], engine)):
            screen.warn(warning)
        recorder = Recorder(engine, members, loggers, screen, _conditions(engine, data, device))
        try:
            train_members(engine, members, progress, recorder, interrupts)
        finally:
            screen.close()
        results = _results(engine, members, progress, interrupts)
        for k, (member, result) in enumerate(zip(members, results, strict=True)):
            _finish(engine, data, member, result, loggers[k], k, progress, recorder.saved_with)
            _show(screen, result)
        return results


def _resolved(config: Config, data: Data, saved: resuming.Saved | None) -> Config:
    """The configuration with what only the data, or an earlier start, could tell."""
    config = config.for_target(data.target)
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


def _set_up(config: Config) -> torch.device:
    device = choose_device(config.trainer.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        found = "trainer.device: found cuda, this machine has no usable CUDA device"
        raise ConfigError([f"{found}; use auto or cpu"])
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    # Moments of nearly dead weights decay into denormal numbers, on which a CPU is many times slower.
    torch.set_flush_denormal(True)
    return device


def _nothing_left(
    engine: Engine, members: Sequence[Member], progress: Progress, interrupts: Interrupts, quiet: bool
) -> list[Result]:
    """The results of runs that ended before; their directories stay as they are."""
    results = _results(engine, members, progress, interrupts)
    screen = Screen("none" if quiet else members[0].config.trainer.progress, 0, 0)
    for result in results:
        screen.say(f"nothing left to do: {result.status}, {result.reason}")
        if result.status == FINISHED:
            screen.say("to go on, raise trainer.max_epochs")
    screen.close()
    return results


def _warnings(config: Config, engine: Engine) -> Iterator[str]:
    chosen = component("initializer", config.initializer.name).traits.get("warns")
    if chosen:
        yield f"initializer={config.initializer.name}: {chosen}"
    asked, batching = config.data.settings["batch_size"], engine.batching
    if asked != "full" and asked > batching.examples:
        yield (
            f"data.batch_size is {asked} and there are {batching.examples} training rows: "
            "every batch holds all of them"
        )


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


def _conditions(engine: Engine, data: Data, device: torch.device) -> dict[str, Any]:
    """What the bytes of a run depend on besides its configuration."""
    return {
        "fingerprint": data.fingerprint,
        "compile": engine.compiled,
        "threads": torch.get_num_threads(),
        "device": device.type,
        "versions": {
            "slipstream": version("slipstream"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _results(
    engine: Engine, members: Sequence[Member], progress: Progress, interrupts: Interrupts
) -> list[Result]:
    last = _all_metrics(engine, engine.evaluated(progress.state))
    best = _all_metrics(engine, progress.best)
    results = []
    for k, member in enumerate(members):
        chosen = progress.best[0] if member.restores_best else engine.evaluated(progress.state)[0]
        weights = engine.program.layout.unflatten(engine.pack.member(chosen, k))
        code = interrupts.exit_code if member.status == INTERRUPTED else EXIT_CODES[member.status]
        results.append(
            Result(
                member.status,
                member.reason,
                member.best_epoch,
                best[k],
                last[k],
                member.records,
                weights,
                member.directory,
                code,
            )
        )
    return results


def _all_metrics(engine: Engine, evaluated: Any) -> list[Values]:
    """Every metric of the task on every split, in evaluation mode, one mapping a member."""
    target = engine.program.target
    probabilistic = engine.program.loss.part.traits.get("probabilistic", False)
    names = final(target.task, len(target.classes), probabilistic)
    values: list[Values] = [{} for _ in engine.configs]
    for split, examples in engine.examples.items():
        if len(examples.inputs):
            table = engine.measure(split, engine.predict(evaluated, split), names)
            keys = [f"{split}/{name}" for name in ("loss", *names)]
            for mapping, row in zip(values, engine.pack.rows(table), strict=True):
                mapping |= as_values(keys, row)
    return values


def _finish(
    engine: Engine,
    data: Data,
    member: Member,
    result: Result,
    logger: Any,
    k: int,
    progress: Progress,
    conditions: Mapping[str, Any],
) -> None:
    if member.directory is None:
        return
    summary = {
        "status": result.status,
        "reason": result.reason,
        "best_epoch": result.best_epoch,
        "epochs": len(member.records),
        "best": result.best,
        "last": result.last,
        "parameters": engine.program.layout.size,
        "steps": member.records[-1]["step"] if member.records else 0,
        "seconds": round(member.seconds, 3),
        "dtype": member.config.trainer.dtype,
        "seed": member.config.seed,
        "loss": member.config.loss.name,
        **conditions,
    }
    if logger is not None and member.status != INTERRUPTED:  # the end is logged when it is one
        split = "val" if len(data.validation.inputs) else "train"
        chosen = progress.best if member.restores_best else engine.evaluated(progress.state)
        outputs = engine.pack.member(engine.predict(chosen, split), k)
        with writing(logger.path):
            log_pictures(logger, engine, k, outputs, split, summary["steps"])
            logger.scalars(_of_the_best(member, result), summary["steps"])
            logger.hparams_end(success=result.exit_code == 0)
            logger.close()
    # Last: where it stands, the run came to its end.
    replace(member.directory / rundir.SUMMARY, json.dumps(summary, indent=1, allow_nan=False) + "\n")


def _of_the_best(member: Member, result: Result) -> Values:
    """The best epoch's metrics, as tags of their own: what the HParams table should rank by."""
    names = ("loss", *member.config.trainer.metrics)
    return {f"best/{key}": value for key, value in result.best.items() if key.partition("/")[2] in names}


def _show(screen: Screen, result: Result) -> None:
    if screen.kind == "none":
        return
    screen.console.print(metrics_table(result.best, f"metrics of the best epoch ({result.best_epoch})"))
    screen.say(f"{result.status}: {result.reason}")
    if result.directory is not None:
        screen.say(f"run: {result.directory}")
        if result.status == INTERRUPTED:
            screen.say(f"continue: resume={result.directory}")
        screen.say(f"curves: tensorboard --logdir {result.directory.parent}")


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
