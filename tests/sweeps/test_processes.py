"""Workers: several processes drain one sweep, each member trained once, whoever dies on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slipstream.core.errors import UserError
from slipstream.sweeps.work import processes
from slipstream.sweeps.work.leases import CLAIM, WORKERS

MEMBERS, LEASE = 40, 0.6
# Stands for `slipstream resume=DIR`: claims members, sleeps in place of training, writes summaries.
STUB = """
import os, signal, sys, time
from pathlib import Path
from slipstream.sweeps.work.leases import Leases
from slipstream.sweeps.work import processes as workers

directory = Path(sys.argv[1].removeprefix("resume=").strip("'"))
stopped = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: stopped.append(number))
print("worker", workers.index(), "threads", os.environ["OMP_NUM_THREADS"], flush=True)
if (directory / "bug").exists():
    raise ValueError("a bug in worker %d" % workers.index())
with Leases(directory, LEASE) as claims:
    while len(list((directory / "workers").glob("*.lease"))) < TOGETHER:
        time.sleep(0.01)
    while not stopped and not claims.lost:
        left = [n for n in range(MEMBERS) if not (directory / str(n) / "summary.json").exists()]
        if not left:
            break
        # The list may be old by now: what was finished meanwhile is not trained again.
        for number in claims.take(left, 4):
            folder = directory / str(number)
            if (folder / "summary.json").exists():
                continue
            with open(folder / "begun", "a") as file:
                file.write(claims.id + "\\n")
            time.sleep(SLOW if workers.index() == 1 else PAUSE)
            if claims.lost or stopped:
                break
            open(folder / "summary.json", "x").write(claims.id)
        else:
            time.sleep(0.02)
    print("lost" if claims.lost else "done", flush=True)
sys.exit(128 + stopped[0] if stopped else 0)
"""


@pytest.fixture
def stub(tmp_path):
    """Writes the stub's program. Seconds that a member takes, in worker 1, and who starts together."""

    def write(pause=0.005, slow=None, together=1):
        path = tmp_path / "stub.py"
        values = {"MEMBERS": MEMBERS, "LEASE": LEASE, "PAUSE": pause, "TOGETHER": together}
        values["SLOW"] = pause if slow is None else slow
        text = STUB
        for name, value in values.items():
            text = text.replace(name, repr(value))
        path.write_text(text)
        return (str(path),)

    return write


@pytest.fixture
def sweep(tmp_path):
    """The folder of a sweep, with letters that Hydra's grammar minds."""
    path = tmp_path / "a sweep, tpe=1"
    path.mkdir()
    return path


def done(sweep):
    """Which members have been finished, by number, and by whom."""
    return {int(path.parent.name): path.read_text() for path in sweep.glob("*/summary.json")}


def begun(sweep, number):
    """How often a member was begun."""
    return len((sweep / str(number) / "begun").read_text().splitlines())


def in_the_middle(sweep, pid):
    """Whether a process has begun a member and not finished it."""
    began = [path.parent for path in sweep.glob("*/begun") if f"-{pid}-" in path.read_text()]
    return any(not (folder / "summary.json").exists() for folder in began)


def logs(sweep):
    """What the workers wrote, in the order of their numbers."""
    return [path.read_text() for path in sorted((sweep / WORKERS).glob("*.log"))]


def until(condition, seconds=20.0):
    """Whether a condition came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
def test_two_processes_drain_a_sweep(sweep, stub, monkeypatch):
    """Both work, every member is trained once, and what they need to know is in their environment."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(processes, "_cores", lambda: 12)
    with processes.start(sweep, 2, program=stub(0.02, together=2)) as helpers:
        assert helpers.alive == 2
    assert helpers.fallen() == []
    assert sorted(done(sweep)) == list(range(MEMBERS))
    assert all(begun(sweep, number) == 1 for number in range(MEMBERS))
    assert len(set(done(sweep).values())) == 2
    assert [log.split()[:4] for log in logs(sweep)] == [
        ["worker", "1", "threads", "4"],  # three workers share 12 cores: this process is one
        ["worker", "2", "threads", "4"],
    ]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_a_killed_worker_leaves_its_members(sweep, stub):
    """Members of a worker killed in the middle go to the other one, and all get done, once."""
    with processes.start(sweep, 2, program=stub(0.02, slow=0.5, together=2)) as helpers:
        killed = helpers._processes[0][0]
        assert until(lambda: in_the_middle(sweep, killed.pid))
        killed.kill()
    assert sorted(done(sweep)) == list(range(MEMBERS))
    assert sum(begun(sweep, number) for number in range(MEMBERS)) == MEMBERS + 1
    (fallen,) = helpers.fallen()
    assert "Worker 1 was killed" in str(fallen)
    assert helpers.fallen() == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="POSIX signals")
