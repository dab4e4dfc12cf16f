"""Runs on data in memory: the same numbers as from a file, whatever library holds the table."""

import os

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import slipstream
from sampling import slow_after
from slipstream.core.errors import ConfigError, DataError, UserError
from slipstream.data.in_memory import raw_columns
from slipstream.data.tabular.columns import as_text

FEW = ("trainer.max_epochs=3", "model.width=8", "trainer.device=cpu")


def columns(rows=200):
    """Numbers, words, booleans, dates, gaps, and labels that they tell."""
    draw = np.random.default_rng(0)
    age, city, paid = (
        draw.integers(18, 80, rows),
        draw.choice(["Rome", "Oslo"], rows),
        draw.random(rows) > 0.5,
    )
    day = np.datetime64("2021-01-01") + draw.integers(0, 700, rows)
    z = (age - 45) / 15 + (city == "Oslo") + paid + draw.normal(0, 0.8, rows)
    gaps = [None if gone else round(float(value), 3) for gone, value in zip(draw.random(rows) < 0.1, z)]
    return {
        "age": age.tolist(),
        "city": city.tolist(),
        "paid": paid.tolist(),
        "day": day.tolist(),
        "half": gaps,
        "y": np.where(z > 0.3, "yes", "no").tolist(),
    }


@pytest.fixture(scope="module")
def from_file(tmp_path_factory):
    """Scores of a run on the CSV of the table."""
    folder = tmp_path_factory.mktemp("csv")
    frame = pl.DataFrame(columns())
    frame.write_csv(folder / "t.csv")
    words = ["data=table", f"data.path={folder / 't.csv'}", "data.target=y", *FEW]
    slipstream.train(slipstream.compose(words), folder / "run")
    return slipstream.load(folder / "run").predict(frame).scores


TABLES = {
    "polars": pl.DataFrame,
    "pandas": pd.DataFrame,
    "pandas with its own types": lambda c: pd.DataFrame(c).convert_dtypes(),
    "pyarrow": lambda c: pl.DataFrame(c).to_arrow(),
    "lists": dict,
    "arrays": lambda c: {
        k: v if k == "half" else np.array(v, "M8[D]" if k == "day" else None) for k, v in c.items()
    },
    "series": lambda c: {name: pd.Series(values) for name, values in c.items()},
}


@pytest.mark.parametrize("made", slow_after(1, TABLES))
def test_a_table_in_memory_trains_as_its_file_does(made, from_file):
    """Predictions are those of a run on the CSV, to the bit, and no file is written."""
    table, before = TABLES[made](columns()), sorted(os.listdir())
    run = slipstream.fit(table, "y", *FEW)
    assert np.array_equal(run.predict_proba(table), from_file)
    assert np.asarray(run.predict(table)).tolist() == run.classes[from_file.argmax(1)].tolist()
    assert sorted(os.listdir()) == before


@pytest.mark.slow
def test_targets_may_be_given_beside_the_table(from_file):
    """A series, a list and a column's name are one."""
    table = pd.DataFrame(columns())
    for target in (table["y"], table["y"].tolist(), table["y"].to_numpy()):
        run = slipstream.fit(table.drop(columns="y"), target, *FEW)
        assert np.array_equal(run.predict_proba(table), from_file)
        told = run.evaluate(table.drop(columns="y"), target).whole.values
        assert told == slipstream.fit(table, "y", *FEW).evaluate(table).whole.values
    with pytest.raises(DataError, match="'age' is already a column of the table"):
        slipstream.fit(table, table["age"], *FEW)


def test_types_tell_kinds():
    """A categorical of integers and words that spell numbers are categories; others are as typed."""
    codes = [7, 3, 7, 3]
    frame = pd.DataFrame(
        {
            "plan": pd.Categorical(codes),
            "zip": ["01", "02", "01", "02"],
            "since": pd.to_datetime(["2021-01-01"] * 4),
            "on": [True, False, True, None],
            "size": codes,
        }
    )
    told = {"plan": "category", "zip": "category", "since": "date", "on": "boolean"}
    typed = pl.from_pandas(frame).with_columns(pl.col("plan").cast(pl.String).cast(pl.Categorical))
    for table in (frame, pa.Table.from_pandas(frame), typed, {name: frame[name] for name in frame}):
        values, kinds = raw_columns(table, frozenset(), None, ())
        assert kinds == told
        assert sorted(as_text(values["plan"]).values) == ["3", "7"]
        assert values["size"].tolist() == codes


