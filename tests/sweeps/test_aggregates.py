"""What a sweep's report says is what its numbers carry, and no more."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sampling import exhaustive_after
from slipstream.sweeps.plan.job import Outcome
from slipstream.sweeps.plan.space import Choices, Interval
from slipstream.sweeps.report import aggregates
from slipstream.sweeps.report.aggregates import Group, deviation, edges, groups, importance
from slipstream.sweeps.report.chance import chances


@pytest.fixture(autouse=True)
def few_forests(monkeypatch):
    """A fourth of the forests: what is asked of them hangs on no last digit."""
    monkeypatch.setattr(aggregates, "FORESTS", 5)


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


def test_what_agrees_up_to_rounding_does_not_deviate():
    """Three equal values have a deviation of 0, and so have those whose last bits differ."""
    for values in ([0.6] * 3, [0.1 + 0.2, 0.3, 0.3], [0.7 - 1e-16] * 7, [0.0, 0.0]):
        assert trial(0, values).std == 0.0
        assert deviation(values) == 0.0
    assert trial(0, [0.3, 0.3 + 1e-9]).std == pytest.approx(stats.tstd([0.3, 0.3 + 1e-9]))
    assert deviation([1.0]) is None


def test_members_with_different_budgets_have_no_deviation():
    """Where a pruner cut some of a trial's members short; those that stopped by themselves are as before."""
    members = [outcome(i, 0, 1.0 + i, "pruned" if i else "finished", seed=i) for i in range(3)]
    cut = [members[0], dataclasses.replace(members[1], epochs=2), members[2]]
    (group,) = groups(cut, True)
    assert (group.mean, group.std, group.n) == (2.0, None, 3)
    assert group.remark == "2 of 3 pruned, 2-5 epochs"
    (group,) = groups(members, True)
    assert (group.std, group.remark) == (1.0, "2 of 3 pruned")
    early = [dataclasses.replace(member, status="stopped_early") for member in cut]
    assert groups(early, True)[0].std == 1.0


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


def test_what_was_trained_twice_counts_once():
    """An older sweep may hold one seed twice: mean, deviation and n are those of the seeds."""
    once = [outcome(i, 0, v, seed=i) for i, v in enumerate((1.0, 2.0, 6.0))]
    (group,) = groups([*once, *(outcome(9 + i, 0, m.value, seed=m.seed) for i, m in enumerate(once))], True)
    assert (group.mean, group.n, group.std) == (3.0, 3, pytest.approx(stats.tstd([1, 2, 6])))


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_key_that_matters_only_together_with_another_counts():
    """The best rate of one optimizer is the worst of the other: the rate's own means are all equal."""
    axes = {"opt": ["a", "b"], "lr": [1, 2, 3, 4, 5, 6, 7, 8], "dead": [0, 1]}
    found, _ = importance(many(lambda draw, opt, lr, dead: lr if opt == "a" else 9 - lr, axes), True)
    assert {entry.key: entry.clear for entry in found} == {"opt": True, "lr": True, "dead": False}


def factorial(effects, noise, seed):
    """Trials of 3 rates x 2 optimizers x 2 widths x 2 activations, one each, whose effects add up."""
    axes = {"lr": [0.001, 0.01, 0.1], "opt": ["a", "b"], "width": [4, 16], "act": ["r", "t"]}
    places = {key: {value: i for i, value in enumerate(values)} for key, values in axes.items()}

    def value(draw, **row):
        parts = zip(effects, row.items(), strict=True)
        return sum(effect * places[key][v] for effect, (key, v) in parts) + draw.normal(0, noise)

    return many(value, axes, seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "effects",
    exhaustive_after(
        2, [((2, 1.5, 0, 0),), ((2, 2, 0, 0),), ((2, 1, 0.7, 0),), ((1, 1, 1, 1),), ((0, 2, 0, 0),)]
    ),
)
def test_what_matters_in_a_factorial_is_told_from_chance(effects):
    """As the F test of an analysis of variance tells it, in 24 trials with noise of a tenth."""
    keys = ("lr", "opt", "width", "act")
    for seed in range(3):
        found, _ = importance(factorial(effects, 0.1, seed), True)
        clear = {entry.key for entry in found if entry.clear}
        assert clear >= {key for key, effect in zip(keys, effects, strict=True) if effect}
        assert len(clear) <= sum(map(bool, effects)) + 1


