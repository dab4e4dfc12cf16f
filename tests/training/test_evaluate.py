"""Evaluation: outputs of whole splits without noise, metrics in the units of the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from harness import engine_of, tiny, tiny_data, train
from sampling import slow_after
from slipstream.training import evaluate


def test_regression_is_measured_in_original_units():
    """Targets were scaled by 2 and 0.5 and shifted: rmse and r2 are scikit-learn's on the values before
    that, and the loss is in scaled units."""
    data = tiny_data("regression")
    run = train(tiny({"loss": "mse", "trainer.metrics": ["rmse", "r2"]}), data)
    outputs = run.engine.predict(run.engine.evaluated(run.progress.state), "val").numpy()
    scale, offset = np.array([2.0, 0.5]), np.array([3.0, -1.0])
    metric_targets = data.validation.targets.numpy()
    record = run.members[0].records[-1]
    # float32 predictions, scaled in another order.
    rmse = sk.root_mean_squared_error(metric_targets * scale + offset, outputs * scale + offset)
    assert record["val/rmse"] == pytest.approx(rmse, rel=1e-5)
    assert record["val/r2"] == pytest.approx(sk.r2_score(metric_targets, outputs), rel=1e-5)
    assert record["val/loss"] == pytest.approx(sk.mean_squared_error(metric_targets, outputs), rel=1e-5)


@pytest.mark.slow
def test_evaluation_has_no_noise_and_uses_running_statistics():
    """Dropout, input noise and batch statistics act in training only: predictions repeat, and a row's
    prediction does not depend on the rows beside it."""
    run = train(tiny({"regularizer": ["dropout", "gaussian_noise", "batch_norm"]}))
    engine, evaluated = run.engine, run.engine.evaluated(run.progress.state)
    first, again = engine.predict(evaluated, "val"), engine.predict(evaluated, "val")
    assert torch.equal(first, again)
    single = engine.program.infer(
        engine.program.views(evaluated[0]), evaluated[1], engine.parts["val"].inputs[:1]
    )[0]
    torch.testing.assert_close(single, first[:1], rtol=1e-5, atol=1e-6)  # a product of another size


def test_a_split_in_chunks_is_the_split_at_once(monkeypatch):
    """Predictions for 28 rows, 10 at a time, are those of all rows."""
    engine = engine_of(tiny())
    evaluated = engine.evaluated(engine.start())
    whole = engine.predict(evaluated, "train")
    monkeypatch.setattr(evaluate, "CHUNK", 10)
    chunked = engine.predict(evaluated, "train")
    assert chunked.shape == whole.shape == (28, 3)
    torch.testing.assert_close(chunked, whole, rtol=1e-5, atol=1e-6)  # products of another size


def test_a_metric_of_probabilities_is_undefined_for_scores():
    """The hinge loss gives no probabilities: log_loss is NaN, accuracy is not."""
    engine = engine_of(tiny({"loss": "hinge"}))
    outputs = engine.predict(engine.evaluated(engine.start()), "val")
    loss, accuracy, log_loss = engine.measure("val", outputs, ["accuracy", "log_loss"], [0]).tolist()
    assert np.isfinite([loss, accuracy]).all()
    assert np.isnan(log_loss)


def test_weights_count_in_metrics_and_loss():
    """A row of weight 2 counts as two rows, one of 0 as none."""
    data = tiny_data()
    engine = engine_of(tiny(), data)
    outputs = engine.predict(engine.evaluated(engine.start()), "val")
    weights = torch.tensor([2.0, 0, 1, 1, 1, 1, 1, 1])
    rows = torch.tensor([0, 0, 2, 3, 4, 5, 6, 7])
    measure = evaluate.make_measure(engine.program, ["accuracy", "f1_macro"])
    targets = data.validation.targets
    weighted = measure(outputs, targets, targets, weights, engine.numbers)
    repeated = measure(outputs[rows], targets[rows], targets[rows], torch.ones(8), engine.numbers)
    torch.testing.assert_close(weighted, repeated, rtol=1e-7, atol=0)  # sums of 8 in float64


@pytest.mark.parametrize(
    ("task", "model", "augmentation"),
    [
        *[(task, "mlp", "mixup") for task in ("binary", "multiclass", "multilabel", "regression")],
        *(("multiclass", "tabm", "mixup"), ("multiclass", "convnet", "cutmix")),
    ],
)
@pytest.mark.parametrize("size", slow_after(1, [2, 1]))
def test_mixed_examples_are_reported_with_their_mixed_targets(task, model, augmentation, size):
    """The training loss of an epoch is the mean of what its updates minimized, for any task, alone and in a
    pack; the validation loss is that of whole examples."""
    data = tiny_data(task, form="image" if augmentation == "cutmix" else "vector")
    labels = task in ("binary", "multiclass")
    changes = {"data": "shapes" if augmentation == "cutmix" else "spirals", "data.batch_size": 12}
    changes |= {"model": model, "augmentation": [augmentation], "loss": "cross_entropy" if labels else "mse"}
    changes |= {"trainer.metrics": ["accuracy"] if labels else []}
    changes[f"augmentation.{augmentation}.probability"] = 1.0
    config = tiny(changes)
    engine = engine_of([config] * size, data)
    state, plan, steps = engine.start(), engine.plan(0), engine.batching.steps
    rates, counts = engine.rates([[0.1] * steps] * size), engine.counts(0, steps)
    made, before = [], state.params
    for i in range(steps):
        before = state.params
        state, seen = engine.step(state, plan.batches[i], rates[i], counts[i])
        made.append(seen)
    report = engine.report(plan, made, state, before).reshape(size, -1)[0].tolist()
    values = dict(zip(engine.reported, report, strict=False))
    objectives = torch.stack([seen.objective.reshape(size)[0] for seen in made])
    rows = torch.tensor([12.0, 12.0, 4.0])
    assert values["train/loss"] == pytest.approx(((objectives * rows).sum() / 28).item(), rel=1e-5)
    alone = engine.measure("val", engine.predict(engine.evaluated(state), "val"), [], range(size))
    assert values["val/loss"] == pytest.approx(alone.reshape(size, -1)[0, 0].item())
    if labels:
        assert 0 < values["train/accuracy"] <= 1
