"""Arrays from npz, safetensors or a folder of npy files."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from slipstream.core.errors import DataError, did_you_mean
from slipstream.core.registry import register
from slipstream.core.types import DataLike, Plain, Word
from slipstream.data.dataset import RawData
from slipstream.data.identity import words_of
from slipstream.data.messages import below, naming, phrase
from slipstream.data.tabular.any_column import from_plain
from slipstream.data.tabular.columns import check_finite
from slipstream.data.targets import make_target


def arrays_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check the path, and that split and groups fit together."""
    found = _path_problems(settings["path"])
    if settings["split"] == "group" and settings["groups"] is None:
        found.append("data.split: group needs data.groups, the name of the array with each row's group")
    if settings["groups"] is not None and settings["split"] not in ("auto", "group"):
        found.append(f"data.groups: is not used by data.split={settings['split']}; remove one of them")
    return found


def _path_problems(found: str | None) -> list[str]:
    """Check for a path that is missing, does not exist, or has another type."""
    if found is None:
        return ["data.path: is not set, expected an npz or safetensors file or a folder of npy files"]
    path = Path(found)
    if not path.exists():
        return [f"data.path: {found} does not exist"]
    if path.is_dir() or path.suffix in (".npz", ".safetensors"):
        return []
    if path.suffix == ".npy":
        return [
            f"data.path: {found} is one array; give its folder, data.path={path.parent} "
            f"data.inputs={path.stem} and data.targets the name of the file with the targets"
        ]
    return [f"data.path: found {found}, expected .npz, .safetensors or a folder of .npy files"]


@register("data", problems=arrays_problems, splits=("group", "time"), form=None, labels="from 0")
def arrays(
    *,
    path: str | None,
    inputs: str,
    targets: str,
    weights: str | None,
    groups: str | None,
    task: Literal["auto", "binary", "multiclass", "multilabel", "regression"],
    classes: list[Word] | None,
) -> RawData:
    """Your own arrays: npz, safetensors or a folder of npy files.

    path: the file or folder. inputs, targets, weights, groups: the arrays' names in it (in a folder, the file
        names without .npy). If <inputs>_validation and <targets>_validation (or ..._test) exist, they are
        that split. split=time uses the order of the rows. Inputs are finite numbers [N, C], [N, T, C], [N, C,
        H, W] or [N]. Targets: whole numbers [N] are labels; 0 and 1 [N, L] are multilabel; other numbers [N]
        or [N, D] are regression.
    weights: [N], >= 0. groups: [N]; the rows of a group stay in one split.
    task: overrides the inferred task. classes: their names; labels must then be 0 ... classes-1. Raises
        DataError for object arrays (nothing is ever unpickled), different lengths, NaN or infinity, and
        images with channels last.
    """
    labels = words_of(classes)
    assert path is not None
    store = read_arrays(path)
    names = {"inputs": inputs, "targets": targets, "weights": weights, "groups": groups}
    present = [end for end in ("", "_validation", "_test") if not end or inputs + end in store]
    parts: dict[str, list[np.ndarray]] = {role: [] for role, name in names.items() if name is not None}
    for end in present:
        for role, name in names.items():
            if name is not None:
                parts[role].append(_get(store, name + end, path))
        _check_lengths({f"{names[role]}{end}": found[-1] for role, found in parts.items()}, path)
    sizes = [len(part) for part in parts["inputs"]]
    whole = {role: _join(found, path, str(names[role])) for role, found in parts.items()}
    parts_of = np.repeat([("", "_validation", "_test").index(e) for e in present], sizes).astype(np.int8)
    return replace(
        raw_of_arrays(path, names, whole, parts_of, task, labels),
        sources=tuple(_files(path, store)),
        where=below(sizes, [partial("{}: {}[{}]".format, path, targets + end) for end in present]),
    )


def raw_of_arrays(
    path: str,
    names: Mapping[str, str | None],
    whole: Mapping[str, np.ndarray],
    parts: np.ndarray,
    task: str,
    labels: list[str] | None,
) -> RawData:
    """Return arrays as raw data. whole: arrays by role, with their names. labels: the setting classes."""
    inputs, targets = str(names["inputs"]), str(names["targets"])
    x = whole["inputs"][:, None] if whole["inputs"].ndim == 1 else whole["inputs"]
    if channels_are_last(x.shape):
        raise DataError(
            f"{path}: {inputs} has shape {x.shape}, which looks like [N, H, W, C], expected [N, C, H, W]: "
            f"save {inputs}.transpose(0, 3, 1, 2)"
        )
    check_finite(f"{path}: {inputs}", x)
    y, target = _targets(path, targets, whole["targets"], task, labels)
    return RawData(
        x,
        _channel_names(x),
        y,
        target,
        weights=_weights(path, names["weights"], whole.get("weights")),
        parts=parts,
        groups=_groups(path, names.get("groups"), whole.get("groups")),
        where=lambda i: f"{path}: {targets}[{i}]",
    )


