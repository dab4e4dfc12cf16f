"""Resuming replays a run's command line and refuses what would make it another run (row C13)."""

import shutil
from pathlib import Path

import pytest
import yaml

from slipstream.config import compose, composed, validate
from slipstream.config.files import completed
from slipstream.config.replay import check_resume, classify, diff
from slipstream.core.errors import ConfigError


@pytest.fixture
def run_folder(tmp_path):
    """The folder of a run as the engine leaves it."""
    folder = tmp_path / "a run"
    folder.mkdir()
    overrides = ["optimizer=sgd", "optimizer.lr=0.2"]
    (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / "config.yaml").write_text(yaml.safe_dump(validate(compose(*overrides)).raw))
    return folder


@pytest.mark.slow
def test_resume_replays_the_run(run_folder):
    """resume=DIR alone gives the configuration that ran."""
    config = validate(composed([f"resume='{run_folder}'"]))
    assert config.optimizer.settings["lr"] == 0.2
    assert config.resume == str(run_folder)
    assert config.raw == yaml.safe_load((run_folder / "config.yaml").read_text())


@pytest.mark.slow
def test_c13_what_a_resumed_run_may_change(run_folder, problems_of):
    """Logging is free, epochs may grow; the rest is refused with the difference."""
    resume = f"resume='{run_folder}'"
    free = composed([resume, "trainer.max_epochs=99", "logger=none", "trainer.keep=5", "trainer.device=cpu"])
    assert free["trainer"]["max_epochs"] == 99
    found = problems_of(resume, "trainer.max_epochs=3", "optimizer.lr=0.3", "regularizer=l1", "seed=1")
    assert {text.partition(":")[0] for text in found} == {
        *("seed", "optimizer.lr", "regularizer.l1", "trainer.max_epochs")
    }
    assert f"optimizer.lr: was 0.2 in {run_folder}, now 0.3; a resumed run cannot change it" in found
    assert f"trainer.max_epochs: was 50 in {run_folder}, now 3; it can only be increased" in found


def test_another_choice_is_one_difference(run_folder, only_problem):
    """A changed option is named once, not with each of its settings."""
    problem = only_problem(f"resume='{run_folder}'", "optimizer=adam", "optimizer.lr=0.1")
    assert problem.startswith("optimizer.name: was 'sgd'")


def test_what_resume_cannot_be_combined_with(run_folder, only_problem):
    """Another folder, two runs, no folder, and the folder of a whole sweep are refused."""
    resume = f"resume='{run_folder}'"
    assert "a resumed run keeps its folder" in only_problem(resume, "hydra.run.dir=/tmp/x")
    assert "only one run can be resumed at a time" in only_problem(resume, resume)
    assert "expected a folder" in only_problem("resume=")
    assert (f"contains runs, such as \"resume='{run_folder}'\"") in only_problem(
        f"resume='{run_folder.parent}'"
    )


@pytest.mark.slow
def test_a_relative_path_is_kept_as_it_was(tmp_path, monkeypatch):
    """A run on a relative path resumes from another folder: config.yaml has it absolute."""
    (tmp_path / "x.csv").write_text("x,y\n1,0\n2,1\n")
    monkeypatch.chdir(tmp_path)
    overrides = ["data=table", "data.path=x.csv", "data.target=y"]
    raw = validate(compose(overrides)).raw
    assert raw["data"]["path"] == str(tmp_path / "x.csv")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(folder)
    assert validate(composed([f"resume='{folder}'"])).raw == raw


@pytest.mark.parametrize(
    ("file", "content", "hint"),
    [
        (None, None, "no such folder"),
        ("overrides.yaml", None, "is not the folder of a run"),
        ("config.yaml", None, "is not the folder of a run"),
        ("overrides.yaml", "a: 1", "expected a list"),
        ("overrides.yaml", "- ['", "cannot be read"),
        ("overrides.yaml", "- +hydra.callbacks.x._target_=os.getcwd", "is not a setting of a run"),
        ("overrides.yaml", "- hydra/launcher=other", "is not a setting of a run"),
        ("config.yaml", "- 1", "expected a mapping"),
    ],
)
def test_resume_of_something_else(run_folder, file, content, hint, only_problem):
    """A folder that is no run, or one that was tampered with, is refused."""
    if file is None:
        shutil.rmtree(run_folder)
    elif content is None:
        (run_folder / file).unlink()
    else:
        (run_folder / file).write_text(content)
    assert hint in only_problem(f"resume='{run_folder}'")


def test_diff_and_classification():
    """Every difference is found by its full key, and every key has one class."""
    saved = {"a": 1, "b": {"c": True, "d": None}, "gone": {"x": 1}}
    new = {"a": 1.0, "b": {"c": 1, "d": 2}, "came": 3}
    assert diff(saved, new) == [
        ("b.c", True, 1),
        ("b.d", None, 2),
        ("gone", {"x": 1}, None),
        ("came", None, 3),
    ]
    assert classify("logger.tensorboard.histograms", 1, 2) == "free"
    assert classify("logger", None, {}) == "free"
    assert classify("trainer.max_epochs", 5, 6) == "extendable"
    assert classify("trainer.max_epochs", 6, 5) == "frozen"
    assert classify("optimizer.lr", 1, 2) == "frozen"


def test_check_resume_accepts_the_same(run_folder):
    """An unchanged configuration is no difference."""
    check_resume(Path(run_folder), yaml.safe_load((run_folder / "config.yaml").read_text()))


@pytest.mark.slow
def test_a_run_from_before_a_setting_was_there_goes_on_with_its_default(run_folder):
    """What an option has got since has its default: the run is resumed, and only another value is refused."""
    saved = yaml.safe_load((run_folder / "config.yaml").read_text())
    for section, key in (("trainer", "portable"), ("data", "split_seed"), ("early_stopping", "metric")):
        del saved[section][key]
    assert "portable" not in saved["trainer"]
    (run_folder / "config.yaml").write_text(yaml.safe_dump(saved))
    resume = f"resume='{run_folder}'"
    assert composed([resume])["trainer"]["portable"] is False
    with pytest.raises(ConfigError, match=r"trainer.portable: was false"):
        composed([resume, "trainer.portable=true"])


def test_a_saved_configuration_that_lacks_nothing_is_left_as_it_is():
    """Nothing that was chosen is changed by what options have by default."""
    words = ["regularizer=[dropout,l2]", "regularizer.l2.strength=0.5", "optimizer=gradient_descent"]
    raw = validate(compose(*words, "augmentation=[rotation]", "model=tabm", "loss=hinge")).raw
    assert completed(raw) == raw
    assert completed({"model": {"name": "../train"}, "name": 3}) == {"model": {"name": "../train"}, "name": 3}
