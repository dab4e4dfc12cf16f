"""Faults of the process: P1-P7, P10, P11, P13. Each is caused for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest
import torch
from chains import torture

from ondisk import STEPS, at_operation, at_step, bytes_of, last, newest, started, terminate, train_in, tree
from sampling import exhaustive_after, slow_after
from slipstream.core.errors import UserError
from slipstream.runs import checkpoints

KILLED = -signal.SIGKILL
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The directory of an undisturbed run."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    assert train_in(directory).exit_code == 0
    return directory


def leftovers(directory):
    return [path.name for path in directory.rglob("*") if "tmp" in path.name]


@pytest.mark.slow
def test_a_kill_at_any_operation_of_a_save_leaves_a_complete_checkpoint(warm, tmp_path):
    """P2, P3, P4, G2: SIGKILL at operation 1, 2, 3 ... of three saves (the last of them prunes): the
    newest checkpoint is never older than the last finished save, and the next save cleans up."""
    for number in count(1):
        run = tmp_path / str(number)
        run.mkdir()
        code, output = warm.run("save", run, at_operation=[number, "kill"])
        done = len(output.split())
        if code == 0:
            break
        assert code == KILLED
        path, damaged = checkpoints.latest(run / "checkpoints")
        assert not damaged  # a half-made folder never bears a checkpoint's name
        step = int(path.name[-8:]) if path else 0
        assert step in (done, done + 1)
        if path:
            tensors, state = checkpoints.load(path)
            assert state["step"] == step
            assert all(torch.equal(named["w"], torch.full((5,), float(step))) for named in tensors.values())
        assert warm.run("save", run)[0] == 0
        assert leftovers(run) == []
        assert sorted(os.listdir(run / "checkpoints")) == ["step-00000002", "step-00000003"]
    assert number > 50  # so many operations there are; fewer would mean that they are not seen


def test_a_save_writes_syncs_renames_and_syncs_the_folder_before_it_removes_anything(tmp_path):
    """Every file is synced before the rename, the folder after it, and removal comes last."""
    tensors = {name: {"w": torch.zeros(3)} for name in checkpoints.TENSOR_FILES}
    for step in (1, 2):
        checkpoints.save(tmp_path / "checkpoints", step, tensors, {}, keep=2)
    with at_operation(0, lambda: None, tmp_path) as made:
        checkpoints.save(tmp_path / "checkpoints", 3, tensors, {}, keep=2)
    files = len(checkpoints.FILES) + 1
    written = ["write", "fsync"] * files
    removed = ["replace", *["unlink"] * files, "rmdir"]
    # The folder above, the new folder; the folder itself, its place; the folder that holds it.
    assert [name for name in made if name != "mkdir"] == [
        "fsync",
        *written,
        "fsync",
        "replace",
        "fsync",
        *removed,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, STEPS, STEPS + 2, 3 * STEPS])
def test_a_kill_during_a_step_costs_nothing(warm, whole, tmp_path, number):
    """P1, P8: SIGKILL during a step, then resume: the bytes of the uninterrupted run."""
    run = tmp_path / "run"
    assert warm.run("train", run, at_step=[number, "kill"])[0] == KILLED
    assert warm.run("train", run, resume=True)[0] == 0
    assert bytes_of(run) == bytes_of(whole)
    assert leftovers(run) == []


@pytest.mark.slow
@pytest.mark.parametrize("every", exhaustive_after(1, [9, 1]))
def test_a_kill_at_any_operation_of_a_run_costs_nothing(warm, whole, tmp_path, every):
    """P1-P4: SIGKILL at operation 1, 2, 3 ... of a whole run, or at every ninth, then resume: always the
    same bytes."""
    expected, summary = bytes_of(whole), json.loads((whole / "summary.json").read_text())
    for number in count(1, every):
        run = tmp_path / str(number)
        code, output = warm.run("train", run, at_operation=[number, "kill"])
        if code == 0:
            break
        assert code == KILLED, output
        code, output = warm.run("train", run, resume=True)
        assert code == 0, output
        assert bytes_of(run) == expected, f"killed at operation {number}"
        assert leftovers(run) == []
        again = json.loads((run / "summary.json").read_text())
        assert {**again, "seconds": 0} == {**summary, "seconds": 0}
    assert number > 80


@pytest.mark.slow
@pytest.mark.parametrize("kills", exhaustive_after(1, [5, 12]))
@pytest.mark.parametrize("kind", ["single", "sweep"])
def test_chains_of_kills_cost_nothing(warm, tmp_path, kind, kills):
    """P1-P4, P8, S5: a run, and a sweep, that are killed five times in a row, at random instants and inside
    saves, end with the bytes of undisturbed ones. scripts/torture.py does it hundreds of times."""
    tally = torture(warm, kind, tmp_path, kills=kills)
    assert tally.kills == kills
    assert tally.equal == tally.chains


@pytest.mark.parametrize("number", slow_after(1, [1, STEPS - 1, STEPS, STEPS + 1, 3 * STEPS - 1]))
def test_sigterm_saves_at_the_next_step_and_ends_with_143(whole, tmp_path, number):
    """P5: exit code 143, a checkpoint of exactly that step, and resuming gives the same bytes."""
    run = tmp_path / "run"
    with at_step(number, terminate):
        result = train_in(run)
    assert (result.status, result.exit_code) == ("interrupted", 143)
    assert newest(run).name == f"step-{number:08d}"
    assert json.loads((run / "summary.json").read_text())["status"] == "interrupted"
    assert train_in(run, resume=True).exit_code == 0
    assert bytes_of(run) == bytes_of(whole)


@pytest.mark.slow
def test_ctrl_c_saves_and_ends_with_130(whole, tmp_path):
    """P6: the same for SIGINT, with 130."""
    with at_step(4, lambda: os.kill(os.getpid(), signal.SIGINT)):
        assert train_in(tmp_path / "run").exit_code == 130
    assert train_in(tmp_path / "run", resume=True).exit_code == 0
    assert bytes_of(tmp_path / "run") == bytes_of(whole)


@pytest.mark.slow
def test_a_signal_in_the_last_step_of_all_changes_nothing(whole, tmp_path):
    """G4: a finished run stays finished, exit code 0."""
    with at_step(3 * STEPS, terminate):
        result = train_in(tmp_path / "run")
    assert (result.status, result.exit_code) == ("finished", 0)
    assert bytes_of(tmp_path / "run") == bytes_of(whole)


@pytest.mark.slow
def test_a_second_signal_leaves_at_once(warm, tmp_path):
    """P7, G2: two signals at any operation of a save end the process there and then; the newest
    checkpoint is complete."""
    for number in range(40, 64, 4):
        run = tmp_path / str(number)
        code, output = warm.run("train", run, at_operation=[number, "terminate_twice"])
        assert code == 143, output
        assert not (run / "summary.json").exists()
        assert warm.run("train", run, resume=True)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("every", exhaustive_after(1, [13, 3]))
def test_a_full_disk_names_the_file_and_leaves_what_is_saved(whole, tmp_path, every):
    """P10: ENOSPC at every third or 13th operation of the run that takes space: a message with the path, the
    old checkpoint stays whole, and resuming gives the same bytes."""

    def full():
        raise OSError(28, "No space left on device")

    with at_operation(0, full, tmp_path) as made:
        train_in(tmp_path / "0")
    taking = [n for n, name in enumerate(made, start=1) if name not in ("unlink", "rmdir")]
    for number in taking[::every]:
        run = tmp_path / str(number)
        with at_operation(number, full, run), pytest.raises(UserError, match="No space left") as error:
            train_in(run)
        assert str(run) in str(error.value)
        assert error.value.exit_code == 2
        _, damaged = checkpoints.latest(run / "checkpoints")
        assert damaged == []
        train_in(run, resume=(run / "config.yaml").exists())
        assert bytes_of(run) == bytes_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("for_ever", [False, True])
@pytest.mark.parametrize("error", [28, 122, 5])
def test_a_save_that_fails_removes_nothing_older(tmp_path, error, for_ever):
    """P10: ENOSPC, EDQUOT or EIO at every operation of a save that would prune, once, or from there on at
    every one: the two checkpoints before it are untouched, unless the new one was verified."""
    tensors = {name: {"w": torch.arange(5.0)} for name in checkpoints.TENSOR_FILES}

    def fail():
        raise OSError(error, os.strerror(error))

    for number in count(1):
        run = tmp_path / str(number)
        for step in (1, 2):
            checkpoints.save(run, step, tensors, {}, keep=2)
        before = tree(run)
        try:
            with at_operation(number, fail, run, for_ever=for_ever):
                checkpoints.save(run, 3, tensors, {}, keep=2)
            said = None
        except checkpoints.CheckpointError as raised:
            said = str(raised)
        if said is None and number > 20:
            break
        assert said is None or (str(run) in said and os.strerror(error) in said)
        if not (run / "step-00000003").exists():
            left = {name: content for name, content in tree(run).items() if not name.startswith("tmp-")}
            assert left == before
        path, damaged = checkpoints.latest(run)
        assert path.name in ("step-00000002", "step-00000003")
        assert damaged == []


TINY = (
    *("data=spirals", "data.rows=40", "data.batch_size=12", "model.width=5", "model.depth=1"),
    *("logger=none", "trainer.max_epochs=3", "trainer.compile=false", "trainer.device=cpu"),
    *("trainer.checkpoint_seconds=0", "trainer.threads=1"),
)


@pytest.mark.slow
def test_a_file_size_limit_ends_with_a_message(tmp_path):
    """P10 for real: with RLIMIT_FSIZE the kernel refuses the checkpoint; exit code 2, the path, no
    traceback, and no half checkpoint."""
    import resource

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, str(ROOT / "train.py"), *last(*TINY, "model.width=4096")]
    command.append(f"hydra.run.dir={tmp_path / 'run'}")
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "could not be written: File too large" in ended.stderr
    assert str(tmp_path / "run" / "checkpoints") in ended.stderr
    assert "Traceback" not in ended.stderr
    assert checkpoints.latest(tmp_path / "run" / "checkpoints") == (None, [])


def test_an_output_that_cannot_be_written_fails_before_data_is_read(tmp_path, monkeypatch):
    """P11: a file stands where the folder should be (root may write everywhere else)."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("slipstream.runs.setup.load", lambda *_: pytest.fail("data was read"))
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\); choose another folder"):
        train_in(tmp_path / "file" / "run")


