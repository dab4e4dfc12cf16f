"""P5, P7, P1, P10 while compiling: the compiler is a real process that is slow, killed or lacks space."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from forking import Command
from ondisk import STEPS, bytes_of, last, newest, started, terminate, train_in
from sampling import exhaustive_after, slow_after
from slipstream.training.backend.compilers import write_whole
from slipstream.training.engine import Engine
from slipstream.training.interrupts import Abandoned, Interrupts, abandonable

ROOT = Path(__file__).resolve().parents[2]
COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs g++ and /proc")
RUN = (
    *("data=spirals", "data.rows=40", "data.batch_size=12", "model.width=5", "model.depth=1", "logger=none"),
    *("trainer.threads=1", "trainer.compile=true", "trainer.device=cpu", "trainer.max_epochs=2"),
    *("optimizer=sgd", "trainer.metrics=[]"),  # little to trace
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    train_in(directory)
    return directory


@contextmanager
def compiling(method: str, call: int):
    """SIGTERM arrives at this call of an engine's method, during work that can be abandoned."""
    plain, made = getattr(Engine, method), []

    def compiled(self, *arguments):
        made.append(None)
        if len(made) == call:
            with abandonable():
                terminate()
                pytest.fail("nothing was abandoned")
        return plain(self, *arguments)

    with patch.object(Engine, method, compiled):
        yield


@pytest.mark.parametrize(
    ("method", "call", "step"),
    slow_after(1, [("step", 1, 0), ("step", STEPS + 1, STEPS), ("report", 1, 0), ("report", 2, STEPS)]),
)
def test_a_signal_in_a_compilation_saves_what_was_before_it(whole, tmp_path, method, call, step):
    """The run is saved as it stood, 143, and goes on to the bytes of the undisturbed one."""
    run = tmp_path / "run"
    with compiling(method, call):
        result = train_in(run)
    assert (result.status, result.exit_code) == ("interrupted", 143)
    assert newest(run).name == f"step-{step:08d}"
    assert train_in(run, resume=True).exit_code == 0
    assert bytes_of(run) == bytes_of(whole)


def test_what_is_abandonable_is_not_begun_after_a_signal():
    """Nor is the compiler's error reported: the signal, which also reached the compiler, caused it."""
    with Interrupts():
        with abandonable():
            pass
        terminate()
        with pytest.raises(Abandoned), abandonable():
            pytest.fail("begun")

    def interrupted():
        with suppress(Abandoned):
            terminate()
        raise RuntimeError("the compiler was interrupted")

    with Interrupts(), pytest.raises(Abandoned), abandonable():
        interrupted()
    with pytest.raises(RuntimeError), abandonable():  # nobody listens
        raise RuntimeError


