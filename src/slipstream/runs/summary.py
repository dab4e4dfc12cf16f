"""The end of a run: its result, summary.json, the final images and the table in the terminal."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from slipstream.core import kernels
from slipstream.core.console import metrics_table
from slipstream.core.storage import replace, side_by_side, writing
from slipstream.core.types import Plain
from slipstream.core.version import __version__
from slipstream.core.wording import shell, typed
from slipstream.runs import run_folder
from slipstream.runs.progress import Screen
from slipstream.runs.recorder import charted, log_pictures
from slipstream.training.engine import TOGETHER, Best, Engine
from slipstream.training.evaluate import final_names
from slipstream.training.loop import Progress
from slipstream.training.member import (
    AGAINST_DIVERGENCE,
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    PRUNED,
    STOPPED,
    Member,
    as_values,
)

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.core.types import Target
    from slipstream.loggers.tensorboard import TensorBoard
    from slipstream.runs.tracking import RunLog

ENDED = (FINISHED, STOPPED, PRUNED)
EXIT_CODES = {FINISHED: 0, STOPPED: 0, PRUNED: 0, DIVERGED: 3, FAILED: 3}
FAR = 1.5  # a loss larger than this multiple of log_loss is explained
Values = dict[str, float | None]


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        status: finished | stopped_early | diverged | interrupted; in a sweep also pruned | failed.
        reason: a sentence that explains the status.
        best_epoch: the best epoch, from 1; 0 if none was finished.
        best: metrics of the weights of the best epoch, `split/name` -> value, None if undefined.
        last: the same for the weights of the last epoch.
        records: the lines of metrics.jsonl, one per epoch.
        weights: the parameters by name (with a leading axis of networks for a snapshot ensemble), from the
            best epoch if early_stopping.restore_best is set.
        directory: the run's folder, or None.
        exit_code: the exit code of the command line.
        observations: this session's lines of observations.jsonl, with statistics of each layer.

    Example:
        >>> import slipstream
        >>> result = slipstream.train(slipstream.compose("data=iris", "trainer.max_epochs=1"))
        >>> result.best_epoch, 0 <= result.best["val/accuracy"] <= 1
        (1, True)
    """

    status: str
    reason: str
    best_epoch: int
    best: Values
    last: Values
    records: list[dict[str, Plain]] = field(repr=False)
    weights: dict[str, Tensor] = field(repr=False)
    directory: Path | None = None
    exit_code: int = 0
    observations: list[dict[str, Plain]] = field(default_factory=list, repr=False)


def conditions(engine: Engine, k: int) -> dict[str, Plain]:
    """Return the conditions that the bytes of member k depend on in addition to its configuration."""
    return {
        "fingerprint": engine.splits.data[engine.folds[k]].fingerprint,
        "packed": not engine.pack.single,
        "compile": engine.compiled,
        "threads": torch.get_num_threads(),
        "mkl_cbwr": kernels.mode(),
        "cpu_capability": kernels.capability(),
        "device": engine.device.type,
        "versions": _versions(),
        **({"weights": engine.weights_digest} if engine.weights_digest else {}),
    }


