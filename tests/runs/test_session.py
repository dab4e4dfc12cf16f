"""From a configuration to a run directory, and slipstream's functions for a notebook."""

from __future__ import annotations

import json

import numpy as np
import polars
import pytest
import torch
from safetensors.torch import load_file

import slipstream
from harness import TINY, small, tiny, tiny_data
from sampling import slow_after
from slipstream.config import for_target, validate
from slipstream.core.errors import ConfigError, UserError
from slipstream.metrics import every
from slipstream.runs.session import run
from slipstream.runs.summary import row_labels, unlike

SUMMARY = {
    *(
        "status",
        "reason",
        "metric",
        "value",
        "best_epoch",
        "epochs",
        "best",
        "last",
        "parameters",
        "steps",
        "seconds",
        "dtype",
    ),
    *("seed", "loss", "fingerprint", "packed", "compile", "threads", "device", "versions"),
    *("mkl_cbwr", "cpu_capability"),
}


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_run_directory_holds_what_is_documented(tmp_path):
    """Configuration, overrides, preprocessing, metrics, timings, summary, verified checkpoints, events, and
    curves for the charts that training and validation share."""
    config = small("logger=tensorboard", "trainer.metrics=auto", "seed=7")
    result = slipstream.train(config, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir() if not path.name.startswith(".")}
    events = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(events) == 1
    assert names - events == {
        *("config.yaml", "overrides.yaml", "preprocessing.json", "metrics.jsonl", "timings.jsonl"),
        *("summary.json", "checkpoints", "train", "val", "observations.jsonl"),
    }
    assert result.directory == tmp_path / "run"
    assert (result.status, result.exit_code) == ("finished", 0)

    records = lines(tmp_path / "run" / "metrics.jsonl")
    assert records == result.records
    expected = {f"{split}/{name}" for split in ("train", "val") for name in ("loss", "accuracy")}
    expected |= {"epoch", "step", "optimizer.lr", "train/gradient_norm", "train/update_norm"}
    assert set(records[0]) == expected
    assert [(record["epoch"], record["step"]) for record in records] == [(1, 3), (2, 6)]
    assert [line["epoch"] for line in lines(tmp_path / "run" / "timings.jsonl")] == [1, 2]

    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary) == SUMMARY
    assert (summary["seed"], summary["steps"], summary["epochs"], summary["dtype"]) == (7, 6, 2, "float32")
    assert (summary["compile"], summary["device"]) == (False, "cpu")
    assert summary["parameters"] == sum(tensor.numel() for tensor in result.weights.values())
    assert summary["loss"] == "binary_cross_entropy"  # what auto stood for
    assert {key.partition("/")[0] for key in summary["best"]} == {"train", "val", "test"}


@pytest.mark.slow
def test_the_saved_configuration_repeats_the_run(tmp_path):
    """config.yaml, read back and trained, gives the same records and weights to the bit."""
    from omegaconf import OmegaConf

    first = slipstream.train(small("regularizer=[dropout]", "optimizer.lr=0.3"), tmp_path / "run")
    saved = OmegaConf.to_container(OmegaConf.load(tmp_path / "run" / "config.yaml"))
    again = slipstream.train(saved)
    assert again.records == first.records
    assert all(torch.equal(again.weights[name], first.weights[name]) for name in first.weights)


@pytest.mark.slow
def test_the_checkpoint_holds_the_results_weights(tmp_path):
    """`best` of the last checkpoint is what the result gives with restore_best, `weights` without."""
    overrides = ("optimizer.lr=20", "trainer.max_epochs=6", "early_stopping=none")
    best = slipstream.train(small(*overrides), tmp_path / "a")
    last = slipstream.train(small(*overrides, "early_stopping.restore_best=false"), tmp_path / "b")
    assert best.best_epoch < 6  # the rate overshoots: best and last differ
    for result, file in ((best, "best"), (last, "weights")):
        saved = load_file(result.directory / "checkpoints" / "step-00000018" / f"{file}.safetensors")
        assert all(torch.equal(saved[name], tensor) for name, tensor in result.weights.items())
    assert any(not torch.equal(best.weights[name], last.weights[name]) for name in best.weights)
    assert best.best["val/loss"] == min(record["val/loss"] for record in best.records)
    assert last.last["val/loss"] == best.last["val/loss"] == best.records[-1]["val/loss"]


