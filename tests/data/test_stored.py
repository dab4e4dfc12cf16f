"""Images that stay in their file, and the moments of bytes."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from slipstream.config.files import defaults
from slipstream.core.errors import ConfigError, DataError
from slipstream.data import load
from slipstream.data.image.pixel_moments import moments_of
from slipstream.data.image.stored import Stored, materialize


@pytest.fixture
def images():
    return np.random.default_rng(3).integers(0, 256, (50, 3, 4, 5), np.uint8)


@pytest.fixture
def stored(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    return Stored.of(np.load(tmp_path / "images.npy", mmap_mode="r"))


def test_rows_are_those_of_the_array(images, stored):
    """Single rows, runs of neighbours, repeated and disordered ones, and none come as the array has them."""
    draw = np.random.default_rng(0)
    for places in ([7], range(50), range(10, 20), [3, 4, 5, 2, 2, 49, 0], [], draw.integers(0, 50, 200)):
        places = np.array(places, np.int64)
        np.testing.assert_array_equal(stored[places], images[places])
    assert stored.shape == images.shape
    assert (stored.ndim, stored.nbytes, len(stored), stored.dtype) == (4, images.nbytes, 50, np.uint8)


def test_a_part_of_a_part_and_parts_together(images, stored):
    """Parts count in their own rows, and joined ones one after the other."""
    rows = np.array([9, 3, 40, 41, 42])
    part = stored.part(rows)
    np.testing.assert_array_equal(part.part(np.array([1, 4])).tensor().numpy(), images[[3, 42]])
    joined = Stored.joined([part, stored.part(np.array([0]))])
    np.testing.assert_array_equal(joined.tensor().numpy(), images[[*rows, 0]])


def test_blocks_are_all_rows_in_order(images, stored, monkeypatch):
    """Blocks of a bounded size hold every row once."""
    monkeypatch.setattr("slipstream.data.image.stored.BLOCK", 150)
    blocks = list(stored.blocks())
    assert {len(block) for block in blocks} == {2}
    np.testing.assert_array_equal(np.concatenate(blocks), images)


def test_only_whole_mapped_images_of_bytes_stay_in_their_file(images, tmp_path):
    """Views, other types and other forms are left as they are: where their bytes lie is not known."""
    path = tmp_path / "a.npy"
    for array, view in (
        (images, np.s_[5:]),
        (images.astype(np.float32), np.s_[:]),
        (images[:, 0], np.s_[:]),
        (np.asfortranarray(images), np.s_[:]),
    ):
        np.save(path, array)
        mapped = np.load(path, mmap_mode="r")
        mapped = mapped if view == np.s_[:] else mapped[view]
        assert Stored.of(mapped) is mapped


def test_a_file_that_is_gone_can_still_be_read(images, stored, tmp_path):
    """Its name is not needed any more."""
    os.unlink(tmp_path / "images.npy")
    np.testing.assert_array_equal(stored[np.arange(50)], images)


def test_a_file_that_was_cut_off_is_an_error_and_not_the_end_of_the_process(stored, tmp_path):
    """Rows before the cut can be read, others name the file and the byte."""
    os.truncate(tmp_path / "images.npy", 128 + 10 * 60 + 1)
    assert len(stored[np.arange(10)]) == 10
    with pytest.raises(DataError, match=r"images\.npy: can no longer be read: it was truncated to 729 bytes"):
        stored[np.array([4, 10])]


def test_files_are_closed_with_the_last_part(images, tmp_path):
    """Nothing is left open, and a part keeps its file open."""

    def is_open():
        links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
        return any(os.path.islink(link) and os.readlink(link) == str(tmp_path / "b.npy") for link in links)

    np.save(tmp_path / "b.npy", images)
    part = Stored.of(np.load(tmp_path / "b.npy", mmap_mode="r")).part(np.array([1]))
    assert is_open()
    np.testing.assert_array_equal(part.tensor().numpy(), images[[1]])
    del part
    assert not is_open()


@pytest.mark.parametrize(
    ("streaming", "room", "batch_size", "stays"),
    [
        ("never", 0, 8, False),
        ("always", None, 8, True),
        ("auto", None, 8, False),
        ("auto", 3000, 8, False),
        ("auto", 2999, 8, True),
        ("auto", 2999, "full", False),
    ],
)
def test_what_stays_in_the_file(images, stored, streaming, room, batch_size, stays):
    """`auto` leaves there what has no room, but for batches of all rows; 50 images have 3,000 bytes."""
    parts = [stored.part(np.arange(30)), stored.part(np.arange(30, 50))]
    found = materialize(parts, {"streaming": streaming, "batch_size": batch_size}, room)
    assert [isinstance(part, Stored) for part in found] == [stays, stays]
    every = np.concatenate([part[np.arange(len(part))] for part in found])
    np.testing.assert_array_equal(every, images)


def test_without_a_cache_nothing_can_be_read_from_it(images):
    """`always` says so, `auto` takes them into memory."""
    with pytest.raises(ConfigError, match="streaming: always reads images from their cache"):
        materialize([images], {"streaming": "always", "batch_size": 8}, 0)
    (found,) = materialize([images], {"streaming": "auto", "batch_size": 8}, 0)
    np.testing.assert_array_equal(found, images)


def test_moments_are_those_of_numpy(images, stored, monkeypatch):
    """Lowest, highest, mean and deviation by channel, from memory and from the file, by small blocks."""
    monkeypatch.setattr("slipstream.data.image.pixel_moments.BLOCK", 400)
    images[:, 1] //= 3
    rows = np.array([1, 2, 3, 10, 30, 31, 49])
    low, high, mean, deviation = moments_of(images, rows)
    of = images[rows].astype(np.float64)
    np.testing.assert_array_equal(low, of.min(axis=(0, 2, 3)))
    np.testing.assert_array_equal(high, of.max(axis=(0, 2, 3)))
    np.testing.assert_allclose(mean, of.mean(axis=(0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(deviation, of.std(axis=(0, 2, 3)), rtol=1e-13)
    whole = np.arange(50)
    from_file, in_memory = moments_of(stored, whole), moments_of(stored[whole], whole)
    np.testing.assert_array_equal(from_file, in_memory)


def test_a_constant_channel_has_no_deviation():
    """Exactly none, so that it is seen to be constant."""
    low, high, mean, deviation = moments_of(np.full((9, 1, 3, 3), 77, np.uint8), np.arange(9))
    assert (low[0], high[0], mean[0], deviation[0]) == (77, 77, 77, 0)


@pytest.fixture
def settings(images, tmp_path):
    """Those of data=images for 50 files of two classes."""
    for i, image in enumerate(images):
        folder = tmp_path / "files" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:02}.png")
    own = {"name": "images", "path": str(tmp_path / "files"), "cache": str(tmp_path / "cache")}
    return defaults("data", "images") | own | {"batch_size": 8}


def test_data_are_the_same_whether_they_are_read_or_stay_where_they_are(settings):
    """Rows, scaling and fingerprint; where there is room for them all, `auto` reads them."""
    materialize, stays = load(settings | {"streaming": "never"}), load(settings | {"streaming": "always"})
    assert isinstance(stays.train.inputs, Stored)
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(stays, part).inputs.tensor(), getattr(materialize, part).inputs)
    assert (stays.form, stays.preprocessing) == (materialize.form, materialize.preprocessing)
    assert stays.fingerprint == materialize.fingerprint
    assert isinstance(load(settings, room=2999).train.inputs, Stored)
    assert not isinstance(load(settings, room=3000).train.inputs, Stored)
    assert not isinstance(load(settings).train.inputs, Stored)


def test_all_rows_at_once_cannot_stay_in_a_file(settings):
    """A batch of everything is refused where nothing shall be in memory."""
    with pytest.raises(ConfigError, match=r"data\.streaming: always .* data\.batch_size=full"):
        load(settings | {"streaming": "always", "batch_size": "full"})
