"""Rows D1-D9, D12-D18, D20, N7-N9 of the fault catalogue: each fault is made and its outcome asserted."""

import gzip

import numpy as np
import polars as pl
import pytest
import torch

from slipstream.core.errors import DataError, UserError
from slipstream.data import from_json

ROWS = [f"{i % 7},{'rgb'[i % 3]},{'ab'[i % 2]}" for i in range(60)]
TABLE = "\n".join(["x,colour,y", *ROWS]) + "\n"


def with_row(number, row, table=TABLE):
    """The table with its row `number` (from 1 below the header) replaced."""
    lines = table.split("\n")
    lines[number] = row
    return "\n".join(lines)


def refused(load_table, content, *words, **changes):
    """The one message of the refusal, which has to hold all `words`."""
    with pytest.raises(DataError) as caught:
        load_table(content, **changes)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "t." in message or "data" in message
    for word in words:
        assert word in message, message
    return message


def test_the_table_is_sound(load_table):
    """Without a fault the table loads without a warning, so that the faults below are what is tested."""
    found = load_table(TABLE)
    assert found.warnings == ()
    assert found.target.classes == ("a", "b")
    assert found.train.inputs.shape == (42, 4)


def test_d01_missing_values(load_table):
    """A missing number becomes the training median and is marked; a missing category is one of its own."""
    table = with_row(8, "NA,r,a", with_row(5, ",g,a", with_row(6, "2,?,b")))
    found = load_table(table, test=0.0, validation=0.0, scaling="none")
    assert found.input_names == (
        *("x", "x is missing", "colour=b", "colour=g", "colour=r", "colour is missing"),
    )
    rows = found.train.inputs
    present = np.delete(np.arange(60) % 7, [4, 7])
    assert rows[4].tolist() == [np.median(present), 1, 0, 1, 0, 0]
    assert rows[5].tolist() == [2, 0, 0, 0, 0, 1]
    assert rows[7, :2].tolist() == [np.median(present), 1]
    assert rows[:, 1].sum() == 2


def test_d01_missing_values_refused_or_filled_otherwise(load_table):
    """impute=error names row and column; mean and most_frequent fill with what they say."""
    table = with_row(5, ",g,a")
    refused(load_table, table, "'x'", "row 5", impute="error", test=0.0, validation=0.0)
    present = np.delete(np.arange(60) % 7, 4)
    for impute, value in [("mean", present.mean()), ("most_frequent", 0.0)]:
        found = load_table(table, impute=impute, test=0.0, validation=0.0, scaling="none")
        assert found.train.inputs[4, 0].item() == pytest.approx(value, rel=1e-6)  # float32


def test_d01_missing_target(load_table):
    """A row without target is an error that names it; with missing_target=drop it is left out and told."""
    table = with_row(9, "1,r,")
    refused(
        load_table,
        table,
        "target is missing in 1 of 60 rows",
        "row 9",
        "correct it, or drop this row with",
    )
    found = load_table(table, missing_target="drop", test=0.0, validation=0.0)
    assert len(found.train) == 59
    assert "row 9" in found.warnings[0]


def test_d01_missing_in_arrays(tmp_path, load):
    """An array with a NaN is refused with the index of the value."""
    x = np.zeros((30, 2))
    x[7, 1] = np.nan
    np.savez(tmp_path / "a.npz", inputs=x, targets=np.arange(30) % 2)
    with pytest.raises(DataError, match=r"a\.npz: inputs\[7, 1\]: found nan"):
        load("arrays", path=str(tmp_path / "a.npz"))


@pytest.mark.parametrize("row", [3, 59])
def test_d02_mixed_types(load_table, row):
    """A word among numbers names row, column and word; as a category, or as missing, it is allowed."""
    table = with_row(row, "abc,r,a")
    refused(load_table, table, "'x'", f"row {row}", "'abc'", "expected a number", "data.kinds.x=category")
    assert load_table(table, kinds={"x": "category"}).target.task == "binary"
    assert "x is missing" in load_table(table, missing=["abc"], test=0.0, validation=0.0).input_names


