"""Labels, categories, groups and ids are what they are in the file: no number on the way, one normal form."""

from __future__ import annotations

import unicodedata
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import slipstream
from slipstream.config import validate
from slipstream.core.errors import ConfigError, DataError
from slipstream.data.identity import Known, by_value, encode_words, labels, merged, numbered
from slipstream.runs.session import run

BIG = 2**53 + 1  # the first whole number that no float64 holds
FAST = ("trainer.progress=none", "trainer.compile=false", "trainer.device=cpu", "logger=none")


def write(frame, path):
    """A table as a file of the kind that its name says."""
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.fixture
def train(tmp_path):
    """train(path or frame, "data.target=y", ...): the model of a short run on a table."""

    def make(data, *changes, epochs=2):
        path = write(data, tmp_path / "t.csv") if isinstance(data, pl.DataFrame) else data
        chosen = {"data": "data=table", "target": "data.target=y", "epochs": f"trainer.max_epochs={epochs}"}
        own = {text.partition("=")[0] for text in changes}
        base = [text for text in chosen.values() if text.partition("=")[0] not in own]
        raw = slipstream.compose(*base, f"data.path={path}", *FAST, *changes)
        run(validate(raw), tmp_path / "run", [])
        return slipstream.load(tmp_path / "run")

    return make


def codes(count=100):
    """A column of codes that are four words and two numbers."""
    return pl.DataFrame(
        {"v": [0.1 * i for i in range(count)], "y": [("01", "1", "001", "02")[i % 4] for i in range(count)]}
    )


@pytest.mark.parametrize("file", ["t.csv", "t.tsv", "t.parquet"])
def test_labels_with_zeros_in_front_are_words(load, tmp_path, file):
    """01 and 1 are two classes, and come back as they were spelled."""
    found = load("table", path=str(write(codes(), tmp_path / file)), target="y")
    assert found.target.classes == ("001", "01", "1", "02")
    assert found.target.label_kind == "text"
    assert sum(
        np.bincount(getattr(found, p).targets, minlength=4) for p in ("train", "validation", "test")
    ) == (pytest.approx([25] * 4))


def test_labels_of_lines_are_words(load, tmp_path):
    """007, 07 and 7 are three classes of texts."""
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{('007', '7', '07', '8')[i % 4]}\tfoo bar {i}\n" for i in range(80)))
    assert load("text", path=str(path)).target.classes == ("007", "07", "7", "8")


def test_ids_with_zeros_in_front_are_words(load, tmp_path):
    """1 and 01 are two sequences."""
    lines = ["pid,t,v,y"]
    for i in range(20):
        lines += [f"{'0' * (i % 2)}{i // 2 + 1},{t},{i * 0.5},{'ab'[i % 2]}" for t in range(3)]
    path = tmp_path / "visits.csv"
    path.write_text("\n".join(lines) + "\n")
    found = load("sequences", path=str(path), id="pid", time="t", target="y")
    assert sum(len(getattr(found, part)) for part in ("train", "validation", "test")) == 20
    assert found.form.shape[0] == 3
    assert not found.form.masked


@pytest.mark.parametrize("file", ["t.csv", "t.parquet"])
@pytest.mark.parametrize("dtype", [pl.Int64, pl.UInt64, pl.Decimal(20, 0)])
def test_whole_numbers_that_no_float_holds_are_themselves(load, tmp_path, file, dtype):
    """Labels, groups and categories above 2^53 that differ by one are different."""
    wide = [BIG + i % 4 for i in range(80)]
    frame = pl.DataFrame({"x": [float(i) for i in range(80)], "c": wide, "y": wide, "g": wide})
    frame = frame.with_columns(pl.col("c", "y", "g").cast(dtype))
    path = str(write(frame, tmp_path / file))
    found = load("table", path=path, target="y", group_column="g", kinds={"c": "category"}, inputs=["x", "c"])
    names = tuple(str(BIG + i) for i in range(4))
    assert found.target.classes == names
    assert set(found.input_names[1:]) <= {f"c={name}" for name in names}
    assert len(found.input_names) == 1 + len(set(found.train.targets.tolist()))
    # Whole groups: a part has all rows of a label or none.
    counts = np.stack([np.bincount(part.targets, minlength=4) for part in (found.train, found.test)])
    assert set(counts.flat) == {0, 20}
    back = labels(found.target.classes, found.target.label_kind)
    assert back.tolist() == [BIG + i for i in range(4)]


