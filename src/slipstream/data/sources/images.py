"""Your own images: read once, resized, and kept as bytes in a verified cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le, Len

from slipstream.core.errors import DataError
from slipstream.core.registry import register
from slipstream.core.types import DataLike, Plain, Word
from slipstream.core.wording import counted, typed
from slipstream.data.dataset import RawData
from slipstream.data.identity import name_of, names_of, shown, words_of
from slipstream.data.image import cache as caches
from slipstream.data.image.image_files import (
    DEPTH,
    Fit,
    Ground,
    ImageFormat,
    Reader,
    bits_of,
    describe,
    headers,
)
from slipstream.data.image.image_lists import Listing, list_folder, list_table
from slipstream.data.messages import phrase
from slipstream.data.sources.table import ENDINGS as TABLES
from slipstream.data.sources.table import header_problems, split_problems, use_problems

Side = Annotated[int, Ge(1), Le(4096)]
NOTES = ("left_out", "small", "deep")  # what a cache records in addition to the images
COLUMNS = ("image", "target", "split_column", "group_column", "separator")


def where(*, streaming: Literal["auto", "always", "never"]) -> None:
    """Declare the setting for reading images from the cache while training."""


def images_problems(settings: Mapping[str, Plain]) -> list[str]:
    """Check the settings as far as possible without reading images."""
    found = _path_problems(settings)
    found += split_problems(settings, {"group_column": "group"})
    found += use_problems(settings, ("image", "split_column", "group_column"))
    classes = settings["classes"]
    if classes is not None and len(set(classes)) < max(len(classes), 2):
        found.append(f"data.classes: found {classes}, expected at least two different names")
    if settings["streaming"] == "always" and settings["cache"] is None:
        found.append("data.streaming: always reads images from their cache, but data.cache is null")
    return found


def _path_problems(settings: Mapping[str, Plain]) -> list[str]:
    path = settings["path"]
    if path is None:
        return [
            "data.path: is not set, expected a folder with a folder of images for each class, or a table "
            f"({', '.join(TABLES)}) with the paths of images"
        ]
    if Path(path).is_dir():
        unused = [f"data.{key}" for key in COLUMNS if settings[key] is not None]
        unused += [] if settings["header"] else ["data.header"]
        only = "is" if len(unused) == 1 else "are"
        found = [f"{', '.join(unused)}: {only} for a table, but {path} is a folder"] if unused else []
        if settings["task"] not in ("auto", "binary", "multiclass"):
            found.append(f"data.task: {settings['task']} needs a table, but {path} is a folder of classes")
        return found
    if not Path(path).is_file():
        return [f"data.path: {path} does not exist"]
    if not path.lower().endswith(TABLES):
        return [f"data.path: found {path}, expected a folder, or a name that ends in {', '.join(TABLES)}"]
    return header_problems(settings, ("path",)) + [
        f"data.{key}: is not set, expected the name of a column of {path}"
        for key in ("image", "target")
        if not names_of(settings[key])
    ]


@register("data", problems=images_problems, splits=("group",), form="image", options=where)
def images(
    *,
    path: str | None,
    image: Word | None,
    target: Word | list[Word] | None,
    task: Literal["auto", "binary", "multiclass", "multilabel", "regression"],
    classes: list[Word] | None,
    size: Side | Annotated[list[Side], Len(2, 2)] | None,
    fit: Fit,
    channels: Literal["auto", 1, 3],
    background: Ground,
    bits: Literal["auto"] | Annotated[int, Ge(8), Le(16)],
    on_error: Literal["refuse", "skip"],
    cache: str | None,
    separator: str | None,
    header: bool,
    missing_target: Literal["error", "drop"],
    split_column: Word | None,
    group_column: Word | None,
) -> RawData:
    """Your own images, PNG, JPEG or WebP: a folder for each class, or a table of paths and targets.

    Inputs [N, C, H, W] are bytes, which the network scales. Images are rotated according to their EXIF data.
    path: a folder whose folders are the classes, or whose folders are train, validation (val) and test, each
        with a folder for each class; or a CSV, TSV or Parquet file with the columns `image` (a path relative
        to the table's folder and inside it) and `target`, one or several columns.
    task, classes: as in data=table.
    size: pixels per side, or [height, width]; null if all images have the same size. fit: an image of another
        shape is cropped on its longer side (`crop`), padded (`pad`), or distorted (`stretch`).
    channels: 1 for grayscale, 3 for RGB; `auto` is 1 if no image has colors. background: the color of margins
        and behind transparency.
    bits: the bits used for brightness in 16-bit grayscale files, such as 12 if white is 4095; `auto` is 16,
        with a warning if no file has a value that needs more than 8, 10, 12 or 14.
    on_error: `refuse` raises an error for a file that cannot be read; `skip` ignores it with a warning.
    cache: a folder for the result, so that the next run need not read the files again; `auto` is
        ~/.cache/slipstream/images, null disables it. It is verified, and rebuilt when a file has changed.
    streaming: `always` reads images from the cache while training; `auto` does so if they do not fit into
        memory.
    separator, header, missing_target, split_column, group_column: of a table, as in data=table.
    Raises DataError with every file that is damaged, truncated, empty, animated, in another format, or larger
    than 80 million pixels, and for a path or link that leads outside the folder.
    """
    assert path is not None
    if os.path.isdir(path):
        listing = list_folder(path, words_of(classes))
    else:
        assert image is not None
        assert target is not None
        listing = list_table(
            path,
            name_of(image),
            names_of(target),
            task=task,
            classes=words_of(classes),
            separator=separator,
            header=header,
            missing_target=missing_target,
            split_column=None if split_column is None else name_of(split_column),
            group_column=None if group_column is None else name_of(group_column),
        )
    sides = (size, size) if isinstance(size, int) else None if size is None else (size[0], size[1])
    settings: dict[str, Plain] = {
        "size": sides,
        "channels": channels,
        "fit": fit,
        "background": background,
        "on_error": on_error,
    }
    if (depth := bits_of(bits)) != DEPTH:  # keeps the folder of caches from before `bits` existed
        settings["bits"] = depth
    warnings = list(listing.warnings)
    place = _cache_folder(cache, warnings)
    found = _read(path, listing, settings, place, warnings)
    count = len(listing.names)
    if left_out := found.notes["left_out"]:
        listing = listing.pick(np.setdiff1d(np.arange(count), [i for i, _ in left_out]))
        bad = describe([(listing_name, why) for _, (listing_name, why) in left_out], count)
        warnings.append(f"{shown(path)}: {bad}\n{'It is' if len(left_out) == 1 else 'They are'} left out")
    if bits == "auto":
        warnings += _too_dark(path, found.notes["deep"])
    elif not found.notes["deep"]:
        raise DataError(f"{shown(path)}: data.bits={bits}, but no image has 16 bits; remove data.bits")
    height, width = found.images.shape[2:]
    if small := found.notes["small"]:
        warnings.append(
            f"{shown(path)}: {counted(small, 'image')} of less than half the size, upscaled to "
            f"{height} x {width}"
        )
    return RawData(
        found.images,
        ("brightness",) if found.images.shape[1] == 1 else ("red", "green", "blue"),
        listing.targets,
        listing.target,
        parts=listing.parts,
        groups=listing.groups,
        sources=() if os.path.isdir(path) else (path,),
        warnings=warnings,
        notes=[f"Images below {shown(listing.root)}, resized to {height} x {width}."],
        kind="image",
        digest=found.digest,
        where=lambda i: f"{shown(path)}: {shown(listing.names[i])}",
    )


def _read(
    path: str, listing: Listing, settings: Mapping[str, Plain], folder: Path | None, warnings: list[str]
) -> caches.Cached:
    """Read the images from the cache, or from the files if it has no complete, current copy."""
    from PIL import __version__ as pillow

    about = _digest([NOTES, pillow, *zip(listing.names, listing.states, strict=True)])
    place = folder / _digest([listing.root, settings])[:40] if folder is not None else None
    try:
        if place is not None and (cached := caches.load(place, about)) is not None:
            return cached
    except caches.Damaged as error:
        warnings.append(f"the cache {place} is damaged ({error}) and will be rebuilt")
    reader = Reader(listing.paths, _form(path, listing, settings))

    def notes() -> dict[str, Plain]:
        bad = [(i, (listing.names[i], why)) for i, why in reader.bad.items()]
        if bad and (settings["on_error"] == "refuse" or len(bad) == len(listing.names)):
            said = describe([entry for _, entry in bad], len(listing.names))
            them = "it" if len(bad) == 1 else "them"
            how = f"Correct or remove {them}, or skip {them} with data.on_error=skip"
            how = "No images remain" if settings["on_error"] == "skip" else how
            raise DataError(f"{shown(path)}: {said}\n{how}")
        return dict(zip(NOTES, (bad, reader.small, reader.deep), strict=True))

    if place is not None:
        try:
            caches.write(place, about, reader.form.shape, reader, notes)
            if (cached := caches.load(place, about)) is not None:
                return cached
        except (OSError, caches.Damaged) as error:
            said = getattr(error, "strerror", None) or error
            warnings.append(
                f"the images cannot be cached in {folder} ({said}); the next run will read them again"
            )
    return caches.in_memory(len(listing.names), reader.form.shape, reader, notes)


def _form(path: str, listing: Listing, settings: Mapping[str, Plain]) -> ImageFormat:
    """Return the common format of all images. File headers decide what the settings leave open."""
    size, channels = settings["size"], settings["channels"]
    if size is None or channels == "auto":
        known = [header for header in headers(listing.paths) if header is not None]
        if size is None:
            sizes = Counter(header.size for header in known)
            if len(sizes) > 1:
                often = phrase([f"{h} x {w} ({count:,})" for (h, w), count in sizes.most_common()], 3)
                raise DataError(
                    f"{shown(path)}: found images of {len(sizes)} sizes (height x width): "
                    f"{often}; set a common size, "
                    "for example data.size=64"
                )
            # If no file can be read, the format does not matter, since reading then reports all of them.
            size = next(iter(sizes), (1, 1))
        if channels == "auto":
            channels = 1 if all(header.grey for header in known) else 3
    looks = settings["fit"], settings["background"], settings.get("bits", DEPTH)
    return ImageFormat(tuple(size), channels, *looks)


def _too_dark(path: str, deep: Mapping[str, Sequence[int]]) -> list[str]:
    """Warn about 16-bit images that use only the lowest values, and suggest a setting.

    deep: as in `Reader`.
    """
    found = []
    for kind, (count, highest) in deep.items():
        bits = next((bits for bits in (8, 10, 12, 14) if highest < 2**bits), None)
        if bits is not None:
            how = f"set {typed('data.bits', bits)}"
            how = how if kind == "grey" else "save them with 8 bits, since only the upper 8 bits are read"
            found.append(
                f"{shown(path)}: no value of {counted(count, f'{kind} image')} with 16 bits is above "
                f"{highest:,}, which is nearly black; if white is {2**bits - 1:,}, {how}; if they are meant "
                f"to be dark, set {typed('data.bits', DEPTH)}"
            )
    return found


def _cache_folder(cache: str | None, warnings: list[str]) -> Path | None:
    """Return the folder of the cache, or None."""
    if cache != "auto":
        return None if cache is None else Path(cache)
    folder = caches.default_folder()
    if folder is None:
        warnings.append(
            "the images are not cached, since there is no home folder; set data.cache to a folder"
        )
    return folder


def _digest(value: DataLike) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
