"""Data sets of the Hugging Face Hub, or local files, read with the package `datasets`."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from slipstream.core.errors import DataError, did_you_mean
from slipstream.core.registry import register
from slipstream.core.types import Count, DataLike, Plain, Word
from slipstream.core.wording import install
from slipstream.data.dataset import RawData
from slipstream.data.identity import name_of, names_of, words_of
from slipstream.data.image.image_files import BadImage, bits_of, flat
from slipstream.data.in_memory import InMemory, given_again
from slipstream.data.messages import naming, phrase
from slipstream.data.sources.table import Kind, frame_of, input_kinds
from slipstream.data.sources.texts import labelled, piece_of
from slipstream.data.tabular.columns import join
from slipstream.data.tabular.parquet import from_series
from slipstream.data.tabular.spelling import described
from slipstream.data.tabular.table_file import File, labels_among, where_in
from slipstream.data.tabular.values import Frame, Text, Values
from slipstream.data.targets import make_target
from slipstream.data.text.vocabulary import Texts, Tokenizer

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
MEMORY = "memory"  # the name of a dataset that is given in Python
LARGEST = 100_000_000  # maximum pixels of an image to decode


def hub_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check the settings as far as possible without reading anything."""
    found = []
    name, path = settings["dataset"], settings["path"]
    if name is None and path is None:
        found.append(
            "data.dataset: is not set, expected a data set of the hub, such as mnist; use data.path "
            "for local files"
        )
    if name is not None and path is not None:
        found.append("data.path: the data already come from data.dataset; remove one of them")
    if not names_of(settings["target"]):
        found.append("data.target: is not set, expected the name of the column to predict")
    if name == MEMORY or path is not None:
        found += [
            f"data.{key}: is for data sets of the hub and does not apply to others; remove it"
            for key in ("subset", "revision")
            if settings[key] is not None
        ]
    if path is not None:
        if not Path(path).exists():
            found.append(f"data.path: {path} does not exist")
        elif Path(path).is_file() and Path(path).suffix.lower() not in FORMATS:
            found.append(
                f"data.path: found {path}, expected a folder or a name that ends in {', '.join(FORMATS)}"
            )
    splits = [settings[f"{part}_split"] for part in ("train", "validation", "test")]
    named = [split for split in splits if split is not None]
    if len(set(named)) < len(named):
        found.append(f"data.train_split: the same name is used for two splits: {phrase(named)}")
    return found


