"""Sweeps from Python."""

from __future__ import annotations

import json

import pytest

import slipstream
from slipstream.core.errors import ConfigError

TINY = ("data=wine", "trainer.max_epochs=2", "model.width=4", "logger=none", "trainer.threads=1")


SPACE = {"optimizer.lr": [1e-5, 0.05]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the sweep is."""
    return tmp_path_factory.mktemp("made") / "s"


@pytest.fixture(scope="module")
def found(folder):
    """Two rates and three seeds."""
    return slipstream.sweep(SPACE, *TINY, directory=folder, repeats=3)


@pytest.mark.slow
def test_a_sweep_gives_its_best_trial_all_runs_and_a_frame(found, folder):
    """Six runs in their folders, two trials, the better one first."""
    assert found.exit_code == 0
    assert [run.status for run in found.runs] == ["finished"] * 6
    assert all(run.directory == folder / str(run.number) for run in found.runs)
    assert found.best.values == {"optimizer.lr": 0.05}
    assert found.best.n == 3
    frame = found.frame()
    assert frame.height == 6
    assert frame["rank"].to_list() == [1, 1, 1, 2, 2, 2]
    best = [run.value for run in found.runs if run.trial == found.best.trial]
    assert found.best.mean == pytest.approx(sum(best) / 3)


@pytest.mark.slow
def test_the_same_call_joins_what_was_done(found, folder, monkeypatch):
    """Called again it trains nothing; with another plan the folder is refused."""
    monkeypatch.setattr(
        "slipstream.sweeps.work.pack_trainer.PackTrainer.train", lambda self: pytest.fail("trained")
    )
    again = slipstream.sweep(SPACE, *TINY, directory=folder, repeats=3)
    assert again.runs == found.runs
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        slipstream.sweep({"optimizer.lr": [1e-5, 0.06]}, *TINY, directory=folder, repeats=3)


@pytest.mark.slow
def test_a_search_has_its_space_from_python(tmp_path):
    """An interval as a mapping, a searcher and its settings as keywords."""
    pytest.importorskip("optuna")
    space = {"optimizer.lr": {"low": 1e-4, "high": 0.1, "log": True}}
    found = slipstream.sweep(space, *TINY, "sweep=random", directory=tmp_path / "s", trials=5, at_once=3)
    assert len(found.runs) == 5
    assert all(1e-4 <= run.values["optimizer.lr"] <= 0.1 for run in found.runs)


def test_mistakes_are_named_before_anything_is_written(tmp_path):
    """A misspelled key, and a setting that no sweep has."""
    with pytest.raises(ConfigError, match=r"did you mean optimizer\.lr"):
        slipstream.sweep({"optimizer.lrr": [0.1]}, *TINY, directory=tmp_path / "s")
    with pytest.raises(ConfigError, match="repeats"):
        slipstream.sweep({"optimizer.lr": [0.1]}, *TINY, directory=tmp_path / "s", repeat=3)
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_test_scores_are_in_nobodys_sight_but_the_members_own(tmp_path):
    """Neither TensorBoard's files nor the frame nor what ranks has one; summaries do, and the best one's
    stand in the report."""
    found = slipstream.sweep(
        {"optimizer.lr": [0.1, 0.01], "seed": [0, 1]},
        *("data=iris", "trainer.max_epochs=2", "logger.tensorboard.graph=false"),
        directory=tmp_path / "sweep",
    )
    assert not any(b"test/" in path.read_bytes() for path in found.directory.glob("*/events*"))
    assert not any("test" in name for name in found.frame().columns)
    assert not any("test" in name for outcome in found.runs for name in outcome.best)
    accuracies = [
        json.loads((member.directory / "summary.json").read_text())["best"]["test/accuracy"]
        for member in found.best.members
    ]
    assert found.report.test["test/accuracy"][0] == pytest.approx(sum(accuracies) / 2)


def test_a_sweep_is_shown_short_and_the_frame_begins_with_what_matters(found, folder):
    """The repr is a line without test scores; rank, value and swept keys are the frame's first columns."""
    assert "optimizer.lr=0.05" in repr(found)
    assert len(repr(found)) < 200 + len(str(folder))
    assert "test" not in repr(found).replace(str(folder), "")
    assert found.frame().columns[:3] == ["rank", "value", "optimizer.lr"]
    assert len(found.frame().columns) == len(set(found.frame().columns))