def read_arrays(path: str) -> Mapping[str, np.ndarray]:
    """Read the arrays of a file or folder by name; nothing is unpickled. Raises DataError."""
    place = Path(path)
    try:
        if place.is_dir():
            return {
                file.stem: np.load(file, allow_pickle=False, mmap_mode="r")
                for file in sorted(place.glob("*.npy"))
            }
        if place.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(place))
        # With an open file object, numpy leaves no file open if the content is damaged.
        with place.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:  # a damaged file makes numpy and zipfile raise anything, TokenError included
        # numpy treats unknown content as a pickle.
        if place.suffix == ".npz" and not zipfile.is_zipfile(place):
            reason = "it is not an npz file; write one with numpy.savez"
        elif "pickle" in str(error):
            reason = "it contains Python objects, which are never unpickled; save plain numbers"
        else:
            reason = str(error)
        raise DataError(f"{path}: cannot be read: {reason}") from error


def _get(store: Mapping[str, np.ndarray], name: str, path: str) -> np.ndarray:
    if name not in store:
        raise DataError(f"{path}: has no array {name!r}, {did_you_mean(name, store)}")
    array = store[name]
    if array.dtype.kind not in "fiub":
        kind = {"U": "text", "S": "text", "M": "dates", "c": "complex numbers"}.get(array.dtype.kind)
        raise DataError(
            f"{path}: {name} contains {kind or array.dtype}, expected numbers or booleans "
            f"(classes as 0, 1, ...)"
        )
    if array.ndim == 0:
        raise DataError(f"{path}: {name} is a single number, expected one entry per row")
    return array


def _check_lengths(found: dict[str, np.ndarray], path: str) -> None:
    lengths = {name: len(array) for name, array in found.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(
            f"{path}: found arrays of different lengths: {said}; expected one entry per row in each"
        )


def _join(found: list[np.ndarray], path: str, name: str) -> np.ndarray:
    shapes = {array.shape[1:] for array in found}
    if len(shapes) > 1:
        raise DataError(
            f"{path}: {name} and its validation or test split have different shapes: {phrase(shapes)}"
        )
    whole = found[0] if len(found) == 1 else np.concatenate(found)
    if len(whole) == 0 or whole[0].size == 0:
        raise DataError(f"{path}: {name} of shape {whole.shape} is empty, expected at least 3 rows")
    return whole


def _targets(
    path: str, name: str, y: np.ndarray, task: str, classes: list[str] | None
) -> tuple[np.ndarray, DataLike]:
    if y.ndim > 2:
        raise DataError(f"{path}: {name} has shape {y.shape}, expected [N] or [N, D]")
    check_finite(f"{path}: {name}", y)
    columns = [y] if y.ndim == 1 else list(y.T)
    if classes is not None and len(columns) == 1:
        known = np.isin(columns[0], np.arange(len(classes)))
        if not known.all():
            row = int(np.argmin(known))
            raise DataError(
                f"{path}: {name}[{row}]: found label {y[row]}, expected 0 to {len(classes) - 1}, since "
                f"data.classes lists {len(classes)}"
            )
    names = [name] if len(columns) == 1 else [f"{name}_{i}" for i in range(len(columns))]
    values = [
        from_plain(name, np.ascontiguousarray(column), words=True)
        for name, column in zip(names, columns, strict=True)
    ]
    indices = None if classes is None else [str(i) for i in range(len(classes))]
    with naming(path):
        encoded, target = make_target(names, values, task, indices, labels=y.dtype.kind in "iub")
    return encoded, target if classes is None else type(target)(target.task, target.names, tuple(classes))


def channels_are_last(shape: tuple[int, ...]) -> bool:
    """Return True if an array of images has its channels last; for one channel, only if images are square.

    >>> channels_are_last((9, 32, 48, 3)), channels_are_last((9, 3, 32, 48))
    (True, False)
    """
    if len(shape) != 4 or min(shape[1:3]) <= 4:
        return False
    return shape[3] in (3, 4) or (shape[3] == 1 and shape[1] == shape[2])


def _weights(path: str, name: str | None, values: np.ndarray | None) -> np.ndarray | None:
    if values is None:
        return None
    check_finite(f"{path}: {name}", values)
    if values.ndim != 1 or (values < 0).any():
        raise DataError(f"{path}: {name} has shape {values.shape}, expected [N] with weights >= 0")
    return values.astype(np.float64)


def _groups(path: str, name: str | None, values: np.ndarray | None) -> np.ndarray | None:
    """Return groups as integers, int64 [N]. Raises DataError for NaN, which is not a group, and infinity."""
    if values is None:
        return None
    if values.ndim != 1:
        raise DataError(f"{path}: {name} has shape {values.shape}, expected [N], one group per row")
    check_finite(f"{path}: {name}", values)
    return np.unique(values, return_inverse=True)[1]


def _channel_names(x: np.ndarray) -> tuple[str, ...]:
    """Return x0 ... for the entries of a row, channel_0 ... if inputs have more axes."""
    if x.ndim == 2:
        return tuple(f"x{i}" for i in range(x.shape[1]))
    return tuple(f"channel_{i}" for i in range(x.shape[2 if x.ndim == 3 else 1]))


def _files(path: str, store: Mapping[str, np.ndarray]) -> list[str]:
    place = Path(path)
    return [str(place / f"{name}.npy") for name in store] if place.is_dir() else [path]
