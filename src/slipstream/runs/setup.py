"""Setup between a validated configuration and its first step, which depends on data and machine."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from slipstream.config.changes import changes
from slipstream.config.run_config import Config
from slipstream.config.validation import for_target
from slipstream.core import folders, kernels, storage
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.registry import component
from slipstream.core.traits import foreign
from slipstream.core.wording import counted, sizes
from slipstream.data import Data, load
from slipstream.data.in_memory import InMemory
from slipstream.metrics import defaults, every
from slipstream.models.layers import Residual
from slipstream.runs import run_folder
from slipstream.runs.advice import advice
from slipstream.runs.monitoring import require_defined
from slipstream.runs.recorder import flat, open_logger, yaml_text
from slipstream.runs.tracking import RunLog, Tracking
from slipstream.training.backend.compilation import cache_problem
from slipstream.training.backend.compilers import no_room
from slipstream.training.backend.memory import free_bytes, keep_freed
from slipstream.training.engine import Engine, choose_device
from slipstream.training.member import Member

if TYPE_CHECKING:
    from pathlib import Path

    from slipstream.training.snapshot import Taken

SMALL = 10**6  # parameters x examples per update
IMAGES_SHARE = 0.5  # the fraction of free memory for images; the rest is for networks

OUT_OF_MEMORY = ("DefaultCPUAllocator", "can't allocate", "bad_alloc", "out of memory")


def load_all(configs: Sequence[Config], given: InMemory | None = None) -> tuple[list[Data], list[int]]:
    """Return the data of all configurations, loaded once per fold, and an index for each configuration.

    given: the rows of data=memory.
    """
    read: dict[str, Data] = {}
    streams = "streaming" in configs[0].data.settings or foreign(
        component("data", configs[0].data.name).function
    )
    room = _room(configs[0]) if streams else None
    folds = len(set(map(data_key, configs)))
    if room is not None and folds > 1:  # each fold has all images, and they are concatenated once more
        room //= 2 * folds
    for config in configs:
        if (key := data_key(config)) not in read:
            read[key] = load({"name": config.data.name, **config.data.settings}, room, given)
    places = {key: place for place, key in enumerate(read)}
    return list(read.values()), [places[data_key(config)] for config in configs]


def _room(config: Config) -> int | None:
    """Return the bytes that images may occupy on the device, and in host memory on the way there."""
    device = device_of(config)
    places = {torch.device("cpu"), device} if torch.cuda.is_available() else {torch.device("cpu")}
    free = [room for place in places if (room := free_bytes(place)) is not None]
    return int(min(free) * IMAGES_SHARE) if free else None


def data_key(config: Config) -> str:
    """Return a key that is equal for configurations with the same data."""
    return json.dumps(config.raw["data"], sort_keys=True)


def form(data: Data) -> object:
    """Return the properties that data of one pack must share: sizes, shapes, and the target's scaling."""
    splits = (data.train, data.validation, data.test)
    return [(split.inputs.shape, split.targets.shape) for split in splits], data.target


def as_saved(config: Config, saved: Taken | None) -> Config:
    """Return the configuration with a checkpoint's threads and compile mode, which determine its bytes."""
    if saved is None:
        return config
    conditions = {name: saved[1][name] for name in ("compile", "threads")}
    return replace(config, trainer=replace(config.trainer, **conditions))


def resolve(config: Config, data: Data) -> Config:
    """Return the configuration with all settings that depend on the data."""
    config = for_target(config, data.target)
    if component("loss", config.loss.name).traits.unscaled:
        _require_counts(config, data)
    trainer = config.trainer
    if trainer.metrics == "auto":
        trainer = replace(trainer, metrics=defaults(data.target.task))
    elif trainer.metrics == "all":
        probabilistic = component("loss", config.loss.name).traits.probabilistic
        trainer = replace(trainer, metrics=every(data.target.task, len(data.target.classes), probabilistic))
    watched = config.early_stopping.settings["metric"].partition("/")[2]
    if watched not in ("loss", *trainer.metrics):
        trainer = replace(trainer, metrics=[*trainer.metrics, watched])
    if trainer.portable and trainer.compile == "auto":  # otherwise the pack and a compiler would decide
        trainer = replace(trainer, compile=False)
    metric = config.early_stopping.settings["metric"]
    if metric.startswith("val/") and not len(data.validation.inputs):
        raise ConfigError(
            [
                f"early_stopping.metric: {metric} needs validation data, but there is none; use "
                "early_stopping.metric=train/loss"
            ]
        )
    require_defined(config, data, metric)
    return replace(config, trainer=trainer)


