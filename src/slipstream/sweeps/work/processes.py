"""Additional worker processes of a sweep, on this machine or as jobs of a cluster.

They share only the sweep's folder with the process that starts them. A worker that ends for any reason leaves
its members to the others (leases.py). The last one finishes the sweep.
"""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core import folders
from slipstream.core.errors import UserError
from slipstream.core.lazy import torch
from slipstream.core.types import Plain
from slipstream.core.wording import install
from slipstream.sweeps.work.leases import WORKERS, host

if TYPE_CHECKING:
    from slipstream.training.interrupts import Interrupts

WORKER = "SLIPSTREAM_WORKER"  # environment variable of additional workers with their number, from 1
MODULE = ("-m", "slipstream")
# exit codes of a worker without errors: finished, some members failed, stopped
ENDINGS = (0, 3, 129, 130, 143, 152)
TAIL = 20  # lines of a log to show
POLL_SECONDS = 0.2
MINUTES = {"slurm": 24 * 60, "local": 30 * 24 * 60}  # submitit's defaults are only 2 or 5 minutes


def index() -> int:
    """Return this process's number among the processes of one sweep; 0 for the process that started them."""
    text = os.environ.get(WORKER, "")
    return int(text) if text.isdecimal() else 0


def program() -> tuple[str, ...]:
    """Return the program of this process, for workers that must know the same components.

    Only a command line may pass it to `start`, because any other program would run from its beginning in
    every worker.
    """
    main = sys.modules["__main__"]
    spec, script = getattr(main, "__spec__", None), str(getattr(main, "__file__", ""))
    if spec is not None and spec.name != "__main__":
        return "-m", spec.name.removesuffix(".__main__")
    return (os.path.abspath(script),) if script.endswith(".py") else MODULE


