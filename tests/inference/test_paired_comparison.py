"""Comparison of runs: paired tests against scipy's, from predictions of raw rows."""

from __future__ import annotations

import csv
import json

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk
from PIL import Image
from scipy.stats import binomtest, bootstrap

import slipstream
from slipstream.core.errors import ConfigError, DataError, UserError
from slipstream.inference.comparison_files import write
from slipstream.inference.evaluation import evaluate
from slipstream.inference.paired_comparison import compare
from slipstream.inference.paired_tests import mcnemar
from slipstream.sweeps.report.comparisons import holm

QUIET = ("trainer.progress=none", "logger=none", "trainer.device=cpu", "trainer.max_epochs=8")


def table(path, rows, seed):
    draw = np.random.default_rng(seed)
    a, b = draw.normal(size=(2, rows))
    z = a + 0.7 * b + draw.normal(0, 0.5, rows)
    columns = {"a": a, "b": b, "w": draw.integers(1, 4, rows), "y": np.where(z > 0, "up", "down"), "z": z}
    pl.DataFrame(columns).write_csv(path)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs by name: of classes and of numbers, good and bad ones; and a new file."""
    folder = tmp_path_factory.mktemp("runs")
    path = table(folder / "old.csv", 400, 1)

    def made(name, *words, target="y"):
        ignored = "w: ignore, " + ("z: ignore" if target == "y" else "y: ignore")
        base = ("data=table", f"data.path={path}", f"data.target={target}", f"data.kinds={{{ignored}}}")
        return slipstream.train(slipstream.compose(*base, *QUIET, *words), folder / name).directory

    return {
        "good": made("good", "optimizer.lr=0.01"),
        "half": made("half", "data.inputs=[a]", "data.kinds={}", "data.scaling=robust", "optimizer.lr=0.01"),
        "bad": made("bad", "optimizer=sgd", "optimizer.lr=1e-6", "seed=3"),
        "twin": made("twin", "optimizer.lr=0.01", "seed=1"),
        "other": made("other", "optimizer.lr=0.01", "data.split_seed=4"),
        "hinge": made("hinge", "loss=hinge", "optimizer.lr=0.01"),
        "mse": made("mse", "optimizer.lr=0.01", target="z"),
        "mae": made("mae", "optimizer.lr=0.01", "loss=mae", "data.inputs=[b]", "data.kinds={}", target="z"),
        "new": table(folder / "new.csv", 150, 2),
    }


@pytest.mark.parametrize(("a", "b", "both"), [(0, 0, 5), (1, 0, 3), (6, 1, 9), (30, 55, 100), (700, 640, 10)])
def test_mcnemar_is_the_binomial_test_of_scipy(a, b, both):
    first = np.array([True] * a + [False] * b + [True] * both)
    other = np.array([False] * a + [True] * b + [True] * both)
    found = mcnemar(first, other)
    assert (found.first_only, found.other_only) == (a, b)
    assert found.p == pytest.approx(binomtest(a, a + b).pvalue if a + b else 1.0, rel=1e-9)


@pytest.mark.slow
def test_classes_are_compared_as_scipy_compares_them(runs):
    """Values, McNemar's test, and the paired bootstrap of accuracy and log loss."""
    new = runs["new"]
    found = compare([runs["good"], runs["half"]], f"data.path={new}")
    (half,) = found.others
    frame = pl.read_csv(new)
    y = (frame["y"] == "up").to_numpy().astype(int)
    scores = [slipstream.load(runs[name]).predict(frame).scores.astype(float) for name in ("good", "half")]
    right = [(each.argmax(1) == y).astype(float) for each in scores]
    losses = [-np.log(each[np.arange(len(y)), y]) for each in scores]
    assert found.rows == 150
    for name in ("good", "half"):
        own, i = evaluate(runs[name], f"data.path={new}").whole.values, found.names.index(name)
        assert {metric: values[i] for metric, values in found.values.items()} == own
    only = [(a > b).sum() for a, b in (right, right[::-1])]
    assert (half.mcnemar.first_only, half.mcnemar.other_only) == tuple(only)
    assert half.mcnemar.p == pytest.approx(binomtest(int(only[0]), int(sum(only))).pvalue)
    for metric, pair in (("accuracy", right), ("log_loss", losses)):
        expected = bootstrap(
            (pair[1], pair[0]),
            lambda b, a, axis=-1: b.mean(axis=axis) - a.mean(axis=axis),
            paired=True,
            method="percentile",
            n_resamples=9999,
            rng=1,
        ).confidence_interval
        each = half.differences[metric]
        assert each.difference == pytest.approx(pair[1].mean() - pair[0].mean(), abs=1e-6)
        # 1,000 resamples: their quantiles vary by some hundredths of the interval.
        width = expected.high - expected.low
        assert each.interval == pytest.approx(tuple(expected), abs=0.1 * width), metric
        assert (each.p < 0.05) == (not each.interval[0] <= 0 <= each.interval[1])


