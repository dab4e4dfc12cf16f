"""S1 to S8: sweeps that are killed, joined, spoilt and gone on with, through the command line.

Most commands are forks of the warm process, so that torch is imported once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forking import Command, Warm
from ondisk import bytes_of, last
from sampling import exhaustive_after
from slipstream.core.errors import UserError
from slipstream.sweeps import runner

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
COMMON = (
    *("data=spirals", "data.rows=60", "model.width=5", "model.depth=1", "logger=none"),
    *("trainer.threads=1", "trainer.progress=plain", "trainer.compile=false", "trainer.checkpoint_seconds=0"),
)
NOISY = ("regularizer=[dropout,batch_norm,ema]", "trainer.max_epochs=40")
MEMBERS = ("-m", "optimizer.lr=0.1,0.01", "seed=range(5)", "sweep.pack=4", *COMMON, *NOISY)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def begin(*arguments: str) -> subprocess.Popen[str]:
    """A process of train.py that imports everything itself."""
    command = [sys.executable, str(TRAIN), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )


def sweep(warm: Warm, *arguments: str, code: int = 0) -> str:
    """What a command of train.py prints until its end, which has this exit code."""
    process = warm.command(*arguments)
    shown, _ = process.communicate()
    assert process.returncode == code, shown
    return shown


def summaries(folder: Path) -> dict[int, dict]:
    """The summaries of the members that have ended."""
    found = folder.glob("*/summary.json")
    return {int(path.parent.name): json.loads(path.read_text()) for path in found}


def wait_for(condition, process: Command | subprocess.Popen[str]) -> None:
    """Until something is so, or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(warm, tmp_path_factory):
    """The sweep of ten members in four places that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "sweep"
    shown = sweep(warm, *MEMBERS, f"hydra.sweep.dir={folder}")
    assert "10 members of 2 trials" in shown
    ended = summaries(folder)
    assert len(ended) == 10
    assert len({summary["epochs"] for summary in ended.values()}) > 3  # places became free one by one
    return folder


def members_of(folder: Path) -> list[dict[str, bytes]]:
    return [bytes_of(folder / str(number)) for number in range(10)]


@pytest.mark.slow
def test_killed_again_and_again_a_sweep_ends_with_its_bytes(warm, tmp_path, whole):
    """S5, S6: SIGKILL while members begin, train, save and end, SIGTERM and Ctrl-C in between; torn tails
    are dropped, what had finished is not touched, and all members have the bytes of the whole sweep."""
    folder = tmp_path / "sweep"
    process = warm.command(*MEMBERS, f"hydra.sweep.dir={folder}")
    wait_for(lambda: len(list(folder.glob("*/metrics.jsonl"))) >= 2, process)
    process.kill()
    process.communicate()
    kept: dict[Path, tuple[int, bytes]] = {}
    for number, how in enumerate([signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT], start=1):
        for path in folder.glob("*/metrics.jsonl"):
            if not (path.parent / "summary.json").exists():
                with open(path, "a", encoding="utf-8") as file:
                    file.write('{"epoch": 3, "st')
        process = warm.command(f"resume={folder}")
        before = len(list(folder.glob("*/checkpoints/step-*")))
        wait_for(
            lambda n=number, b=before: len(summaries(folder)) >= 2 * n or _saved(folder) > b + 9, process
        )
        process.send_signal(how)
        process.communicate(timeout=600)
        assert process.returncode in (0, -signal.SIGKILL, 143, 130)
        for path, (changed, content) in kept.items():
            assert (path.stat().st_mtime_ns, path.read_bytes()) == (changed, content)
        kept = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("*/summary.json")}
    sweep(warm, f"resume={folder}")
    assert members_of(folder) == members_of(whole)


def _saved(folder: Path) -> int:
    return len(list(folder.glob("*/checkpoints/step-*")))


@pytest.mark.slow
def test_two_workers_share_a_sweep_and_one_is_killed(warm, tmp_path, whole):
    """A second process joins by resume; the first is killed: every member ends once, with its bytes."""
    folder = tmp_path / "sweep"
    first = begin(*MEMBERS, "sweep.workers=2", f"hydra.sweep.dir={folder}")
    wait_for(lambda: len(list(folder.glob("*/checkpoints/step-*"))) > 3, first)
    first.kill()
    first.communicate()
    sweep(warm, f"resume={folder}", "sweep.workers=1")
    assert members_of(folder) == members_of(whole)


@pytest.mark.slow
def test_members_removed_come_back_and_foreign_folders_stay(warm, tmp_path, whole):
    """S7: a removed member is trained again to its bytes; a folder that is no member's is left alone."""
    folder = tmp_path / "sweep"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "3")
    (folder / "17").mkdir()
    (folder / "17" / "notes.txt").write_text("mine")
    sweep(warm, f"resume={folder}")
    assert members_of(folder) == members_of(whole)
    assert (folder / "17" / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_diverging_members_are_counted_and_change_no_others(warm, tmp_path, whole):
    """S1, S2: half of the members explode: exit code 3, the others have their bytes; all do: the same."""
    rates = [text.replace("0.1,0.01", "1e30,0.01") for text in MEMBERS]
    shown = sweep(warm, *rates, f"hydra.sweep.dir={tmp_path / 'half'}", code=3)
    assert "5 diverged" in shown
    assert members_of(tmp_path / "half")[5:] == members_of(whole)[5:]
    all_of_them = [text.replace("0.1,0.01", "1e30,1e31") for text in MEMBERS]
    assert "10 diverged" in sweep(warm, *all_of_them, f"hydra.sweep.dir={tmp_path / 'all'}", code=3)


@pytest.mark.slow
def test_a_bad_member_is_named_before_a_folder_is_made(warm, tmp_path):
    """S4: one wrong value among good ones; nothing is written."""
    bad = [text.replace("0.1,0.01", "0.1,-1") for text in MEMBERS]
    shown = sweep(warm, *bad, f"hydra.sweep.dir={tmp_path / 'sweep'}", code=2)
    assert "optimizer.lr: found -1, expected number > 0 (in optimizer.lr=-1" in shown
    assert not (tmp_path / "sweep").exists()


@pytest.mark.slow
def test_the_same_mistake_in_all_stops_with_one_message(warm, tmp_path):
    """S8: data that are not there: exit code 2, the file once, no traceback."""
    arguments = ("-m", "data=table", "data.path=gone.csv", "data.target=y", "seed=0,1,2")
    shown = sweep(warm, *arguments, f"hydra.sweep.dir={tmp_path / 'sweep'}", code=2)
    assert shown.count("gone.csv") == 1
    assert "Traceback" not in shown


@pytest.mark.slow
def test_another_sweep_in_the_same_folder_is_refused(warm, whole):
    """The plan is frozen: exit code 2 with the difference, and nothing is touched."""
    before = (whole / "sweep.json").read_bytes()
    other = [text.replace("range(5)", "range(6)") for text in MEMBERS]
    assert "seed" in sweep(warm, *other, f"hydra.sweep.dir={whole}", code=2)
    assert (whole / "sweep.json").read_bytes() == before


@pytest.mark.slow
def test_a_killed_search_loses_no_trial_and_counts_none_twice(warm, tmp_path):
    """S6: a study whose journal is torn: the same trials and values as the undisturbed one."""
    pytest.importorskip("optuna")
    search = ("-m", "sweep=tpe", "sweep.trials=12", "sweep.at_once=4", "sweep.pack=4", "seed=3", *COMMON)
    search += ("optimizer.lr=tag(log,interval(1e-4,1))", "trainer.max_epochs=40")
    sweep(warm, *search, f"hydra.sweep.dir={tmp_path / 'whole'}")
    folder = tmp_path / "killed"
    process = warm.command(*search, f"hydra.sweep.dir={folder}")
    wait_for(lambda: len(summaries(folder)) >= 4, process)
    process.kill()
    process.communicate()
    with open(folder / "study.journal", "a", encoding="utf-8") as file:
        file.write('{"op_code": 4, "wor')
    sweep(warm, f"resume={folder}")
    found, expected = summaries(folder), summaries(tmp_path / "whole")
    assert sorted(found) == list(range(12))
    assert {n: s["value"] for n, s in found.items()} == {n: s["value"] for n, s in expected.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", exhaustive_after(1, [4, 20]))
def test_hundreds_of_members_of_which_some_diverge(tmp_path, seeds):
    """100 and 500 members: all are accounted for; the process has at most ten threads and few files open."""
    rates = ",".join(["1e30", *(f"{0.001 * n:g}" for n in range(1, 25))])
    tiny = [text for text in COMMON if not text.startswith("trainer.checkpoint")]
    process = begin(
        *("-m", f"optimizer.lr={rates}", f"seed=range({seeds})", "trainer.max_epochs=3", *tiny),
        *("trainer.checkpoint_seconds=30", f"hydra.sweep.dir={tmp_path / 'sweep'}"),
    )
    threads, tasks = 0, Path(f"/proc/{process.pid}/task")
    while process.poll() is None:
        if tasks.exists():
            threads = max(threads, len(list(tasks.iterdir())))
        time.sleep(0.05)
    shown, _ = process.communicate()
    assert process.returncode == 3, shown
    counts = f"{25 * seeds} members of 25 trials: {24 * seeds} finished, {seeds} diverged"
    assert counts in shown
    assert threads <= 10


def _at_once(warm: Warm, *arguments: str, count: int) -> list[str]:
    """What so many processes of one command print, that begin at once and end with exit code 0."""
    processes = [warm.command(*arguments) for _ in range(count)]
    shown = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, shown
    assert not any("Traceback" in text for text in shown), shown
    return shown


def _events(folder: Path) -> list[int]:
    """How many event files a sweep's own charts have, folder by folder."""
    return [len(list(place.glob("events*"))) for place in (folder, *folder.glob("trials/*"))]


@pytest.mark.slow
@pytest.mark.parametrize("number", exhaustive_after(1, [2, 4]))
def test_commands_that_begin_one_folder_at_once_share_it(warm, tmp_path, number):
    """Several begin, then as many resume what has ended: every member is trained by one of them, the reports
    agree, every chart is there once, and resuming changes no byte."""
    folder = tmp_path / "sweep"
    charts = [text.replace("logger=none", "logger=tensorboard") for text in MEMBERS]
    shown = _at_once(warm, *last(*charts, "trainer.max_epochs=4"), f"hydra.sweep.dir={folder}", count=number)
    assert all("10 members of 2 trials: 10 finished" in text for text in shown)
    assert all(len(list(folder.glob(f"{member}/.worker*"))) == 1 for member in range(10))
    assert _events(folder) == [1, 1, 1, 1]

    def content() -> dict[Path, bytes]:
        files = [path for path in folder.rglob("*") if path.is_file() and "workers" not in path.parts]
        own = {*folder.glob("events*"), *folder.glob("trials/*/*")}
        return {path: path.read_bytes() for path in files if path not in own and path.suffix != ".lock"}

    before = content()
    _at_once(warm, f"resume={folder}", count=number)
    assert content() == before
    assert _events(folder) == [1, 1, 1, 1]


def test_a_report_that_another_process_does_not_end_is_a_sentence(tmp_path, monkeypatch):
    """After a while, and it says what to do; else it waits and reports what stands there then."""
    monkeypatch.setattr(runner, "REPORT_SECONDS", 0)
    with (
        runner._reporting(tmp_path),
        pytest.raises(UserError, match=f"resume={tmp_path}"),
        runner._reporting(tmp_path),
    ):
        pass
    with runner._reporting(tmp_path):
        pass