def share(workers: int) -> int:
    """Return the CPU threads for each of the workers on this machine."""
    return max(_cores() // workers, 1)


def _cores() -> int:
    """Return the number of cores that this process may use, which a cluster's job limits."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def devices() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    return [name for name in map(str.strip, named.split(",")) if name not in ("", "-1")]


def _command(directory: Path) -> list[str]:
    path = str(directory)
    if not re.fullmatch(r"[\w./:+-]+", path, re.ASCII):
        path = "'" + path.replace("'", "\\'") + "'"
    return [f"resume={path}"]


# On this machine


@dataclass(frozen=True)
class Fallen:
    """A worker that ended neither by finishing nor by a signal. Its string is a message for the user."""

    index: int
    code: int
    log: Path

    def __str__(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        except OSError as error:
            lines = [f"({error.strerror or error})"]
        shown = "".join(f"\n  {line}" for line in lines) or "\n  (nothing was written)"
        return (
            f"Worker {self.index} {self._ending()}; other workers take over its members. "
            f"The last lines of {self.log}:{shown}"
        )

    def _ending(self) -> str:
        if self.code == -getattr(signal, "SIGKILL", 9):
            return "was killed, perhaps because memory ran out"
        if self.code < 0:
            return f"ended by signal {-self.code}"
        return f"ended with exit code {self.code}"


class Helpers:
    """Workers that this process started. Leaving waits for them; after an error, it stops them first."""

    def __init__(self) -> None:
        self._processes: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._reported: set[int] = set()
        self._told: set[int] = set()

    def __enter__(self) -> Helpers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:
            self.stop(signal.SIGINT if kind is KeyboardInterrupt else signal.SIGTERM)
        self.wait()

    @property
    def alive(self) -> int:
        """Return the number that have not ended."""
        return sum(process.poll() is None for process, _ in self._processes)

    def fallen(self) -> list[Fallen]:
        """Return those that crashed since the last call."""
        found = []
        for number, (process, log) in enumerate(self._processes, start=1):
            code = process.poll()
            told = {-sent for sent in self._told}
            if number in self._reported or code is None or code in ENDINGS or code in told:
                continue
            self._reported.add(number)
            found.append(Fallen(number, code, log))
        return found

    def stop(self, number: int) -> None:
        """Pass a signal on to running workers once, so that they save, release their members and end."""
        if number in self._told:
            return
        self._told.add(number)
        # Windows has only one signal for another process, which must be in its own group.
        sent = getattr(signal, "CTRL_BREAK_EVENT", number)
        for process, _ in self._processes:
            process.send_signal(sent)  # does nothing if it has ended

    def wait(
        self, interrupts: Interrupts | None = None, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Wait until all have ended. Signals that arrive meanwhile are passed on."""
        while self.alive:
            try:
                meanwhile()
                if interrupts is not None and interrupts.received is not None:
                    self.stop(interrupts.received)
                time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                self.stop(signal.SIGINT)


def start(directory: Path, count: int, *, program: Sequence[str] = MODULE) -> Helpers:
    """Start additional workers on this machine, each as `python <program> resume=<directory>`.

    They have the numbers 1 to count, and this process is 0. Each has WORKER in its environment, an equal
    share of the cores, one GPU if there are several, and the log `workers/<host>-<pid>-<number>.log`. Signals
    from the terminal reach only this process, which passes them on. If it is killed, the workers continue and
    finish the sweep. Raises UserError if they cannot be started.
    """
    directory = directory.absolute()
    gpus, helpers = devices(), Helpers()
    try:
        folders.mkdir(directory / WORKERS)
        for number in range(1, count + 1):
            own = {WORKER: str(number), "PYTHONUNBUFFERED": "1"}
            if len(gpus) > 1:
                own["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
            log = directory / WORKERS / f"{host()}-{os.getpid()}-{number}.log"
            with folders.opened(log, "ab") as file:
                process = subprocess.Popen(
                    [sys.executable, *program, *_command(directory)],
                    env={"OMP_NUM_THREADS": str(share(count + 1)), **os.environ, **own},
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                )
            helpers._processes.append((process, log))
    except OSError as error:
        helpers.stop(signal.SIGTERM)
        helpers.wait()
        why = f"{error.filename or sys.executable}: {error.strerror or error}"
        raise UserError(f"Cannot start a worker of the sweep: {why}") from error
    return helpers


# On a cluster


@dataclass(frozen=True)
class WorkerJob:
    """A worker as a job of submitit, which pickles only plain values.

    device: its GPU, None for the cluster's assignment. threads: of the CPU, None for all it may use.
    """

    directory: str
    index: int
    program: tuple[str, ...]
    device: str | None = None
    threads: int | None = None

    def __call__(self) -> int:
        """Run in the job's process. Raises RuntimeError if the worker crashed, which fails the job."""
        import submitit

        task = submitit.JobEnvironment()
        number = self.index + task.global_rank if task.num_tasks > 1 else self.index
        gpus = devices() if task.num_tasks > 1 and self.device is None else []
        device = gpus[task.local_rank % len(gpus)] if len(gpus) > 1 else self.device
        if device is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = device
        os.environ.setdefault("OMP_NUM_THREADS", str(self.threads or _cores()))
        os.environ[WORKER] = str(number)
        code = _run(self.program, _command(Path(self.directory)))
        if code not in ENDINGS:
            raise RuntimeError(f"the worker ended with exit code {code}")
        return code

    def checkpoint(self) -> Plain:
        """Return the same job to submit again. submitit calls this when the job is preempted or times out.

        The members continue from their last saved step, here or in another worker.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _run(program: Sequence[str], arguments: list[str]) -> int:
    """Run a program in this process as `python <program> <arguments>` would."""
    before = sys.argv, sys.path[:]
    try:
        if program[0] == "-m":
            sys.argv = [program[1], *arguments]
            runpy.run_module(program[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = [program[0], *arguments]
            sys.path.insert(0, str(Path(program[0]).parent))
            runpy.run_path(program[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv, sys.path[:] = before
    return 0


def submit(
    directory: Path,
    workers: int,
    cluster: str,
    parameters: Mapping[str, Plain],
    *,
    program: Sequence[str] = MODULE,
) -> list[Plain]:
    """Submit workers as jobs of a cluster (slurm, or local for this machine), and return submitit's jobs.

    This returns immediately, and no process needs to wait for the jobs; resume the sweep to watch or help. A
    job that times out is submitted again. Logs are in workers/submitit.
    parameters: submitit's, such as {slurm_partition: gpu, timeout_min: 60, gpus_per_node: 1}. Raises
    UserError if submitit is missing or fails.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            f"sweep.cluster={cluster} needs submitit, which is not installed: {install('slurm')}"
        ) from error
    directory = directory.absolute()
    gpus = devices() if cluster == "local" else []  # there it would hide them
    jobs = [
        WorkerJob(
            str(directory),
            1 + number * int(parameters.get("tasks_per_node", 1)) * int(parameters.get("nodes", 1)),
            tuple(program),
            gpus[number % len(gpus)] if gpus else None,
            share(workers) if cluster == "local" else None,
        )
        for number in range(workers)
    ]
    try:
        executor = submitit.AutoExecutor(directory / WORKERS / "submitit", cluster=cluster)
        given = {"name": directory.name, "timeout_min": MINUTES.get(cluster), **parameters}
        executor.update_parameters(**given)
        with executor.batch():
            submitted = [executor.submit(job) for job in jobs]
    except (NameError, ValueError, AssertionError, RuntimeError, OSError) as error:
        raise UserError(f"sweep.cluster={cluster}: submitit failed: {error}") from error
    return submitted
