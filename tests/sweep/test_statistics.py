"""What a sweep's report says is what its numbers carry, and no more."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from slipstream.sweep.jobs import Outcome
from slipstream.sweep.space import Choices, Interval
from slipstream.sweep.statistics import Group, compare, edges, groups, importance


def outcome(number, trial, value, status="finished", seed=0, fold=None, **values):
    values = {key.replace("__", "."): value for key, value in values.items()}
    return Outcome(number, trial, values, status, "", value, 3, 5, 1.0, seed, fold, {}, None)


def trial(number, values, folds=None, **swept):
    """A group with one member a value, over seeds, or over folds first."""
    members = [
        outcome(
            number * 100 + i,
            number,
            value,
            seed=i // (folds or 1),
            fold=i % folds if folds else None,
            **swept,
        )
        for i, value in enumerate(values)
    ]
    return groups(members, True)[0]


def many(function, axes, seed=0):
    """Trials of a whole grid, one member each."""
    keys, draw = list(axes), np.random.default_rng(seed)
    rows = [dict(zip(keys, row, strict=True)) for row in itertools.product(*axes.values())]
    return groups([outcome(i, i, float(function(draw, **row)), **row) for i, row in enumerate(rows)], True)


def test_a_trial_has_the_mean_and_deviation_of_its_members():
    """Over seeds, with n - 1; the seed is no part of what was swept."""
    (group,) = groups([outcome(i, 0, v, seed=i, lr=0.1) for i, v in enumerate((1.0, 2.0, 6.0))], True)
    assert (group.mean, group.n) == (3.0, 3)
    assert group.std == pytest.approx(stats.tstd([1, 2, 6]))
    (group,) = groups([outcome(0, 0, 1.0, seed=4) for _ in range(1)], True)
    assert (group.std, group.n) == (None, 1)


@pytest.mark.parametrize(("minimize", "expected"), [(True, [1, 0, 3, 2, 5, 4]), (False, [0, 1, 3, 2, 5, 4])])
def test_whole_trials_come_first_in_the_metrics_direction(minimize, expected):
    """Then pruned ones, then those that broke (a diverged member's value does not count), then the rest."""
    found = groups(
        [
            outcome(0, 0, 2.0),
            outcome(1, 1, 1.0, "stopped_early"),
            outcome(2, 2, 0.5, "diverged"),
            outcome(3, 3, 0.6, "pruned"),
            outcome(4, 4, None, "waiting"),
            outcome(5, 5, None, "failed"),
        ],
        minimize,
    )
    assert [group.trial for group in found] == expected
    assert [group.remark for group in found[2:]] == ["pruned", "diverged", "failed", "waiting"]


def test_one_broken_member_of_three_is_said_and_takes_the_trial_down():
    """Its mean is that of the others, and it is ranked behind trials that came through."""
    members = [outcome(i, 0, 0.1, seed=i) for i in range(2)] + [outcome(2, 0, 0.0, "diverged", seed=2)]
    first, second = groups([*members, outcome(3, 1, 0.9)], True)
    assert (first.trial, second.trial) == (1, 0)
    assert (second.mean, second.n, second.remark) == (0.1, 2, "1 of 3 diverged")


def test_the_comparison_over_seeds_is_the_paired_t_test():
    """The p value is scipy's, whatever the members' order, with the sign of what is worse."""
    best, other = [0.90, 0.88, 0.89, 0.85], [0.86, 0.85, 0.84, 0.83]
    found = compare(trial(0, best), trial(1, other), minimize=False)
    assert found.p == pytest.approx(stats.ttest_rel(best, other).pvalue)
    assert (found.verdict, found.pairs, found.test) == ("worse", 4, "paired t-test over seeds")
    assert found.difference == pytest.approx(0.035)


def test_losses_are_compared_by_their_logarithms():
    """Ratios count, not differences; where a value is 0 or below, the values themselves."""
    best, other = [0.02, 0.03, 0.04], [0.2, 0.5, 0.45]
    found = compare(trial(0, best), trial(1, other), minimize=True)
    assert found.p == pytest.approx(stats.ttest_rel(np.log(best), np.log(other)).pvalue)
    assert found.verdict == "worse"
    assert found.difference == pytest.approx(np.mean(other) - np.mean(best))
    plain = compare(trial(0, [-1.0, 0.5, 0.2]), trial(1, [0.0, 1.0, 0.4]), minimize=True)
    assert plain.p == pytest.approx(stats.ttest_rel([-1.0, 0.5, 0.2], [0.0, 1.0, 0.4]).pvalue)


def test_one_exploded_seed_makes_no_tie():
    """A trial that scatters clearly more is held against the noise of the best one."""
    best, other = [0.02, 0.03, 0.04], [0.1, 2e12, 0.15]
    assert stats.ttest_rel(np.log(best), np.log(other)).pvalue > 0.3
    assert compare(trial(0, best), trial(1, other), minimize=True).verdict == "worse"


def test_what_is_better_with_almost_every_seed_is_never_worse():
    """The best by its mean may lose by logarithms: then it is a tie."""
    best, other = [0.110, 0.111, 0.112], [0.0100, 0.0101, 0.6]
    assert compare(trial(0, best), trial(1, other), minimize=True).verdict == "tie"
    steady = compare(trial(0, [0.2, 0.21, 0.2]), trial(1, [0.1, 0.11, 0.1]), minimize=True)
    assert (steady.verdict, steady.p < 0.05) == ("tie", True)


def test_members_without_a_partner_are_left_out():
    """Only pairs that both trials have are compared."""
    found = compare(trial(0, [3.0, 2.0, 1.0]), trial(1, [2.9, 1.7]), minimize=False)
    assert found.pairs == 2
    assert found.p == pytest.approx(stats.ttest_rel([2.9, 1.7], [3.0, 2.0]).pvalue)


def test_folds_get_the_corrected_variance():
    """Of five folds: (1/5 + 1/4) s^2 in place of s^2/5; ten pairs of two repeats: (1/10 + 1/4) s^2."""
    draw = np.random.default_rng(3)
    for repeats in (1, 2):
        a, b = draw.normal(1.5, 1, 5 * repeats), draw.normal(0, 1, 5 * repeats)
        found = compare(trial(0, a, folds=5), trial(1, b, folds=5), minimize=False)
        t = (b - a).mean() / math.sqrt((1 / len(a) + 1 / 4) * (b - a).var(ddof=1))
        assert found.p == pytest.approx(2 * stats.t.sf(abs(t), len(a) - 1))
        assert found.p > stats.ttest_rel(a, b).pvalue
        assert "folds" in found.test


def test_with_one_member_nothing_can_be_said():
    """One pair or none is unknown, whatever the difference."""
    assert compare(trial(0, [0.1]), trial(1, [9.0]), minimize=True).verdict == "unknown"
    apart = compare(trial(0, [0.1]), groups([outcome(9, 1, 9.0, seed=7)], True)[0], minimize=True)
    assert (apart.verdict, apart.difference, apart.pairs) == ("unknown", None, 0)


def test_equal_values_tie_and_a_constant_difference_does_not():
    """Where there is no noise at all, equal is a tie and anything else is worse."""
    assert compare(trial(0, [1.0, 2.0]), trial(1, [1.0, 2.0]), minimize=True).verdict == "tie"
    assert compare(trial(0, [1.5, 2.5]), trial(1, [1.0, 2.0]), minimize=False).verdict == "worse"


def test_chance_has_a_small_p_one_time_in_twenty():
    """Of 2,000 pairs of trials that differ in noise alone 5 % have p below 0.05, or little more: the F-test
    adds about one in a hundred."""
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(2000, 2, 5))
    found = sum((compare(trial(0, a), trial(1, b), minimize=True).p or 0) < 0.05 for a, b in rows)
    assert 68 <= found <= 184


