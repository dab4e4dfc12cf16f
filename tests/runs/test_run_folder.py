"""A run's directory belongs to one process, and holds one run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from ondisk import NAMESPACE, needs_namespaces, started
from slipstream.core.errors import UserError
from slipstream.runs import run_folder


@pytest.mark.slow
@needs_namespaces
def test_two_containers_never_share_a_directory(tmp_path):
    """The lock is the system's: numbers of processes, which containers count for themselves, matter not."""
    claim = (
        "import sys; from slipstream.runs.run_folder import *; stack = claim(Path(sys.argv[1]), resume=False)"
    )
    hold = f"{claim}\nwith stack:\n    print(os.getpid(), flush=True)\n    sys.stdin.read()"
    command = [*NAMESPACE, sys.executable, "-c", hold, str(tmp_path / "run")]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        number = int(process.stdout.readline())
        assert number < 10
        with (
            pytest.raises(UserError, match=f"in use by process {number}; wait for it"),
            run_folder.claim(tmp_path / "run", resume=True),
        ):
            pass
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"in use by process {number}; wait for it" in again.stderr


def test_a_directory_is_made_held_and_given_back(tmp_path):
    """While it is held a second claim is refused with the holder's number; afterwards it is free."""
    run = tmp_path / "a" / "b"
    with run_folder.claim(run, resume=False):
        assert run.is_dir()
        with (
            pytest.raises(UserError, match=f"in use by process {os.getpid()}; wait for it"),
            run_folder.claim(run, resume=True),
        ):
            pass
    assert not (run / run_folder.HOLDER).exists()
    with run_folder.claim(run, resume=False):
        pass


def test_the_refused_claim_leaves_the_holders_note(tmp_path):
    """A third process is told of the holder as well."""
    with run_folder.claim(tmp_path, resume=False):
        for _ in range(2):
            with (
                pytest.raises(UserError, match="in use by process"),
                run_folder.claim(tmp_path, resume=False),
            ):
                pass
        assert (tmp_path / run_folder.HOLDER).exists()


@pytest.mark.slow
def test_a_holder_that_was_killed_holds_nothing(tmp_path):
    """The lock dies with its process, whatever files it left."""
    program = (
        "import os, sys; from pathlib import Path; from slipstream.runs import run_folder\n"
        "with run_folder.claim(Path(sys.argv[1]), resume=False): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    assert (tmp_path / run_folder.HOLDER).exists()
    with run_folder.claim(tmp_path, resume=False):
        assert (tmp_path / run_folder.HOLDER).read_text() == f"process {os.getpid()}\n"


def test_a_directory_with_a_run_is_only_resumed(tmp_path):
    """It is never overwritten, and the message says how to continue it."""
    (tmp_path / run_folder.CONFIG).write_text("name: x\n")
    with (
        pytest.raises(UserError, match=f"continue it with resume={tmp_path}"),
        run_folder.claim(tmp_path, resume=False),
    ):
        pass
    with run_folder.claim(tmp_path, resume=True):
        pass


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_place_that_cannot_be_a_directory_is_refused(tmp_path, where):
    """The message has the path, the system's reason and the setting to change."""
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot be written \(.+\); choose another folder") as error,
        run_folder.claim(tmp_path / where, resume=False),
    ):
        pass
    assert str(tmp_path / where) in str(error.value)


def test_overrides_are_kept_as_they_were_typed(tmp_path):
    """Quotes, colons, accents and lists come back from overrides.yaml as the same text."""
    typed = ["name='it''s'", 'data.path="a: b#c"', "regularizer=[l2,dropout]", "name=Größe", "+a=null"]
    run_folder.write_start(tmp_path, typed, "name: x\n")
    assert yaml.safe_load((tmp_path / run_folder.OVERRIDES).read_text("utf-8")) == typed
    run_folder.write_start(tmp_path, [], "name: x\n")
    assert yaml.safe_load((tmp_path / run_folder.OVERRIDES).read_text("utf-8")) == []
    assert (tmp_path / run_folder.CONFIG).read_text("utf-8") == "name: x\n"
