"""Axes, conditions and the grid that they span."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.sweeps.plan.space import Choices, Condition, Interval, Space

OPTIMIZERS = Choices("optimizer", ("sgd", "momentum"))
MOMENTUM = Choices("optimizer.momentum", (0.5, 0.9))
ONLY_MOMENTUM = {"optimizer.momentum": Condition(("optimizer",), (("momentum",),))}


def test_a_grid_has_all_combinations_the_last_axis_fastest():
    """The order is that of nested loops, as Hydra's own sweeper has it."""
    space = Space((Choices("a", (1, 2)), Choices("b", ("x", None, [3]))))
    rows = [tuple(values.values()) for values in space.grid()]
    assert rows == list(itertools.product((1, 2), ("x", None, [3])))
    assert space.size == 6


def test_combinations_that_become_equal_are_one():
    """Where a key does not apply it is left out, and what remains comes once."""
    assert list(Space((OPTIMIZERS, MOMENTUM), ONLY_MOMENTUM).grid()) == [
        {"optimizer": "sgd"},
        {"optimizer": "momentum", "optimizer.momentum": 0.5},
        {"optimizer": "momentum", "optimizer.momentum": 0.9},
    ]


def test_values_that_are_written_twice_stay_two():
    """Only conditions merge combinations: what a user repeats is repeated."""
    assert len(list(Space((Choices("seed", (1, 1)),)).grid())) == 2


def test_true_is_not_one():
    """Combinations are equal by what is written, not by Python's True == 1."""
    axes = (OPTIMIZERS, MOMENTUM, Choices("x", (1, True, 1.0)))
    assert (
        len([values for values in Space(axes, ONLY_MOMENTUM).grid() if "optimizer.momentum" not in values])
        == 3
    )


def test_the_order_of_asking_answers_every_condition():
    """What others depend on is chosen first, whatever the order on the command line."""
    space = Space((MOMENTUM, Interval("lr", 0.1, 1), OPTIMIZERS), ONLY_MOMENTUM)
    assert [axis.key for axis in space.in_asking_order] == ["lr", "optimizer", "optimizer.momentum"]


def test_a_condition_may_hang_on_lists():
    """A list of regularizers is a value like any other."""
    space = Space(conditions={"regularizer.dropout.rate": Condition(("regularizer",), ((["dropout"],),))})
    assert space.applies("regularizer.dropout.rate", {"regularizer": ["dropout"]})
    assert not space.applies("regularizer.dropout.rate", {"regularizer": []})


def test_an_interval_has_no_grid():
    """Its values have no number."""
    space = Space((Interval("lr", 0.1, 1),))
    assert space.size is None
    with pytest.raises(ValueError, match="lr"):
        list(space.grid())


plain = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text())
)
axes = st.builds(Choices, st.text(), st.lists(plain, min_size=1).map(tuple)) | st.builds(
    Interval, st.text(), st.floats(allow_nan=False), st.floats(allow_nan=False), st.booleans(), st.booleans()
)


@pytest.mark.slow
@given(st.lists(axes), st.dictionaries(st.text(), st.just(Condition(("a", "b"), (("x", []), (1, None))))))
def test_a_space_survives_json(axes, conditions):
    """What is written and read is the same space."""
    space = Space(tuple(axes), conditions)
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space