def test_importance_follows_what_the_values_depend_on():
    """A key with a large part in the value comes first, one without is not told from nothing."""
    axes = {"lr": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3], "act": ["relu", "tanh", "gelu"], "dead": [1, 2, 3]}
    effect = {"relu": 0.0, "tanh": 0.35, "gelu": 0.3}
    found, reason = importance(
        many(
            lambda draw, lr, act, dead: math.log10(lr / 0.01) ** 2 + effect[act] + draw.normal(0, 0.02), axes
        ),
        True,
    )
    assert reason == ""
    assert [entry.key for entry in found] == ["lr", "act", "dead"]
    assert sum(entry.share for entry in found) == pytest.approx(1)
    assert found[0].clear
    assert found[1].clear
    assert not found[2].clear or found[2].share < 0.03


def test_a_key_that_matters_only_together_with_another_counts():
    """The best rate of one optimizer is the worst of the other: the rate's own means are all equal."""
    axes = {"opt": ["a", "b"], "lr": [1, 2, 3, 4, 5, 6, 7, 8], "dead": [0, 1]}
    found, _ = importance(many(lambda draw, opt, lr, dead: lr if opt == "a" else 9 - lr, axes), True)
    assert {entry.key: entry.clear for entry in found} == {"opt": True, "lr": True, "dead": False}


