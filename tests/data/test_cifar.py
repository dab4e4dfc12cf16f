"""CIFAR's binary files: from a folder and an archive, both sets, and what is wrong with them."""

import io
import tarfile

import numpy as np
import pytest
import torch

from slipstream.core.errors import DataError

DRAW = np.random.default_rng(1)
WORDS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def records(count, *classes):
    """The bytes of a file, and its images and labels, by the format's description."""
    labels = np.stack([np.arange(count) % most for most in classes], axis=1).astype(np.uint8)
    pixels = DRAW.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    return np.concatenate([labels, pixels.reshape(count, -1)], axis=1).tobytes(), pixels, labels


TRAIN = [records(20, 10) for _ in range(5)]
TEST = records(20, 10)
TEN = {f"data_batch_{i + 1}.bin": TRAIN[i][0] for i in range(5)} | {
    "test_batch.bin": TEST[0],
    "batches.meta.txt": ("\n".join(WORDS) + "\n\n").encode(),
    "readme.html": b"",
}
FINE, FINE_TEST = records(200, 20, 100), records(100, 20, 100)
HUNDRED = {
    "train.bin": FINE[0],
    "test.bin": FINE_TEST[0],
    "fine_label_names.txt": "\n".join(f"fine{i}" for i in range(100)).encode(),
}


@pytest.fixture
def write(tmp_path):
    """write(files, archive=False, **changes): a folder or archive with these files; None leaves one out."""

    def make(files, archive=False, changes=()):
        files = {name: content for name, content in (files | dict(changes)).items() if content is not None}
        if not archive:
            (tmp_path / "f").mkdir(exist_ok=True)
            for name, content in files.items():
                (tmp_path / "f" / name).write_bytes(content)
            return str(tmp_path / "f")
        with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as out:
            for name, content in files.items():
                info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                info.size = len(content)
                out.addfile(info, io.BytesIO(content))
        return str(tmp_path / "c.tar.gz")

    return make


@pytest.mark.parametrize("archive", [False, True])
def test_cifar_10_as_published(write, load, archive):
    """Red, green and blue planes row by row, five training files, one test file, names of the classes."""
    found = load("cifar", path=write(TEN, archive), validation=0.0)
    assert torch.equal(found.train.inputs, torch.from_numpy(np.concatenate([x for _, x, _ in TRAIN])))
    assert torch.equal(found.test.inputs, torch.from_numpy(TEST[1]))
    assert found.test.targets.tolist() == TEST[2][:, 0].tolist()
    assert found.target.classes == tuple(WORDS)
    assert (found.form.kind, found.form.shape) == ("image", (3, 32, 32))
    assert "data_batch_1.bin has 20 images, the published one 10,000" in found.warnings[0]


@pytest.mark.parametrize(("labels", "column"), [("coarse", 0), ("fine", 1)])
def test_cifar_100_has_two_labels(write, load, labels, column):
    """The first byte is the coarse label, the second the fine one."""
    found = load("cifar", path=write(HUNDRED), labels=labels, validation=0.0)
    assert found.train.targets.tolist() == FINE[2][:, column].tolist()
    assert torch.equal(found.train.inputs, torch.from_numpy(FINE[1]))
    assert found.target.classes[1] == ("1" if labels == "coarse" else "fine1")


def test_without_the_test_file_the_test_part_is_cut(write, load):
    """It says so."""
    found = load("cifar", path=write(TEN, changes={"test_batch.bin": None}))
    assert len(found.test) == 15
    assert "has no test_batch.bin" in found.warnings[0]


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_batch_2.bin": None, "data_batch_4.bin": None}, "has no data_batch_2.bin, data_batch_4.bin"),
        ({"data_batch_3.bin": TRAIN[2][0][:-5]}, "data_batch_3.bin has 61,455 bytes, expected a multiple"),
        ({"data_batch_3.bin": b""}, "data_batch_3.bin has 0 bytes"),
        ({"data_batch_3.bin": b"\x0b" * 3073}, "data_batch_3.bin, image 1: label 11, expected 0 to 9"),
        ({"batches.meta.txt": b"cat\ncat\n"}, "file of names has 1 different one, expected 10"),
    ],
)
def test_what_cannot_be_used_is_named(write, load, changes, words, archive):
    """Missing, cut off and damaged files are refused by name."""
    path = write(TEN, archive, changes)
    with pytest.raises(DataError) as caught:
        load("cifar", path=path)
    assert path in str(caught.value)
    assert words in str(caught.value), str(caught.value)


def test_the_pickled_version_is_not_read(tmp_path, load):
    """Nothing is unpickled: the message says which version to take."""
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02.")
    with pytest.raises(DataError, match="the Python version, which is pickled and not supported"):
        load("cifar", path=str(tmp_path))


def test_an_archive_that_is_cut_off_or_none_is_refused(write, load, tmp_path):
    """At any length; and coarse labels are CIFAR-100's."""
    path = write(TEN, archive=True)
    whole = (tmp_path / "c.tar.gz").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 40):
        (tmp_path / "c.tar.gz").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"c\.tar\.gz: is not a complete tar archive"):
            load("cifar", path=path)
    with pytest.raises(DataError, match="CIFAR-10, which has no coarse labels"):
        load("cifar", path=write(TEN), labels="coarse")


def test_links_in_an_archive_are_not_followed(tmp_path, load):
    """A link under a known name is no file of the data."""
    with tarfile.open(tmp_path / "c.tar", "w") as out:
        link = tarfile.TarInfo("data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(link)
    with pytest.raises(DataError, match=r"has no data_batch_1\.bin"):
        load("cifar", path=str(tmp_path / "c.tar"))
