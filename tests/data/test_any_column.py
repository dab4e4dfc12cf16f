"""Columns of every library and type: the same values and kinds, and a sentence for what is neither."""

import datetime as dt
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from slipstream.core.errors import DataError
from slipstream.data.in_memory import InMemory, raw_columns
from slipstream.data.tabular.columns import as_dates, as_numbers, as_text
from slipstream.data.tabular.frames import from_any

NOON, LATER = dt.datetime(2021, 1, 1, 12), dt.datetime(2021, 7, 2, 12, 30)
BERLIN = pd.to_datetime([NOON, None, LATER]).tz_localize("Europe/Berlin")
IN_UTC = [18628 + 11 / 24, None, 18810 + 10.5 / 24]

# name -> (column, kind that its type tells, values)
COLUMNS = {
    "pandas categorical": (pd.Series(["a", None, "b"], dtype="category"), "category", ["a", None, "b"]),
    "pandas categorical of integers": (pd.Categorical([30, None, 4]), "category", ["30", None, "4"]),
    "pandas categorical of booleans": (
        pd.Categorical([True, None, False]), "category", ["true", None, "false"]
    ),
    "pandas categorical of intervals": (
        pd.cut(pd.Series([1, np.nan, 9]), [0, 5, 10]), "category", ["(0.0, 5.0]", None, "(5.0, 10.0]"]
    ),
    "pandas nullable integers": (pd.array([3, None, 1], dtype="Int64"), None, [3, None, 1]),
    "pandas nullable booleans": (pd.array([True, None, False], dtype="boolean"), "boolean", [1, None, 0]),
    "pandas arrow decimals": (
        pd.array([Decimal("1.5"), None, 2], dtype=pd.ArrowDtype(pa.decimal128(5, 2))), None, [1.5, None, 2]
    ),
    "pandas objects": (pd.Series([3, None, 1.5], dtype=object), None, [3, None, 1.5]),
    "pandas index": (pd.Index([3, 2, 1]), None, [3, 2, 1]),
    "pandas dates with a zone": (pd.Series(BERLIN), "date", IN_UTC),
    "pandas sparse": (pd.arrays.SparseArray([0, 0, 1]), None, [0, 0, 1]),
    "polars enum": (pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])), "category", ["a", None, "b"]),
    "polars decimals": (pl.Series(["1.5", None, "2"]).cast(pl.Decimal(10, 2)), None, [1.5, None, 2]),
    "polars dates with a zone": (
        pl.Series([NOON, None, LATER]).dt.replace_time_zone("Europe/Berlin"), "date", IN_UTC
    ),
    "arrow dictionary": (pa.array(["a", None, "b"]).dictionary_encode(), "category", ["a", None, "b"]),
    "arrow dictionary of integers": (
        pa.array([30, None, 4]).dictionary_encode(), "category", ["30", None, "4"]
    ),
    "arrow array with a gap": (pa.array([1, None, 2]), None, [1, None, 2]),
    "arrow chunks": (pa.chunked_array([[1, None], [2]]), None, [1, None, 2]),
    "arrow decimals": (pa.array([Decimal("1.5"), None, Decimal(2)]), None, [1.5, None, 2]),
    "arrow date64": (pa.array([NOON.date(), None, LATER.date()], pa.date64()), "date", [18628, None, 18810]),
    "arrow dates with a zone": (pa.Array.from_pandas(BERLIN), "date", IN_UTC),
    "numpy dates": (np.array(["2021-01-01", "NaT", "2021-07-02"], "M8[ns]"), "date", [18628, None, 18810]),
    "numpy masked": (np.ma.array([1, 7, 2], mask=[0, 1, 0]), None, [1, None, 2]),
    "bfloat16": (torch.tensor([1.5, 2, 3], dtype=torch.bfloat16), None, [1.5, 2, 3]),
    "a tensor with a gradient": (torch.ones(3, requires_grad=True), None, [1, 1, 1]),
    "dates": ([NOON.date(), None, LATER.date()], "date", [18628, None, 18810]),
    "booleans": ([True, None, False], "boolean", [1, None, 0]),
    "decimals": ([Decimal("1.5"), None, 2], None, [1.5, None, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_what_its_type_tells(name):
    """Its kind and its values are those given, to train on and as new examples; a gap is missing."""
    column, told, values = COLUMNS[name]
    read, kinds = raw_columns({"x": column}, frozenset(), None, ())
    assert kinds.get("x") == told
    for found in (read["x"], from_any({"x": column}, {"x": told == "category"})["x"]):
        if told == "category":
            text = as_text(found)
            assert [None if code < 0 else text.values[code] for code in text.codes] == values
        else:
            parsed = as_dates("x", found) if told == "date" else as_numbers("x", found)
            np.testing.assert_array_equal(parsed, np.array(values, float))


REFUSED = {
    "lists": ([[1], [2], [3]], r"holds '\[1\]' \(row 1, list\)"),
    "arrow lists": (pa.array([[1], None, [2, 3]]), r"holds List\(Int64\)"),
    "arrow maps": (pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int64())), "row 1, list"),
    "polars structs": (pl.Series([{"a": 1}, None, {"a": 2}]), "holds Struct"),
    "arrow bytes": (pa.array([b"a", None, b"b"]), "holds bytes"),
    "bytes": (np.array([b"a", b"b", b"c"]), "holds bytes"),
    "bytes in a list": ([None, b"a", b"b"], "row 2, bytes"),
    "complex numbers": (np.array([1j, 2, 3]), "holds complex numbers"),
    "durations": (np.array([1, 2, 3], "m8[s]"), "holds durations"),
    "durations in a list": ([dt.timedelta(1)] * 3, "row 1, timedelta"),
    "objects": ([None, "a", Path("b")], "row 3, PosixPath"),
    "two axes": (np.ones((3, 2)), r"shape \(3, 2\), expected one value per row"),
    "a tensor of two axes": (torch.ones(3, 2), r"shape \(3, 2\)"),
    "a sparse tensor": (torch.ones(3).to_sparse(), "found a sparse tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_column_of_something_else_is_refused(name):
    """Alike to train on and as new examples: the column, what it holds, and how to leave it out."""
    column, said = REFUSED[name]
    for read in (
        lambda: raw_columns({"x": column}, frozenset(), None, ()),
        lambda: from_any({"x": column}, {"x": False}),
    ):
        with pytest.raises(DataError, match=rf"^the table: column 'x'.*{said}"):
            read()


LEVELS = pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])
PATIENTS = pd.Index([1, 2, 3], name="patient")


