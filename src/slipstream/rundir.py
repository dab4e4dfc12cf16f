"""A run's directory: claimed by one process at a time, never overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from slipstream.errors import UserError
from slipstream.files import replace

CONFIG, OVERRIDES, SUMMARY, HOLDER = "config.yaml", "overrides.yaml", "summary.json", ".holder"


class Busy(UserError):
    """Another process has the folder."""


@contextmanager
def claim(directory: Path, *, resume: bool) -> Iterator[None]:
    """Hold the directory while a run uses it, making it first where it is not there.

    Raises Busy where another process holds it, UserError where it cannot be written and, unless
    resuming, where it holds a run already.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = FileLock(directory / ".lock")
        lock.acquire(timeout=0)
        (directory / HOLDER).write_text(f"process {os.getpid()}\n")
    except Timeout as error:
        holder = _holder(directory)
        raise Busy(f"{directory}: in use by {holder}; wait for it, or choose another") from error
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{directory}: cannot be written ({why}); choose another hydra.run.dir") from error
    try:
        if not resume and (directory / CONFIG).exists():
            raise UserError(
                f"{directory}: holds a run already, which is never overwritten; "
                f"continue it with resume={directory}, or choose another hydra.run.dir"
            )
        yield
    finally:
        (directory / HOLDER).unlink(missing_ok=True)
        lock.release()
        if not (directory / CONFIG).exists():  # nothing began: leave nothing behind
            with suppress(OSError):
                (directory / ".lock").unlink(missing_ok=True)
                directory.rmdir()


def _holder(directory: Path) -> str:
    try:
        return (directory / HOLDER).read_text().strip()
    except OSError:
        return "another process"


def write_start(directory: Path, overrides: Sequence[str], text: str, *, sync: bool = True) -> None:
    """config.yaml (what runs, fully resolved) and overrides.yaml (what was typed)."""
    replace(directory / OVERRIDES, "".join(f"- {_quoted(item)}\n" for item in overrides) or "[]\n", sync=sync)
    replace(directory / CONFIG, text, sync=sync)


def _quoted(item: str) -> str:
    return "'" + item.replace("'", "''") + "'"
