"""Images in raw form, with the scaling that the network applies to them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike, InputSpec, Plain, Scaling
from slipstream.core.wording import axes
from slipstream.data.array_preprocessing import fit_channels
from slipstream.data.dataset import RawData, Settings
from slipstream.data.image.image_files import BadImage, ImageFormat, bits_of, pixels_of, read_images
from slipstream.data.image.stored import Stored
from slipstream.data.preprocessing import NONE, Encoded, EncodedSplits, Preprocessing
from slipstream.data.scaling import SCALINGS
from slipstream.data.tabular.columns import check_finite
from slipstream.data.tabular.encoding import constant_warnings
from slipstream.data.tabular.frames import is_table


@dataclass(frozen=True)
class ImagePreprocessing(Preprocessing):
    """The scaling of raw images, in memory or in a file.

    shape: [C, H, W]. span: the lowest and the highest raw value.
    """

    shape: tuple[int, ...]
    span: tuple[float, ...]

    @classmethod
    def fit(cls, raw: RawData, rows: np.ndarray, scaling: str) -> tuple[Self, list[str]]:
        """Fit the scale of every channel."""
        if SCALINGS[scaling].clip:  # the network scales images by an offset and a factor
            raise DataError(
                f"data.scaling: {scaling} is for tables and sequences, but the inputs are images; expected "
                "standard, minmax, global or none"
            )
        columns, (low, high) = fit_channels(raw.inputs, raw.input_names, rows, scaling)
        span = (0.0, 255.0) if raw.inputs.dtype == np.uint8 else (low, high if high > low else low + 1)
        return cls(columns, raw.inputs.shape[1:], span), constant_warnings(columns)

    def encode_splits(self, raw: RawData, rows: list[np.ndarray], how: str) -> EncodedSplits:
        """Leave images raw, in their file or as uint8 or float32 in C order."""
        if isinstance(raw.inputs, Stored):
            return [raw.inputs.part(part) for part in rows], []
        kept = raw.inputs.dtype if raw.inputs.dtype == np.uint8 else np.float32
        return [np.ascontiguousarray(raw.inputs[part], kept) for part in rows], []

    def transform(self, data: DataLike, settings: Settings = NONE) -> Encoded:
        """Return raw images [N, C, H, W] in the format of training.

        data: a path or a Pillow image, a list of them, or an array [N, C, H, W] (of one channel also [N, H,
            W]) in the units of training. Files and Pillow images are converted to the size and channels of
            training.
        settings: `fit`, `background` and `bits` if the run's images came from files.
        """
        channels, height, width = self.shape
        looks: tuple[Plain, Plain] = settings.get("fit", "crop"), settings.get("background", "black")
        form = ImageFormat((height, width), channels, *looks, bits_of(settings.get("bits", "auto")))
        if is_table(data):
            column = settings.get("image") or "file"
            raise DataError(
                f"found a table, expected images: a list of paths, such as table[{column!r}].to_list(), a "
                f"list of Pillow images, or an array {axes(self.shape)}"
            )
        several = data if isinstance(data, list | tuple) else [data]
        if several and all(isinstance(one, str | os.PathLike) for one in several):
            return read_images(several, form), []
        if several and all(hasattr(one, "getexif") for one in several):
            try:
                return np.stack([pixels_of(one, form) for one in several]), []
            except BadImage as error:
                raise DataError(f"an image {error}") from error
        array = self._array(data)
        check_finite("inputs", array)
        if "bits" in settings and array.size and array.max() > 255:
            raise DataError(
                f"found pixels up to {array.max():g}, expected 0 to 255 as in files: pass "
                "paths or Pillow images"
            )
        low, high = self.span
        unit = array.dtype.kind == "f" and array.size and high > 1 and 0 <= array.min() <= array.max() <= 1
        if (low, high) == (0, 255) and not ((array < 0) | (array > 255) | (array % 1 != 0)).any():
            array = array.astype(np.uint8)  # so that the network scales them exactly like bytes from files
        advice = f"multiply them by {high:g}, or pass paths"
        said = f"all pixels are between 0 and 1, but training had {low:g} to {high:g}: {advice}"
        return array, [said] if unit else []

    def _array(self, data: DataLike) -> np.ndarray:
        """Return an array of images of the right shape. Raises DataError."""
        shape, expected = self.shape, f"expected {axes(self.shape)}"
        try:
            array = np.asarray(data)
        except ValueError as error:  # rows of different lengths
            raise DataError(
                f"found images of different sizes, {expected}; pass paths to have them resized"
            ) from error
        if array.dtype.kind not in "fiub":
            raise DataError(f"found {array.dtype}, expected paths, Pillow images, or numbers")
        if shape[0] == 1 and array.ndim == 3:
            array = array[:, None]
        if array.shape == shape:
            raise DataError(f"found one image {array.shape}, {expected}: use image[None] for a batch of one")
        if array.shape[1:] != shape:
            last = array.ndim == 4 and (array.shape[3], *array.shape[1:3]) == shape
            hint = ": put channels first with array.transpose(0, 3, 1, 2)" if last else ""
            raise DataError(f"found inputs of shape {array.shape}, {expected}{hint}")
        return array

    @property
    def spec(self) -> InputSpec:
        """The input spec: the shape of the images, and their scaling by channel."""
        offset, factor = (tuple(getattr(c, name) for c in self.columns) for name in ("offset", "factor"))
        low, high = self.span
        return InputSpec("image", self.shape, scaling=Scaling(low, high, offset, factor))
