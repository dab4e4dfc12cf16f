"""Leases: each member belongs to one worker at a time, whatever happens to workers, disks and clocks."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import SoftFileLease

from ondisk import NAMESPACE, needs_namespaces, started
from slipstream.core.errors import UserError
from slipstream.sweeps.work.leases import CLAIM, WORKERS, Leases, host

LEASE = 0.6  # seconds; heartbeats come every 0.2
ELSEWHERE = "elsewhere-7-0123abcd"
HOLD = """
import sys, time
from pathlib import Path
from slipstream.sweeps.work.leases import Leases
with Leases(Path(sys.argv[1]), float(sys.argv[2])) as claims:
    print(claims.id, claims.take(range(4), 4), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a process that claims members 0 to 3 and holds them; ended with the test."""
    with ExitStack() as ends:

        def start(lease):
            command = [sys.executable, "-c", HOLD, str(tmp_path), str(lease)]
            process = ends.enter_context(started(command, stdout=subprocess.PIPE, text=True))
            assert "[0, 1, 2, 3]" in process.stdout.readline()
            return process

        yield start


def until(condition, seconds=10.0):
    """Whether a condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def foreign_lease(directory, worker=ELSEWHERE, machine="elsewhere", pid=7, start="", duration=LEASE):
    """A lease as filelock writes it for a process of another machine."""
    path = directory / WORKERS / f"{worker}.lease"
    path.parent.mkdir(exist_ok=True)
    record = f"filelock/2\npid={pid}\nhost={machine}\nmode=lease\ntoken=00ff\nduration={duration!r}\n{start}"
    path.write_text(record)
    return path


def claimed_by(directory, worker=ELSEWHERE, number=0):
    """A member that a worker has claimed."""
    (directory / str(number)).mkdir()
    (directory / str(number) / CLAIM).write_text(f"{worker}\n")


def test_a_member_has_one_worker(tmp_path):
    """What one has taken no other gets; members come in the order asked for, no more than the limit."""
    with Leases(tmp_path) as one, Leases(tmp_path) as two:
        assert one.take([3, 1, 2, 0], 2) == [3, 1]
        assert one.take([3, 1, 2, 0], 1) == [2]
        assert two.take([3, 1, 2, 0], 4) == [0]
        assert one.take([3, 1, 2, 0], 4) == []
        assert (one.mine(), two.mine()) == ({1, 2, 3}, {0})


@pytest.mark.slow
def test_a_race_has_one_winner(tmp_path):
    """Eight workers that want the same 200 members at the same time get each of them once."""
    with ExitStack() as leases:
        workers = [leases.enter_context(Leases(tmp_path)) for _ in range(8)]
        barrier = threading.Barrier(8)

        def race(worker):
            barrier.wait()
            for number in range(200):
                worker.take([number], 1)

        threads = [threading.Thread(target=race, args=(worker,)) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = [number for worker in workers for number in worker.mine()]
        assert sorted(taken) == list(range(200))


@pytest.mark.slow
def test_a_thousand_claims_take_no_time(tmp_path):
    """1,000 members are claimed within half a second of this process's time."""
    with Leases(tmp_path) as claims:
        begin = time.process_time()
        assert len(claims.take(range(1000), 1000)) == 1000
        assert time.process_time() - begin < 0.5


def test_what_is_given_back_is_free_at_once(tmp_path):
    """After a release another worker gets the member, and the first may have it again later."""
    with Leases(tmp_path) as one, Leases(tmp_path) as two:
        one.take(range(3), 3)
        one.release([1, 7])
        assert two.take(range(3), 3) == [1]
        assert one.mine() == {0, 2}
        one.release([1])  # not its own any more
        assert two.mine() == {1}
        two.release([1])
        assert one.take(range(3), 3) == [1]


def test_leaving_gives_everything_back(tmp_path):
    """A worker that ends leaves neither lease nor members; only the chain of claims stays."""
    with Leases(tmp_path) as one:
        one.take(range(3), 3)
    assert not list((tmp_path / WORKERS).iterdir())
    assert one.lost
    with Leases(tmp_path) as two:
        assert two.take(range(3), 3) == [0, 1, 2]


@pytest.mark.slow
def test_a_dead_process_of_this_machine_is_known_at_once(tmp_path, holder):
    """A killed worker's members are free without waiting for its lease of 30 seconds."""
    process = holder(30.0)
    with Leases(tmp_path) as claims:
        assert claims.take(range(4), 4) == []
        assert [worker.pid for worker in claims.others()] == [process.pid]
        assert claims.others()[0].host == host()
        process.kill()
        process.wait()
        assert claims.others() == []
        assert claims.take(range(4), 2) == [0, 1]
        assert claims.take(range(4), 4) == [2, 3]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="Windows stops no process")
@needs_namespaces
def test_workers_whose_processes_have_numbers_of_their_own(tmp_path):
    """Two containers share a folder and a machine's name: a number says nothing about the other's process, so
    neither takes members of the other before its lease has run out. (filelock before 4.1 did.)"""
    command = [*NAMESPACE, sys.executable, "-c", HOLD, str(tmp_path), "5"]
    with started(command, stdout=subprocess.PIPE, text=True) as process:
        assert "[0, 1, 2, 3]" in process.stdout.readline()
        (path,) = (tmp_path / WORKERS).glob("*.lease")
        assert int(path.stem.split("-")[-2]) < 10  # the container's number, which is another's here
        with Leases(tmp_path, 5) as claims:
            assert claims.take(range(5), 5) == [4]
            assert [worker.id for worker in claims.others()] == [path.stem]
        again = subprocess.run(
            [*NAMESPACE, sys.executable, "-c", HOLD.replace("time.sleep(60)", ""), str(tmp_path), "5"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert again.stdout.endswith(" []\n")


@pytest.mark.slow
def test_a_stopped_worker_loses_its_members(tmp_path, holder):
    """One that gives no sign of life keeps its members for the length of its lease and no longer."""
    process = holder(LEASE)
    with Leases(tmp_path, LEASE) as claims:
        process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        assert claims.take(range(4), 4) == []
        assert until(lambda: claims.take(range(4), 4) == [0, 1, 2, 3])
        assert time.monotonic() - begin > LEASE * 0.9
        assert claims.others() == []


def test_a_number_of_a_process_may_be_used_again(tmp_path):
    """A live process with the dead worker's number is not taken for it."""
    with Leases(tmp_path) as claims:
        own = SoftFileLease(tmp_path / WORKERS / f"{claims.id}.lease").owner
        if own.start is None:
            pytest.skip("this system does not tell when a process started")
        foreign_lease(tmp_path, machine=own.hostname, pid=os.getpid(), start=f"start={own.start}\n")
        claimed_by(tmp_path)
        assert claims.take([0], 1) == []
        foreign_lease(tmp_path, machine=own.hostname, pid=os.getpid(), start=f"start={own.start + 1}\n")
        assert claims.take([0], 1) == [0]


@pytest.mark.parametrize("clock", [0, 2**31, None], ids=["1970", "2038", "true"])
@pytest.mark.parametrize("exchange", [True, False], ids=["local", "nfs"])
def test_clocks_of_machines_may_differ(tmp_path, monkeypatch, clock, exchange):
    """A worker elsewhere lives as long as its lease changes, whatever time its machine thinks it is.

    On NFS, which cannot swap two names, as on a local disk.
    """
    if not exchange:
        monkeypatch.setattr("filelock._soft.exchange_names", lambda *names: False)
    path = foreign_lease(tmp_path)
    claimed_by(tmp_path)
    with Leases(tmp_path, LEASE) as claims:
        begin, beat = time.time() if clock is None else clock, 0
        while beat < 12:  # twice its length
            os.utime(path, (begin + beat, begin + beat))
            assert claims.take([0], 1) == []
            beat += 1
            time.sleep(LEASE / 6)
        assert until(lambda: claims.take([0], 1) == [0])
        assert not path.exists()


def test_the_longer_lease_counts(tmp_path):
    """A worker that was promised a longer lease than ours keeps its members for so long."""
    foreign_lease(tmp_path, duration=3600.0)
    claimed_by(tmp_path)
    with Leases(tmp_path, 0.1) as claims:
        assert not until(lambda: claims.take([0], 1), seconds=0.5)


@pytest.mark.parametrize(
    "content",
    [b"", b"vm-12", b"vm-12-0123abc\n", b"hello\n", b"\xff\xfe\x00", b"x" * 10_000, b"../../up-1-0123abcd\n"],
)
def test_torn_and_foreign_claims_bind_nobody(tmp_path, content):
    """A claim that names no worker is nobody's: one worker gets the member, and the file stays as it was."""
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / CLAIM).write_bytes(content)
    with Leases(tmp_path) as one, Leases(tmp_path) as two:
        assert one.take([0], 1) == [0]
        assert two.take([0], 1) == []
        assert one.mine() == {0}
    assert (tmp_path / "0" / CLAIM).read_bytes() == content


@pytest.mark.skipif(os.name == "nt", reason="Windows says of a folder that it may not be read")
def test_a_folder_is_no_claim(tmp_path):
    """A folder with a claim's name binds nobody."""
    (tmp_path / "0" / CLAIM).mkdir(parents=True)
    with Leases(tmp_path) as claims:
        assert claims.take([0], 1) == [0]


def test_disks_without_hard_links(tmp_path, monkeypatch):
    """Where there are no hard links, or no more of them, a member still has one worker."""

    def refuse(*paths, **options):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with Leases(tmp_path) as one, Leases(tmp_path) as two:
        assert one.take(range(3), 2) == [0, 1]
        assert two.take(range(3), 3) == [2]
        assert (tmp_path / "2" / CLAIM).read_text() == f"{two.id}\n"


def test_a_claim_that_was_read_too_early_is_lost(tmp_path, monkeypatch):
    """Without hard links, who was overtaken before its claim was written does not get the member."""

    def overtaken(*paths, **options):
        (tmp_path / "0" / f"{CLAIM}.1").write_text(f"{other.id}\n")
        raise OSError(errno.EPERM, "no links here")

    with Leases(tmp_path) as one, Leases(tmp_path) as other:
        monkeypatch.setattr(os, "link", overtaken)
        assert one.take([0], 1) == []
        assert other.take([0], 1) == [0]


def test_an_answer_that_was_lost_on_the_way(tmp_path, monkeypatch):
    """A network that says no though it said yes leaves the member with who claimed it."""
    plain = os.link

    def denied(*paths, **options):
        plain(*paths, **options)
        raise FileExistsError(errno.EEXIST, "sent twice")

    with Leases(tmp_path) as one, Leases(tmp_path) as two:
        monkeypatch.setattr(os, "link", denied)
        assert one.take([0], 1) == [0] or one.take([0], 1) == [0]
        assert two.take([0], 1) == []


def test_who_lost_its_lease_gets_and_frees_nothing(tmp_path):
    """A worker whose lease was ended finds it lost for good, and what it does then changes no claim."""
    with Leases(tmp_path) as one, Leases(tmp_path) as two:
        one.take([0, 1], 2)
        assert not one.lost
        path = tmp_path / WORKERS / f"{one.id}.lease"
        marker = path.read_bytes()
        path.unlink()
        assert two.take([0], 1) == [0]
        assert one.lost
        assert (one.take([1, 2], 2), one.mine()) == ([], set())
        one.release([0, 1])
        assert two.mine() == {0}
        path.write_bytes(marker)
        assert one.lost
        path.unlink()


def test_a_folder_that_cannot_be_written(tmp_path):
    """What the disk refuses is a mistake that can be mended, and the message names the place."""
    (tmp_path / WORKERS).write_text("a file")
    with pytest.raises(UserError, match=WORKERS), Leases(tmp_path):
        pass
    (tmp_path / WORKERS).unlink()
    with Leases(tmp_path) as claims:
        (tmp_path / "5").write_text("a file")
        with pytest.raises(UserError, match=f"resume={tmp_path}"):
            claims.take([5], 1)


@pytest.mark.parametrize("call", ["mkdir", "open", "read_bytes"])
def test_no_permission(tmp_path, monkeypatch, call):
    """Where a folder or a claim may not be written or read nothing is taken, and the message says why."""

    def refuse(path, *arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    def no_links(*paths, **options):
        raise OSError(errno.EPERM, "no links here")

    with Leases(tmp_path) as claims:
        with monkeypatch.context() as patched:
            patched.setattr(os, "link", no_links)
            patched.setattr(Path if call == "read_bytes" else os, call, refuse)
            with pytest.raises(UserError, match=f"{CLAIM if call != 'mkdir' else '0'}.*Permission denied"):
                claims.take([0], 1)
        assert claims.mine() == set()


def test_only_leases_of_workers_are_workers(tmp_path):
    """Other files in the workers' folder are nobody, and a lease without a claim is a worker."""
    with Leases(tmp_path) as claims:
        (tmp_path / WORKERS / "notes.lease").write_text("mine")
        assert claims.others() == []
        foreign_lease(tmp_path)
        assert [(worker.id, worker.host, worker.pid) for worker in claims.others()] == [
            (ELSEWHERE, "elsewhere", 7)
        ]
