"""Evaluation on new data: every number against scikit-learn, and the run's own against its summary."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sklearn.metrics as sk

import slipstream
from slipstream.cli import evaluate_command
from slipstream.core.errors import ConfigError, DataError, UserError
from slipstream.inference import own_data
from slipstream.inference.asked_data import predicted_again
from slipstream.inference.evaluation import evaluate
from slipstream.inference.evaluation_files import write

QUIET = ("trainer.progress=none", "logger=none", "trainer.max_epochs=3", "trainer.device=cpu")


def table(folder, rows, seed, task):
    """A table of numbers, words, gaps, dates with the day first, and an identifier."""
    draw = np.random.default_rng(seed)
    age, city = draw.integers(18, 80, rows), draw.choice(["Rome", "Oslo", "Kyiv"], rows)
    days = [
        f"{d:02}/{m:02}/2021"
        for d, m in zip(draw.integers(1, 29, rows), draw.integers(1, 13, rows), strict=True)
    ]
    z = (age - 45) / 15 + (city == "Oslo") * 1.2 + draw.normal(0, 0.8, rows)
    targets = {
        "binary": {"y": np.where(z > 0.3, "yes", "no")},
        "multiclass": {"y": np.digitize(z, [-0.7, 0.9])},
        "regression": {"y": np.round(z * 100 + 500, 2)},
        "multilabel": {"y": z > 0, "z": z > 1},
    }[task]
    columns = {"age": [None if draw.random() < 0.1 else int(v) for v in age], "city": city, "day": days}
    path = folder / f"{task}{seed}.csv"
    pl.DataFrame(
        columns | {"place": draw.choice(["a", "b"], rows), "w": draw.integers(0, 4, rows)} | targets
    ).write_csv(path)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each task on a table, by task: its folder and a new file."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    for task in ("binary", "multiclass", "regression", "multilabel"):
        target = "[y,z]" if task == "multilabel" else "y"
        words = [f"data.path={table(folder, 300, 1, task)}", f"data.target={target}", "data.weight_column=w"]
        config = slipstream.compose("data=table", *words, "data.kinds={place: ignore}", *QUIET)
        slipstream.train(config, folder / task)
        made[task] = folder / task, table(folder, 200, 2, task)
    return made


def rows_of(found, folder):
    write(found, folder)
    with open(folder / "rows.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_metrics_of_classes_are_those_of_scikit_learn(runs, task, tmp_path):
    """With weights, from the rows that are written; and each class, and the confusion matrix."""
    run, new = runs[task]
    found = evaluate(run, f"data.path={new}")
    rows, weights = rows_of(found, tmp_path / "out"), pl.read_csv(new)["w"].to_numpy()
    true, predicted = ([row[key] for row in rows] for key in ("true", "predicted"))
    assert true == [str(v) for v in pl.read_csv(new)["y"]]
    scores = np.array([[float(row[f"probability {c}"]) for c in found.target.classes] for row in rows])
    scores /= scores.sum(1, keepdims=True)  # float32 in the file
    given = {"sample_weight": weights}
    expected = {
        "accuracy": sk.accuracy_score(true, predicted, **given),
        "balanced_accuracy": sk.balanced_accuracy_score(true, predicted, **given),
        "f1_macro": sk.f1_score(true, predicted, average="macro", **given),
        "mcc": sk.matthews_corrcoef(true, predicted, **given),
        "log_loss": sk.log_loss(true, scores, labels=list(found.target.classes), **given),
    }
    if task == "binary":
        expected["roc_auc"] = sk.roc_auc_score(np.array(true) == "yes", scores[:, 1], **given)
    for name, value in expected.items():
        assert found.whole.values[name] == pytest.approx(value, rel=1e-6), name  # scores are float32
    table = sk.confusion_matrix(true, predicted, labels=list(found.target.classes), **given)
    np.testing.assert_allclose(found.confusion, table)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        true, predicted, **given, zero_division=0
    )
    for i, row in enumerate(found.per_class):
        assert (row["precision"] or 0, row["recall"], row["f1"]) == pytest.approx(
            (precision[i], recall[i], f1[i])
        )
        assert row["examples"] == pytest.approx(support[i])
    losses = -np.log([scores[i, found.target.classes.index(label)] for i, label in enumerate(true)])
    np.testing.assert_allclose([float(row["loss"]) for row in rows], losses, rtol=1e-4, atol=1e-6)
    assert found.worst(3) == list(np.argsort(-found.losses)[:3])


@pytest.mark.slow
def test_metrics_of_numbers_are_those_of_scikit_learn(runs, tmp_path):
    run, new = runs["regression"]
    found = evaluate(run, f"data.path={new}")
    rows, weights = rows_of(found, tmp_path / "out"), pl.read_csv(new)["w"].to_numpy()
    true, predicted = (np.array([float(row[f"{key} y"]) for row in rows]) for key in ("true", "predicted"))
    np.testing.assert_array_equal(true, pl.read_csv(new)["y"])
    assert found.whole.values["r2"] == pytest.approx(
        sk.r2_score(true, predicted, sample_weight=weights), rel=1e-9
    )
    assert found.whole.values["mae"] == pytest.approx(
        sk.mean_absolute_error(true, predicted, sample_weight=weights), rel=1e-9
    )


@pytest.mark.slow
def test_several_labels(runs, tmp_path):
    run, new = runs["multilabel"]
    found = evaluate(run, f"data.path={new}")
    frame, rows = pl.read_csv(new), rows_of(found, tmp_path / "out")
    for row, name in zip(found.per_class, ("y", "z"), strict=True):
        predicted = [each[f"predicted {name}"] == "True" for each in rows]
        assert [each[f"true {name}"] == "True" for each in rows] == frame[name].to_list()
        assert row["recall"] == pytest.approx(
            sk.recall_score(frame[name], predicted, sample_weight=frame["w"])
        )


@pytest.mark.slow
def test_a_run_again_has_the_metrics_of_its_summary(runs):
    """To the last digit, on every split."""
    for run, _ in runs.values():
        again, _ = own_data.repeated(run)
        assert again == json.loads((run / "summary.json").read_text())["best"]


@pytest.mark.slow
def test_an_interval_covers_what_scipy_gives(runs):
    """Percentiles of the accuracy under resampling, from another implementation."""
    from scipy.stats import bootstrap

    run, new = runs["multiclass"]
    found = evaluate(run, f"data.path={new}", "data.weight_column=null")
    right = (found.scores.argmax(1) == found.targets).astype(float)
    expected = bootstrap((right,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    # 1,000 resamples of 200 rows: their quantiles vary by about a row in 200.
    assert found.whole.intervals["accuracy"] == pytest.approx(tuple(expected), abs=0.0125)
    low, high = found.whole.intervals["loss"]
    assert low < found.whole.values["loss"] < high
    assert evaluate(run, f"data.path={new}", "data.weight_column=null").whole == found.whole


@pytest.mark.slow
def test_groups_are_evaluations_of_their_own_rows(runs, tmp_path):
    """By a column that is no input, by one that is, and by one that the run ignores."""
    run, new = runs["binary"]
    frame = pl.read_csv(new)
    for by in ("place", "city"):
        found = evaluate(run, f"data.path={new}", by=by)
        assert sorted(found.groups) == sorted(frame[by].unique())
        for label, measured in found.groups.items():
            path = tmp_path / f"{label}.csv"
            frame.filter(pl.col(by) == label).write_csv(path)
            alone = evaluate(run, f"data.path={path}").whole
            assert measured.rows == alone.rows
            assert measured.values == pytest.approx(alone.values, rel=1e-6)


@pytest.mark.slow
def test_dates_are_read_as_in_training(runs, tmp_path):
    """A file whose dates alone do not tell the order of day and month."""
    run, new = runs["binary"]
    frame = pl.read_csv(new)
    low = frame.filter(pl.col("day").str.slice(0, 2).cast(int) <= 12)
    low.write_csv(tmp_path / "low.csv")
    whole, part = evaluate(run, f"data.path={new}"), evaluate(run, f"data.path={tmp_path / 'low.csv'}")
    rows = (frame["day"].str.slice(0, 2).cast(int) <= 12).to_numpy()
    np.testing.assert_allclose(part.scores, whole.scores[rows], rtol=1e-5)


@pytest.mark.slow
def test_what_does_not_fit_is_named(runs, tmp_path):
    run, new = runs["binary"]
    frame = pl.read_csv(new)
    frame.drop("city").write_csv(tmp_path / "lacks.csv")
    frame.with_columns(y=pl.lit("maybe")).write_csv(tmp_path / "labels.csv")
    with pytest.raises(DataError, match="'city'"):
        evaluate(run, f"data.path={tmp_path / 'lacks.csv'}")
    frame.drop("y").write_csv(tmp_path / "new.csv")
    with pytest.raises(
        DataError, match=rf"rows without targets: slipstream predict {run} {tmp_path / 'new.csv'}$"
    ):
        evaluate(run, f"data.path={tmp_path / 'new.csv'}")
    with pytest.raises(DataError, match="maybe"):
        evaluate(run, f"data.path={tmp_path / 'labels.csv'}")
    with pytest.raises(ConfigError, match=r"data\.pth: data=table has no such setting, did you mean path"):
        evaluate(run, f"data.pth={new}")
    with pytest.raises(UserError, match=r"--by names 'contry'"):
        evaluate(run, f"data.path={new}", by="contry")
    with pytest.raises(ConfigError, match=r"--by y: is the column of data.target"):
        evaluate(run, f"data.path={new}", by="y")
    with pytest.raises(ConfigError, match=r"by='place': names a column of new data; add data.path=FILE"):
        evaluate(run, by="place")


def test_one_class_is_enough(runs, tmp_path):
    """A file may hold rows of one class only, and a single row."""
    run, new = runs["binary"]
    pl.read_csv(new).filter(pl.col("y") == "yes")[:1].write_csv(tmp_path / "one.csv")
    found = evaluate(run, f"data.path={tmp_path / 'one.csv'}", "data.weight_column=null")
    assert found.whole.values["roc_auc"] is None
    assert set(found.whole.intervals.values()) == {None}


@pytest.mark.slow
def test_the_files(runs, tmp_path):
    run, new = runs["multiclass"]
    files = write(evaluate(run, f"data.path={new}", by="place"), tmp_path / "out")
    assert [Path(file).name for file in files] == [
        *("evaluation.json", "rows.csv", "confusion_matrix.png", "calibration.png"),
    ]
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert told["rows"] == 200
    assert set(told["groups"]) == {"a", "b"}
    assert told["metrics"]["accuracy"]["interval"][0] < told["metrics"]["accuracy"]["value"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sequences", "text"])
def test_sequences_and_texts_are_evaluated_as_they_are_predicted(tmp_path, kind):
    """Gaps between steps are filled from the step before; words are those of training."""
    draw = np.random.default_rng(1)
    if kind == "text":
        texts = [" ".join(draw.choice(["good", "bad", "so", "no"], draw.integers(1, 6))) for _ in range(60)]
        frame, words = pl.DataFrame({"t": texts, "y": ["p", "q"] * 30}), ["data.text=t"]
    else:
        values = [None if draw.random() < 0.4 else float(draw.normal()) for _ in range(160)]
        steps = {"i": [i // 4 for i in range(160)], "t": [i % 4 for i in range(160)], "a": values}
        frame = pl.DataFrame(steps | {"y": [["p", "q"][i // 4 % 2] for i in range(160)]})
        words = ["data.id=i", "data.time=t"]
    frame.write_csv(tmp_path / "f.csv")
    words += [
        f"data.path={tmp_path / 'f.csv'}",
        "data.target=y",
        "model=rnn",
        "model.width=4",
        "data.batch_size=8",
    ]
    slipstream.train(slipstream.compose(f"data={kind}", *words, *QUIET), tmp_path / "run")
    with pytest.warns(UserWarning, match="trained on rows of this file.*its test rows are used"):
        found = evaluate(tmp_path / "run", f"data.path={tmp_path / 'f.csv'}")
    examples = frame["t"].to_list() if kind == "text" else frame
    expected = slipstream.load(tmp_path / "run").predict(examples).scores
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)


def test_a_folder_that_was_trained_on_is_called_a_folder(tmp_path):
    """Of images there are no rows, and no file."""
    configs = [{"data": {"path": str(tmp_path)}}]
    said = f"{tmp_path}: the run was trained on examples of this folder, so it does better"
    (found,) = predicted_again(configs, str(tmp_path))
    assert found.startswith(said)


def test_the_largest_losses_of_own_rows_are_found_in_the_file(runs, capsys):
    folder, _ = runs["regression"]
    found = evaluate(folder)
    worst = found.worst(1)[0]
    place = found.data.where(worst)
    assert place.endswith(f"(row {worst + 1} of test)")
    frame = pl.read_csv(folder.parent / "regression1.csv")
    number = int(place.split("row ")[1].split()[0])
    assert frame["y"][number - 1] == pytest.approx(found.data.raw.targets[worst, 0])
    assert evaluate_command.run([str(folder)]) == 0
    assert f"row {number} (row {worst + 1} of test)" in " ".join(capsys.readouterr().out.split())
