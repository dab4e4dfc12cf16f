"""A plan in its folder: joined by the same one, refused for another, changed in what is free only."""

import json

import pytest

from sampling import slow_after
from slipstream.config import composition
from slipstream.core.errors import ConfigError, UserError
from slipstream.sweeps.plan import planning, store

GRID = ("optimizer=sgd,adam", "optimizer.lr=0.1,0.2", "seed=3")
SEARCH = ("sweep=tpe", "optimizer.lr=interval(0.1,1)", "sweep.trials=5")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "a sweep"


def refused(function, *arguments):
    with pytest.raises(ConfigError) as caught:
        function(*arguments)
    return caught.value.problems


@pytest.mark.slow
def test_a_plan_is_written_once_and_joined_afterwards(folder):
    """The first writes sweep.json; the same command joins, with workers of its own, and writes nothing."""
    first = store.freeze(planning.plan(GRID), folder)
    written = (folder / "sweep.json").read_bytes()
    joined = store.freeze(planning.plan([*GRID, "sweep.workers=2", "trainer.progress=none"]), folder)
    assert (joined.settings.workers, joined.example.config.trainer.progress) == (2, "none")
    assert store.load(folder).jobs == first.jobs
    assert (folder / "sweep.json").read_bytes() == written
    assert [file.name for file in folder.iterdir()] == ["sweep.json"]


@pytest.mark.parametrize(
    ("other", "hint"),
    slow_after(
        1,
        [
            (
                ("optimizer=sgd,adam", "optimizer.lr=0.1,0.3", "seed=3"),
                "optimizer.lr: was 0.1, 0.2, now 0.1, 0.3",
            ),
            (("optimizer=sgd,adam", "optimizer.lr=0.1,0.2", "seed=4"), "seed: was 3, now 4"),
            (("optimizer.lr=0.1,0.2", "optimizer=sgd,adam", "seed=3"), "had another order"),
            ((*GRID, "sweep.repeats=2"), "sweep.repeats: was 1, now 2"),
            ((*GRID, "trainer.max_epochs=3"), "trainer.max_epochs: was 50, now 3"),
            ((*GRID, "model.width=7,8"), "model.width: was not swept, now 7, 8"),
            (SEARCH, "sweep: was grid"),
        ],
    ),
)
def test_another_plan_does_not_get_the_folder(folder, other, hint):
    """Whatever differs is named, with what it was, and the folder stays as it is."""
    store.freeze(planning.plan(GRID), folder)
    written = (folder / "sweep.json").read_bytes()
    found = refused(store.freeze, planning.plan(other), folder)
    assert any(hint in problem for problem in found), found
    assert (folder / "sweep.json").read_bytes() == written


@pytest.mark.slow
def test_a_changed_yaml_is_another_plan(folder, mine):
    """The same command with other files behind it is not the same sweep; the frozen one goes on as it was."""
    mine("optimizer/mine.yaml", "name: sgd\nlr: 0.5\n")
    command = ["optimizer=mine", "seed=1,2"]
    before = store.freeze(planning.plan(command), folder)
    mine("optimizer/mine.yaml", "name: sgd\nlr: 0.25\n")
    assert "optimizer.lr: was 0.5, now 0.25" in refused(store.freeze, planning.plan(command), folder)[0]
    composition.use_folder(None)
    assert store.resume(folder).jobs == before.jobs


def test_the_folder_of_a_run_is_no_place_for_a_sweep(tmp_path):
    """Nothing is mixed, and what cannot be made is said in one sentence."""
    (tmp_path / "config.yaml").write_text("name: x\n")
    with pytest.raises(UserError, match="is the folder of a run"):
        store.freeze(planning.plan(GRID), tmp_path)
    with pytest.raises(UserError, match="cannot create the folder of the sweep: Not a directory"):
        store.freeze(planning.plan(GRID), tmp_path / "config.yaml" / "below")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": 2}', '{"format": 1, "lines": {}}', '{"format": 1, "lines": 5}', "\0"],
)
def test_a_broken_plan_is_named(folder, text):
    """Whatever stands in sweep.json, the answer is a sentence with the file's name."""
    folder.mkdir()
    (folder / "sweep.json").write_text(text)
    (problem,) = refused(store.load, folder)
    assert problem.startswith(str(folder / "sweep.json"))


