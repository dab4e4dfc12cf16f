"""Conversion of untrusted PNG, JPEG and WebP files to arrays of bytes, with Pillow in several threads."""

from __future__ import annotations

import os
import stat
import struct
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike
from slipstream.core.wording import counted
from slipstream.data.identity import shown

FORMATS = ("PNG", "JPEG", "WEBP")
MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "I;16"}
# First bytes of files that are not supported images, so that a message can name their type.
OTHERS = {
    b"GIF8": "a GIF file",
    b"BM": "a BMP file",
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
    b"%PDF": "a PDF file",
    b"<svg": "an SVG file",
    b"\0\0\1\0": "an ICO file",
}
LARGEST = 80_000_000  # pixels of a file; Pillow itself warns from 89 million
LARGEST_FILE = 1 << 28  # bytes
CHUNK = 1 << 22  # bytes of pixels that a thread decodes at a time
MOST_THREADS = 16
SHOWN = 5  # bad files named in a message

DEPTH = 16  # maximum bits per value

Fit = Literal["crop", "pad", "stretch"]
Ground = Literal["black", "white"]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ImageFormat:
    """The common format of all images.

    size: (height, width). channels: 1 or 3. bits: the bits used for brightness in 16-bit grayscale files.
    """

    size: tuple[int, int]
    channels: int
    fit: Fit = "crop"
    background: Ground = "black"
    bits: int = DEPTH

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image: (channels, height, width)."""
        return (self.channels, *self.size)


@dataclass(frozen=True)
class ImageHeader:
    """The metadata of a file before its pixels are read. size: (height, width), as displayed."""

    size: tuple[int, int]
    grey: bool


def bits_of(setting: int | str) -> int:
    """Return the number of bits for data.bits; `auto` is that of the file."""
    return DEPTH if setting == "auto" else int(setting)


class BadImage(Exception):
    """An image file cannot be used. The text is the reason."""


def describe(bad: Sequence[tuple[str, str]], total: int) -> str:
    """Return how many of `total` files cannot be used, with the first five and the reasons."""
    lines = "".join(f"\n  {shown(path)}: {reason}" for path, reason in bad[:SHOWN])
    more = f"\n  and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
    return f"{len(bad):,} of {counted(total, 'image')} cannot be used:{lines}{more}"


def read_images(paths: Sequence[str | os.PathLike[str]], form: ImageFormat) -> np.ndarray:
    """Image files as the source `images` reads them, uint8 [N, C, H, W]. Raises DataError for bad files."""
    reader = Reader([os.fspath(path) for path in paths], form)
    blocks = list(reader)
    if reader.bad:
        raise DataError(describe([(reader.paths[i], why) for i, why in reader.bad.items()], len(paths)))
    return np.concatenate(blocks) if blocks else np.empty((0, *form.shape), np.uint8)


class Reader:
    """A reader of image files: iterating yields the good images in order, uint8 [n, C, H, W].

    bad: file number -> reason, filled on the way. small: the number of good images whose shorter side was
    less than half the wanted size. deep: for good 16-bit images, grey or colour -> their number and highest
    value.
    """

    def __init__(self, paths: Sequence[str], form: ImageFormat) -> None:
        self.paths, self.form = paths, form
        self.bad: dict[int, str] = {}
        self.small = 0
        self.deep: dict[str, tuple[int, int]] = {}

    def __iter__(self) -> Iterator[np.ndarray]:
        self.bad.clear()
        self.deep.clear()
        self.small = 0
        count = min(max(CHUNK // int(np.prod(self.form.shape)), 1), 256)
        starts = range(0, len(self.paths), count)
        read = in_threads(lambda start: self._read(range(start, start + count)), starts)
        for block, bad, small, deep in read:
            self.bad |= bad
            self.small += small
            for kind, highest in deep:
                before = self.deep.get(kind, (0, 0))
                self.deep[kind] = (before[0] + 1, max(before[1], highest))
            yield block

    def _read(self, places: range) -> tuple[np.ndarray, dict[int, str], int, list[tuple[str, int]]]:
        out, bad, small, deep = [], {}, 0, []
        for place in places:
            if place >= len(self.paths):
                break
            try:
                pixels, (width, height), found = decode(self.paths[place], self.form)
                out.append(pixels)
                deep += [found] if found else []
                small += 2 * min(width, height) < min(self.form.size)
            except BadImage as error:
                bad[place] = str(error)
        return np.stack(out) if out else np.empty((0, *self.form.shape), np.uint8), bad, small, deep


def headers(paths: Sequence[str]) -> Iterator[ImageHeader | None]:
    """Read each file's header, None for a bad file."""

    def scan(part: Sequence[str]) -> list[ImageHeader | None]:
        found: list[ImageHeader | None] = []
        for path in part:
            try:
                with opened(path) as image:
                    # Pillow looks for the orientation in the XMP data if the EXIF data have none.
                    turned = image.getexif().get(0x0112, 1) >= 5
                    width, height = image.size
                    found.append(ImageHeader((width, height) if turned else (height, width), _is_grey(image)))
            except Exception:  # any error occurs again, and is reported, when the pixels are read
                found.append(None)
        return found

    for part in in_threads(scan, [paths[i : i + 256] for i in range(0, len(paths), 256)]):
        yield from part


def decode(path: str, form: ImageFormat) -> tuple[np.ndarray, tuple[int, int], tuple[str, int] | None]:
    """Decode a file: uint8 [C, H, W], its own width and height, and the content of 16 bits. Raises BadImage.

    The last is grey or colour, and the highest value; None for a file with 8 bits.
    """
    with opened(path) as image, _reasons():
        sides = image.size
        deep = image.format == "PNG" and _check_png(path) == DEPTH
        # A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, never below twice the wanted size.
        longest = 2 * max(form.size)
        image.draft(image.mode, (longest, longest))
        image.load()
        if deep and image.mode != "I;16" and form.bits < DEPTH:
            raise BadImage(
                "has several channels of 16 bits, but only 8 bits are supported; save it with 8 bits"
            )
        return pixels_of(image, form), sides, _highest(image) if deep else None