@pytest.mark.slow
def test_two_processes_never_share_a_directory(warm, whole, tmp_path):
    """P13: the second one exits with 2 and names the first, which is unharmed."""
    run = tmp_path / "run"
    changes = {"trainer.max_epochs": 100_000}
    first = warm.start("train", run, changes=changes)
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_bytes():
        time.sleep(0.01)
    for resume in (False, True):
        with pytest.raises(UserError, match=f"in use by process {first}; wait for it") as error:
            train_in(run, resume=resume)
        assert error.value.exit_code == 2
    os.kill(first, signal.SIGTERM)
    assert warm.wait(first)[0] == 143
    checkpoints.verify(newest(run))


@pytest.mark.slow
def test_signals_end_the_command_line_with_their_codes(warm, tmp_path):
    """P5, P6 for real: SIGTERM to `train.py` gives 143 and a checkpoint, resume=DIR goes on, Ctrl-C: 130."""
    run = tmp_path / "run"
    words = last(*TINY, "trainer.max_epochs=100000", f"hydra.run.dir={run}", "early_stopping=none")
    command = [sys.executable, str(ROOT / "train.py"), *words]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").read_bytes():
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
        assert process.stderr.read() == ""
    epochs = len((run / "metrics.jsonl").read_text().splitlines())
    again = warm.command(f"resume={run}", "trainer.max_epochs=100001", "trainer.progress=none")
    while again.poll() is None and len((run / "metrics.jsonl").read_text().splitlines()) <= epochs:
        time.sleep(0.05)
    again.send_signal(signal.SIGINT)
    assert again.communicate()[0] == ""
    assert again.returncode == 130


