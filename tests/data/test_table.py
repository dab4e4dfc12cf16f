"""Tables: what is inferred, what can be overridden, roles of columns, formats, random bytes."""

import gzip
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from sampling import exhaustive_after
from slipstream.core.errors import ConfigError, DataError, UserError
from slipstream.data import problems as data_problems

FRAME = pl.DataFrame(
    {
        "size": [i * 0.25 for i in range(60)],
        "rooms": [i % 5 for i in range(60)],
        "town": ["Ulm" if i % 3 else "Bad Urach" for i in range(60)],
        "new": [i % 7 == 0 for i in range(60)],
        "day": pl.date_range(pl.date(2025, 1, 1), pl.date(2025, 3, 1), eager=True),
        "who": [i // 4 for i in range(60)],
        "part": ["train", "val", "test"] * 20,
        "weight": [1.0 + i % 2 for i in range(60)],
        "y": [i * i / 9 for i in range(60)],
    }
)
PLAIN = ["size", "rooms", "town", "new", "day"]


def csv(frame=FRAME):
    return frame.write_csv()


@pytest.mark.parametrize("file", ["t.csv", "t.tsv", "t.csv.gz", "t.parquet"])
def test_every_format_gives_the_same_tensors(load_table, tmp_path, file):
    """CSV, TSV, gzip and Parquet of one table give the same bytes."""
    if file.endswith("parquet"):
        FRAME.write_parquet(tmp_path / "source")
        content = (tmp_path / "source").read_bytes()
    else:
        content = FRAME.write_csv(separator="\t" if "tsv" in file else ",").encode()
        content = gzip.compress(content) if file.endswith("gz") else content
    first = load_table(csv(), file="first.csv", inputs=PLAIN)
    found = load_table(content, file=file, inputs=PLAIN)
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(found, part).inputs, getattr(first, part).inputs)
        assert torch.equal(getattr(found, part).targets, getattr(first, part).targets)
    assert found.preprocessing == first.preprocessing


def test_kinds_are_inferred_and_printed(load_table):
    """Numbers, words, booleans and dates are told apart, and the summary lists them."""
    found = load_table(csv(), inputs=PLAIN)
    for line in ("number (2): size, rooms", "category (1): town", "boolean (1): new", "date (1): day"):
        assert f"- {line}" in found.summary
    assert "| train | 42 |" in found.summary


def test_kinds_can_be_overridden(load_table):
    """kinds makes a category of a number and leaves a column out."""
    found = load_table(csv(), inputs=PLAIN, kinds={"rooms": "category", "day": "ignore"})
    assert "rooms=0" in found.input_names
    assert not any("day" in name for name in found.input_names)


@pytest.mark.slow
def test_an_all_numeric_column_that_starts_empty_is_a_column_of_numbers(load_table):
    """The kind does not depend on where in the file the first value stands."""
    rows = [f"{'' if i < 300_000 else i % 9},{i % 5},{'ab'[i % 2]}" for i in range(400_000)]
    found = load_table("\n".join(["late,x,y", *rows]) + "\n")
    assert found.input_names == ("late", "late is missing", "x")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("customer_id", [f"{i * 7919 % 100}" for i in range(60)]),
        ("text", [f"words {i}" for i in range(60)]),
        ("", [str(i) for i in range(60)]),
    ],
)
def test_identifier_like_columns_are_left_out_and_told(load_table, name, values):
    """A column that names its rows is no input unless kinds takes it in; a warning says so."""
    table = f"{name},x,y\n" + "\n".join(f"{v},{i % 7},{i % 2}" for i, v in enumerate(values)) + "\n"
    found = load_table(table)
    assert found.input_names == ("x",)
    name = name or "column 1"
    assert f"column {name!r}" in found.warnings[0]
    kind = "category" if name == "text" else "number"
    setting = f"data.kinds.{name}={kind}" if " " not in name else f"\"data.kinds={{'{name}':{kind}}}\""
    assert setting in found.warnings[0]
    assert len(load_table(table, kinds={name: kind}).input_names) > 1


