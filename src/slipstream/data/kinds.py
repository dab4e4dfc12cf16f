"""The kinds of data, each with its preprocessing class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slipstream.core.errors import DataError
from slipstream.core.types import Plain
from slipstream.data.array_preprocessing import ArrayPreprocessing, kind_of
from slipstream.data.dataset import RawData
from slipstream.data.image.image_preprocessing import ImagePreprocessing
from slipstream.data.preprocessing import VERSION, Preprocessing
from slipstream.data.sequence.long_table import SequencePreprocessing, Sequences
from slipstream.data.tabular.table_preprocessing import TablePreprocessing
from slipstream.data.tabular.values import Frame
from slipstream.data.text.vocabulary import TextPreprocessing, Texts


@dataclass(frozen=True)
class KindOfData:
    """A kind of data. reads: recognizes raw data. wrote: recognizes JSON; older runs lack some keys."""

    preprocessing: type[Preprocessing]
    reads: Callable[[RawData], bool]
    wrote: Callable[[Mapping[str, Plain]], Plain]


# The first match wins.
KINDS = (
    KindOfData(TextPreprocessing, lambda raw: isinstance(raw.inputs, Texts), lambda it: it.get("tokenizer")),
    KindOfData(
        SequencePreprocessing, lambda raw: isinstance(raw.inputs, Sequences), lambda it: it.get("steps")
    ),
    KindOfData(TablePreprocessing, lambda raw: isinstance(raw.inputs, Frame), lambda it: not it["shape"]),
    KindOfData(ImagePreprocessing, lambda raw: kind_of(raw) == "image", lambda it: it["kind"] == "image"),
    KindOfData(ArrayPreprocessing, lambda raw: kind_of(raw) != "", lambda it: True),
)


def reader_of(raw: RawData) -> type[Preprocessing]:
    """Return the preprocessing class for raw data. Raises DataError for inputs of an unknown type."""
    for kind in KINDS:
        if kind.reads(raw):
            return kind.preprocessing
    found = f"the source returned inputs of type {type(raw.inputs).__name__}"
    raise DataError(f"{found}, expected a numpy array, Frame, Sequences or Texts")


def from_json(saved: Mapping[str, Plain]) -> Preprocessing:
    """Restore a preprocessing from its `to_json`. Raises DataError for an unknown version."""
    if saved.get("version") != VERSION:
        found = f"found preprocessing of version {saved.get('version')}"
        raise DataError(f"{found}, but this version of slipstream reads {VERSION}")
    return next(kind for kind in KINDS if kind.wrote(saved)).preprocessing.from_json(saved)
