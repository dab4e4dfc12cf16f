"""A strip of examples before and after augmentation, for TensorBoard."""

from __future__ import annotations

import numpy as np
from PIL import Image

LEAST, GAP = 48, 2  # pixels: a small image is enlarged by a whole number until it has this side


def strip(before: np.ndarray, after: np.ndarray) -> Image.Image:
    """Images [N, C, H, W] in the range 0 to 1, the given ones above the changed ones, side by side.

    Of other than three channels the first one is shown.
    """
    zoom = max(1, -(-LEAST // min(before.shape[2:])))
    rows = [np.concatenate([_framed(image, zoom) for image in images], axis=1) for images in (before, after)]
    return Image.fromarray(np.concatenate(rows))


def _framed(image: np.ndarray, zoom: int) -> np.ndarray:
    """One image [C, H, W] as bytes [H', W', 3], enlarged, with a white rim."""
    colours = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    pixels = np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    large = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return np.pad(large, ((GAP, GAP), (GAP, GAP), (0, 0)), constant_values=255)
