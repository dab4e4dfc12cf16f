"""Pictures: their sizes, and pixels that must have their colour."""

from __future__ import annotations

import numpy as np

from slipstream.diagnostics import CELL, MARGIN, POINT, SIDE, confusion_picture, scatter_picture


def cell(picture, i, j):
    """A pixel in the corner of cell (row i, column j), beside its number."""
    return picture.getpixel((MARGIN + j * CELL + 2, MARGIN + i * CELL + 2))


def test_a_confusion_matrix_is_shaded_by_the_share_of_its_row():
    """Rows are true classes: white for none, blue for all, in between for a half; an absent class is
    white all along; the size follows the number of classes."""
    picture = confusion_picture(np.array([[5.0, 0, 0], [2, 2, 0], [0, 0, 0]]), ["a", "b", "c"])
    assert picture.size == (MARGIN + 3 * CELL + 8,) * 2
    assert cell(picture, 0, 0) == (0, 0, 255)
    assert cell(picture, 0, 1) == (255, 255, 255)
    assert cell(picture, 1, 0) == cell(picture, 1, 1) == (127, 127, 255)
    assert {cell(picture, 2, j) for j in range(3)} == {(255, 255, 255)}


def test_many_classes_make_small_cells():
    """Beyond 40 classes the cells shrink and go without numbers; the picture stays of a size."""
    picture = confusion_picture(np.eye(100), [str(c) for c in range(100)])
    assert picture.width == picture.height < 600
    side = SIDE // 100
    assert picture.getpixel((MARGIN + side * 50 + 1, MARGIN + side * 50 + 1)) == (0, 0, 255)
    assert picture.getpixel((MARGIN + side * 50 + 1, MARGIN + side * 20 + 1)) == (255, 255, 255)


def test_points_lie_where_predicted_meets_true():
    """The smallest pair is at the lower left of the frame, the largest at the upper right, a
    prediction above its true value above the diagonal."""
    picture = scatter_picture(np.array([0.0, 10.0, 5.0]), np.array([0.0, 10.0, 7.5]), "y")
    assert picture.size == (SIDE, SIDE)
    side = SIDE - 80
    assert picture.getpixel((40, 40 + side)) == POINT
    assert picture.getpixel((40 + side, 40)) == POINT
    assert picture.getpixel((40 + side // 2, 40 + side // 4)) == POINT
    assert picture.getpixel((40 + side // 4, 40 + side // 8)) != POINT


def test_values_that_are_not_finite_are_left_out():
    """NaN and infinity have no place in a picture, nor do they stretch it; without any value, or with
    one alone, there is a picture still."""
    odd = scatter_picture(np.array([0.0, np.nan, 1, 1]), np.array([0.0, 1, np.inf, 1]), "y")
    plain = scatter_picture(np.array([0.0, 1]), np.array([0.0, 1]), "y")
    assert odd.tobytes() == plain.tobytes()
    for values in ([], [3.0]):
        assert scatter_picture(np.array(values), np.array(values), "y").size == (SIDE, SIDE)
