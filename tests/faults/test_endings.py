"""G4 for runs and sweeps, through the command line: closed terminals, readers and full disks."""

from __future__ import annotations

import json
import os
import pty
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from forking import Warm
from ondisk import (
    SWEPT,
    at_operation,
    at_step,
    bytes_of,
    diverging_sweep_in,
    last,
    newest,
    saved,
    small_sweep_in,
    started,
    terminate,
)
from sampling import exhaustive_after
from slipstream.cli import main
from slipstream.core.errors import UserError
from slipstream.runs import checkpoints

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
TINY = (*SWEPT, "early_stopping=none")
SHORT = last(*SWEPT, "trainer.max_epochs=3")
LONG = last(*TINY, "trainer.max_epochs=100000")


def words(*arguments: str) -> list[str]:
    return [sys.executable, str(TRAIN), *last(*arguments)]


def ended(warm: Warm, *arguments: str, code: int) -> str:
    """Return the output of a command of train.py, which ends with this exit code."""
    process = warm.command(*last(*arguments))
    shown, _ = process.communicate()
    assert process.returncode == code, shown
    assert "Traceback" not in shown
    return shown


def members(folder: Path) -> list[dict[str, bytes]]:
    """Return the bytes that every member of the sweep of three must have."""
    return [bytes_of(folder / str(number)) for number in range(3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The undisturbed sweep of three members."""
    folder = tmp_path_factory.mktemp("whole") / "sweep"
    assert small_sweep_in(folder) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_closed_terminal_saves_and_ends_with_129(warm, tmp_path, kind):
    """The terminal of a run or a sweep closes, and the system hangs up on it: every member is saved, exit
    code 129, and resume= goes on."""
    folder = tmp_path / "here"
    runs = [folder] if kind == "run" else [folder / "0", folder / "1"]
    many = ("-m", "seed=0,1", "sweep.pack=2") if kind == "sweep" else ()
    master, slave = pty.openpty()
    process = warm.command(*many, *LONG, f"hydra.{kind}.dir={folder}", terminal=os.ttyname(slave))
    os.set_blocking(master, False)
    while process.poll() is None and min(len(saved(run)) for run in runs) < 2:
        try:
            os.read(master, 1 << 16)
        except BlockingIOError:
            time.sleep(0.02)
    os.close(slave)
    os.close(master)  # the kernel sends SIGHUP to the session's leader
    assert process.wait() == 129
    for run in runs:
        checkpoints.verify(newest(run))
    if kind == "run":  # of a sweep only what has ended has a summary
        assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"
    again, before = warm.command(f"resume={folder}"), max(saved(runs[0]))
    while again.poll() is None and max(saved(runs[0]), default=before) == before:
        time.sleep(0.05)
    again.send_signal(signal.SIGTERM)
    assert again.wait() == 143


@pytest.mark.slow
def test_nohup_keeps_a_run_alive(tmp_path):
    """Where SIGHUP was ignored from the start it stays so: the run comes to its end, exit code 0."""
    folder = tmp_path / "run"
    command = ["nohup", *words(*last(*TINY, "trainer.max_epochs=60"), f"hydra.run.dir={folder}")]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (folder / "metrics.jsonl").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGHUP)
        assert process.wait(600) == 0
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("reader", exhaustive_after(1, ["head -1", "true", "cat > /dev/full"]))
def test_a_reader_of_a_sweep_that_goes_away_costs_no_member(tmp_path, whole, reader):
    """E8 for sweeps: `train.py -m ... | head -1` trains all members to their bytes, exit code 0."""
    folder = tmp_path / "sweep"
    line = shlex.join(words("-m", "seed=0,1,2", "sweep.pack=2", *SHORT, f"hydra.sweep.dir={folder}"))
    shell = ["bash", "-c", f"{line} 2> '{tmp_path}/errors' | {reader} 2> /dev/null; exit ${{PIPESTATUS[0]}}"]
    process = subprocess.run(shell, stdout=subprocess.DEVNULL, env=ENVIRONMENT, check=False)
    assert (process.returncode, (tmp_path / "errors").read_text()) == (0, "")
    assert members(folder) == members(whole)


@pytest.mark.slow
def test_failed_members_are_named_with_the_command_that_runs_just_those_again(warm, tmp_path):
    """One of three data files is spoilt: its member fails, the others end, exit code 3; once the file is
    mended, the command that was printed trains that member alone, exit code 0, and touches no other."""
    good = "a,b,y\n" + "".join(f"{n},{n * n % 7},{n % 2}\n" for n in range(40))
    files = [tmp_path / f"{name}.csv" for name in ("one", "two", "three")]
    for file in files:
        file.write_text(good)
    files[1].write_text(good + "1,2\n")
    folder = tmp_path / "sweep"
    shown = ended(
        warm,
        *("-m", *SHORT[2:], "data=table", "data.target=y", f"data.path={','.join(map(str, files))}"),
        f"hydra.sweep.dir={folder}",
        code=3,
    )
    assert "3 members: 2 finished, 1 failed" in shown
    failure = next(line for line in shown.splitlines() if line.startswith("  1  "))
    assert "two.csv" in failure
    line = next(line for line in shown.splitlines() if "python train.py resume=" in line)
    assert line.startswith("to train it again after fixing the cause: ")
    files[1].write_text(good)
    before = {k: (folder / k / "summary.json").stat().st_mtime_ns for k in ("0", "2")}
    assert "3 members: 3 finished" in ended(warm, *shlex.split(line.partition("python train.py ")[2]), code=0)
    assert {k: (folder / k / "summary.json").stat().st_mtime_ns for k in ("0", "2")} == before
    assert newest(folder / "1").name == newest(folder / "0").name


@pytest.mark.slow
@pytest.mark.parametrize("places", exhaustive_after(1, [2, 8]))
def test_a_full_disk_costs_no_finished_member(tmp_path, whole, places):
    """P10 for sweeps: ENOSPC at operations of the whole sweep, once and from there on for ever: what had
    finished keeps its bytes, and resuming ends with the bytes of the undisturbed sweep."""

    made: list[str] = []

    def full():
        if made[-1] not in ("unlink", "rmdir"):  # which take no space
            raise OSError(28, "No space left on device")

    with at_operation(0, full, tmp_path) as all_of_them:
        small_sweep_in(tmp_path / "0")
    said: list[str] = []
    for number in range(1, len(all_of_them) + 1, len(all_of_them) // places):
        for for_ever in (False, True):
            folder = tmp_path / f"{number}-{for_ever}"
            try:
                with at_operation(number, full, folder, for_ever=for_ever) as made:
                    assert small_sweep_in(folder) in (0, 3)
            except UserError as error:
                said.append(str(error))
            done = {path: path.read_bytes() for path in folder.glob("*/summary.json")}
            done = {p: text for p, text in done.items() if json.loads(text)["status"] == "finished"}
            assert small_sweep_in(folder) == 0
            assert all(path.read_bytes() == text for path, text in done.items())
            assert members(folder) == members(whole), f"operation {number}, {for_ever}"
    assert len(said) >= places // 3
    assert all("No space left" in text for text in said)


@pytest.mark.slow
def test_what_a_full_disk_advises_inside_a_sweep_is_typed(tmp_path, whole):
    """ENOSPC from some operation on, for ever, in a folder whose name needs quotes: the sentence has the
    command that goes on with the sweep, and typed as printed it ends with the undisturbed bytes."""

    def full():
        if made[-1] not in ("unlink", "rmdir"):
            raise OSError(28, "No space left on device")

    with at_operation(0, full, tmp_path) as all_of_them:
        small_sweep_in(tmp_path / "0")
    for share in (0.3, 0.5, 0.7, 0.9):
        folder = tmp_path / f"my sweep {share}"
        at = int(share * len(all_of_them))
        with (
            at_operation(at, full, folder, for_ever=True) as made,
            pytest.raises(UserError, match="No space left") as error,
        ):
            small_sweep_in(folder)
        said = str(error.value)
        program, script, *advised = shlex.split(said.partition("continue with ")[2])
        assert (program, script) == ("python", "train.py"), said
        with pytest.raises(SystemExit) as end:
            main(advised)
        assert end.value.code == 0
        assert members(folder) == members(whole), said


@pytest.mark.slow
def test_a_file_size_limit_in_a_sweep_ends_with_a_sentence(warm, tmp_path):
    """P10 for real: the kernel refuses the checkpoints of all members: exit code 2 or 3, the path, and no
    traceback; without the limit resume= finishes them."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    folder = tmp_path / "sweep"
    command = words("-m", "seed=0,1,2", *last(*SHORT, "model.width=4096"), f"hydra.sweep.dir={folder}")
    process = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=limit, env=ENVIRONMENT, check=False
    )
    assert process.returncode in (2, 3)
    assert "File too large" in process.stdout + process.stderr
    assert "Traceback" not in process.stdout + process.stderr
    ended(warm, f"resume={folder}", code=0)
    assert len(list(folder.glob("*/summary.json"))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("every", exhaustive_after(1, [70, 11]))
def test_a_kill_at_any_operation_of_a_sweep_costs_nothing(warm, tmp_path, every):
    """S5: SIGKILL at every eleventh or 70th operation of a whole sweep, then resume: the same bytes."""
    expected = None
    for number in count(0):
        folder = tmp_path / str(number)
        at = {"at_operation": [every * number, "kill"]} if number else {}
        code, output = warm.run("small_sweep", folder, **at)
        assert code == (0 if expected is None else code), output
        if expected is None:
            expected = members(folder)
            continue
        if code == 0:
            break
        assert code == -signal.SIGKILL, output
        code, output = warm.run("small_sweep", folder)
        assert code == 0, output
        assert members(folder) == expected, f"killed at operation {every * number}"
    assert number > max(56 // every, 1)


def _ends(folder: Path) -> list[tuple[Any, ...]]:
    """Return the summary, the history and the newest checkpoint of each of two members."""
    found = []
    for number in range(2):
        summary = json.loads((folder / str(number) / "summary.json").read_text())
        said = [summary[key] for key in ("status", "reason", "epochs", "best_epoch", "value", "best", "last")]
        found.append((said, bytes_of(folder / str(number))))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("every", exhaustive_after(1, [46, 7]))
def test_a_kill_at_any_operation_of_a_member_that_diverges_costs_nothing(warm, tmp_path, every):
    """S5, S1: SIGKILL at every seventh or 46th operation of a sweep whose first member diverges in its first
    epoch, then resume: it is diverged, with the history and the checkpoint of the undisturbed sweep."""
    expected = None
    for number in count(0):
        folder = tmp_path / str(number)
        at = {"at_operation": [every * number, "kill"]} if number else {}
        code, output = warm.run("diverging_sweep", folder, **at)
        if expected is None:
            assert code == 3, output
            expected = _ends(folder)
            assert expected[0][0][0] == "diverged"
            continue
        if code == 3:
            break
        assert code == -signal.SIGKILL, output
        code, output = warm.run("diverging_sweep", folder)
        assert code == 3, output
        assert _ends(folder) == expected, f"killed at operation {every * number}"
        shutil.rmtree(folder)
    assert number > 100 // every


@pytest.mark.slow
def test_a_signal_in_the_epoch_in_which_a_member_diverges_costs_nothing(tmp_path):
    """S1: SIGTERM in any step of the epoch in which the first of two members diverges: what it leaves, and
    what the other one comes to when the sweep goes on, is that of the undisturbed sweep."""
    assert diverging_sweep_in(tmp_path / "whole") == 3
    expected = _ends(tmp_path / "whole")
    assert expected[0][0][:2] == ["diverged", "the loss was nan at step 2 (epoch 1); the update was not made"]
    for step in (1, 2, 3, 4):
        folder = tmp_path / str(step)
        with at_step(step, terminate):
            assert diverging_sweep_in(folder) == 143
        assert (folder / "0" / "summary.json").exists() is (step >= 2)
        assert diverging_sweep_in(folder) == 3
        assert _ends(folder) == expected, f"SIGTERM in step {step}"
