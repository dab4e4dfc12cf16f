"""A mistake in the data ends before anything is trained, and leaves no folder of a run or a sweep."""

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [[], ["-m", "seed=0,1"], ["-m", "sweep=tpe", "sweep.trials=2", "optimizer.lr=interval(0.1,1)"]],
    ids=["run", "grid", "search"],
)
@pytest.mark.parametrize("target", ["z", "y"])
def test_a_mistake_in_the_data_leaves_no_folder(warm, tmp_path, more, target):
    """A column that is not there, and a value that is no number: exit code 2, and no file but the table."""
    (tmp_path / "t.csv").write_text("a,y\n1,0\nx2,1\n" + "3,0\n4,1\n" * 20)
    words = [*more, "data=table", "data.path=t.csv", f"data.target={target}"]
    ended = warm.command(*words, cwd=str(tmp_path))
    shown, _ = ended.communicate()
    assert ended.returncode == 2, shown
    assert "Traceback" not in shown
    assert [str(file) for file in tmp_path.rglob("*") if file.is_file()] == [str(tmp_path / "t.csv")]
    assert not list(tmp_path.glob("outputs/*/*"))