def fake(tmp_path: Path, does: str) -> dict[str, str]:
    """Return an environment whose g++ runs this instead of compiling; $TARGET is the file it should write."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "g++").write_text(
        "#!/bin/bash\n"
        'for word in "$@"; do [ "$before" = -o ] && TARGET=$word; before=$word; done\n'
        f'if [ -n "$TARGET" ]; then\n{does}\nfi\nexec {COMPILER} "$@"\n'
    )
    (folder / "g++").chmod(0o755)
    return os.environ | {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }


def command(run: Path, *more: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *last(*RUN, f"hydra.run.dir={run}", *more)]


def compiler_of(tmp_path: Path, process: subprocess.Popen | Command) -> int:
    """Return the process ID of a compiler that has begun to wait."""
    while not (tmp_path / "compiler").exists() or not (tmp_path / "compiler").read_text().endswith("\n"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return int((tmp_path / "compiler").read_text())


def ended(process: int) -> bool:
    """Return True if a process has ended, or is a zombie that nobody waits for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    exhaustive_after(1, [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGXCPU, 152)]),
)
def test_a_signal_ends_a_compilation_and_its_compiler(tmp_path, number, code):
    """P5, P6: a compiler that would take ten minutes is stopped, the run is saved and can go on."""
    run = tmp_path / "run"
    environment = fake(tmp_path, f"echo $$ > {tmp_path}/compiler; exec sleep 600")
    with started(command(run), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        compiler = compiler_of(tmp_path, process)
        process.send_signal(number)
        assert process.wait(300) == code
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
    assert newest(run).name == "step-00000000"
    assert ended(compiler)


@needs_compiler
@pytest.mark.slow
def test_a_second_signal_in_a_compilation_leaves_at_once(tmp_path, warm):
    """P7: a compiler that cannot be stopped is not waited for, and no summary is written."""
    run = tmp_path / "run"
    environment = fake(tmp_path, f"echo $$ > {tmp_path}/compiler; trap '' TERM; sleep 600; exit 1")
    process = warm.command(*command(run)[2:], environment=environment)
    compiler = compiler_of(tmp_path, process)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    assert process.wait(300) == 143
    with suppress(ProcessLookupError):
        os.kill(compiler, signal.SIGKILL)
    assert not (run / "summary.json").exists()


@needs_compiler
@pytest.mark.exhaustive  # that nothing half-written gets its name is tested below
def test_a_library_that_was_half_written_is_not_loaded(tmp_path):
    """P1: the process and its linker are killed in the middle; the next one compiles again and ends."""
    run = tmp_path / "run"
    environment = fake(tmp_path, f"echo half > $TARGET; echo $$ > {tmp_path}/compiler; exec sleep 600")
    with started(command(run), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        compiler = compiler_of(tmp_path, process)
        process.kill()
        os.kill(compiler, signal.SIGKILL)
    again = [sys.executable, str(ROOT / "train.py"), f"resume={run}"]
    (tmp_path / "bin" / "g++").unlink()
    done = subprocess.run(again, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "cache").rglob("*.so.tmp"))


def test_what_a_compiler_writes_gets_its_name_when_it_is_whole(tmp_path, monkeypatch):
    """A compiler that fails leaves nothing; one that ends leaves its file."""
    from torch._inductor import cpp_builder

    monkeypatch.setattr(
        cpp_builder, "run_compile_cmd", lambda line, cwd: subprocess.run(line, shell=True, check=True)
    )
    write_whole()
    with pytest.raises(subprocess.CalledProcessError):
        cpp_builder.run_compile_cmd(f"cp -o {tmp_path}/a", str(tmp_path))
    (tmp_path / "b").write_text("whole")
    cpp_builder.run_compile_cmd(f"sort -o {tmp_path}/c {tmp_path}/b", str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


@needs_compiler
@pytest.mark.slow
def test_a_compiler_that_fails_is_a_sentence(tmp_path, warm):
    """The compiler's message, the advice, and exit code 2."""
    environment = fake(tmp_path, "echo 'main.cpp:1:1: fatal error: Killed' >&2; exit 1")
    done = warm.python(*command(tmp_path / "run")[1:], env=environment)
    assert done.returncode == 2, done.stderr
    assert "compilation failed (main.cpp:1:1: fatal error: Killed)" in done.stderr
    assert "trainer.compile=false" in done.stderr
    assert "Traceback" not in done.stderr


# A disk of one megabyte, full


def mounts() -> bool:
    """Return True if a small disk can be mounted here."""
    try:
        return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


FULL = """
mount -t tmpfs -o size=1M none {disk} && head -c 2000000 /dev/zero > {disk}/filler 2> /dev/null
TMPDIR={disk} TORCHINDUCTOR_CACHE_DIR={cache} exec {command}
"""
LATE = (
    "import sys; from slipstream.training.backend import compilers; compilers.no_room = lambda: None; "
    "from slipstream.cli import main; main(sys.argv[1:])"
)


@needs_compiler
@pytest.mark.slow
@pytest.mark.skipif(not mounts(), reason="needs the right to mount")
@pytest.mark.parametrize(
    ("kind", "cache"),
    exhaustive_after(1, zip(["true", "late", "auto"] * 2, ["here", "there"] * 3, strict=True)),
)
def test_a_full_temporary_folder(tmp_path, kind, cache):
    """P10: asked for, a sentence before training, and where it fills up later, a sentence as well; with
    auto the run is not compiled, says why and ends."""
    import shlex

    disk, run = tmp_path / "disk", tmp_path / "run"
    disk.mkdir()
    more = ("trainer.compile=auto", "trainer.max_epochs=20000")
    words = command(run, "data.rows=400", *(more if kind == "auto" else ()))
    if kind == "late":
        words[1:2] = ["-c", LATE]
    where = disk / "cache" if cache == "here" else tmp_path / "cache"
    script = FULL.format(disk=disk, cache=where, command=shlex.join(words))
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    if kind == "auto":
        assert done.returncode == 0, done.stderr
        assert f"warning: trainer.compile: {disk}" in done.stdout + done.stderr
        assert json.loads((run / "summary.json").read_text())["compile"] is False
    else:
        assert done.returncode == 2, done.stderr
        assert "trainer.compile: there is no disk space for compiled code" in done.stderr
        assert "trainer.compile=false" in done.stderr
