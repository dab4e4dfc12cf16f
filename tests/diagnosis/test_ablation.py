import numpy as np
import pytest
from scipy import stats

import slipstream
from slipstream.core.errors import UserError
from slipstream.diagnosis.ablation import removals
from slipstream.diagnosis.branches import NOTHING, Branch, Change
from slipstream.diagnosis.paired_effects import effects
from slipstream.runs.summary import Result


def test_every_ingredient_has_its_removal():
    raw = slipstream.compose(
        *("data=iris", "optimizer=sgd", "optimizer.lr=0.5", "regularizer=[dropout,l2]"),
        *("regularizer.l2.strength=0.2", "augmentation=[]", "trainer.max_epochs=3", "data.batch_size=16"),
        *("trainer.device=cpu", "trainer.threads=1", "trainer.compile=false", "logger=[]"),
    )
    assert {name: str(change) for name, change in removals(raw).items()} == {
        "data.batch_size=16": "data.batch_size=64",
        "optimizer=sgd": "optimizer=adam",
        "optimizer.lr=0.5": "optimizer.lr=0.1",
        "regularizer=dropout": "regularizer=[l2]",
        "regularizer=l2": "regularizer=[dropout]",
        "regularizer.l2.strength=0.2": "regularizer.l2.strength=0.0001",
        "trainer.max_epochs=3": "trainer.max_epochs=50",
    }


@pytest.mark.slow
def test_ablate_measures_what_the_runs_give(small_run, capsys, code):
    found = slipstream.ablate(small_run, ["regularizer=dropout"], seeds=3)
    (effect,) = found.effects
    assert found.metric == "val/loss"
    assert len(effect.values) == len(found.control) == 3
    assert found.trained == 6
    apart = np.subtract(effect.values, effect.control)
    assert effect.difference == pytest.approx(apart.mean())
    low, high = stats.t.interval(0.95, 2, apart.mean(), stats.sem(apart))
    assert effect.interval == pytest.approx((low, high))
    assert effect.p == pytest.approx(stats.ttest_rel(effect.values, effect.control).pvalue)
    assert code(["ablate", str(small_run), "--only", "regularizer=dropout", "--seeds", "2"]) == 0
    assert "regularizer=[]" in capsys.readouterr().out


@pytest.mark.slow
def test_an_unknown_ingredient_is_named(small_run):
    with pytest.raises(UserError, match="did you mean regularizer=dropout"):
        slipstream.ablate(small_run, ["regularizer=dropot"])


def branch(change, seed, value, status="finished"):
    result = Result(status, "", 1, {"val/loss": value, "val/accuracy": value}, {}, [], {})
    return Branch(change, seed, result)


def test_effects_are_corrected_judged_and_know_divergence():
    a, b, c = (Change((f"seed={k}",)) for k in range(3))
    control = [1.0, 1.1, 0.9, 1.05, 0.95, 1.02]
    noise = [0.01, -0.02, 0.015, 0.0, -0.01, 0.02]
    rows = [branch(NOTHING, k, v) for k, v in enumerate(control)]
    rows += [branch(a, k, v - 0.5 + noise[k]) for k, v in enumerate(control)]
    rows += [branch(b, k, v + noise[k]) for k, v in enumerate(control)]
    rows += [branch(c, k, v, "diverged") for k, v in enumerate(control)]
    lower, same, broken = effects(rows, "val/loss", minimize=True)
    assert (lower.verdict, same.verdict, broken.verdict) == (
        "better",
        "tie",
        "inconclusive",
    )
    assert broken.difference is None
    assert broken.p == pytest.approx(2 * 2 / 2**6)  # the sign test of six pairs, times the two that are left
    assert broken.better == 0
    plain = stats.ttest_rel([v - 0.5 + n for v, n in zip(control, noise, strict=True)], control).pvalue
    assert lower.p == pytest.approx(3 * plain)
    higher, *_ = effects(rows, "val/loss", minimize=False)
    assert higher.verdict == "worse"


def test_differences_that_are_equal_up_to_rounding_have_no_p():
    """Two of 30 rows in every pair: the differences vary in their last digits, which are no noise."""
    change, right = Change(("seed=1",)), (20, 22, 25, 19, 27)
    rows = [branch(NOTHING, k, n / 30) for k, n in enumerate(right)]
    rows += [branch(change, k, (n + 2) / 30) for k, n in enumerate(right)]
    assert len({(n + 2) / 30 - n / 30 for n in right}) > 1
    (found,) = effects(rows, "val/accuracy", minimize=False)
    assert (found.difference, found.p, found.verdict) == (pytest.approx(1 / 15), None, "inconclusive")
    assert found.interval == (found.difference, found.difference)


@pytest.mark.parametrize(("seeds", "tied"), [(4, False), (5, True)])
def test_few_seeds_are_never_a_tie(seeds, tied):
    """A difference that is lost in noise is a tie with five seeds or more."""
    change, noise = Change(("seed=1",)), (0.3, -0.2, 0.25, -0.3, 0.1)
    rows = [branch(NOTHING, k, 1.0) for k in range(seeds)]
    rows += [branch(change, k, 1.0 + noise[k]) for k in range(seeds)]
    (found,) = effects(rows, "val/loss", minimize=True)
    assert (found.verdict == "tie") == tied


def test_an_ingredient_that_the_others_need_is_named_and_stays(tmp_path, capsys, code):
    """Cross entropy, the default, does not take the outputs of a ReLU."""
    words = ("data=iris", "loss=hinge", "model.output_activation=relu", "trainer.max_epochs=1", "logger=none")
    slipstream.train(slipstream.compose(*words), tmp_path / "run")
    found = slipstream.ablate(tmp_path / "run", seeds=2, metric="val/accuracy")
    changed = [str(effect.change) for effect in found.effects]
    assert sorted(changed) == ["model.output_activation=identity", "trainer.max_epochs=50"]
    (needed,) = found.needed
    assert needed.startswith("loss=hinge: needed, since model.output_activation=relu: the loss cross_entropy")
    assert code(["ablate", str(tmp_path / "run"), "--seeds", "2"]) == 0
    assert "loss=hinge: needed" in capsys.readouterr().out
