"""A component of a user's own that breaks its contract is its author's mistake, said with the signature."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from sampling import slow_after
from slipstream import compose, train
from slipstream.cli import listing
from slipstream.core import registry
from slipstream.core.contracts import own_fault, problems
from slipstream.core.errors import ConfigError, UserError
from slipstream.core.lazy import torch
from slipstream.core.registry import Component, register
from slipstream.core.traits import LossTraits, foreign
from slipstream.core.types import Positive

CLASSES = {
    "tasks": ("binary", "multiclass"),
    "outputs": lambda target: len(target.classes),
    "predict": lambda outputs, target: outputs.softmax(-1),
}
SETTINGS = {
    "optimizer": {"lr": 0.1},
    "regularizer": {"strength": 0.1},
    "scheduler": {"warmup_steps": 0},
    "initializer": {"bias": 0.0},
}


def made(group, function, **traits):
    """What `train` says to the function as the chosen component of its group."""
    register(group, "own", **traits)(function)
    try:
        config = compose("data=iris", "trainer.max_epochs=1", "trainer.compile=false", "seed=1")
        if group == "regularizer":
            config["regularizer"] = {"own": SETTINGS[group]}
        elif group == "metric":
            config["trainer"]["metrics"] = ["own"]
        else:
            config[group] = {"name": "own", **SETTINGS.get(group, {})}
        with pytest.raises(ConfigError) as error:
            train(config)
        (sentence,) = error.value.problems
        return sentence
    finally:
        del registry._components[group]["own"]


def lacks_targets(outputs):
    return outputs.sum(-1)


def a_mean(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets)


def nothing(*_):
    return None


def one_value(gradient, state, at, *, lr: Positive):
    return -lr * gradient


def broadcasts(gradient, state, at, *, lr: Positive):
    return -lr * gradient.sum(), state


def grows(gradient, state, at, *, lr: Positive):
    return -lr * gradient, {"more": gradient}


def two_arguments(a, b, *, strength: Positive):
    return a


def not_summed(weights, *, strength: Positive):
    return strength * weights


def no_weights(scores, targets):
    return scores.sum()


def python_number(scores, targets, weights):
    return 0.5


def narrow(form, outputs, parts):
    return torch.nn.Linear(form.shape[0], outputs + 1)


def another_width(form, outputs, parts):
    return torch.nn.Linear(64, outputs)


class Two(torch.nn.Module):
    """Written as a network of plain PyTorch."""

    def __init__(self, inputs, outputs, *, width: int = 8):
        super().__init__()


def untyped(outputs, targets, *, scale, power: "Nowhere"):  # noqa: F821
    return outputs.sum(-1)


def scaled(outputs, targets, *, scale: Positive):
    return outputs.sum(-1) * scale


BREACHES = [
    (
        "loss",
        lacks_targets,
        CLASSES,
        "takes (outputs), expected lacks_targets(outputs, targets) -> ",
    ),
    ("loss", a_mean, CLASSES, "returned a tensor of shape [], expected the losses [N], one for each example"),
    ("loss", nothing, CLASSES, "returned None, expected the losses [N]"),
    ("activation", lambda x, y: x, {}, "takes (x, y), expected <lambda>(x) -> a tensor of x's shape"),
    ("activation", lambda x: x.sum(-1), {}, "returned a tensor of shape [3], expected a tensor of x's shape"),
    (
        "optimizer",
        one_value,
        {"init": ()},
        "a tensor of shape [8], expected the update [P] and the new state",
    ),
    ("optimizer", broadcasts, {"init": ()}, "returned a tensor of shape [], expected the update [P]"),
    ("optimizer", grows, {"init": ()}, "returned the state ['more'], which was initially []"),
    (
        "metric",
        no_weights,
        {"tasks": ("multiclass",), "mode": "max"},
        "no_weights(scores, targets, weights)",
    ),
    (
        "metric",
        python_number,
        {"tasks": ("multiclass",), "mode": "max"},
        "a float, expected a tensor without",
    ),
    ("model", narrow, {}, "returned a network that returns a tensor of shape [2, 4] for 2 examples"),
    ("model", another_width, {}, "returned a network that rejects inputs of shape [2, 4]"),
    ("model", Two, {}, "own: is a class, expected a function, def own(form, outputs, parts, *, width): that"),
    (
        "loss",
        untyped,
        CLASSES,
        "the type of scale, power cannot be read; expected for example scale: Positive",
    ),
    ("loss", scaled, CLASSES, "outputs=lambda(target), expected outputs=lambda target, **_: ..."),
    (
        "loss",
        scaled,
        CLASSES | {"outputs": lambda target, **_: 3},
        "predict=lambda(outputs, target), expected predict=lambda outputs, target, **_: ...",
    ),
    ("model", nothing, {}, "returned None, expected an nn.Module"),
    (
        "regularizer",
        two_arguments,
        {"place": "penalty"},
        "two_arguments(weights, *, strength) -> a number",
    ),
    ("regularizer", not_summed, {"place": "penalty"}, "returned a tensor of shape [8], expected a number"),
    ("scheduler", lambda step, total: 1.0, {}, "expected <lambda>(clock) -> the factors [S]"),
    ("scheduler", lambda clock: 1.0, {}, "returned a float, expected the factors [S], an array"),
    (
        "initializer",
        lambda tensor: tensor,
        {},
        "<lambda>(key, shape, gain) -> a tensor of the shape",
    ),
]


def test_what_the_sentence_says_to_write_is_right():
    """A loss with a setting, registered as the hint for a bare @register says, keeps the contract."""
    with pytest.raises(UserError) as error:
        register("loss", "own")(scaled)
    written = re.search(r"expected @register\((.*)\) \(", str(error.value))[1]
    traits = LossTraits(**eval(f"dict({written.partition(',')[2]})"))  # the line that a user copies
    assert list(problems(Component("loss", "scaled", scaled, traits))) == []


@pytest.mark.slow
def test_a_wrong_registration_breaks_no_other_option():
    """A class in place of a function, or a setting without type, leaves hints and listings as they are."""
    register("model", "own")(Two)
    register("loss", "own", **CLASSES)(untyped)
    try:
        with pytest.raises(ConfigError, match=r"did you mean optimizer\.lr=0\.1\?"):
            compose("optimizer.learning_rate=0.1")
        with pytest.raises(ConfigError, match=r"has no such setting"):
            compose("optimizer.widt=3")
        config = compose("data=iris") | {"model": {"name": "Own", "width": 8}}
        with pytest.raises(ConfigError, match=r"did you mean own\? \(model=own: is a class"):
            train(config)
        page = io.StringIO()
        with contextlib.redirect_stdout(page):
            listing.show(["list", "model"])
        assert "model=own: is a class, expected a function" in " ".join(page.getvalue().split())
    finally:
        del registry._components["model"]["own"], registry._components["loss"]["own"]


@pytest.mark.parametrize(("group", "function", "traits", "said"), slow_after(1, BREACHES))
def test_a_breach_is_named_with_what_is_expected(group, function, traits, said):
    """Wrong arguments and a wrong return each have a sentence with file and line."""
    found = made(group, function, **traits)
    assert said in found
    assert Path(__file__).name in found


def test_our_own_components_keep_the_table_of_calls():
    """The arguments that messages name are those that our components take, in every group."""
    for group in registry.MODULES:
        for part in registry.components(group).values():
            assert not foreign(part.function) or part.name == "own"
            function = type(part)(group, part.name, part.function, part.traits)
            object.__setattr__(function, "function", _as_foreign(part.function))
            assert list(problems(function)) == [], part.name


def _as_foreign(function):
    """The same function, as if a user's module held it."""
    import functools

    @functools.wraps(function)
    def own(*arguments, **settings):
        return function(*arguments, **settings)

    own.__module__ = "mine"
    return own