@pytest.mark.slow
def test_the_resampled_rows_are_the_same_for_all_runs(runs):
    """An interval of a difference in ROC AUC, from a loop over scikit-learn's on the same rows of both."""
    new = runs["new"]
    found = compare([runs["good"], runs["twin"]], f"data.path={new}", metric="roc_auc")
    frame = pl.read_csv(new)
    y = (frame["y"] == "up").to_numpy().astype(int)
    scores = [slipstream.load(runs[name]).predict(frame).scores[:, 1] for name in ("good", "twin")]
    draw, differences = np.random.default_rng(5), []
    for _ in range(500):
        rows = draw.integers(0, len(y), len(y))
        a, b = (sk.roc_auc_score(y[rows], each[rows]) for each in scores)
        differences.append(b - a)
    low, high = np.quantile(differences, [0.025, 0.975])
    (twin,) = found.others
    assert twin.differences["roc_auc"].interval == pytest.approx((low, high), abs=0.15 * (high - low))
    assert twin.verdict == "inconclusive"
    assert twin.sentence.startswith(
        "Inconclusive: the rows do not show whether twin or good is better: roc_auc "
    )


@pytest.mark.slow
def test_verdicts_and_holms_correction(runs):
    """Better and worse are said, the metric's direction counts, and several runs share the error."""
    names = ["bad", "good", "half"]
    found = compare([runs[name] for name in names], metric="accuracy")
    assert [one.verdict for one in found.others] == ["better", "better"]
    exact = [one.mcnemar.p for one in found.others]
    assert [one.p for one in found.others] == pytest.approx(holm(exact))
    assert "good is better than bad: accuracy " in found.others[0].sentence
    assert "by McNemar's exact test, after Holm's correction" in found.others[0].sentence
    assert found.values["accuracy"][1] > found.values["accuracy"][0]
    (worse,) = compare([runs["good"], runs["bad"]]).others
    assert worse.verdict == "worse"
    assert "bad is worse than good: loss " in worse.sentence
    assert "more" in worse.sentence
    assert "Holm" not in worse.sentence
    (same,) = compare([runs["good"], runs["good"]]).others
    assert (same.verdict, same.p, same.differences["loss"].difference) == ("inconclusive", 1.0, 0.0)


@pytest.mark.slow
def test_settings_that_differ_are_named(runs):
    found = compare([runs["good"], runs["bad"]])
    assert dict(found.settings) == {
        "seed": ["0", "3"],
        "optimizer.lr": ["0.01", "1e-06"],
        "optimizer": ["adam", "sgd"],
    }
    assert compare([runs["good"], runs["twin"]]).settings == {"seed": ["0", "1"]}


@pytest.mark.slow
def test_rows_are_the_same_whatever_the_inputs_are(runs):
    """Test rows of other columns and scaling are the same rows; those of another split are not."""
    own = compare([runs["good"], runs["half"]])
    assert (own.source, own.rows) == ("the test rows of the runs", 60)
    summary = json.loads((runs["half"] / "summary.json").read_text())
    assert own.values["accuracy"][1] == pytest.approx(summary["best"]["test/accuracy"])
    with pytest.raises(UserError, match=r"the test rows of .*other differ .* add data.path=FILE"):
        compare([runs["good"], runs["other"]])
    assert compare([runs["good"], runs["other"]], f"data.path={runs['new']}").rows == 150