def test_large_labels_of_arrays_are_themselves(load, tmp_path):
    """Whole numbers in an array of labels do not go through float64."""
    y = np.array([BIG + i % 3 for i in range(60)])
    np.savez(tmp_path / "a.npz", inputs=np.arange(120.0).reshape(60, 2), targets=y)
    found = load("arrays", path=str(tmp_path / "a.npz"))
    assert found.target.classes == tuple(str(BIG + i) for i in range(3))
    assert labels(found.target.classes, found.target.label_kind).tolist() == sorted(set(y.tolist()))


def test_values_are_one_in_one_normal_form(load_table):
    """A label and a category are the same composed and decomposed."""
    rows = ["c,b,y"]
    for i in range(60):
        form = "NFD" if i % 2 else "NFC"
        rows.append(unicodedata.normalize(form, f"café,{i},{('Zürich', 'Bern')[i // 2 % 2]}"))
    found = load_table("\n".join(rows) + "\n")
    assert found.target.classes == ("Bern", unicodedata.normalize("NFC", "Zürich"))
    assert found.input_names == ("c=café", "b")


@pytest.mark.parametrize("file", ["t.csv", "t.parquet"])
def test_two_names_that_are_one_in_normal_form_are_refused(load, tmp_path, file):
    """A column is never dropped for another that looks the same."""
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    frame = pl.DataFrame({names[0]: range(40), names[1]: range(40), "y": ["p", "n"] * 20})
    with pytest.raises(DataError, match="café"):
        load("table", path=str(write(frame, tmp_path / file)), target="y")


@pytest.mark.slow
def test_predict_refuses_a_used_name_that_stands_twice(train):
    """Which of two columns is meant is not guessed; of a column that is not used it does not matter."""
    model = train(pl.DataFrame({"café": [float(i) for i in range(40)], "b": range(40), "y": ["p", "n"] * 20}))
    twice = {unicodedata.normalize(form, "café"): [1.0, 2.0] for form in ("NFC", "NFD")}
    with pytest.raises(DataError, match="two columns 'café'"):
        model.predict(twice | {"b": [1, 2]})
    unused = {unicodedata.normalize(form, "é"): [1.0, 2.0] for form in ("NFC", "NFD")}
    assert len(model.predict({"café": [1.0, 2.0], "b": [1, 2]} | unused).labels) == 2


@pytest.mark.slow
def test_a_category_is_the_same_as_a_word_and_as_a_number(train, tmp_path):
    """1.0 in a file, 1 and 1.0 in a frame are one category."""
    lines = ["code,x,y"] + [
        f"{'' if i % 9 == 0 else f'{i % 3 + 1}.0'},{i % 7},{'pqr'[i % 3]}" for i in range(90)
    ]
    path = tmp_path / "codes.csv"
    path.write_text("\n".join(lines) + "\n")
    model = train(path, "data.kinds.code=category", epochs=1)
    frame = pl.read_csv(path)
    assert frame["code"].dtype == pl.Float64
    words = pl.read_csv(path, schema_overrides={"code": pl.String})
    whole = frame.with_columns(pl.col("code").cast(pl.Int64))
    expected = model.inputs(words)
    for same in (frame, whole, whole.to_dict(as_series=False), whole.to_dict()):
        assert model.inputs(same).equal(expected)
    assert model.inputs(words)[:, :4].sum(1).eq(1).all()


@pytest.mark.slow
def test_words_that_spell_one_number_stay_apart(train):
    """Where training has 3.1 and 3.10, a number is neither by its value alone."""
    frame = pl.DataFrame({"c": [("3.1", "3.10", "3.2")[i % 3] for i in range(60)], "y": ["p", "n"] * 30})
    model = train(frame.with_columns(x=pl.int_range(60)), "data.kinds.c=category")
    inputs = model.inputs({"c": ["3.1", "3.10", "3.2"], "x": [0, 0, 0]}).numpy()[:, :3]
    np.testing.assert_array_equal(inputs, np.eye(3))


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([0, 1], "number", [0, 1]),
        ([0.5, 1.5], "number", [0.5, 1.5]),
        ([Decimal("0.10"), Decimal("0.20")], "number", [0.1, 0.2]),
        ([False, True], "boolean", [False, True]),
        (["0", "1"], "text", ["0", "1"]),
        (["a", "b"], "text", ["a", "b"]),
    ],
    ids=["whole", "float", "decimal", "boolean", "numeric words", "words"],
)
def test_labels_come_back_as_they_came(train, tmp_path, values, kind, expected):
    """Numbers as numbers, booleans as booleans, words as words."""
    frame = pl.DataFrame({"x": [float(i) for i in range(40)], "y": values * 20})
    model = train(write(frame, tmp_path / "y.parquet"), "data.task=binary")
    assert model.target.label_kind == kind
    found = model.predict(frame)
    assert list(found.classes) == expected
    assert {type(v) for v in found.labels.tolist()} == {type(v) for v in expected}
    assert set(found.labels.tolist()) <= set(expected)


