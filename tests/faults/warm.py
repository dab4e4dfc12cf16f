"""A warm process that forks jobs to be killed: `import torch` is paid once.

A job is a line of JSON on standard input; its process id is the answer. {"wait": pid} is answered
by how that process ended, as subprocess has it: its exit code, or minus its signal.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from ondisk import at_operation, at_step, diverging_sweep_in, in_save, small_sweep_in, sweep_in, train_in
from slipstream.core.errors import UserError
from slipstream.runs import checkpoints
from slipstream.training.epoch_plan import Planner  # noqa: F401 - all that a run needs is imported before


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate_twice() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)


HAPPENS = {"kill": kill, "terminate_twice": terminate_twice}


def save_three(directory: Path, output: Any) -> int:
    """Three checkpoints of known content; after each its number is reported."""
    for step in (1, 2, 3):
        tensors = {name: {"w": torch.full((5,), float(step))} for name in checkpoints.TENSOR_FILES}
        checkpoints.save(directory / "checkpoints", step, tensors, {"epoch": step}, keep=2)
        os.write(output.fileno(), f"{step}\n".encode())
    return 0


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
        try:
            code = perform(job, output)
        except UserError as error:
            print(error, file=output)
            code = error.exit_code
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=output)
            code = 1
    os._exit(code)


def main() -> None:
    torch.set_num_threads(1)  # a pool of threads would not survive a fork
    train_in(Path(sys.argv[1]) / "warm-up", {"logger": "tensorboard"})
    sweep_in(Path(sys.argv[1]) / "warm-sweep")
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            _, status = os.waitpid(job["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            child(job)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