@pytest.mark.parametrize("values", [[f"R{i}" for i in range(60)], [str(1000 + 7 * i) for i in range(60)]])
def test_an_identifier_with_gaps_is_no_category(load_table, values):
    """A few rows without identifier do not turn the others' names into categories or a number."""
    rows = [f"{'' if i in (5, 31) else v},{i % 7},{i % 2}" for i, v in enumerate(values)]
    found = load_table("\n".join(["row_id,x,y", *rows]) + "\n")
    assert found.input_names == ("x",)
    assert "column 'row_id' looks like an identifier" in found.warnings[0]


def test_a_column_that_counts_its_rows_is_pointed_out(load_table):
    """A column that counts up stays an input, since it may be a time, and a warning names it."""
    found = load_table("step,y\n" + "\n".join(f"{i + 5},{i / 2}" for i in range(60)) + "\n")
    assert found.input_names == ("step",)
    assert "column 'step' counts the rows" in found.warnings[0]


def test_listed_inputs_are_taken(load_table):
    """A column that the user lists is an input, whatever it looks like."""
    table = "id,x,y\n" + "\n".join(f"{i},{i % 7},{i % 2}" for i in range(60)) + "\n"
    found = load_table(table, inputs=["id"])
    assert found.input_names == ("id",)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("targets", "task", "classes"),
    [
        (["yes", "no"], "binary", ("no", "yes")),
        (["true", "false"], "binary", ("false", "true")),
        (["0", "1"], "binary", ("0", "1")),
        (["b", "a", "c"], "multiclass", ("a", "b", "c")),
        (["10", "9", "1"], "multiclass", ("1", "9", "10")),
        (["0.5", "1", "2"], "regression", ()),
        ([str(i) for i in range(30)], "regression", ()),
    ],
)
def test_the_task_is_inferred(load_table, targets, task, classes):
    """Words and few whole numbers are classes in their natural order, other numbers are regression."""
    table = "x,y\n" + "\n".join(f"{i % 7},{targets[i % len(targets)]}" for i in range(90)) + "\n"
    found = load_table(table)
    assert found.target.task == task
    assert found.target.classes == classes
    assert found.train.targets.dtype == (torch.float32 if task == "regression" else torch.int64)


def test_the_task_can_be_overridden(load_table):
    """Class numbers become regression by task=regression; multiclass is kept for two classes."""
    table = "x,y\n" + "\n".join(f"{i % 7},{i % 2}" for i in range(60)) + "\n"
    assert load_table(table, task="regression").train.targets.shape == (42, 1)
    assert load_table(table, task="multiclass").target.task == "multiclass"
    assert load_table(table, classes=["1", "0"]).target.classes == ("1", "0")
    with pytest.raises(DataError, match=r"data\.task=binary has 2"):
        load_table(table.replace("6,1", "6,2"), task="binary")


def test_several_targets(load_table):
    """Several yes/no columns are multilabel, several numbers a regression with as many outputs."""
    rows = [f"{i % 7},{i % 2},{'yes' if i % 3 else 'no'},{i / 7}" for i in range(60)]
    table = "\n".join(["x,a,b,c", *rows]) + "\n"
    labels = load_table(table, target=["a", "b"], inputs=["x"], test=0.0, validation=0.0)
    assert labels.target.task == "multilabel"
    assert labels.train.targets[:4].tolist() == [[0, 0], [1, 1], [0, 1], [1, 0]]
    several = load_table(table, target=["a", "c"], inputs=["x"])
    assert several.target.task == "regression"
    assert several.train.targets.shape == (42, 2)
    assert len(several.target.scale) == 2


