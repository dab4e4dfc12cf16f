"""The journal of a study, in Optuna's own format and written in transactions.

Optuna's file backend appends, and waits for the disk, once per parameter and reported value. A process that
dies while appending leaves a partial trial and a partial line, after which nobody can open the study. Here,
each transaction is one write under one lock: the number of trials can be checked and increased without a
race, an epoch of a pack waits for the disk once, and the next process drops an incomplete transaction
entirely. Optuna's own tools can read the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import SoftFileLease, Timeout
from optuna.storages.journal import BaseJournalBackend

from slipstream.core import folders
from slipstream.core.errors import UserError
from slipstream.core.storage import writing
from slipstream.core.types import Plain
from slipstream.core.wording import typed

# The number of further lines in the same transaction. Optuna ignores an unknown field.
FOLLOWING = "following"

# The maximum time between creating the lock's marker and writing a process's name into it.
NAMELESS_SECONDS = 3.0

Log = dict[str, Plain]


class Journal(BaseJournalBackend):
    """A backend for `optuna.storages.JournalStorage` that works only inside `transaction`.

    lease_seconds: the time after which a lock is taken from a process without a sign of life; from one that
    died on this machine, immediately.
    """

    def __init__(self, path: Path, lease_seconds: float = 30) -> None:
        self._path = path
        # A lease rather than the system's lock: it also works on disks shared by several machines.
        self._lock = SoftFileLease(f"{path}.lock", lease_duration=lease_seconds, poll_interval=0.01)
        self._end = 0  # bytes read of the file
        self._logs: list[Log] = []  # what the storage has not yet received
        self._given = 0
        self._pending: list[str] | None = None  # what this transaction wrote, None outside of one

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Exclude other processes. Write everything together at the end, or nothing after an exception.

        After an exception, the storage has records that are not in the file, so it must be reopened.
        """
        with writing(self._path):
            self._acquire()
        try:
            self._catch_up()
            self._pending = []
            yield
            self._write(self._pending)
        finally:
            self._pending = None
            self._lock.release()

    def _acquire(self) -> None:
        """Wait for the lock.

        A process that is killed before it wrote its name leaves an empty marker, for which filelock waits
        forever. This removes such a marker after a while.
        """
        marker = Path(self._lock.lock_file)
        while True:
            before = _empty(marker)
            try:
                self._lock.acquire(timeout=NAMELESS_SECONDS)
                return
            except Timeout:
                if before is not None and before == _empty(marker):
                    folders.remove(marker)

    def read_logs(self, log_number_from: int) -> Iterator[Log]:
        """Return the records that the storage does not have yet."""
        seen = log_number_from - self._given
        self._logs, self._given = self._logs[seen:], log_number_from
        return iter(tuple(self._logs))

    def append_logs(self, logs: list[Log]) -> None:
        """Add to the transaction."""
        if self._pending is None:
            raise RuntimeError("the journal can be written only in transactions")
        for log in logs:
            text = json.dumps(log, separators=(",", ":"))
            self._pending.append(text)
            # Read back, so that this process sees exactly what the others will.
            self._logs.append(json.loads(text))

    def _catch_up(self) -> None:
        """Read what others wrote; drop an incomplete transaction."""
        if not self._path.exists():
            return
        with writing(self._path), folders.opened(self._path, "r+b") as file:
            file.seek(self._end)
            data = file.read()
            logs, size = _whole(data, self._path)
            if size < len(data):
                file.truncate(self._end + size)
                os.fsync(file.fileno())
        self._end += size
        self._logs += logs

    def _write(self, lines: list[str]) -> None:
        if not lines:
            return
        last = len(lines) - 1
        marked = [f'{line[:-1]},"{FOLLOWING}":{last - i}}}\n' for i, line in enumerate(lines)]
        data = "".join(marked).encode()
        with writing(self._path), folders.opened(self._path, "ab") as file:
            if self._lock.compromise is not None or file.tell() != self._end:
                raise UserError(
                    f"{self._path}: another process took over the lock while this one was suspended. "
                    f"Nothing is lost: continue with {typed('resume', self._path.parent)}"
                )
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._end += len(data)


def _empty(marker: Path) -> tuple[int, int] | None:
    """Identify an empty marker; None if there is none or it names a process."""
    try:
        found = marker.lstat()
    except FileNotFoundError:
        return None
    return None if found.st_size else (found.st_ino, found.st_ctime_ns)


def _whole(data: bytes, path: Path) -> tuple[list[Log], int]:
    """Return the records of all complete transactions, and their size in bytes.

    Raises UserError for an unreadable line before a readable one: that is not a torn end.
    """
    logs: list[Log] = []
    begun: list[Log] = []
    size = position = 0
    lines = data.splitlines(keepends=True)
    for number, line in enumerate(lines):
        log = _parse(line)
        if log is None:
            if any(_parse(later) for later in lines[number + 1 :]):
                raise UserError(
                    f"{path}: is damaged: the line at byte {position} of the last read is not a record. "
                    "Restore the file from a copy; the members' own folders are not affected"
                )
            break
        position += len(line)
        begun.append(log)
        if not log.get(FOLLOWING):
            logs += begun
            begun, size = [], position
    return logs, size


def _parse(line: bytes) -> Log | None:
    """Parse a record; None if the line is incomplete."""
    try:
        log = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return log if isinstance(log, dict) and "op_code" in log else None
