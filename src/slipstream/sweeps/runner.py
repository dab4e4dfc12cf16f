"""Running a sweep from its frozen plan to its report, in every process that works on it.

The first process (`sweep`, or `resume` later) shows progress, starts the plan's further workers, and reports
at the end; workers train members of the same folder silently.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock, Timeout

from slipstream.core import folders
from slipstream.core.console import console
from slipstream.core.contracts import own_fault
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.storage import writing
from slipstream.core.types import Plain
from slipstream.core.wording import typed
from slipstream.data.in_memory import InMemory
from slipstream.early_stopping import direction
from slipstream.runs import run_folder, setup
from slipstream.runs.tracking import Tracking, require_installed
from slipstream.sweeps import report
from slipstream.sweeps.plan import store
from slipstream.sweeps.plan.job import Job, ended
from slipstream.sweeps.plan.sweep_settings import SearchSettings
from slipstream.sweeps.report import board
from slipstream.sweeps.report.aggregates import BROKEN
from slipstream.sweeps.screen import SweepScreen
from slipstream.sweeps.work import processes
from slipstream.sweeps.work.calibration import Chooser
from slipstream.sweeps.work.job_sources import GridSource, JobSource, SearchSource
from slipstream.sweeps.work.leases import WORKERS, Leases
from slipstream.sweeps.work.worker import ERROR, SameMistake, Worker
from slipstream.training.interrupts import Interrupts
from slipstream.training.member import FAILED

if TYPE_CHECKING:
    from slipstream.sweeps.plan.sweep_plan import SweepPlan
    from slipstream.sweeps.report import Report
    from slipstream.sweeps.search.study import Study

JOURNAL = "study.journal"
REPORTING, REPORT_SECONDS = ".report.lock", 300
SOME_FAILED = 3


def sweep(plan: SweepPlan, directory: Path) -> int:
    """Train the sweep whose plan is in the folder, or help with it. Return the exit code."""
    if plan.settings.cluster is not None:
        return _submit(plan, directory)
    try:
        return work(plan, directory, processes.program())[0]
    except NothingStarted:
        if plan.settings.workers == 1:
            _leave_nothing(directory)
        raise


class NothingStarted(UserError):
    """A user error prevents all training."""


def _leave_nothing(directory: Path) -> None:
    """Remove the files of a sweep that started no member, unless there are other files."""
    if any(directory.glob(f"*/{run_folder.CONFIG}")) or any(directory.glob(f"*/{run_folder.SUMMARY}")):
        return
    with suppress(OSError):
        for folder in (*directory.glob("[0-9]*"), directory / WORKERS):
            folders.remove_folder(folder, (".worker", ".lock", run_folder.HOLDER, ERROR))
        folders.remove_folder(directory, (store.FILE, JOURNAL))


def resume(directory: Path, overrides: Sequence[str] = ()) -> int:
    """Resume the sweep of a folder. Members that failed are tried again."""
    plan = store.resume(directory, overrides)
    if processes.index() == 0:
        _forget_failures(directory)
    return work(plan, directory, processes.program())[0]


def _submit(plan: SweepPlan, directory: Path) -> int:
    settings = plan.settings
    assert settings.cluster is not None
    jobs = processes.submit(
        directory, settings.workers, settings.cluster, settings.slurm, program=processes.program()
    )
    names = " ".join(job.job_id for job in jobs)
    print(f"submitted to {settings.cluster}: {names}")
    print(f"to watch or help: python train.py {typed('resume', directory)}")
    return 0


def _forget_failures(directory: Path) -> None:
    """Remove the results of failed members, so that they are trained again."""
    for file in directory.glob(f"*/{run_folder.SUMMARY}"):
        end = ended(file.parent)
        if end is not None and end.status == FAILED:
            folders.remove(file)


def work(
    plan: SweepPlan, directory: Path, program: Sequence[str], given: InMemory | None = None
) -> tuple[int, Report | None]:
    """Train members of the sweep until none remain. The first process also shows progress and reports.

    program: the command that further workers run. given: the rows of data=memory. Raises UserError if no
    member can be trained.
    """
    lead, example = processes.index() == 0, plan.example
    require_installed(example.config)
    stopping = example.config.early_stopping.settings
    minimize = direction(stopping["metric"], stopping["mode"]) > 0
    with ExitStack() as stack:
        _allow_open_files()
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(setup.portable_kernels(example.config))
        stack.enter_context(setup.flushing_denormals())
        stack.enter_context(folders.held(directory))
        if lead:
            folders.remove_temporary(directory, older_than=time.time() - folders.LEFT_OVER_SECONDS)
        leases = stack.enter_context(Leases(directory))
        screen = SweepScreen(example.config.trainer.progress if lead else "none", plan, directory, minimize)
        stack.callback(screen.close)
        source, study = _source(plan, directory, leases, minimize, screen)
        helpers, count = processes.Helpers(), plan.settings.workers
        if count > 1:
            torch.set_num_threads(processes.share(count))
            if lead:
                helpers = processes.start(directory, count - 1, program=program)
        stack.enter_context(helpers)

        def members() -> Sequence[Job]:
            return plan.jobs if study is None else _jobs_of(plan, study)

        choose = Chooser(directory, plan.settings, members)
        worker = Worker(directory, source, interrupts, screen, choose, count, given)
        stack.callback(worker.tracking.close)
        try:
            worker.run()
        except SameMistake as mistake:
            return _all_alike(mistake, screen), None
        except BaseException:
            source.give_back()
            raise
        helpers.wait(interrupts, screen.look)
        for fallen in helpers.fallen():
            screen.warn(str(fallen))
        if not lead:
            worker.tracking.close()
            return interrupts.exit_code if interrupts.received else 0, None
        screen.close()
        jobs = members()
        with _reporting(directory):
            found = report.outcomes(directory, jobs)
            made = report.write(directory, found, plan.space.axes, stopping["metric"], minimize)
            if "tensorboard" in example.config.loggers:
                with writing(directory):
                    board.write(made, plan.space.axes, jobs)
        for text in _end_tracking(worker.tracking, directory, made, interrupts.received is not None):
            screen.warn(text)
        if example.config.trainer.progress != "none":
            report.show(console(), made)
            if interrupts.received is not None:
                console().print(f"to continue: python train.py {typed('resume', directory)}", soft_wrap=True)
    if interrupts.received is not None:
        return interrupts.exit_code, made
    return SOME_FAILED if any(outcome.status in BROKEN for outcome in found) else 0, made


def _end_tracking(tracking: Tracking, directory: Path, made: Report, interrupted: bool) -> list[str]:
    """Send the end of the sweep to its loggers, and return warnings about missing metrics."""
    whole = [group for group in made.groups if group.whole]
    values: dict[str, Plain] = {**whole[0].values, made.metric: whole[0].mean} if whole else {}
    status = "interrupted" if interrupted else "finished" if whole else "failed"
    files = [directory / name for name in ("report.json", "leaderboard.csv")]
    tracking.end_sweep(directory, status, values, files)
    return tracking.close()


@contextmanager
def _reporting(directory: Path) -> Iterator[None]:
    """Let one process at a time read the outcomes and report them. The last one sees all of them.

    If two processes wrote the events at the same time, every curve would appear twice. Raises UserError.
    """
    lock = FileLock(directory / REPORTING)
    with writing(directory / REPORTING):
        try:
            lock.acquire(timeout=REPORT_SECONDS)
        except Timeout as error:
            raise UserError(
                f"{directory}: training is complete, but another process has been writing the "
                f"report for more than "
                f"{REPORT_SECONDS} seconds. Stop it, then run python train.py {typed('resume', directory)}"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _source(
    plan: SweepPlan, directory: Path, leases: Leases, minimize: bool, screen: SweepScreen
) -> tuple[JobSource, Study | None]:
    if plan.grid is not None:
        return GridSource(plan.jobs, directory, leases), None
    from slipstream.sweeps.search.study import Study

    settings = plan.settings
    assert isinstance(settings, SearchSettings)
    config = plan.example.config
    watched, epochs = config.early_stopping.settings["metric"], config.trainer.max_epochs
    asked_for = {"name": plan.name, **vars(settings)}
    study = Study(directory / JOURNAL, plan.space, asked_for, minimize, epochs, watched)
    paired = settings.pruner == "wilcoxon"
    asked = (settings.at_once, paired, settings.workers)
    return SearchSource(study, plan.job, plan.members, *asked, directory, leases, screen.warn), study


def _jobs_of(plan: SweepPlan, study: Study) -> list[Job]:
    """Return the members of all valid trials of a study, in order."""
    jobs: list[Job] = []
    for trial in study.asked():
        with suppress(ConfigError):  # it was already rejected when it was proposed
            jobs += [plan.job(trial.number, i, trial.values) for i in range(plan.members)]
    return jobs


def _all_alike(mistake: SameMistake, screen: SweepScreen) -> int:
    """Merge identical errors of all members into one message."""
    screen.close()
    error = mistake.error
    failed = "the first member" if mistake.count == 1 else f"all {mistake.count} members of the first pack"
    what = f"{failed} failed{' in the same way' * (mistake.count > 1)}; nothing else was started"
    if fault := str(error) if isinstance(error, UserError) else own_fault(error):
        raise NothingStarted(f"{fault}\n({what})") from None
    traceback.print_exception(error)
    print(f"\nThis is a bug in slipstream: {what}.", file=sys.stderr)
    return 1


def _allow_open_files() -> None:
    """Raise the limit of open files as far as allowed, because every member's folder has a lock file."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
