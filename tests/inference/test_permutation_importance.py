"""Permutation importance and partial dependence, against scikit-learn and plain loops over raw examples."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.inspection import permutation_importance

import slipstream
from slipstream.core.errors import ConfigError, DataError
from slipstream.inference.importance_files import write
from slipstream.inference.permutation_importance import importance, orders
from slipstream.inference.perturbations import perturbations

QUIET = ("trainer.progress=none", "logger=none", "trainer.device=cpu")


def table(path, rows, seed):
    """Numbers with gaps, words, dates with the day first, a boolean, and noise."""
    draw = np.random.default_rng(seed)
    age, city = draw.integers(18, 80, rows), draw.choice(["Rome", "Oslo", "Kyiv"], rows)
    day, month = draw.integers(1, 29, rows), draw.integers(1, 13, rows)
    z = (age - 45) / 15 + (city == "Oslo") * 2 + (month > 6) + draw.normal(0, 0.5, rows)
    columns = {
        "age": [None if draw.random() < 0.1 else int(v) for v in age],
        "city": city,
        "day": [f"{d:02}/{m:02}/2021" for d, m in zip(day, month, strict=True)],
        "paid": draw.choice(["true", "false"], rows),
        "noise": draw.normal(size=rows).round(3),
        "w": draw.integers(1, 4, rows),
        "y": np.where(z > 0.9, "yes", "no"),
    }
    pl.DataFrame(columns).write_csv(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a table, and a new file."""
    folder = tmp_path_factory.mktemp("run")
    words = [f"data.path={table(folder / 'a.csv', 300, 1)}", "data.target=y", "data.kinds={w: ignore}"]
    config = slipstream.compose("data=table", *words, "trainer.max_epochs=12", *QUIET)
    slipstream.train(config, folder / "run")
    return folder / "run", table(folder / "b.csv", 120, 2)


class Wrapped(BaseEstimator):
    """A run as scikit-learn sees it: raw columns as objects."""

    def __init__(self, run, names):
        self.run, self.names = run, names

    def fit(self, x, y):
        """Nothing is left to fit."""
        return self

    def scores(self, x):
        """Probabilities of raw rows."""
        columns = {name: x[:, i].tolist() for i, name in enumerate(self.names)}
        return slipstream.load(self.run).predict(columns).scores


def accuracy(model, x, y, sample_weight=None):
    right = model.scores(x).argmax(1) == y
    return np.average(right, weights=sample_weight)


