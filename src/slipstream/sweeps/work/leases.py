"""Leases: the assignment of members to processes or machines that share a sweep's folder.

Every worker has a lease, `workers/<id>.lease`, that filelock renews while the worker is alive. The history of
a member is a chain of small files in its folder, `.worker`, `.worker.1`, `.worker.2`, ..., that each name a
worker, or nobody after a worker released the member. The last one counts. A worker adds a link by creating
the next file exclusively, and nothing is ever changed or removed. So exactly one worker gets a member, on
every file system, and a worker that slept past its lease cannot undo anything.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from slipstream.core import folders, storage
from slipstream.core.errors import UserError
from slipstream.core.wording import typed

CLAIM, WORKERS, LEASE_SECONDS = ".worker", "workers", 30.0
GLANCE = 0.1  # between two checks of a file that may be changing
ID = re.compile(r"([A-Za-z0-9-]{1,64})-([0-9]{1,10})-([0-9a-f]{8})\n")


@dataclass(frozen=True)
class WorkerInfo:
    """A live worker: its id, its machine's name and its process there."""

    id: str
    host: str
    pid: int


def host() -> str:
    """Return this machine's name, in characters that every file system accepts."""
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:64] or "host"


class Leases:
    """One worker's claims to members. Entering takes the worker's lease, and leaving releases everything.

    directory: the sweep's folder. lease_seconds: the time without a sign of life after which others consider
    a worker dead, equal for all workers of a sweep. A death on this machine is detected at once.
    Raises UserError if the folder cannot be written.
    """

    def __init__(self, directory: Path, lease_seconds: float = LEASE_SECONDS) -> None:
        self.directory, self.lease_seconds = directory, lease_seconds
        self.id = f"{host()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._lease = self._lease_of(self.id)
        self._lost = False
        self._mine: set[int] = set()
        self._tops: dict[int, tuple[int, str]] = {}  # member -> its chain's last known link and its worker
        self._watched: dict[str, SoftFileLease] = {}
        # Worker -> the last seen marker of its lease, and the time since which it is unchanged.
        self._seen: dict[str, tuple[tuple[int, ...], float]] = {}
        self._paused = False

    def __enter__(self) -> Leases:
        with self._usable():
            folders.mkdir(self._path(".claim").parent)
            self._lease.acquire(blocking=False)
            storage.write_new(self._path(".claim"), f"{self.id}\n", sync=False)
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            folders.remove(self._path(".claim"))
        with suppress(OSError):  # if the disk is gone, the lease expires
            self._lease.release()
        self._mine.clear()

    def take(self, numbers: Iterable[int], limit: int) -> list[int]:
        """Claim up to `limit` of these members in order: free ones, and those of dead workers.

        Members that this worker already has are skipped. Returns nothing if the lease is lost.
        """
        got: list[int] = []
        dead = cache(self._dead)  # one check of a worker is enough for all of its members
        with self._usable():
            for number in numbers:
                if len(got) >= limit:
                    break
                if number not in self._mine and self._claim(number, dead):
                    got.append(number)
            if self._paused:
                time.sleep(GLANCE)
                self._paused = False
            got = [number for number in got if self._top(number)[1] == self.id]
        if self.lost:
            return []
        self._mine.update(got)
        return got

    def release(self, numbers: Iterable[int]) -> None:
        """Release members so that others may take them immediately. Members of others are not affected."""
        for number in self._mine.intersection(numbers):
            with suppress(OSError):  # leaving releases them anyway
                link, holder = self._top(number)
                if holder == self.id:
                    self._add(number, link + 1, "")
            self._mine.discard(number)

    def mine(self) -> set[int]:
        """Return the members that this worker still has: fewer if others considered it dead."""
        if self.lost:
            return set()
        with self._usable():
            return {number for number in self._mine if self._top(number)[1] == self.id}

    @property
    def lost(self) -> bool:
        """Return True if others consider this worker dead. It must not touch its members again."""
        if not self._lost:
            # Others briefly move the marker aside while they check it, so only the second miss counts.
            self._lost = self._lease.compromise is not None or not (self._marked() or self._marked(GLANCE))
        return self._lost

    def others(self) -> list[WorkerInfo]:
        """Return the other live workers, by id."""
        found = []
        for path in sorted((self.directory / WORKERS).glob("*.lease")):
            known = ID.fullmatch(f"{path.stem}\n")
            if known and path.stem != self.id and not self._dead(path.stem):
                found.append(WorkerInfo(path.stem, known[1], int(known[2])))
        return found

    # A member's chain

    def _claim(self, number: int, dead: Callable[[str], bool]) -> bool:
        """Add a link that names this worker, if the last one names nobody or a dead worker."""
        link, holder = self._top(number)
        if holder == self.id:  # the network lost the answer, not the request
            return True
        if holder and not dead(holder):
            return False
        return self._add(number, link + 1, self.id)

    def _top(self, number: int) -> tuple[int, str]:
        """Return the last link of a member's chain (-1 for none) and its worker ("" for nobody)."""
        link, holder = self._tops.get(number, (-1, ""))
        while (found := self._read(self._link(number, link + 1))) is not None:
            link, holder = link + 1, found
        if holder:  # one that names nobody may still be being written
            self._tops[number] = link, holder
        return link, holder

    def _read(self, path: Path) -> str | None:
        """Return the worker in a link: "" for a released, incomplete or foreign link, None for no link."""
        try:
            text = path.read_bytes()[:200].decode("ascii", "replace")
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            return ""
        return text.strip() if ID.fullmatch(text) else ""

    def _add(self, number: int, link: int, worker: str) -> bool:
        """Create a link atomically. Return False if another worker was faster."""
        path = self._link(number, link)
        folders.mkdir(path.parent)
        try:
            if worker:
                folders.link(self._path(".claim"), path)
                return True
        except FileExistsError:
            return False
        except OSError:
            # This disk has no (more) hard links. A reader that sees the link before its content considers it
            # released and adds the next one, so `take` checks again after a moment.
            self._paused = True
        try:
            with folders.opened(path, "x", "ascii") as stream:
                stream.write(f"{worker}\n" if worker else "")
        except FileExistsError:
            return False
        return True

    def _link(self, number: int, link: int) -> Path:
        return self.directory / str(number) / (f"{CLAIM}.{link}" if link else CLAIM)

    # Leases

    def _path(self, suffix: str, worker: str = "") -> Path:
        return self.directory / WORKERS / f"{worker or self.id}{suffix}"

    def _lease_of(self, worker: str) -> SoftFileLease:
        path = self._path(".lease", worker)
        return SoftFileLease(path, lease_duration=self.lease_seconds, thread_local=False)

    def _marked(self, after: float = 0.0) -> bool:
        """Return True if the marker of this lease is valid, or if the disk does not respond at the moment."""
        time.sleep(after)
        try:
            return f"token={self._lease.token}\n" in self._path(".lease").read_text("ascii", "replace")
        except FileNotFoundError:
            return False
        except OSError:
            return True  # if that lasts, the heartbeat notices

    def _dead(self, worker: str) -> bool:
        """Return True if a worker has ended, or has shown no sign of life for the length of its lease."""
        path = self._path(".lease", worker)
        lease = self._watched.setdefault(worker, self._lease_of(worker))
        try:
            if path.exists():
                # Distinguishes a dead process of this machine from one elsewhere and from another with its
                # number.
                lease.acquire(blocking=False)
                lease.release()
        except (Timeout, LeaseSettingsMismatch):
            # NFS and SMB cannot swap two names, so filelock would keep a dead worker's lease forever.
            if not self._silent(worker, path, lease):
                return False
        except OSError:
            return False
        with suppress(OSError):
            folders.remove(self._path(".claim", worker))
        return True

    def _silent(self, worker: str, path: Path, lease: SoftFileLease) -> bool:
        """Return True if a lease was not renewed for its length by this machine's clock, and end it."""
        try:
            with open(path, "rb") as file:  # opening makes NFS query its server
                state = os.fstat(file.fileno())
        except FileNotFoundError:
            return True
        except OSError:
            return False
        marker, now = (state.st_mtime_ns, state.st_ino, state.st_size), time.monotonic()
        before, since = self._seen.get(worker, (None, now))
        self._seen[worker] = (marker, since if marker == before else now)
        owner = lease.owner
        patience = max(self.lease_seconds, (owner and owner.lease_duration) or 0.0)
        if marker != before or now - since < patience:
            return False
        try:
            folders.remove(path)  # the worker notices this if it wakes up
        except OSError:
            return False  # on Windows, the worker still has it open
        return True

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{error.filename or self.directory}: a worker of the sweep must read and write there "
                f"({error.strerror or error}). Fix the problem, then continue with "
                f"{typed('resume', self.directory)}"
            ) from error
