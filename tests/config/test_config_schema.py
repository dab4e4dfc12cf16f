"""Values against annotations: in words, in bounds, and never a crash."""

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from slipstream.config import Config, validate
from slipstream.config.schema import CHOICES, SECTIONS, describe, mismatch
from slipstream.core.errors import ConfigError
from slipstream.core.types import Count


def test_validate_needs_no_hydra_and_finds_what_is_absent(plain):
    """A mapping from anywhere is held to the same rules, and missing or foreign sections are named."""
    broken = {key: value for key, value in plain.items() if key not in ("optimizer", "trainer", "seed")}
    with pytest.raises(ConfigError) as caught:
        validate(broken | {"modle": 1, "loss": "mse", "activation": {"name": "rleu"}, "regularizer": []})
    text = str(caught.value)
    for hint in (
        "optimizer: no option is selected",
        "trainer: found null",
        "seed: has no value",
        "modle: no such key",
    ):
        assert hint in text
    assert "loss: no option is selected" in text
    assert "activation.name: found 'rleu', no such option, did you mean relu?" in text
    assert "regularizer: expected names" in text


def test_types_in_words():
    """Annotations are described as the messages and the listing show them."""
    assert describe(Count | list[Count]) == "whole number >= 1 or list of (whole number >= 1)"
    assert describe(bool | None) == "true or false or null"
    assert describe(dict[str, float]) == "mapping of (text) to (number)"
    assert set(SECTIONS["trainer"]) == {"default"}


def test_a_long_value_is_shortened():
    """A message stays one line, whatever was typed."""
    assert len(mismatch("key", "x" * 10_000, Count)) < 150


def is_valid_or_reported(mapping):
    try:
        return isinstance(validate(mapping), Config)
    except ConfigError as error:
        return bool(error.problems)


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("???")
nested = st.recursive(values, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)


@pytest.mark.slow
@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(key=st.sampled_from(["seed", "optimizer", "regularizer", "trainer", "model", "data"]), value=nested)
def test_whatever_stands_in_a_section_is_valid_or_reported(plain, key, value):
    """Any value in place of a section or key gives a Config or a ConfigError, nothing else."""
    assert is_valid_or_reported(plain | {key: value})


@pytest.mark.slow
@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), value=nested)
def test_whatever_stands_in_a_setting_is_valid_or_reported(plain, data, value):
    """Any value of any setting gives a Config or a ConfigError that names the key."""
    group = data.draw(st.sampled_from([group for group in CHOICES if len(plain[group]) > 1]))
    key = data.draw(st.sampled_from(list(plain[group])))
    assert is_valid_or_reported(plain | {group: plain[group] | {key: value}})


def test_a_key_that_is_no_text_is_named(plain):
    """YAML takes any scalar for a key; found by scripts/fuzz.py."""
    raw = plain | {"trainer": {None: None}}
    with pytest.raises(ConfigError, match="trainer: found the key null, expected the name of a setting"):
        validate(raw)
