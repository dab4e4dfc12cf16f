"""`slipstream serve`: what it prints, how it ends, and what it says of a mistake."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from asking import ask, trained
from ondisk import started
from sampling import exhaustive_after
from slipstream.cli import main

COMMAND = [sys.executable, "-c", "from slipstream.cli import main; main()", "serve"]


def typed(capsys, *words):
    """The exit code and the message of a command that fails at once."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", *map(str, words)])
    return ended.value.code, capsys.readouterr().err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("made") / "run", "data=iris", "trainer.max_epochs=1")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are others there")
@pytest.mark.parametrize(
    ("number", "code", "name"),
    exhaustive_after(1, [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")]),
)
def test_a_signal_ends_it_with_the_code_that_is_documented(run, number, code, name):
    """Its page is named, it answers, and it says how much it answered."""
    with started(
        [*COMMAND, str(run), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        assert lines[0].startswith(f"{run}: multiclass: class (setosa, versicolor, virginica), from")
        url = re.match(
            r"(http://127\.0\.0\.1:\d+)  \(the page; .*/docs describes the API; Ctrl-C stops the server\)",
            lines[1],
        )[1]
        assert ask(url, body=[5.1, 3.5, 1.4, 0.2]).status == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, f"ended by {name}: 1 answered\n", "")


@pytest.mark.slow
def test_a_port_in_use_says_how_to_take_another(run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = typed(capsys, run, "--port", port)
    told = "in use by another program; use another port, or --port 0 for a free one"
    assert (code, err) == (2, f"--port {port}: {told}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "x"], "slipstream serve: argument --port: found 'x', expected a number from 0 to 65,535"),
        (["--port", "70000"], "slipstream serve: argument --port: found '70000', expected a number"),
        (
            ["--max-rows", "0"],
            "slipstream serve: argument --max-rows: found '0', expected a whole number >= 1",
        ),
        (
            ["--host", "192.0.2.1", "--port", "0"],
            "--host 192.0.2.1: not an address of this machine; use 127.0.0.1",
        ),
        (["--host", "no such host", "--port", "0"], "--host no such host: no such address"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(run, capsys, words, told):
    code, err = typed(capsys, run, *words)
    assert (code, err[: len(told)]) == (2, told)
    assert len(err.splitlines()) == 1


def test_a_missing_extra_says_what_to_type(capsys, monkeypatch):
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "fastapi" else plain(name))
    code, err = typed(capsys, "nowhere")
    assert code == 2
    assert err.startswith("serve: needs fastapi; install with: pip install ")
    assert "uvicorn>=" in err


def test_a_folder_that_is_no_run_is_told_first(capsys):
    assert typed(capsys, "nowhere") == (2, "nowhere: no such folder, expected the folder of a run\n")
