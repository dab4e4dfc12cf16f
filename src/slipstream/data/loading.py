"""Loading, from a source to tensors: check, read, split, fit on train, transform, describe."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from slipstream.core.errors import ConfigError, DataError
from slipstream.core.lazy import torch
from slipstream.core.registry import component
from slipstream.core.traits import foreign
from slipstream.core.types import Plain, Target
from slipstream.data.classes import amounts, class_warnings, require_known
from slipstream.data.dataset import PARTS, Data, RawData, Settings, Split
from slipstream.data.identity import names_of
from slipstream.data.image.stored import Stored, materialize
from slipstream.data.in_memory import InMemory
from slipstream.data.kinds import reader_of
from slipstream.data.messages import advising, naming
from slipstream.data.overview import Facts
from slipstream.data.own_source import as_raw
from slipstream.data.preprocessing import Preprocessing
from slipstream.data.quality import doubts, unlikely
from slipstream.data.scaling import SCALINGS
from slipstream.data.splits import split_rows
from slipstream.data.targets import class_weights, require_variety

ROLES = ("group_column", "time_column", "split_column", "weight_column")


def problems(settings: Settings) -> list[str]:
    """Check the combination of individually valid data settings without reading any data.

    settings: `name`, the option's own settings and the common ones, as for `load`.
    """
    source = component("data", settings["name"])
    found = []
    if settings["split"] not in ("auto", "random", "stratified", *source.traits.splits):
        found.append(
            f"data.split: {settings['split']} needs rows with a group or a time, which "
            f"data={source.name} lacks; expected auto, random or stratified"
        )
    shares = [settings[part] for part in ("validation", "test") if settings[part] != "auto"]
    if sum(shares) >= 1:
        found.append(
            f"data.validation: {settings['validation']} and data.test: {settings['test']} leave no rows to "
            "train on; expected a sum below 1"
        )
    folds, fold = settings["folds"], settings["fold"]
    if folds is None and fold != 0:
        found.append(f"data.fold: found {fold}, but data.folds is null; set data.folds or remove data.fold")
    if folds is not None:
        if folds < 2:
            found.append(f"data.folds: found {folds}, expected at least 2, or null")
        elif fold >= folds:
            found.append(f"data.fold: found {fold}, expected 0 to {folds - 1} (data.folds={folds})")
        if settings["validation"] != "auto":
            found.append(
                f"data.validation: found {settings['validation']}, but data.folds={folds} defines the "
                "validation split; remove one of them"
            )
        if settings["split"] == "time" or settings.get("time_column") is not None:
            found.append(
                "data.folds: a split by time supports no folds, since a fold would train on later rows"
            )
    scaling = SCALINGS[settings["scaling"]]
    if scaling.pooled and source.name in ("table", "sequences"):
        found.append(
            f"data.scaling: {settings['scaling']} is for inputs with a common unit (pixels), "
            f"expected standard, "
            "minmax, robust or none"
        )
    if scaling.clip and source.traits.form == "image":
        found.append(
            f"data.scaling: {settings['scaling']} is for tables and sequences; data={source.name}, which "
            "has images, supports standard, minmax, global or none"
        )
    if source.traits.form == "tokens" and settings["scaling"] != "none":
        found.append(
            f"data.scaling: found {settings['scaling']}, but data={source.name} has token ids; expected none"
        )
    if settings.get("streaming") == "always" and settings["batch_size"] == "full":
        found.append(
            "data.streaming: always reads images from their file, but data.batch_size=full needs all of them "
            "at once; expected a number of rows"
        )
    task = source.traits.task or settings.get("task", "auto")
    found += _task_problems(task, settings)
    return found + source.traits.problems(settings)


def _task_problems(task: str, settings: Settings) -> list[str]:
    """Check settings against the task, if it is known."""
    found = []
    classes = task in ("binary", "multiclass", "auto")
    if settings["split"] == "stratified" and not classes:
        found.append(f"data.split: stratified needs classes, but the task is {task}; expected random")
    if settings["class_weights"] != "none" and not classes:
        found.append(f"data.class_weights: {task} has no classes; set data.class_weights=none")
    if settings["target_scaling"] == "standard" and task not in ("regression", "auto"):
        found.append(
            f"data.target_scaling: standard is for regression, but the task is {task}; expected auto"
        )
    return found


def load(settings: Settings, room: int | None = None, given: InMemory | None = None) -> Data:
    """Read, split and transform the data that the settings describe.

    Args:
        settings: the validated configuration of the group `data`: `name`, the option's own settings, and
            those that all data share (see `common`).
        room: bytes of memory for images. With `streaming` auto, larger data stay in their file. None means no
            limit.
        given: the rows of data=memory.

    Returns:
        The three splits as tensors, with their description and fingerprint.

    Raises:
        ConfigError: the settings do not fit each other or the data.
        DataError: the data cannot be used.
    """
    found = problems(settings)
    if found:
        raise ConfigError(found)
    source, raw = component("data", settings["name"]), read(settings, given)
    own = foreign(source.function)
    kind = reader_of(raw)
    if settings.get("classes", ()) is None:  # otherwise the user has allowed the class
        require_known(raw, source.traits.labels == "from 0")
    with naming(raw.sources[0] if raw.sources else f"data={source.name}"):
        require_variety(raw)
        how, rows = split_rows(raw, settings)
        warnings = raw.warnings + class_warnings(raw, rows) + amounts(raw, settings)
        warnings += unlikely(raw, kind.table_of(raw), settings, how, rows[0])
        weights, counts = row_weights(raw, rows, settings["class_weights"])
        targets, target = scale_targets(raw, rows[0], settings["target_scaling"], warnings)
        facts = Facts.of(settings, how, raw, rows, kind.table_of(raw))
        preprocessing, found = kind.fit(raw, rows[0], settings["scaling"])
        encoded, more = preprocessing.encode_splits(raw, rows, how)
        warnings += found + more
        warnings += doubts(encoded, [raw.targets[part] for part in rows], target, preprocessing)
        facts = replace(facts, notes=tuple(raw.notes))
        inputs = materialize(encoded, {"streaming": "auto", **settings} if own else settings, room)
    splits = [
        Split(
            x,
            torch.from_numpy(targets[part]),
            torch.from_numpy(w),
            None if c is None else torch.from_numpy(c),
            torch.from_numpy(raw.targets[part]) if target.task == "regression" else None,
        )
        for part, x, w, c in zip(rows, inputs, weights, counts, strict=True)
    ]
    return Data(
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        target=target,
        form=preprocessing.spec,
        input_names=preprocessing.names,
        preprocessing=preprocessing.to_json(),
        summary=facts.summary(preprocessing, warnings),
        card=facts.card(preprocessing),
        warnings=tuple(warnings),
        fingerprint=fingerprint(splits, rows, target, preprocessing, raw),
        sources=raw.sources,
        rows_keys=tuple(rows_key(part, raw) for part in rows),
    )


def rows_key(part: np.ndarray, raw: RawData) -> str:
    """Return the SHA-256 of a split's row numbers and targets, and of the meaning of the targets."""
    digest = hashlib.sha256(repr((raw.target.task, raw.target.names, raw.target.classes)).encode())
    for array in (part, raw.targets[part]):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read(settings: Settings, given: InMemory | None = None) -> RawData:
    """Read the data source of the settings, without splitting or encoding. given: as in `load`."""
    source = component("data", settings["name"])
    numbers, structure = source.split(settings)
    with advising(settings, *_columns_used(settings)):
        raw = as_raw(source, source(*([given] if source.traits.in_memory else []), **numbers, **structure))
    raw.inputs = Stored.of(raw.inputs)
    return raw


