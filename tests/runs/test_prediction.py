"""Trained networks loaded from their directory predict what was measured when they were trained."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch
import yaml

import slipstream
from harness import tiny
from sampling import slow_after
from slipstream.config import compose, validate
from slipstream.config.files import completed
from slipstream.core import errors
from slipstream.core.errors import DataError, UserError
from slipstream.core.registry import LISTS, component
from slipstream.data.splits import split_rows
from slipstream.runs import prediction
from slipstream.runs.session import run

FAST = {"trainer.max_epochs": 4, "data.batch_size": 16}


def trained(directory, changes):
    """A short run: its configuration, its result and its summary."""
    config = tiny(FAST | changes)
    return config, run(config, directory, []), json.loads((directory / "summary.json").read_text())


def rows_tested(config):
    """The raw inputs and targets of the rows that the run was tested on."""
    settings = {"name": config.data.name, **config.data.settings}
    source = component("data", config.data.name)
    raw = source(**{name: settings[name] for name in source.own_settings})
    rows = split_rows(raw, settings)[1][2]
    return raw.inputs, raw.targets, rows


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "iris"},
        {"data": "iris", "regularizer": ["batch_norm", "dropout"], "loss": "hinge"},
        {"data": "breast_cancer", "trainer.dtype": "bfloat16"},
        {"data": "iris", "regularizer": ["ema"], "early_stopping.restore_best": False},
        {"data": "iris", "optimizer": "schedule_free", "early_stopping.restore_best": False},
    ],
    ids=["best", "batch_norm", "bfloat16", "average", "schedule_free"],
)
def test_classes_are_those_that_the_summary_measured(tmp_path, changes):
    """The weights are the result's, and their accuracy on the test part is that of summary.json."""
    config, result, summary = trained(tmp_path, changes)
    inputs, targets, rows = rows_tested(config)
    model = slipstream.load(tmp_path)
    found = model.predict(inputs[rows])
    kept = summary["best" if config.early_stopping.settings["restore_best"] else "last"]
    expected = np.array(model.target.classes)[targets[rows]]
    assert np.mean(found.labels == expected) == kept["test/accuracy"]
    assert not model.module.training
    held = model.module.state_dict()
    assert all(torch.equal(held[name], weights) for name, weights in result.weights.items())
    assert found.scores.shape == (len(rows), len(found.classes))
    if "loss" in changes:
        with pytest.raises(UserError, match="loss=hinge gives no probabilities"):
            _ = found.probabilities
    else:
        # Of float32: a softmax's sum is off by a few 1e-7.
        np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_numbers_are_in_original_units(tmp_path):
    """The error of the predicted values on the test part is the rmse of summary.json."""
    config, _, summary = trained(tmp_path, {"data": "diabetes"})
    inputs, targets, rows = rows_tested(config)
    found = slipstream.load(tmp_path).predict(inputs[rows])
    assert found.shape == (len(rows),)
    rmse = np.sqrt(np.mean((found - targets[rows, 0]) ** 2))
    # Metrics are taken from float32 targets that were scaled and back.
    assert rmse == pytest.approx(summary["best"]["test/rmse"], rel=1e-5)


@pytest.mark.slow
def test_the_module_is_the_network_alone(tmp_path):
    """`module` of `inputs` gives the logits whose softmax are the probabilities."""
    config, *_ = trained(tmp_path, {"data": "iris"})
    inputs, _, rows = rows_tested(config)
    model = slipstream.load(str(tmp_path))
    with torch.no_grad():
        logits = model.module(model.inputs(inputs[rows]))
    found = model.predict(inputs[rows]).probabilities
    # The engine takes the softmax along another axis: the last bit may differ.
    np.testing.assert_allclose(torch.softmax(logits, 1).numpy(), found, rtol=1e-6)


@pytest.mark.slow
def test_arrays_frames_and_mappings_are_the_same_examples(tmp_path):
    """Columns by name, in whatever order, give what the array in the order of training gives."""
    trained(tmp_path, {"data": "iris"})
    model = slipstream.load(tmp_path)
    inputs = np.random.default_rng(0).uniform(1, 6, (5, 4))
    names = [column.name for column in model.preprocessing.columns]
    mapping = {name: inputs[:, i].tolist() for i, name in reversed(list(enumerate(names)))}
    expected = model.predict(inputs).scores
    for same in (mapping, pl.DataFrame(mapping), inputs.tolist()):
        np.testing.assert_array_equal(model.predict(same).scores, expected)