@register("data", problems=hub_problems, form=None, in_memory=True)
def hub(
    given: InMemory | None,
    *,
    dataset: str | None,
    subset: str | None,
    revision: str | None,
    path: str | None,
    train_split: str,
    validation_split: str | None,
    test_split: str | None,
    kind: Literal["auto", "table", "text", "image"],
    inputs: list[Word] | None,
    target: Word | list[Word] | None,
    task: Literal["auto", "binary", "multiclass", "multilabel", "regression"],
    classes: list[Word] | None,
    missing_target: Literal["error", "drop"],
    kinds: dict[Word, Kind],
    impute: Literal["median", "mean", "most_frequent", "error"],
    max_categories: Annotated[int, Ge(2)],
    level: Literal["word", "character"],
    lower: bool,
    unicode: Literal["NFC", "NFKC"],
    max_length: Count,
    keep: Literal["first", "last"],
    min_count: Count,
    max_words: Count | None,
    empty: Literal["error", "drop"],
    size: Annotated[int, Ge(1), Le(4096)] | None,
    bits: Literal["auto"] | Annotated[int, Ge(8), Le(16)],
) -> RawData:
    """Data sets of the Hugging Face Hub, or local files, read with the package `datasets`.

    dataset: the name on the hub, or `memory` for one passed to slipstream.fit in Python. subset: its
        configuration, if it has several. revision: a branch, tag or commit; null is the newest, so only a
        commit makes runs repeatable. Code of a data set is never run.
    path: a local alternative: a CSV, TSV, JSON or Parquet file, a folder of images (a folder for each class),
        or the output of `save_to_disk`.
    train_split, validation_split, test_split: the names of the splits; null draws that split from train.
    kind: `auto` treats a single input column of images as images, one of strings as texts, and anything else
        as a table.
    inputs: the columns to use; null for all but the target. target: the column to predict, or a list. task,
        classes, missing_target, and of tables kinds, impute, max_categories: as in data=table. level, lower,
        unicode, max_length, keep, min_count, max_words, empty: of texts, as in data=text.
    size: pixels per side: images are scaled and cropped to a square; null if all have the same size.
    bits: of 16-bit grayscale images, how many bits are used for brightness, as in data=images. Raises
        DataError with the message of `datasets` in one sentence, including for a failed connection.
    """
    labels = words_of(classes)
    assert target is not None
    place = "the dataset" if dataset == MEMORY else str(dataset or path)
    targets = names_of(target)
    asked = {name_of(name): kind for name, kind in kinds.items()}
    as_words = labels_among(targets, task) | {name for name, kind in asked.items() if kind == "category"}
    splits = {0: train_split, 1: validation_split, 2: test_split}
    with ExitStack() as stack:
        found = _given(given) if dataset == MEMORY else _load(stack, dataset, subset, revision, path)
        chosen = {part: _split(found, name, place) for part, name in splits.items() if name is not None}
        for name in targets:
            if name not in chosen[0].column_names:
                near = did_you_mean(name, chosen[0].column_names)
                raise DataError(f"{place}: data.target names {name!r}, which is not a column, {near}")
        rest = [n for n in chosen[0].column_names if n not in targets and asked.get(n) != "ignore"]
        names = rest if inputs is None else names_of(inputs)
        what = _kind(chosen[0], names, place, kind)
        wanted = targets if what == "image" else [*targets, *names]
        files = [
            _file(split, part, f"{place}, {splits[part]}", wanted, as_words) for part, split in chosen.items()
        ]
        for file in files:
            file.check_names({"target": targets, "inputs": names_of(inputs)})
            file.read_targets(targets, task, labels, missing_target == "drop")
        pixels = (
            [_images(chosen[f.part], names[0], size, f, bits_of(bits)) for f in files]
            if what == "image"
            else []
        )
    if what == "text":
        tokenizer = Tokenizer(level, lower, unicode, max_length, keep)
        pieces = [piece_of(file, names[0], targets) for file in files]
        words = (words for piece in pieces for words in piece.texts)
        cut = Texts.of(words, tokenizer, names[0], min_count, max_words)
        parts = [file.part for file in files]
        raw = labelled(pieces, parts, cut, targets, (task, labels), empty, missing_target)
    elif what == "image":
        array = _stack(pixels, place)
        channels = ("brightness",) if array.shape[1] == 1 else ("red", "green", "blue")
        raw = _raw(array, channels, files, targets, (task, labels), place)
        raw.kind = "image"
    else:
        warnings: list[str] = []
        of = input_kinds(files[0], set(targets), asked, inputs is not None, warnings)
        frame = frame_of(files, of, impute, max_categories)
        raw = _raw(frame, tuple(of), files, targets, (task, labels), place)
        raw.warnings += warnings
    raw.warnings[:0] = [warning for file in files for warning in file.warnings]
    raw.warnings += described(note for file in files for note in file.notes)
    raw.sources = (path,) if path is not None and Path(path).is_file() else ()
    at = "" if dataset in (None, MEMORY) else f" (revision {revision or 'newest'})"
    raw.notes.append(f"Hugging Face: {place}{at}, {phrase([s for s in splits.values() if s])}.")
    return raw


def _raw(
    inputs: np.ndarray | Frame,
    names: tuple[str, ...],
    files: list[File],
    targets: list[str],
    meaning: tuple[str, list[str] | None],
    place: str,
) -> RawData:
    """Combine inputs with targets and splits of the files. meaning: the settings task and classes."""
    with naming(place):
        joined = [join([file.targets[name] for file in files]) for name in targets]
        y, target = make_target(targets, joined, *meaning)
    parts = np.repeat([file.part for file in files], [file.rows for file in files]).astype(np.int8)
    return RawData(inputs, names, y, target, parts=parts, where=where_in(files))


def _given(given: InMemory | None) -> Mapping[str, Plain]:
    if given is None or given.splits is None:
        raise DataError(given_again("data=hub: the rows"))
    return given.splits


def _load(
    stack: ExitStack, dataset: str | None, subset: str | None, revision: str | None, path: str | None
) -> Mapping[str, Plain]:
    """Load the splits by name. Local files pass through a temporary folder that the stack removes."""
    try:
        import datasets
        from huggingface_hub.utils import logging
    except ImportError as error:
        raise DataError(
            f"data=hub needs the package datasets, which is not installed: {install('hub')}"
        ) from error
    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    logging.set_verbosity_error()
    try:
        if path is None:
            found = datasets.load_dataset(dataset, subset, revision=revision)
        elif any((Path(path) / name).is_file() for name in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(path)
        else:
            # A separate cache: the one in the home directory may be read-only, or hold an old copy of the
            # file.
            options: dict[str, Plain] = {"cache_dir": stack.enter_context(tempfile.TemporaryDirectory())}
            if Path(path).is_dir():
                found = datasets.load_dataset(path, **options)
            else:
                ending = Path(path).suffix.lower()
                options |= {"sep": "\t"} if ending == ".tsv" else {}
                found = datasets.load_dataset(FORMATS[ending], data_files=path, **options)
    except Exception as error:  # of many types, from the connection to a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = (
            "; without a connection, read local files with data.path"
            if isinstance(error, OSError) and dataset
            else ""
        )
        raise DataError(f"{dataset or path}: cannot be loaded: {reason}{hint}") from error
    return found if isinstance(found, Mapping) else {"train": found}


