"""A user's source of data: arrays, pairs, datasets of torch, and what is no data."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import slipstream
from slipstream.core import registry
from slipstream.core.errors import DataError
from slipstream.core.registry import register
from slipstream.data import load, own_source
from slipstream.data.image.stored import Stored

DRAW = np.random.default_rng(3)
X, Y = DRAW.standard_normal((40, 3)).astype(np.float32), np.arange(40) % 2


class Items(torch.utils.data.Dataset):
    def __init__(self, x, y):
        self.x, self.y, self.read = x, y, []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.read.append(i)
        return self.x[i], self.y[i]


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield X[0], 0


def source(found):
    """A component that returns what it is given."""
    register("data", "test_source")(lambda: found)
    return registry.component("data", "test_source")


@pytest.fixture(autouse=True)
def removed():
    """No other test shall see the source."""
    yield
    registry._components["data"].pop("test_source", None)


@pytest.mark.parametrize(
    "found",
    [(X, Y), Items(X, Y), Items(torch.from_numpy(X), torch.from_numpy(Y))],
    ids=["arrays", "numpy", "torch"],
)
def test_arrays_and_datasets_are_the_same_data(found):
    """Pairs of arrays, and items that are numpy's or torch's."""
    raw = own_source.as_raw(source(found), found)
    assert np.array_equal(raw.inputs, X)
    assert np.array_equal(raw.targets, Y)
    assert raw.target.task == "binary"


def test_items_are_read_once_and_in_order():
    """But the first, whose shape is needed before."""
    items = Items(X, Y)
    own_source.as_raw(source(items), items)
    assert items.read == [0, *range(40)]


def test_parts_that_are_given_stay_parts():
    """train, validation and test; what is missing is drawn from train."""
    cuts = (0, 20, 30, 40)
    found = {
        part: (X[a:b], Y[a:b])
        for part, (a, b) in zip(("train", "validation", "test"), pairwise(cuts), strict=True)
    }
    raw = own_source.as_raw(source(found), found)
    assert np.bincount(raw.parts).tolist() == [20, 10, 10]


def test_pictures_become_images_with_channels_first():
    """Pillow's grey and colour images."""
    pixels = DRAW.integers(0, 255, (4, 6, 5, 3), dtype=np.uint8)
    items = Items([Image.fromarray(p) for p in pixels], np.array([0.5, 1.5, 2.5, 3.25]))
    raw = own_source.as_raw(source(items), items)
    assert np.array_equal(raw.inputs, pixels.transpose(0, 3, 1, 2))
    assert raw.target.task == "regression"


def test_many_images_stay_in_a_file_that_nobody_sees(monkeypatch, tmp_path):
    """They are read from it in training; its name is gone at once."""
    monkeypatch.setattr(own_source, "IN_FILE", 100)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pixels = DRAW.integers(0, 255, (40, 1, 6, 6), dtype=np.uint8)
    items = Items(pixels, Y)
    raw = own_source.as_raw(source(items), items)
    assert isinstance(raw.inputs, Stored)
    assert np.array_equal(raw.inputs[np.arange(40)], pixels)
    assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Endless(), "found Endless, which has no length and no order"),
        (iter([(X[0], 0)]), "which has no length and no order"),
        (None, "returned a NoneType; expected"),
        ({"training": (X, Y)}, "returned a mapping with training; expected"),
        ((X, Y[:3]), r"shapes \[40, 3\] and \[3\]"),
        (Items([X[0], X[1, :2], X[2]], Y[:3]), r"item 1 has an input of shape \[2\], and item 0 of \[3\]"),
        (Items(["a", "b", "c"], Y[:3]), "item 0 has an input of <U1, expected numbers or an image"),
        (Items([], []), "the dataset has no items"),
        ([1, 2, 3], "item 0 is a int, expected .input, target."),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_data_is_refused(found, said):
    """With the name of the source, the item, and what was expected."""
    with pytest.raises(DataError, match=f"data=test_source.*{said}"):
        own_source.as_raw(source(found), found)


def test_more_than_fits_into_memory_is_refused(monkeypatch):
    """With what it needs, what is free, and a way out."""
    monkeypatch.setattr(own_source, "_free", lambda: 100)
    with pytest.raises(DataError, match=r"40 items of 12 bytes need .* GB are free; return images as bytes"):
        own_source.as_raw(source(Items(X, Y)), Items(X, Y))


@pytest.mark.slow
def test_an_option_without_a_yaml_is_composed_from_its_signature():
    """data=NAME takes the defaults of the function and of all data, and loads what it returns."""

    def some(*, rows: int = 30):
        return X[:rows], Y[:rows]

    register("data", "test_source")(some)
    config = slipstream.compose("data=test_source", "data.rows=20", "data.test=0")
    assert config["data"]["batch_size"] == 64
    assert len(load(config["data"]).train) == 17