def _require_counts(config: Config, data: Data) -> None:
    """Raise ConfigError unless the targets of a loss for counts are unscaled and >= 0."""
    if any(scale != 1 for scale in data.target.scale):
        raise ConfigError(
            [
                f"loss={config.loss.name}: is for counts, but the targets were scaled; set "
                f"data.target_scaling=none"
            ]
        )
    lowest = min(float(part.targets.min()) for part in (data.train, data.validation, data.test) if len(part))
    if lowest < 0:
        raise ConfigError(
            [f"loss={config.loss.name}: is for counts >= 0, but the target contains {lowest:g}; use loss=mse"]
        )


def set_up(config: Config) -> torch.device:
    """Return the device to train on, with the number of threads set. Raises ConfigError if there is none."""
    device = device_of(config)
    if device.type == "cuda" and not torch.cuda.is_available():
        found = "trainer.device: found cuda, but this machine has no usable CUDA device"
        raise ConfigError([f"{found}; use trainer.device=auto or cpu"])
    if config.trainer.portable:  # the order of a sum depends on the number of threads
        torch.set_num_threads(1)
    elif config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    if device.type == "cuda":
        prefer_deterministic_kernels()
    keep_freed()
    cache_problem()  # it may select another folder, which parts of torch read when imported
    return device


def device_of(config: Config) -> torch.device:
    """Return the device of a configuration, which may not exist on this machine."""
    return choose_device("cpu" if config.trainer.portable else config.trainer.device)


@contextmanager
def portable_kernels(config: Config) -> Iterator[None]:
    """Select the kernels of `trainer.portable`: those that all processors with AVX2 share, without oneDNN.

    oneDNN generates code for each processor. Enter this before anything is computed.
    Raises ConfigError if such kernels are not available.
    """
    if not config.trainer.portable:
        yield
        return
    if problem := kernels.make_portable():
        raise ConfigError([f"trainer.portable: {problem}"])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (enabled, *_) = torch.backends.mkldnn.set_flags(False, _fp32_precision=None)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(enabled, _fp32_precision=None)
        torch.set_num_threads(threads)