def aged(folder):
    """Take out of a run's folder all that has its default, as older runs lack it."""
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    left = {name: part for name, part in saved.items() if name != "augmentation"}
    for group, section in saved.items():
        for key in section if isinstance(section, dict) and group not in LISTS else ():
            rest = {name: value for name, value in section.items() if name != key}
            if key != "name" and completed(saved | {group: rest}) == saved:
                left[group] = {name: value for name, value in left[group].items() if name != key}
    (folder / "config.yaml").write_text(yaml.safe_dump(left))
    kept = json.loads((folder / "preprocessing.json").read_text())
    for name in ("tokenizer", "steps"):
        if kept["inputs"][name] is None:
            del kept["inputs"][name]
    kept["target"].pop("label_kind", None)
    (folder / "preprocessing.json").write_text(json.dumps(kept))
    return saved, left


KINDS = {
    "table": ("data.path=t.csv", "data.target=y"),
    "sequences": ("data.path=t.csv", "data.id=s", "data.time=t", "data.target=y", "model=rnn"),
    "text": ("data.path=t.csv", "data.text=w", "data.target=y", "model=rnn"),
}


@pytest.mark.parametrize("kind", slow_after(1, KINDS))
def test_a_run_from_before_settings_were_there_predicts(tmp_path, monkeypatch, kind):
    """What its files lack has its default, also where that is another setting's value."""
    monkeypatch.chdir(tmp_path)
    rows = [(i // 3, i % 3, "uv"[i % 2], i * 7 % 11, "pq"[i // 3 % 2]) for i in range(120)]
    frame = pl.DataFrame(rows, schema=["s", "t", "w", "a", "y"], orient="row")
    frame.write_csv("t.csv")
    words = ("trainer.max_epochs=1", "trainer.compile=false", "logger=none", "trainer.progress=none")
    early = ("early_stopping=patience", "regularizer=[ema]")
    run(validate(compose(f"data={kind}", *KINDS[kind], *words, *early)), tmp_path / "run", [])
    examples = frame["w"].to_list() if kind == "text" else frame
    expected = slipstream.load("run").predict(examples).scores
    saved, left = aged(tmp_path / "run")
    assert "metric" in saved["early_stopping"]
    assert "metric" not in left["early_stopping"]
    np.testing.assert_array_equal(slipstream.load("run").predict(examples).scores, expected)


@pytest.fixture
def town(tmp_path):
    """A run on a table of numbers, words and missing values, its file gone."""
    lines = ["size,town,y"] + [f"{'NA' if i % 9 == 0 else i % 13},{'abc'[i % 3]},{i % 3}" for i in range(90)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    raw = slipstream.compose(
        *("data=table", f"data.path={tmp_path / 't.csv'}", "data.target=y", "logger=none"),
        *("trainer.max_epochs=2", "trainer.progress=none", "trainer.compile=false", "trainer.device=cpu"),
    )
    run(validate(raw), tmp_path / "run", [])
    (tmp_path / "t.csv").unlink()
    return slipstream.load(tmp_path / "run")


@pytest.mark.slow
def test_a_table_is_encoded_as_in_training(town):
    """Further columns are left alone, words for missing values are missing, new categories are warned of."""
    frame = pl.DataFrame({"y": ["0", "1"], "town": ["a", "c"], "size": ["3", "NA"]})
    found = town.predict(frame)
    same = town.predict({"size": [3, None], "town": ["a", "c"]})
    np.testing.assert_array_equal(found.scores, same.scores)
    assert set(found.labels.tolist()) <= {0, 1, 2}
    with pytest.warns(UserWarning, match="a category that is not in the training split"):
        town.predict({"size": [3], "town": ["z"]})


@pytest.mark.slow
def test_single_values_are_one_row(town):
    """A mapping of scalars, of Python or numpy, with or without further columns, is one example."""
    right = town.predict({"size": [3.0], "town": ["a"]}).scores
    for row in ({"size": 3, "town": "a"}, {"size": np.float32(3), "town": np.str_("a"), "y": [1, 2]}):
        np.testing.assert_array_equal(town.predict(row).scores, right)
    missing = town.predict({"size": [None], "town": ["b"]}).scores
    np.testing.assert_array_equal(town.predict({"size": None, "town": "b"}).scores, missing)


@pytest.mark.parametrize(
    ("x", "words"),
    slow_after(
        1,
        [
            ({"size": 1.0, "town": ["a", "b"]}, "'size' is a single value but column 'town' is a list"),
            ({"size": [1.0]}, "lacks columns of the training data: town"),
            ({"size": [1.0], "town": ["a", "b"]}, "columns of different lengths: 1, 2"),
            (np.zeros((2, 3)), r"expected \[N, 2\]: size, town"),
            (np.array([["1", "a"]]), "expected numbers"),
            ("t.csv", "expected an array"),
        ],
    ),
)
def test_what_does_not_fit_is_an_error(town, x, words):
    """A missing column, another width, words in an array, something else."""
    with pytest.raises(DataError, match=words):
        town.predict(x)


@pytest.mark.slow
def test_labels_that_do_not_exclude_each_other(tmp_path):
    """Multilabel: a truth value a label, where its probability is above one half."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((60, 2))
    np.savez(tmp_path / "a.npz", inputs=x, targets=(x > 0).astype(int))
    raw = slipstream.compose(
        *("data=arrays", f"data.path={tmp_path / 'a.npz'}", "logger=none", "trainer.max_epochs=1"),
        *("trainer.progress=none", "trainer.compile=false", "trainer.device=cpu"),
    )
    slipstream.train(raw, tmp_path / "run")
    found = slipstream.load(tmp_path / "run").predict(x)
    np.testing.assert_array_equal(found.labels, found.probabilities > 0.5)
    assert found.classes == ("targets_0", "targets_1")


@pytest.mark.slow
def test_what_is_no_run_or_is_damaged_is_an_error(tmp_path):
    """An empty folder, no checkpoint, broken JSON, weights of another network: a UserError that names it."""
    with pytest.raises(UserError, match="not a run"):
        slipstream.load(tmp_path)
    trained(tmp_path, {"data": "iris"})
    config, fitted = tmp_path / "config.yaml", tmp_path / "preprocessing.json"
    text, saved = config.read_text(), fitted.read_text()
    fitted.write_text(saved[:100])
    with pytest.raises(UserError, match="is damaged"):
        slipstream.load(tmp_path)
    fitted.write_text(saved)
    config.write_text(text.replace("width: 5", "width: 6"))
    with pytest.raises(UserError, match=r"does not match the network of config\.yaml"):
        slipstream.load(tmp_path)
    config.write_text(text)
    (tmp_path / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="the run has no checkpoint yet"):
        slipstream.load(tmp_path)


def test_a_model_and_its_predictions_say_what_they_are(tmp_path):
    """The repr has the kind of data, the columns and the classes; that of predictions the labels."""
    trained(tmp_path, {"data": "iris", "trainer.max_epochs": 1})
    model = slipstream.load(tmp_path)
    assert "of vector data: columns sepal" in repr(model)
    assert "-> classes setosa, versicolor, virginica>" in repr(model)
    found = model.predict(np.zeros((8, 4)))
    assert repr(found).startswith("8 predictions of setosa, versicolor, virginica: [")
    assert repr(found).endswith(", ...]")


def test_predictions_of_several_labels_are_shown_by_name():
    """A row of a multilabel prediction is the list of its labels."""
    labels = np.array([[True, False], [True, True]])
    found = prediction.Classification(("red", "round"), labels * 1.0, labels, "auto", True)
    assert repr(found) == "2 predictions of red, round: [['red'], ['red', 'round']]"


def test_a_folder_of_runs_names_one_to_load(tmp_path):
    """Of a folder above runs the message names one; of one without any it says what is expected."""
    folder = tmp_path / "table" / "2026-01-01"
    trained(folder, {"data": "iris", "trainer.max_epochs": 1})
    with pytest.raises(UserError) as error:
        slipstream.load(tmp_path)
    assert f"it contains 1 run: choose one, such as {folder}" in str(error.value)
    with pytest.raises(UserError, match="expected a folder with config"):
        slipstream.load(folder / "checkpoints")
    with pytest.raises(UserError, match="no such folder"):
        slipstream.load(tmp_path / "nowhere")


def test_the_errors_are_importable_from_the_package():
    """What a user catches has its name in `slipstream`."""
    assert (slipstream.ConfigError, slipstream.DataError, slipstream.UserError) == (
        errors.ConfigError,
        errors.DataError,
        errors.UserError,
    )


def test_a_component_that_is_not_registered_here_is_named(tmp_path):
    """A run with an own model says who must import it; an own logger is not needed any more."""
    folder = tmp_path / "run"
    trained(folder, {"data": "iris", "trainer.max_epochs": 1})
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(saved | {"logger": {"printed": {"every": 1}}}))
    slipstream.load(folder)
    own = saved | {"model": saved["model"] | {"name": "own_resnet"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(own))
    with pytest.raises(UserError, match="model=own_resnet, which is not registered here") as error:
        slipstream.load(folder)
    assert "did you mean" not in str(error.value)


@pytest.mark.slow
def test_one_example_without_its_axis_is_told_so():
    """A vector given to a network of vectors is not taken for N numbers."""
    run = slipstream.fit(np.eye(40, 4), np.arange(40.0) + 0.5, "trainer.max_epochs=1")
    with pytest.raises(DataError, match=r"found inputs of shape \(4,\), expected \[N, 4\].* x\[None\]"):
        run.predict(np.zeros(4))
