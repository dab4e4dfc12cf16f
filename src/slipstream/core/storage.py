"""Write the files of a run such that the user can recover from a full disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from slipstream.core import folders
from slipstream.core.errors import UserError
from slipstream.core.types import Plain
from slipstream.core.wording import typed

BEGUN = ("config.yaml", "sweep.json")  # marks the folder of a run and of a sweep
AT_ONCE = 4  # threads that write at the same time
T = TypeVar("T")
R = TypeVar("R")


class StorageError(UserError):
    """A file cannot be written. No single member is at fault, and only the user can fix it."""


class CheckpointError(StorageError):
    """A checkpoint is missing or damaged, or has another format or architecture."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise StorageError with the path and the system's reason if writing inside the block fails."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}). Saved files are not affected. "
            f"Fix the problem, then {go_on(path)}"
        ) from error


def go_on(path: Path) -> str:
    """Return advice on how to continue after the disk is fixed.

    A member of a sweep continues with its sweep. A run that had not started must be started again.
    """
    folder = folders.root(path) or path.parent
    if not any((folder / name).exists() for name in BEGUN):
        return "run the same command again"
    return f"continue with python train.py {typed('resume', folder)}"


def line(record: Mapping[str, Plain]) -> str:
    """Return a record as a line of JSON."""
    return json.dumps(record, allow_nan=False) + "\n"


def append(path: Path, records: Sequence[Mapping[str, Plain]]) -> None:
    """Append records as lines of JSON. Raises StorageError if they cannot be written."""
    if records:
        with writing(path), folders.opened(path, "a", "utf-8") as file:
            file.write("".join(map(line, records)))


def side_by_side(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Apply a function that waits for the disk to all items, several at a time.

    On a busy disk, one sync takes 4 ms, and four concurrent ones take 0.4 ms each.
    """
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, items))


def replace(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a whole file atomically: at any moment, either the old or the new file exists.

    sync: guarantee this after a power failure, too. Raises StorageError if the file cannot be written.
    """
    made = folders.temporary(path)
    with writing(path):
        write_new(made, text, sync=sync)
        folders.rename(made, path)


def write_first(path: Path, text: str) -> bool:
    """Write a whole file atomically unless the path exists; return False if it does.

    After the return, the file survives a power failure if its folder does. Raises OSError if the file cannot
    be written.
    """
    made = folders.temporary(path)
    write_new(made, text)
    try:
        folders.link(made, path)
    except FileExistsError:
        return False
    except OSError:  # this disk has no hard links
        with FileLock(path.with_name(f".{path.name}.lock")):
            if path.exists():
                return False
            folders.rename(made, path)
    finally:
        with suppress(OSError):
            folders.remove(made)
    folders.sync(path.parent)
    return True


def write_new(path: Path, text: str, *, sync: bool = True) -> None:
    """Write a new file. Raises OSError on failure and leaves no partial file behind."""
    try:
        with folders.opened(path, "x", "utf-8") as file:
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except FileExistsError:
        raise
    except OSError:
        with suppress(OSError):
            folders.remove(path)
        raise
