"""IDX files, the published format of MNIST: a header and big-endian numbers, optionally with gzip."""

from __future__ import annotations

import gzip
import os
import re
import struct
import zlib
from collections.abc import Mapping
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.registry import register
from slipstream.core.types import DataLike, Plain, Target, Word
from slipstream.core.wording import counted
from slipstream.data.dataset import RawData
from slipstream.data.identity import words_of
from slipstream.data.messages import below, naming, phrase
from slipstream.data.tabular.columns import check_finite
from slipstream.data.targets import make_target

KINDS = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
NAME = re.compile(r"(.*?)(train|t10k|test)-(images|labels)[-.]idx\d-(u?byte|short|int|float|double)(\.gz)?")
RATIO = 1100  # deflate expands one byte to at most 1,032
PIECE = 1 << 24  # bytes read at a time
FILES = ("path", "labels", "test_path", "test_labels")


def idx_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check the paths without reading them."""
    if settings["path"] is None:
        return ["data.path: is not set, expected a folder with train-images-idx3-ubyte and so on, or a file"]
    found = []
    for key in FILES:
        path = settings[key]
        if path is not None and not (Path(path).is_file() or (key == "path" and Path(path).is_dir())):
            what = "is a folder, expected a file" if Path(path).is_dir() else "does not exist"
            found.append(f"data.{key}: {path} {what}")
    if Path(settings["path"]).is_dir():
        found += [
            f"data.{key}: needs a file as data.path, but {settings['path']} is a folder"
            for key in FILES[1:]
            if settings[key] is not None
        ]
    elif settings["labels"] is None:
        found.append("data.labels: is not set, expected the file with the labels of data.path")
    if (settings["test_path"] is None) != (settings["test_labels"] is None):
        found.append("data.test_labels: needs data.test_path; set both or none")
    return found


@register("data", problems=idx_problems, form="image", labels="from 0")
def idx(
    *,
    path: str | None,
    labels: str | None,
    test_path: str | None,
    test_labels: str | None,
    classes: list[Word] | None,
) -> RawData:
    """MNIST in its published IDX files, optionally with gzip: a folder, or files of images and labels.

    Inputs [N, 1, H, W] (or [N, C, H, W] with 1 or 3 channels) stay bytes, which the network scales.
    path: a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and, for the test split, t10k-...,
        each optionally .gz; or a file of images, with its labels in `labels`.
    test_path, test_labels: files of the test split, if path is a file.
    classes: names; labels must then be 0 ... classes-1. Labels that are not whole numbers mean regression.
    Raises DataError for a header that does not match the file, before allocating memory.
    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits" (1998).
    """
    assert path is not None
    if os.path.isdir(path):
        pairs = _in_folder(path)
    else:
        named = [(path, labels), (test_path, test_labels)]
        pairs = [(images, target) for images, target in named if images is not None and target is not None]
    read = [(_images(images), _labels(target)) for images, target in pairs]
    for (images, target), (x, y) in zip(pairs, read, strict=True):
        if len(x) != len(y):
            raise DataError(
                f"{images}: has {counted(len(x), 'image')}, but {target} has {counted(len(y), 'label')}"
            )
        if x.shape[1:] != read[0][0].shape[1:]:
            raise DataError(
                f"{images}: images of {x.shape[1:]}, but {pairs[0][0]} has {read[0][0].shape[1:]}"
            )
    inputs = np.concatenate([x for x, _ in read])
    with naming(pairs[0][1]):
        targets, meaning = _targets(np.concatenate([y for _, y in read]), words_of(classes))
    return RawData(
        inputs,
        ("brightness",) if inputs.shape[1] == 1 else ("red", "green", "blue"),
        targets,
        meaning,
        parts=np.repeat([0, 2][: len(read)], [len(x) for x, _ in read]).astype(np.int8),
        sources=tuple(file for pair in pairs for file in pair),
        kind="image",
        where=below([len(y) for _, y in read], [partial(_place, target) for _, target in pairs]),
    )


def read_idx(path: str) -> np.ndarray:
    """Read an IDX file as an array in native byte order. Raises DataError."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _array(path, file, size, exact=True)
            with gzip.open(file) as unpacked:
                return _array(path, unpacked, size * RATIO, exact=False)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error


