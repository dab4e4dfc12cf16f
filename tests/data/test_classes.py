"""What is said of classes: spelled alike, in one part alone, taken for missing."""

import polars as pl
import pytest

from slipstream.core.errors import DataError


def table(labels, more=""):
    """A CSV table with these labels, one a row."""
    rows = [f"{i % 7},{label}{more and f',{more[i % len(more)]}'}" for i, label in enumerate(labels)]
    return "\n".join([f"a,y{more and ',part'}", *rows]) + "\n"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["Yes", "YES", " yes ", "No"], ["'YES' (20), 'Yes' (20), 'yes' (20)"]),
        (["New York", "New  York", "Rome"], ["'New  York' (20), 'New York' (20)"]),
        (["no", "yes"], []),
        (["a", "A", "b", "B"], ["'A' (20), 'a' (20)", "'B' (20), 'b' (20)"]),
    ],
)
def test_classes_that_differ_in_case_or_blanks_alone_are_pointed_out(load_table, labels, said):
    """Once for each group of them, with their rows; classes that differ are passed over."""
    found = [w for w in load_table(table(labels * 20)).warnings if "case or spaces" in w]
    assert len(found) == len(said)
    assert all(words in warning for words, warning in zip(said, found, strict=True))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_categories_that_differ_in_case_or_blanks_alone_are_counted(load, tmp_path, form):
    """Once for each column, with their number; columns without any are passed over."""
    rows = range(60)
    frame = pl.DataFrame(
        {
            "city": [("Ulm", "ULM ", "Bad  Ems", "Bad Ems", "Bonn", "ulm")[i % 6] for i in rows],
            "ward": ["ab"[i % 2] for i in rows],
            "size": [("L", "l")[i % 7 > 0] for i in rows],
            "y": [i % 2 for i in rows],
        }
    )
    path = tmp_path / f"t.{form}"
    getattr(frame, f"write_{form}")(path)
    found = [w for w in load("table", path=str(path), target="y").warnings if "case or spaces" in w]
    assert len(found) == 2
    assert "column 'city': 5 of 6 categories" in found[0]
    assert "('Ulm' (10), 'ULM' (10), 'ulm' (10), 'Bad  Ems' (10) and 1 more)" in found[0]
    assert "column 'size': 2 of 2 categories" in found[1]


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_label_that_only_a_part_of_the_users_own_has_is_refused(load_table, tmp_path, part):
    """UCI's adult.test ends its labels with a point: no test row would be of a class that was learned."""
    (tmp_path / "other.csv").write_text(table(["<=50K.", ">50K."] * 10))
    other = {f"{part}_path": str(tmp_path / "other.csv")}
    with pytest.raises(DataError, match=rf"10 rows of the {part} split .*mean <=50K\?") as caught:
        load_table(table(["<=50K", ">50K"] * 20), **other)
    assert str(caught.value).startswith(f"{tmp_path / 'other.csv'}: row 1: label '<=50K.' of target 'y'")
    labels = ["<=50K", ">50K", "<=50K.", ">50K."]
    named = load_table(table(["<=50K", ">50K"] * 20), classes=labels, **other)
    assert list(named.target.classes) == labels


def test_the_row_of_an_unknown_label_is_the_files_own(load_table, tmp_path):
    """Rows that are left out for want of a target are counted, of both files."""
    (tmp_path / "other.csv").write_text(table(["p", "", "q", "x", "q"]))
    with pytest.raises(DataError, match=r"other\.csv: row 4: label 'x'"):
        load_table(table(["p", "", "q"] * 20), missing_target="drop", test_path=str(tmp_path / "other.csv"))


def test_many_classes_are_not_all_printed(load_table, tmp_path):
    """A message stays a line that can be read: of hundreds of labels the setting alone is named."""
    (tmp_path / "other.csv").write_text(table(["x"]))
    with pytest.raises(DataError, match=r"alike in both, or list all of them in data\.classes$"):
        load_table(table([f"class {i}" for i in range(300)] * 3), test_path=str(tmp_path / "other.csv"))


def test_a_label_of_a_split_column_is_refused_alike(load_table):
    """The parts that a column names are the user's own as well."""
    parts = ["train", "train", "train", "test"]
    with pytest.raises(DataError, match=r"t\.csv: row 4: label 'x' .* 10 rows of the test split"):
        load_table(table(["p", "n", "q", "x"] * 10, parts), split_column="part")


@pytest.mark.slow
def test_a_rare_class_that_chance_put_into_one_part_is_no_mistake(load_table):
    """Nobody has chosen that: it is said, and the run goes on."""
    labels = ["p", "n"] * 12 + ["rare"]
    found = [load_table(table(labels), split="random", split_seed=s).warnings for s in range(20)]
    assert any("the train split has no row of class rare" in w for warnings in found for w in warnings)


@pytest.mark.parametrize("drop", ["error", "drop"])
def test_a_label_that_is_a_word_for_missing_is_named(load_table, drop):
    """A class called None is not left out without its name being said; the advice keeps it."""
    text = table(["None", "Mild", "Severe"] * 20)
    if drop == "error":
        with pytest.raises(DataError) as caught:
            load_table(text)
        said = str(caught.value)
    else:
        (said,) = [w for w in load_table(text, missing_target="drop").warnings if "missing in" in w]
    assert "data.missing treats 'None' as missing: if it is a label, set" in said
    others = ["", "?", "N/A", "NA", "NULL", "NaN", "nan", "null"]
    assert "\"data.missing=['','?',N/A,NA,'NULL','NaN','nan','null']\"" in said
    assert load_table(text, missing=others).target.classes == ("Mild", "None", "Severe")


def test_targets_that_are_empty_name_no_word(load_table):
    """Where nothing stands there is nothing that might be a label."""
    with pytest.raises(DataError) as caught:
        load_table(table(["", "a", "b"] * 20))
    assert "data.missing treats" not in str(caught.value)
