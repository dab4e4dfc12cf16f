import pytest

import slipstream
from slipstream.core.errors import ConfigError, UserError


@pytest.mark.slow
def test_a_fork_trains_every_combination_and_keeps_run_folders(small_run, tmp_path, capsys, code):
    target = tmp_path / "futures"
    words = [
        "fork",
        f"{small_run}@3",
        "optimizer.lr=0.1,0.01",
        "regularizer.dropout.rate=0.1",
        "-o",
        str(target),
    ]
    assert code(words) == 0
    out = capsys.readouterr().out
    assert "optimizer.lr=0.01 regularizer.dropout.rate=0.1" in out
    assert sorted(path.name for path in target.iterdir()) == ["0", "1", "2"]
    assert slipstream.load(target / "1").predict([[5.0, 3.0, 1.0, 0.2]]).labels.shape == (1,)


@pytest.mark.slow
def test_without_an_epoch_it_begins_after_the_last_saved_one(small_run):
    assert slipstream.fork(small_run, "trainer.max_epochs=5").epoch == 4


@pytest.mark.parametrize(
    ("run", "overrides", "says"),
    [
        ("@soon", ["seed=1"], "expected an epoch after @"),
        ("@7", ["seed=1"], "has no epoch 7"),
        ("@3", ["optimizer.lrr=1"], "no such setting, did you mean optimizer.lr"),
        ("@3", ["dropout"], "expected key=value"),
    ],
)
def test_mistakes_are_explained(small_run, run, overrides, says):
    with pytest.raises((ConfigError, UserError), match=says):
        slipstream.fork(f"{small_run}{run}", *overrides)


@pytest.mark.parametrize("command", [["fork", "optimizer.lr=1"], ["ablate"], ["verify"]])
def test_a_folder_above_runs_names_one(small_run, code, capsys, command):
    """A sweep's folder is no run: a run below it is named."""
    assert code([command[0], str(small_run.parent), *command[1:]]) == 2
    assert f"choose one, such as {small_run}" in capsys.readouterr().err