def test_columns_with_a_role_are_no_inputs(load_table):
    """Group, weight and split columns serve their purpose and are not among the inputs."""
    found = load_table(
        csv(), inputs=None, split_column="part", weight_column="weight", kinds={"who": "ignore"}
    )
    assert [len(part) for part in (found.train, found.validation, found.test)] == [20, 20, 20]
    # Odd rows weigh 2, and training rows are 0, 3, 6, ...
    assert found.train.weights.tolist() == [1.0, 2.0] * 10
    assert not {"part", "weight", "y"} & set(found.input_names)


def test_groups_and_time(load_table):
    """A group column keeps its rows together; a time column puts the latest rows into test."""
    grouped = load_table(csv(), inputs=["size"], group_column="who", scaling="none")
    parts = [
        set((part.inputs[:, 0] // 1).tolist()) for part in (grouped.train, grouped.validation, grouped.test)
    ]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    timed = load_table(csv(), inputs=["size"], time_column="day", scaling="none")
    assert timed.train.inputs.max() < timed.validation.inputs.min()
    assert timed.validation.inputs.max() < timed.test.inputs.min()


def test_files_for_the_parts(load_table, tmp_path):
    """Rows of the validation and test files are those parts, in their order."""
    (tmp_path / "v.csv").write_text(csv(FRAME[:9]))
    FRAME[9:14].write_parquet(tmp_path / "e.parquet")
    found = load_table(
        csv(FRAME[14:]),
        inputs=PLAIN,
        validation_path=str(tmp_path / "v.csv"),
        test_path=str(tmp_path / "e.parquet"),
        scaling="none",
    )
    assert [len(part) for part in (found.train, found.validation, found.test)] == [46, 9, 5]
    assert found.validation.inputs[:, 0].tolist() == FRAME["size"][:9].to_list()
    assert found.test.inputs[:, 0].tolist() == FRAME["size"][9:14].to_list()
    assert len(found.sources) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "z"}, ["data.target names 'z'", "one of:"]),
        ({"target": "ney"}, ["did you mean new?"]),
        ({"inputs": ["sice"]}, ["data.inputs names 'sice'", "did you mean size?"]),
        ({"kinds": {"sise": "number"}}, ["data.kinds names 'sise'", "did you mean size?"]),
        ({"kinds": {"sise": "ignore"}}, ["data.kinds names 'sise'"]),
        ({"weight_column": "wait"}, ["data.weight_column names 'wait'"]),
        ({"split_column": "town"}, ["data.split_column=town: row 1: found 'Bad Urach', expected train"]),
        ({"weight_column": "town"}, ["data.weight_column=town", "row 1", "expected a number"]),
        ({"time_column": "town"}, ["data.time_column=town", "expected a date"]),
        ({"kinds": {"size": "date"}}, ["data.kinds.size=date", "contains numbers"]),
        ({"kinds": {"rooms": "boolean"}}, ["'rooms', row 3: found 2, expected 0 or 1"]),
        ({"kinds": dict.fromkeys(FRAME.columns[:-1], "ignore")}, ["no input columns remain"]),
    ],
)
def test_wrong_columns_are_named(load_table, changes, words):
    """A setting that names no column, or one of the wrong kind, is an error with the nearest name."""
    with pytest.raises(DataError) as caught:
        load_table(csv(), **changes)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_negative_and_missing_weights_are_named(load_table):
    """A weight below 0 or a missing one is an error with its row."""
    table = "x,w,y\n" + "\n".join(f"{i},1,{i / 2}" for i in range(30)) + "\n"
    with pytest.raises(DataError, match=r"weight_column=w: row 4: found -1"):
        load_table(table.replace("3,1,", "3,-1,", 1), weight_column="w", inputs=["x"])
    with pytest.raises(DataError, match=r"weight_column=w: row 4: the value is missing"):
        load_table(table.replace("3,1,", "3,,", 1), weight_column="w", inputs=["x"])


