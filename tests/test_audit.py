"""Every number of a run once more: scikit-learn on what the loaded network predicts."""

from __future__ import annotations

import json
from itertools import cycle, product

import numpy as np
import polars as pl
import pytest

import slipstream
from harness import tiny
from references import REFERENCES
from sampling import exhaustive_after, slow_after
from slipstream.core.registry import component
from slipstream.data.splits import split_rows
from slipstream.metrics import every

# A class that is never predicted has a precision of 0, of which scikit-learn warns.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
ROWS, EPOCHS = 120, 4
PARTS = {"train": 0, "val": 1, "test": 2}
TARGETS = {
    "binary": ["kind"],
    "multiclass": ["sort"],
    "multilabel": ["red", "green", "blue"],
    "regression": ["size"],
    "multi-output": ["size", "when"],
}
CLASSES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c", "d")}
FAST = {
    "data": "table",
    "data.batch_size": 32,
    "optimizer": "adam",
    "optimizer.lr": 0.02,
    "trainer.max_epochs": EPOCHS,
    "trainer.metrics": "all",
    "trainer.checkpoint_seconds": 0,
}


@pytest.fixture(scope="module")
def frame():
    """120 rows: three numbers and a word, targets of every task that depend on them, weights, groups."""
    draw = np.random.default_rng(0)
    a, b, c = draw.standard_normal((3, ROWS)).round(3)
    town = draw.integers(0, 3, ROWS)
    score = a + b * town + 0.7 * draw.standard_normal(ROWS)
    noise = draw.standard_normal((4, ROWS))
    return pl.DataFrame(
        {
            "a": a,
            "b": b,
            "c": [None if i % 11 == 0 else value for i, value in enumerate(c.tolist())],
            "town": [("Ulm", "Köln", "Bad Tölz")[i] for i in town],
            "kind": np.where(score > 0.8, "yes", "no"),
            "sort": [CLASSES["multiclass"][i] for i in np.digitize(score, (-1.0, 0.2, 1.2))],
            "red": (a + noise[0] > 0).astype(int),
            "green": (b + noise[1] > 0.8).astype(int),
            "blue": (a * b + noise[2] > -0.5).astype(int),
            "size": (3 * score + noise[3]).round(2),
            "when": (1.7e9 + 40 * a + noise[0]).round(2),
            "part": [("train", "train", "train", "validation", "test")[i % 5] for i in range(ROWS)],
            "w": draw.uniform(0.2, 3, ROWS).round(2) * (draw.uniform(size=ROWS) > 0.1),
            "team": draw.integers(0, 20, ROWS),
        }
    )


def trained(frame, folder, task, changes, *, pack=False):
    """A run on the frame as a file: its rows by part, its summary and its records."""
    (folder / "t.csv").write_text(frame.write_csv())
    names = TARGETS[task]
    unused = {name for targets in TARGETS.values() for name in targets if name not in names}
    data = {"data.path": str(folder / "t.csv"), "data.target": names if len(names) > 1 else names[0]}
    columns = {"w": "data.weight_column", "team": "data.group_column", "part": "data.split_column"}
    taken = {column for column, key in columns.items() if key in changes}
    kinds = {"data.kinds": dict.fromkeys(sorted(unused | set(columns) - taken), "ignore")}
    config, other = (tiny(FAST | data | kinds | changes, seed=seed) for seed in (0, 1))
    if pack:
        run, _ = slipstream.train_pack([config, other], [folder / "run", folder / "other"])
    else:
        run = slipstream.train(config, folder / "run")
    settings = {"name": config.data.name, **config.data.settings}
    source = component("data", "table")
    raw = source(**{name: settings[name] for name in source.own_settings})
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert summary["best"] == run.best
    return dict(zip(PARTS, split_rows(raw, settings)[1], strict=True)), summary, [*map(json.loads, lines)]


def networks(folder):
    """The networks of the best and of the last epoch."""
    best = slipstream.load(folder / "run")
    path = folder / "run" / "config.yaml"
    text = path.read_text()
    path.write_text(text.replace("restore_best: true", "restore_best: false"))
    assert path.read_text() != text
    return {"best": best, "last": slipstream.load(folder / "run")}


def expected(task, model, frame, weights):
    """Every metric of the task, by scikit-learn."""
    found = model.predict(frame)
    if task in CLASSES:
        place = {label: i for i, label in enumerate(CLASSES[task])}
        truth = np.array([place[label] for label in frame[TARGETS[task][0]]])
        assert list(found.classes) == list(CLASSES[task])
        assert found.labels.tolist() == [found.classes[i] for i in found.scores.argmax(axis=1)]
    else:
        truth = frame.select(TARGETS[task]).to_numpy().astype(float)
    scores = found.reshape(truth.shape) if isinstance(found, np.ndarray) else found.scores.astype(float)
    known = every("regression" if task == "multi-output" else task, len(CLASSES.get(task, ())))
    return {name: REFERENCES[name](truth, scores, weights) for name in known if REFERENCES[name] is not None}


def audit(frame, folder, task, changes, *, pack=False):
    """Hold summary.json, and the best and the last line of metrics.jsonl, against the reference."""
    parts, summary, records = trained(frame, folder, task, changes, pack=pack)
    lines = {"best": records[summary["best_epoch"] - 1], "last": records[-1]}
    for which, model in networks(folder).items():
        for part, rows in parts.items():
            some = frame[rows.tolist()]
            weights = some["w"].to_numpy() if "data.weight_column" in changes else np.ones(len(some))
            right = {f"{part}/{k}": v for k, v in expected(task, model, some, weights).items()}
            # A forward pass of other rows rounds otherwise, in float32.
            assert {k: summary[which][k] for k in right} == pytest.approx(right, rel=1e-5, abs=1e-8), which
            if part == "val":
                assert {k: lines[which][k] for k in right} == pytest.approx(right, rel=1e-5, abs=1e-8)
    same_rows_in_every_form(model, frame, folder)


