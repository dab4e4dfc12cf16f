"""Recording of a pack: TensorBoard events, metrics.jsonl and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import yaml

from slipstream.core.registry import LISTS
from slipstream.core.storage import side_by_side, writing
from slipstream.core.types import Plain
from slipstream.metrics import confusion_matrix
from slipstream.runs import checkpoints
from slipstream.runs.diagnostics import confusion_picture, scatter_picture
from slipstream.training.member import BROKEN, DIVERGED, INTERRUPTED
from slipstream.training.snapshot import take

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.data import Data
    from slipstream.loggers.tensorboard import TensorBoard
    from slipstream.runs.tracking import RunLog
    from slipstream.training.engine import Engine
    from slipstream.training.loop import Progress
    from slipstream.training.member import Member

FLUSH_SECONDS = 1.0  # opening two files per member every epoch took a third of a large pack's time
GROUP_FREE = ("seed",)  # runs that differ only in these settings share a row of the HParams table
# Settings by which runs are compared. The other settings of data and trainer do not affect results.
COMPARED = {"data": ("name", "batch_size"), "trainer": ("max_epochs", "accumulate", "dtype")}
NOT_COMPARED = ("name", "logger")
CHANGED = "changed"  # the hyperparameter that lists the differences from the defaults
FIRST = (CHANGED, "data.name", "model.name", "optimizer.lr", "optimizer.name")  # columns shown by default
NO_SCALARS = ("epoch", "step")
SPLITS = ("train", "val")  # splits whose metrics a record has
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the C version, if available: six times faster


class Recorder:
    """The recorder of a pack: event files, metrics.jsonl and checkpoints.

    loggers: those of each member, or None if it logs nothing. members and loggers may be replaced in
    their lists while the pack trains. warn: called with undefined metrics and with loggers' errors.
    news: returns the loggers' warnings.
    """

    def __init__(
        self,
        engine: Engine,
        members: Sequence[Member],
        loggers: Sequence[RunLog | None],
        warn: Callable[[str], None],
        saved_with: Callable[[Engine, int], Mapping[str, Plain]],
        news: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._news = news
        self.engine, self.members, self.loggers, self.warn = engine, members, loggers, warn
        self.saved_with = saved_with
        self._trainer = members[0].config.trainer
        self._last_save = self._last_flush = time.monotonic()
        # Reported once per metric and run, not by each process that continues it.
        self._undefined = {name for m in members for record in m.records for name in _undefined(record)}

    def epoch(self, progress: Progress, finished: Sequence[int]) -> None:
        """Log the epoch. Save the members that have stopped and, at intervals, all members."""
        done = [k for k, member in enumerate(self.members) if member.running or k in finished]
        for k in done:
            if self.members[k].status not in BROKEN:  # otherwise its last epoch has no record
                self._log(progress, k)
                self._warn(self.members[k])
        for text in self._news():
            self.warn(text)
        now = time.monotonic()
        save = now - self._last_save >= self._trainer.checkpoint_seconds
        flush = save or now - self._last_flush >= FLUSH_SECONDS
        for k in done if flush else finished:
            self._flush(k)
        self._save(progress, done if save else finished)
        if flush:
            self._last_flush = now
        if save:
            self._last_save = now

    def interrupted(self, progress: Progress, broken: Sequence[int] = ()) -> None:
        """Save all members that were running, and finalize those that diverged in the unfinished epoch."""
        stopped = [k for k, member in enumerate(self.members) if member.status == INTERRUPTED]
        for k in (*stopped, *broken):
            self._flush(k)
        self._save(progress, stopped)
        self._save(replace(progress, seen=[]), broken)

    def save(self, progress: Progress) -> None:
        """Save all running members at the end of an epoch."""
        self._save(progress, [k for k, member in enumerate(self.members) if member.running])

    def move(self, engine: Engine, members: Sequence[Member], loggers: Sequence[RunLog | None]) -> None:
        """Continue with some of the members in an engine of another size."""
        self.engine, self.members, self.loggers = engine, members, loggers

    def _flush(self, k: int) -> None:
        self.members[k].flush()
        log = self.loggers[k]
        if log is not None and log.tensorboard is not None:
            with writing(log.tensorboard.path):
                log.tensorboard.flush()

    def _warn(self, member: Member) -> None:
        """Warn about metrics that became undefined."""
        record = member.records[-1]
        names = [name for name in _undefined(record) if name not in self._undefined]
        if names:
            self._undefined |= set(names)
            self.warn(f"epoch {record['epoch']}: undefined metrics, recorded as null: {', '.join(names)}")

    def _log(self, progress: Progress, k: int) -> None:
        log, member = self.loggers[k], self.members[k]
        if log is None:
            return
        record = member.records[-1]
        log.epoch(record)
        logger = log.tensorboard
        if logger is None:
            return
        penalty = {} if member.penalty is None else {"train/penalty": member.penalty}
        logger.scalars({n: v for n, v in record.items() if n not in NO_SCALARS} | penalty, record["step"])
        for split in logger.curves:
            log_curve(logger, split, member, record)
        times = member.config.loggers["tensorboard"]["histograms"]
        if member.observations and member.observations[-1]["epoch"] == record["epoch"]:
            observed = {name: v for name, v in member.observations[-1].items() if name not in NO_SCALARS}
            logger.scalars(observed, record["step"])
            if member.samples:
                logger.histograms(member.samples, record["step"])
        if times and member.epoch % max(self._trainer.max_epochs // times, 1) == 0:
            params = self.engine.pack.member(progress.state.params, k)
            named = self.engine.program.layout.unflatten(params.detach().cpu())
            arrays = {f"weights/{name}": value.numpy().ravel() for name, value in named.items()}
            logger.histograms(arrays, record["step"])

    def _save(self, progress: Progress, which: Sequence[int]) -> None:
        def save(k: int) -> None:
            member = self.members[k]
            if member.directory is None:
                return
            tensors, described = take(self.engine, progress, member, k)
            begun = member.epoch + (member.status == DIVERGED)
            step = begun * self.engine.batching.steps + len(progress.seen)
            state = described | dict(self.saved_with(self.engine, k))
            checkpoints.save(member.directory / "checkpoints", step, tensors, state, self._trainer.keep)

        side_by_side(save, which)


def _undefined(record: Mapping[str, Plain]) -> list[str]:
    return [name for name, value in record.items() if value is None]


def open_logger(
    member: Member,
    engine: Engine,
    data: Data,
    text: str,
    upto: int | None,
    swept: Collection[str] = (),
    changed: str | None = None,
) -> TensorBoard | None:
    """Open the member's TensorBoard log and write everything known before training; None if it logs nothing.

    text: the configuration as YAML. changed: for a run outside a sweep, its differences from the defaults.
    The logger shows training and validation in one chart, which needs a folder for each of them, and selects
    the columns of the HParams table.
    """
    if "tensorboard" not in member.config.loggers or member.directory is None:
        return None
    from slipstream.loggers.tensorboard import CURVES, TensorBoard

    splits = () if changed is None else [name for name in SPLITS if engine.splits.rows[name]]
    logger = TensorBoard(member.directory, upto, curves=splits)
    if logger.resumed:
        for split in (name for name, curve in logger.curves.items() if not curve.resumed):
            for record in member.records:  # older versions wrote no curves
                log_curve(logger, split, member, record)
        return logger
    config = member.config
    metrics = charted(config)
    shown = hyperparameters(config.raw, swept)
    if changed is None:
        logger.charts({name: [f"{split}/{name}" for split in SPLITS] for name in metrics})
    else:
        shown |= {CHANGED: changed}
        titles = [config.early_stopping.settings["metric"], *(f"val/{name}" for name in metrics)]
        logger.columns({key: [value] for key, value in shown.items()}, titles, first=FIRST)
        logger.charts(
            {name: [f"{CURVES}/{name}$"] for name in metrics}, "train and validation, in two colors"
        )
    logger.hparams(shown, group=hash_of(config.raw))
    logger.text("configuration", f"```yaml\n{text}```")
    logger.text("data", data.summary)
    if config.loggers["tensorboard"]["graph"]:
        logger.graph(graph_of(engine))
    if engine.program.augmentations and engine.program.form.kind == "image":
        from slipstream.runs.augmentation_preview import augmented

        logger.image("train/augmentation", augmented(engine, config), 0)
    return logger


def charted(config: Config) -> list[str]:
    """Return the metrics that are computed on every split after every epoch."""
    return ["loss", *config.trainer.metrics]


def log_curve(logger: TensorBoard, split: str, member: Member, record: Mapping[str, Plain]) -> None:
    """Log an epoch's metrics of a split for the charts that show training and validation together."""
    values = {name: record.get(f"{split}/{name}") for name in charted(member.config)}
    logger.curve(split, values, record["step"])