@cache
def _versions() -> dict[str, str]:
    return {
        "slipstream": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def conclude(
    engine: Engine,
    members: Sequence[Member],
    places: Sequence[int],
    progress: Progress,
    loggers: Sequence[RunLog | None],
    exit_code: int,
    *,
    chosen: bool = True,
) -> list[Result]:
    """Write the results of the members in some slots to summary.json and TensorBoard, and return them.

    exit_code: for an interrupted run. chosen: True to write test scores to TensorBoard, which must not happen
    while one of several runs is still to be selected.
    """
    results = []
    for first in range(0, len(places), TOGETHER):
        here = places[first : first + TOGETHER]
        endings = _endings(engine, members, here, progress, exit_code)

        def finish(end: tuple[int, Result, Tensor]) -> None:
            k, result, outputs = end
            log = loggers[k]
            board = None if log is None else log.tensorboard
            log_end(engine, members[k], k, result, outputs, board, chosen=chosen)
            write(engine, members[k], k, result)
            if log is not None:  # last: it may send the summary
                log.end(result.status, _logged(members[k], result, chosen=chosen), result.best_epoch)

        side_by_side(finish, endings)
        results += [result for _, result, _ in endings]
    return results


def results(
    engine: Engine, members: Sequence[Member], places: Sequence[int], progress: Progress, exit_code: int
) -> list[Result]:
    """Return the results of the members in some slots without writing anything."""
    return [result for _, result, _ in _endings(engine, members, places, progress, exit_code)]


def _endings(
    engine: Engine, members: Sequence[Member], places: Sequence[int], progress: Progress, exit_code: int
) -> list[tuple[int, Result, Tensor]]:
    """Yield slot, result with the metrics of the best and the last weights, and the outputs to show."""
    last = engine.evaluated(progress.state)
    shown = engine.splits.shown
    best_values = _all_metrics(engine, progress.best, places, shown)
    # For members that ended with their best epoch, the last weights are the best ones.
    later = [k for k in places if members[k].best_epoch < members[k].epoch or members[k].status not in ENDED]
    last_values = best_values | (_all_metrics(engine, last, later, shown) if later else {})
    endings = []
    for k in places:
        member = members[k]
        chosen, (_, outputs) = (
            (progress.best, best_values[k]) if member.restores_best else (last, last_values[k])
        )
        result = Result(
            status=member.status,
            reason=member.reason,
            best_epoch=member.best_epoch,
            best=best_values[k][0],
            last=last_values[k][0],
            records=member.records,
            weights=engine.program.layout.unflatten(engine.pack.member(chosen[0], k)),
            directory=member.directory,
            exit_code=exit_code if member.status == INTERRUPTED else EXIT_CODES[member.status],
            observations=member.observations,
        )
        endings.append((k, result, outputs))
    return endings


def _all_metrics(
    engine: Engine, evaluated: Best, places: Sequence[int], shown: str
) -> dict[int, tuple[Values, Tensor]]:
    """Return the metrics of every split in evaluation mode, by slot, and the outputs of one split."""
    # A pack of one would round sums differently, so bytes would depend on which members end together.
    places = [*places, *places] if len(places) == 1 and not engine.pack.single else places
    names = final_names(engine.program, engine.configs[0].trainer.metrics)
    values: list[Values] = [{} for _ in places]
    outputs = torch.empty(0)
    for split, found, table in engine.measure_all(evaluated, names, places):
        outputs = found if split == shown else outputs
        keys = [f"{split}/{name}" for name in ("loss", *names)]
        for mapping, row in zip(values, engine.pack.rows(table), strict=False):
            mapping |= as_values(keys, row)
    pack = engine.pack
    return {k: (values[i], pack.member(outputs, i)) for i, k in enumerate(places)}


def log_end(
    engine: Engine,
    member: Member,
    k: int,
    result: Result,
    outputs: Tensor,
    logger: TensorBoard | None,
    *,
    chosen: bool = True,
) -> None:
    """Log the end of a run in TensorBoard, unless it was interrupted."""
    if logger is None or member.status == INTERRUPTED:
        return
    last, best = _steps(member, len(member.records)), _steps(member, result.best_epoch)
    with writing(logger.path):
        shown = best if member.restores_best else last
        log_pictures(logger, engine, k, outputs, engine.splits.shown, shown)
        logger.best(_logged(member, result, chosen=chosen), best)
        logger.hparams_end(success=result.exit_code == 0)
        logger.close()


def write(engine: Engine, member: Member, k: int, result: Result) -> None:
    """Write summary.json, the last file of a run. Its existence means that the run has reached its end."""
    if member.directory is not None:
        replace(member.directory / run_folder.SUMMARY, text(engine, member, k, result))


def text(engine: Engine, member: Member, k: int, result: Result) -> str:
    """Return the content of summary.json."""
    content = {
        "status": result.status,
        "reason": result.reason,
        "best_epoch": result.best_epoch,
        "epochs": len(member.records),
        "metric": member.metric,
        "value": member.best_value,
        "best": result.best,
        "last": result.last,
        "parameters": engine.program.layout.size,
        "steps": _steps(member, len(member.records)),
        "seconds": round(member.seconds, 3),
        "dtype": member.config.trainer.dtype,
        "seed": member.config.seed,
        "loss": member.config.loss.name,
        **conditions(engine, k),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def write_failure(member: Member, reason: str) -> None:
    """Write the summary of a member that could not be trained at all."""
    if member.directory is None:
        return
    content = {
        "status": FAILED,
        "reason": reason,
        "metric": member.metric,
        "value": None,
        "best_epoch": 0,
        "epochs": member.epoch,
        "best": {},
        "last": {},
        "seconds": round(member.seconds, 3),
        "seed": member.config.seed,
    }
    replace(member.directory / run_folder.SUMMARY, json.dumps(content, indent=1) + "\n")


def _steps(member: Member, epoch: int) -> int:
    """Return the number of updates up to the end of an epoch; 0 is the start."""
    return int(member.records[epoch - 1]["step"]) if epoch else 0


def _logged(member: Member, result: Result, *, chosen: bool) -> Values:
    """Return the best epoch's metrics on every split, of the test split only if nothing is to be chosen."""
    names = charted(member.config)
    values = {key: value for key, value in result.best.items() if key.partition("/")[2] in names}
    return {tag: value for tag, value in values.items() if chosen or "test/" not in tag}


def row_labels(config: Config, target: Target) -> dict[str, str]:
    """Return labels for rows of the table whose metric names are not self-explanatory."""
    labels = {"loss": loss_row(config, target)}
    return labels | {"accuracy": "accuracy (of labels)"} if target.task == "multilabel" else labels


def loss_row(config: Config, target: Target) -> str:
    """Return the label of the loss in the table: its name, its target, and the number of networks."""
    name = config.loss.name
    if any(scale != 1 for scale in target.scale):
        name += " of scaled targets"
    if "snapshot_ensemble" in config.regularizers or "ensemble" in config.model.settings:
        name += ", per network"  # the mean of their losses, not the loss of their mean prediction
    return f"loss ({name})"


def unlike(config: Config, values: Values) -> str | None:
    """Explain a negative log likelihood loss that is far from log_loss."""
    if config.loss.name not in ("cross_entropy", "binary_cross_entropy"):
        return None
    for split in ("train", "val", "test"):
        loss, bounded = values.get(f"{split}/loss"), values.get(f"{split}/log_loss")
        if loss is not None and bounded is not None and loss > FAR * bounded:
            return (
                f"{split}: loss {loss:.4g}, log_loss {bounded:.4g}: some wrong predictions have a "
                "probability near 0 for the true class, which log_loss clips to 1e-7 and loss does not"
            )
    return None


def show(screen: Screen, member: Member, result: Result, target: Target) -> None:
    """Show the metrics, the reason for the end, and the location of the files."""
    if screen.kind == "none":
        return
    why = "the last" if member.best_value is None else f"the best by {member.metric}"
    which = f"epoch {result.best_epoch}, {why}"
    title = f"metrics of {which if result.best_epoch else 'the untrained network: no epoch was finished'}"
    screen.console.print(metrics_table(result.best, title, row_labels(member.config, target)))
    if sentence := unlike(member.config, result.best):
        screen.say(sentence)
    advice = f"; {AGAINST_DIVERGENCE}" if result.status == DIVERGED else ""
    screen.say(f"{result.status}: {result.reason}{advice}")
    epochs = len(member.records)
    if result.status == FINISHED and member.best_value is not None and result.best_epoch == epochs > 1:
        screen.say(f"the best epoch is the last one; more may help: trainer.max_epochs={2 * epochs}")
    if result.directory is not None:
        screen.say(f"run: {result.directory}")
        if result.status == INTERRUPTED:
            screen.say(f"to continue: python train.py {typed('resume', result.directory)}")
        if "tensorboard" in member.config.loggers:
            # The parent folder contains runs to compare with; for the user's files, runs of any of them.
            own = member.config.data.settings.get("path") is not None
            shown = result.directory if own else result.directory.parent
            screen.say(f"curves: tensorboard --logdir {shell(str(shown))}")