@pytest.mark.slow
def test_numbers_and_losses_of_other_kinds(runs):
    """Losses that are not one are not compared, and then the usual metric of the task decides."""
    found = compare([runs["mse"], runs["mae"]], f"data.path={runs['new']}")
    assert "loss" not in found.values
    assert (found.metric, found.mode) == ("rmse", "min")
    assert found.others[0].mcnemar is None
    assert found.others[0].verdict == "worse"
    classes = compare([runs["good"], runs["hinge"]])
    assert "log_loss" not in classes.values  # hinge gives no probabilities
    assert classes.metric == "accuracy"


def test_weights_count(runs):
    """Then the bootstrap decides on accuracy: McNemar's test counts every row once."""
    words = (f"data.path={runs['new']}", "data.weight_column=w")
    found = compare([runs["bad"], runs["good"]], *words, metric="accuracy")
    frame = pl.read_csv(runs["new"])
    right = slipstream.load(runs["good"]).predict(frame).labels == frame["y"].to_numpy()
    assert found.values["accuracy"][1] == pytest.approx(np.average(right, weights=frame["w"]))
    assert found.others[0].test == "the paired bootstrap"


@pytest.mark.slow
def test_what_cannot_be_compared_is_named(runs, tmp_path):
    with pytest.raises(UserError, match=r"mse predicts regression z \(numbers\), and .*good binary y \(2"):
        compare([runs["good"], runs["mse"]])
    with pytest.raises(ConfigError, match=r"--metric acuracy: not a metric of all runs, did you mean accur"):
        compare([runs["good"], runs["half"]], metric="acuracy")
    with pytest.raises(ConfigError, match="found one run, expected at least two"):
        compare([runs["good"]])
    pl.read_csv(runs["new"]).drop("b").write_csv(tmp_path / "lacks.csv")
    with pytest.raises(DataError, match="'b'"):
        compare([runs["half"], runs["good"]], f"data.path={tmp_path / 'lacks.csv'}")
    pl.read_csv(runs["new"])[:6].write_csv(tmp_path / "few.csv")
    few = compare([runs["good"], runs["bad"]], f"data.path={tmp_path / 'few.csv'}")
    assert few.others[0].sentence.endswith("; there are too few rows for a test.")
    assert few.others[0].verdict == "inconclusive"


@pytest.mark.slow
def test_the_files(runs, tmp_path):
    found = compare([runs["good"], runs["bad"], runs["half"]], metric="accuracy")
    files = write(found, tmp_path / "out")
    names = ["comparison.json", "comparison.csv", "curves_loss.png", "curves_accuracy.png"]
    assert [file.name for file in files] == names
    told = json.loads((tmp_path / "out/comparison.json").read_text())
    assert [one["verdict"] for one in told["others"]] == [one.verdict for one in found.others]
    with open(tmp_path / "out/comparison.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "accuracy"]
    assert [row["run"] for row in rows] == ["good", "bad", "half"]
    assert float(rows[1]["low"]) < float(rows[1]["difference"]) < float(rows[1]["high"])
    colors = Image.open(tmp_path / "out/curves_loss.png").convert("RGB").getcolors(1 << 20)
    assert len({color for _, color in colors} & {(31, 119, 180), (255, 127, 14), (44, 160, 44)}) == 3


@pytest.mark.slow
def test_a_sweep_is_its_best_trial(runs, tmp_path):
    path = runs["new"].parent / "old.csv"
    words = ["data=table", f"data.path={path}", "data.target=y", "data.kinds={w: ignore, z: ignore}", *QUIET]
    slipstream.sweep({"optimizer.lr": [0.01]}, *words, directory=tmp_path / "s", folds=2)
    found = compare([runs["bad"], tmp_path / "s"])
    assert found.others[0].verdict == "better"
    assert [len(origins) for origins in found.origins] == [1, 2]
    assert len(write(found, tmp_path / "out")) == 3
