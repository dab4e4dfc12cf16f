"""Raw data from the result of a user data source: arrays, or a torch.utils.data.Dataset."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slipstream.core import folders
from slipstream.core.errors import DataError
from slipstream.core.lazy import torch
from slipstream.core.types import DataLike
from slipstream.core.wording import counted
from slipstream.data.dataset import PARTS, RawData
from slipstream.data.image.stored import Stored
from slipstream.data.sources.arrays import raw_of_arrays

if TYPE_CHECKING:
    from slipstream.core.registry import Component
    from slipstream.core.traits import DataTraits

IN_FILE = 2**28  # bytes of images that are kept in a temporary file, from which training may read them
ROLES = ("inputs", "targets")
SHARE = 0.5  # of the free memory: the rest is for encoding and networks
EXPECTED = (
    "expected (inputs, targets) as arrays, a Dataset of such pairs, or a mapping of train, validation and "
    "test to one of these"
)


def as_raw(source: Component[DataTraits], found: object) -> RawData:
    """Return what a user's source returned as raw data. Raises DataError for what cannot be used.

    found: RawData; (inputs [N, ...], targets); a dataset with a length whose items are (input, target); or a
    mapping of the parts train, validation and test to such.
    """
    if isinstance(found, RawData):
        return found
    name = f"data={source.name}"
    given: Mapping[str, object] = found if isinstance(found, Mapping) else {"train": found}
    if "train" not in given or set(given) - set(PARTS):
        raise DataError(f"{name}: returned a mapping with {', '.join(map(str, given))}; {EXPECTED}")
    parts = {
        part: _arrays(f"{name}, {part}" if len(given) > 1 else name, given[part])
        for part in PARTS
        if part in given
    }
    sizes = [len(targets) for _, targets in parts.values()]
    whole = {role: _joined(name, role, [pair[i] for pair in parts.values()]) for i, role in enumerate(ROLES)}
    numbers = np.repeat([PARTS.index(part) for part in parts], sizes).astype(np.int8)
    raw = raw_of_arrays(
        name, {"inputs": "inputs", "targets": "target", "weights": None}, whole, numbers, "auto", None
    )
    raw.inputs = Stored.of(raw.inputs)
    if isinstance(raw.inputs, Stored):  # it stays open
        folders.remove(Path(str(whole["inputs"].filename)))  # type: ignore[attr-defined]  # memory-mapped
    return raw


def _joined(name: str, role: str, arrays: Sequence[np.ndarray]) -> np.ndarray:
    if len({array.shape[1:] for array in arrays}) > 1:
        shapes = " and ".join(str(list(array.shape)) for array in arrays)
        raise DataError(f"{name}: {role} of the parts have shapes {shapes}; expected one shape of an example")
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _arrays(name: str, found: object) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs and targets of one part."""
    if isinstance(found, torch.utils.data.IterableDataset) or (
        hasattr(found, "__next__") and not hasattr(found, "__getitem__")
    ):
        raise DataError(
            f"{name}: found {type(found).__name__}, which has no length and no order to repeat; "
            "expected a Dataset with __len__ and __getitem__, or arrays"
        )
    if isinstance(found, tuple | list) and len(found) == 2 and not isinstance(found[0], tuple):
        pair = np.asarray(_plain(found[0])), np.asarray(_plain(found[1]))
        if len({np.ndim(one) == 0 or len(one) for one in pair}) > 1:
            said = " and ".join(str(list(one.shape)) for one in pair)
            raise DataError(
                f"{name}: inputs and targets have shapes {said}; expected one target for each example"
            )
        return pair
    if hasattr(found, "__getitem__") and hasattr(found, "__len__"):
        return _gathered(name, found)
    raise DataError(f"{name}: returned a {type(found).__name__}; {EXPECTED}")


def _gathered(name: str, items: DataLike) -> tuple[np.ndarray, np.ndarray]:
    """Return all items of a dataset, read once and in order."""
    rows = len(items)
    if not rows:
        raise DataError(f"{name}: the dataset has no items; expected at least 3")
    first, _ = _item(name, items, 0)
    inputs, targets = _room(name, rows, first), []
    for row in range(rows):
        x, y = _item(name, items, row)
        if x.shape != first.shape:
            raise DataError(
                f"{name}: item {row} has an input of shape {list(x.shape)}, and item 0 of "
                f"{list(first.shape)}; expected one shape for all (resize in the dataset's transform)"
            )
        inputs[row] = x
        targets.append(np.asarray(y))
    try:
        return inputs, np.stack(targets)
    except ValueError as error:
        raise DataError(f"{name}: targets of items differ in shape; expected one shape for all") from error


def _item(name: str, items: DataLike, row: int) -> tuple[np.ndarray, DataLike]:
    item = items[row]
    if not isinstance(item, tuple | list) or len(item) != 2:
        what = counted(len(item), "value") if isinstance(item, tuple | list) else f"a {type(item).__name__}"
        raise DataError(f"{name}: item {row} is {what}, expected (input, target)")
    x, y = (_plain(value) for value in item)
    picture = hasattr(x, "getbands")
    array = np.asarray(x)
    if picture:  # of Pillow: height, width and colours
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name}: item {row} has an input of {array.dtype}, expected numbers or an image")
    return array, y


def _plain(value: DataLike) -> DataLike:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def _room(name: str, rows: int, first: np.ndarray) -> np.ndarray:
    """Return an empty array for all inputs: in memory, or for many images of bytes in a temporary file."""
    shape, need = (rows, *first.shape), rows * first.nbytes
    if first.dtype == np.uint8 and first.ndim == 3 and need > IN_FILE:
        with tempfile.NamedTemporaryFile(prefix="slipstream-", delete=False) as file:
            return np.memmap(file, np.uint8, "w+", shape=shape)
    free = _free()
    if free is not None and need > SHARE * free:
        each, left = counted(first.nbytes, "byte"), f"{free / 2**30:.1f} GB"
        raise DataError(
            f"{name}: {counted(rows, 'item')} of {each} need {need / 2**30:.1f} GB and {left} are free; "
            "return images as bytes (uint8), which are read from a file, or fewer items"
        )
    return np.empty(shape, first.dtype)


def _free() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return None
