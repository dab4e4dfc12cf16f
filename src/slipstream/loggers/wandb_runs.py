"""Runs of Weights & Biases. Nothing here is called by the training thread."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

# Its error and usage reports would go to the network even offline.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb

from slipstream.core import folders, storage
from slipstream.loggers.tracker import LoggedRun, Point, Tracker, kept_in, remembered
from slipstream.loggers.wandb_files import last_step

LOGGER = "wandb"
BEST = "with_best_weights"  # the prefix of these metrics, as in TensorBoard
EXIT_CODES = {"interrupted": 255, "diverged": 3, "failed": 3}


class WandbRun(Tracker):
    """One run. A resumed run keeps its id, and epochs in its files or on the server are not logged again."""

    def __init__(
        self,
        run: LoggedRun,
        project: str,
        entity: str | None,
        mode: Literal["offline", "online"],
        tags: Sequence[str],
    ) -> None:
        folder = run.directory
        known = remembered(folder, LOGGER).get("id")
        self._id = known if isinstance(known, str) else secrets.token_hex(4)
        if known is None:
            storage.replace(kept_in(folder, LOGGER), json.dumps({"id": self._id}) + "\n", sync=False)
        changed = {"changed": " ".join(run.changed) or "nothing"}
        self._wandb = wandb.init(
            project=project,
            entity=entity,
            dir=str(folder),
            id=self._id,
            name=run.name if run.sweep is None else f"{run.sweep.name}/{run.name}",
            group=None if run.sweep is None else run.sweep.name,
            tags=[*tags],
            config={**run.settings, **changed},
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="create_new",  # many runs of one process at once
            settings=_settings(),
        )
        before = int(self._wandb.starting_step) - 1 if mode == "online" else last_step(folder / LOGGER)
        self.last_epoch = max(before, 0)
        _remove_links(folder / LOGGER)

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Log the metrics of an epoch, which is the step."""
        self._wandb.log({"epoch": epoch, **values}, step=epoch)

    def log_points(self, points: Sequence[Point]) -> None:
        """Log the metrics of several epochs."""
        for point in points:
            self.log(point.values, point.epoch)

    def end(self, status: str, values: Mapping[str, float], epoch: int) -> None:
        """Write the metrics with the best weights into the summary, and finish."""
        best = {f"{BEST}/{tag}": value for tag, value in values.items()}
        self._wandb.summary.update({**best, "status": status, "best_epoch": epoch})
        self._wandb.finish(exit_code=EXIT_CODES.get(status, 0))


def _settings() -> wandb.Settings:
    return wandb.Settings(
        silent=True, console="off", symlink=False, x_disable_stats=True, x_disable_meta=True, disable_git=True
    )


def _remove_links(folder: Path) -> None:
    """Remove the links to W&B's own log, because a run folder with links to the outside cannot be resumed."""
    for path in folder.glob("*/logs/*"):
        if path.is_symlink():
            folders.remove(path)