def analysis_of_variance(keys, values):
    """The p of each key's main effect in a full factorial, with its sums of squares written out."""
    rest, parts = values - values.mean(), []
    for key in keys:
        levels = sorted(set(key))
        means = {level: rest[[k == level for k in key]].mean() for level in levels}
        parts.append((len(levels) - 1, np.array([means[k] for k in key])))
    free = len(values) - 1 - sum(degrees for degrees, _ in parts)
    error = ((rest - sum(part for _, part in parts)) ** 2).sum() / free
    return [stats.f.sf((part**2).sum() / degrees / error, degrees, free) for degrees, part in parts]


@pytest.mark.slow
def test_chance_tells_what_the_f_test_tells():
    """Of effects far above and far below the noise, in 24 trials: the same keys, at the same level."""
    rows = list(itertools.product([1, 2, 3], "ab", [4, 16], "rt"))
    keys = [list(column) for column in zip(*rows, strict=True)]
    for seed in range(20):
        draw = np.random.default_rng(seed)
        values = np.array([2.0 * (row[0] + (row[1] == "b")) for row in rows]) + draw.normal(0, 0.3, 24)
        expected = np.minimum(4 * np.array(analysis_of_variance(keys, values)), 1) < 0.05
        assert expected[:2].all()
        found = np.array(chances(keys, stats.rankdata(values))) < 0.05
        assert found[:2].all()


@pytest.mark.slow
@pytest.mark.parametrize("design", exhaustive_after(1, ["grid", "random", "conditional"]))
def test_chance_makes_a_key_clear_in_one_sweep_of_twenty(design):
    """Where nothing matters, some key is told from chance in 5 % of the sweeps at most."""
    draw, wrong = np.random.default_rng(0), 0
    for _ in range(60):
        if design == "grid":
            keys = list(zip(*itertools.product([1, 2, 3], "ab", [4, 16], "rt"), strict=True))
        elif design == "random":
            keys = list(draw.random((4, 24)))
        else:
            keys = [["a", "b"] * 12, [None, 1.0, None, 2.0, None, 3.0] * 4, list(draw.integers(3, size=24))]
        order = stats.rankdata(draw.normal(size=24))
        wrong += min(chances([[*map(plain, key)] for key in keys], order)) < 0.05
    assert wrong <= 7  # of 3 expected, with a deviation of 1.7


def plain(value):
    """numpy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.slow
def test_null_is_a_value_that_can_matter():
    """A key whose values are null and a number applies to all trials."""
    axes = {"clip": [None, 1.0], "lr": list(range(12))}
    found, _ = importance(many(lambda draw, clip, lr: (clip is None) + 0.01 * lr, axes), True)
    assert {entry.key: entry.clear for entry in found}["clip"]


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_conditional_key_has_its_part(monkeypatch):
    """A key that only half of the trials have is found where it decides among them."""
    monkeypatch.setattr(aggregates, "FORESTS", 20)
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
    assert found == ([], "9 trials are too few to tell which of 3 keys are important: about 18 are needed")


@pytest.mark.slow
def test_noise_is_said_to_be_noise():
    """Where nothing depends on what was swept, no key gets a share."""
    found, reason = importance(many(lambda draw, **keys: draw.normal(), {"a": range(8), "b": range(8)}), True)
    assert found == []
    assert reason == "64 trials do not show which keys are important: their order looks random"


def test_one_key_needs_no_importance():
    """With a single key there is nothing to be weighed."""
    assert importance(many(lambda draw, a: a, {"a": range(20)}), True) == ([], "")


@pytest.mark.slow
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
