"""Text in images: colors, and fonts that contain every character of a name."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageFont

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

INK, PALE, LINE = (40, 40, 40), (110, 110, 110), (205, 205, 205)
# Pillow's own font covers little more than ASCII. Larger fonts are looked up by name among the system's fonts
# and in matplotlib, which ships DejaVu.
NAMES = (
    *("DejaVuSans.ttf", "Arial Unicode.ttf", "segoeui.ttf", "Arial.ttf", "NotoSans-Regular.ttf"),
    *(
        "LiberationSans-Regular.ttf",
        "NotoSansCJK-Regular.ttc",
        "wqy-zenhei.ttc",
        "msgothic.ttc",
        "PingFang.ttc",
    ),
)
NO_LETTER = "\uffff"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def write(
    draw: ImageDraw, place: tuple[float, float], text: str, size: int, *, anchor: str, fill: object = INK
) -> None:
    """Draw a line of text. anchor: as in Pillow, for example `mm` for text centered on `place`."""
    readable, found = _readable(text, size)
    draw.text(place, readable, fill=fill, font=found, anchor=anchor)  # type: ignore[arg-type]  # any color that Pillow takes


def width(text: str, size: int) -> int:
    """Return the width of a line of text, in pixels."""
    readable, found = _readable(text, size)
    return ceil(found.getlength(readable))


def shortened(text: str, size: int, room: float) -> str:
    """Shorten a text to `room` pixels by removing its middle, since names often differ at the end."""
    if width(text, size) <= room:
        return text
    for kept in range(len(text) - 1, 1, -1):
        short = f"{text[: ceil(kept / 2)]}...{text[len(text) - kept // 2 :]}"
        if width(short, size) <= room:
            return short
    return text[:1]


@lru_cache(maxsize=4096)
def _readable(text: str, size: int) -> tuple[str, Font]:
    """Return the text on one line, and a font that has all of its characters.

    If there is no such font, accents are dropped; if that does not help, some characters show as boxes.
    """
    text = " ".join(text.split())
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    for version in (text, plain):
        for make in _fonts():
            if version.isascii() or _has(make(size), version):
                return version, make(size)
    return text, _fonts()[0](size)


def _has(font: Font, text: str) -> bool:
    none = bytes(font.getmask(NO_LETTER))
    return all(bytes(font.getmask(letter)) != none for letter in set(text) if not letter.isspace())


@cache
def _fonts() -> list[Callable[[int], Font]]:
    """Return functions from a size to a font: the system's fonts, matplotlib's, and Pillow's."""
    brought = [
        str(Path(folder, "matplotlib/mpl-data/fonts/ttf/DejaVuSans.ttf")) for folder in sys.path if folder
    ]
    found = []
    for name in (*NAMES, *brought):
        try:
            ImageFont.truetype(name, 12)
        except OSError:
            continue
        found.append(cache(lambda size, name=name: ImageFont.truetype(name, size)))
    return [*found, cache(lambda size: ImageFont.load_default(size))]