def with_gaps(count=80):
    """Whole numbers, one of which is missing among the labels, one in the row without label among the groups,
    and one among the categories."""
    frame = pl.DataFrame(
        {
            "x": [float(i * 7 % 11) for i in range(count)],
            "c": [None if i == 7 else i % 4 for i in range(count)],
            "g": [None if i == 5 else i // 4 for i in range(count)],
            "y": [None if i == 5 else i % 2 for i in range(count)],
        }
    )
    return frame, frame.with_columns(pl.col("c", "g", "y").cast(pl.Float64))


GAPS = ("data.missing_target=drop", "data.kinds.c=category", "data.group_column=g")


@pytest.mark.parametrize("floats", [False, True], ids=["whole", "floats"])
@pytest.mark.parametrize("file", ["t.csv", "t.tsv", "t.parquet"])
def test_whole_numbers_with_a_missing_one_are_whole(train, tmp_path, file, floats):
    """Labels, groups and categories of a column with a missing value are those of one without, in a file that
    has 3 and in one that has 3.0 or NaN."""
    whole, parted = with_gaps()
    parted = parted.with_columns(pl.col("c", "y").fill_null(float("nan")))
    model = train(write(parted if floats else whole, tmp_path / file), *GAPS, epochs=1)
    assert model.preprocessing.names == ("x", "c=0", "c=1", "c=2", "c=3", "c is missing")
    expected = np.array([[c == i for i in (0, 1, 2, 3, None)] for c in whole["c"]], np.float32)
    mixed = {"x": whole["x"].to_list(), "c": [3.0 if c == 3 else c for c in whole["c"]]}
    for frame in (whole, parted, whole.to_dict(as_series=False), mixed):
        np.testing.assert_array_equal(model.inputs(frame)[:, 1:], expected)
    found = model.predict(whole)
    assert found.labels.dtype == np.int64
    assert found.classes == (0, 1)


def test_groups_with_a_missing_one_are_whole(load, tmp_path):
    """Groups that are written 3 and 3.0 cut the rows alike."""
    whole, parted = with_gaps()
    tests = []
    for i, (frame, file) in enumerate(
        [(whole, "csv"), (parted, "csv"), (whole, "parquet"), (parted, "parquet")]
    ):
        path = str(write(frame, tmp_path / f"{i}.{file}"))
        changes = {"missing_target": "drop", "kinds": {"c": "category"}, "group_column": "g"}
        tests.append(load("table", path=path, target="y", **changes).test.inputs)
    for other in tests[1:]:
        np.testing.assert_array_equal(other, tests[0])


@pytest.mark.parametrize("spelled", ["{}", "{}.0"])
def test_labels_of_sequences_and_of_texts_are_numbers(load, tmp_path, spelled):
    """Labels of the first step of a sequence, and of the texts that have one, stay numbers."""
    lines, words = ["id,t,v,y"], ["text,y"]
    for i in range(40):
        lines += [f"{spelled.format(i)},{t},{i * 0.5},{spelled.format(i % 2)}" for t in range(3)]
        words.append(f"some words {i},{'' if i == 3 else spelled.format(i % 2)}")
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "t.csv").write_text("\n".join(words) + "\n")
    for found in (
        load("sequences", path=str(tmp_path / "s.csv"), id="id", time="t", target="y"),
        load("text", path=str(tmp_path / "t.csv"), text="text", target="y", missing_target="drop"),
    ):
        assert labels(found.target.classes, found.target.label_kind).tolist() == [0, 1]