def _split(found: Mapping[str, Plain], name: str, place: str) -> DataLike:
    if name not in found:
        raise DataError(f"{place}: has no split {name!r}, {did_you_mean(name, found)}")
    names = [name_of(column) for column in found[name].column_names]
    for column in names:
        if names.count(column) > 1:
            raise DataError(f"{place}: two columns are named {column!r} in different spellings")
    spelled = zip(found[name].column_names, names, strict=True)
    return found[name].rename_columns({old: new for old, new in spelled if old != new})


def _kind(split: DataLike, names: list[str], place: str, asked: str) -> str:
    """Return the kind of inputs: the setting, or what the features of a single column imply."""
    for name in names:
        if name not in split.features:
            raise DataError(
                f"{place}: data.inputs names {name!r}, which is not a column, "
                f"{did_you_mean(name, split.features)}"
            )
    feature = split.features[names[0]] if len(names) == 1 else None
    if asked == "auto" and feature is not None:
        words = getattr(feature, "dtype", None) in ("string", "large_string")
        return "image" if type(feature).__name__ == "Image" else "text" if words else "table"
    if asked in ("image", "text") and feature is None:
        raise DataError(
            f"{place}: data.kind={asked} expects one input column, found {phrase(names)}; select "
            f"one with data.inputs"
        )
    return "table" if asked == "auto" else asked


def _file(split: DataLike, part: int, place: str, wanted: list[str], as_words: Collection[str]) -> File:
    """Read the wanted columns of a split, classes by name. as_words: as in `ReadingRules`."""
    columns: dict[str, Values] = {}
    kinds = {}
    present = [name for name in split.column_names if name in wanted]
    frame = split.select_columns(present).to_polars()
    for name in present:
        feature = split.features[name]
        with naming(place):
            values, kind = from_series(frame[name], frozenset([""]), name in as_words)
        if type(feature).__name__ == "ClassLabel" and isinstance(values, np.ndarray):
            unknown = np.isnan(values) | (values < 0)
            values = Text(np.where(unknown, -1, values).astype(np.int32), list(feature.names))
            kind = "category"
        columns[name] = values
        if kind:
            kinds[name] = kind
    return File(
        place, part, list(split.column_names), columns, kinds, None, [], np.ones(len(split), bool), {}
    )


def _images(split: DataLike, column: str, size: int | None, file: File, bits: int) -> list[np.ndarray]:
    """Return the images of the rows with a target, uint8 [1 or 3, H, W] each."""
    import datasets

    raw = split.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    found = []
    for row in np.flatnonzero(file.keep):
        with naming(f"{file.path}: row {row + 1}"):
            found.append(_pixels(raw[int(row)][column], size, bits))
    return found


def _pixels(stored: Mapping[str, Plain] | None, size: int | None, bits: int) -> np.ndarray:
    """Decode a stored image to bytes of pixels. Raises DataError."""
    from PIL import Image, ImageOps

    if stored is None:
        raise DataError("the image is missing, expected one in every row")
    try:
        content = stored["bytes"] if stored["bytes"] is not None else Path(stored["path"]).read_bytes()
        with Image.open(io.BytesIO(content)) as opened:
            if opened.width * opened.height > LARGEST:
                raise DataError(
                    f"the image has {opened.width} x {opened.height} pixels, expected at most {LARGEST:,}"
                )
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith(("I", "F")):
                image = flat(image, "L", "black", bits)
            image = image.convert("L" if image.mode in ("1", "L") else "RGB")
            if size is not None:
                image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
            array = np.asarray(image, np.uint8)
    except BadImage as error:
        raise DataError(f"the image {error}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"the image cannot be read: {error}") from error
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _stack(pixels: list[list[np.ndarray]], place: str) -> np.ndarray:
    """Stack all images in one array [N, C, H, W]. Grayscale images become RGB if any image has colors."""
    images = [image for part in pixels for image in part]
    sizes = {image.shape[1:] for image in images}
    if len(sizes) > 1:
        said = phrase([f"{height} x {width}" for height, width in sorted(sizes)], 3)
        raise DataError(
            f"{place}: found images of different sizes ({said}): set data.size, the pixels per side"
        )
    channels = max(len(image) for image in images)
    out = np.empty((len(images), channels, *sizes.pop()), np.uint8)
    for i, image in enumerate(images):
        out[i] = image
    return out
