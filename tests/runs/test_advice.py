"""What is legal and does not do what was meant: every sentence where it is due, and nowhere else."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

import pytest

import slipstream
from harness import FORMS, tiny
from sampling import slow_after
from slipstream.core.registry import components
from slipstream.runs.advice import advice


def told(changes, form="vector"):
    """All sentences about a configuration, as one text."""
    return "\n".join(advice(tiny(changes), FORMS[form]))


@pytest.mark.slow
def test_the_default_choices_need_no_advice():
    """Every regularizer with its shipped settings, one by one, is passed over in silence."""
    for name in components("regularizer"):
        if name not in ("snapshot_ensemble", "dense_sparse_dense"):
            changes = {"regularizer": [name], "model.residual": True, "trainer.max_epochs": 20}
            assert told(changes | {"optimizer": "adam"}) == "", name


@pytest.mark.parametrize(("levels", "due"), [([0.1, 0.9], True), ([0.1, 0.52], False), ([0.25], True)])
def test_quantiles_without_a_median(levels, due):
    """Predictions are those of the quantile nearest to the median: said where none is near."""
    said = told({"data": "linear", "loss": "quantile", "loss.quantiles": levels})
    assert ("is near the median: predictions and metrics use the quantile" in said) == due
    if due:
        (word,) = shlex.split(re.search(r"set (\S*loss\.quantiles=.*)", said)[1])
        assert slipstream.compose("data=linear", "loss=quantile", word)["loss"]["quantiles"][1] == 0.5


@pytest.mark.parametrize(("epochs", "start", "due"), [(4, 0.75, True), (8, 0.75, False), (4, 0.5, False)])
def test_an_average_of_one_epoch_is_none(epochs, start, due):
    """Stochastic weight averaging needs two epochs or more behind its start."""
    changes = {"regularizer": ["swa"], "trainer.max_epochs": epochs, "regularizer.swa.start": start}
    assert ("averages only the last epoch" in told(changes)) == due


@pytest.mark.parametrize("scheduler", slow_after(3, sorted(components("scheduler"))))
def test_averages_and_cycles_beside_a_schedule(scheduler):
    """SWA is warned of where the schedule ends near zero, snapshots beside any but a constant one."""
    changes = {"scheduler": scheduler, "trainer.max_epochs": 20}
    falls = {"cosine", "coslog", "flat_cosine", "linear", "polynomial", "one_cycle", "warmup_stable_decay"}
    found = "averaging needs weights that still move" in told(changes | {"regularizer": ["swa"]})
    assert found == (scheduler in falls)
    found = "use scheduler=constant" in told(changes | {"regularizer": ["snapshot_ensemble"]})
    assert found == (scheduler != "constant")


def test_an_end_above_zero_is_fine():
    """What the sentence advises ends it."""
    assert (
        told({"scheduler": "cosine", "scheduler.end": 0.1, "regularizer": ["swa"], "trainer.max_epochs": 8})
        == ""
    )


@pytest.mark.parametrize("name", ["l1", "elastic_net"])
@pytest.mark.parametrize(
    ("optimizer", "strength", "proximal", "due"),
    [
        ("adam", 0.0001, True, True),
        ("adam", 0.1, True, False),
        ("adam", 0.0001, False, False),
        ("sgd", 0.0001, True, False),
    ],
)
def test_a_threshold_that_makes_no_zeros(name, optimizer, strength, proximal, due):
    """Beside an adaptive optimizer exact zeros need a larger strength, which is named."""
    changes = {"optimizer": optimizer, "regularizer": [name]}
    changes |= {f"regularizer.{name}.strength": strength, f"regularizer.{name}.proximal": proximal}
    assert (f"set for example regularizer.{name}.strength=0.1" in told(changes)) == due


def test_colours_of_grey_images():
    """Hue and saturation that somebody chose are not used there; the shipped ones were nobody's choice."""
    base = {"data": "shapes", "model": "convnet", "augmentation": ["color_jitter"]}
    grey = replace(FORMS["image"], shape=(1, 6, 6))
    assert not list(advice(tiny(base), grey))
    (found,) = advice(tiny(base | {"augmentation.color_jitter.hue": 0.2}), grey)
    assert found.startswith("augmentation.color_jitter.hue: has no effect")
    assert not list(advice(tiny(base | {"augmentation.color_jitter.hue": 0.2}), FORMS["image"]))
