"""Generated data: their formulas, their noise, and that a seed gives them again."""

import numpy as np
import pytest
from sklearn.datasets import make_circles, make_moons

from slipstream import data
from slipstream.core.registry import component, components

NOISY = ["xor", "two_moons", "circles", "spirals", "sine", "linear"]


def make(name, **settings):
    return component("data", name)(**settings)


def test_xor_is_the_exclusive_or_of_its_corners():
    """Without noise there are four corners, equally often, and the class is their exclusive or."""
    raw = make("xor", rows=40, noise=0.0, seed=0)
    corners, counts = np.unique(raw.inputs, axis=0, return_counts=True)
    assert corners.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert set(counts) == {10}
    assert np.array_equal(raw.targets, raw.inputs[:, 0] != raw.inputs[:, 1])


@pytest.mark.parametrize("rows", [60, 61])
@pytest.mark.parametrize(
    ("name", "settings", "reference"),
    [
        ("two_moons", {}, lambda half: make_moons(half, shuffle=False)),
        ("circles", {"inner": 0.4}, lambda half: make_circles(half, shuffle=False, factor=0.4)),
    ],
)
def test_shapes_equal_scikit_learn(name, settings, reference, rows):
    """Without noise the points and classes are those of scikit-learn's generator."""
    ours = make(name, rows=rows, noise=0.0, seed=0, **settings)
    half = (rows + 1) // 2
    points, labels = reference((half, rows - half))
    assert np.allclose(ours.inputs, points, atol=1e-12)  # the same formulas in float64
    assert np.array_equal(ours.targets, labels)


def test_spirals_are_turned_copies():
    """Arm k is arm 0 turned by k/arms of a circle, and every arm starts and ends at its radii."""
    raw = make("spirals", rows=300, arms=3, turns=1.0, noise=0.0, seed=0)
    plane = raw.inputs[:, 0] + 1j * raw.inputs[:, 1]
    arms = [plane[raw.targets == k] for k in range(3)]
    for k in range(3):
        assert np.allclose(arms[k], arms[0] * np.exp(2j * np.pi * k / 3), atol=1e-12)
        assert np.allclose(np.abs(arms[k])[[0, -1]], [0.1, 1.0])


def test_sine_follows_its_formula():
    """Without noise y is the sine of x, and x fills the interval."""
    raw = make("sine", rows=500, periods=3.0, noise=0.0, seed=4)
    assert np.allclose(raw.targets, np.sin(6 * np.pi * raw.inputs), atol=1e-12)
    assert raw.inputs.min() < 0.02
    assert 0.98 < raw.inputs.max() < 1


def test_linear_is_recovered_by_least_squares():
    """Without noise least squares finds weights that are 0 exactly for the uninformative inputs."""
    raw = make("linear", rows=200, inputs=7, informative=3, noise=0.0, seed=1)
    weights = np.linalg.lstsq(raw.inputs, raw.targets, rcond=None)[0][:, 0]
    assert (np.abs(weights[:3]) > 1e-3).all()
    assert np.allclose(weights[3:], 0, atol=1e-10)


def test_parity_has_every_word_once():
    """The rows are all words of the given length, the class says whether the number of ones is odd."""
    raw = make("parity", bits=6)
    assert len(np.unique(raw.inputs, axis=0)) == 64
    assert np.array_equal(raw.targets, raw.inputs.sum(axis=1) % 2)


def test_no_bit_of_parity_alone_says_anything():
    """Among the words with any one bit set, half are odd: every input is uncorrelated with the class."""
    raw = make("parity", bits=5)
    assert np.allclose((raw.inputs - 0.5).T @ (raw.targets - 0.5), 0, atol=0)


@pytest.mark.parametrize("name", NOISY)
def test_a_seed_gives_the_same_data_and_another_seed_others(name, settings):
    """Generated values depend on the seed alone, and the noise has the deviation asked for."""
    own = {key: settings(name)[key] for key in component("data", name).own_settings}
    first, again, other = (make(name, **own | {"seed": seed}) for seed in (3, 3, 4))
    assert np.array_equal(first.inputs, again.inputs)
    assert np.array_equal(first.targets, again.targets)
    assert not np.array_equal(first.inputs, other.inputs)
    exact = make(name, **own | {"seed": 3, "noise": 0.0})
    noise = np.concatenate([(first.inputs - exact.inputs).ravel(), (first.targets - exact.targets).ravel()])
    noise = noise[noise != 0]
    # A few hundred normal numbers: their deviation is within 10 % of the true one beyond any doubt.
    assert noise.std() == pytest.approx(own["noise"], rel=0.1)


@pytest.mark.parametrize("name", sorted(set(NOISY) | {"parity"}))
def test_task_is_what_the_traits_promise(name, load):
    """The task that is known before reading is the one that the data have."""
    promised = components("data")[name].traits.task
    assert promised is None or load(name).target.task == promised


def test_more_informative_inputs_than_inputs_is_a_problem(settings):
    """linear names the setting, what was found and what is allowed, before anything is generated."""
    assert data.problems(settings("linear", informative=30)) == [
        "data.informative: found 30, expected at most data.inputs=20"
    ]
