"""Pictures: their sizes, their letters, and pixels that must have their colour."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from slipstream.core import drawing
from slipstream.runs.diagnostics import (
    LEFT,
    POINT,
    SIDE,
    TOP,
    _frame,
    confusion_picture,
    scatter_picture,
    tick_text,
    ticks,
)

WHITE, BLUE = (255, 255, 255), (0, 0, 255)


def cell(picture, classes, i, j):
    """A pixel in the corner of cell (row i, column j), beside its number."""
    frame = _frame(tuple(classes))
    return picture.getpixel((frame.left + j * frame.cell + 2, frame.top + i * frame.cell + 2))


@pytest.fixture
def written(monkeypatch):
    """What is written into pictures, in order: (text, size)."""
    texts = []

    def write(draw, place, text, size, **how):
        texts.append((text, size))

    for module in ("slipstream.runs.diagnostics.write",):
        monkeypatch.setattr(module, write)
    _frame.cache_clear()
    yield texts
    _frame.cache_clear()


def test_a_confusion_matrix_is_shaded_by_the_share_of_its_row():
    """Rows are true classes: white for none, blue for all, in between for a half; an absent class is
    white all along."""
    classes = ["a", "b", "c"]
    picture = confusion_picture(np.array([[5.0, 0, 0], [2, 2, 0], [0, 0, 0]]), classes)
    assert cell(picture, classes, 0, 0) == BLUE
    assert cell(picture, classes, 0, 1) == WHITE
    assert cell(picture, classes, 1, 0) == cell(picture, classes, 1, 1)
    assert cell(picture, classes, 1, 0) == (128, 128, 255)
    assert {cell(picture, classes, 2, j) for j in range(3)} == {WHITE}


def test_a_confusion_matrix_names_classes_whole_counts_whole_and_its_scale(written):
    """Long names and large counts are not cut; axes and the scale of shades are named; letters are large
    enough beside the picture to be read where TensorBoard shows it 340 pixels wide."""
    classes = ["T-shirt/top", "Sandale, größer", "Ankle boot"]
    picture = confusion_picture(np.diag([12345.0, 2.5, 7]), classes)
    texts = [text for text, _ in written]
    assert all(texts.count(name) == 2 for name in classes)
    assert {"true class", "predicted class", "0%", "50%", "100%", "12,345", "2.5", "7"} <= set(texts)
    assert "12,354.5 of 12,354.5 right" in texts
    assert all(size * 340 / max(picture.width, 340) > 8 for text, size in written if text in classes)


@pytest.mark.slow
def test_many_classes_make_small_cells():
    """Beyond what has room the cells shrink and go without numbers; the picture stays of a size."""
    names = [str(c) for c in range(100)]
    picture = confusion_picture(np.eye(100), names)
    assert max(picture.size) < 1200
    assert cell(picture, names, 50, 50) == BLUE
    assert cell(picture, names, 50, 20) == WHITE
    assert max(confusion_picture(np.eye(1500), [str(c) for c in range(1500)]).size) < 1900


def test_letters_beyond_ascii_are_readable():
    """A font that has the letters is taken, or the letters without their accents: never a box."""
    for name in ("größer", "café", "Łódź"):
        readable, font = drawing._readable(name, 20)
        assert readable.isascii() or drawing._has(font, readable)
    assert drawing.shortened("a name that is far too long", 20, 100).count("...") == 1
    assert drawing.width(drawing.shortened("a name that is far too long", 20, 100), 20) <= 100
    assert drawing.shortened("short", 20, 100) == "short"


def test_points_lie_where_predicted_meets_true():
    """The smallest pair is at the lower left of the frame, the largest at the upper right, a
    prediction above its true value above the diagonal."""
    picture = scatter_picture(np.array([0.0, 10.0, 5.0]), np.array([0.0, 10.0, 7.5]), "y")
    assert picture.getpixel((LEFT, TOP + SIDE)) == POINT
    assert picture.getpixel((LEFT + SIDE, TOP)) == POINT
    assert picture.getpixel((LEFT + SIDE // 2, TOP + SIDE // 4)) == POINT
    assert picture.getpixel((LEFT + SIDE // 4, TOP + SIDE // 8)) != POINT


def test_both_axes_have_a_scale(written):
    """Round numbers along both axes, the target's name and what is on which axis."""
    scatter_picture(np.array([20.0, 376]), np.array([25.0, 300]), "progression")
    texts = [text for text, _ in written]
    assert all(texts.count(tick) == 2 for tick in ("100", "200", "300"))
    assert {"true", "predicted", "progression, 2 rows"} <= set(texts)


def test_a_scale_far_from_zero_tells_its_values_apart(written):
    """Unix seconds that span a minute: each tick has its own label, told from a number that is named."""
    seconds = 1.7e9 + np.arange(60.0)
    scatter_picture(seconds, seconds, "when")
    texts = [text for text, _ in written]
    assert all(texts.count(tick) == 2 for tick in ("0", "20", "40"))
    assert "true minus 1,700,000,000" in texts


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 1e-3), (1e-9, 3e-9), (0, 1e20), (19.6, 376.3)])
def test_ticks_are_round_inside_and_few(low, high):
    """Two to seven numbers inside the range, each with its own text."""
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 * (high - low) <= tick <= high * (1 + 1e-9) for tick in found)
    assert len({tick_text(tick, high - low) for tick in found}) == len(found)


def test_values_that_are_not_finite_are_left_out():
    """NaN and infinity have no place in a picture, nor do they stretch it; without any value, or with
    one alone, there is a picture still."""
    odd = scatter_picture(np.array([0.0, np.nan, 1, 1]), np.array([0.0, 1, np.inf, 1]), "y")
    plain = scatter_picture(np.array([0.0, 1]), np.array([0.0, 1]), "y")
    assert odd.tobytes() == plain.tobytes()
    for values in ([], [3.0], [1e300], [-1e-300]):
        assert scatter_picture(np.array(values), np.array(values), "y").size == plain.size


@pytest.mark.slow
def test_as_many_points_as_there_are_cost_little():
    """A million points are drawn as pixels, not as a million discs: the picture holds them all."""
    x = np.linspace(0, 1, 10**6)
    picture = np.asarray(scatter_picture(x, x, "y"))
    diagonal = picture[TOP + SIDE - np.arange(SIDE), LEFT + np.arange(SIDE)]
    assert (diagonal == POINT).all()


def test_a_text_is_written_in_its_ink():
    """`write` puts dark pixels where it is told."""
    made = Image.new("RGB", (60, 30), "white")
    drawing.write(ImageDraw.Draw(made), (30, 15), "abc", 20, anchor="mm")
    pixels = np.asarray(made)
    assert pixels[:, 20:40].min() < 100
    assert pixels[:, :5].min() == 255