@lru_cache(maxsize=1)
def graph_of(engine: Engine) -> bytes:
    """Return the network's graph, traced only once for all members, since tracing is slow.

    torch can trace only in one thread, so it must be ready before members are opened in parallel.
    """
    from slipstream.loggers.graph import trace

    example = engine.splits.training_inputs(engine.folds[0])[:1]
    return trace(engine.program.infer.module, example.to(engine.device))


def log_pictures(
    logger: TensorBoard, engine: Engine, k: int, outputs: torch.Tensor, split: str, step: int
) -> None:
    """Log confusion matrices or predicted against true values, from member k's outputs [N, C] for a split."""
    program, target = engine.program, engine.program.target
    scores = program.scores(outputs, program.numbers(engine.configs[k]))
    part = engine.splits.part(split, engine.folds[k])
    if target.task in ("binary", "multiclass"):
        counts = confusion_matrix(scores, part.metric_targets, (part.counts > 0).float()).cpu().numpy()
        logger.image(f"{split}/confusion_matrix", confusion_picture(counts, target.classes), step)
    elif target.task == "regression":
        true, predicted = (v.cpu().numpy() for v in (part.metric_targets, scores))
        for column, name in enumerate(target.names):
            picture = scatter_picture(true[:, column], predicted[:, column], name)
            logger.image(f"{split}/{name}_predicted_against_true", picture, step)


