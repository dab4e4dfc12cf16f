"""A mistake in the data ends before anything is trained, and leaves no folder of a run or a sweep."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [[], ["-m", "seed=0,1"], ["-m", "sweep=tpe", "sweep.trials=2", "optimizer.lr=interval(0.1,1)"]],
    ids=["run", "grid", "search"],
)
@pytest.mark.parametrize("target", ["z", "y"])
def test_a_mistake_in_the_data_leaves_no_folder(tmp_path, more, target):
    """A column that is not there, and a value that is no number: exit code 2, and no file but the table."""
    (tmp_path / "t.csv").write_text("a,y\n1,0\nx2,1\n" + "3,0\n4,1\n" * 20)
    command = [
        sys.executable,
        "-m",
        "slipstream",
        *more,
        "data=table",
        "data.path=t.csv",
        f"data.target={target}",
    ]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert [str(file) for file in tmp_path.rglob("*") if file.is_file()] == [str(tmp_path / "t.csv")]
    assert not list(tmp_path.glob("outputs/*/*"))