def test_without_a_directory_nothing_is_written(tmp_path, monkeypatch):
    """train(config) leaves no file, whatever logger is chosen."""
    monkeypatch.chdir(tmp_path)
    result = slipstream.train(small("logger=tensorboard"))
    assert result.directory is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_directory_is_never_overwritten(tmp_path):
    """A second run in one directory is refused, and not a byte of the first changes."""
    slipstream.train(small(), tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="already contains a run") as refused:
        slipstream.train(small("seed=1"), tmp_path / "run")
    shell = f"slipstream resume={tmp_path / 'run'} in a shell"
    assert str(refused.value).endswith(f"pass another directory, or continue the run with {shell}")
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_pack_of_runs_gives_each_its_own_directory_and_bytes(tmp_path):
    """Members of a pack: each directory has its own files; weights and metrics do not depend on the
    companions, and equal those of the run alone within float32."""
    configs = [small(f"seed={k}", f"optimizer.lr=0.{k + 1}") for k in range(3)]
    pack = slipstream.train_pack(configs, [tmp_path / str(k) for k in range(3)])
    fewer = slipstream.train_pack(configs[:0:-1], [tmp_path / "x", tmp_path / "y"])
    for name, k in (("x", 2), ("y", 1)):
        for file in ("metrics.jsonl", "config.yaml", "checkpoints/step-00000006/weights.safetensors"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / str(k) / file).read_bytes()
    assert [result.directory.name for result in fewer] == ["x", "y"]
    alone = slipstream.train(configs[1])
    for name, tensor in alone.weights.items():
        # Batched products and float32 numbers against single ones and doubles, over 6 steps.
        torch.testing.assert_close(pack[1].weights[name], tensor, rtol=1e-4, atol=1e-6)
    assert json.loads((tmp_path / "2" / "summary.json").read_text())["seed"] == 2


def test_members_of_different_structure_are_refused_by_name(tmp_path):
    """The message names the members and the keys in which they differ; nothing is written."""
    with pytest.raises(ConfigError, match=r"members 0 and 2 .* differ in structure, among model.width"):
        slipstream.train_pack(
            [small(), small("seed=1"), small("model.width=6")], [tmp_path / k for k in "abc"]
        )
    assert list(tmp_path.iterdir()) == []


def test_a_monitored_metric_is_measured_though_not_listed():
    """early_stopping on a metric that trainer.metrics leaves out: it is in the records and decides."""
    result = slipstream.train(small("trainer.monitor=val/f1_macro", "trainer.max_epochs=6"))
    values = [record["val/f1_macro"] for record in result.records]
    assert result.best_epoch == 1 + values.index(max(values))


