from types import SimpleNamespace

import numpy as np
import pytest
import torch

import slipstream
from slipstream.config.validation import validate
from slipstream.core.types import Target
from slipstream.data import Split
from slipstream.runs.summary import Result
from slipstream.runs.symptoms import EndOfRun, class_shares, symptoms

TARGET = Target("binary", ("kind",), classes=("a", "b"))
GOOD = {"train/accuracy": 0.93, "val/accuracy": 0.9, "test/accuracy": 0.9}
LAYER = {"layers/hidden.0/dead": 0.1, "layers/hidden.0/saturated": None, "probe/penalty_share": 0.01}


@pytest.fixture(scope="module")
def usual():
    return validate(slipstream.compose("data=two_moons"))


def ended(config, status="finished", best=10, observed=LAYER, losses=(0.5, 0.3, 0.29), **values):
    metrics = GOOD | {f"{split}/accuracy": value for split, value in values.items()}
    records = [{"val/loss": loss} for loss in losses]
    result = Result(status, "", best, metrics, metrics, records, {}, observations=[observed])
    return EndOfRun(config, TARGET, result, (700, 150, 150), np.array([0.5, 0.5]))


def test_a_constant_prediction_is_weighted_as_the_accuracy_is():
    """Class weights apply only in updates."""
    targets, weights = torch.tensor([0, 0, 0, 1]), torch.tensor([0.1, 0.1, 0.2, 0.4])
    for train in (
        Split(targets, targets, weights),
        Split(targets, targets, weights * torch.tensor([1, 1, 1, 9.0]), counts=weights),
    ):
        assert class_shares(SimpleNamespace(train=train, target=TARGET)) == pytest.approx([0.5, 0.5])


def test_a_healthy_run_is_silent(usual):
    assert symptoms(ended(usual)) == []
    assert symptoms(ended(usual, train=1.0, val=1.0, test=1.0, losses=(0.1, 0.05, 0.01))) == []
    assert symptoms(ended(usual, train=0.88, val=0.93)) == []  # dropout: validation above training


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "diverged"}, "the loss diverged"),
        (
            {"observed": LAYER | {"layers/hidden.1/dead": 1.0}},
            "100% of the units of hidden.1 are 0 for every row",
        ),
        (
            {"observed": {"layers/hidden.0/saturated": 0.9}},
            "90% of the outputs of hidden.0 are saturated",
        ),
        ({"observed": {"probe/penalty_share": 0.7}}, "70% of the objective is the penalty"),
        ({"observed": {"updates/gradient_left_by_clipping": 0.01}}, "clipping leaves 1.0% of the gradient"),
        (
            {"train": 0.51, "val": 0.5},
            "train/accuracy is 0.51; a constant prediction scores 0.5",
        ),
        ({"val": 0.3, "test": 0.3}, "val/accuracy is 0.3; a constant prediction scores 0.5"),
        ({"train": 0.99, "val": 0.7, "test": 0.7}, "train/accuracy is 0.99, but val/accuracy is 0.7"),
        ({"val": 0.9, "test": 0.6}, "val/accuracy is 0.9, but test/accuracy is 0.6"),
        ({"status": "stopped_early", "best": 2}, "early stopping kept epoch 2 of 50"),
        ({"losses": (1.0, 0.8, 0.6)}, "the loss still falls: by 25% in the last epoch"),
    ],
)
def test_each_symptom_is_said_with_its_number(usual, changes, expected):
    assert expected in symptoms(ended(usual, **changes))


def test_a_rate_far_from_the_usual_and_a_wrong_direction_are_symptoms():
    config = validate(slipstream.compose("data=two_moons", "optimizer.lr=1e-6", "trainer.mode=max"))
    found = symptoms(ended(config))
    assert found == [
        "the learning rate 1e-06 is 0.001 times the usual 0.001",
        "mode=max keeps the worst epoch by val/loss",
    ]