def _highest(image: DataLike) -> tuple[str, int]:
    """Return grey or colour, and the highest value of a 16-bit image."""
    if image.mode == "I;16":
        return "grey", int(image.getextrema()[1])
    extremes = zip(image.getbands(), image.getextrema(), strict=True)
    return "colour", max(256 * high + 255 for band, (_, high) in extremes if band != "A")


def pixels_of(image: DataLike, form: ImageFormat) -> np.ndarray:
    """Return a Pillow image as uint8 [C, H, W], resized and rotated according to its EXIF or XMP data."""
    from PIL import Image, ImageOps

    height, width = form.size
    resample = Image.Resampling.BICUBIC  # antialiased when it shrinks, as Pillow's filters are
    mode = "L" if form.channels == 1 else "RGB"
    picture = flat(ImageOps.exif_transpose(image), mode, form.background, form.bits)
    if form.fit == "crop":
        picture = ImageOps.fit(picture, (width, height), resample)
    elif form.fit == "pad":
        picture = ImageOps.pad(picture, (width, height), resample, color=form.background)
    else:
        picture = picture.resize((width, height), resample)
    pixels = np.asarray(picture)
    return pixels[None] if form.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def opened(path: str) -> DataLike:
    """Open a file by its content instead of its name, and read only its header. Raises BadImage."""
    from PIL import Image, UnidentifiedImageError

    with _reasons():
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise BadImage("is a folder" if stat.S_ISDIR(found.st_mode) else "is not a regular file")
        if found.st_size == 0:
            raise BadImage("is empty")
        if found.st_size > LARGEST_FILE:
            raise BadImage(f"has {found.st_size:,} bytes, expected at most {LARGEST_FILE:,}")
        try:
            image = Image.open(path, formats=FORMATS)
        except UnidentifiedImageError as error:
            raise BadImage(_what_it_is(path)) from error
        width, height = image.size
        problem = None
        if width * height > LARGEST:
            problem = f"has {width} x {height} pixels, expected at most {LARGEST:,} in all"
        elif image.format != "MPO" and getattr(image, "is_animated", False):
            problem = "is an animation, expected a single image"
        elif image.mode not in MODES:
            problem = f"has an unsupported pixel format ({image.mode})"
        if problem:
            image.close()
            raise BadImage(problem)
        return image


def flat(image: DataLike, mode: str, background: str, bits: int = DEPTH) -> DataLike:
    """Convert an image to mode L or RGB: round 16 bits to 8, and blend transparency with the background.

    bits: how many of the 16 bits are used. Raises BadImage for a value that needs more.
    """
    from PIL import Image

    if image.mode in ("I", "F"):  # Pillow would clip all values above 255
        raise BadImage(f"has an unsupported pixel format ({image.mode})")
    if image.mode.startswith("I;16"):
        if image.has_transparency_data:
            raise BadImage("is 16-bit grayscale with a transparent color; save it with 8 bits")
        values, most = np.asarray(image).astype(np.uint32), 2**bits - 1
        if values.max(initial=0) > most:
            raise BadImage(
                f"has a value of {values.max():,}, more than {most:,}, the maximum for data.bits={bits}"
            )
        image = Image.fromarray(((255 * values + most // 2) // most).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return image.convert(mode)


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Yield the results in the order of the items, computed a few items ahead with one thread per core."""
    from PIL import Image

    Image.init()  # otherwise every thread would do so
    workers = min(os.cpu_count() or 1, MOST_THREADS)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        # about a damaged EXIF block or a palette: the pixels are not affected
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        ahead: deque[DataLike] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for waiting in ahead:
                waiting.cancel()


@contextmanager
def _reasons() -> Iterator[None]:
    """Convert anything that Pillow raises for a damaged file to BadImage."""
    try:
        yield
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # a decoder can raise anything for a damaged file
        raise BadImage(_reason(error)) from error


def _reason(error: Exception) -> str:
    from PIL import Image

    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"has more than {LARGEST:,} pixels"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"is damaged or truncated: {(str(error) or type(error).__name__).splitlines()[0]}"


def _check_png(path: str) -> int:
    """Return the bits per value of a PNG. Raises BadImage for a wrong checksum, which Pillow ignores."""
    import zlib

    with open(path, "rb") as file:
        content = file.read(LARGEST_FILE)
    place = 8
    while place + 12 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        end = place + 8 + size
        if end + 4 > len(content):
            raise BadImage("is damaged or truncated: it ends inside a block")
        if zlib.crc32(memoryview(content)[place + 4 : end]) != struct.unpack_from(">I", content, end)[0]:
            raise BadImage(f"is damaged: the block {kind.decode('latin-1')} does not match its checksum")
        if kind == b"IEND":
            return content[24]
        place = end + 4
    raise BadImage("is damaged or truncated: its end is missing")


def _is_grey(image: DataLike) -> bool:
    """Return True if an image has no colors, judged by its mode or palette."""
    if image.mode in ("P", "PA"):
        colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La", "I;16")


def _what_it_is(path: str) -> str:
    with open(path, "rb") as file:
        start = file.read(16)
    name = next((name for first, name in OTHERS.items() if start.startswith(first)), None)
    if start[4:8] == b"ftyp":
        name = "a HEIC or AVIF file"
    if name is None:
        return "is not a PNG, JPEG or WebP image, or its beginning is damaged"
    return f"is {name}; convert it to PNG, JPEG or WebP"
