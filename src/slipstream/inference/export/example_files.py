"""Reading and writing by an exported folder's program: tables, texts, arrays, images; rows of predictions."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from slipstream.data.image.image_files import BadImage, ImageFormat, decode, pixels_of

Value: TypeAlias = Any  # a value from JSON, or examples of any kind
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
PARQUET = (".parquet", ".pq")


def read(path: str, about: Mapping[str, Value]) -> Value:
    """Read examples from a file, or the paths of images from a folder.

    .npy and .npz are arrays, .parquet is a table (needs pyarrow); others are lines of text or a CSV table.
    """
    if path.endswith((".npy", ".npz")):
        return _array(path)
    if about["kind"] == "image":
        return _pictures(path)
    if about["kind"] in ("array", "tokens") and not about["columns_named"]:
        raise ValueError(f"{path}: expected an array in a .npy or .npz file")
    if path.endswith(PARQUET):
        return _parquet(path)
    with open(path, encoding="utf-8-sig", newline="") as file:
        if about["kind"] == "text" and not path.endswith((".csv", ".tsv")):
            return [line.rstrip("\r\n") for line in file]
        separator = about["separator"] or max("\t;,|", key=file.readline().count)
        file.seek(0)
        rows = csv.reader(file, delimiter=separator)
        first = next(rows, [])
        head = first if about["header"] else [f"column {i}" for i in range(1, len(first) + 1)]
        columns: dict[str, list[str]] = {name: [] for name in head}
        for number, row in enumerate(rows if about["header"] else chain([first], rows), 1):
            if not row:
                continue
            if len(row) != len(head):
                found = f"has length {len(row)}, expected {len(head)}"
                raise ValueError(f"{path}, row {number} {found}")
            for name, value in zip(head, row, strict=True):
                columns[name].append(value)
    return columns


def _array(path: str) -> np.ndarray:
    """Return the array of a .npy file, or that of a .npz file: its only one, or `inputs`."""
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    arrays = list(found)
    if len(arrays) != 1 and "inputs" not in arrays:
        raise ValueError(f"{path}: has the arrays {', '.join(arrays)}; expected a single one, or `inputs`")
    array: np.ndarray = found[arrays[0] if len(arrays) == 1 else "inputs"]
    return array


def _parquet(path: str) -> dict[str, list[Value]]:
    try:
        import pyarrow.parquet
    except ImportError:
        advice = "install it with pip install pyarrow, or write the rows as CSV"
        raise ValueError(f"{path}: Parquet files need pyarrow; {advice}") from None
    try:
        columns: dict[str, list[Value]] = pyarrow.parquet.read_table(path).to_pydict()
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path}: is not a Parquet file that can be read ({error})") from None
    return columns


def _pictures(path: str) -> list[str]:
    """Return the images below a folder in the order of their names, or the one that is named."""
    if not os.path.isdir(path):
        return [path]
    files = sorted(p for p in Path(path).rglob("*") if p.suffix.lower() in PICTURES and p.is_file())
    if not files:
        raise ValueError(f"{path}: contains no images; expected files such as {', '.join(PICTURES)}")
    return [str(file) for file in files]


def are_pictures(examples: Value) -> bool:
    """Return True for paths or Pillow images, as a list or one alone."""
    several = examples if isinstance(examples, (list, tuple)) else [examples]
    return bool(several) and all(
        isinstance(one, (str, os.PathLike)) or hasattr(one, "getexif") for one in several
    )


def names(path: str, examples: Value) -> list[str]:
    """Return the names of images below the folder that was read; none for an array."""
    if not are_pictures(examples):
        return []
    return [os.path.relpath(one, path) if os.path.isdir(path) else os.path.basename(one) for one in examples]


def pixels(pictures: Sequence[Value], about: Mapping[str, Value]) -> np.ndarray:
    """Return image files or Pillow images in the size and channels of training, uint8 [N, C, H, W].

    Raises ValueError without Pillow and for files that are no images.
    """
    channels, height, width = about["shape"]
    form = ImageFormat((height, width), channels, **about["pictures"])
    found = []
    for one in pictures:
        path = os.fspath(one) if isinstance(one, (str, os.PathLike)) else ""
        try:
            found.append(decode(path, form)[0] if path else pixels_of(one, form))
        except ImportError:
            advice = "install it with pip install pillow, or pass their pixels in a .npy file"
            raise ValueError(f"{path}: image files need Pillow; {advice}") from None
        except BadImage as error:
            raise ValueError(f"{path or 'an image'} {error}") from None
    return np.stack(found)


def lines(
    found: Mapping[str, np.ndarray], about: Mapping[str, Value], files: Sequence[str] = ()
) -> Iterator[list[Value]]:
    """Yield the rows of a CSV file of predictions, starting with the header.

    files: the image that each row is of, for the first column.
    """
    rows = _rows(found, about)
    if not files:
        yield from rows
        return
    yield ["file", *next(rows)]
    yield from ([file, *row] for file, row in zip(files, rows, strict=True))


def _rows(found: Mapping[str, np.ndarray], about: Mapping[str, Value]) -> Iterator[list[Value]]:
    prediction, scores = found["prediction"], found["scores"]
    if about["task"] == "regression":
        several = scores.shape[1] > 1
        yield [f"predicted {name}" for name in about["names"]] if several else ["prediction"]
        yield from scores.tolist()
        return
    kind = "probability" if about["probabilistic"] else "score"
    scored = [f"{kind} {name}" for name in about["classes"]]
    if about["task"] == "multilabel":
        yield [*(f"predicted {name}" for name in about["classes"]), *scored]
        yield from ([*p, *s] for p, s in zip(prediction.tolist(), scores.tolist(), strict=True))
        return
    yield ["prediction", *scored]
    yield from ([p, *s] for p, s in zip(prediction.tolist(), scores.tolist(), strict=True))