class Column:
    """A column as pandas has it: Int64 and object columns become arrays with NA or floats."""

    def __init__(self, values, dtype):
        self.values, self.dtype = values, dtype

    def isna(self):
        """It is what tells pandas' columns from others."""

    def tolist(self):
        return self.values

    def __array__(self, dtype=None, copy=None):
        if self.dtype == object:
            return np.array(self.values, object)
        return np.array([np.nan if isinstance(v, NA) else v for v in self.values], np.float64)


class NA:
    """A missing value that is neither equal to itself nor different, and is no truth value."""

    def __ne__(self, other):
        return self

    __hash__ = None

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([3, NA(), BIG], "Int64"),
        ([3.0, np.nan], np.dtype(float)),
        ([3, None, BIG, 3.0, np.nan, NA()], np.dtype(object)),
        (["3", None, str(BIG), "3.0"], np.dtype(object)),
    ],
    ids=["Int64", "float64", "object", "words"],
)
def test_columns_of_pandas_are_exact(train, values, dtype):
    """A category that pandas holds as 3, 3.0 or "3" is that of training, and no float comes between."""
    frame = pl.DataFrame(
        {"x": range(60), "c": [(3, BIG, None)[i % 3] for i in range(60)], "y": ["p", "n"] * 30}
    )
    model = train(frame, "data.kinds.c=category", epochs=1)
    assert model.preprocessing.names == ("x", "c=3", f"c={BIG}", "c is missing")
    found = model.inputs({"x": [0] * len(values), "c": Column(values, dtype)})[:, 1:]
    told = [3 if v in (3, "3", "3.0") else BIG if v in (BIG, str(BIG)) else None for v in map(known, values)]
    np.testing.assert_array_equal(found, [[t == c for c in (3, BIG, None)] for t in told])


def known(value):
    """The value, None for one that is missing."""
    return None if isinstance(value, NA) or value is None or value != value else value


@pytest.mark.slow
def test_predict_takes_pandas_frames(train):
    """Numbers, dates, categories and labels of a frame of pandas are those of the same table in polars."""
    pandas = pytest.importorskip("pandas")
    frame = pl.DataFrame(
        {
            "x": [None if i == 2 else float(i) for i in range(60)],
            "c": [None if i == 7 else i % 3 for i in range(60)],
            "d": [f"2026-01-{i % 28 + 1:02}" for i in range(60)],
            "y": ["p", "n"] * 30,
        }
    )
    model = train(frame, "data.kinds.c=category", epochs=1)
    same = pandas.DataFrame(frame.to_dict(as_series=False))
    expected = model.inputs(frame)
    for changes in ({}, {"c": "Int64"}, {"c": object}, {"c": "category"}, {"d": "datetime64[ns]"}):
        assert model.inputs(same.astype(changes)).equal(expected)


@pytest.mark.slow
def test_dates_of_numpy_are_dates(train):
    """Dates that an array holds in days, microseconds or nanoseconds are those of the file."""
    frame = pl.DataFrame({"d": [f"2026-01-{i % 28 + 1:02}" for i in range(60)], "y": ["p", "n"] * 30})
    model = train(frame, epochs=1)
    expected = model.inputs(frame)
    for unit in ("D", "us", "ns"):
        assert model.inputs({"d": np.array(frame["d"].to_list(), f"M8[{unit}]")}).equal(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("0", "1"), [0, 1]),
        (("1.0", "2.0"), [1, 2]),
        (("True", "False"), [False, True]),
        (("01", "02"), ["01", "02"]),
        (("yes", "no"), ["no", "yes"]),
    ],
)
def test_labels_of_a_csv_file_are_what_its_words_say(load_table, words, expected):
    """A CSV file has no types: words that all spell numbers or booleans are those."""
    found = load_table("x,y\n" + "".join(f"{i},{words[i % 2]}\n" for i in range(40)))
    back = labels(found.target.classes, found.target.label_kind)
    assert back.tolist() == expected


@pytest.mark.slow
def test_predict_looks_at_used_columns_alone(train, tmp_path):
    """A column that training ignored may be absent or of any type; used ones that are absent are named."""
    frame = pl.DataFrame({"emb": [[1.0, 2.0]] * 40, "b": range(40), "y": ["p", "n"] * 20})
    model = train(write(frame, tmp_path / "t.parquet"), "data.kinds.emb=ignore", "data.kinds.b=number")
    scores = model.predict(frame).scores
    for same in (frame.drop("emb"), frame.select("b"), frame.with_columns(emb=pl.lit("?")), frame.to_dict()):
        np.testing.assert_array_equal(model.predict(same).scores, scores)
    with pytest.raises(DataError, match="lacks columns of the training data: b"):
        model.predict(frame.drop("b"))


