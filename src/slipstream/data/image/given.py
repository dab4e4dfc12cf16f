"""Images passed to a trained network: files, Pillow images, or arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike, Plain
from slipstream.core.wording import axes
from slipstream.data.image.image_files import BadImage, ImageFormat, bits_of, pixels_of, read_images
from slipstream.data.tabular.frames import is_table

if TYPE_CHECKING:
    from slipstream.data.preprocessing import Preprocessing


def as_images(given: DataLike, preprocessing: Preprocessing, settings: Mapping[str, Plain]) -> np.ndarray:
    """Return raw images [N, C, H, W] like those that the network was trained on.

    given: a path or a Pillow image, a list of them, or an array [N, C, H, W] (of one channel also [N, H, W])
        in the units of training. Files and Pillow images are converted to the size and channels of training.
    settings: the run's data settings; `fit`, `background` and `bits` if its images came from files.
    Raises DataError, with what was expected, for anything else; warns of numbers from 0 to 1 if training had
    bytes.
    """
    channels, height, width = shape = preprocessing.shape
    looks: tuple[Plain, Plain] = settings.get("fit", "crop"), settings.get("background", "black")
    form = ImageFormat((height, width), channels, *looks, bits_of(settings.get("bits", "auto")))
    if is_table(given):
        column = settings.get("image") or "file"
        raise DataError(
            f"found a table, expected images: a list of paths, such as table[{column!r}].to_list(), a list "
            f"of pictures of Pillow's, or an array {axes(shape)}"
        )
    several = given if isinstance(given, list | tuple) else [given]
    if several and all(isinstance(one, str | os.PathLike) for one in several):
        return read_images(several, form.size, form.channels, form.fit, form.background, form.bits)
    if several and all(hasattr(one, "getexif") for one in several):
        try:
            return np.stack([pixels_of(one, form) for one in several])
        except BadImage as error:
            raise DataError(f"a picture {error}") from error
    array = _array(given, shape, preprocessing.span)
    if "bits" in settings and array.size and array.max() > 255:
        raise DataError(
            f"found pixels up to {array.max():g}, expected 0 to 255, to which files are brought: give paths, "
            "or pictures of Pillow's"
        )
    return array


def _array(given: DataLike, shape: tuple[int, ...], span: tuple[float, ...]) -> np.ndarray:
    expected = f"expected {axes(shape)}"
    try:
        array = np.asarray(given)
    except ValueError as error:  # rows of different lengths
        raise DataError(f"found images of different sizes, {expected}; paths are brought to size") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"found {array.dtype}, expected paths, pictures of Pillow's, or numbers")
    if shape[0] == 1 and array.ndim == 3:
        array = array[:, None]
    if array.shape == shape:
        raise DataError(f"found one image {array.shape}, {expected}: image[None] is a batch of one")
    if array.shape[1:] != shape:
        last = array.ndim == 4 and (array.shape[3], *array.shape[1:3]) == shape
        hint = ": channels come first, array.transpose(0, 3, 1, 2)" if last else ""
        raise DataError(f"found inputs of shape {array.shape}, {expected}{hint}")
    if array.dtype.kind == "f" and array.size and span[1] > 1 and 0 <= array.min() <= array.max() <= 1:
        warnings.warn(
            f"all pixels are from 0 to 1, but training had {span[0]:g} to {span[1]:g}: multiply them by "
            f"{span[1]:g}, or give paths",
            stacklevel=5,
        )
    return array
