"""Datasets of Hugging Face's `datasets` in memory, as tables, texts and images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from slipstream.core.errors import DataError
from slipstream.core.types import DataLike
from slipstream.data.messages import phrase

STREAMED = ("IterableDataset", "IterableDatasetDict")


def is_dataset(data: DataLike) -> bool:
    """Return True for a Dataset or a DatasetDict. Raises DataError for one that is streamed."""
    kind = type(data)
    if kind.__module__.partition(".")[0] != "datasets":
        return False
    if kind.__name__ in STREAMED:
        raise DataError(
            f"found a streamed {kind.__name__}, expected a Dataset with a known number of rows: "
            f"load it without "
            "streaming=True, or use datasets.Dataset.from_list(list(data))"
        )
    return kind.__name__ in ("Dataset", "DatasetDict")


def splits_of(data: DataLike) -> dict[str, DataLike]:
    """Return the splits of a DatasetDict by name. A Dataset is the split `train`."""
    return dict(data) if isinstance(data, Mapping) else {"train": data}


def one_split(data: DataLike) -> DataLike:
    """Return a Dataset unchanged. Raises DataError for a DatasetDict with the names of its splits."""
    if isinstance(data, Mapping):
        names = list(data)
        raise DataError(
            f"found a DatasetDict with the splits {phrase(names)}, expected one of them: data[{names[-1]!r}]"
        )
    return data


def examples_of(data: DataLike, form: str) -> DataLike:
    """Return the examples of a dataset as a polars table, or as images if the network expects images.

    Classes become their names. Other data are returned unchanged. form: the kind of the network's inputs.
    """
    if not is_dataset(data):
        return data
    split = one_split(data).with_format(None)
    pictures = [n for n, feature in split.features.items() if type(feature).__name__ == "Image"]
    if form == "image":
        if len(pictures) != 1:
            found = phrase(pictures) if pictures else "none"
            raise DataError(f"expected a dataset with one column of images, found {found}")
        return list(split[pictures[0]])
    return with_class_names(split.remove_columns(pictures))


def with_class_names(split: DataLike) -> DataLike:
    """Return the rows of a Dataset as a polars table with class names."""
    import polars as pl

    frame = split.to_polars()
    for name, feature in split.features.items():
        if type(feature).__name__ == "ClassLabel" and frame[name].dtype.is_integer():
            words = np.array([*feature.names, None], dtype=object)
            codes = frame[name].fill_null(-1).to_numpy()
            frame = frame.with_columns(pl.Series(name, words[np.where(codes < 0, -1, codes)], pl.Categorical))
    return frame