@pytest.mark.slow
def test_predict_takes_names_in_any_normal_form(train, tmp_path):
    """A frame whose names are decomposed has the columns of training, without blanks around them or with."""
    name = unicodedata.normalize("NFD", "café")
    path = tmp_path / "nfd.csv"
    path.write_text(f"{name}, b ,y\n" + "".join(f"{i},{i % 5},{'pn'[i % 2]}\n" for i in range(40)))
    model = train(path, "data.kinds.b=number")
    frame = pl.read_csv(path)
    expected = model.predict({unicodedata.normalize("NFC", name): frame[name], "b": frame[" b "]})
    np.testing.assert_array_equal(model.predict(frame).scores, expected.scores)


@pytest.mark.parametrize("names", [[f"group {i}" for i in range(30)], [str(i) for i in range(30)]])
def test_groups_are_numbered_alike_everywhere(tmp_path, load, names):
    """The parts of a split by group do not depend on the process or on the kind of file."""
    frame = pl.DataFrame(
        {"x": range(240), "g": [names[i * 7 % 30] for i in range(240)], "y": ["p", "n"] * 120}
    )
    paths = [str(write(frame, tmp_path / f"t{i}.{end}")) for i, end in enumerate(("csv", "tsv", "parquet"))]
    found = [load("table", path=path, target="y", group_column="g") for path in paths]
    for other in found[1:]:
        np.testing.assert_array_equal(other.test.inputs, found[0].test.inputs)
    order = sorted(names, key=lambda name: (int(name.split()[-1]) if names[0] == "0" else 0, name))
    text = encode_words(list(reversed(names)))
    np.testing.assert_array_equal(numbered(text), [order.index(name) for name in reversed(names)])


WORD = st.sampled_from(["1", "1.0", "01", "2", "2.50", "2.5", "-0", "0", "1e3", "a", "A", "é", "é", str(BIG)])


@pytest.mark.slow
@given(st.lists(WORD, min_size=1))
def test_a_column_knows_its_own_words(words):
    """Every word of a column is found among its words, and two that are found at one place are one word."""
    text = merged([encode_words(words, "untyped")])
    assert Known(text.values).find(text) == list(range(len(text.values)))
    spelled = [text.values[code] for code in text.codes]
    distinct = {unicodedata.normalize("NFC", word) for word in words}
    if not by_value(list(distinct)):
        assert len(set(spelled)) == len(distinct)


@pytest.mark.slow
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    cells=st.lists(
        st.one_of(st.none(), st.integers(-5, 5), st.sampled_from([BIG, BIG + 1])), min_size=30, max_size=40
    ),
    file=st.sampled_from(["t.csv", "t.tsv", "t.parquet"]),
)
def test_a_file_and_its_frame_are_encoded_alike(load, tmp_path, cells, file):
    """Categories of a file are the same in CSV, TSV, Parquet, frame and mapping."""
    frame = pl.DataFrame({"c": [1, 2, *cells], "x": range(len(cells) + 2)}, schema_overrides={"c": pl.Int64})
    frame = frame.with_columns(y=pl.Series(["p", "n"] * len(frame)).head(len(frame)))
    path = write(frame, tmp_path / file)
    found = load("table", path=str(path), target="y", kinds={"c": "category"}, validation=0.0, test=0.0)
    made = slipstream.data.from_json(found.preprocessing)
    expected = found.train.inputs.numpy()
    for same in (frame, frame.to_dict(as_series=False), frame.to_dict()):
        np.testing.assert_array_equal(made.transform(same)[0], expected)


def frame_of(names, values, count=40):
    """A table of two classes and a number under each name."""
    columns = {name: [float(i * 7 % 11) for i in range(count)] for name in names}
    return pl.DataFrame(columns | {"y": [values[i % 2] for i in range(count)]})


