"""The registry: a group, a name, a function, and its keyword-only arguments as the schema."""

from typing import Annotated, Literal

import pytest
from annotated_types import Gt

import slipstream
from slipstream.core import registry
from slipstream.core.errors import ConfigError
from slipstream.core.registry import (
    Component,
    component,
    components,
    is_number,
    keyword_only,
    register,
    shared,
)
from slipstream.core.types import Count, Fraction, Positive, Real


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """Each test registers into copies."""
    for group in registry.MODULES:  # a group that a test loads would register into the copy, once and for all
        components(group)
    monkeypatch.setattr(registry, "_components", {g: dict(c) for g, c in registry._components.items()})
    monkeypatch.setattr(registry, "_shared", dict(registry._shared))


def test_registering_returns_the_function_and_finds_it_by_name():
    """A decorated function stays what it is; the component calls it and carries its traits."""

    @register("activation", gain=2.0)
    def double(x, *, factor: Real):
        return x * factor

    found = component("activation", "double")
    assert double(3, factor=2) == found(3, factor=2) == 6
    assert found.traits == {"gain": 2.0}
    assert component("activation", "double").function is double


def test_a_name_of_its_own():
    """A name that is no Python identifier, or taken by Python, can be given."""

    @register("activation", name="lambda")
    def anything(x):
        return x

    assert component("activation", "lambda").function is anything


def test_a_taken_name_is_refused():
    """A second function cannot take the place of the first in silence."""
    with pytest.raises(ValueError, match=r"activation=relu is already registered by slipstream\.activations"):

        @register("activation", name="relu")
        def other(x):
            return x


def test_registering_again_is_no_conflict():
    """A module that is reloaded registers the same functions once more."""
    first = components("activation")["relu"].function
    assert register("activation")(first) is first


def test_an_unknown_name_is_answered_with_the_nearest():
    """The error of a misspelled component helps."""
    with pytest.raises(ConfigError, match=r"optimizer=adm: no such option, did you mean adam\?"):
        component("optimizer", "adm")


def test_settings_are_the_keyword_only_arguments_with_their_bounds():
    """Positional arguments belong to the engine; bounds survive; unimportable annotations do not matter."""

    def rule(gradient: "torch.Tensor", *, lr: Positive, steps: "Count") -> "torch.Tensor":  # noqa: F821
        return gradient

    assert keyword_only(rule) == {"lr": Annotated[float, Gt(0)], "steps": Count}
    assert keyword_only(lambda x: x) == {}


def test_a_group_shares_settings():
    """What a group shares is among every member's settings, but not among its own."""

    @shared("scheduler")
    def common(clock, *, warmup: Count):
        return 1

    @register("scheduler")
    def flat(clock, *, level: Real):
        return level

    part = component("scheduler", "flat")
    assert set(part.settings) == {"level", "warmup"}
    assert set(part.own_settings) == {"level"}
    assert registry.shared_function("scheduler") is common


def test_numbers_are_told_from_structure():
    """Floats with or without bounds are numbers; all else is structure."""

    def f(x, *, a: Real, b: Fraction, c: Count, d: bool, e: list[float]):
        return x

    part = Component("activation", "f", f)
    assert part.numbers == {"a", "b"}
    numbers, structure = {"a": 1.0, "b": 0.5}, {"c": 2, "d": True, "e": [1.0]}
    assert part.split(numbers | structure) == (numbers, structure)
    assert is_number(float)
    assert not is_number(int)


def test_the_package_names_what_it_offers():
    """dir(slipstream) has the functions of its interface before one of them was used."""
    assert {"compose", "train", "train_pack", "register", "Result"} <= set(dir(slipstream))


@pytest.mark.parametrize("group", registry.MODULES)
def test_every_component_says_what_it_is(group):
    """Each has a first line for the listing, annotations that can be read, and no defaults in Python."""
    for name, part in components(group).items():
        first = (part.function.__doc__ or "").strip().partition("\n")[0]
        assert first.endswith((".", ":")), f"{group}={name}"
        assert part.settings is not None
        assert not part.function.__kwdefaults__, f"{group}={name} has defaults in Python"
    assert components(group)


def test_options_are_settings_that_the_function_does_not_get():
    """A setting that the trait `options` declares is in the schema, and never handed to the function."""

    def option(*, position: Literal["before", "after"]) -> None:
        """position: where."""

    def function(x: float, *, strength: float) -> float:
        """Nothing."""
        return x * strength

    part = registry.Component("regularizer", "probe", function, {"options": option})
    assert set(part.settings) == {"strength", "position"}
    assert part.split({"strength": 2.0, "position": "after"}) == ({"strength": 2.0}, {})


def test_a_misfit_names_the_options_that_fit():
    """A model that cannot take the data is refused with those that can."""
    assert registry.misfit("model", "mlp", "image", "") is None
    sentence = registry.misfit("model", "mlp", "tokens", "data=text has texts")
    expected = "model=mlp: takes rows of a table or sequences or images, and data=text has texts; one of:"
    assert expected in sentence
