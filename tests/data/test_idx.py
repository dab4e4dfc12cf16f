"""MNIST's format: every kind of number, gzip or not, parts, and headers that lie."""

import gzip
import struct
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from slipstream import data
from slipstream.core.errors import ConfigError, DataError
from slipstream.data.sources.idx import KINDS, read_idx

DRAW = np.random.default_rng(0)
PIXELS = DRAW.integers(0, 256, (60, 5, 4), dtype=np.uint8)
LABELS = np.arange(60, dtype=np.uint8) % 3


def packed(array, kind=0x08):
    """The bytes of an IDX file, by the format's description."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return header + array.astype(KINDS[kind]).tobytes()


@pytest.fixture
def folder(tmp_path):
    """MNIST's four files, two of them gzipped, 60 and 30 images."""
    files = {
        "train-images-idx3-ubyte": packed(PIXELS),
        "train-labels-idx1-ubyte.gz": gzip.compress(packed(LABELS)),
        "t10k-images-idx3-ubyte.gz": gzip.compress(packed(PIXELS[:30])),
        "t10k-labels-idx1-ubyte": packed(LABELS[:30]),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_published_files_give_train_and_test(folder, load):
    """Images stay bytes [N, 1, H, W], the t10k files are the test part, and the rest is cut from train."""
    found = load("idx", path=str(folder))
    assert found.form.shape == (1, 5, 4)
    assert torch.equal(found.test.inputs, torch.from_numpy(PIXELS[:30, None]))
    assert torch.equal(found.test.targets, torch.from_numpy(LABELS[:30].astype(np.int64)))
    assert len(found.train) + len(found.validation) == 60
    assert found.target.classes == ("0", "1", "2")
    assert found.form.scaling is not None
    assert len(found.sources) == 4


def test_files_by_name_are_the_same(folder, load):
    """Images and labels named one by one give the tensors of the folder."""
    paths = {"path": "train-images-idx3-ubyte", "labels": "train-labels-idx1-ubyte.gz"}
    paths |= {"test_path": "t10k-images-idx3-ubyte.gz", "test_labels": "t10k-labels-idx1-ubyte"}
    found = load("idx", **{key: str(folder / name) for key, name in paths.items()})
    whole = load("idx", path=str(folder))
    assert found.fingerprint == whole.fingerprint


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_every_kind_of_number_is_read(tmp_path, kind, pack):
    """What was written comes back, with its type, in this machine's byte order."""
    array = DRAW.integers(0, 100, (7, 2, 3)).astype(KINDS[kind])
    (tmp_path / "a").write_bytes(pack(packed(array, kind)))
    found = read_idx(str(tmp_path / "a"))
    assert found.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(found, array)


def test_floats_become_images_and_classes_get_names(tmp_path, load):
    """Float images are float32, and labels are the indices of the names that are given."""
    values = DRAW.normal(size=(60, 3, 4, 4))
    (tmp_path / "x").write_bytes(packed(values, 0x0E))
    (tmp_path / "y").write_bytes(packed(LABELS))
    files = {"path": str(tmp_path / "x"), "labels": str(tmp_path / "y")}
    found = load("idx", **files, classes=["a", "b", "c"], test=0.0, validation=0.0)
    assert torch.equal(found.train.inputs, torch.from_numpy(values.astype(np.float32)))
    assert found.target.classes == ("a", "b", "c")
    with pytest.raises(DataError, match="labels from 0 to 2, expected 0 to 1"):
        load("idx", **files, classes=["a", "b"])


def test_real_labels_are_regression(tmp_path, load):
    """Labels that are no whole numbers are numbers to predict."""
    (tmp_path / "x").write_bytes(packed(PIXELS))
    (tmp_path / "y").write_bytes(packed(np.linspace(0, 1, 60), 0x0D))
    found = load("idx", path=str(tmp_path / "x"), labels=str(tmp_path / "y"))
    assert found.target.task == "regression"


HEADER = bytes([0, 0, 8, 3])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with nothing"),
        (b"\x89PNG....", "begins with 89 50 4e 47"),
        (bytes([0, 0, 7, 1, 0, 0, 0, 1, 5]), "is not an IDX file"),
        (bytes([0, 0, 8, 200]), "declares 200 axes"),
        (HEADER + b"\0\0", "the header is incomplete"),
        (packed(PIXELS)[:-1], "but the file has 1,199: it is truncated"),
        (packed(PIXELS) + b"\0", "but the file has 1,201: it is truncated"),
        (gzip.compress(packed(PIXELS)[:-1]), "but the file has 1,199: it is truncated"),
        (gzip.compress(packed(PIXELS) + b"\0"), "but the file has more"),
        (gzip.compress(packed(PIXELS))[:-20], "cannot be read: Compressed file ended"),
        (gzip.compress(packed(PIXELS))[:-8] + bytes(8), "cannot be read: CRC check failed"),
        (HEADER + b"\xff" * 12, "but the file has 0"),
        (gzip.compress(HEADER + b"\xff" * 12), "cannot hold as many"),
        (packed(PIXELS[:0]), "is empty, of shape (0, 5, 4)"),
        (packed(PIXELS[0]), "expected images [N, H, W]"),
        (packed(PIXELS[:, None].repeat(2, 1)), "expected images [N, H, W]"),
        (packed(PIXELS[:50]), "has 50 images, but"),
        (packed(np.where(PIXELS == 7, np.nan, PIXELS), 0x0D), "found nan"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip writes the time into the bytes
)
def test_what_cannot_be_used_is_named(folder, load, content, words):
    """A header that does not fit the file is refused before memory is taken for what it promises."""
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load("idx", path=str(folder))
    assert "train-images-idx3-ubyte" in str(caught.value)
    assert words in str(caught.value), str(caught.value)


@pytest.mark.slow
@examples(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 40), byte=st.integers(0, 255), cut=st.integers(0, 1300))
def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path, place, byte, cut):
    """Whatever byte changes and wherever it is cut off, the answer is an array or a DataError."""
    whole = bytearray(packed(PIXELS))
    whole[place] = byte
    for content in (bytes(whole[:cut]), gzip.compress(bytes(whole), 1)[:cut]):
        (tmp_path / "a").write_bytes(content)
        with suppress(DataError):
            assert read_idx(str(tmp_path / "a")).nbytes <= len(whole)


def test_paths_that_cannot_serve_are_found_before_reading(folder, settings):
    """No path, one that is not there, labels that lack or are too many: problems of the configuration."""
    images = str(folder / "train-images-idx3-ubyte")
    for changes, words in [
        ({}, "data.path: is not set"),
        ({"path": "nowhere"}, "data.path: nowhere does not exist"),
        ({"path": images}, "data.labels: is not set"),
        ({"path": str(folder), "labels": images}, "data.labels: needs a file"),
        ({"path": images, "labels": images, "test_path": images}, "data.test_labels: needs data.test_path"),
    ]:
        assert words in " ".join(data.problems(settings("idx", **changes)))
    with pytest.raises(ConfigError, match="is not set"):
        data.load(settings("idx"))


def test_a_folder_without_or_with_too_many_files_is_refused(folder, load):
    """Missing files are named as they are published; two sets in one folder have to be named."""
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError, match="has no t10k-images-idx3-ubyte"):
        load("idx", path=str(folder))
    (folder / "emnist-train-images-idx3-ubyte").write_bytes(packed(PIXELS))
    with pytest.raises(DataError, match="several files contain the images of the train split"):
        load("idx", path=str(folder))
