"""The card for the terminal and the summary in markdown, and what messages call things."""

from __future__ import annotations

import re

import numpy as np
import pytest

from slipstream.core.errors import DataError
from slipstream.data.overview import WIDTH, fit


def mixed(rows=100, columns=1):
    """A table with every kind of column, some with missing values, and many columns of numbers."""
    names = [f"a long name of a column of numbers {i}" for i in range(columns)]
    lines = [",".join(["id", "town", "new", "day", *names, "y"])]
    for i in range(rows):
        town, first = "" if i % 20 == 0 else "abc"[i % 3], "" if i % 10 == 0 else str(i % 50)
        numbers = [first, *(str((i * k) % 101) for k in range(2, columns + 1))]
        day = f"2026-01-{i % 28 + 1:02d}"
        lines.append(",".join([str(7 * i + 3), town, ("yes", "no")[i % 2], day, *numbers, f"{i * 1.37:.2f}"]))
    return "\n".join(lines) + "\n"


def test_a_card_tells_all_of_a_table_in_short_plain_lines(load_table):
    """Rows, kinds, missing values, columns left out, the target's spread; no markdown, no warnings."""
    found = load_table(mixed(columns=40))
    lines = found.card.splitlines()
    assert len(lines) <= 12
    assert all(len(line) <= WIDTH < 100 for line in lines)
    assert "**" not in found.card
    assert "|" not in found.card
    assert lines[0] == "data=table (t.csv): regression, target y"
    for words in ("left out: id", "category: town", "boolean: new", "date: day", "train: 70 rows", " more"):
        assert words in found.card
    assert "missing values, numbers filled by median: town: 5, a long name of a column" in found.card
    assert len(found.warnings) == 1
    assert found.warnings[0] not in found.card


def test_the_summary_has_the_warnings_too(load_table):
    """Markdown with everything that the card has, and the warnings."""
    found = load_table(mixed())
    assert f"- warning: {found.warnings[0]}" in found.summary
    assert "Missing values, numbers filled by median: town: 5" in found.summary
    assert "Left out: id" in found.summary


def test_a_targets_values_have_one_notation(load_table):
    """Incomes are written out, the smallest and the largest alike."""
    table = "x,y\n" + "\n".join(f"{i % 7},{9854 + 600 * i}" for i in range(100)) + "\n"
    line = load_table(table).card.splitlines()[-1]
    assert line.startswith("target in train: ")
    assert "e+" not in line
    assert [float(word) > 9000 for word in re.findall(r"[\d.]+", line)] == [True] * 4


def test_classes_and_labels_are_counted_by_part(load, load_table):
    """Few classes are counted in every part, and so are labels; the counts are those of the targets."""
    iris = load("iris")
    counts = np.bincount(iris.train.targets.numpy())
    assert f"setosa: {counts[0]}, versicolor: {counts[1]}, virginica: {counts[2]}" in iris.card
    table = "x,a,b\n" + "\n".join(f"{i % 7},{i % 2},{int(i % 5 == 0)}" for i in range(40)) + "\n"
    found = load_table(table, target=["a", "b"])
    a, b = found.train.targets.sum(dim=0).int().tolist()
    assert f"train: 28 rows; a: {a}, b: {b}" in found.card


def test_a_line_that_is_too_long_says_how_many_more_there_are():
    """Words are left out whole, and counted."""
    line = fit("columns: ", [f"column {i}" for i in range(50)])
    assert len(line) <= WIDTH
    shown = line.count("column ")
    assert line.endswith(f"and {50 - shown} more")
    assert fit("none", []) == "none"


@pytest.mark.parametrize("content", [b"garbage", b""])
def test_garbage_is_no_npz_file(tmp_path, load, content):
    """A broken archive is not mistaken for a pickle."""
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(DataError, match="not an npz file"):
        load("arrays", path=str(tmp_path / "bad.npz"))


def test_a_target_with_a_class_a_row_looks_like_an_identifier(load_table):
    """Words that are all different are no classes; a column of numbers named so is warned about."""
    words = "y,x\n" + "\n".join(f"name{i},{i % 7}" for i in range(40)) + "\n"
    with pytest.raises(DataError, match="'y' looks like an identifier: 40 classes in 40 rows"):
        load_table(words)
    numbers = "id,x\n" + "\n".join(f"{i * 3},{i % 7}" for i in range(40)) + "\n"
    assert any("'id' looks like an identifier" in w for w in load_table(numbers, target="id").warnings)


def test_one_of_a_thing_is_spoken_of_as_one(load_table):
    """Singular and plural in messages, and words with commas in quotes."""
    constant = "x,z,y\n" + "\n".join(f"7,{i % 5},{i}" for i in range(40)) + "\n"
    expected = "1 input column does not vary in the training split: x"
    assert load_table(constant, kinds={"z": "number"}).warnings[-1] == expected
    with pytest.raises(DataError, match="'3' in the only row"):
        load_table("x,z,y\n1,2,3\n")
    commas = "x;y\n" + "\n".join(f"{i},{5 + i % 2};{i}" for i in range(40)) + "\n"
    with pytest.raises(DataError, match=r"\(('\d+,\d', ){3}'\d+,\d' and 36 more\)"):
        load_table(commas)


def test_an_example_is_called_what_it_is(tmp_path, load):
    """Texts and sequences are counted as such, and of sequences the rows of their table."""
    words = tmp_path / "words.txt"
    words.write_text("".join(f"{'ab'[i % 2]}\tone two {i % 3}\n" for i in range(40)))
    found = load("text", path=str(words))
    assert "train: 28 texts;" in found.card
    assert "| part | texts |" in found.summary
    steps = tmp_path / "steps.csv"
    steps.write_text(
        "who,t,x,y\n" + "".join(f"{i},{t},{t * i},{i % 2}\n" for i in range(40) for t in (1, 2, 3))
    )
    roles = {"id": "who", "time": "t", "target": "y"}
    assert "train: 28 sequences of 84 rows;" in load("sequences", path=str(steps), **roles).card


def test_file_names_are_not_cut(tmp_path, load_table):
    """Where a card's first line has no room for all files, it says how many more there are."""
    table = "x,z,y\n" + "\n".join(f"{i % 7},{i % 5},{i / 3}" for i in range(40)) + "\n"
    other = tmp_path / f"{'b' * 60}.csv"
    other.write_text(table)
    first = load_table(table, file=f"{'a' * 30}.csv", test_path=str(other)).card.splitlines()[0]
    assert first == f"data=table ({'a' * 30}.csv and 1 more): regression, target y"


def test_a_class_of_one_example_is_told(load_table):
    """It cannot be trained on and tested: the warning names it and says how many it has."""
    table = "x,z,y\n" + "\n".join(f"{i % 7},{i % 5},{'ab'[i % 2] if i else 'lone'}" for i in range(41)) + "\n"
    assert "class lone has 1 row, so it cannot be in both train and test" in load_table(table).warnings
    assert not any("has 1 row" in one for one in load_table(table.replace("lone", "a")).warnings)
