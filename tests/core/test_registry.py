"""The registry: a group, a name, a function, and its keyword-only arguments as the schema."""

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Gt

import slipstream
from slipstream.core import registry
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.registry import (
    Component,
    component,
    components,
    is_number,
    keyword_only,
    register,
    shared,
)
from slipstream.core.traits import RECORDS, ActivationTraits, ModelTraits, RegularizerTraits, mistyped
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
    assert found.traits == ActivationTraits(gain=2.0)
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

    part = Component("activation", "f", f, ActivationTraits())
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

    part = Component("regularizer", "probe", function, RegularizerTraits(place="penalty", options=option))
    assert set(part.settings) == {"strength", "position"}
    assert part.split({"strength": 2.0, "position": "after"}) == ({"strength": 2.0}, {})


def test_a_misfit_names_the_options_that_fit():
    """A model that cannot take the data is refused with those that can."""
    assert registry.misfit(components("model"), "mlp", "image", "") is None
    sentence = registry.misfit(components("model"), "mlp", "tokens", "data=text has texts")
    expected = "model=mlp: takes rows of a table or sequences or images, and data=text has texts; one of:"
    assert expected in sentence


LOSS = {"tasks": ("regression",), "outputs": lambda target: 1, "predict": lambda outputs, target: outputs}


@pytest.mark.parametrize(
    ("group", "traits", "said"),
    [
        (
            "loss",
            LOSS | {"probablistic": True},
            "loss=own: probablistic is not a trait of loss, did you mean probabilistic? The traits are auto, "
            "expects_logits, options, outputs, predict, probabilistic, problems, soft, tasks, unscaled (",
        ),
        (
            "loss",
            {"task": ("regression",)},
            "loss=own: task is not a trait of loss, did you mean tasks? The traits",
        ),
        ("scheduler", {"gain": 2.0}, "gain is not a trait of scheduler, one of: options, problems ("),
        ("loss", {}, 'loss=own: has no tasks, expected @register("loss", tasks=("regression",), outputs='),
        ("metric", {"tasks": ("regression",)}, 'has no mode, expected @register("metric", tasks='),
        ("optimizer", {}, 'has no init, expected @register("optimizer", init=()) ('),
        (
            "regularizer",
            {"keyed": True},
            'has no place, expected @register("regularizer", place="penalty") (',
        ),
        (
            "augmentation",
            {},
            'has no kind, expected @register("augmentation", kind="values", takes=("image",)',
        ),
        (
            "metric",
            {"tasks": "regression", "mode": "min"},
            "metric=own: found tasks='regression', expected Sequence[Literal['binary', 'multiclass', ",
        ),
        (
            "metric",
            {"tasks": (), "mode": "maximum"},
            "found mode='maximum', expected Literal['max', 'min'] (",
        ),
        (
            "regularizer",
            {"place": "penalti"},
            "found place='penalti', expected Literal['activity', 'noise'",
        ),
        ("early_stopping", {"validates": "yes"}, "found validates='yes', expected bool ("),
        ("activation", {"gain": "2"}, "found gain='2', expected float | Callable[..., float] ("),
        (
            "model",
            {"takes": ("rows",)},
            "found takes=('rows',), expected Sequence[Literal['vector', 'sequence'",
        ),
    ],
)
def test_a_wrong_trait_is_an_error_where_it_is_registered(group, traits, said):
    """Unknown, missing and mistyped ones are named with what is right, and the function is not registered."""

    def own(x):
        return x

    with pytest.raises(UserError, match=re.escape(said)) as error:
        register(group, **traits)(own)
    assert f"{Path(__file__).name}, line {own.__code__.co_firstlineno})" in str(error.value)
    assert "own" not in components(group)


def test_all_unknown_traits_are_named():
    """Each has a line of the message."""
    with pytest.raises(UserError) as error:
        register("metric", name="own", mod="max", tasks=("regression",), probabilities=True)(lambda x: x)
    assert [line.partition(" is not a trait")[0] for line in str(error.value).splitlines()] == [
        "metric=own: mod",
        "metric=own: probabilities",
    ]


def test_traits_that_are_not_given_have_defaults():
    """A user's model has hidden layers, takes every kind of example, and objects to nothing."""

    @register("model", dense=True)
    def own(form, outputs, parts):
        return None

    traits = component("model", "own").traits
    assert traits == ModelTraits(dense=True)
    assert (traits.hidden, traits.grows, traits.compiles, traits.options) == (True, False, True, None)
    assert set(traits.takes) == set(registry.EXAMPLES)
    assert traits.problems({}) == []


@pytest.mark.parametrize("group", registry.MODULES)
def test_our_own_traits_have_the_types_of_their_record(group):
    """Types are checked for users' functions when they are registered, and here for ours."""
    for name, part in components(group).items():
        assert list(mistyped(part.traits)) == [], name


@pytest.mark.parametrize("group", registry.MODULES)
def test_every_trait_is_documented(group):
    """Each field has a line in its record's docstring, which says what it tells the engine."""
    record = RECORDS[group]
    own = [field.name for field in fields(record) if field.name in record.__annotations__]
    assert re.findall(r"^(\w+):", inspect.getdoc(record), re.MULTILINE) == own