def flat(mapping: Mapping[str, Plain], prefix: str = "") -> dict[str, Plain]:
    """Flatten a nested mapping to dotted keys.

    >>> flat({"model": {"depth": 2}, "seed": 0})
    {'model.depth': 2, 'seed': 0}
    """
    result: dict[str, Plain] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value
    return result


def hyperparameters(raw: Mapping[str, Plain], swept: Collection[str] = ()) -> dict[str, Plain]:
    """Return the settings that the HParams table shows, by dotted key.

    swept: keys that are always shown. The table omits runs that lack one of its columns, so null and empty
    values are written as text.
    """
    kept = {key: value for key, value in raw.items() if key not in NOT_COMPARED}
    for group, names in COMPARED.items():
        kept[group] = {name: kept[group][name] for name in names}
    every = flat(raw)
    shown = {key: value for key, value in flat(kept).items() if value is not None}
    shown |= {key: "null" if every[key] is None else every[key] for key in swept if key in every}
    return shown | {
        group: ", ".join(raw.get(group, ())) or "none" for group in LISTS if group not in NOT_COMPARED
    }


def hash_of(raw: Mapping[str, Plain]) -> str:
    """Return a hash of a configuration without its seed, which is the same for repeats of a run."""
    import hashlib
    import json

    kept = {key: value for key, value in raw.items() if key not in GROUP_FREE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def yaml_text(raw: Mapping[str, Plain]) -> str:
    """Format a plain nested mapping as YAML."""
    return yaml.dump(dict(raw), Dumper=DUMPER, sort_keys=False, allow_unicode=True)