def test_shares_against_a_split_column_are_refused(load_table):
    """A share of a part that the split column gives would be ignored, and is an error instead."""
    with pytest.raises(ConfigError, match=r"data\.test=0\.2: the data already define the test split"):
        load_table(csv(), split_column="part", test=0.2, inputs=["size"])


@pytest.mark.slow
@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.text(alphabet='ab,;\n\r"01.e-NA ', max_size=300).map(str.encode),
        st.lists(
            st.tuples(st.sampled_from(["1", "2.5", "", "x", '"q,\n"', "1e400"]), st.sampled_from("abc")),
            max_size=60,
        ).map(lambda rows: "\n".join(["x,y", *(f"{a},{b}" for a, b in rows)]).encode()),
    )
)
def test_random_bytes_give_data_or_a_data_error(load_table, content):
    """Whatever the file holds, loading ends with finite tensors or with a user's error."""
    with suppress(UserError):
        found = load_table(content)
        assert all(torch.isfinite(part.inputs).all() for part in (found.train, found.validation, found.test))


@pytest.mark.slow
@examples(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 4000), flip=st.integers(0, 3999))
def test_damaged_parquet_gives_data_or_a_data_error(load_table, tmp_path, cut, flip):
    """A Parquet file that is cut and has a byte changed loads or is refused, and never anything else."""
    if not (tmp_path / "source").exists():
        FRAME.write_parquet(tmp_path / "source")
    content = bytearray((tmp_path / "source").read_bytes())
    content[flip % len(content)] ^= 0xFF
    with suppress(UserError):
        load_table(bytes(content[: cut or None]), file="t.parquet")


PROGRAM = """
import resource, sys, time
import torch, polars
from omegaconf import OmegaConf
from slipstream import data
from slipstream.core.random import make_key, permutation
torch.set_num_threads(1)
permutation(make_key(0, 1), 1000)
polars.read_csv(b"a,b\\n1,x\\n")
path, configs = sys.argv[1:]
base = OmegaConf.load(f"{configs}/_base.yaml")
settings = OmegaConf.to_container(OmegaConf.merge(base, OmegaConf.load(f"{configs}/table.yaml")))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.process_time()
found = data.load(settings | {"path": path, "target": "c49"})
assert found.train.inputs.shape == (140_000, 49)
print(peak() - before, time.process_time() - start)
"""


@pytest.mark.slow
@pytest.mark.parametrize("file", exhaustive_after(1, ["t.csv", "t.csv.gz", "t.parquet"]))
def test_a_large_table_loads_in_seconds_within_three_times_its_size(tmp_path, file):
    """200,000 rows x 50 columns load in seconds, and the peak stays within 3 times the float32 matrix."""
    values = np.random.default_rng(0).normal(size=(200_000, 50)).round(6)
    frame = pl.DataFrame(values, schema=[f"c{i}" for i in range(50)])
    path = tmp_path / file
    if file.endswith("parquet"):
        frame.write_parquet(path)
    else:
        content = frame.write_csv().encode()
        path.write_bytes(gzip.compress(content, 1) if file.endswith("gz") else content)
    configs = Path(__file__).parents[2] / "configs" / "data"
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(path),
        str(configs),
    ]
    megabytes, seconds = map(float, subprocess.check_output(command, text=True).split())
    assert megabytes < 3 * 200_000 * 50 * 4 / 2**20
    assert seconds < 20  # 1 to 4 s on a free core


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("packed", [False, True])
def test_line_ends_of_every_system_are_read(load_table, end, packed):
    """Carriage returns alone end lines as well, in quotes and in a gzip file too."""
    rows = ["x,c,y", *(f'{i},"a,{i % 3}",{i % 2}' for i in range(60))]
    content = end.join(rows).encode()
    found = load_table(gzip.compress(content) if packed else content, file="t.csv.gz" if packed else "t.csv")
    assert found.input_names == ("x", "c=a,0", "c=a,1", "c=a,2")
    assert sum(map(len, (found.train, found.validation, found.test))) == 60