def _array(path: str, file: DataLike, most: int, exact: bool) -> np.ndarray:
    """Read the array. most: the maximum size of the file in bytes; exact: True if it has that size."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in KINDS or start[3] == 0:
        raise DataError(
            f"{path}: is not an IDX file: it begins with {start.hex(' ') or 'nothing'}, expected "
            f"00 00, the kind "
            f"of number ({', '.join(f'{kind:02x}' for kind in KINDS)}) and the number of axes"
        )
    kind, axes = np.dtype(KINDS[start[2]]), start[3]
    if axes > 4:
        raise DataError(f"{path}: the header declares {axes} axes, expected 1 to 4")
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise DataError(f"{path}: the header is incomplete")
    shape = struct.unpack(f">{axes}I", sizes)
    wanted, header = prod(shape) * kind.itemsize, 4 + 4 * axes
    sides = " x ".join(map(str, shape))
    said = (
        f"{path}: the header declares {sides} numbers of {counted(kind.itemsize, 'byte')}, {wanted:,} in all"
    )
    if wanted == 0:
        raise DataError(f"{path}: is empty, of shape {shape}")
    if header + wanted > most or (exact and header + wanted < most):
        has = f"has {most - header:,}" if exact else "cannot hold as many"
        raise DataError(f"{said}, but the file {has}: it is truncated or damaged")
    content = np.empty(wanted, np.uint8)
    view, place = content.data, 0
    while place < wanted:
        count = file.readinto(view[place : place + PIECE])
        if not count:
            raise DataError(f"{said}, but the file has {place:,}: it is truncated or damaged")
        place += count
    if file.read(1):
        raise DataError(f"{said}, but the file has more: it is damaged")
    array = content.view(kind).reshape(shape)
    return array.astype(kind.newbyteorder("="), copy=False)


def _images(path: str) -> np.ndarray:
    """Return images [N, C, H, W], bytes or float32."""
    array = read_idx(path)
    x = array[:, None] if array.ndim == 3 else array
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise DataError(
            f"{path}: has shape {array.shape}, expected images [N, H, W] or [N, C, H, W] with 1 or 3 channels"
        )
    check_finite(path, x)
    return x if x.dtype == np.uint8 else x.astype(np.float32)


def _labels(path: str) -> np.ndarray:
    array = read_idx(path)
    if array.ndim != 1:
        raise DataError(f"{path}: has shape {array.shape}, expected labels [N]")
    check_finite(path, array)
    return array


def _place(path: str, label: int) -> str:
    return f"{path}: label {label + 1}"


def _targets(labels: np.ndarray, classes: list[str] | None) -> tuple[np.ndarray, Target]:
    """Return class indices, or numbers for regression."""
    whole = labels.dtype.kind in "iu"
    indices = None
    if classes is not None:
        if not whole or not ((labels >= 0) & (labels < len(classes))).all():
            raise DataError(
                f"found labels from {labels.min()} to {labels.max()}, expected 0 to "
                f"{len(classes) - 1}, since "
                f"data.classes lists {len(classes)}"
            )
        indices = [str(i) for i in range(len(classes))]
    y, target = make_target(["label"], [labels.astype(np.float64)], "auto", indices, labels=whole)
    return y, target if classes is None else Target(target.task, target.names, tuple(classes))


def _in_folder(path: str) -> list[tuple[str, str]]:
    """Find the files of images and labels of train and, if they exist, of test. Raises DataError."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in sorted(os.listdir(path)):
        if match := NAME.fullmatch(name):
            part = "train" if match[2] == "train" else "test"
            found.setdefault((part, match[3]), []).append(name)
    for (part, what), names in found.items():
        if len(names) > 1:
            raise DataError(
                f"{path}: several files contain the {what} of the {part} split ({phrase(names)}); set "
                "data.path, data.labels, data.test_path, data.test_labels"
            )
    wanted = [(part, what) for part in ("train", "test") for what in ("images", "labels")]
    missing = [
        key for key in wanted if key not in found and key[0] in {"train", *(part for part, _ in found)}
    ]
    if missing:
        names = [
            f"{'train' if part == 'train' else 't10k'}-{what}-idx{3 if what == 'images' else 1}-ubyte"
            for part, what in missing
        ]
        raise DataError(f"{path}: has no {phrase(names)} (or .gz)")
    files = [os.path.join(path, found[key][0]) for key in wanted if key in found]
    return list(zip(files[::2], files[1::2], strict=True))
