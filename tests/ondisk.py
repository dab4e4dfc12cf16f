"""Runs with a directory, small enough to be killed a hundred times, and what is compared of them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import slipstream
from harness import tiny
from slipstream.runs import checkpoints
from slipstream.runs.checkpoints import latest, verify
from slipstream.runs.session import run
from slipstream.runs.summary import Result
from slipstream.training.engine import Engine

SAVING = {"data.rows": 40, "trainer.max_epochs": 3, "trainer.checkpoint_seconds": 0.0, "trainer.threads": 1}
STEPS = 3  # an epoch: 28 training rows in batches of 12


def train_in(
    directory: Path, changes: dict[str, Any] | None = None, *, resume: bool = False, overrides: Any = ()
) -> Result:
    """A run of 3 epochs of 3 steps that saves after each of them."""
    return run(tiny(SAVING | (changes or {})), directory, list(overrides), resume=resume)


def newest(directory: Path) -> Path:
    """The run's newest checkpoint, which has to exist."""
    path, _ = latest(directory / "checkpoints")
    assert path is not None
    return path


@contextmanager
def started(command: list[str], **named: Any) -> Iterator[subprocess.Popen]:
    """A process that does not outlive the test, however that ends."""
    with subprocess.Popen(command, **named) as process:
        try:
            yield process
        finally:
            process.kill()


# Before a command: its processes have numbers of their own, as in a container.
NAMESPACE = ("unshare", "-pf", "--kill-child", "--mount-proc")


def _namespaces() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


needs_namespaces = pytest.mark.skipif(not _namespaces(), reason="no namespaces of processes may be made here")


def saved(directory: Path) -> list[str]:
    """The run's checkpoints by name, unread: a run that is going on may remove them while one looks."""
    return [path.name for path in directory.glob("checkpoints/step-*")]


def bytes_of(directory: Path) -> dict[str, bytes]:
    """What resuming must give to the bit: tensors of the newest checkpoint, and metrics.jsonl."""
    path = newest(directory)
    found = {name: content for name, content in verify(path).items() if name.endswith(".safetensors")}
    return {"step": path.name.encode(), "metrics": (directory / "metrics.jsonl").read_bytes(), **found}


def tree(directory: Path) -> dict[str, bytes]:
    """Every file of a run, but for its lock, with its content."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@contextmanager
def at_step(number: int, happens: Callable[[], None]) -> Iterator[None]:
    """Something happens while the step of this number is made, counted from 1 in this process."""
    plain, made = Engine.step, []

    def step(self: Engine, *arguments: Any) -> Any:
        made.append(None)
        if len(made) == number:
            happens()
        return plain(self, *arguments)

    with patch.object(Engine, "step", step):
        yield


def terminate() -> None:
    """SIGTERM to this process."""
    os.kill(os.getpid(), signal.SIGTERM)


def last(*overrides: str) -> tuple[str, ...]:
    """One override for each key, the last: a command line that has two is refused."""
    return tuple({text.partition("=")[0]: text for text in overrides}.values())


SWEPT = (
    *("data=spirals", "data.rows=40", "data.batch_size=12", "model.width=5", "model.depth=1", "logger=none"),
    *("trainer.threads=1", "trainer.compile=false", "trainer.checkpoint_seconds=0", "trainer.device=cpu"),
    *("regularizer=[dropout,batch_norm,ema]", "trainer.max_epochs=25", "trainer.metrics=[]"),
)


def sweep_in(directory: Path) -> int:
    """A sweep of six members in four places that saves after each epoch, or what is left of it."""
    space = {"optimizer.lr": [0.1, 0.01], "seed": [0, 1, 2]}
    return slipstream.sweep(space, *SWEPT, directory=directory, pack=4).exit_code


def small_sweep_in(directory: Path) -> int:
    """A sweep of three members in two places, or what is left of it: few operations to disturb."""
    changed = ("trainer.max_epochs=3", "trainer.progress=none")
    space = {"seed": [0, 1, 2]}
    return slipstream.sweep(space, *SWEPT, *changed, directory=directory, pack=2).exit_code


def diverging_sweep_in(directory: Path) -> int:
    """A sweep of two, of which the first member diverges in its first epoch, or what is left of it."""
    changed = ("trainer.max_epochs=2", "trainer.progress=none")
    space = {"optimizer.lr": [1e30, 0.1]}
    return slipstream.sweep(space, *SWEPT, *changed, directory=directory, pack=2).exit_code


@contextmanager
def in_save(call: int, number: int, happens: Callable[[], None], under: Path) -> Iterator[None]:
    """Something happens at the operation of this number of the save of this number, both from 1."""
    plain, made = checkpoints.save, []

    def save(*arguments: Any, **named: Any) -> Any:
        made.append(None)
        if len(made) != call:
            return plain(*arguments, **named)
        with at_operation(number, happens, under):
            return plain(*arguments, **named)

    with patch.object(checkpoints, "save", save):
        yield


@contextmanager
def at_operation(
    number: int, happens: Callable[[], None], under: Path, *, for_ever: bool = False
) -> Iterator[list[str]]:
    """Something happens before the operation of this number that changes files; half a write is made.

    for_ever: before each operation after it as well. Yields the names of the operations so far.
    Counted from 1: writes, syncs, renames, removals and
    new folders, of files opened under `under`.
    """
    made: list[str] = []

    def count(name: str, before: Callable[[], Any] = lambda: None) -> None:
        made.append(name)
        if len(made) == number or (for_ever and 0 < number < len(made)):
            before()
            happens()

    def counted(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **named: Any) -> Any:
            count(name)
            return plain(*arguments, **named)

        return operation

    class Torn:
        """A file whose write may stop in the middle."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def write(self, content: Any) -> int:
            def half() -> None:
                self.file.write(content[: len(content) // 2])
                self.file.flush()

            count("write", half)
            return self.file.write(content)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> Torn:
            return self

        def __exit__(self, *error: Any) -> None:
            self.file.close()

    plain_open = open

    def opened(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        made_file = plain_open(file, mode, *arguments, **named)
        writes = any(letter in mode for letter in "wax+")
        inside = isinstance(file, str | Path) and Path(file).is_relative_to(under)
        return Torn(made_file) if writes and inside else made_file

    names = ("fsync", "replace", "mkdir", "unlink", "rmdir")
    patches = [patch.object(os, name, counted(name, getattr(os, name))) for name in names]
    patches.append(patch("builtins.open", opened))
    for each in patches:
        each.start()
    try:
        yield made
    finally:
        for each in patches:
            each.stop()
