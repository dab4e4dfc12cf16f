"""Verdicts of a sweep: the tests are scipy's, clear losers never tie, and few repeats tell little."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sampling import slow_after
from slipstream.sweeps.plan.job import Outcome
from slipstream.sweeps.report.aggregates import groups
from slipstream.sweeps.report.comparisons import compare, holm, signed_rank_test


def trial(number, values, folds=None, seeds=None):
    """A group with one member a value, over seeds, or over folds first."""
    members = [
        Outcome(
            *(number * 100 + i, number, {}, "finished", "", float(value), 3, 5, 1.0),
            *(seeds[i] if seeds else i // (folds or 1), i % folds if folds else None, {}, None),
        )
        for i, value in enumerate(values)
    ]
    return groups(members, True)[0]


def against(best, *others, minimize=True, folds=None):
    rows = [trial(k, values, folds) for k, values in enumerate(others, start=1)]
    return compare(trial(0, best, folds), rows, minimize)


def test_on_the_metrics_own_scale_it_is_the_paired_t_test():
    """The p value is scipy's on the values as they are, a loss's too, in either direction."""
    best, other = [0.90, 0.88, 0.89, 0.85], [0.86, 0.85, 0.84, 0.83]
    (found,) = against(best, other, minimize=False)
    assert found.p == pytest.approx(stats.ttest_rel(best, other).pvalue)
    assert (found.pairs, found.test) == (4, "paired t-test and signed ranks over seeds")
    assert found.difference == pytest.approx(0.035)
    (found,) = against([0.02, 0.03, 0.04], [0.2, 0.5, 0.45])
    assert found.p == pytest.approx(stats.ttest_rel([0.02, 0.03, 0.04], [0.2, 0.5, 0.45]).pvalue)


@pytest.mark.parametrize("n", [2, 3, 5, 6, 9, 14, 30])
def test_on_ranks_it_is_wilcoxons_test(n):
    """Exact: scipy's p, for differences of all sizes and signs."""
    draw = np.random.default_rng(n)
    for shift in (-1.0, 0.0, 0.3, 2.0):
        a, b = draw.normal(size=n), draw.normal(shift, size=n)
        (found,) = against(a, b)
        assert found.p_ranks == pytest.approx(stats.wilcoxon(b - a, method="exact").pvalue)


def test_on_ranks_equal_sizes_share_and_zeros_are_left_out():
    """Over all signs of what is not 0, as a permutation test enumerates them."""
    apart = np.array([0.0, 1.0, 1.0, -1.0, 2.0, 0.0, 3.0, 3.0])
    kept = apart[apart != 0]
    ranked = stats.rankdata(np.abs(kept))

    def positive(signs, axis=-1):
        return np.where(signs > 0, ranked, 0).sum(axis)

    expected = stats.permutation_test(
        (np.sign(kept),), positive, permutation_type="samples", n_resamples=np.inf
    )
    assert signed_rank_test(apart) == pytest.approx(expected.pvalue)
    assert signed_rank_test(np.zeros(4)) == 1.0


def test_holms_correction_is_the_step_down_of_bonferroni():
    """Against its definition, on random p values."""
    draw = np.random.default_rng(0)
    for m in (1, 2, 7, 40):
        ps = draw.uniform(size=m) ** 3
        order = np.argsort(ps)
        expected = np.empty(m)
        expected[order] = np.minimum(np.maximum.accumulate(ps[order] * (m - np.arange(m))), 1)
        assert holm(list(ps)) == pytest.approx(list(expected))


def test_a_clear_loser_is_worse():
    """The rates of wine: three seeds whose losses lie far apart, beside four trials that do not."""
    best = [0.0009, 0.089, 0.016]
    clear = [0.78, 0.83, 0.77]
    near = [[0.001, 0.11, 0.01], [0.04, 0.07, 0.04], [0.05, 0.08, 0.03], [0.14, 0.2, 0.16]]
    found = against(best, clear, *near)
    assert found[0].p == pytest.approx(stats.ttest_rel(best, clear).pvalue)
    assert found[0].p < 0.0003
    assert found[0].verdict == "worse"
    assert {entry.verdict for entry in found[1:4]} == {"too few to tell"}


def test_two_seeds_are_too_few_and_never_tie():
    """However far apart: 1.01 does not tie with 0.0002."""
    for other in ([1.01, 0.9], [0.0002, 0.09], [5.0, 0.0001], [1.0, 1.1]):
        (found,) = against([0.0002, 0.08], other)
        assert found.verdict == "too few to tell"
        assert found.p == pytest.approx(stats.ttest_rel([0.0002, 0.08], other).pvalue)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_fewer_than_five_pairs_never_tie(n):
    """Not even where the values are equal: so few could not have shown a difference."""
    draw = np.random.default_rng(n)
    for _ in range(200):
        values = draw.normal(size=n)
        (found,) = against(values, values + draw.normal(scale=draw.choice([0.0, 0.1, 3.0]), size=n))
        assert found.verdict != "tie"


def test_what_lies_close_ties_given_enough_repeats():
    """Five pairs that win and lose by chance."""
    (found,) = against([1.0, 1.2, 1.1, 0.9, 1.05], [1.1, 1.05, 1.2, 0.95, 1.0])
    assert found.verdict == "tie"
    (found,) = against([1.0, 1.2, 1.1, 0.9, 1.05], [1.0, 1.2, 1.1, 0.9, 1.05])
    assert (found.verdict, found.p, found.p_ranks) == ("tie", 1.0, 1.0)


