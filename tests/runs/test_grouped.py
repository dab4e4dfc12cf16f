"""Runs that are left and go on."""

import pytest

import slipstream
from slipstream.config.validation import validate
from slipstream.runs.grouped import train_grouped

WORDS = ("data=iris", "model.width=8", "data.batch_size=16", "trainer.max_epochs=4", "early_stopping=none")
RATES = (0.01, 0.1, 1e6)  # the last one diverges


def configs(rates=RATES):
    return [validate(slipstream.compose(*WORDS, f"optimizer.lr={rate}")) for rate in rates]


@pytest.mark.slow
@pytest.mark.parametrize("updates", [10, 14])  # of 7 in an epoch: within the second, and at its end
def test_runs_left_after_some_updates_go_on_to_the_same_bytes(updates):
    whole = train_grouped(configs())
    left = train_grouped(configs(), updates=updates)
    assert [end.trained.step for end in left[:2]] == [updates, updates]
    assert {end.result.status for end in left[:2]} == {"interrupted"}
    again = train_grouped(configs(), [end.trained.snapshot for end in left])
    assert [end.result.records for end in again] == [end.result.records for end in whole]
    assert [end.result.status for end in again] == [end.result.status for end in whole]


def test_the_last_metrics_are_those_of_the_update_that_was_left():
    end, *_ = train_grouped(configs(), updates=14)
    assert end.result.last["val/loss"] == end.result.records[-1]["val/loss"]
    within, *_ = train_grouped(configs(), updates=10)
    assert within.result.last["val/loss"] not in (None, within.result.records[-1]["val/loss"])