@pytest.mark.parametrize(
    ("error", "words"),
    slow_after(
        1,
        [
            (
                torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
                "Tried to allocate 2.00 GiB",
            ),
            (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "9 bytes"),
            (MemoryError(), "the system refused more"),
        ],
    ),
)
def test_memory_that_runs_out_is_a_sentence(whole, tmp_path, error, words):
    """P9: whoever runs out, the message has the sizes and what to lower, exit code 2; what was saved is
    whole, and resuming gives the same bytes."""

    def fail():
        raise error

    run = tmp_path / "run"
    with at_step(STEPS + 1, fail), pytest.raises(UserError, match="out of memory") as raised:
        train_in(run)
    assert raised.value.exit_code == 2
    for word in (words, "data.batch_size=12", "model.width=5", "lower one of them"):
        assert word in str(raised.value)
    assert newest(run).name == f"step-{STEPS:08d}"
    train_in(run, resume=True)
    assert bytes_of(run) == bytes_of(whole)


def test_memory_really_runs_out(tmp_path):
    """P9 on the CPU: the system refuses an allocation of petabytes, and the message is a sentence."""

    def hoard():
        torch.empty(2**50, dtype=torch.uint8)

    with at_step(1, hoard), pytest.raises(UserError, match=r"out of memory \(.*1125899906842624 bytes"):
        train_in(tmp_path / "run")
