"""Predict with an exported network. Needs numpy, and onnxruntime (or torch for a .pt2 file).

Files of images need Pillow, and Parquet files pyarrow.

python predict.py new.csv -o predicted.csv

from predict import Predictor
found = Predictor().predict({"age": [41, None], "city": ["Ulm", "Bonn"]})
found["prediction"], found["scores"]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from slipstream.data.identity import Known, exact, nfc, plain, spell
from slipstream.data.tabular.spelling import days_of, number_reader
from slipstream.data.text.vocabulary import Tokenizer
from slipstream.inference.export.example_files import are_pictures, lines, names, pixels, read

# A value from JSON, or a table or array of any library. Duck typing avoids importing these libraries.
Value: TypeAlias = Any
FOLDER = Path(__file__).resolve().parent
BLOCK = 4096  # rows per prediction call
AT_ONCE = 256  # images that are read for one
TRUTH = dict.fromkeys(("true", "yes", "y", "t", "1"), 1.0) | dict.fromkeys(
    ("false", "no", "n", "f", "0"), 0.0
)


class Predictor:
    """An exported network together with the encoding of its examples."""

    def __init__(self, folder: str | Path = FOLDER) -> None:
        self.folder = Path(folder)
        self.about = json.loads((self.folder / "vocabulary.json").read_text("utf-8"))
        self.missing = frozenset(self.about["missing"])
        self.columns = self.about["columns"]
        self._call = _network(
            self.folder / self.about["model"], [one["name"] for one in self.about["inputs"]]
        )

    def predict(self, examples: Value) -> dict[str, np.ndarray]:
        """Predict examples.

        Args:
            examples: a mapping of column names to values (or a pandas or polars frame), a list of texts,
                paths of images or Pillow images, uint8 images [N, C, H, W] in the size of training, or an
                array [N, ...], as in training.

        Returns:
            `prediction` [N] (labels or values; [N, D] for several targets) and `scores` [N, C].

        Raises:
            ValueError: the examples do not match those of training.
        """
        scores = self.scores(examples)
        if self.about["task"] == "regression":
            return {"prediction": scores[:, 0] if scores.shape[1] == 1 else scores, "scores": scores}
        if self.about["task"] == "multilabel":
            return {"prediction": scores > 0.5, "scores": scores}
        return {"prediction": np.array(self.about["classes"])[scores.argmax(1)], "scores": scores}

    def scores(self, examples: Value) -> np.ndarray:
        """Return the scores [N, C] of each class, or values [N, D] in the target's own units."""
        if self.about["kind"] == "image" and are_pictures(examples):
            files = examples if isinstance(examples, (list, tuple)) else [examples]
            parts = [files[start : start + AT_ONCE] for start in range(0, len(files), AT_ONCE)]
            return np.concatenate([self.scores(pixels(part, self.about)) for part in parts])
        feed = self.inputs(examples)
        count = len(next(iter(feed.values())))
        found = [
            self._call({name: array[start : start + BLOCK] for name, array in feed.items()})
            for start in range(0, count, BLOCK)
        ]
        if not found:
            raise ValueError("found no examples, expected at least one")
        return np.concatenate(found)

    def inputs(self, examples: Value) -> dict[str, np.ndarray]:
        """Return the encoded inputs of the network by name."""
        kind = self.about["kind"]
        if kind == "text":
            return {"ids": self._ids(examples)}
        if kind == "sequence":
            return self._sequences(self._table(examples, self.columns))
        if kind == "table":
            return self._encoded(self._table(examples, self.columns))
        return {self.about["inputs"][0]["name"]: self._array(examples)}

    def _array(self, examples: Value) -> np.ndarray:
        """Return an array with the shape and type of training."""
        shape = tuple(self.about["shape"])
        if hasattr(examples, "keys") or hasattr(examples, "columns"):
            table = self._table(examples, self.columns)
            examples = np.stack([self._numbers(column, table[column["name"]]) for column in self.columns], 1)
        array = np.asarray(examples)
        if array.ndim == 2 and array.shape[1] == int(np.prod(shape)):
            array = array.reshape(-1, *shape)
        if array.ndim == len(shape) and shape[0] == 1 and len(shape) == 3:
            array = array[:, None]
        if array.shape[1:] != shape:
            raise ValueError(
                f"found an array of shape {array.shape}, expected [N, {', '.join(map(str, shape))}]"
            )
        if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
            raise ValueError(f"found an array of {array.dtype}, expected finite numbers")
        wanted = np.dtype(self.about["inputs"][0]["type"])
        if wanted.kind in "iu" and ((array % 1 != 0).any() or array.min(initial=0) < 0):
            raise ValueError("found negative or fractional numbers, expected whole numbers >= 0")
        if wanted == np.uint8 and array.max(initial=0) > 255:
            raise ValueError(f"found pixels up to {array.max()}, expected 0 to 255")
        return array.astype(wanted)

    def _table(self, examples: Value, columns: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
        """Return the named columns. Other columns are ignored; single values make one row."""
        if not hasattr(examples, "keys") and not hasattr(examples, "columns"):
            raise ValueError("expected a mapping of column names to values, or a data frame")
        spelled = {nfc(str(name)).strip(): name for name in examples}
        if hasattr(examples, "columns"):
            spelled = {nfc(str(name)).strip(): name for name in examples.columns}
        steps = self.about["steps"]
        wanted = [*([steps["id"], steps["time"]] if steps else []), *(column["name"] for column in columns)]
        if absent := [name for name in wanted if name not in spelled]:
            raise ValueError(f"missing the columns {', '.join(absent)}; found {', '.join(spelled)}")
        table = {name: _values(examples[spelled[name]]) for name in wanted}
        if len({len(values) for values in table.values()}) > 1:
            raise ValueError("columns have different lengths")
        return table

    def _encoded(self, table: Mapping[str, Value]) -> dict[str, np.ndarray]:
        """Return numbers float64 [N, F] and categories int64 [N, G], each only if there are any."""
        numbers = [c for c in self.columns if c["kind"] != "category"]
        categories = [c for c in self.columns if c["kind"] == "category"]
        feed = {}
        if numbers:
            feed["numbers"] = np.stack([self._numbers(c, table[c["name"]]) for c in numbers], 1)
        if categories:
            feed["categories"] = np.stack([self._codes(c, table[c["name"]]) for c in categories], 1)
        return feed

    def _numbers(self, column: Mapping[str, Value], values: Value) -> np.ndarray:
        """Return numbers, dates as days since 1970, times of day as hours, booleans as 0 and 1."""
        if isinstance(values, np.ndarray):
            found = values.astype(np.float64)
            if gone := [float(word) for word in self.missing if _is_number(word)]:
                found[np.isin(found, gone)] = np.nan
        else:
            read = self._reader(column)
            found = np.array([self._number(column, read, i, v) for i, v in enumerate(values)], np.float64)
        if np.isinf(found).any():
            raise ValueError(
                f"column {column['name']!r}, row {np.isinf(found).argmax() + 1}: found infinity, expected a "
                "finite number"
            )
        return found

    @staticmethod
    def _reader(column: Mapping[str, Value]) -> Value:
        if column["kind"] == "boolean":
            return lambda word: TRUTH.get(word.lower())
        if column["kind"] == "date":
            return lambda word: days_of(word, column["format"])
        return number_reader(column["format"])

    def _number(self, column: Mapping[str, Value], read: Value, row: int, value: Value) -> float:
        word = self._word(value)
        if word is None:
            return float("nan")
        if isinstance(value, (int, float, np.number, np.bool_, Decimal)):
            found: float | None = float("nan") if word in self.missing else float(value)
        else:
            found = read(word)
        if found is None:
            raise ValueError(
                f"column {column['name']!r}, row {row + 1}: found {word!r}, expected a {column['kind']}"
            )
        return found

    def _word(self, value: Value) -> str | None:
        """Return a value as text, or None for a missing one."""
        if value is None or _is_nan(value):
            return None
        if isinstance(value, (bool, np.bool_)):
            word = "true" if value else "false"
        elif isinstance(value, (float, np.floating)):
            word = spell(float(value))
        elif isinstance(value, (int, np.integer, Decimal)):
            word = exact(value)
        else:
            word = value.isoformat() if isinstance(value, (date, time)) else nfc(str(value).strip())
        return None if word in self.missing or plain(word) in self.missing else word

    def _codes(self, column: Mapping[str, Value], values: Value) -> np.ndarray:
        """Return each category's index among the column's words; missing and unknown come after the words."""
        words = column["words"]
        known, places = Known(words), {}
        for value in dict.fromkeys(_hashed(v) for v in values):
            word = self._word(value)
            number = not isinstance(value, (bool, np.bool_, str)) and _is_number(word or "")
            place = -1 if word is None else known.place(word, "number" if number else "text")
            places[value] = len(words) if word is None else place if place >= 0 else len(words) + 1
        return np.array([places[_hashed(v)] for v in values], np.int64)

    def _ids(self, texts: Value) -> np.ndarray:
        """Return the token ids of texts, int64 [N, T], padded with 0 at the end."""
        about, name = self.about["tokenizer"], self.columns[0]["name"]
        if hasattr(texts, "keys") or hasattr(texts, "columns"):
            texts = self._table(texts, self.columns)[name]
        if isinstance(texts, str):
            raise ValueError("found one text, expected a list of texts")
        tokenizer = Tokenizer(**about)
        place = {word: i for i, word in enumerate(self.about["vocabulary"])}
        out = np.zeros((len(texts), tokenizer.length), np.int64)
        for row, text in enumerate(texts):
            tokens = tokenizer.cut("" if text is None else text) if not isinstance(text, list) else text
            last = tokenizer.keep == "last"
            tokens = tokens[-tokenizer.length :] if last else tokens[: tokenizer.length]
            out[row, : max(len(tokens), 1)] = [place.get(token, 1) for token in tokens] or [1]
        return out

    def _sequences(self, table: Mapping[str, Value]) -> dict[str, np.ndarray]:
        """Arrange rows as sequences sorted by time, in the order of their first rows."""
        steps = self.about["steps"]
        names = [self._word(value) for value in table[steps["id"]]]
        times = self._times(steps, table[steps["time"]])
        if None in names or np.isnan(times).any():
            raise ValueError(f"every row needs a value in the columns {steps['id']} and {steps['time']}")
        order = {name: i for i, name in enumerate(dict.fromkeys(names))}
        owner = np.array([order[name] for name in names])
        rows = np.lexsort((times, owner))
        groups = np.split(rows, np.flatnonzero(np.diff(owner[rows])) + 1)
        length, last = steps["length"], steps["keep"] == "last"
        groups = [group[-length:] if last else group[:length] for group in groups]
        lengths = np.array([len(group) for group in groups], np.int64)
        if not self.about["masked"] and lengths.min() < length:
            raise ValueError(f"found a sequence of length {lengths.min()}, expected {length} as in training")
        feed, absent = {}, [len(column["words"]) for column in self.columns if column["kind"] == "category"]
        for name, flat in self._encoded(table).items():
            gone = absent if name == "categories" else np.nan
            placed = np.zeros((len(groups), length, flat.shape[1]), flat.dtype)
            for i, group in enumerate(groups):
                part = flat[group]
                placed[i, : len(group)] = _forward(part, gone) if steps["forward"] else part
            feed[name] = placed
        return feed | {"lengths": lengths}

    def _times(self, steps: Mapping[str, Value], values: Value) -> np.ndarray:
        """Return times as numbers, or dates as days since 1970."""
        words = [] if isinstance(values, np.ndarray) else [self._word(value) for value in values]
        kind = "number" if all(_is_number(word or "") for word in words) else "date"
        return self._numbers({"name": steps["time"], "kind": kind, "format": steps.get("format", "")}, values)


def _forward(steps: np.ndarray, gone: Value) -> np.ndarray:
    """Fill a missing value with the last value before it."""
    missing = np.isnan(steps) if steps.dtype.kind == "f" else steps == np.asarray(gone)
    last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(steps))[:, None]), 0)
    filled = np.take_along_axis(steps, np.maximum(last, 0), 0)
    return np.where(last < 0, steps, filled)


