"""Pictures of what a model predicts, drawn with Pillow and numpy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

CELL, MARGIN = 36, 76
INK, GRID, POINT = (40, 40, 40), (225, 225, 225), (31, 119, 180)
SIDE = 420
MOST_CLASSES = 40  # beyond that a cell has no room for its count


def confusion_picture(counts: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """A confusion matrix [C, C] (rows true, columns predicted), shaded by the share of its row."""
    c = len(classes)
    cell = CELL if c <= MOST_CLASSES else max(SIDE // c, 2)
    picture = Image.new("RGB", (MARGIN + c * cell + 8, MARGIN + c * cell + 8), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((6, 6), "rows: true\ncolumns: predicted", fill=INK)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    for i in range(c):
        if c <= MOST_CLASSES:
            draw.text((6, MARGIN + i * cell + cell // 3), classes[i][:10], fill=INK)
            draw.text((MARGIN + i * cell + 3, MARGIN - 14), classes[i][:5], fill=INK)
        for j in range(c):
            box = (MARGIN + j * cell, MARGIN + i * cell, MARGIN + (j + 1) * cell, MARGIN + (i + 1) * cell)
            shade = int(255 * (1 - shares[i, j]))
            draw.rectangle(box, fill=(shade, shade, 255), outline=GRID)
            if c <= MOST_CLASSES and counts[i, j]:
                ink = "white" if shares[i, j] > 0.5 else INK
                draw.text((box[0] + 5, box[1] + cell // 3), f"{counts[i, j]:.4g}", fill=ink)
    return picture


def scatter_picture(true: np.ndarray, predicted: np.ndarray, name: str) -> Image.Image:
    """Predicted against true values [N] of one target; on the diagonal they agree."""
    both = np.concatenate([true, predicted])
    both = both[np.isfinite(both)]
    low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 1.0)
    span = (high - low) or 1.0
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    side = SIDE - 2 * 40
    draw.rectangle((40, 40, 40 + side, 40 + side), outline=GRID)
    draw.line((40, 40 + side, 40 + side, 40), fill=GRID)
    draw.text((40, 14), f"{name}: predicted (up) against true (right)", fill=INK)
    draw.text((40, 44 + side), f"{low:.4g}", fill=INK)
    draw.text((side, 44 + side), f"{high:.4g}", fill=INK)
    for t, p in zip(true, predicted, strict=True):
        if np.isfinite(t) and np.isfinite(p):
            x, y = 40 + side * (t - low) / span, 40 + side * (1 - (p - low) / span)
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=POINT)
    return picture