def test_half_a_plan_is_named(folder):
    """A file cut anywhere is refused."""
    store.freeze(planning.plan(GRID), folder)
    whole = (folder / "sweep.json").read_text()
    for length in range(0, len(whole) - 2, 97):
        (folder / "sweep.json").write_text(whole[:length])
        assert "is damaged" in refused(store.load, folder)[0]


@pytest.mark.slow
def test_a_plan_that_was_edited_is_refused(folder):
    """A value changed by hand would train some members otherwise than others: its checksum tells."""
    store.freeze(planning.plan(GRID), folder)
    file = folder / "sweep.json"
    whole = file.read_text()
    saved = json.loads(whole)
    saved["templates"] = {}
    for text in (json.dumps(saved), whole.replace('"format": 1', '"format": true')):
        file.write_text(text)
        assert "its checksum differs" in refused(store.load, folder)[0]
    file.write_text(json.dumps(json.loads(whole)))  # the same, written otherwise
    assert store.load(folder).to_json() == planning.plan(GRID).to_json()


@pytest.mark.slow
def test_what_a_resumed_sweep_may_change(folder):
    """Logging, the device and the workers are free, trials may be raised, and what lasts is written."""
    store.freeze(planning.plan(SEARCH), folder)
    plan = store.resume(
        folder, ["sweep.trials=9", "logger=none", "trainer.device=cpu", "sweep.workers=2", "trainer.keep=4"]
    )
    config = plan.example.config
    assert (plan.settings.trials, plan.settings.workers) == (9, 2)
    assert (list(config.loggers), config.trainer.device, config.trainer.keep) == (["none"], "cpu", 4)
    assert "logger=none" in plan.example.overrides
    again = store.resume(folder)
    assert (again.settings.trials, again.settings.workers) == (9, 1)
    assert again.example.config == config


@pytest.mark.slow
def test_what_was_typed_before_may_be_typed_again(folder):
    """A value that is the same is no change."""
    store.freeze(planning.plan(GRID), folder)
    written = (folder / "sweep.json").read_bytes()
    store.resume(
        folder, ["seed=3", "model=mlp", "model.width=128", "sweep.repeats=1", f"resume={folder.name}"]
    )
    assert (folder / "sweep.json").read_bytes() == written


@pytest.mark.parametrize(
    ("override", "hint"),
    slow_after(
        2,
        [
            ("seed=4", "seed: was 3"),
            ("optimizer.lr=0.1", "optimizer.lr: is swept"),
            ("model.width=7", "model.width: was 128"),
            ("model=perceptron", "model: was 'mlp'"),
            ("regularizer=[l2]", "regularizer: was []"),
            ("model.depth=1,2", "cannot get more values"),
            ("sweep.repeats=2", "sweep.repeats: was 1"),
            ("sweep.trials=2", "has no such setting"),
            ("hydra.sweep.dir=x", "keeps its folder"),
            ("trainer.keep=0", "expected whole number >= 2"),
            ("logger=tensorbord", "did you mean tensorboard?"),
            ("sweep.workers=0", "expected whole number >= 1"),
            ("seed=[1", "a bracket is not closed"),
        ],
    ),
)
def test_c13_what_a_resumed_sweep_may_not_change(folder, override, hint):
    """Everything else is refused with the difference, and nothing is written."""
    store.freeze(planning.plan(GRID), folder)
    written = (folder / "sweep.json").read_bytes()
    (problem,) = refused(store.resume, folder, [override])
    assert hint in problem
    assert (folder / "sweep.json").read_bytes() == written


def test_trials_may_not_be_lowered(folder):
    """What was asked for has been asked for."""
    store.freeze(planning.plan(SEARCH), folder)
    (problem,) = refused(store.resume, folder, ["sweep.trials=2"])
    assert problem.endswith("now 2; it can only be increased")


@pytest.mark.slow
def test_a_thousand_jobs_are_a_small_file(folder):
    """The values of a thousand members take a few hundred kilobytes, not a configuration each."""
    store.freeze(planning.plan(["optimizer.lr=range(1,101)", "seed=range(10)"]), folder)
    assert (folder / "sweep.json").stat().st_size < 200_000
    assert len(json.loads((folder / "sweep.json").read_text())["grid"]) == 1000