@pytest.mark.parametrize("metric", ["val/acuracy", "test/loss", "val/rmse", "loss"])
def test_a_monitored_metric_that_cannot_be_is_refused_before_training(metric, tmp_path):
    """A misspelled one, one of the test part, one of another task, one without a part: exit code 2
    and no trace on the disk but an empty claim."""
    with pytest.raises(ConfigError, match=metric.partition("/")[2] or metric):
        slipstream.train(small(f"trainer.monitor={metric}"), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_diverged_run_says_where_and_exits_with_3(tmp_path):
    """A rate that overflows: status, step and tensor in summary.json; no weight on disk is NaN."""
    result = slipstream.train(small("optimizer.lr=1e39"), tmp_path / "run")
    assert (result.status, result.exit_code) == ("diverged", 3)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "diverged"
    assert "at step 1 (epoch 1)" in summary["reason"]
    for path in (tmp_path / "run").rglob("*.safetensors"):
        if path.name != "optimizer.safetensors":
            assert all(tensor.isfinite().all() for tensor in load_file(path).values())


FIVE = {
    "binary": ["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss"],
    "multiclass": ["accuracy", "balanced_accuracy", "f1_macro", "roc_auc", "log_loss"],
    "regression": ["rmse", "mae", "r2", "median_absolute_error", "spearman"],
}


@pytest.mark.parametrize("asked", ["[]", "[kappa]", "all"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_task_ends_with_five_metrics_and_those_asked_for(task, asked):
    """The result has them on train, validation and test, loss first; the records those asked for."""
    data = {"binary": "data=xor", "multiclass": "data.arms=3", "regression": "data=linear"}[task]
    asked = asked if task != "regression" else asked.replace("kappa", "mse")
    result = slipstream.train(small(data, "data.rows=60", f"trainer.metrics={asked}"))
    others = every(task, len({"binary": "ab", "multiclass": "abc", "regression": ""}[task]))
    others = others if asked == "all" else asked.strip("[]").split(",") if asked != "[]" else []
    names = ["loss", *dict.fromkeys([*FIVE[task], *others])]
    assert list(result.best) == [f"{split}/{name}" for split in ("train", "val", "test") for name in names]
    assert all(value is not None for key, value in result.best.items() if key.endswith("loss"))
    assert [k for k in result.records[0] if k.startswith("val/")] == [f"val/{n}" for n in ("loss", *others)]


@pytest.mark.slow
def test_the_loss_in_the_table_is_called_what_it_is(tmp_path, capsys):
    """Which loss, on what scale, of what; a fold without a test part is said to be optimistic."""
    for overrides, words in (
        (("data=linear",), "loss (mse of scaled targets)"),
        (("data.arms=3",), "loss (cross_entropy)"),
        (
            ("data=xor", "model=tabm", "model.ensemble=2"),
            "loss (binary_cross_entropy, per network)",
        ),
        (("data=xor", "data.folds=3", "data.test=0"), "the fold's metrics are optimistic"),
    ):
        model = () if any("tabm" in text for text in overrides) else ("model.depth=1",)
        config = validate(small(*overrides, "data.rows=60", "trainer.progress=plain", *model))
        run(config, tmp_path / words[:9].replace(" ", "") / str(len(words)))
        assert words in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_run_that_improved_to_the_end_may_train_longer(tmp_path, capsys):
    """Said where the best epoch is the last one of several, with what to type; not where it stopped early."""
    for folder, epochs, more in (
        ("a", 2, ("optimizer.lr=0.01", "trainer.monitor=train/loss")),
        ("b", 1, ()),
        ("c", 9, ("early_stopping.patience=1", "early_stopping.min_delta=100")),
    ):
        config = validate(small("trainer.progress=plain", f"trainer.max_epochs={epochs}", *more))
        result = run(config, tmp_path / folder)
        improved = result.status == "finished" and result.best_epoch == epochs > 1
        said = "the best epoch is the last one; more may help: trainer.max_epochs=4\n"
        assert (said in capsys.readouterr().out) is improved
        assert improved is (folder == "a")


@pytest.mark.parametrize("logger", ["none", "tensorboard"])
def test_curves_are_pointed_to_where_there_are_any(tmp_path, capsys, logger):
    """The command that opens TensorBoard is printed by a run that wrote to it, and by no other."""
    run(validate(small(f"logger={logger}", "trainer.progress=plain")), tmp_path / "runs" / "one")
    said = capsys.readouterr().out.replace("\n", "")
    assert (f"curves: tensorboard --logdir {tmp_path / 'runs'}" in said) == (logger == "tensorboard")


@pytest.mark.slow
def test_curves_of_ones_own_file_are_those_of_the_run_alone(tmp_path, capsys):
    """All tables go to outputs/table: the command that is printed does not mix them."""
    (tmp_path / "my.csv").write_text(
        "a,b,y\n" + "".join(f"{i},{i % 7},{['no', 'yes'][i % 2]}\n" for i in range(60))
    )
    rest = [text for text in TINY if not text.startswith(("data=", "logger", "trainer.progress"))]
    own = ("data=table", f"data.path={tmp_path / 'my.csv'}", "data.target=y", "trainer.progress=plain")
    run(validate(slipstream.compose(*own, *rest)), tmp_path / "runs" / "one")
    assert f"--logdir {tmp_path / 'runs' / 'one'}\n" in capsys.readouterr().out


def test_accuracy_of_several_labels_is_called_so():
    """It counts labels where scikit-learn's counts whole rows; of one label its name says enough."""
    for task, label in (("multilabel", "accuracy (of labels)"), ("binary", None)):
        assert row_labels(tiny(), tiny_data(task).target).get("accuracy") == label


@pytest.mark.slow
def test_arrays_and_frames_are_trained_on_through_a_file(tmp_path):
    """README: savez and write_parquet, as they are; with a directory the run can be loaded."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((60, 3))
    y = (x[:, 0] > 0).astype(int)
    np.savez(tmp_path / "my.npz", inputs=x, targets=y)
    polars.DataFrame({"a": x[:, 0], "b": x[:, 1], "churned": y}).write_parquet(tmp_path / "my.parquet")
    rest = [text for text in TINY if not text.startswith("data=")]
    for number, data in enumerate(
        (
            ("data=arrays", f"data.path={tmp_path / 'my.npz'}"),
            ("data=table", f"data.path={tmp_path / 'my.parquet'}", "data.target=churned"),
        )
    ):
        config = slipstream.compose(*data, *rest)
        assert slipstream.train(config, directory=tmp_path / str(number)).exit_code == 0
        assert slipstream.load(tmp_path / str(number))


def test_the_default_patience_is_as_the_readme_says():
    """Ten epochs without improvement."""
    stopping = slipstream.compose()["early_stopping"]
    assert (stopping["name"], stopping["patience"]) == ("patience", 10)


def test_a_loss_far_above_log_loss_is_explained():
    """Of likelihoods alone: 325 beside 2.4 is the same sum, without and with a least probability."""
    config = tiny()
    config = for_target(config, tiny_data().target)
    assert "log_loss clips to 1e-7" in unlike(config, {"test/loss": 325.0, "test/log_loss": 2.4})
    assert unlike(config, {"test/loss": 2.5, "test/log_loss": 2.4}) is None
    assert unlike(tiny({"loss": "hinge"}), {"test/loss": 325.0, "test/log_loss": 2.4}) is None


@pytest.mark.slow
def test_a_network_too_large_is_refused_before_it_is_built_and_leaves_nothing(tmp_path):
    """The parameters are counted without storage; the message has their number, and no folder stays."""
    for width, said in (
        (10**8, r"model: .* parameters need about .* GB"),
        (10**11, "too large for memory"),
    ):
        config = slipstream.compose("data=iris", f"model.width={width}")
        with pytest.raises(ConfigError, match=rf"{said}.*; lower one of .*model\.width={width}"):
            slipstream.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_runs_are_no_results():
    """An empty pack is an empty list."""
    assert slipstream.train_pack([]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "warning"),
    [
        ("trainer.accumulate=1000", "every update sees all of the 106 training rows"),
        ("scheduler.warmup_steps=100000", "the learning rate stays below lr"),
        ("trainer.threads=1000", "trainer.threads is 1000"),
        ("model.width=[10,20]", "so it has no effect"),
        ("data.batch_size=1000", "every batch contains all of them"),
    ],
)
def test_a_choice_that_does_not_do_what_was_meant_is_said(override, warning, capsys):
    """It trains, with one warning on standard error."""
    threads = torch.get_num_threads()
    common = ["data=iris", "model.residual=true", "model.depth=2", "trainer.max_epochs=1", "logger=none"]
    slipstream.train(slipstream.compose(*common, override))
    torch.set_num_threads(threads)
    assert warning in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "used"),
    slow_after(
        2,
        [
            ((), 1),
            (("trainer.threads=2",), 2),
            (("model.width=512", "model.depth=2", "data.batch_size=full"), 2),
            (("model=tabm", "model.width=4"), 2),  # its weights say little of its work
        ],
    ),
)
def test_a_small_dense_network_alone_takes_one_thread(tmp_path, changes, used):
    """Which is recorded, because the bytes depend on it, and given back: a notebook has its threads again."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        slipstream.train(small(*changes, "trainer.max_epochs=1"), tmp_path / "run")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["threads"] == used