def _values(values: Value) -> Value:
    """Return a column as an array of numbers or a list."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
        values = [values]
    if not isinstance(values, np.ndarray) and hasattr(values, "to_list"):
        values = values.to_list()
    elif not isinstance(values, np.ndarray) and hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, np.ndarray) and values.dtype.kind not in "fiu":
        values = values.tolist()
    return values


def _hashed(value: Value) -> Value:
    return None if value is None or _is_nan(value) else value


def _is_nan(value: Value) -> bool:
    try:
        return bool(value != value)
    except TypeError:  # pandas' NA
        return True


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _network(path: Path, names: Sequence[str]) -> Value:
    """Return a function that maps inputs by name to scores."""
    if path.suffix == ".pt2":
        import torch

        module = torch.export.load(path).module()

        def call(feed: Mapping[str, np.ndarray]) -> np.ndarray:
            with torch.no_grad():
                found: np.ndarray = module(*(torch.from_numpy(feed[name]) for name in names)).numpy()
            return found

        return call
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda feed: session.run(["scores"], dict(feed))[0]


def main() -> None:
    """Predict the examples of a file."""
    parser = argparse.ArgumentParser(description="Predict with an exported network.")
    parser.add_argument("file", help="CSV or Parquet table, text lines, .npy or .npz array, image or folder")
    parser.add_argument("-o", "--output", help="CSV file; standard output by default")
    given = parser.parse_args()
    predictor = Predictor()
    try:
        examples = read(given.file, predictor.about)
        found = predictor.predict(examples)
    except OSError as error:
        sys.exit(f"{given.file}: {error.strerror or error}")
    except ValueError as error:
        sys.exit(str(error) if str(error).startswith(given.file) else f"{given.file}: {error}")
    files = names(given.file, examples) if predictor.about["kind"] == "image" else []
    try:
        with open(given.output, "w", encoding="utf-8", newline="") if given.output else sys.stdout as file:
            csv.writer(file, lineterminator="\n").writerows(lines(found, predictor.about, files))
    except BrokenPipeError:  # the reader has gone (`| head -1`)
        os._exit(141)


if __name__ == "__main__":
    main()