@pytest.mark.slow
def test_d02_mixed_types_far_apart(load_table):
    """A word in a later block of the file than the numbers is found as well, with its row."""
    count = 400_000
    lines = "\n".join(["x,z,y"] + ["1,2,a", "3,4,b"] * (count // 2) + ["1,word,a"])
    refused(load_table, lines, "'z'", f"row {count + 1}", "'word'")


def test_d02_mixed_types_in_the_target(load_table):
    """A word in a target of numbers names row and word."""
    table = "x,y\n" + "\n".join(f"{i},{i / 3}" for i in range(40)) + "\n5,many\n"
    refused(load_table, table, "'y'", "row 41", "'many'")


def test_d03_labels_out_of_range(load_table, tmp_path, load):
    """A label outside of the declared classes names row, label and classes."""
    refused(load_table, with_row(4, "1,r,c"), "row 4", "'c'", "a, b", classes=["a", "b"])
    np.savez(tmp_path / "a.npz", inputs=np.zeros((30, 2)), targets=np.arange(30) % 3 - 1)
    with pytest.raises(DataError, match=r"targets\[0\]: found label -1, expected 0 to 2"):
        load("arrays", path=str(tmp_path / "a.npz"), classes=["p", "q", "r"])


@pytest.mark.parametrize("labels", [[5, 7, 9], [-1, 0, 1], [1, 2, 10]])
def test_d04_labels_that_do_not_start_at_0(load_table, labels):
    """Any whole numbers become indices from 0 in their numeric order, and their names stay."""
    table = "x,y\n" + "\n".join(f"{i % 4},{labels[i % 3]}" for i in range(60)) + "\n"
    found = load_table(table, test=0.0, validation=0.0)
    assert found.target.classes == tuple(map(str, labels))
    assert found.train.targets[:3].tolist() == [0, 1, 2]


def test_d05_unseen_category(load_table):
    """A category that training has not seen is 0 in every known one, counted and told."""
    found = load_table(TABLE, test=0.0, validation=0.0, scaling="none")
    new = pl.DataFrame({"x": [1, 2, 3], "colour": ["r", "violet", "violet"]})
    encoded, warnings = from_json(found.preprocessing).transform(new)
    assert encoded.tolist() == [[1, 0, 0, 1], [2, 0, 0, 0], [3, 0, 0, 0]]
    assert len(warnings) == 1
    assert "'colour': 2 rows" in warnings[0]
    assert "violet" in warnings[0]


def test_d05_unseen_category_in_the_test_file(load_table, tmp_path):
    """A category that only the test file has is told when the data are loaded."""
    (tmp_path / "test.csv").write_text("x,colour,y\n1,violet,a\n2,r,b\n")
    found = load_table(TABLE, test_path=str(tmp_path / "test.csv"))
    assert any("violet" in warning for warning in found.warnings)
    assert found.test.inputs[0, 1:].tolist() == [0, 0, 0]


def test_d06_one_class_only(load_table, tmp_path, load):
    """A target that never varies is refused: its value and the number of rows are named."""
    refused(load_table, TABLE.replace(",b\n", ",a\n"), "'y'", "only one class", "'a' in all 60 rows")
    np.savez(tmp_path / "a.npz", inputs=np.zeros((30, 2)), targets=np.full((30, 1), 0.5))
    with pytest.raises(DataError, match=r"0\.5 in all 30 rows"):
        load("arrays", path=str(tmp_path / "a.npz"))


@pytest.mark.parametrize("content", [b"", b"\n\n\r\n", b"\xef\xbb\xbf", b"  \n"])
def test_d07_empty_file(load_table, content):
    """An empty file, or one of blank lines, is said to be empty."""
    refused(load_table, content, "the file is empty")


@pytest.mark.parametrize("content", ["x,colour,y\n", "x,colour,y", "x,colour,y\n\n\n"])
def test_d08_header_only(load_table, content):
    """A header without rows is said to have none."""
    refused(load_table, content, "no rows below the header", "x, colour, y")


@pytest.mark.parametrize(("row", "fields"), [("1,r", "2 fields"), ("1,r,a,7", "4 fields"), ("7", "1 field,")])
@pytest.mark.parametrize("number", [1, 33, 60])
def test_d09_ragged_rows(load_table, row, fields, number):
    """A row with too few or too many fields is named with both numbers, wherever it stands."""
    refused(load_table, with_row(number, row), f"row {number} ", fields, "header has 3")


def test_d09_an_open_quote(load_table):
    """A quote that never closes is named and not taken for the rest of the table."""
    refused(load_table, with_row(5, '"1,r,a'), "the quote opened in row 5 ")
    refused(load_table, '"' + TABLE, "the quote opened in the header")


@pytest.mark.parametrize("row", ['1,a"b,c"d,a', '1,"r" x,a', '1,a "x\ny" b,a'])
@pytest.mark.parametrize("number", [1, 40, 60])
def test_d09_quotes_inside_an_unquoted_field(load_table, number, row):
    """Quotes that no parser reads alike are refused with their row, and lose no rows in silence."""
    refused(load_table, with_row(number, row), f"row {number} ", "quote")


@pytest.mark.parametrize("keep", [0, 3, 40, -1])
def test_d12_truncated_parquet(load_table, tmp_path, keep):
    """A Parquet file cut anywhere is refused as incomplete."""
    pl.read_csv(TABLE.encode()).write_parquet(tmp_path / "whole.parquet")
    content = (tmp_path / "whole.parquet").read_bytes()[:keep]
    refused(load_table, content, "t.parquet", "not a complete Parquet file", file="t.parquet")


def test_d12_truncated_gzip_and_npz(load_table, tmp_path, load):
    """A gzip or npz file cut in the middle is refused by name."""
    packed = gzip.compress(TABLE.encode())
    refused(load_table, packed[: len(packed) // 2], "t.csv.gz", "cannot be read", file="t.csv.gz")
    np.savez(tmp_path / "a.npz", inputs=np.zeros((30, 2)), targets=np.arange(30) % 2)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.npz: cannot be read"):
        load("arrays", path=str(tmp_path / "a.npz"))


@pytest.mark.parametrize("number", ["1e300", "1e999", "inf", "-inf", "9" * 60])
def test_d13_numbers_beyond_float32(load_table, number):
    """A number that float32 cannot hold names row and column."""
    refused(load_table, with_row(12, f"{number},r,a"), "'x'", "row 12", "float32")


def test_d13_large_integers_are_numbers(load_table):
    """Integers beyond 64 bits that float32 holds load as numbers."""
    found = load_table(with_row(12, f"{'9' * 20},r,a"), test=0.0, validation=0.0)
    assert torch.isfinite(found.train.inputs).all()
    assert found.train.inputs[:, 0].argmax() == 11


def test_d13_numbers_beyond_float32_in_arrays(tmp_path, load):
    """An array value beyond float32 names its index."""
    x = np.zeros((30, 2, 4, 4))
    x[3, 1, 0, 2] = 1e300
    np.savez(tmp_path / "a.npz", inputs=x, targets=np.arange(30) % 2)
    with pytest.raises(DataError, match=r"inputs\[3, 1, 0, 2\]: found 1e\+300"):
        load("arrays", path=str(tmp_path / "a.npz"))


def test_d14_bom(load_table):
    """A byte order mark is no part of the first column's name; UTF-16 is named with the way out."""
    found = load_table(b"\xef\xbb\xbf" + TABLE.encode())
    assert found.input_names[0] == "x"
    refused(load_table, TABLE.encode("utf-16"), "UTF-16", "UTF-8")


def test_d14_another_encoding(load_table):
    """Bytes that are not UTF-8 are named with their row."""
    refused(load_table, with_row(3, "1,é,a").encode("latin-1"), "row 3", "0xe9", "UTF-8")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_d15_wrong_delimiter(load_table, separator):
    """Another delimiter is found in the header; a wrong one that is asked for is refused with the hint."""
    table = TABLE.replace(",", separator)
    assert load_table(table).fingerprint != ""
    assert torch.equal(load_table(table).train.inputs, load_table(TABLE).train.inputs)
    refused(load_table, table, "found only one column", repr(separator), separator=",")


def test_d15_decimal_comma(load_table):
    """Numbers with a decimal comma are refused with the setting that reads them, and read by it."""
    table = "x;y\n" + "\n".join(f"{i},{i % 10};{'ab'[i % 2]}" for i in range(40)) + "\n"
    refused(load_table, table, "'x'", "row 1", "data.decimal=','")
    found = load_table(table, decimal=",", scaling="none", test=0.0, validation=0.0)
    assert found.train.inputs[:, 0].tolist() == pytest.approx([i + i % 10 / 10 for i in range(40)])


def test_d16_duplicate_column_names(load_table):
    """A name that the header has twice is named with both places."""
    refused(load_table, TABLE.replace("colour", "x", 1), "'x' more than once", "columns 1, 2")


def test_d17_unicode_names(load_table):
    """Names in any script work, and composed and decomposed spellings are the same name."""
    table = TABLE.replace("x,colour,y", "größe,色,Zi\u0065\u0301l")  # an e and a combining accent
    found = load_table(table, target="Zi\u00e9l")
    assert found.target.names == ("Zi\u00e9l",)
    assert found.input_names == ("größe", "色=b", "色=g", "色=r")


def test_d18_crlf_and_quoted_newlines(load_table):
    """Windows line ends and line breaks, separators and quotes inside quotes change nothing."""
    table = TABLE.replace(",r,", ',"r\r\n, ""x""",').replace("a\n", "a\r\n").replace("b\n", "b\r\n")
    found = load_table(table)
    assert found.input_names == ("x", "colour=b", "colour=g", 'colour=r\r\n, "x"')
    assert torch.equal(found.train.inputs, load_table(TABLE).train.inputs)
    refused(load_table, table + "1,2\r\n", "row 61 ")


@pytest.mark.parametrize("rows", [1, 2])
def test_d20_too_few_rows_to_split(load_table, rows):
    """Fewer rows than parts are an error that says what to switch off."""
    table = "x,y\n" + "\n".join(f"{i},{i / 2 + 0.1}" for i in range(rows)) + "\n"
    with pytest.raises(UserError, match=r"too few|nothing to learn"):
        load_table(table)


def test_n07_a_feature_without_variance(load_table):
    """A column that never varies in training is 0 in every part, whatever it is there, and is named."""
    rows = [f"{i % 7},{3 if i < 50 else 8},{'ab'[i % 2]},{'train' if i < 50 else 'test'}" for i in range(60)]
    found = load_table("\n".join(["x,same,y,part", *rows]) + "\n", split_column="part", validation=0.0)
    assert (found.train.inputs[:, 1] == 0).all()
    assert (found.test.inputs[:, 1] == 0).all()
    assert any("same" in warning and "does not vary" in warning for warning in found.warnings)


def test_n08_a_class_absent_from_train(load_table):
    """A class that only the user's own test part has is refused unless data.classes names it: then it
    is named in a warning and keeps its index; a train of one class is refused."""
    rows = [f"{i % 7},{'abc'[i % 3] if i >= 40 else 'ab'[i % 2]},{i < 40}" for i in range(60)]
    table = "\n".join(["x,y,part", *rows]) + "\n"
    table = table.replace("True", "train").replace("False", "test")
    parts = {"split_column": "part", "validation": 0.0}
    refused(
        load_table,
        table,
        "label 'c' of target 'y' is unknown: 7 rows of the test split",
        "data.classes",
        **parts,
    )
    parts["classes"] = ["a", "b", "c"]
    found = load_table(table, **parts)
    assert found.target.classes == ("a", "b", "c")
    assert found.warnings == ("the train split has no row of class c: it cannot be learned",)
    one = table.replace(",b,train", ",a,train")
    refused(load_table, one, "only one class, 'a'", "b, c", **parts)


def test_n09_a_class_absent_from_validation(load_table):
    """A class that validation or test lacks is named in a warning."""
    table = (
        "x,y\n"
        + "\n".join(f"{i % 7},{'abc'[min(i, 2)] if i < 20 else 'bc'[i % 2]}" for i in range(60))
        + "\n"
    )
    found = load_table(table)
    assert found.warnings == (
        "class a has 1 row, so it cannot be in both train and test",
        "the validation split has no row of class a: its metrics by class (f1_macro, roc_auc) are over the "
        "others",
        "the test split has no row of class a: its metrics by class (f1_macro, roc_auc) are over the others",
    )