@pytest.mark.parametrize(
    ("labels", "weights"),
    [
        (("True", "False"), {True: 3, False: 1}),
        (("True", "False"), {"True": 3, "False": 1}),
        (("1", "0"), {1: 3, 0: 1}),
        (("1.0", "0.0"), {1: 3, 0: 1}),
        (("01", "02"), {"01": 3, "02": 1}),
        (("1.5", "0.5"), {1.5: 3, 0.5: 1}),
        (("null", "x"), {"null": 3, "x": 1}),
    ],
)
def test_class_weights_know_labels_that_look_like_numbers(load, tmp_path, labels, weights):
    """Keys that Hydra took for numbers or truth values are the labels that they spell."""
    path = tmp_path / "t.csv"
    path.write_text(write(frame_of(["a"], labels), path).read_text())
    found = load("table", path=str(path), target="y", class_weights=weights, missing=[""], task="binary")
    heavy = found.train.targets == found.target.classes.index(labels[0].removesuffix(".0"))
    np.testing.assert_array_equal(found.train.weights.numpy(), np.where(heavy, 3.0, 1.0))


def test_class_weights_that_lack_a_class_say_what_to_type(load_table):
    """The advice is a whole mapping, with labels in quotes where Hydra would take them for something else."""
    content = frame_of(["a"], ("True", "x y")).write_csv()
    with pytest.raises(
        ConfigError, match=r"missing x y; write \"data.class_weights=\{'True':3.0,'x y':1.0\}\""
    ):
        load_table(content, class_weights={True: 3})


def test_settings_name_columns_that_look_like_numbers(load_table):
    """A target called 0, an input called 2020 and a missing value -999 need no quotes."""
    frame = frame_of(["2020", "1.5", "true"], ("p", "n")).rename({"y": "0"})
    frame = frame.with_columns(
        pl.when(pl.int_range(40) % 4 == 0).then(-999.0).otherwise(pl.col("1.5")).alias("1.5")
    )
    found = load_table(
        frame.write_csv(), target=0, inputs=[2020, 1.5], kinds={2020: "category"}, missing=[-999]
    )
    assert found.target.names == ("0",)
    assert found.input_names[-2:] == ("1.5", "1.5 is missing")
    assert load_table(frame.write_csv(), target=0, inputs=[True, 1.5]).input_names == ("1.5", "true")


@pytest.mark.parametrize("file", ["t.csv", "t.tsv", "t.parquet"])
@pytest.mark.parametrize("sentinel", ["-999", "-999.0"])
def test_a_word_for_missing_is_a_number_too(train, tmp_path, file, sentinel):
    """-999 is missing in CSV, TSV, Parquet, frames and mappings, as a whole number and as a float."""
    gone = [i % 5 == 0 for i in range(60)]
    x = pl.DataFrame(
        {"x": [None if g else i % 13 for i, g in enumerate(gone)], "b": [i * 0.5 for i in range(60)]}
    )
    x = x.with_columns(y=pl.Series(["p", "n", "q"] * 20))
    spelled = x.with_columns(pl.col("x").fill_null(-999))
    model = train(write(spelled, tmp_path / file), f"data.missing=['{sentinel}','']", "data.kinds.b=number")
    assert model.preprocessing.columns[0].flag
    expected = model.inputs(x)
    floats = spelled.with_columns(pl.col("x").cast(pl.Float64))
    words = spelled.with_columns(pl.col("x").cast(pl.String))
    for same in (
        spelled,
        floats,
        words,
        spelled.to_dict(as_series=False),
        floats.select("x", "b").to_numpy(),
    ):
        assert model.inputs(same).equal(expected)
    numbers = x["x"].drop_nulls().to_numpy()
    column = model.preprocessing.columns[0]
    assert min(numbers) <= column.offset <= max(numbers)


@pytest.mark.parametrize("file", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(
    ("column", "word"),
    [(["a", "b", "?"], "?"), ([True, False, True], "false"), ([pl.date(2020, 1, 1), None], "2020-01-01")],
    ids=["word", "boolean", "date"],
)
def test_a_word_for_missing_is_of_any_kind(load, tmp_path, file, column, word):
    """Words, booleans and dates that mean a missing value mean it in every kind of file."""
    frame = frame_of(["b"], ("p", "n"), 60)
    if word == "2020-01-01":
        days = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 1, 4), eager=True)
        values = pl.concat([days] * 15)
    else:
        values = pl.Series((column * 20)[:60])
    path = write(frame.with_columns(c=values), tmp_path / file)
    found = load("table", path=str(path), target="y", missing=["", word], inputs=["b", "c"])
    assert found.input_names[-1] == "c is missing"
