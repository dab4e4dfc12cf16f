"""Write and remove files without following links; every change to files goes through this module.

The folder of a run or a sweep may come from somebody else. While it is `held`, everything below it is opened
relative to the folder's descriptor, name by name, and a symbolic link on the way is an error. Without a held
folder, the path is trusted except for its last component, which is never followed. Systems that cannot open a
file relative to a folder (Windows) check the names beforehand instead.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from slipstream.core.errors import UserError

# Names of temporary files, which interrupted writes leave behind. No other file has such a name.
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
TEMPORARY_BEFORE = re.compile(
    r"\.(metrics|timings|summary|config|overrides|preprocessing)\.(jsonl|json|yaml)\.tmp"
)
LEFT_OVER_SECONDS = 86400.0  # older temporary files in a shared folder are abandoned
LINK = "a symbolic link, which slipstream does not write through"
RELATIVE = {os.open, os.mkdir, os.unlink, os.rmdir, os.rename, os.link} <= os.supports_dir_fd
NOFOLLOW, DIRECTORY = getattr(os, "O_NOFOLLOW", 0), getattr(os, "O_DIRECTORY", 0)
NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # opening a pipe must not block

_held: dict[str, list[int]] = {}  # folder -> its descriptor (-1 if the system has none), how often it is held
_changing = threading.Lock()


class Foreign(UserError):
    """A folder contains something that no run creates: a link, a pipe or a device."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Open a folder once, access everything below it relative to it, and follow no links there.

    The folder itself may be a link, as the user chose it. Raises OSError if it cannot be opened.
    """
    key = os.path.abspath(folder)
    with _changing:
        known = _root(Path(key, "x"))
        if known is None:
            _held[key] = [os.open(key, os.O_RDONLY | DIRECTORY) if RELATIVE else -1, 0]
            known = key
        _held[known][1] += 1
    try:
        yield
    finally:
        with _changing:
            entry = _held[known]
            entry[1] -= 1
            if not entry[1]:
                del _held[known]
                if entry[0] >= 0:
                    os.close(entry[0])


def root(path: Path) -> Path | None:
    """Return the held folder that is the path or contains it, or None."""
    found = _root(path / "x")
    return None if found is None else Path(found)


def require_own(folder: Path) -> None:
    """Raise Foreign if the folder contains something that no run creates, such as a pipe or an outside link.

    A tampered folder is refused before anything in it is read, written or removed.
    """
    _require_own(folder, folder.resolve())


def _require_own(folder: Path, root: Path) -> None:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        if entry.is_symlink() or _is_junction(entry):
            if not _resolved(entry.path).is_relative_to(root):
                raise Foreign(
                    f"{entry.path}: is a symbolic link to {os.readlink(entry.path)}, outside the folder of "
                    "the run, which no run creates. Remove the link and try again"
                )
        elif entry.is_dir(follow_symlinks=False):
            _require_own(Path(entry.path), root)
        elif not entry.is_file(follow_symlinks=False):
            raise Foreign(f"{entry.path}: is neither a file nor a folder, so no run created it; remove it")
        elif entry.name.endswith(".lock"):
            with suppress(FileNotFoundError):  # another process has just released it
                if entry.stat(follow_symlinks=False).st_nlink > 1:
                    raise Foreign(f"{entry.path}: has a second name elsewhere (a hard link); remove it")


def mkdir(path: Path, mode: int = 0o777) -> None:
    """Create a folder and its missing parents. Raises OSError if something else exists there."""
    root = _root(path)
    if root is None:
        if not path.is_dir():
            path.mkdir(mode, parents=True, exist_ok=True)
        return
    here = Path(root)
    for name in Path(os.path.abspath(path)).relative_to(root).parts:
        here /= name
        with _at(here) as (number, known), suppress(FileExistsError):
            os.mkdir(known, mode, dir_fd=number)
    with _at(here / "x"):  # raises if it is a link or a file
        pass


def make(path: Path, mode: int = 0o777) -> None:
    """Create one new folder. Raises FileExistsError if the path exists."""
    with _at(path) as (number, name):
        os.mkdir(name, mode, dir_fd=number)


def opened(path: Path, mode: str, encoding: str | None = None) -> IO[Any]:  # str or bytes, depending on mode
    """Open a file for writing: `x...` creates it, `a...` and `r+...` open an existing one.

    Raises OSError if it is a link, not a regular file, or has a second name (a hard link).
    """

    def opener(_: str, flags: int) -> int:
        with _at(path) as (number, name):
            found = os.open(name, flags | NOFOLLOW | NONBLOCK, 0o666, dir_fd=number)
        state = os.fstat(found)
        if not stat.S_ISREG(state.st_mode) or ("x" not in mode and state.st_nlink > 1):
            os.close(found)
            raise OSError(errno.EPERM, "a pipe, or a second name (hard link) of another file", str(path))
        return found

    return open(path, mode, encoding=encoding, opener=opener)


def rename(old: Path, new: Path) -> None:
    """Rename a file or a folder, replacing an existing file with the new name."""
    with _at(old) as (source, name), _at(new) as (target, other):
        os.replace(name, other, src_dir_fd=source, dst_dir_fd=target)


def link(old: Path, new: Path) -> None:
    """Create a hard link. Raises FileExistsError, or another OSError if the file system has no links."""
    with _at(old) as (source, name), _at(new) as (target, other):
        os.link(name, other, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)


def remove(path: Path) -> None:
    """Remove a file, or a link itself, if it exists."""
    with suppress(FileNotFoundError), _at(path) as (number, name):
        os.unlink(name, dir_fd=number)


def remove_folder(path: Path, names: Collection[str] = ()) -> None:
    """Remove the named files from a folder, then the folder if it is empty.

    A folder with other files stays. Raises OSError for any other failure.
    """
    for name in sorted(names):
        try:
            remove(path / name)
        except (IsADirectoryError, PermissionError, NotADirectoryError):
            if not (path / name).is_dir():
                raise
    try:
        with _at(path) as (number, known):
            os.rmdir(known, dir_fd=number)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def sync(path: Path) -> None:
    """Flush the entries of a folder to the disk."""
    if os.name == "nt":  # Windows cannot sync folders
        return
    with _at(path / "x") as (number, _):
        if number is not None:
            os.fsync(number)


def temporary(path: Path) -> Path:
    """Return an unpredictable name in the folder of `path` that marks slipstream's temporary files."""
    return path.with_name(f".{path.name}.{secrets.token_hex(16)}.tmp")


