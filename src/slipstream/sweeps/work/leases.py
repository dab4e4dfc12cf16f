"""Who trains which member of a sweep, where several processes or machines share its folder.

Every worker has a lease, `workers/<id>.lease`, that filelock renews while the worker lives. What a
member went through is a chain of small files in its folder: `.worker`, `.worker.1`, `.worker.2`, ...,
each naming a worker, or nobody where one gave the member back. The last one counts. A link is added
by creating the next file exclusively and nothing is ever changed or removed, so of many that want a
member one gets it, on every file system, and one that slept through its lease can undo nothing.
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
GLANCE = 0.1  # seconds between two looks at something that may be in the middle of a change
ID = re.compile(r"([A-Za-z0-9-]{1,64})-([0-9]{1,10})-([0-9a-f]{8})\n")


@dataclass(frozen=True)
class WorkerInfo:
    """A worker that is alive: its id, its machine's name and its process there."""

    id: str
    host: str
    pid: int


def host() -> str:
    """This machine's name, in letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:64] or "host"


class Leases:
    """One worker's claims to members; entering it takes the worker's lease, leaving gives everything back.

    directory: the sweep's folder. lease_seconds: a worker that gives no sign of life for so long is
    dead to the others, equal for all workers of a sweep. One that died on this machine is known at once.
    Raises UserError where the folder cannot be written.
    """

    def __init__(self, directory: Path, lease_seconds: float = LEASE_SECONDS) -> None:
        self.directory, self.lease_seconds = directory, lease_seconds
        self.id = f"{host()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._lease = self._lease_of(self.id)
        self._lost = False
        self._mine: set[int] = set()
        self._tops: dict[int, tuple[int, str]] = {}  # member -> its chain's last known link and its worker
        self._watched: dict[str, SoftFileLease] = {}
        # Worker -> its lease's marker as it was last seen, and since when it has been so.
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
        with suppress(OSError):  # a disk that has gone takes nothing with it: the lease runs out
            self._lease.release()
        self._mine.clear()

    def take(self, numbers: Iterable[int], limit: int) -> list[int]:
        """Claim up to `limit` of these members, in their order: free ones, and those of dead workers.

        Members that are this worker's already are passed over. Nothing is got when the lease is lost.
        """
        got: list[int] = []
        dead = cache(self._dead)  # one verdict on a worker is enough for all of its members
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
        """Give members back: others may take them at once. Those of others are left alone."""
        for number in self._mine.intersection(numbers):
            with suppress(OSError):  # leaving gives them back in any case
                link, holder = self._top(number)
                if holder == self.id:
                    self._add(number, link + 1, "")
            self._mine.discard(number)

    def mine(self) -> set[int]:
        """The members that are this worker's now: fewer than it took where others had to think it dead."""
        if self.lost:
            return set()
        with self._usable():
            return {number for number in self._mine if self._top(number)[1] == self.id}

    @property
    def lost(self) -> bool:
        """Whether others think this worker dead: its members are theirs, it must not touch them again."""
        if not self._lost:
            # Others move the marker aside for a moment while they judge it: only the second miss counts.
            self._lost = self._lease.compromise is not None or not (self._marked() or self._marked(GLANCE))
        return self._lost

    def others(self) -> list[WorkerInfo]:
        """The other workers that are alive, by id."""
        found = []
        for path in sorted((self.directory / WORKERS).glob("*.lease")):
            known = ID.fullmatch(f"{path.stem}\n")
            if known and path.stem != self.id and not self._dead(path.stem):
                found.append(WorkerInfo(path.stem, known[1], int(known[2])))
        return found

    # A member's chain

    def _claim(self, number: int, dead: Callable[[str], bool]) -> bool:
        """Add a link that names this worker, where the last one names nobody or a dead worker."""
        link, holder = self._top(number)
        if holder == self.id:  # a network's answer was lost, not what it asked for
            return True
        if holder and not dead(holder):
            return False
        return self._add(number, link + 1, self.id)

    def _top(self, number: int) -> tuple[int, str]:
        """The last link of a member's chain, -1 if there is none, and the worker it names, "" for nobody."""
        link, holder = self._tops.get(number, (-1, ""))
        while (found := self._read(self._link(number, link + 1))) is not None:
            link, holder = link + 1, found
        if holder:  # one that names nobody may be on the way to be written
            self._tops[number] = link, holder
        return link, holder

    def _read(self, path: Path) -> str | None:
        """The worker that a link names, "" for a released, torn or foreign one, None if there is none."""
        try:
            text = path.read_bytes()[:200].decode("ascii", "replace")
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            return ""
        return text.strip() if ID.fullmatch(text) else ""

    def _add(self, number: int, link: int, worker: str) -> bool:
        """Create a link, with its content or not at all; False where another one was faster."""
        path = self._link(number, link)
        folders.mkdir(path.parent)
        try:
            if worker:
                folders.link(self._path(".claim"), path)
                return True
        except FileExistsError:
            return False
        except OSError:
            # This file system has no hard links, or no more of them. Who reads the link before it has its
            # content takes it for released and adds the next: `take` looks once more after a moment.
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
        """Whether the marker of our lease is ours; so it is where the disk gives no answer for now."""
        time.sleep(after)
        try:
            return f"token={self._lease.token}\n" in self._path(".lease").read_text("ascii", "replace")
        except FileNotFoundError:
            return False
        except OSError:
            return True  # when that lasts, the heartbeat notices

    def _dead(self, worker: str) -> bool:
        """Whether a worker has ended, or given no sign of life for the length of its lease."""
        path = self._path(".lease", worker)
        lease = self._watched.setdefault(worker, self._lease_of(worker))
        try:
            if path.exists():
                # Knows a dead process of this machine from one elsewhere and from another with its number.
                lease.acquire(blocking=False)
                lease.release()
        except (Timeout, LeaseSettingsMismatch):
            # NFS and SMB cannot swap two names, without which filelock leaves a dead worker's lease for ever.
            if not self._silent(worker, path, lease):
                return False
        except OSError:
            return False
        with suppress(OSError):
            folders.remove(self._path(".claim", worker))
        return True

    def _silent(self, worker: str, path: Path, lease: SoftFileLease) -> bool:
        """Whether a lease has not been renewed for its length, by this machine's clock; then it is ended."""
        try:
            with open(path, "rb") as file:  # opening makes NFS ask its server
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
            folders.remove(path)  # so that the worker knows, should it wake up
        except OSError:
            return False  # Windows: it still has it open
        return True

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{error.filename or self.directory}: a worker of the sweep must read and write there "
                f"({error.strerror or error}). Mend that, then go on with {typed('resume', self.directory)}"
            ) from error
