"""Hydra's task function, which Hydra calls for each run and for a whole sweep."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.cli.multirun import Sweep
from slipstream.core.errors import ConfigError, UserError, printable

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from slipstream.sweeps.plan.sweep_plan import SweepPlan

SOME_FAILED = 3
OUTPUTS = "outputs"  # the default parent of run folders; missing folders are created


class Runner:
    """Hydra's task function. It records how each run ended, since Hydra would only print or ignore it.

    plan: the plan of a sweep, or None for a single run.
    """

    def __init__(self, plan: SweepPlan | None) -> None:
        self.codes: list[int] = []
        self.bug: Exception | None = None
        self.plan = plan
        self.table = None if plan is None else Sweep(self.jobs, plan.notes)
        outputs = Path.cwd() / OUTPUTS
        looked_up = (Path.cwd(), outputs, *(outputs / name for name in _names(outputs)))
        self._there = {folder: _names(folder) for folder in looked_up}

    @property
    def jobs(self) -> list[list[str]]:
        """Return the overrides of each job of a grid sweep."""
        return [] if self.plan is None else [list(job.overrides) for job in self.plan.jobs]

    def sweep(self, jobs: Sequence[Sequence[str]], directory: str) -> list[object]:
        """Train a whole sweep in its folder. Hydra's launcher calls this instead of running job after job.

        jobs: the jobs as Hydra parsed them. The plan has already read the command line.
        """
        assert self.plan is not None
        from slipstream.sweeps.plan.store import freeze

        self.table = None  # the sweep has its own screen
        try:
            folder = Path(directory).absolute()
            plan = freeze(self.plan, folder)
            from slipstream.sweeps.runner import sweep  # imports torch: only after the checks

            self.codes.append(sweep(plan, folder))
        except UserError:
            raise
        except Exception as error:
            self.bug = error
            sys.exit(1)
        return []

    def __call__(self, composed: DictConfig) -> None:
        try:
            code = self._run(composed)
        except UserError as error:
            member = f"job {len(self.codes)} of the sweep: " if self.table else ""
            print(printable(f"{member}{error}"), file=sys.stderr)
            code = error.exit_code
            self._remove_made()
        except KeyboardInterrupt:
            self._remove_made()
            raise
        except Exception as error:
            self._remove_made()
            self.bug = error
            sys.exit(1)
        self.codes.append(code)
        if code > 128:  # a signal ends the whole sweep
            sys.exit(code)

    def _remove_made(self) -> None:
        """Remove the folders that Hydra created for a run that never started, if they are empty."""
        from hydra.core.hydra_config import HydraConfig

        from slipstream.core.folders import remove_folder

        folder = Path(HydraConfig.get().runtime.output_dir)
        for made in (folder, *folder.parents):
            if not _is_new(made, self._there):
                break
            with suppress(OSError):
                remove_folder(made)

    def _run(self, composed: DictConfig) -> int:
        from hydra.core.hydra_config import HydraConfig

        from slipstream.config import composition, provenance
        from slipstream.config.validation import validate

        hydra = HydraConfig.get()
        overrides = [text for text in hydra.overrides.task if not text.startswith("resume=")]
        config = validate(composition.to_plain(composed))
        directory = Path(hydra.runtime.output_dir)
        if self.table is not None:
            self.table.begin(config, directory, overrides)
        from slipstream.runs.session import run

        try:
            result = run(config, directory, overrides, resume=config.resume is not None)
        except ConfigError as error:  # a problem that only the data reveal
            raise ConfigError(provenance.traced(error.problems, overrides)) from None
        if self.table is not None:
            self.table.end(result)
        return result.exit_code

    def report(self) -> None:
        """Print how the jobs of a sweep ended."""
        if self.table is not None:
            self.table.report()

    @property
    def exit_code(self) -> int:
        """Return the code of a single run or a packed sweep. Job by job: SOME_FAILED if any job failed."""
        worst = max(self.codes, default=0)
        return SOME_FAILED if self.table and worst else worst


def _names(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()


def _is_new(folder: Path, there: Mapping[Path, set[str]]) -> bool:
    """Return True if a folder was created after `there` (the names in some folders) was collected."""
    if folder.parent in there and folder.name not in there[folder.parent]:
        return True
    return folder.parent != folder and _is_new(folder.parent, there)
