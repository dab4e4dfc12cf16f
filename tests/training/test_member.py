"""The host's side of a run: history, best epoch, and how a run ends."""

from __future__ import annotations

import json

import pytest

from harness import tiny
from slipstream.early_stopping import best_epoch
from slipstream.training.member import Member, as_values


def member(directory=None, **changes) -> Member:
    return Member(tiny({"trainer.max_epochs": 9} | changes), directory)


def record(epoch: int, value: float | None, name: str = "val/loss") -> dict:
    return {"epoch": epoch, "step": 3 * epoch, "optimizer.lr": 0.1, "train/loss": 1.0, name: value}


def test_the_best_epoch_is_the_first_of_the_smallest():
    """Epochs count from 1; a tie does not replace the earlier one, an undefined value no defined one."""
    run = member()
    values = [None, None, 2.0, 1.0, 1.0, None, 3.0]
    improved = [run.finish_epoch(record(i + 1, v)) for i, v in enumerate(values)]
    assert improved == [True, True, True, True, False, False, False]
    assert (run.best_epoch, run.best_value) == (4, 1.0)


def test_the_last_epoch_stands_in_where_the_metric_is_never_defined():
    """A trained network is kept, and no value is claimed for it."""
    run = member()
    for epoch in (1, 2, 3):
        run.finish_epoch(record(epoch, None))
    assert (run.best_epoch, run.best_value) == (3, None)


@pytest.mark.parametrize(
    "values", [[1.0, 2.0, 5.0, 4.0, 4.5], [1.0, None, None, 6.0], [3.0, 1.0], [1.0, 2.0, None]]
)
def test_an_epoch_of_the_warm_up_is_the_best_only_until_there_is_a_later_one(values):
    """The epoch kept is the smallest after warm_up; as long as none has a value, the smallest of all."""
    run = member(**{"early_stopping": "patience", "early_stopping.warm_up": 2})
    for i, value in enumerate(values):
        run.finish_epoch(record(i + 1, value))
        told = [float("nan") if v is None else v for v in values[: i + 1]]
        later = [v for v in told[2:] if v == v]
        assert run.best_value == (min(later) if later else min(v for v in told if v == v))
        assert run.best_epoch == best_epoch(told, 2) + 1


def test_where_larger_is_better_the_best_epoch_is_the_largest():
    """trainer.mode=auto asks the metric: accuracy rises, and early stopping and best epoch follow it."""
    run = member(**{"trainer.monitor": "val/accuracy", "trainer.metrics": ["accuracy"]})
    for i, value in enumerate([0.5, 0.8, 0.7]):
        run.finish_epoch(record(i + 1, value, "val/accuracy"))
    assert run.best_epoch == 2


def test_a_run_finishes_with_its_last_epoch():
    """After max_epochs the status is finished, with the reason; before it runs."""
    run = member(**{"trainer.max_epochs": 2})
    run.finish_epoch(record(1, 1.0))
    assert run.running
    run.finish_epoch(record(2, 2.0))
    assert (run.status, run.reason) == ("finished", "all 2 epochs done")


def test_an_epoch_is_a_line_of_metrics_and_a_line_of_timings(tmp_path):
    """metrics.jsonl holds what is promised to the bit, timings.jsonl what is not: one line an epoch."""
    run = member(tmp_path)
    run.seconds = 1.23456
    run.finish_epoch(record(1, None))
    run.flush()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == record(1, None)
    assert json.loads((tmp_path / "timings.jsonl").read_text()) == {"epoch": 1, "seconds": 1.235}


def test_rewriting_drops_lines_after_the_history_and_torn_ones(tmp_path):
    """A resumed run brings both files back to its checkpoint, whatever was written after it."""
    run = member(tmp_path)
    for epoch in (1, 2, 3):
        run.finish_epoch(record(epoch, 1.0))
    run.flush()
    whole = [(tmp_path / name).read_bytes() for name in ("metrics.jsonl", "timings.jsonl")]
    resumed = member(tmp_path)
    state = {"records": run.records[:2], "best_epoch": 1, "seconds": 7.0, "status": "interrupted"}
    resumed.restore(state | {"reason": "", "steps_into_epoch": 0})
    with open(tmp_path / "timings.jsonl", "a") as file:
        file.write('{"epoch": 4, "sec')
    resumed.rewrite()
    assert (resumed.best_epoch, resumed.seconds, resumed.running) == (1, 7.0, True)
    resumed.finish_epoch(record(3, 1.0))
    resumed.flush()
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole[0]
    assert len((tmp_path / "timings.jsonl").read_text().splitlines()) == 3


def test_a_plateau_lowers_the_rate_in_the_metrics_direction():
    """reduce_on_plateau sees the monitored metric as smaller is better: a rising accuracy is none."""
    common = {"scheduler": "reduce_on_plateau", "scheduler.patience": 1, "trainer.metrics": ["accuracy"]}
    rising, falling = (member(**common, **{"trainer.monitor": "val/accuracy"}) for _ in range(2))
    for epoch, value in enumerate([0.1, 0.2, 0.3, 0.4]):
        rising.finish_epoch(record(epoch + 1, value, "val/accuracy"))
        falling.finish_epoch(record(epoch + 1, 1 - value, "val/accuracy"))
    lr = rising.config.optimizer.settings["lr"]
    assert rising.rates(3).tolist() == pytest.approx([lr] * 3)
    assert falling.rates(3).tolist() == pytest.approx([lr * 0.1] * 3)


def test_what_is_not_finite_is_undefined():
    """NaN and infinity become None, which JSON knows."""
    values = as_values(["a", "b", "c"], [1.5, float("nan"), float("inf")])
    assert values == {"a": 1.5, "b": None, "c": None}
