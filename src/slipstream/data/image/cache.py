"""Arrays of bytes cached on disk between runs. They are verified on every read and replaced as a whole.

A folder `<name>/` holds `images.bin` and `manifest.json`, with the SHA-256 of each of its blocks and of the
manifest itself, and the array's origin. All of it may be deleted at any time.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from slipstream.core import folders
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import counted

VERSION = 1
BLOCK = 1 << 24  # bytes per hash
LARGEST_MANIFEST = 1 << 28  # bytes
IMAGES, MANIFEST = "images.bin", "manifest.json"
TEMPORARY = "slipstream-tmp-"  # the folder may be a user's own, with other files
OURS = re.compile(rf"{TEMPORARY}[0-9a-f]{{32}}")
LEFT_OVER = 86400  # seconds after which an unfinished folder must belong to a dead process


class Damaged(Exception):
    """A cache has wrong content. The text is the reason."""


@dataclass(frozen=True)
class Cached:
    """A cached array: uint8 images [N, ...], notes from its creation, and its SHA-256."""

    images: np.ndarray
    notes: Plain
    digest: str


def default_folder() -> Path | None:
    """Return the user's own cache folder, or None without a home directory."""
    found = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(found if os.path.isabs(found) else os.path.expanduser("~/.cache"))
    return home / "slipstream" / "images" if home.is_absolute() else None


def load(place: Path, about: str) -> Cached | None:
    """Load the cache in the folder `place`. Return None if there is none or it has another origin.

    about: the origin of the images. Raises Damaged.
    """
    try:
        with open(place / MANIFEST, "rb") as file:
            saved = json.loads(file.read(LARGEST_MANIFEST))
        body = saved["body"]
        if _digest(body) != saved["sha256"]:
            raise Damaged("manifest.json does not match its checksum")
        if body["version"] != VERSION or body["about"] != about:
            return None
        shape, hashes = tuple(body["shape"]), body["hashes"]
        with open(place / IMAGES, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != prod(shape):
                raise Damaged(f"images.bin has {counted(size, 'byte')}, expected {prod(shape):,}")
            if _hash_file(file.fileno(), size) != hashes:
                raise Damaged("images.bin does not match its checksums")
            images = np.memmap(file, np.uint8, "r", shape=shape)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(getattr(error, "strerror", None) or error) from error
    return Cached(images, body["notes"], _digest([shape, hashes]))


def write(
    place: Path, about: str, shape: tuple[int, ...], blocks: Iterable[np.ndarray], notes: Callable[[], Plain]
) -> None:
    """Write the images of all blocks, each [n, *shape], and replace the old content with them.

    notes: called after the last block is written. If it raises an error, no file is left behind.
    Raises OSError if writing fails.
    """
    folders.mkdir(place.parent, 0o700)
    with folders.held(place.parent):
        _remove_left_overs(place.parent)
        _write(place, about, shape, blocks, notes)


def _write(
    place: Path, about: str, shape: tuple[int, ...], blocks: Iterable[np.ndarray], notes: Callable[[], Plain]
) -> None:
    new = _aside(place)
    folders.make(new)
    try:
        count = 0
        with folders.opened(new / IMAGES, "x+b") as file:
            for block in blocks:
                file.write(np.ascontiguousarray(block).data)
                count += len(block)
            file.flush()
            os.fsync(file.fileno())
            hashes = _hash_file(file.fileno(), count * prod(shape))
        body = {
            "version": VERSION,
            "about": about,
            "shape": [count, *shape],
            "hashes": hashes,
            "notes": notes(),
        }
        with folders.opened(new / MANIFEST, "x", "utf-8") as text:
            json.dump({"sha256": _digest(body), "body": body}, text)
            text.flush()
            os.fsync(text.fileno())
        _put(new, place)
    finally:
        _remove(new)


def in_memory(
    count: int, shape: tuple[int, ...], blocks: Iterable[np.ndarray], notes: Callable[[], Plain]
) -> Cached:
    """Return the same images without a file. count: maximum number of images."""
    images, end = np.empty((count, *shape), np.uint8), 0
    for block in blocks:
        images[end : end + len(block)] = block
        end += len(block)
    images = images[:end]
    flat = images.reshape(-1).data
    hashes = _hash(lambda start: flat[start : start + BLOCK], flat.nbytes)
    return Cached(images, notes(), _digest([images.shape, hashes]))


def _put(new: Path, place: Path) -> None:
    """Rename the folder to its final name. If another process was faster, keep its equal content."""
    with suppress(FileNotFoundError):
        if not set(os.listdir(place)) <= {IMAGES, MANIFEST}:
            raise OSError(errno.EEXIST, "contains something other than a cache", str(place))
    old = _aside(place)
    with suppress(FileNotFoundError):
        folders.rename(place, old)
    try:
        folders.rename(new, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    _remove(old)
    folders.sync(place.parent)


def _aside(place: Path) -> Path:
    return place.with_name(f"{TEMPORARY}{secrets.token_hex(16)}")


def _remove(path: Path) -> None:
    """Remove the files of a cache and, if it is then empty, their folder."""
    with suppress(OSError):
        folders.remove_folder(path, (IMAGES, MANIFEST))


def _remove_left_overs(folder: Path) -> None:
    """Remove the temporary folders of dead processes, whose names only this module creates."""
    for found in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):  # another process was faster
            if OURS.fullmatch(found.name) and time.time() - found.lstat().st_mtime > LEFT_OVER:
                _remove(found)


def _digest(value: DataLike) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _hash_file(number: int, size: int) -> list[str]:
    """Return the SHA-256 of every block of an open file. Raises OSError if it is shorter than `size`."""

    def read(start: int) -> bytes:
        wanted, found = min(BLOCK, size - start), b""
        while len(found) < wanted:
            piece = os.pread(number, wanted - len(found), start + len(found))
            if not piece:
                raise OSError("the file was truncated during reading")
            found += piece
        return found

    return _hash(read, size)


def _hash(block: Callable[[int], DataLike], size: int) -> list[str]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda start: hashlib.sha256(block(start)).hexdigest(), range(0, size, BLOCK)))
