"""Trained networks loaded from their directory predict what was measured when they were trained."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

import slipstream
from harness import tiny
from slipstream.config import validate
from slipstream.data.splits import split_rows
from slipstream.errors import DataError, UserError
from slipstream.registry import component
from slipstream.run import run

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


def test_numbers_are_in_original_units(tmp_path):
    """The error of the predicted values on the test part is the rmse of summary.json."""
    config, _, summary = trained(tmp_path, {"data": "diabetes"})
    inputs, targets, rows = rows_tested(config)
    found = slipstream.load(tmp_path).predict(inputs[rows])
    assert found.shape == (len(rows),)
    rmse = np.sqrt(np.mean((found - targets[rows, 0]) ** 2))
    # Metrics are taken from float32 targets that were scaled and back.
    assert rmse == pytest.approx(summary["best"]["test/rmse"], rel=1e-5)


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


def test_a_run_from_before_a_setting_was_there_predicts(tmp_path):
    """What its configuration lacks has its default."""
    config, *_ = trained(tmp_path, {"data": "iris"})
    inputs, _, rows = rows_tested(config)
    expected = slipstream.load(tmp_path).predict(inputs[rows]).scores
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("  portable: false\n", ""))
    assert text != (tmp_path / "config.yaml").read_text()
    np.testing.assert_array_equal(slipstream.load(tmp_path).predict(inputs[rows]).scores, expected)


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


def test_a_table_is_encoded_as_in_training(town):
    """Further columns are left alone, words for missing values are missing, new categories are warned of."""
    frame = pl.DataFrame({"y": ["0", "1"], "town": ["a", "c"], "size": ["3", "NA"]})
    found = town.predict(frame)
    same = town.predict({"size": [3, None], "town": ["a", "c"]})
    np.testing.assert_array_equal(found.scores, same.scores)
    assert set(found.labels.tolist()) <= {0, 1, 2}
    with pytest.warns(UserWarning, match="a category that training has not seen"):
        town.predict({"size": [3], "town": ["z"]})


def test_single_values_are_one_row(town):
    """A mapping of scalars, of Python or numpy, with or without further columns, is one example."""
    right = town.predict({"size": [3.0], "town": ["a"]}).scores
    for row in ({"size": 3, "town": "a"}, {"size": np.float32(3), "town": np.str_("a"), "y": [1, 2]}):
        np.testing.assert_array_equal(town.predict(row).scores, right)
    missing = town.predict({"size": [None], "town": ["b"]}).scores
    np.testing.assert_array_equal(town.predict({"size": None, "town": "b"}).scores, missing)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ({"size": 1.0, "town": ["a", "b"]}, "'size' is a single value and column 'town' is a list"),
        ({"size": [1.0]}, "lacks columns that training had: town"),
        ({"size": [1.0], "town": ["a", "b"]}, "columns of different lengths: 1, 2"),
        (np.zeros((2, 3)), r"expected \[N, 2\]: size, town"),
        (np.array([["1", "a"]]), "expected numbers"),
        ("t.csv", "expected an array"),
    ],
)
def test_what_does_not_fit_is_an_error(town, x, words):
    """A missing column, another width, words in an array, something else."""
    with pytest.raises(DataError, match=words):
        town.predict(x)


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


def test_what_is_no_run_or_is_damaged_is_an_error(tmp_path):
    """An empty folder, no checkpoint, broken JSON, weights of another network: a UserError that names it."""
    with pytest.raises(UserError, match="no run is here"):
        slipstream.load(tmp_path)
    trained(tmp_path, {"data": "iris"})
    config, fitted = tmp_path / "config.yaml", tmp_path / "preprocessing.json"
    text, saved = config.read_text(), fitted.read_text()
    fitted.write_text(saved[:100])
    with pytest.raises(UserError, match="is damaged"):
        slipstream.load(tmp_path)
    fitted.write_text(saved)
    config.write_text(text.replace("width: 5", "width: 6"))
    with pytest.raises(UserError, match=r"is no network of config\.yaml"):
        slipstream.load(tmp_path)
    config.write_text(text)
    (tmp_path / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="nothing is saved yet"):
        slipstream.load(tmp_path)