@pytest.mark.slow
def test_an_exception_in_own_code_is_its_authors(tmp_path, warm):
    """It ends with 2, names file, line and exception, and does not speak of a bug of slipstream."""
    (tmp_path / "train.py").write_text(
        "from slipstream import register\nfrom slipstream.cli import main\n\n\n"
        '@register("activation")\ndef mine(x):\n    return x + undefined\n\n\nmain()\n'
    )
    folder = tmp_path / "options" / "activation"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("name: mine\n")
    command = ["train.py", "--config-dir", "options", "data=iris", "activation=mine"]
    for more in ([], ["-m", "seed=0,1"]):
        ended = warm.python(*command, *more, cwd=tmp_path)
        assert ended.returncode == 2, ended.stderr
        assert "train.py, line 7, in mine: return x + undefined" in ended.stderr
        assert "NameError: name 'undefined' is not defined" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert "bug" not in ended.stderr


def test_an_exception_of_ours_stays_ours():
    """Where the innermost code is slipstream's or a library's, nobody else is blamed."""
    with pytest.raises(TypeError) as ours:
        compose.__globals__["validate"](*range(3))
    assert own_fault(ours.value) is None
    with pytest.raises(AttributeError) as inner:
        registry.register("loss")(None)
    assert own_fault(inner.value) is None
