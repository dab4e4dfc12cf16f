"""Hydra's side of a sweep: a sweeper and a launcher that hand the whole sweep to slipstream at once.

Hydra imports this file at every start and every press of Tab, so import nothing heavy here. For task
functions other than slipstream's, both behave like Hydra's basic ones.
"""

# No `from __future__ import annotations`: Hydra reads the annotations of the dataclasses below.
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from slipstream.core.compat import BasicLauncher, BasicSweeper


@dataclass
class PackLauncherConf:
    _target_: str = "hydra_plugins.slipstream_sweep.PackLauncher"


@dataclass
class SpaceSweeperConf:
    _target_: str = "hydra_plugins.slipstream_sweep.SpaceSweeper"
    max_batch_size: int | None = None
    params: dict[str, Any] | None = None  # as Hydra passes them


class PackLauncher(BasicLauncher):
    """hydra/launcher=packs: all jobs at once, trained as packs."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        sweep = getattr(self.task_function, "sweep", None)
        if sweep is None:
            return super().launch(job_overrides, initial_job_idx)
        assert self.config is not None
        result: Sequence[JobReturn] = sweep(job_overrides, self.config.hydra.sweep.dir)
        return result


class SpaceSweeper(BasicSweeper):
    """hydra/sweeper=space: the jobs of slipstream's plan, which has already read the command line."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.task_function = task_function

    def sweep(self, arguments: list[str]) -> Any:  # as Hydra declares it
        jobs = getattr(self.task_function, "jobs", None)
        if jobs is None:
            return super().sweep(arguments)
        assert self.launcher is not None
        return self.launcher.launch(jobs, initial_job_idx=0)


STORE = ConfigStore.instance()
STORE.store(group="hydra/launcher", name="packs", node=PackLauncherConf, provider="slipstream")
STORE.store(group="hydra/sweeper", name="space", node=SpaceSweeperConf, provider="slipstream")