def test_a_stopped_worker_wakes_up_and_stops(sweep, stub):
    """One that slept through its lease finds its members lost, touches none of them, and ends."""
    with processes.start(sweep, 2, program=stub(0.02, slow=0.5, together=2)) as helpers:
        sleeper, log = helpers._processes[0]
        assert until(lambda: in_the_middle(sweep, sleeper.pid))
        sleeper.send_signal(signal.SIGSTOP)
        assert until(lambda: len(done(sweep)) == MEMBERS)
        finished = done(sweep)
        sleeper.send_signal(signal.SIGCONT)
    assert log.read_text().splitlines()[-1] == "lost"
    assert helpers.fallen() == []
    assert done(sweep) == finished
    assert sum(begun(sweep, number) for number in range(MEMBERS)) == MEMBERS + 1


@pytest.mark.slow
def test_a_worker_with_a_bug_is_reported(sweep, stub):
    """What fell is told once, with the end of its log; the others go on."""
    (sweep / "bug").touch()
    with processes.start(sweep, 1, program=stub()) as helpers:
        pass
    (fallen,) = helpers.fallen()
    assert fallen.code == 1
    assert "exit code 1" in str(fallen)
    assert str(fallen).endswith("ValueError: a bug in worker 1")
    assert str(fallen.log) in str(fallen)
    assert helpers.fallen() == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_passed_on(sweep, stub, number):
    """A signal of the parent ends its workers, which give their members back; none of them fell."""

    class Interrupted:
        received = None

    with processes.start(sweep, 2, program=stub(0.2)) as helpers:
        assert until(lambda: len(logs(sweep)) == 2 and all(logs(sweep)))
        assert until(lambda: any(sweep.glob(f"*/{CLAIM}")))
        Interrupted.received = number
        helpers.wait(Interrupted)
        assert helpers.alive == 0
    assert [process.returncode for process, _ in helpers._processes] == [128 + number] * 2
    assert helpers.fallen() == []
    assert len(done(sweep)) < MEMBERS
    assert not list((sweep / WORKERS).glob("*.lease"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_an_error_stops_the_workers(sweep, stub):
    """When the parent falls, its workers are told to stop, and the error is what is seen."""

    def fall():
        with processes.start(sweep, 1, program=stub(0.2)) as helpers:
            started.append(helpers)
            assert until(lambda: any(sweep.glob(f"*/{CLAIM}")))
            raise ValueError("a bug")

    started = []
    with pytest.raises(ValueError, match="a bug"):
        fall()
    assert started[0]._processes[0][0].returncode == 143


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX signals")
def test_workers_outlive_their_parent(sweep, stub):
    """When the parent is killed its workers finish the sweep."""
    code = f"""
from pathlib import Path
import time
from slipstream.sweeps.work import processes as workers
helpers = workers.start(Path({str(sweep)!r}), 1, program={stub(0.02)!r})
print("started", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"started\n"
        assert until(lambda: len(done(sweep)) > 1)
        parent.kill()
    assert len(done(sweep)) < MEMBERS
    assert until(lambda: len(done(sweep)) == MEMBERS)
    assert until(lambda: not list((sweep / WORKERS).glob("*.lease")))


def test_a_worker_that_cannot_start(sweep, monkeypatch):
    """A UserError names what is missing."""
    monkeypatch.setattr(sys, "executable", str(sweep / "no-python"))
    with pytest.raises(UserError, match="no-python"):
        processes.start(sweep, 1)


def test_each_worker_has_a_gpu(sweep, monkeypatch):
    """Where there are several GPUs the workers have one each, in turn; this process has the first."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5, 7")
    started = []

    class Popen:
        def __init__(self, command, env, **options):
            started.append((command, env))

        def poll(self):
            return 0

    monkeypatch.setattr(subprocess, "Popen", Popen)
    processes.start(Path("/tmp") / sweep, 3)
    assert [env["CUDA_VISIBLE_DEVICES"] for _, env in started] == ["5", "7", "4"]
    assert started[0][0][1:3] == ["-m", "slipstream"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert processes.devices() == []


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/a/b-1.2", "resume=/a/b-1.2"), ("/a b/c,d", "resume='/a b/c,d'"), ("/it's", "resume='/it\\'s'")],
)
def test_the_folder_reaches_hydra(path, shown):
    """A folder's name is quoted as Hydra's grammar wants it, and read back as it was."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert processes._command(Path(path)) == [shown]
    assert OverridesParser.create().parse_override(shown).value() in (path, f"'{path}'")


def test_cores_are_shared():
    """Every worker gets as many threads as the others, one at least."""
    cores = processes.share(1)
    assert cores >= 1
    assert processes.share(cores) == 1
    assert processes.share(10 * cores) == 1


@pytest.mark.slow
def test_the_program_is_what_was_started(tmp_path):
    """A script is named by its path and a module by its name; code from elsewhere is slipstream itself."""
    code = "from slipstream.sweeps.work.processes import program\nprint(program())\n"
    (tmp_path / "mine.py").write_text(code)

    def run(*arguments):
        found = subprocess.run([sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True)
        return found.stdout.strip()

    assert run("mine.py") == str((str(tmp_path / "mine.py"),))
    assert run("-m", "mine") == str(("-m", "mine"))
    assert run("-c", code) == str(processes.MODULE)


@pytest.mark.slow
def test_a_cluster_drains_a_sweep(sweep, stub):
    """Jobs of submitit do what workers of this machine do; what is pickled are plain values."""
    pytest.importorskip("submitit")
    jobs = processes.submit(sweep, 2, "local", {"timeout_min": 1}, program=stub())
    assert [job.result() for job in jobs] == [0, 0]
    assert sorted(done(sweep)) == list(range(MEMBERS))
    assert all(begun(sweep, number) == 1 for number in range(MEMBERS))
    pickled = b"".join(path.read_bytes() for path in (sweep / WORKERS / "submitit").glob("*submitted.pkl"))
    assert b"torch" not in pickled
    assert b"slipstream.sweeps.work.processes" in pickled


@pytest.mark.slow
def test_a_job_with_a_bug_fails(sweep, stub):
    """A worker that falls fails its job, with the bug in the job's log."""
    submitit = pytest.importorskip("submitit")
    (sweep / "bug").touch()
    (job,) = processes.submit(sweep, 1, "local", {"timeout_min": 1}, program=stub())
    with pytest.raises(submitit.core.utils.FailedJobError, match="a bug in worker 1"):
        job.result()


def test_a_job_that_runs_out_of_time_comes_again():
    """What submitit submits again is the same work."""
    pytest.importorskip("submitit")
    work = processes.WorkerJob("/sweep", 3, processes.MODULE)
    again = work.checkpoint()
    assert (again.function, again.args, again.kwargs) == (work, (), {})


@pytest.mark.parametrize(
    ("cluster", "parameters", "message"),
    [
        ("local", {"slurm_partitoin": "gpu"}, "partitoin"),
        ("local", {"timeout_min": "long"}, "timeout_min"),
        ("slurm", {}, "slurm"),
    ],
)
def test_what_submitit_refuses(sweep, monkeypatch, cluster, parameters, message):
    """An unknown parameter, one of a wrong type and a missing cluster are mistakes that can be fixed."""
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=message):
        processes.submit(sweep, 1, cluster, parameters)


def test_without_submitit(sweep, monkeypatch):
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r'pip install "submitit>=1.5.4"'):
        processes.submit(sweep, 1, "slurm", {})
