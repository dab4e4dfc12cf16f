"""CIFAR-10 and CIFAR-100 in their binary version, from the folder or the archive as published."""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.registry import register
from slipstream.core.types import Plain, Target
from slipstream.core.wording import counted
from slipstream.data.dataset import PARTS, RawData
from slipstream.data.messages import phrase

PIXELS = 3 * 32 * 32
LARGEST = 1 << 30  # bytes of one file
TEN = ([f"data_batch_{i}.bin" for i in range(1, 6)], "test_batch.bin")
HUNDRED = (["train.bin"], "test.bin")
NAMES = {"fine": "fine_label_names.txt", "coarse": "coarse_label_names.txt"}
META = "batches.meta.txt"
KNOWN = {*TEN[0], TEN[1], *HUNDRED[0], HUNDRED[1], *NAMES.values(), META}
PUBLISHED = {"train.bin": 50_000}  # images; 10,000 in all other files


def cifar_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check the path without reading it."""
    path = settings["path"]
    if path is None:
        return [
            "data.path: is not set, expected the folder cifar-10-batches-bin or cifar-100-binary, or the "
            "archive .tar.gz with it"
        ]
    return [] if Path(path).exists() else [f"data.path: {path} does not exist"]


@register("data", problems=cifar_problems, task="multiclass", form="image")
def cifar(*, path: str | None, labels: Literal["fine", "coarse"]) -> RawData:
    """CIFAR-10 or CIFAR-100 in the binary version: 60,000 color images of 32x32 in 10 or 100 classes.

    Inputs [N, 3, 32, 32] are bytes, which the network scales. The test split is the published one.
    path: the folder cifar-10-batches-bin or cifar-100-binary, or the archive (cifar-10-binary.tar.gz), which
        is read without unpacking it.
    labels: for CIFAR-100, the 100 `fine` classes or the 20 `coarse` ones.
    Raises DataError for a file that is missing, is truncated or has a label out of range. Warns about a file
    with more or fewer images than published.
    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
    """
    assert path is not None
    read = _from_folder(path) if os.path.isdir(path) else _from_archive(path)
    hundred = HUNDRED[0][0] in read
    train, test = HUNDRED if hundred else TEN
    missing = [name for name in train if name not in read]
    if missing:
        pickled = os.path.isdir(path) and {"data_batch_1", "train"} & set(os.listdir(path))
        hint = "; this is the Python version, which is pickled and not supported: use the binary version"
        raise DataError(f"{path}: has no {phrase(missing)}{hint if pickled else ''}")
    if labels == "coarse" and not hundred:
        raise DataError(f"{path}: is CIFAR-10, which has no coarse labels; set data.labels=fine")
    size = (20 if labels == "coarse" else 100) if hundred else 10
    names = _names(path, read.get(NAMES[labels] if hundred else META), size)
    files = [*train, test] if test in read else train
    cut = f"{path}: has no {test}; the test split is drawn from the training images"
    warnings = [] if test in read else [cut]
    images, targets = [], []
    for name in files:
        x, y = _records(f"{path}: {name}", read.pop(name), hundred, labels, size)
        if len(x) != (usual := PUBLISHED.get(name, 10_000)):
            warnings.append(f"{path}: {name} has {counted(len(x), 'image')}, the published one {usual:,}")
        images.append(x)
        targets.append(y)
    parts = [PARTS.index("test" if name == test else "train") for name in files]
    return RawData(
        np.concatenate(images),
        ("red", "green", "blue"),
        np.concatenate(targets),
        Target("multiclass", ("class",), names),
        parts=np.repeat(parts, [len(x) for x in images]).astype(np.int8),
        sources=(path,) if os.path.isfile(path) else tuple(os.path.join(path, name) for name in files),
        warnings=warnings,
        kind="image",
    )


def _from_folder(path: str) -> dict[str, bytes]:
    """Read the known files in a folder."""
    found = {}
    try:
        for name in sorted(KNOWN & set(os.listdir(path))):
            with open(os.path.join(path, name), "rb") as file:
                found[name] = file.read(LARGEST)
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({error.strerror})") from error
    return found


def _from_archive(path: str) -> dict[str, bytes]:
    """Read the known files in any folder of an archive, without unpacking it."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if name not in KNOWN or not member.isfile():
                    continue
                if name in found:
                    raise DataError(f"{path}: has two files {name}")
                if member.size > LARGEST or (content := archive.extractfile(member)) is None:
                    raise DataError(
                        f"{path}: {name} has {counted(member.size, 'byte')}, expected about 30 million"
                    )
                found[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is not a complete tar archive: {error}") from error
    return found


def _records(
    place: str, content: bytes, hundred: bool, labels: str, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Parse images uint8 [n, 3, 32, 32] and labels int64 [n].

    A record is one byte for the label (two: coarse, fine), then the red, green and blue pixels, row by
    row.
    """
    size = PIXELS + (2 if hundred else 1)
    if not content or len(content) % size:
        raise DataError(
            f"{place} has {counted(len(content), 'byte')}, expected a multiple of {size:,}: "
            "it is truncated or damaged"
        )
    table = np.frombuffer(content, np.uint8).reshape(-1, size)
    y = table[:, 1 if hundred and labels == "fine" else 0].astype(np.int64)
    if y.max() >= classes:
        row = int(np.argmax(y >= classes))
        expected = f"expected 0 to {classes - 1}: it is damaged"
        raise DataError(f"{place}, image {row + 1}: label {y[row]}, {expected}")
    return table[:, -PIXELS:].reshape(-1, 3, 32, 32), y


def _names(path: str, content: bytes | None, count: int) -> tuple[str, ...]:
    """Return the names of the classes, or their numbers if there is no file of names."""
    if content is None:
        return tuple(str(i) for i in range(count))
    names = tuple(line.strip() for line in content.decode("utf-8", "replace").splitlines() if line.strip())
    if len(set(names)) != len(names) or len(names) != count:
        raise DataError(
            f"{path}: its file of names has {counted(len(set(names)), 'different one')}, expected {count}"
        )
    return names