@pytest.mark.slow
def test_arrays_and_tensors_train():
    """Classes keep their type, values their units, several targets their number; images and sequences too."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(90, 4)).astype(np.float32)
    run = slipstream.fit(torch.from_numpy(x), torch.from_numpy((x[:, 0] > 0).astype(np.int64)), *FEW)
    assert run.predict(x).dtype == np.int64
    assert run.predict_proba(x.tolist()).shape == (90, 2)
    numbered = pd.DataFrame({1: range(90), 2: x[:, 0] > 0})
    assert slipstream.fit(numbered, 2, *FEW).predict(numbered).dtype == bool
    assert slipstream.fit(x, np.where(x[:, 0] > 0, "a", "b"), *FEW).classes.tolist() == ["a", "b"]
    numbers = slipstream.fit(x, 100 + 5 * x[:, :2], *FEW)
    assert numbers.predict(x).shape == (90, 2)
    assert numbers.predict(x).mean() > 50
    assert numbers.evaluate(x, 100 + 5 * x[:, :2]).whole.rows == 90
    with pytest.raises(UserError, match="predicts numbers"):
        numbers.predict_proba(x)
    images = draw.integers(0, 255, (40, 1, 8, 8)).astype(np.uint8)
    pictures = slipstream.fit(images, np.arange(40) % 2, "model=convnet", "trainer.max_epochs=1")
    assert pictures.predict(images).shape == (40,)


@pytest.mark.slow
def test_a_run_is_saved_loaded_and_goes_on(tmp_path):
    """The saved folder predicts the same; it resumes with the rows given again, and says so without them."""
    table = pl.DataFrame(columns())
    run = slipstream.fit(table, "y", *FEW)
    folder = run.save(tmp_path / "saved")
    assert np.array_equal(slipstream.load(folder).predict(table).scores, run.predict_proba(table))
    assert [record["epoch"] for record in run.records] == [1, 2, 3]
    assert run.history["val/loss"] == [record["val/loss"] for record in run.records]
    with pytest.raises(UserError, match=r"already contains a run, .* overwritten; choose another folder$"):
        run.save(folder)
    with pytest.raises(UserError) as refused:
        slipstream.fit(table, "y", *FEW, directory=folder)
    assert str(refused.value).endswith(
        f"pass another directory, or continue the run with slipstream.fit(..., directory={str(folder)!r}, "
        "resume=True)"
    )
    again = slipstream.fit(table, "y", directory=folder, resume=True)
    assert again.records == run.records
    assert np.array_equal(again.predict_proba(table), run.predict_proba(table))
    with pytest.raises(DataError, match="came from Python and are not in a file"):
        slipstream.evaluate(folder, "data.missing_target=drop")
    with pytest.raises(DataError, match="the data have changed"):
        slipstream.fit(table.head(150), "y", directory=folder, resume=True)
    words = (folder / "overrides.yaml").read_text()
    assert words.splitlines() == [f"- '{word}'" for word in ("data=memory", "data.target=y", *FEW)]
    with pytest.raises(ConfigError, match="remove the overrides"):
        slipstream.fit(table, "y", *FEW, directory=folder, resume=True)


@pytest.mark.slow
def test_a_run_in_a_folder_and_its_groups(tmp_path):
    """With a directory the run is an ordinary one; evaluate measures groups, and the repr tells the end."""
    table = pl.DataFrame(columns())
    run = slipstream.fit(table, "y", *FEW, directory=tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").is_file()
    assert set(run.evaluate(table, by="city").groups) == {"Rome", "Oslo"}
    assert "finished: all 3 epochs done" in repr(run)
    assert "classes no, yes" in repr(run)


@pytest.mark.parametrize(
    ("data", "target", "words", "said"),
    [
        ({"a": [1, 2, 3]}, "b", (), "data.target names 'b', which is not a column"),
        ({"a": [1, 2, 3], "b": [1]}, "b", (), "column 'b' has 1 row and column 'a' has 3"),
        ({"a": [], "b": []}, "b", (), "no rows"),
        ({"a": [[1], [2], [3]], "b": [0, 1, 0]}, "b", (), "holds '.1.' \\(row 1, list\\), expected numbers"),
        (np.ones((5, 2)), "b", (), "the inputs are an array without column names"),
        (np.ones((5, 2)), np.arange(5), ("data.kinds={x0: category}",), "data.kinds: the rows are an array"),
        (np.ones((5, 2)), np.arange(4), (), "targets: found 4 rows, expected 5 as in the inputs"),
        (
            np.array([["a", 1], ["b", 2]] * 9, object),
            np.arange(18) % 2,
            (),
            "numbers .*pass words as",
        ),
        (
            "new.csv",
            "b",
            (),
            'found .new.csv., expected data in memory; .*"data.path=new.csv"',
        ),
        ({"a": [1, 2, 3]}, "seed=1", (), "target: found the setting 'seed=1', expected the name of a column"),
        (np.array([[1.0], [np.nan], [2.0]]), np.arange(3), (), "expected a finite number"),
        ([[1, 2], [3]], [0, 1], (), "lists of different lengths"),
        (pl.LazyFrame({"a": [1, 2]}), "a", (), "found a lazy frame"),
        (pd.DataFrame([[1, 2]] * 9, columns=["a", "a"]), "a", (), "two columns with the same name"),
        (pl.DataFrame({"a": [[1]] * 9, "b": [0] * 9}), "b", (), "^the table: column 'a' holds List"),
        (pd.DataFrame({"a": pd.to_timedelta([1] * 9, "s"), "b": 0}), "b", (), "column 'a' holds Duration"),
        (7, [0, 1], (), "inputs: found int, expected an array"),
        ({"a": [1, 2, 3], "b": [0, 1, 0]}, "b", ("data=iris",), "are passed as arguments"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(data, target, words, said):
    """Each message says what was found, and what was expected."""
    with pytest.raises(UserError, match=said):
        slipstream.fit(data, target, *FEW, *words)