def test_a_file_without_header_is_read(load_table):
    """data.header=false takes the first row as a row, and names columns by their places."""
    rows = "".join(f"{i * 0.5},{'ab'[i % 2]}\n" for i in range(40))
    found = load_table(rows, target="column 2", header=False, test=0, validation=0, scaling="none")
    assert found.train.inputs[:, 0].tolist() == [i * 0.5 for i in range(40)]
    assert found.warnings == ()
    with pytest.raises(DataError, match=r"t\.csv: row 41 has 1 field, but"):
        load_table(rows + "5\n", target="column 2", header=False)


@pytest.mark.parametrize(
    ("header", "warns"),
    [
        ("5.1,3.5,1.4,a", True),
        ("1.0,b,0,a", True),
        ("2019,2020,2021,y", False),
        ("0,1,2,y", False),
        ("x,z,b,y", False),
    ],
)
def test_a_first_row_that_looks_like_data_is_told(load_table, header, warns):
    """Numbers over numbers and words that the column has are a row, not names; years and places are names."""
    words = header[4] == "b"
    rows = "".join(f"{i * 0.5},{'ab'[i % 2] if words else i % 7},{i % 5},{'ab'[i % 2]}\n" for i in range(40))
    found = load_table(f"{header}\n{rows}", target=header[-1])
    said = [warning for warning in found.warnings if "looks like data" in warning]
    assert len(said) == warns
    assert not warns or "data.header=false" in said[0]
    with pytest.raises(DataError, match="species") as caught:
        load_table(f"{header}\n{rows}", target="species")
    assert ("data.header=false" in str(caught.value)) == warns


def test_a_header_is_for_files_that_may_have_none(settings, tmp_path):
    """data.header=false of Parquet, which has names, is refused."""
    FRAME.write_parquet(tmp_path / "t.parquet")
    (problem,) = data_problems(settings("table", path=str(tmp_path / "t.parquet"), target="y", header=False))
    assert problem.startswith("data.header: ")


@pytest.mark.slow
def test_the_work_is_linear_in_the_columns(load_table):
    """Four times the columns take about four times the calls of functions, Python's and C's."""
    calls = {}
    for count in (300, 300, 1200):  # the first time imports
        numbers = np.random.default_rng(0).normal(size=(30, count)).round(3)
        rows = [",".join([*map(str, row), "ab"[i % 2]]) for i, row in enumerate(numbers)]
        content = "\n".join([",".join([*(f"g{i}" for i in range(count)), "y"]), *rows]) + "\n"
        events = []
        sys.setprofile(lambda frame, event, argument: events.append(event))
        try:
            load_table(content, validation=0)
        finally:
            sys.setprofile(None)
        calls[count] = events.count("call") + events.count("c_call")
    assert 0 < calls[1200] < 5 * calls[300]


@pytest.mark.slow
def test_messages_stay_short_whatever_the_values_are(load_table):
    """A description of kilobytes, with line ends in it, is quoted in part, on one line."""
    long = "much to tell\n" * 800
    many = [f'"{i} {long}"' if i % 2 else str(i) for i in range(60)]
    for values, changes in (
        ([*("5" for _ in range(59)), f'"{long}"'], {}),
        (many, {"target": "a", "classes": ["5", "7"]}),
        ([f'"{long}"'] * 60, {"split_column": "a"}),
    ):
        rows = [f"{value},{i % 7},{'pn'[i % 2]}" for i, value in enumerate(values)]
        with pytest.raises(DataError) as caught:
            load_table("\n".join(["a,x,y", *rows]) + "\n", **changes)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
    wide = ",".join(f"c{i}" for i in range(2000))
    with pytest.raises(DataError, match="and 1940 more") as caught:
        load_table(f"{wide}\n" + ",".join("1" * 2000) + "\n", target="species")
    assert len(str(caught.value)) < 1000
