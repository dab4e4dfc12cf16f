"""Generated images and sequences: their geometry, their formulas, and that a seed gives them again."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from slipstream.core.registry import component, components
from slipstream.data.sources.shapes import AREA, SHAPES

STILL = {"radius": 0.8, "scale": 0.0, "shift": 0.0, "rotation": 0.0, "noise": 0.0, "colour": False, "seed": 0}


def draw(**settings):
    return component("data", "shapes")(**({"rows": 64, "classes": 8, "size": 48} | STILL | settings))


def lit(images):
    """How far each pixel is from the ground's 0.2 to the shape's 0.8."""
    return (images[:, 0] / 255 - 0.2) / 0.6


def test_shapes_are_raw_images_with_balanced_classes():
    """Inputs are bytes of the size asked for, and every class has its share of the rows."""
    raw = draw(rows=80, colour=True, size=20)
    assert raw.inputs.shape == (80, 3, 20, 20)
    assert raw.inputs.dtype == np.uint8
    assert raw.target.classes == tuple(SHAPES)
    assert np.bincount(raw.targets).tolist() == [10] * 8


@pytest.mark.slow
def test_all_shapes_have_one_area_and_fit_into_their_circle():
    """The mean brightness says nothing about the class, and no shape leaves the circle around it."""
    images = lit(draw(rows=16, size=96).inputs)
    axis = (np.arange(96) + 0.5) / 48 - 1
    outside = np.hypot(*np.meshgrid(axis, axis)) > 0.8 + 2 / 96
    expected = AREA * 0.8**2 / 4
    # Coverage by distance rounds corners by a part of a pixel: 2 % at this size.
    assert np.allclose(images.mean(axis=(1, 2)), expected, rtol=0.02)
    assert np.abs(images[:, outside]).max() < 0.01


@cache
def large():
    """One large image of each shape."""
    return lit(draw(rows=8, size=128).inputs)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pieces", "holes"), [(n, 1, int(n == "ring")) for n in SHAPES])
def test_a_shape_is_one_piece_and_only_the_ring_has_a_hole(name, pieces, holes):
    """Counted by scipy: connected pieces of the shape, and of the ground beyond the outer one."""
    image = large()[list(SHAPES).index(name)] > 0.5
    assert ndimage.label(image, np.ones((3, 3)))[1] == pieces
    assert ndimage.label(~image)[1] == 1 + holes


@pytest.mark.slow
def test_rotation_turns_the_shape():
    """A bar that is turned by up to 180 degrees has its long axis in every direction."""
    raw = draw(rows=400, classes=7, rotation=180.0)
    angles = []
    for image in lit(raw.inputs)[raw.targets == list(SHAPES).index("bar")]:
        y, x = np.nonzero(image > 0.5)
        angles.append(np.linalg.eigh(np.cov(x, y))[1][:, 1])
    spread = np.abs(angles)
    assert spread.min(axis=0).max() < 0.2
    assert spread.max(axis=0).min() > 0.95


@pytest.mark.slow
def test_a_shifted_shape_stays_within_the_image_and_reaches_its_edges():
    """With full shift the centres fill the room that there is, and nothing is cut off."""
    images = lit(draw(rows=800, shift=1.0, radius=0.5, scale=0.3).inputs)
    assert np.allclose(images[0::8].sum((1, 2)).min(), AREA * 0.35**2 / 4 * 48**2, rtol=0.1)
    centres = np.array([ndimage.center_of_mass(image.clip(0)) for image in images[0::8]])
    assert centres.min() < 10
    assert centres.max() > 37
    assert np.abs(images[:, [0, -1]].mean()) < 0.05
    area = images.reshape(100, 8, -1).mean(axis=2)
    assert (area > 0.9 * AREA * 0.35**2 / 4).all()


@pytest.mark.slow
def test_noise_has_the_deviation_asked_for():
    """Where nothing is clipped, the difference to the clean image is noise * normal."""
    noise = (draw(noise=0.05).inputs.astype(float) - draw().inputs) / 255
    assert noise.std() == pytest.approx(0.05, rel=0.02)
    assert abs(noise.mean()) < 1e-3


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("shapes", STILL | {"classes": 5, "size": 12, "noise": 0.1, "shift": 1.0}),
        ("adding_problem", {"length": 9}),
    ],
)
def test_a_row_depends_on_the_seed_and_not_on_how_many_there_are(name, settings):
    """The first rows of many are the rows of few; another seed gives others."""
    make = component("data", name)
    many, few = (make(**settings | {"rows": rows, "seed": 3}) for rows in (1100, 30))
    other = make(**settings | {"rows": 30, "seed": 4})
    assert np.array_equal(many.inputs[:30], few.inputs)
    assert np.array_equal(many.targets[:30], few.targets)
    assert not np.array_equal(few.inputs, other.inputs)


@pytest.mark.parametrize("length", [2, 5, 50])
def test_the_adding_problem_follows_its_definition(length):
    """One marker in each half, the target the sum of the marked values; always 1 has an error of 1/6."""
    raw = component("data", "adding_problem")(rows=3000, length=length, seed=1)
    values, markers = raw.inputs[..., 0], raw.inputs[..., 1]
    assert set(np.unique(markers)) <= {0, 1}
    assert (markers[:, : length // 2].sum(1) == 1).all()
    assert (markers[:, length // 2 :].sum(1) == 1).all()
    assert np.allclose(raw.targets[:, 0], (values * markers).sum(1), atol=0)
    assert markers.sum(0).min() > 0
    # The error's own standard deviation is 0.2 and there are 3,000 rows.
    assert np.mean((raw.targets - 1) ** 2) == pytest.approx(1 / 6, abs=0.015)


@pytest.mark.parametrize(("name", "shape"), [("shapes", (1, 16, 16)), ("adding_problem", (50, 2))])
def test_task_and_form_are_what_the_traits_promise(name, shape, load):
    """What is known before reading is what the data have."""
    found, traits = load(name), components("data")[name].traits
    assert traits.task in (None, found.target.task)
    assert (found.form.kind, found.form.shape) == (traits.form, shape)