@contextmanager
def limit_threads(engine: Engine) -> Iterator[None]:
    """Use one thread for a single small dense network, because two would mostly wait for each other.

    On 2 cores it saves a fifth of a compiled step at widths 16 to 64; at 128 it would cost a third.
    """
    trainer, before = engine.configs[0].trainer, torch.get_num_threads()
    dense = component("model", engine.configs[0].model.name).traits.dense
    work = engine.program.layout.size * engine.batching.size
    if trainer.threads is None and engine.pack.single and dense and work <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prefer_deterministic_kernels() -> None:
    """Prefer deterministic kernels. torch warns about operations without one.

    On a CPU, all kernels in use are deterministic, and the mode would only fill new memory.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by the first matrix product
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch sets it by a property of the module


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Flush denormals, which are slow on a CPU. The moments of nearly dead weights decay to them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def warnings(config: Config, engine: Engine) -> Iterator[str]:
    """Yield warnings about valid choices that do not have the intended effect."""
    chosen = component("initializer", config.initializer.name).traits.warns
    if chosen:
        yield f"initializer={config.initializer.name}: {chosen}"
    asked, batching = config.data.settings["batch_size"], engine.batching
    rows, training = batching.examples, counted(batching.examples, "training row")
    if asked != "full" and asked > rows:
        yield f"data.batch_size is {asked}, more than the {training}: every batch contains all of them"
    elif batching.accumulate > 1 and batching.size * (batching.accumulate - 1) >= rows:
        yield f"trainer.accumulate is {batching.accumulate}: every update sees all of the {training}"
    warm_up, updates = config.scheduler.settings["warmup_steps"], batching.steps * config.trainer.max_epochs
    if warm_up >= updates:
        made = counted(updates, "update")
        yield f"scheduler.warmup_steps: {warm_up}, but the run has {made}: the learning rate stays below lr"
    if config.trainer.portable and (config.trainer.threads or 1) > 1:
        yield f"trainer.threads is {config.trainer.threads}, but trainer.portable uses one thread"
    elif config.trainer.threads and config.trainer.threads > (os.cpu_count() or 1):
        has = counted(os.cpu_count() or 1, "processor")
        yield f"trainer.threads is {config.trainer.threads}, but this machine has {has}"
    if engine.compiled and (problem := cache_problem()):
        yield problem
    elif config.trainer.compile == "auto" and (full := no_room()):
        yield f"trainer.compile: {full}: nothing is compiled"
    layers = engine.program.module.modules()
    if config.model.settings.get("residual") and not any(isinstance(layer, Residual) for layer in layers):
        yield "model.residual: no hidden layer is as wide as its input, so it has no effect"
    norms = [n for n in config.regularizers if component("regularizer", n).traits.place == "norm"]
    if component("model", config.model.name).traits.grows and not norms:
        yield (
            f"model={config.model.name}: without a normalization its values grow from block to block; "
            "add regularizer=batch_norm"
        )
    yield from advice(config, engine.program.form)


def optimism(config: Config, data: Data) -> str | None:
    """Return a note on a fold whose rows choose the epoch that they evaluate; sweeps report their own."""
    if config.data.settings["folds"] is None or len(data.test.inputs) or config.trainer.max_epochs == 1:
        return None
    return (
        "the fold's metrics are optimistic, because the same rows select its best epoch and evaluate it; "
        "data.test=0.2 holds out independent rows"
    )


def open_member(
    member: Member,
    overrides: Sequence[str],
    engine: Engine,
    k: int,
    *,
    resume: bool,
    swept: Collection[str] = (),
    alone: bool = False,
    tracking: Tracking | None = None,
    sweep: Path | None = None,
) -> RunLog | None:
    """Write everything known about a member before its first step. Return its loggers; None without a folder.

    swept: keys that the HParams table must show. alone: True for a run that is not part of a sweep. Files of
    a sweep's member are not synced to disk, since it does not need them to restart. tracking: opens the
    loggers other than TensorBoard. sweep: the folder of the member's sweep.
    """
    if member.directory is None:
        return None
    data = engine.splits.data[engine.folds[k]]
    text = yaml_text(member.config.raw)
    run_folder.write_start(member.directory, overrides, text, sync=alone)
    storage.replace(member.directory / "preprocessing.json", data.fitted, sync=alone)
    member.rewrite(sync=alone)
    # These are written when a run ends, so a run that continues has none.
    with storage.writing(member.directory / run_folder.SUMMARY):
        folders.remove(member.directory / run_folder.SUMMARY)
    upto = engine.batching.steps * member.epoch if resume else None
    changed = (" ".join(changes(member.config.raw)) or "nothing") if alone else None
    board = open_logger(member, engine, data, text, upto, swept, changed)
    known = (member.config, member.directory, member.records, flat(member.config.raw), sweep, swept)
    return RunLog(board, tracking.begin(*known) if tracking is not None else [])


def out_of_memory(error: BaseException) -> bool:
    """Return True if an error means that memory could not be allocated."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


@contextmanager
def explain_oom(config: Config) -> Iterator[None]:
    """Convert an out-of-memory error to a message that suggests which setting to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        said = str(error).partition("\n")[0] or "the system refused more"
        batch, hint = config.data.settings["batch_size"], ""
        if batch != "full" and batch % 2 == 0:
            halved = f"data.batch_size={batch // 2} trainer.accumulate={2 * config.trainer.accumulate}"
            hint = f" ({halved} makes the same updates)"
        raise UserError(
            f"out of memory ({said}) with data.batch_size={batch}, "
            f"{sizes(config.model.settings)}: lower one of them{hint}. Checkpoints are not affected."
        ) from error