def loss(model, x, y, sample_weight=None):
    p = np.log(model.scores(x).astype(float)[np.arange(len(y)), y])
    return np.average(p, weights=sample_weight)  # scikit-learn's scores are better when they are higher


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "scorer"), [("accuracy", accuracy), ("loss", loss)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_table_has_the_importances_of_scikit_learn(run, metric, scorer, weighted):
    """The same permutations of raw columns: a date moves with its cycles, a category with all its outputs."""
    folder, new = run
    frame, names = pl.read_csv(new), ["age", "city", "day", "paid", "noise"]
    x = np.stack([frame[name].to_numpy().astype(object) for name in names], axis=1)
    x[:, 0] = frame["age"].to_list()  # None for a gap
    x[:, 3] = frame["paid"].to_list()
    y = (frame["y"] == "yes").to_numpy().astype(int)
    weight = frame["w"].to_numpy() if weighted else None
    expected = permutation_importance(
        Wrapped(folder, names), x, y, scoring=scorer, n_repeats=3, random_state=0, sample_weight=weight
    )
    words = ["data.weight_column=w"] if weighted else []
    found = importance(folder, f"data.path={new}", *words, metric=metric, repeats=3)
    by_name = {each.name: each for each in found.features}
    assert set(by_name) == set(names)
    for i, name in enumerate(names):
        assert by_name[name].worse == pytest.approx(expected.importances_mean[i], abs=2e-6), name
        assert by_name[name].deviation == pytest.approx(expected.importances_std[i], abs=2e-6), name
    values = [each.worse for each in found.features]
    assert values == sorted(values, reverse=True)
    assert found.features[0].name in ("age", "city")
    assert found.features[0].interval[0] > 0


@pytest.mark.slow
def test_an_interval_is_that_of_resampled_rows(run):
    """The accuracy's, from another implementation: each row's loss of right answers, resampled."""
    from scipy.stats import bootstrap

    folder, new = run
    found = importance(folder, f"data.path={new}", metric="accuracy", repeats=4)
    frame, model = pl.read_csv(new), slipstream.load(folder)
    y = frame["y"].to_numpy()
    lost = -1.0 * np.zeros(len(y))
    right = model.predict(frame).labels == y
    for order in orders(len(y), 4):
        moved = frame.with_columns(age=frame["age"].gather(order.numpy()))
        lost += (right.astype(float) - (model.predict(moved).labels == y)) / 4
    (age,) = (each for each in found.features if each.name == "age")
    assert age.worse == pytest.approx(lost.mean())
    expected = bootstrap((lost,), np.mean, method="percentile", n_resamples=9999, rng=1).confidence_interval
    assert age.interval == pytest.approx(tuple(expected), abs=0.015)  # 400 resamples of 120 rows


def test_dependence_is_the_mean_prediction_with_one_value_everywhere(run):
    folder, new = run
    found = importance(folder, f"data.path={new}")
    frame, model = pl.read_csv(new), slipstream.load(folder)
    kinds = {one.column: one for one in found.dependence}
    assert [one.column for one in found.dependence] == [each.name for each in found.features[:3]]
    for one in found.dependence:
        assert one.outputs == ("yes",)
        for value, mean in list(zip(one.values, one.means, strict=True))[::4]:
            written = "/".join(reversed(value.split("-"))) if one.column == "day" else value
            same = frame.with_columns(pl.lit(written).alias(one.column))
            assert mean == pytest.approx([model.predict(same).scores[:, 1].mean()], abs=2e-4), one.column
    assert kinds["city"].values == ("Kyiv", "Oslo", "Rome")
    assert all(re.fullmatch(r"2021-\d\d-\d\d", value) for value in kinds["day"].values)
    ages = kinds["age"].values
    assert list(ages) == sorted(ages)
    assert {int(v) for v in ages} <= set(frame["age"].drop_nulls())


@pytest.mark.slow
def test_the_runs_own_test_rows_are_used_and_said(run, tmp_path):
    folder, _ = run
    found = importance(folder)
    assert (found.source, found.rows, found.metric) == ("the test rows of the run", 45, "loss")
    summary = json.loads((folder / "summary.json").read_text())
    assert found.baseline == pytest.approx(summary["best"]["test/loss"], rel=1e-5)
    files = write(found, tmp_path / "out")
    assert [file.name for file in files] == [
        *("importance.json", "importance.csv", "importance.png"),
        *("dependence_1.png", "dependence_2.png", "dependence_3.png"),
    ]
    told = json.loads((tmp_path / "out/importance.json").read_text())
    with open(tmp_path / "out/importance.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [each["name"] for each in told["features"]]
    assert float(rows[0]["low"]) < float(rows[0]["worse"]) < float(rows[0]["high"])
    assert importance(folder) == found


@pytest.mark.slow
def test_the_region_of_an_image_is_filled_with_the_mean(tmp_path):
    """And a channel moves between images; against a loop over raw arrays."""
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (120, 2, 9, 8), np.uint8), np.arange(120) % 2
    x[y == 1, 0, :3, :4] //= 3
    np.savez(tmp_path / "a.npz", inputs=x, targets=y)
    words = ["data=arrays", f"data.path={tmp_path / 'a.npz'}", "model=convnet", "trainer.max_epochs=6"]
    folder = slipstream.train(slipstream.compose(*words, *QUIET), tmp_path / "run").directory
    found = importance(folder, f"data.path={tmp_path / 'a.npz'}", metric="accuracy", repeats=2, grid=3)
    assert [each.kind for each in found.features].count("region") == 9
    model, by_name = slipstream.load(folder), {each.name: each for each in found.features}
    right = (model.predict(x).scores.argmax(1) == y).mean()
    mean = x.mean((0, 2, 3)).round().astype(np.uint8)
    for name, rows, columns in (("row 1, column 1", (0, 3), (0, 3)), ("row 3, column 2", (6, 9), (3, 5))):
        spoiled = x.copy()
        spoiled[:, :, slice(*rows), slice(*columns)] = mean[:, None, None]
        expected = right - (model.predict(spoiled).scores.argmax(1) == y).mean()
        assert by_name[name].worse == pytest.approx(expected, abs=1e-6), name
        assert by_name[name].deviation is None
    channels = [each for each in found.features if each.kind == "channel"]
    values = []
    for order in orders(120, 2):
        spoiled = x.copy()
        spoiled[:, 0] = x[order.numpy(), 0]
        values.append(right - (model.predict(spoiled).scores.argmax(1) == y).mean())
    assert any(each.worse == pytest.approx(np.mean(values), abs=1e-6) for each in channels)
    assert "importance_regions.png" in [file.name for file in write(found, tmp_path / "out")]


@pytest.mark.slow
def test_a_word_is_removed_from_the_texts_that_have_it(tmp_path):
    draw = np.random.default_rng(0)
    texts, labels = [], []
    for _ in range(160):
        good = draw.random() < 0.5
        words = [*draw.choice(["film", "plot", "actor", "the"], 4), "great" if good else "awful"]
        texts.append(" ".join(draw.permutation(words)))
        labels.append("good" if good else "bad")
    texts[0] = "the"
    path = tmp_path / "a.tsv"
    pl.DataFrame({"text": texts, "label": labels}).write_csv(path, separator="\t")
    words = ["data=text", f"data.path={path}", "data.text=text", "data.target=label", "model=rnn"]
    config = slipstream.compose(*words, "model.cell=gru", "trainer.max_epochs=8", *QUIET)
    folder = slipstream.train(config, tmp_path / "run").directory
    found = importance(folder, f"data.path={path}", words=6)
    assert len(found.features) == 6
    by_name, model = {each.name: each for each in found.features}, slipstream.load(folder)
    codes = np.array(labels) == "good"

    def loss(texts):
        p = model.predict(texts).scores.astype(float)
        return -np.log(p[np.arange(len(codes)), codes.astype(int)]).mean()

    base = loss(texts)
    assert set(by_name) <= {"film", "plot", "actor", "the", "great", "awful"}
    for word in ("great", "the"):
        spoiled = [" ".join(w for w in text.split() if w != word) for text in texts]
        if word == "the":  # the first text has no other word
            with pytest.warns(UserWarning, match="1 text without any word"):
                expected = loss(spoiled) - base
        else:
            expected = loss(spoiled) - base
        assert by_name[word].worse == pytest.approx(expected, abs=1e-5), word
        assert by_name[word].rows == sum(word in text.split() for text in texts)
    assert found.features[0].name in ("great", "awful")
    assert len(importance(folder, words=2).features) == 2


@pytest.mark.slow
def test_whole_sequences_of_a_column_are_exchanged(tmp_path):
    """Of sequences of one length as in the raw table; of several lengths the padding stays 0."""
    draw = np.random.default_rng(0)
    level = draw.normal(size=100)
    steps = pl.DataFrame(
        {
            "id": np.repeat(np.arange(100), 6),
            "t": np.tile(np.arange(6), 100),
            "a": np.repeat(level, 6) + draw.normal(0, 0.3, 600),
            "b": draw.normal(size=600),
            "y": np.repeat(np.where(level > 0, "up", "down"), 6),
        }
    )
    ragged = steps.filter((pl.col("id") % 2 == 0) | (pl.col("t") < 4))
    for name, frame in (("even", steps), ("ragged", ragged)):
        frame.write_csv(tmp_path / f"{name}.csv")
        words = [f"data.path={tmp_path / f'{name}.csv'}", "data.id=id", "data.time=t", "data.target=y"]
        config = slipstream.compose("data=sequences", *words, "model=rnn", "trainer.max_epochs=6", *QUIET)
        slipstream.train(config, tmp_path / name)
    found = importance(tmp_path / "even", f"data.path={tmp_path / 'even.csv'}", metric="accuracy", repeats=2)
    assert {each.name for each in found.features} == {"a", "b"}
    model, y = slipstream.load(tmp_path / "even"), np.where(level > 0, "up", "down")
    right, values = (model.predict(steps).labels == y).mean(), []
    for order in orders(100, 2):
        moved = steps["a"].to_numpy().reshape(100, 6)[order.numpy()].ravel()
        values.append(right - (model.predict(steps.with_columns(a=moved)).labels == y).mean())
    assert found.features[0].name == "a"
    assert found.features[0].worse == pytest.approx(np.mean(values), abs=1e-6)
    model = slipstream.load(tmp_path / "ragged")
    x = model.inputs(ragged)
    ones = perturbations([model.preprocessing], [x], 4, 9)
    assert [one.name for one in ones] == ["a", "b"]
    changed = ones[0].change(0, x, torch.arange(100).roll(1))
    assert not changed[x[..., -1] == 0].any()
    torch.testing.assert_close(changed[..., 1:], x[..., 1:])
    assert importance(tmp_path / "ragged").features[0].name == "a"


@pytest.mark.slow
def test_a_sweep_is_its_best_trial(run, tmp_path):
    """Seeds and folds share their test rows, each with its own preprocessing."""
    folder, _ = run
    words = ["data=table", f"data.path={folder.parent / 'a.csv'}", "data.target=y"]
    more = ["data.kinds={w: ignore}", "trainer.max_epochs=2", *QUIET]
    slipstream.sweep({"optimizer.lr": [0.01]}, *words, *more, directory=tmp_path / "s", folds=2)
    found = importance(tmp_path / "s", metric="accuracy")
    assert "the mean of 2 members" in found.name
    assert (found.source, found.rows) == ("the test rows of the run", 45)
    assert len(found.features) == 5


@pytest.mark.slow
def test_what_does_not_fit_is_named(run, tmp_path):
    folder, new = run
    with pytest.raises(ConfigError, match=r"--metric acuracy: not a metric of this run, did you mean accu"):
        importance(folder, metric="acuracy")
    pl.read_csv(new).filter(pl.col("y") == "yes")[:30].write_csv(tmp_path / "one.csv")
    with pytest.raises(
        ConfigError, match=r"roc_auc: undefined on data.path=.*; choose another one, such as --metric loss"
    ):
        importance(folder, f"data.path={tmp_path / 'one.csv'}", metric="roc_auc")
    pl.read_csv(new)[:5].write_csv(tmp_path / "few.csv")
    found = importance(folder, f"data.path={tmp_path / 'few.csv'}")
    assert {each.interval for each in found.features} == {None}
    words = [f"data.path={tmp_path / 'moved.csv'}", "data.target=y", "trainer.max_epochs=1", *QUIET]
    table(tmp_path / "moved.csv", 60, 3)
    slipstream.train(slipstream.compose("data=table", *words), tmp_path / "moved")
    table(tmp_path / "moved.csv", 60, 4)
    with pytest.raises(DataError, match="the data have changed since this run started"):
        importance(tmp_path / "moved")


def test_many_rows_are_drawn_from(run, monkeypatch):
    folder, new = run
    monkeypatch.setattr("slipstream.inference.permutation_importance.MOST_ROWS", 50)
    found = importance(folder, f"data.path={new}")
    assert found.rows == 50
    assert found.source.endswith("(50 drawn at random from 120)")
