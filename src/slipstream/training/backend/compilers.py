"""The compilers that inductor starts: stopping them on a signal, and explaining their failures."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile, gettempdir

from slipstream.core import folders
from slipstream.core.errors import ConfigError
from slipstream.core.storage import StorageError
from slipstream.training.interrupts import Abandoned, abandonable

NEEDED = 16 * 2**20  # bytes: a generous estimate for a network's functions and their compilers
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def stopped_with() -> Iterator[None]:
    """Stop compilation inside the block, including compilers, on a signal. Raises Abandoned in that case."""
    before = _descendants()
    try:
        with abandonable():
            yield
    except Abandoned:
        with suppress(Exception):  # errors of inductor; in the worst case, compilers finish by themselves
            from slipstream.core.compat import AsyncCompile

            if AsyncCompile.pool.cache_info().currsize:
                AsyncCompile.pool().shutdown(wait=False, cancel_futures=True)
                AsyncCompile.pool.cache_clear()
        _end(before)
        raise


def _end(before: set[int]) -> None:
    """Stop new processes with SIGTERM, so that they can clean up, and with SIGKILL after a second."""
    for number, seconds in ((signal.SIGTERM, 1.0), (getattr(signal, "SIGKILL", signal.SIGTERM), 0.0)):
        for process in _descendants() - before:
            with suppress(OSError):
                os.kill(process, number)
        until = time.monotonic() + seconds
        while _descendants() - before and time.monotonic() < until:
            time.sleep(0.05)


def write_whole() -> None:
    """Make inductor's compilers write files atomically.

    Otherwise, a killed linker leaves an incomplete library, which every later process would load.
    """
    from slipstream.core.compat import cpp_builder

    plain = cpp_builder.run_compile_cmd

    def run(cmd_line: str, cwd: str) -> None:
        words = shlex.split(cmd_line)
        if os.name == "nt" or words.count("-o") != 1:
            result: None = plain(cmd_line, cwd)
            return result
        place = words.index("-o") + 1
        target = Path(cwd, words[place])
        made = folders.temporary(target)
        try:
            plain(shlex.join([*words[:place], str(made), *words[place + 1 :]]), cwd)
            folders.rename(made, target)
        finally:
            folders.remove(made)

    cpp_builder.run_compile_cmd = run


@contextmanager
def explained() -> Iterator[None]:
    """Convert compiler failures to messages. Raises StorageError or ConfigError."""
    try:
        yield
    except Exception as error:
        from slipstream.core.compat import CppCompileError, InvalidCxxCompiler

        parts = list(_chain(error))
        known = OSError, ImportError, CppCompileError, InvalidCxxCompiler
        failed = [part for part in parts if isinstance(part, known)]
        if not failed:
            raise
        full = any(os.strerror(number) in str(part) for number in FULL for part in parts)
        if full or no_room():
            raise StorageError(_full(no_room() or os.strerror(errno.ENOSPC))) from error
        lines = [line.strip() for line in str(failed[-1]).splitlines()]
        told = [line for line in lines if "error:" in line] or [*filter(None, lines), "no reason given"]
        damaged = isinstance(failed[-1], ImportError)
        cure = "remove that file" if damaged else "fix the compiler"
        raise ConfigError(
            [f"trainer.compile: compilation failed ({told[0]}); {cure}, or use trainer.compile=false"]
        ) from error


def _full(problem: str) -> str:
    return (
        f"trainer.compile: there is no disk space for compiled code ({problem}). Free some, or "
        f"set TMPDIR and "
        "TORCHINDUCTOR_CACHE_DIR to folders with enough space, or use trainer.compile=false"
    )


def folder() -> Path:
    """Return inductor's cache folder. Raises OSError if it cannot be created."""
    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or gettempdir())


def require_room() -> None:
    """Raise StorageError if there is no disk space for a compiler's files."""
    if problem := no_room():
        raise StorageError(_full(problem))


def no_room() -> str | None:
    """Return the reason why a compiler cannot write its files, or None."""
    named = [os.environ[name] for name in ("TMPDIR", "TMP", "TEMP") if os.environ.get(name)]
    try:
        places = [folder(), *map(Path, named[:1]), Path(gettempdir())]
    except OSError as error:  # Python has tried all default locations
        return error.strerror or str(error)
    for place in dict.fromkeys(places):
        try:
            free = shutil.disk_usage(place if place.is_dir() else place.parent).free
            if free < NEEDED:
                return f"{place}: only {free / 2**20:.0f} MB free"
            if place.is_dir():
                with TemporaryFile(dir=place) as file:
                    file.write(bytes(2**16))
                    file.flush()
        except OSError as error:
            if error.errno in FULL:
                return f"{place}: {error.strerror}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _descendants() -> set[int]:
    """Return all descendants of this process; empty on systems without /proc."""
    below: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(entry.read_bytes().rpartition(b")")[2].split()[1])
            below[parent].append(int(entry.parent.name))
    found, open_ = set[int](), [os.getpid()]
    while open_:
        children = below.get(open_.pop(), [])
        found.update(children)
        open_ += children
    return found
