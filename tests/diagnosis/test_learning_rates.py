import csv
import json

import pytest
from PIL import Image

import slipstream
from slipstream.core.errors import ConfigError, UserError
from slipstream.diagnosis.learning_rate_files import as_json, write_rates
from slipstream.diagnosis.learning_rates import RATES, TriedRate, chosen, described, going_on, remaining

WORDS = ("data=xor", "optimizer=sgd", "model.width=8", "trainer.max_epochs=16")  # of 5 updates


@pytest.fixture(scope="module")
def found():
    """The rates of a small network; for 10, 20 and 40 updates."""
    return slipstream.find_lr(*WORDS, "scheduler=cosine", "early_stopping.patience=1")


@pytest.mark.slow
def test_a_rate_is_a_run_that_differs_in_nothing_else(found):
    """A rate has the losses of a run with this constant rate, to the byte, and of one with the next seed."""
    few = [each for each in found.tried if each.lr in (0.064, 1.0)]
    usual = (*WORDS, "scheduler=constant", "early_stopping=none")
    runs = [slipstream.compose(*usual, f"optimizer.lr={each.lr}") for each in few]
    for each, result in zip(few, slipstream.train_pack(runs), strict=True):
        losses = {record["step"]: record["val/loss"] for record in result.records}
        assert dict(each.losses) == {updates: losses[updates] for updates in each.losses}
    best = next(each for each in found.tried if each.lr == found.named)
    seeds = [slipstream.compose(*usual, f"optimizer.lr={found.named}", f"seed={k}") for k in (1, 0)]
    result, _ = slipstream.train_pack(seeds)
    losses = {record["step"]: record["val/loss"] for record in result.records}
    assert dict(best.again) == {updates: losses[updates] for updates in best.again}
    assert best.lowest == (min(best.losses.values()) + min(best.again.values())) / 2


@pytest.mark.slow
def test_the_best_are_trained_for_longer(found):
    lengths = [each.updates for each in found.tried]
    assert [each.lr for each in found.tried] == list(RATES)
    assert lengths.count(10) == len(RATES) - 8
    assert found.updates == max(lengths)
    named = next(each for each in found.tried if each.lr == found.named)
    assert named.updates == found.updates
    assert named.look == "best"
    assert named.lowest == min(each.lowest for each in found.tried)
    assert (found.line, found.before) == (f"optimizer.lr={found.named:g}", 0.1)


@pytest.mark.slow
def test_the_rate_of_a_run_with_a_change(small_run):
    before = sorted(small_run.rglob("*"))
    found = slipstream.find_lr(small_run, "optimizer=momentum", updates=4)
    assert (found.source, found.optimizer, found.before) == (str(small_run), "momentum", 0.02)
    assert sorted(small_run.rglob("*")) == before


@pytest.mark.slow
def test_what_cannot_be_asked(small_run):
    with pytest.raises(ConfigError, match=r"optimizer\.lrr"):
        slipstream.find_lr("optimizer.lrr=1")
    with pytest.raises(UserError, match="nowhere"):
        slipstream.find_lr("nowhere")
    with pytest.raises(UserError, match=r"found 9, but the run makes 8; add trainer\.max_epochs=5"):
        slipstream.find_lr(small_run, updates=9)
    with pytest.raises(ConfigError, match="takes no overrides"):
        slipstream.find_lr(slipstream.compose("data=iris"), "seed=1")


def losses(*values):
    return {5 * (k + 1): value for k, value in enumerate(values)}


def test_the_lowest_loss_of_the_longest_training_is_named():
    start, short, low = (
        TriedRate(0.1, losses(2.0)),
        TriedRate(0.2, losses(0.1)),
        TriedRate(0.4, losses(1.0, 0.5)),
    )
    high, broken = TriedRate(0.8, losses(1.2, 0.9)), TriedRate(1.6, losses(0.1, 0.1), diverged=True)
    assert chosen([start, short, low, high, broken]) == low
    assert chosen([start, broken]) is None
    assert chosen([TriedRate(0.1, losses(2.0, 2.0)), TriedRate(0.2, losses(2.1, 2.2))]) is None


def test_diverged_rates_and_those_far_from_the_best_are_left():
    tried = [TriedRate(0.1 * 2**k, losses(loss)) for k, loss in enumerate((1.0, 0.5, 0.4, 0.5, 0.7))]
    tried += [TriedRate(9.0, losses(0.1), diverged=True)]
    assert going_on(tried, range(6)) == [0, 1, 2, 3, 4]
    assert remaining(tried, [0, 1, 2, 3, 4]) == []  # only its neighbours are close to the best
    near = [TriedRate(0.1 * 2**k, losses(loss)) for k, loss in enumerate((1.0, 0.5, 0.4, 0.7, 0.45))]
    assert remaining(near, range(5)) == [1, 2, 4]


def test_every_rate_has_its_look():
    low, fine, best = (
        TriedRate(0.1, losses(2.0, 1.9)),
        TriedRate(0.2, losses(1.0, 0.6)),
        TriedRate(0.4, losses(0.9, 0.5)),
    )
    swings = TriedRate(0.8, losses(1.0, 0.6, 1.0, 0.7))
    high, broken = TriedRate(1.6, losses(1.9, 1.8)), TriedRate(3.2, losses(), diverged=True)
    looks = [each.look for each in described([low, fine, best, swings, high, broken], best)]
    assert looks == ["too low", "trains", "best", "oscillates", "too high", "diverges"]


def test_the_files_hold_all_rates(found, tmp_path):
    made = write_rates(found, tmp_path / "rates")
    told = json.loads(made[0].read_text())
    assert told == json.loads(json.dumps(as_json(found)))
    assert told["line"] == found.line
    rows = list(csv.DictReader(made[1].read_text().splitlines()))
    assert [float(row["lr"]) for row in rows] == list(RATES)
    with Image.open(made[2]) as picture:
        assert picture.size[0] > 800
