"""A warm process that forks jobs to be killed: `import torch` is paid once.

A job is a line of JSON on standard input; its process id is the answer. {"wait": pid} is answered
by how that process ended, as subprocess has it: its exit code, or minus its signal; {"poll": pid} as well,
or by null if it is still running. The job {"does": "command"} is a command of train.py, in the folder "cwd",
with the variables "environment", on the terminal "terminal" (a path; its process leads a session).
The job "python" is what stands behind `python`, in the folder "cwd", with the variables "environment" alone;
its standard error goes to the file "errors".
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import runpy
import signal
import sys
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from ondisk import (
    SWEPT,
    at_operation,
    at_step,
    diverging_sweep_in,
    in_save,
    last,
    small_sweep_in,
    sweep_in,
    train_in,
)
from slipstream.cli import main
from slipstream.core.errors import UserError
from slipstream.runs import checkpoints
from slipstream.training.epoch_plan import Planner  # noqa: F401 - all that a run needs is imported before


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate_twice() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


TRAIN = Path(__file__).resolve().parents[1] / "train.py"
HAPPENS = {"kill": kill, "terminate_twice": terminate_twice}


def save_three(directory: Path, output: Any) -> int:
    """Three checkpoints of known content; after each its number is reported."""
    for step in (1, 2, 3):
        tensors = {name: {"w": torch.full((5,), float(step))} for name in checkpoints.TENSOR_FILES}
        checkpoints.save(directory / "checkpoints", step, tensors, {"epoch": step}, keep=2)
        os.write(output.fileno(), f"{step}\n".encode())
    return 0


def surround(job: dict[str, Any]) -> None:
    """Give this process the folder, variables and terminal of a command."""
    sys.argv[0] = sys.modules["__main__"].__file__ = str(TRAIN)  # workers and messages take it from here
    os.environ.update(job.get("environment", {}))
    os.chdir(job.get("cwd", "."))
    if "terminal" in job:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests
        terminal = os.open(job["terminal"], os.O_RDWR)  # a session's first terminal is its own
        for stream in range(3):
            os.dup2(terminal, stream)
    # A stream knows from its opening what it leads to, which was before the fork.
    sys.stdout = open(1, "w", 1 if "terminal" in job else -1, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", closefd=False)  # noqa: SIM115


def command(arguments: list[str]) -> int:
    """A command of train.py, as `python train.py` runs it but for the imports."""
    try:
        main(arguments)
    except SystemExit as end:
        sys.stdout.flush()
        return int(end.code or 0)
    raise AssertionError("a command ends with its exit code")


def python(job: dict[str, Any]) -> int:
    """Do what `python` does with these words: a file, or -c or -m with what they take."""
    sys.stderr.flush()
    os.dup2(os.open(job["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", closefd=False)  # noqa: SIM115
    atexit._clear()  # what the warm process has to do at its own end
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["cwd"])
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in named if path and path not in sys.path]
    first, *rest = job["words"]
    sys.argv[:] = job["words"]
    code = 0
    try:
        if first == "-c":
            sys.path[0], sys.argv[:] = "", ["-c", *rest[1:]]
            sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), sys.modules["__main__"].__dict__)
        elif first == "-m":
            sys.path[0], sys.argv[:] = os.getcwd(), rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.path[0] = str(Path(first).resolve().parent)
            runpy.run_path(first, run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    return code


def perform(job: dict[str, Any], output: Any) -> int:
    directory = Path(job["directory"])
    with ExitStack() as stack:
        if "at_operation" in job:
            number, what = job["at_operation"]
            stack.enter_context(at_operation(number, HAPPENS[what], directory))
        if "at_step" in job:
            number, what = job["at_step"]
            stack.enter_context(at_step(number, HAPPENS[what]))
        if "in_save" in job:
            call, number = job["in_save"]
            stack.enter_context(in_save(call, number, kill, directory))
        if job["does"] == "python":
            return python(job)
        if job["does"] == "command":
            surround(job)
            return command(job["arguments"])
        if job["does"] == "save":
            return save_three(directory, output)
        if job["does"] == "sweep":
            return sweep_in(directory)
        if job["does"] == "small_sweep":
            return small_sweep_in(directory)
        if job["does"] == "diverging_sweep":
            return diverging_sweep_in(directory)
        return train_in(directory, job.get("changes"), resume=job.get("resume", False)).exit_code


def child(job: dict[str, Any]) -> None:
    with open(job["output"], "w", buffering=1) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            code = perform(job, output)
        except UserError as error:
            print(error, file=output)
            code = error.exit_code
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=output)
            code = 1
    os._exit(code)


def serve() -> None:
    torch.set_num_threads(1)  # a pool of threads would not survive a fork
    folder = Path(sys.argv[1])
    train_in(folder / "warm-up", {"logger": ["tensorboard"]})
    small_sweep_in(folder / "warm-sweep")
    with redirect_stdout(io.StringIO()):
        command([*last(*SWEPT, "trainer.max_epochs=1"), f"hydra.run.dir={folder / 'warm-command'}"])
    gc.freeze()  # children leave it where it is
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job or "poll" in job:
            pid, status = os.waitpid(job.get("wait") or job["poll"], 0 if "wait" in job else os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if pid else "null", flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            child(job)
        print(pid, flush=True)


if __name__ == "__main__":
    serve()
