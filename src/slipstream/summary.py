"""How a run ended: its result, summary.json, the last pictures and the table on the screen."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from slipstream import rundir
from slipstream.files import replace, writing
from slipstream.metrics import final
from slipstream.progress import Screen, metrics_table
from slipstream.recording import log_pictures
from slipstream.training.engine import Engine
from slipstream.training.interrupts import Interrupts
from slipstream.training.loop import Progress
from slipstream.training.member import DIVERGED, FINISHED, INTERRUPTED, STOPPED, Member, as_values

if TYPE_CHECKING:
    from slipstream.data import Data
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


def conditions(engine: Engine, data: Data, device: torch.device) -> dict[str, Any]:
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


def results(
    engine: Engine, members: Sequence[Member], progress: Progress, interrupts: Interrupts
) -> list[Result]:
    """One result a member, with every metric of the best and of the last weights."""
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


def log_end(
    engine: Engine, member: Member, k: int, result: Result, progress: Progress, logger: TensorBoard | None
) -> None:
    """The end of a run in TensorBoard; one that was interrupted has not come to it."""
    if logger is None or member.status == INTERRUPTED:
        return
    split = "val" if len(engine.examples["val"].inputs) else "train"
    chosen = progress.best if member.restores_best else engine.evaluated(progress.state)
    outputs = engine.pack.member(engine.predict(chosen, split), k)
    with writing(logger.path):
        log_pictures(logger, engine, k, outputs, split, _steps(member))
        logger.scalars(_of_the_best(member, result), _steps(member))
        logger.hparams_end(success=result.exit_code == 0)
        logger.close()


def write(engine: Engine, member: Member, result: Result, made_with: Mapping[str, Any]) -> None:
    """summary.json, the last file of a run: where it stands, the run came to its end."""
    if member.directory is None:
        return
    content = {
        "status": result.status,
        "reason": result.reason,
        "best_epoch": result.best_epoch,
        "epochs": len(member.records),
        "best": result.best,
        "last": result.last,
        "parameters": engine.program.layout.size,
        "steps": _steps(member),
        "seconds": round(member.seconds, 3),
        "dtype": member.config.trainer.dtype,
        "seed": member.config.seed,
        "loss": member.config.loss.name,
        **made_with,
    }
    replace(member.directory / rundir.SUMMARY, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _steps(member: Member) -> int:
    return member.records[-1]["step"] if member.records else 0


def _of_the_best(member: Member, result: Result) -> Values:
    """The best epoch's metrics, as tags of their own: what the HParams table should rank by."""
    names = ("loss", *member.config.trainer.metrics)
    return {f"best/{key}": value for key, value in result.best.items() if key.partition("/")[2] in names}


def show(screen: Screen, member: Member, result: Result) -> None:
    """The metrics, why it ended, and where everything is."""
    if screen.kind == "none":
        return
    which = f"epoch {result.best_epoch}, the best by {member.metric}"
    title = f"metrics of {which if result.best_epoch else 'the untrained network: no epoch was finished'}"
    screen.console.print(metrics_table(result.best, title))
    advice = "; lower optimizer.lr, or add regularizer=gradient_clipping" if result.status == DIVERGED else ""
    screen.say(f"{result.status}: {result.reason}{advice}")
    if result.directory is not None:
        screen.say(f"run: {result.directory}")
        if result.status == INTERRUPTED:
            screen.say(f"go on: python train.py resume={result.directory}")
        screen.say(f"curves: tensorboard --logdir {result.directory.parent}")
