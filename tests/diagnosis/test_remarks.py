from types import SimpleNamespace

import numpy as np
import pytest

import slipstream
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.judging import Measure, measures
from slipstream.diagnosis.remarks import _lucky_epoch, _not_repeated, halved, more_rows, remarks


def trained(folder, *words):
    slipstream.train(slipstream.compose(*words, "logger=none"), folder)
    return Evidence(folder)


def curve(values, best, metric="val/accuracy", kept=True):
    """What a run tells about the choice of its epoch."""
    return SimpleNamespace(
        setting=lambda key: metric,
        summary={"best_epoch": best},
        keeps_best=kept,
        curve=lambda name: np.array(values),
    )


ACCURACY = Measure("val/accuracy", 0.5)


@pytest.mark.parametrize(
    ("values", "best", "said"),
    [
        ([0.6, 0.7, 0.71, 0.93, 0.70, 0.72, 0.7], 4, True),  # a spike
        ([0.6, 0.7, 0.71, 0.73, 0.72, 0.72, 0.7], 4, False),  # noise that does not matter
        ([0.6, 0.7, 0.80, 0.93, 0.92, 0.72, 0.7], 4, False),  # a neighbor is as good
        ([0.6, 0.7, 0.75, 0.93], 4, False),  # the last epoch: what comes after it is unknown
    ],
)
def test_a_best_epoch_that_stands_out_was_chosen_by_chance(values, best, said):
    assert (
        any("epoch 4 was chosen by chance" in text for text in _lucky_epoch(curve(values, best), [ACCURACY]))
        == said
    )
    assert list(_lucky_epoch(curve(values, best, kept=False), [ACCURACY])) == []


def test_a_run_that_repeats_is_silent_and_one_with_its_own_noise_is_not(tmp_path):
    run = trained(tmp_path / "fine", "data=iris", "trainer.max_epochs=2")
    assert list(_not_repeated(run)) == []
    before = float(run.records[0]["val/loss"])
    run.records[0] = {**run.records[0], "val/loss": before * 1.01}
    (said,) = _not_repeated(run)
    assert said == (
        f"the run does not repeat: val/loss of epoch 1 was {before * 1.01:.6g}, but is {before:.6g} when "
        f"trained again; to find out why: slipstream verify {tmp_path / 'fine'}"
    )


@pytest.mark.slow
def test_half_of_the_training_rows_are_left_by_a_larger_share_of_validation(tmp_path):
    words = (
        "data=digits",
        "data.validation=0.5",
        "data.test=0.4",
        "trainer.max_epochs=40",
        "model.width=128",
    )
    run = trained(tmp_path / "few", *words)
    half = trained(tmp_path / "half", *words, f"data.validation={halved(run):.4g}", "trainer.max_epochs=1")
    assert half.rows == pytest.approx(len(run.data.train) / 2, abs=2)
    (said,) = more_rows(run, measures(run), seeds=5)
    assert said.startswith("too few rows: val/accuracy is 0.9")
    assert f"with {len(run.data.train)} training rows" in said


def test_few_rows_that_validate_are_said(tmp_path):
    run = trained(tmp_path / "small", "data=iris", "trainer.max_epochs=1", "data.validation=0.1")
    assert next(iter(remarks(run, measures(run)))).startswith(
        "15 validation rows: a difference in accuracy of less than 0.13"
    )