def remove_temporary(folder: Path, older_than: float | None = None) -> None:
    """Remove the temporary files that interrupted writes left in a folder.

    older_than: a timestamp. Files written after it are kept, since other processes may still write them.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            ours = TEMPORARY.fullmatch(entry.name) or TEMPORARY_BEFORE.fullmatch(entry.name)
            if not ours or not entry.is_file(follow_symlinks=False):
                continue
            if older_than is None or entry.stat(follow_symlinks=False).st_mtime < older_than:
                remove(Path(entry.path))


def _root(path: Path) -> str | None:
    """Return the nearest held folder above a path, or None."""
    return _root_of(os.path.abspath(path)) if _held else None


def _root_of(full: str) -> str | None:
    # `_at` and this function use strings: they run a hundred times per member, and Path is ten times slower.
    above, before = os.path.dirname(full), full
    while above not in _held:
        if above == before:
            return None
        above, before = os.path.dirname(above), above
    return above


@contextmanager
def _at(path: Path) -> Iterator[tuple[int | None, str]]:
    """Yield the parent folder's descriptor and the last name, or None and the full path on Windows."""
    full = os.path.abspath(path)
    root = _root_of(full)
    parent, last = os.path.split(full)
    above = [name for name in parent[len(root) :].split(os.sep) if name] if root is not None else []
    opened: list[int] = []
    try:
        here = root if root is not None else parent
        if not RELATIVE:
            for name in (*above, last):
                here = os.path.join(here, name)
                if os.path.islink(here):
                    raise OSError(errno.ELOOP, LINK, here)
            yield None, full
            return
        if root is None:
            number = os.open(parent, os.O_RDONLY | DIRECTORY)
            opened.append(number)
        else:
            number = _held[root][0]
            for name in above:
                here = os.path.join(here, name)
                number = _step(here, name, number)
                opened.append(number)
        yield number, last
    except OSError as error:
        if error.strerror != LINK:  # otherwise it already names the link, which may be a parent folder
            error.filename = str(path)
        if error.errno == errno.ELOOP:
            error.strerror = LINK
        raise
    finally:
        for number in opened:
            os.close(number)


def _step(path: str, name: str, above: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | DIRECTORY | NOFOLLOW, dir_fd=above)
    except OSError:
        if os.path.islink(path):  # the error number differs between systems
            raise OSError(errno.ELOOP, LINK, path) from None
        raise


def _resolved(path: str) -> Path:
    """Return the target of a link, or the path itself if links form a loop."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError):
        return Path(path)


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """Return True for a junction, the other kind of link on Windows."""
    return bool(getattr(os.path, "isjunction", lambda _: False)(entry.path)) if os.name == "nt" else False
