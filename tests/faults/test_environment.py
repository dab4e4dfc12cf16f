"""Faults of the environment: E1, E5-E8. What a run prints may be lost; what it trains is not."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from harness import tiny
from ondisk import bytes_of, last, train_in
from sampling import exhaustive_after
from slipstream.core.console import Output
from slipstream.core.errors import ConfigError
from slipstream.runs.progress import Screen
from slipstream.training.member import Member

ROOT = Path(__file__).parents[2]
TINY = (
    *("data=spirals", "data.rows=40", "data.batch_size=12", "model.width=5", "model.depth=1"),
    *("activation=tanh", "optimizer=sgd", "logger=none", "trainer.max_epochs=3", "trainer.compile=false"),
    *("trainer.metrics=[]", "trainer.device=cpu", "trainer.checkpoint_seconds=0", "trainer.threads=1"),
)


def command(folder, *overrides):
    """The real command line, with a run in `folder`."""
    return [sys.executable, str(ROOT / "train.py"), *last(*TINY, f"hydra.run.dir={folder}", *overrides)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of a run with an undisturbed screen."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    train_in(directory)
    return directory


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_e1_cuda_without_a_device_is_refused(tmp_path, monkeypatch):
    """Exit code 2 and what to write instead, before anything is trained or saved."""
    with pytest.raises(
        ConfigError, match=r"trainer.device: found cuda.*use trainer.device=auto or cpu"
    ) as error:
        train_in(tmp_path / "run", {"trainer.device": "cuda"})
    assert error.value.exit_code == 2
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", exhaustive_after(1, [{"PYTHONIOENCODING": "ascii"}, {}]), ids=["ascii", "plain"]
)
def test_e5_the_c_locale_takes_letters_of_all_languages(tmp_path, settings):
    """LC_ALL=C, and a terminal that knows ASCII only: the run, its folder and its files bear any name."""
    environment = os.environ | {"LC_ALL": "C", "LANG": "C"} | settings
    run = tmp_path / "Größe-大小"
    words = command(f"'{run}'", "name='Größe-大小'")  # Hydra takes such letters in quotes
    ended = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert "Größe-大小" in (run / "config.yaml").read_text("utf-8")
    again = [sys.executable, str(ROOT / "train.py"), f"resume='{run}'", "trainer.max_epochs=4"]
    ended = subprocess.run(again, capture_output=True, env=environment, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4


def test_e6_without_a_terminal_there_are_plain_lines(tmp_path, capsys):
    """Whole lines, no colours, no movement; one for every epoch of a short run."""
    train_in(tmp_path / "run", {"trainer.progress": "auto"})
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\r" not in printed
    epochs = [line for line in printed.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in epochs] == ["1/3", "2/3", "3/3"]


@pytest.mark.slow
@pytest.mark.parametrize(("term", "moves"), [("dumb", False), ("xterm", True)])
def test_e7_a_dumb_terminal_gets_plain_lines(warm, tmp_path, whole, term, moves):
    """TERM=dumb: no escape sequence at all; the same terminal as xterm has a live bar."""
    master, slave = pty.openpty()
    words = last(*TINY, f"hydra.run.dir={tmp_path / 'run'}")
    process = warm.command(*words, environment={"TERM": term}, terminal=os.ttyname(slave))
    printed = b""
    os.set_blocking(master, False)
    while True:
        ended = process.poll() is not None
        try:
            while chunk := os.read(master, 65536):
                printed += chunk
        except BlockingIOError:
            time.sleep(0.02)
        if ended:
            break
    os.close(slave)
    os.close(master)
    assert process.returncode == 0
    assert (b"\x1b[" in printed) is moves
    assert b"finished: all 3 epochs done" in printed
    assert bytes_of(tmp_path / "run") == bytes_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("reader", exhaustive_after(1, ["head -1", "true", "cat > /dev/full"]))
def test_e8_a_reader_that_goes_away_costs_nothing(tmp_path, whole, reader):
    """`| head -1`, and a reader that disappears at once: the run finishes silently, exit code 0."""
    line = " ".join(f"'{word}'" for word in command(tmp_path / "run"))
    shell = ["bash", "-c", f"{line} 2> '{tmp_path}/errors' | {reader} 2> /dev/null; exit ${{PIPESTATUS[0]}}"]
    ended = subprocess.run(shell, stdout=subprocess.DEVNULL, check=False)
    assert (ended.returncode, (tmp_path / "errors").read_text()) == (0, "")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "finished"
    assert bytes_of(tmp_path / "run") == bytes_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("redirection", exhaustive_after(1, [">&-", "> /dev/full"]))
def test_e8_a_stdout_that_takes_nothing_costs_nothing(tmp_path, whole, redirection):
    """Standard output on a full disk, or closed from the start: the run finishes, exit code 0."""
    line = " ".join(f"'{word}'" for word in command(tmp_path / "run"))
    ended = subprocess.run(["bash", "-c", f"{line} {redirection}"], stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert bytes_of(tmp_path / "run") == bytes_of(whole)


@pytest.mark.parametrize("broken", ["pipe", "full"])
def test_e8_a_screen_that_breaks_becomes_silent(tmp_path, monkeypatch, broken):
    """The first line that cannot be written is the last that is tried."""
    if broken == "pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    with open(writing, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        screen = Screen("plain", [Member(tiny(), None)], 28)
        assert isinstance(screen.console, Output)
        for _ in range(3):
            screen.say("a line")
        screen.close()
    assert screen.console.quiet


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limit of addresses there")
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("size", [100, 400, 580])
def test_too_few_addresses_are_told_in_a_sentence(tmp_path, hard, size):
    """A limit below what torch's own libraries take (ulimit -v 400000) is no bug of ours, nor the C library's
    to end (at 580 MB it aborts); bash raises it as is advised, where the shell may."""
    import resource

    allowed, most = size << 20, resource.getrlimit(resource.RLIMIT_AS)[1]
    limits = (allowed, allowed if hard else most)
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, limits)  # noqa: E731
    done = subprocess.run(
        command(tmp_path / "run"), cwd=tmp_path, capture_output=True, text=True, preexec_fn=limit
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    _, _, advice = done.stderr.partition(f"this process is limited to {size} MB of address space; ")
    if hard:
        assert advice == "use a shell without this limit\n"
    else:
        cure = re.match(r"raise it with (ulimit -Sv \w+)\n", advice)[1]
        line = ["bash", "-c", f"{cure} && ulimit -Sv"]
        raised = subprocess.run(line, capture_output=True, text=True, preexec_fn=limit)
        assert raised.stdout == f"{'unlimited' if most == resource.RLIM_INFINITY else most >> 10}\n"
    assert not (tmp_path / "run").exists()