def same_rows_in_every_form(model, frame, folder):
    """The file as polars reads it, as words, as Parquet, and as a mapping are predicted as the frame is."""
    frame.write_parquet(folder / "t.parquet")
    first = predicted(model, frame)
    for other in (
        pl.read_csv(folder / "t.csv"),
        pl.read_csv(folder / "t.csv", infer_schema=False),
        pl.read_parquet(folder / "t.parquet"),
        frame.to_dict(as_series=False),
    ):
        np.testing.assert_array_equal(predicted(model, other), first)


def predicted(model, x):
    found = model.predict(x)
    return found if isinstance(found, np.ndarray) else found.scores


WEIGHTED = {"data.weight_column": "w"}
SPLIT = {"data.split_column": "part"}
VARIANTS = {
    "plain": SPLIT,
    "weights": SPLIT | WEIGHTED,
    "folds": {"data.folds": 3, "data.fold": 1} | WEIGHTED,
    "groups": {"data.group_column": "team"},
    "ema": SPLIT | WEIGHTED | {"regularizer": ["ema", "batch_norm"]},
    "swa": SPLIT | {"regularizer": ["swa", "dropout"], "regularizer.swa.start": 0.25},
    "snapshots": SPLIT
    | WEIGHTED
    | {"regularizer": ["snapshot_ensemble"], "regularizer.snapshot_ensemble.cycles": 2},
    "tabm": SPLIT | WEIGHTED | {"model": "tabm", "model.ensemble": 3},
    "bfloat16": SPLIT | {"trainer.dtype": "bfloat16"},
}


def tasks_and_variants():
    """Every task in every variant, of which each task and each variant comes once before the others."""
    pairs = list(product(TARGETS, VARIANTS))
    first = list(zip(cycle(TARGETS), VARIANTS, strict=False))
    return exhaustive_after(len(first), [*first, *(pair for pair in pairs if pair not in first)])


@pytest.mark.slow
@pytest.mark.parametrize(("task", "variant"), tasks_and_variants())
def test_every_metric_is_scikit_learns_on_what_is_predicted(frame, tmp_path, task, variant):
    """Best and last, train, validation and test, of every task and way to train."""
    audit(frame, tmp_path, task, VARIANTS[variant])


@pytest.mark.parametrize(
    ("task", "changes"),
    slow_after(
        1,
        [
            ("binary", {"data.class_weights": "balanced"}),
            ("multiclass", {"data.class_weights": {"a": 1, "b": 2, "c": 3, "d": 10}} | WEIGHTED),
            ("regression", {"data.target_scaling": "none"} | WEIGHTED),
            ("regression", {"loss": "quantile", "loss.quantiles": [0.25, 0.5, 0.75]}),
            ("multi-output", {"loss": "gaussian_nll"} | WEIGHTED),
            ("multiclass", {"loss": "cross_entropy", "regularizer": ["label_smoothing", "l2"]}),
            ("binary", {"loss": "focal", "augmentation": ["feature_noise"]}),
            ("multilabel", {"augmentation": ["mixup"]} | WEIGHTED),
            ("regression", {"optimizer": "schedule_free", "data.class_weights": "none"}),
        ],
    ),
)
def test_what_changes_the_updates_changes_no_metric(frame, tmp_path, task, changes):
    """Weights of classes, other losses, penalties and noise: metrics are those of the rows as they are."""
    audit(frame, tmp_path, task, SPLIT | changes)


@pytest.mark.parametrize("task", slow_after(1, TARGETS))
def test_members_of_a_pack_are_measured_as_they_are(frame, tmp_path, task):
    """Beside another member, every number is still that of its own network."""
    audit(frame, tmp_path, task, SPLIT | WEIGHTED, pack=True)


def test_small_targets_beside_a_huge_one_keep_their_digits(frame, tmp_path):
    """Targets are scored as they were read: scaled to float32 and back they would be off by thousands."""
    huge = frame.with_columns(size=pl.when(pl.int_range(ROWS) == 0).then(1e12).otherwise(pl.col("size") + 50))
    audit(huge, tmp_path, "regression", SPLIT)


@pytest.mark.parametrize("weights", slow_after(1, [{"data.class_weights": "balanced"}, {}]))
def test_training_metrics_of_an_epoch_are_those_of_the_weights_that_it_used(frame, tmp_path, weights):
    """With one update an epoch and no noise, they are scikit-learn's on the predictions of the epoch before,
    whatever the classes weigh in the update; the loss is the mean over the rows too."""
    changes = SPLIT | WEIGHTED | weights | {"data.batch_size": "full", "early_stopping.restore_best": False}
    longer, shorter = tmp_path / "longer", tmp_path / "shorter"
    for folder in (longer, shorter):
        folder.mkdir()
    *_, records = trained(frame, longer, "binary", changes)
    parts, summary, _ = trained(frame, shorter, "binary", changes | {"trainer.max_epochs": EPOCHS - 1})
    some = frame[parts["train"].tolist()]
    model = slipstream.load(shorter / "run")
    right = {f"train/{k}": v for k, v in expected("binary", model, some, some["w"].to_numpy()).items()}
    assert {k: records[-1][k] for k in right} == pytest.approx(right, rel=1e-5)
    assert records[-1]["train/loss"] == pytest.approx(right["train/log_loss"], rel=1e-5)
    assert summary["last"]["train/loss"] == pytest.approx(right["train/log_loss"], rel=1e-5)