def _columns_used(settings: Settings) -> tuple[list[str], list[str]]:
    """Return the target columns, and the columns that are neither targets nor inputs."""
    roles = [settings.get(key) for key in ("id", "time", "text", "image", *ROLES)]
    return names_of(settings.get("target")), [name for role in roles for name in names_of(role)]


def scale_targets(
    raw: RawData, train: np.ndarray, scaling: str, warnings: list[str]
) -> tuple[np.ndarray, Target]:
    """Return all targets for the engine; regression is scaled by mean and deviation of the training split."""
    target = raw.target
    if scaling == "standard" and target.task != "regression":
        raise ConfigError(
            [f"data.target_scaling: standard is for regression, but the task is {target.task}; expected auto"]
        )
    if target.task == "multilabel":
        return raw.targets.astype(np.float32), target
    if target.task != "regression":
        return raw.targets, target
    y = raw.targets
    offset, scale = np.zeros(y.shape[1]), np.ones(y.shape[1])
    if scaling != "none":
        offset, deviation = y[train].mean(axis=0), y[train].std(axis=0)
        constant = deviation <= 1e-12 * np.abs(y[train]).max(axis=0)
        scale = np.where(constant, 1.0, deviation)
        for i in np.flatnonzero(constant):
            warnings.append(f"target {target.names[i]!r} is constant in the training split")
    scaled = ((y - offset) / scale).astype(np.float32)
    return scaled, replace(target, offset=tuple(offset.tolist()), scale=tuple(scale.tolist()))


def row_weights(
    raw: RawData, rows: list[np.ndarray], setting: Plain
) -> tuple[list[np.ndarray], list[np.ndarray | None]]:
    """Return the float32 weights of the three splits in updates, and those in metrics, or None if equal.

    Class weights apply only in updates, so that training and validation metrics are comparable.
    """
    own = np.ones(len(raw)) if raw.weights is None else raw.weights
    weights = [own[part].astype(np.float32) for part in rows]
    for part, found in zip(PARTS, weights, strict=True):
        if len(found) and found.sum() == 0:
            raise DataError(
                f"all rows of the {part} split have weight 0, expected at least one positive weight"
            )
    if setting == "none":
        return weights, [None] * len(weights)
    weighed = (own[rows[0]] * class_weights(raw, rows[0], setting)).astype(np.float32)
    return [weighed, *weights[1:]], [weights[0], *[None] * len(weights[1:])]


def fingerprint(
    splits: list[Split], rows: list[np.ndarray], target: Target, preprocessing: Preprocessing, raw: RawData
) -> str:
    """Return the SHA-256 over all tensors with their shapes, the target, the preprocessing and the files.

    Inputs with a known digest are represented by it and the row numbers.
    """
    digest = hashlib.sha256()
    # Formats affect the parsed values anyway, and the original type of labels does not affect training.
    meaning = {name: value for name, value in vars(target).items() if name != "label_kind"}
    inputs = preprocessing.to_json()
    for spelled in (*inputs["columns"], inputs["steps"] or {}):
        spelled.pop("format", None)
    described = {"target": meaning, "inputs": inputs}
    digest.update(json.dumps(described, sort_keys=True).encode())
    digest.update(raw.digest.encode())
    for split, part in zip(splits, rows, strict=True):
        known = Split(torch.from_numpy(part), split.targets, split.weights) if raw.digest else split
        for tensor in (known.inputs, known.targets, known.weights):
            kind = torch.uint8 if isinstance(tensor, Stored) else tensor.dtype
            digest.update(f"{kind}{tuple(tensor.shape)}".encode())
            for block in tensor.blocks() if isinstance(tensor, Stored) else [tensor.numpy()]:
                digest.update(block.data)
    for path in raw.sources:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
