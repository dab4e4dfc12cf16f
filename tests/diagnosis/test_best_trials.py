import json

import numpy as np
import pytest
from scipy import stats

import slipstream
from slipstream.core.errors import UserError
from slipstream.diagnosis.best_trials import FreshTrial, _better, best_trials, lucky
from slipstream.diagnosis.why import why

WORDS = ("data=two_moons", "data.rows=100", "data.noise=0.5", "optimizer.lr=0.01", "trainer.max_epochs=6")


def trial(fresh, number=0):
    return FreshTrial(number, {"optimizer.lr": 0.1}, "s/0", 0.9, np.array(fresh))


@pytest.mark.parametrize("minimize", [False, True])
@pytest.mark.parametrize("apart", [1.5, 2.0, 2.5])
def test_a_value_is_lucky_outside_the_prediction_interval(apart, minimize):
    fresh = np.random.default_rng(0).normal(size=9)
    mean, error = fresh.mean(), fresh.std(ddof=1) * np.sqrt(1 + 1 / 9)
    value = mean + (-apart if minimize else apart) * error
    assert lucky(value, fresh, minimize) == (apart > stats.t.ppf(0.95, 8))


def test_a_seed_that_diverged_makes_the_best_trial_lucky():
    broken = trial([0.9, 0.91, np.nan, 0.9])
    assert lucky(0.9, broken.fresh, minimize=False)
    assert broken.summary == "0.9033 ± 0.0058 with 4 fresh seeds, of which 1 diverged"
    assert trial([np.nan, np.nan]).summary == "diverges with 2 fresh seeds"


def test_other_trials_are_compared_in_pairs_with_holms_correction():
    rng = np.random.default_rng(1)
    best = rng.normal(0.8, 0.1, 9)
    near, far = best + rng.normal(0, 0.01, 9), best + rng.normal(0.05, 0.01, 9)
    found = list(_better(trial(best), [trial(near, 1), trial(far, 2)], minimize=False))
    assert [other.number for other, _ in found] == [2]
    assert found[0][1] == pytest.approx(2 * stats.ttest_rel(far, best).pvalue)
    assert list(_better(trial(best), [trial(far, 2)], minimize=True)) == []


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """A sweep over splits, of which the best has luck alone."""
    folder = tmp_path_factory.mktemp("splits") / "sweep"
    space = {"data.split_seed": list(range(30))}
    slipstream.sweep(space, *WORDS, "trainer.monitor=val/accuracy", "logger=none", directory=folder, pack=30)
    return folder


@pytest.mark.slow
def test_the_best_of_many_splits_was_lucky(splits):
    found = why(splits)
    (verdict,) = found.verdicts
    report = json.loads((splits / "report.json").read_text())
    first = report["trials"][0]
    assert (verdict.cause, verdict.remedy) == ("lucky trial", ())
    said = f"val/accuracy of trial {first['trial']} (data.split_seed={first['values']['data.split_seed']})"
    assert verdict.evidence.startswith(f"{said} is {first['mean']:.4g}, the best of 30 trials, but 0.")
    assert (len(found.remarks), found.trained) == (3, 27)


@pytest.mark.slow
def test_fresh_seeds_are_those_of_single_runs(splits):
    """The value of a fresh seed is that of the run that has its seed and split."""
    found = best_trials(splits)
    first = json.loads((splits / "report.json").read_text())["trials"][0]
    split = int(first["values"]["data.split_seed"])
    runs = [
        slipstream.train(
            slipstream.compose(
                *WORDS,
                "trainer.monitor=val/accuracy",
                "logger=none",
                f"seed={k}",
                f"data.split_seed={split + k}",
            )
        )
        for k in range(1, 10)
    ]
    values = [run.best["val/accuracy"] for run in runs]
    said = f"{np.mean(values):.4g} ± {np.std(values, ddof=1):.2g} with 9 fresh seeds"
    assert said in found.verdicts[0].evidence


def test_a_sweep_without_a_report_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="the sweep has no report yet; finish it with python"):
        best_trials(tmp_path)