def test_diverged_trials_are_the_worst_and_count():
    """Where a rate makes all diverge and nothing else matters, the rate is what matters."""
    rows = [(lr, dead) for lr in (0.1, 0.2, 9.0, 10.0) for dead in range(5)]
    outcomes = [
        outcome(i, i, None if lr > 1 else 0.5, "diverged" if lr > 1 else "finished", lr=lr, dead=dead)
        for i, (lr, dead) in enumerate(rows)
    ]
    found, _ = importance(groups(outcomes, True), True)
    assert found[0].key == "lr"
    assert found[0].share > 0.9


def test_a_conditional_key_has_its_part():
    """A key that only half of the trials have is found where it decides among them."""
    outcomes = []
    for i in range(64):
        values = {"opt": "sgd"} if i % 2 else {"opt": "momentum", "opt.momentum": (i // 2) % 8 / 10}
        outcomes.append(outcome(i, i, 1.0 if i % 2 else 2 * values["opt.momentum"], **values, dead=i % 3))
    found, _ = importance(groups(outcomes, True), True)
    assert found[0].key == "opt.momentum"
    assert found[0].clear


def test_too_few_trials_say_nothing_and_how_many_would():
    """Nine trials of three keys: no importance, and the number that is needed."""
    found = importance(
        many(lambda draw, **keys: sum(keys.values()), {"a": [1, 2, 3], "b": [1, 2, 3], "c": [1, 2]})[:9], True
    )
    assert found == ([], "9 trials are too few to say which of 3 keys matter: about 18 are needed")


def test_noise_is_said_to_be_noise():
    """Where nothing depends on what was swept, no key gets a share."""
    found, reason = importance(many(lambda draw, **keys: draw.normal(), {"a": range(8), "b": range(8)}), True)
    assert found == []
    assert reason == "64 trials do not show which keys matter: their order looks like chance"


def test_one_key_needs_no_importance():
    """With a single key there is nothing to be weighed."""
    assert importance(many(lambda draw, a: a, {"a": range(20)}), True) == ([], "")


def test_importance_repeats():
    """The same outcomes have the same importance."""
    found = many(lambda draw, a, b: a + draw.normal(), {"a": range(6), "b": range(6)})
    assert importance(found, True) == importance(found, True)


LR = Choices("lr", (0.001, 0.01, 0.1))
LARGEST, SMALLEST = "largest tried: widen it upwards", "smallest tried: widen it downwards"


@pytest.mark.parametrize(
    ("axis", "value", "expected"),
    [
        (LR, 0.1, LARGEST),
        (LR, 0.001, SMALLEST),
        (LR, 0.01, None),
        (Choices("lr", (0.1, 0.2)), 0.2, None),  # of two, one is always best
        (Choices("lr", (0.0, 0.1, 0.2)), 0.0, None),  # nothing is below
        (Choices("depth", (1, 2, 3)), 1, None),
        (Choices("activation", ("relu", "tanh", "gelu")), "gelu", None),
        (Choices("nesterov", (True, False, None)), True, None),
        (Choices("data.batch_size", (32, 64, 128, "full")), 128, LARGEST),
        (Choices("data.fold", (1, 2, 3)), 3, None),
        (Interval("lr", 1e-4, 1e-1, log=True), 8e-2, LARGEST),
        (Interval("lr", 1e-4, 1e-1, log=True), 5e-2, None),
        (Interval("lr", 1e-4, 1e-1), 1e-3, SMALLEST),
    ],
)
def test_a_best_value_at_the_end_of_its_range_is_said(axis, value, expected):
    """For numbers that could go on, in lists and in intervals (on their scale), and for nothing else."""
    found = edges([axis], [trial(0, [1.0], **{axis.key: value})], [])
    assert found == ([f"the best {axis.key}, {value:g}, is the {expected}"] if expected else [])


def test_a_tie_inside_the_range_is_named():
    """Widening is worth less where a value inside is as good."""
    best, inside = trial(0, [1.0], lr=0.1), trial(1, [1.0], lr=0.01)
    (text,) = edges([LR], [best, inside], [inside])
    assert text.endswith("widen it upwards (though 0.01 is as good)")


def test_no_advice_without_a_best_trial():
    """Where all diverged, or nothing ended, there is no best value."""
    assert edges([LR], [], []) == []
    assert edges([LR], groups([outcome(0, 0, 1.0, "diverged", lr=0.1)], True), []) == []


def test_a_group_is_whole_only_with_a_value():
    """A waiting trial is not."""
    assert not Group(0, {}, (outcome(0, 0, None, "waiting"),), None, None, 0).whole
