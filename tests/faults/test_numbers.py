"""Faults of numbers: N1-N10, and D20. A broken run stops before the update, by name; nothing else changes."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

import slipstream
from harness import engine_of, tiny
from ondisk import SAVING, STEPS, at_step, bytes_of, newest, terminate, train_in
from slipstream.config import validate
from slipstream.core import registry
from slipstream.core.errors import ConfigError
from slipstream.core.traits import ActivationTraits
from slipstream.inference.fitting import train, train_pack
from slipstream.runs.checkpoints import load
from slipstream.runs.session import run

SINE = {"data": "sine", "data.rows": 40, "data.batch_size": 12, "activation": "identity", "loss": "mse"}


@pytest.fixture
def spoil(monkeypatch):
    """spoil(part, inputs=..., targets=...): one value of a part of the data becomes another."""
    plain = slipstream.runs.setup.load

    def make(part="train", row=0, **values):
        def spoiled(*arguments):
            data = plain(*arguments)
            split = getattr(data, part)
            for field, value in values.items():
                tensor = getattr(split, field).clone()
                tensor[row] = value
                split = replace(split, **{field: tensor})
            return replace(data, **{part: split})

        monkeypatch.setattr(slipstream.runs.setup, "load", spoiled)

    return make


@pytest.fixture
def rooted(monkeypatch):
    """A configuration whose activation is x with the derivative NaN."""

    def root(x):
        """Nothing but x: its second term is 0, with the derivative infinity times 0."""
        return x + (x * 0).abs().sqrt()

    part = registry.Component("activation", "root", root, ActivationTraits())
    monkeypatch.setitem(registry._components["activation"], "root", part)
    raw = deepcopy(tiny(SAVING).raw) | {"activation": {"name": "root"}}
    return validate(raw)


def load_for(config):
    """The data of a configuration."""
    return slipstream.data.load({"name": config.data.name, **config.data.settings})


def assert_stopped_before(directory, result, reason, tmp_path, config):
    """Check for status diverged, exit code 3, a named step, and saved weights from before that update."""
    assert (result.status, result.exit_code) == ("diverged", 3)
    what, _, place = result.reason.partition(" at step ")
    assert reason in what
    number = int(place.split()[0])
    assert place == f"{number} (epoch {len(result.records) + 1}); the update was not made"
    summary = json.loads((directory / "summary.json").read_text())
    assert (summary["status"], summary["reason"]) == ("diverged", result.reason)
    kept, _ = load(newest(directory))
    for named in kept.values():
        assert all(t.isfinite().all() for name, t in named.items() if not name.startswith("rule."))
    assert all(t.isfinite().all() for t in result.weights.values())
    if number > 1:
        with at_step(number - 1, terminate):
            run(config, tmp_path / "before")
        before, _ = load(newest(tmp_path / "before"))
        assert all(torch.equal(kept["weights"][name], t) for name, t in before["weights"].items())


def test_n1_a_nan_loss(tmp_path, spoil):
    """One NaN among the inputs: the run stops at the step whose batch has that row."""
    spoil(row=3, inputs=float("nan"))
    config = tiny(SAVING)
    batches = engine_of(config, load_for(config)).plan(0).batches
    seen = [batch.indices[0][batch.weights[0] > 0].tolist() for batch in batches]
    (step,) = [number for number, rows in enumerate(seen, start=1) if 3 in rows]
    result = run(config, tmp_path / "run")
    assert_stopped_before(tmp_path / "run", result, "the loss was nan", tmp_path, config)
    assert f"at step {step} " in result.reason


@pytest.mark.slow
def test_n2_an_infinite_loss(tmp_path, spoil):
    """A target whose square overflows: the loss was inf."""
    spoil(row=5, targets=1e30)
    config = tiny(SAVING | SINE)
    result = run(config, tmp_path / "run")
    assert_stopped_before(tmp_path / "run", result, "the loss was inf", tmp_path, config)


def test_n3_a_nan_gradient_under_a_finite_loss(tmp_path, rooted):
    """The first tensor whose gradient is not finite is named; the weights are the initial ones."""
    result = run(rooted, tmp_path / "run")
    assert_stopped_before(tmp_path / "run", result, "the gradient of hidden.0.linear", tmp_path, rooted)
    start = engine_of(rooted, load_for(rooted))
    fresh = start.program.layout.unflatten(start.start().params)
    assert all(torch.equal(result.weights[name], tensor) for name, tensor in fresh.items())


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "schedule_free", "asgd"])
@pytest.mark.parametrize("lr", [1e39, 1e20])
def test_n4_an_exploding_learning_rate(tmp_path, rule, lr):
    """Whatever overflows first, it is named, and no weight that is not finite is kept."""
    own = registry.component("optimizer", rule).traits.evaluate  # weights to evaluate with
    changes = {"optimizer": rule, "optimizer.lr": lr, "regularizer": [] if own else ["ema"]}
    config = tiny(SAVING | SINE | changes)
    result = run(config, tmp_path / "run")
    assert_stopped_before(tmp_path / "run", result, "", tmp_path, config)


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_signal_in_the_step_that_breaks_a_run_leaves_what_it_would_have_come_to(tmp_path, epoch):
    """Diverged, with the checkpoint and the history of a run that no signal reached, and exit code 3."""
    changes = SINE | {"optimizer.lr": {1: 1e20, 2: 3.0}[epoch]}
    whole = train_in(tmp_path / "whole", changes)
    assert f"(epoch {epoch})" in whole.reason
    number = int(whole.reason.partition(" at step ")[2].split()[0])
    assert number % STEPS  # the epoch is not over
    with at_step(number, terminate):
        result = train_in(tmp_path / "run", changes)
    assert (result.status, result.reason, result.exit_code) == ("diverged", whole.reason, 3)
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


def test_n5_float16_is_refused():
    """There is no float16, whose range a loss can leave: bfloat16 has that of float32."""
    with pytest.raises(ConfigError, match=r"trainer.dtype: found 'float16', expected one of 'float32', 'bf"):
        tiny({"trainer.dtype": "float16"})


@pytest.mark.slow
def test_n6_an_undefined_metric_is_null_with_one_warning(tmp_path, spoil, capsys):
    """A validation split of one class: its ROC AUC is null in every record, with a single warning."""
    spoil("validation", row=slice(None), targets=0)
    changes = {"trainer.metrics": ["accuracy", "roc_auc"], "trainer.progress": "plain"}
    with at_step(4, terminate):
        train_in(tmp_path / "run", changes)
    result = train_in(tmp_path / "run", changes, resume=True)
    assert result.exit_code == 0
    assert [record["val/roc_auc"] for record in result.records] == [None] * 3
    assert '"val/roc_auc": null' in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["last"]["val/roc_auc"] is None
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert warnings == ["warning: epoch 1: undefined metrics, recorded as null: val/roc_auc"]


@pytest.mark.slow
def test_n6_a_validation_loss_that_is_not_finite_is_never_the_best(tmp_path, spoil, capsys):
    """NaN among the validation inputs: training goes on, the last epoch stands in for the best, with a word
    that is seen even where nothing else is shown."""
    spoil("validation", inputs=float("nan"))
    result = train_in(tmp_path / "run")
    assert (result.status, result.exit_code, result.best_epoch) == ("finished", 0, 3)
    said = capsys.readouterr().err
    assert "warning: epoch 1: undefined metrics, recorded as null: val/loss" in said
    assert said.count("val/loss was never defined") == 1
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["value"], summary["best"]) == (None, summary["last"])
    assert all(tensor.isfinite().all() for tensor in result.weights.values())


def table(tmp_path, rows, *overrides):
    """A run on a table of these rows, with columns x, y and the class c."""
    (tmp_path / "t.csv").write_text("x,y,c\n" + "\n".join(rows) + "\n")
    return slipstream.compose(
        *("data=table", f"data.path={tmp_path / 't.csv'}", "data.target=c", "model.width=4"),
        *("trainer.max_epochs=2", "logger=none", "trainer.progress=plain", "trainer.compile=false"),
        *("trainer.device=cpu", *overrides),
    )


@pytest.mark.slow
def test_n7_a_feature_without_variance_stays_finite(tmp_path):
    """A column of one value is scaled to zeros and not to NaN, also under batch norm."""
    rows = [f"{n % 7},5,{'ab'[n % 2]}" for n in range(40)]
    result = train(table(tmp_path, rows, "regularizer=[batch_norm]"))
    assert result.status == "finished"
    assert all(value is not None for record in result.records for value in record.values())


@pytest.mark.parametrize(
    ("order", "warning"),
    [
        (lambda n: "c" if n >= 36 else "ab"[n % 2], "train split has no row of class c"),
        (lambda n: "c" if n < 20 and n % 3 == 0 else "ab"[n % 2], "validation split has no row of class c"),
    ],
    ids=["train", "validation"],
)
def test_n8_n9_a_class_that_a_part_lacks(tmp_path, capsys, order, warning):
    """Absent from train or from validation: a warning, finite losses, undefined metrics null."""
    rows = [f"{n % 7},{n % 5},{order(n)}" for n in range(40)]
    config = validate(table(tmp_path, rows, "data.split=time", "trainer.metrics=[accuracy,roc_auc]"))
    result = run(config, tmp_path / "run")
    assert (result.status, result.exit_code) == ("finished", 0)
    assert warning in " ".join(capsys.readouterr().out.split())
    assert all(record["val/loss"] is not None for record in result.records)
    assert all(tensor.isfinite().all() for tensor in result.weights.values())


@pytest.mark.slow
def test_n10_a_last_batch_of_one_under_batch_norm(tmp_path):
    """28 rows in batches of 9: the last is filled up at weight zero, so that its variance exists, and
    every row counts once."""
    config = tiny(SAVING | {"data.batch_size": 9, "regularizer": ["batch_norm"]})
    engine = engine_of(config, load_for(config))
    assert (engine.batching.examples % 9, engine.batching.steps) == (1, 4)
    plan = engine.plan(0)
    counted = plan.indices[plan.counts > 0]
    assert sorted(counted.tolist()) == list(range(28))
    assert [len(batch.indices[0]) for batch in plan.batches] == [9] * 4
    result = run(config, tmp_path / "run")
    assert result.status == "finished"
    assert all(tensor.isfinite().all() for tensor in result.weights.values())


@pytest.mark.slow
def test_d20_fewer_rows_than_a_batch(tmp_path, capsys):
    """One batch of all rows, with a warning that has both numbers; the bytes are those of batch_size=28."""
    changes = {"trainer.progress": "plain", "data.batch_size": 1000}
    result = train_in(tmp_path / "run", changes)
    assert [record["step"] for record in result.records] == [1, 2, 3]
    line = (
        "warning: data.batch_size is 1000, more than the 28 training rows: every batch contains all of them"
    )
    assert line in capsys.readouterr().out.splitlines()
    train_in(tmp_path / "exact", changes | {"data.batch_size": 28})
    assert "warning" not in capsys.readouterr().out
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "exact")


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_members_beside_one_that_diverges_keep_their_bytes(tmp_path, place):
    """S1, G3: the others' checkpoints and metrics are those of a pack in which nothing went wrong; the
    one that broke says where, and keeps finite weights."""
    changes = SAVING | {"regularizer": ["dropout", "ema", "batch_norm"], "optimizer": "adam"}
    members = [tiny(changes, seed=seed) for seed in range(3)]
    train_pack(members, [tmp_path / f"good-{k}" for k in range(3)])
    members[place] = tiny(changes | {"optimizer.lr": 1e39}, seed=place)
    results = train_pack(members, [tmp_path / f"mixed-{k}" for k in range(3)])
    for k, result in enumerate(results):
        if k == place:
            assert (result.status, result.exit_code) == ("diverged", 3)
            kept, _ = load(newest(tmp_path / f"mixed-{k}"))
            assert all(t.isfinite().all() for file in ("weights", "best") for t in kept[file].values())
        else:
            assert (result.status, result.exit_code) == ("finished", 0)
            assert bytes_of(tmp_path / f"mixed-{k}") == bytes_of(tmp_path / f"good-{k}")


@pytest.mark.slow
def test_divergence_in_an_epoch_that_was_interrupted_is_found_after_it(tmp_path, spoil):
    """Interrupted at any step up to the one that breaks, and resumed: the same step is named."""
    spoil(row=3, inputs=float("nan"))
    whole = train_in(tmp_path / "whole")
    broken = int(whole.reason.partition(" at step ")[2].split()[0])
    for number in range(1, broken + 1):
        with at_step(number, terminate):
            train_in(tmp_path / str(number))
        again = train_in(tmp_path / str(number), resume=True)
        assert (again.status, again.reason) == (whole.status, whole.reason)
        assert bytes_of(tmp_path / str(number)) == bytes_of(tmp_path / "whole")
