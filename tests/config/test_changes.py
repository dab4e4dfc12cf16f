"""What a run changed from the defaults is named as it would be typed."""

from __future__ import annotations

import shlex

import pytest

import slipstream
from harness import tiny
from slipstream.config import validate
from slipstream.config.changes import changes, chosen, differing, repeating
from slipstream.config.schema import CHOICES, options


def test_nothing_is_changed_in_the_defaults():
    """The composed defaults differ from themselves in nothing, and every group has one."""
    assert changes(validate(slipstream.compose()).raw) == []
    assert set(CHOICES) <= set(chosen())


@pytest.mark.slow
@pytest.mark.parametrize("group", ["optimizer", "scheduler", "early_stopping", "initializer"])
def test_an_option_brings_its_own_defaults(group):
    """Another option is one change: its settings are the ones its file has."""
    usual = changes(tiny().raw)
    for name in set(options(group)) - {"gradient_descent"}:  # it also sets data.batch_size
        found = changes(tiny({group: name}).raw)
        expected = [] if name == chosen()[group] else [f"{group}={name}"]
        assert sorted(set(found) - set(usual)) == sorted(set(expected) - set(usual)), name


@pytest.mark.slow
def test_settings_lists_and_files_are_named(tmp_path):
    """Values as they are typed, files by their names, neither seed nor what no result depends on."""
    (tmp_path / "my.csv").write_text("a,y\n1,2\n3,4\n")
    config = slipstream.compose(
        *("data=table", f"data.path={tmp_path}/my.csv", "data.target=y", "seed=3", "trainer.progress=none"),
        *("regularizer=[dropout,l2]", "regularizer.l2.strength=0.5", "model.width=[8,4]", "logger=none"),
    )
    assert sorted(changes(validate(config).raw)) == sorted(
        [
            *("data=table", "data.path=my.csv", "data.target=y", "model.width=[8,4]"),
            *("regularizer=[dropout,l2]", "regularizer.l2.strength=0.5"),
        ]
    )


@pytest.mark.slow
def test_what_differs_is_spelled_for_each():
    """A choice, its settings, a list and what one of them does not have; the seed; and nothing else."""
    one = slipstream.compose("optimizer=sgd", "optimizer.lr=0.3", "regularizer=[l2]", "model.width=[8,8]")
    other = slipstream.compose("optimizer=adam", "seed=7", "trainer.progress=none", "model.width=[8,8]")
    assert differing([one, other]) == {
        "seed": ["0", "7"],
        "optimizer": ["sgd", "adam"],
        "optimizer.lr": ["0.3", "0.001"],
        "regularizer": ["[l2]", "[]"],
    }
    assert differing([one, one]) == {}


@pytest.mark.slow
def test_the_repeating_command_composes_the_run_again(tmp_path):
    """Words with blanks and quotes, lists, mappings and paths included."""
    file = tmp_path / "a b" / "$x.csv"
    file.parent.mkdir()
    file.write_text("a,b\n1,2\n")
    words = ["data=table", f"data.path='{file}'", "data.target='my column'", "model.width=[8,9]"]
    words += ["data.kinds={'a.b (c)':ignore}"]
    words += ["regularizer=[l2,dropout]", "regularizer.dropout.rate=0.25", "optimizer=sgd", "seed=9"]
    saved = validate(slipstream.compose(*words)).raw
    typed = shlex.split(repeating(saved))
    assert typed[:2] == ["python", "train.py"]
    assert validate(slipstream.compose(*typed[2:])).raw == saved
