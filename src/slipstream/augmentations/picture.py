"""A strip of examples before and after augmentation, for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from slipstream.core.drawing import INK, PALE, shortened, write

LEAST, GAP = 100, 4  # pixels: a smaller image is enlarged by an integer factor to at least this side
FONT = 22


def strip(rows: Mapping[str, np.ndarray], names: Sequence[str]) -> Image.Image:
    """Draw images [N, C, H, W] in the range 0 to 1: a row per title, with the examples' names at the bottom.

    Unless there are three channels, only the first is shown.
    """
    height, width = next(iter(rows.values())).shape[2:]
    zoom = max(1, -(-LEAST // min(height, width)))
    across, down = width * zoom + GAP, height * zoom + FONT + 14
    made = Image.new("RGB", (len(names) * across + GAP, len(rows) * down + FONT + 12), "white")
    draw = ImageDraw.Draw(made)
    for i, (title, images) in enumerate(rows.items()):
        short = shortened(title, FONT, made.width - 2 * GAP)
        write(draw, (GAP, i * down + FONT / 2 + 6), short, FONT, anchor="lm", fill=INK)
        for j, image in enumerate(images):
            made.paste(_enlarged(image, zoom), (GAP + j * across, i * down + FONT + 10))
    for j, name in enumerate(names):
        place = (GAP + j * across + (across - GAP) / 2, made.height - FONT / 2 - 4)
        write(draw, place, shortened(name, FONT, across - 2 * GAP), FONT, anchor="mm", fill=PALE)
    return made


def _enlarged(image: np.ndarray, zoom: int) -> Image.Image:
    colours = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    pixels = np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(pixels.repeat(zoom, axis=0).repeat(zoom, axis=1))