def test_what_loses_every_pair_never_ties():
    """One exploded seed blurs the scale, not the ranks: five pairs leave it open, eight tell."""
    best = [0.02, 0.03, 0.04, 0.03, 0.02]
    (found,) = against(best, [0.1, 2e12, 0.15, 0.2, 0.1])
    assert found.p > 0.3
    assert found.verdict == "too few to tell"
    (found,) = against([*best, *best[:3]], [0.1, 2e12, 0.15, 0.2, 0.1, 0.12, 0.2, 0.3])
    assert found.verdict == "worse"


def test_many_trials_take_more_to_be_told():
    """One of p 0.01 is worse beside no other, and open beside nineteen."""
    draw = np.random.default_rng(1)
    best = draw.normal(size=6)
    lost = best + np.array([0.5, 1.4, 0.2, 1.1, 0.4, 0.9])
    assert against(best, lost)[0].verdict == "worse"
    crowd = [best + draw.normal(scale=0.5, size=6) for _ in range(19)]
    found = against(best, lost, *crowd)[0]
    assert found.p < 0.05 < found.p_holm
    assert found.verdict == "too few to tell"


def test_what_is_better_with_almost_every_seed_is_not_worse():
    """The best by its mean may lose on ranks."""
    (found,) = against([0.110, 0.111, 0.112, 0.11, 0.11, 0.11], [0.0100, 0.0101, 0.9, 0.01, 0.01, 0.01])
    assert found.verdict != "worse"


def test_without_noise_nothing_is_measured_on_the_scale():
    """A constant difference has no error to be held against: ranks alone speak, and they need six pairs."""
    assert against([1.0, 2.0, 3.0], [1.5, 2.5, 3.5])[0].p is None
    assert against([1.0, 2.0, 3.0], [1.5, 2.5, 3.5])[0].verdict == "too few to tell"
    values = [0.1 * i for i in range(7)]
    assert against(values, [value + 0.3 for value in values])[0].verdict == "worse"


def test_members_without_a_partner_are_left_out():
    """Only pairs that both trials have are compared, whatever the members' order."""
    (found,) = compare(trial(0, [3.0, 2.0, 1.0]), [trial(1, [1.7, 2.9], seeds=[1, 0])], minimize=False)
    assert found.pairs == 2
    assert found.p == pytest.approx(stats.ttest_rel([2.9, 1.7], [3.0, 2.0]).pvalue)
    (found,) = compare(trial(0, [0.1]), [trial(1, [9.0], seeds=[7])], minimize=True)
    assert (found.verdict, found.difference, found.pairs) == ("too few to tell", None, 0)


def test_folds_get_the_corrected_variance():
    """Of five folds: (1/5 + 1/4) s^2 in place of s^2/5, s of the folds' means over their seeds."""
    draw = np.random.default_rng(3)
    for repeats in (1, 2, 20):
        a, b = draw.normal(1.5, 1, 5 * repeats), draw.normal(0, 1, 5 * repeats)
        (found,) = against(a, b, minimize=False, folds=5)
        means = (b - a).reshape(repeats, 5).mean(axis=0)
        t = means.mean() / math.sqrt((1 / 5 + 1 / 4) * means.var(ddof=1))
        assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 4))
        assert found.p > stats.ttest_1samp(means, 0).pvalue
        assert (found.pairs, found.folds, found.difference) == (5 * repeats, 5, pytest.approx(-means.mean()))
        assert found.p_ranks is None  # they have no such correction
        assert "folds" in found.test


@pytest.mark.parametrize(("folds", "repeats"), slow_after(2, [(5, 5), (3, 1), (3, 10), (5, 20), (10, 5)]))
def test_seeds_of_a_fold_are_no_folds(folds, repeats):
    """Trials that differ by fold and not in truth: p is below 5 % in 5 % of the cases at most."""
    draw, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        apart = draw.normal(size=folds) + draw.normal(0, 0.1, (repeats, folds))
        (found,) = against(np.zeros(folds * repeats), apart.ravel(), folds=folds)
        wrong += found.p < 0.05
    assert wrong <= 29  # of 20 expected at most, with a deviation of 4.4


def test_few_folds_stay_too_few_however_often_they_are_repeated():
    """Three folds never tie, two never tell anything."""
    draw = np.random.default_rng(1)
    for folds in (2, 3, 4):
        (found,) = against(np.zeros(folds * 20), draw.normal(size=folds * 20), folds=folds)
        assert found.verdict == "too few to tell"
    (found,) = against(np.zeros(40), 1 + 0.001 * draw.normal(size=40), folds=2)
    assert (found.verdict, found.p_holm) == ("too few to tell", None)


@pytest.mark.parametrize("n", slow_after(1, [3, 5, 8]))
def test_chance_makes_a_worse_trial_one_time_in_twenty_or_less(n):
    """Of 20 trials that differ from the best one in noise alone some is called worse in 5 % of sweeps."""
    draw, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        rows = draw.normal(size=(6, n))
        wrong += any(entry.verdict == "worse" for entry in against(rows[0], *rows[1:]))
    assert wrong <= 30
