"""The folder of a run, which one process at a time claims and none overwrites."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from slipstream.core import folders
from slipstream.core.errors import UserError
from slipstream.core.storage import StorageError, go_on, replace, write_new
from slipstream.core.wording import typed

CONFIG, OVERRIDES, SUMMARY, HOLDER = "config.yaml", "overrides.yaml", "summary.json", ".holder"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)  # errors of the disk, not of one folder


class Busy(UserError):
    """Another process uses the folder."""


@contextmanager
def claim(directory: Path, *, resume: bool, advice: str | None = None) -> Iterator[None]:
    """Lock the folder while a run uses it. Create it first if it does not exist.

    advice: what to do if it contains a run; None is that of the command line.

    Raises Busy if another process uses it, and UserError if it cannot be written, contains files that no run
    creates or, unless resuming, already contains a run.
    """
    stack = ExitStack()
    try:
        folders.mkdir(directory)
        stack.enter_context(folders.held(directory))
        folders.require_own(directory)
        lock = FileLock(directory / ".lock")
        lock.acquire(timeout=0)
        stack.callback(lock.release)
        folders.remove_temporary(directory)
        folders.remove(directory / HOLDER)
        write_new(directory / HOLDER, f"process {os.getpid()}\n", sync=False)
    except Timeout as error:
        stack.close()
        holder = _holder(directory)
        raise Busy(f"{directory}: in use by {holder}; wait for it, or choose another folder") from error
    except UserError:
        stack.close()
        raise
    except OSError as error:
        stack.close()
        why = error.strerror or error
        if folders.root(directory) is not None:  # in a sweep, other members would fail too
            kind = StorageError if error.errno in FULL else UserError
            said = f"{directory}: cannot be written ({why}). Fix the problem, then {go_on(directory)}"
            raise kind(said) from error
        raise UserError(f"{directory}: cannot be written ({why}); choose another folder") from error
    try:
        if not resume and (directory / CONFIG).exists():
            usual = f"continue it with {typed('resume', directory)}, or choose another hydra.run.dir"
            raise UserError(
                f"{directory}: already contains a run, which is never overwritten; {advice or usual}"
            )
        yield
    finally:
        with suppress(
            OSError
        ):  # if the folder or disk is gone, do not hide the reason for the end of the run
            folders.remove(directory / HOLDER)
        lock.release()
        with suppress(OSError):
            if not (directory / CONFIG).exists():  # nothing was started, so leave nothing behind
                folders.remove_folder(directory, (".lock",))
        stack.close()


def remove_lock(directory: Path) -> None:
    """Remove the lock file of a claimed folder that nobody will claim again.

    A process that opened it before gets no lock, because filelock notices that its name is gone. On Windows,
    the file remains.
    """
    with suppress(OSError):
        folders.remove(directory / ".lock")


def _holder(directory: Path) -> str:
    try:
        return (directory / HOLDER).read_text().strip()
    except OSError:
        return "another process"


def write_start(directory: Path, overrides: Sequence[str], text: str, *, sync: bool = True) -> None:
    """Write config.yaml (the fully resolved configuration) and overrides.yaml (the command line)."""
    replace(directory / OVERRIDES, "".join(f"- {_quoted(item)}\n" for item in overrides) or "[]\n", sync=sync)
    replace(directory / CONFIG, text, sync=sync)


def _quoted(item: str) -> str:
    return "'" + item.replace("'", "''") + "'"
