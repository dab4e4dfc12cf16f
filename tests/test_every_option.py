"""The central theorem, for every option of every group and every choice that an option has.

A run is a pure function of its configuration and data: it does not matter whether it trains alone
or in a pack, with whom, in which place, or with an interruption in between.
"""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import pytest
import torch

from harness import tiny, tiny_data, train
from slipstream.config.files import defaults
from slipstream.core.registry import LISTS, MODULES, component, components

GROUPS = (
    *("activation", "initializer", "loss", "optimizer", "scheduler"),
    *("early_stopping", "regularizer", "model", "augmentation"),
)
# Settings of models that make them small enough for a test.
SMALL = {"width": 5, "channels": 4}


def variants() -> list[Any]:
    """Every option with its YAML's settings: of each group one is fast, every sixth one slow, the others
    exhaustive; and exhaustively with each other choice of a bool or a Literal."""
    made = []
    for group in GROUPS:
        for number, (name, part) in enumerate(components(group).items()):
            marks = () if number == 0 else pytest.mark.exhaustive if number % 6 else pytest.mark.slow
            made.append(pytest.param(group, name, {}, id=f"{group}={name}", marks=marks))
            usual = defaults(group, name)
            for setting, annotation in part.own_settings.items():
                choices = get_args(annotation) if get_origin(annotation) is Literal else ()
                choices = (True, False) if annotation is bool else choices
                made += [
                    pytest.param(
                        group,
                        name,
                        {setting: choice},
                        id=f"{group}={name},{setting}={choice}",
                        marks=pytest.mark.exhaustive,
                    )
                    for choice in choices
                    if choice != usual[setting]
                ]
    return made


def tasks() -> list[Any]:
    """Every loss with each task that it fits, past the last one, which `variants` has."""
    losses = components("loss").values()
    return [
        pytest.param(
            "loss", part.name, {"task": task}, id=f"loss={part.name},{task}", marks=pytest.mark.exhaustive
        )
        for part in losses
        for task in part.traits.tasks[:-1]
        if not part.traits.auto
    ]


# A source that is of that form for the configuration; the examples are tiny_data's.
OF_FORM = {"image": "digits", "sequence": "adding_problem"}


def fitting(group: str, name: str, choice: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Data that the option is for, and the configuration that chooses it."""
    traits = vars(component(group, name).traits)
    changes: dict[str, Any] = {group: [name] if group in LISTS else name}
    takes = traits.get("takes", ("vector",))
    form = "vector" if "vector" in takes else takes[0]
    data = tiny_data(form=form)
    if form in OF_FORM:
        changes |= {"data": OF_FORM[form], "data.batch_size": 12}
    if group == "augmentation" and form != "vector":
        changes["model"] = "mlp" if form != "tokens" else "rnn"
        changes |= {"model.width": 5, "model.depth": 1}
    if traits.get("fits_epochs"):
        changes["trainer.max_epochs"] = 5  # as many as the cycles, and three phases
    if traits.get("check"):
        changes |= {"model.width": 6, "regularizer.group_norm.groups": 2}
    if traits.get("on") == "branch":
        changes |= {"model.residual": True, "model.depth": 2}
    if group == "loss":
        task = choice.pop("task", traits["tasks"][-1])
        data = tiny_data(task, counts=traits["unscaled"])
    if traits.get("output_only"):
        changes = {"model.output_activation": name, "loss": "mse"}
    if traits.get("full_batch"):
        changes |= {"data.batch_size": "full", "trainer.max_epochs": 5}  # one update an epoch
    if group == "model":
        changes |= {f"model.{key}": value for key, value in SMALL.items() if key in defaults(group, name)}
        if not traits["hidden"]:
            changes["activation"] = "identity"
    prefix = f"{group}.{name}." if group in LISTS else f"{group}."
    return data, changes | {prefix + setting: value for setting, value in choice.items()}


def members(group: str, name: str, changes: dict[str, Any]) -> list[Any]:
    """Three members with different seeds, learning rates and values of all of the option's numbers."""
    first = tiny(changes)
    prefix = f"{group}.{name}." if group in LISTS else f"{group}."
    settings = first.raw[group][name] if group in LISTS else getattr(first, group).settings
    part = component(group, name)
    numbers = {prefix + key: settings[key] for key in settings if key in part.numbers}
    numbers |= {"optimizer.lr": first.optimizer.settings["lr"]}
    varied = [
        {key: value * (1 - 0.05 * k) if value else 0.02 * k for key, value in numbers.items()}
        for k in range(3)
    ]
    return [tiny(changes | own, seed=k + 5) for k, own in enumerate(varied)]


@pytest.mark.parametrize(("group", "name", "choice"), [*variants(), *tasks()])
def test_a_run_is_the_same_alone_in_any_pack_and_after_an_interruption(group, name, choice):
    """Training stays finite and moves the weights; a member of a pack has the same bytes in another
    pack, at another place, and equals itself alone; an interruption leaves no trace."""
    data, changes = fitting(group, name, dict(choice))
    three = members(group, name, changes)
    pack = train(three, data)
    fewer = train([three[2], three[0]], data)
    assert fewer.bytes(0) == pack.bytes(2)
    assert fewer.bytes(1) == pack.bytes(0)

    for k in (0, 1):
        together, alone = pack.tensors(k), train(three[k], data)
        assert all(tensor.isfinite().all() for tensor in together.values())
        for key, tensor in alone.tensors().items():
            # Alone, numbers are Python's doubles and the gradient is autograd's; packed, numbers are
            # float32 tensors and functions batched. The largest of all differences was 3e-5, in radam,
            # whose rate begins as a small difference of large numbers. Convolutions of a pack are other
            # products, summed in another order: 3e-6 where weights are about 0.1, in a resnet of 20 layers.
            atol = 1e-5 if data.form.kind == "image" else 1e-6
            torch.testing.assert_close(together[key], tensor, rtol=1e-4, atol=atol)
        start = alone.engine.start()
        assert not torch.equal(alone.progress.state.params, start.params) or name == "zeros"

    resumed = train(three[1], data, resume=train(three[1], data, interrupt_after=4))
    assert resumed.bytes() == alone.bytes()


def test_every_option_is_tried():
    """The table holds every option of every group that shapes a run."""
    tried = {(row.values[0], row.values[1]) for row in variants()}
    assert tried == {(group, name) for group in GROUPS for name in components(group)}
    assert set(MODULES) - set(GROUPS) == {"data", "metric", "logger"}  # which have tests of their own