@pytest.mark.parametrize(
    ("table", "target", "said"),
    [
        (pd.DataFrame([[1, 2]] * 3, columns=LEVELS), "y", r"have several levels, such as \('a', 'x'\)"),
        (pd.DataFrame({None: [1, 2, 3], "y": 1}), "y", "a column has no name"),
        (
            pd.DataFrame([[1, 2]] * 3, columns=["a", "a"]),
            "a",
            "two columns with the same name.*a unique name",
        ),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "a", "two columns with the same name"),
        ({("a", 1): [1, 2, 3]}, "y", "as the name of a column, expected a string"),
        ({"a": 1, "y": [1, 2]}, "y", "'a' is a single value but column 'y' is a list"),
        (pd.DataFrame({"a": [1, 2, 3]}, index=PATIENTS), "patient", r"convert it with frame\.reset_index"),
        (pd.DataFrame({"a": [1, 2, 3]}), pd.Series([1, 2, 3], index=[2, 0, 1]), r"target.loc\[table.index\]"),
        (pd.DataFrame({"a": [1, 2, 3]}), None, "target: found None, expected the name of a column"),
    ],
)
def test_names_and_order_that_mislead_are_refused(table, target, said):
    """Names of several levels, no name, one name twice, an index as target, targets in another order."""
    with pytest.raises(DataError, match=said):
        raw_columns(InMemory.of(table, target)[0].table, frozenset(), None, ())
