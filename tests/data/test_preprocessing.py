"""Preprocessing: fitted on train, equal to scikit-learn's, the same after a trip through JSON."""

import json
from datetime import UTC, datetime
from typing import get_args

import numpy as np
import polars as pl
import pytest
import torch
from sklearn import preprocessing as reference

from slipstream.core.errors import DataError
from slipstream.core.types import InputSpec, Target
from slipstream.data import from_json
from slipstream.data.array_preprocessing import scale_channels
from slipstream.data.dataset import RawData
from slipstream.data.kinds import reader_of
from slipstream.data.scaling import SCALINGS, ScalingName, ScalingRule
from slipstream.data.tabular.table_preprocessing import fit_frame
from slipstream.data.tabular.values import Frame

ROWS = [
    f"{i * 0.5},{'rgb'[i % 3] if i % 11 else ''},{'yes' if i % 2 else 'no'},2026-{i % 12 + 1:02}-05,{i % 4}"
    for i in range(80)
]
TABLE = "\n".join(["length,colour,ripe,day,y", *ROWS]) + "\n"


def fit_array(x, names, rows, scaling):
    """Fit the preprocessing of an array's kind."""
    raw = RawData(x, names, np.zeros(len(x), np.int64), Target("binary", ("y",), ("a", "b")))
    return reader_of(raw).fit(raw, rows, scaling)


def numbers(rows=200, columns=3):
    return np.random.default_rng(0).normal(5, 3, (rows, columns))


@pytest.mark.parametrize(
    ("scaling", "scaler"), [("standard", reference.StandardScaler()), ("minmax", reference.MinMaxScaler())]
)
def test_scaling_equals_scikit_learn_fitted_on_the_same_rows(scaling, scaler):
    """Offsets and factors come from the given rows alone and give what scikit-learn's scaler gives."""
    x, rows = numbers(), np.arange(0, 200, 3)
    fitted, _ = fit_array(x, ("a", "b", "c"), rows, scaling)
    expected = scaler.fit(x[rows]).transform(x)
    assert np.allclose(fitted.transform(x)[0], expected, rtol=1e-6, atol=1e-6)  # float32 against float64


def test_robust_scaling_is_scikit_learns_and_a_smooth_clip():
    """Median and middle half come from the given rows, what is far out comes near 3 and not past it, and
    the description survives JSON."""
    x, rows = numbers(), np.arange(0, 200, 3)
    x[:, 2] = np.where(np.arange(200) % 10, 7.0, x[:, 2])  # the middle half is one value
    x[1] = 1e6
    fitted, _ = fit_array(x, ("a", "b", "c"), rows, "robust")
    scaled = reference.RobustScaler().fit(x[rows]).transform(x)
    scaled[:, 2] = (x[:, 2] - 7) * 2 / np.ptp(x[rows, 2])
    expected = scaled / np.sqrt(1 + scaled**2 / 9)
    assert np.allclose(fitted.transform(x)[0], expected, rtol=1e-6, atol=1e-6)  # float32 against float64
    assert np.abs(fitted.transform(x)[0]).max() == 3.0
    again = from_json(json.loads(json.dumps(fitted.to_json())))
    assert np.array_equal(again.transform(x)[0], fitted.transform(x)[0])


def test_robust_scaling_of_tables_is_that_of_arrays(load_table):
    """A column of a table is scaled and clipped as the same column of an array."""
    x = numbers()
    table = pl.DataFrame(x, schema=["a", "b", "c"]).with_columns(
        y=pl.Series(np.arange(200) / 7), part=pl.Series(["train"] * 150 + ["test"] * 50)
    )
    data = load_table(table.write_csv(), split_column="part", validation=0.0, scaling="robust")
    fitted, _ = fit_array(x, ("a", "b", "c"), np.arange(150), "robust")
    assert np.array_equal(data.test.inputs.numpy(), fitted.transform(x[150:])[0])


def test_robust_scaling_refuses_images():
    """The network scales raw images by an offset and a factor, which cannot clip."""
    with pytest.raises(DataError, match="robust is for tables and sequences"):
        fit_array(np.zeros((4, 1, 2, 2)), ("a",), np.arange(4), "robust")


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_table_scaling_equals_scikit_learn_fitted_on_train(load_table, scaling):
    """The columns of a table are scaled by their training rows only."""
    x = numbers()
    parts = ["train" if i % 3 else "test" for i in range(200)]
    table = pl.DataFrame(x, schema=["a", "b", "c"]).with_columns(
        y=pl.Series(np.arange(200) / 7), part=pl.Series(parts)
    )
    found = load_table(table.write_csv(), split_column="part", validation=0.0, scaling=scaling)
    train = np.array(parts) == "train"
    scaler = reference.StandardScaler() if scaling == "standard" else reference.MinMaxScaler()
    scaler.fit(x[train])
    # float32 against float64
    assert np.allclose(found.train.inputs, scaler.transform(x[train]), rtol=1e-6, atol=1e-6)
    assert np.allclose(found.test.inputs, scaler.transform(x[~train]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [((50, 4), 1), ((50, 7, 4), 2), ((50, 4, 5, 6), 1)])
def test_arrays_are_scaled_by_channel(shape, axis):
    """[N, C], [N, T, C] and [N, C, H, W] get mean 0 and deviation 1 in every channel."""
    x = np.random.default_rng(1).normal(3, 2, shape) * np.arange(1, 5).reshape(
        [4 if i == axis else 1 for i in range(len(shape))]
    )
    fitted, _ = fit_array(x, tuple("abcd"), np.arange(50), "standard")
    scaled = np.moveaxis(scale_channels(fitted.columns, x), axis, 0).reshape(4, -1).astype(np.float64)
    assert np.allclose(scaled.mean(axis=1), 0, atol=1e-6)  # float32
    assert np.allclose(scaled.std(axis=1), 1, atol=1e-6)


def test_global_scaling_keeps_the_relations_between_channels():
    """One mean and one deviation for all: the whole is standard, a constant channel raises no warning."""
    x = numbers()
    x[:, 1] = 4.0
    fitted, warnings = fit_array(x, ("a", "b", "c"), np.arange(200), "global")
    assert np.allclose(fitted.transform(x)[0], (x - x.mean()) / x.std(), rtol=1e-5, atol=1e-6)  # float32
    assert warnings == []


def test_json_gives_the_same_preprocessing(load_table, tmp_path):
    """After a trip through a JSON file, new data become the bytes that loading made of the same rows."""
    found = load_table(TABLE, target="y", test=0.0, validation=0.0)
    (tmp_path / "p.json").write_text(json.dumps(found.preprocessing, allow_nan=False))
    again = from_json(json.loads((tmp_path / "p.json").read_text()))
    assert json.loads((tmp_path / "p.json").read_text()) == found.preprocessing
    assert again.to_json() == found.preprocessing
    assert again.names == found.input_names
    frame = pl.read_csv(TABLE.encode(), try_parse_dates=True)
    encoded, warnings = again.transform(frame)
    assert warnings == []
    assert encoded.dtype == np.float32
    assert np.array_equal(encoded, found.train.inputs.numpy())


def test_json_gives_the_same_preprocessing_of_arrays(load):
    """The same for arrays: raw inputs become the loaded ones."""
    found = load("iris", test=0.0, validation=0.0)
    from slipstream.core.registry import component

    encoded, _ = from_json(json.loads(json.dumps(found.preprocessing))).transform(
        component("data", "iris")().inputs
    )
    assert np.array_equal(encoded, found.train.inputs.numpy())


def test_new_data_may_be_a_mapping_with_further_columns(load_table):
    """A mapping of names to lists works like a frame; further columns are left alone."""
    found = load_table(TABLE, target="y", test=0.0, validation=0.0)
    new = {
        "extra": ["?", "!"],
        "length": [1, None],
        "colour": ["r", None],
        "ripe": [True, False],
        "day": [datetime(2026, 3, 5, tzinfo=UTC), datetime(2026, 4, 5, tzinfo=UTC)],
    }
    encoded, warnings = from_json(found.preprocessing).transform(new)
    frame = pl.DataFrame(new)
    assert np.array_equal(encoded, from_json(found.preprocessing).transform(frame)[0])
    assert len(warnings) == 1
    assert "'length': 1 missing" in warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": None}, "lacks columns of the training data: length"),
        ({"length": ["long"]}, "'length', row 1: found 'long'"),
        ({"length": [float("inf")]}, "'length', row 1: found inf"),
        ({"ripe": ["perhaps"]}, "'ripe', row 1: found 'perhaps'"),
        ({"day": ["yesterday"]}, "'day', row 1: found 'yesterday'"),
    ],
)
def test_new_data_of_another_kind_are_refused(load_table, change, message):
    """A missing column, or a value that is not of the column's kind, is an error with its place."""
    fitted = from_json(load_table(TABLE, target="y").preprocessing)
    new = {"length": [1.0], "colour": ["r"], "ripe": ["yes"], "day": ["2026-01-05"]} | change
    with pytest.raises(DataError) as caught:
        fitted.transform({name: values for name, values in new.items() if values is not None})
    assert message in str(caught.value)


def test_another_version_or_shape_is_refused(load):
    """Preprocessing of another version, and arrays of another shape, are errors that name both."""
    saved = load("iris").preprocessing
    with pytest.raises(DataError, match="version 7"):
        from_json(saved | {"version": 7})
    with pytest.raises(DataError, match=r"found inputs of shape \(2, 3\), expected \[N, 4\] as"):
        from_json(saved).transform(np.zeros((2, 3)))


def test_dates_are_days_and_cycles(load_table):
    """A date is its scaled days and sines and cosines of year and week, with a time also of the day."""
    days = ["2026-01-01", "2026-07-02", "2024-02-29", "2025-12-31"] * 10
    table = "when,y\n" + "\n".join(f"{day},{i % 2}" for i, day in enumerate(days)) + "\n"
    found = load_table(table, test=0.0, validation=0.0)
    assert found.input_names == (
        *("when", "when sine of year", "when cosine of year", "when sine of week", "when cosine of week"),
    )
    epoch = np.array(days, "datetime64[D]").astype(float)
    expected = [(epoch - epoch.mean()) / epoch.std()]
    for period in (365.2425, 7):
        expected += [np.sin(2 * np.pi * epoch / period), np.cos(2 * np.pi * epoch / period)]
    assert np.allclose(found.train.inputs, np.stack(expected, axis=1), atol=1e-5)  # float32
    timed = load_table(table.replace("2026-01-01", "2026-01-01T18:00:00"), test=0.0, validation=0.0)
    assert timed.input_names[-1] == "when cosine of day"
    assert timed.train.inputs[0, -2].item() == pytest.approx(-1)


def test_rare_categories_share_one_output(load_table):
    """Past max_categories the rarest share an output, which is no unseen category."""
    words = ["a"] * 30 + ["b"] * 20 + ["c"] * 5 + ["d"] * 3
    table = "w,y\n" + "\n".join(f"{word},{i % 2}" for i, word in enumerate(words)) + "\n"
    found = load_table(table, max_categories=3, test=0.0, validation=0.0)
    assert found.input_names == ("w=a", "w=b", "w=other")
    assert found.warnings == ()
    assert found.train.inputs.sum(dim=0).tolist() == [30, 20, 8]


def test_regression_targets_are_scaled_and_undone(load):
    """Training targets have mean 0 and deviation 1, and offset and scale give the raw ones back."""
    found = load("diabetes", test=0.0, validation=0.0)
    raw = torch.tensor([151.0, 75.0, 141.0])
    y = found.train.targets
    assert y.dtype == torch.float32
    assert y.mean().item() == pytest.approx(0, abs=1e-6)
    assert y.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    back = y * found.target.scale[0] + found.target.offset[0]
    assert torch.allclose(back[:3, 0], raw, rtol=1e-5)  # float32
    plain = load("diabetes", target_scaling="none", test=0.0, validation=0.0)
    assert plain.train.targets[:3, 0].tolist() == raw.tolist()
    assert (plain.target.offset, plain.target.scale) == ((0.0,), (1.0,))


def test_a_new_scaling_is_a_function_and_a_row(monkeypatch):
    """Arrays and tables take it from the table, and so does the setting's schema."""
    monkeypatch.setitem(SCALINGS, "halved", ScalingRule(lambda x: (x.low, 0.5)))
    x = numbers()
    fitted, _ = fit_array(x, ("a", "b", "c"), np.arange(200), "halved")
    assert np.allclose(fitted.transform(x)[0], (x - x.min(axis=0)) / 2, rtol=1e-6, atol=1e-6)  # float32
    frame = Frame({"a": x[:, 0]}, {"a": "number"}, "median", 9)
    columns, _ = fit_frame(frame, np.arange(200), "halved")
    assert (columns[0].offset, columns[0].factor) == (x[:, 0].min(), 0.5)
    monkeypatch.undo()
    assert get_args(ScalingName) == tuple(SCALINGS) == ("standard", "minmax", "robust", "global", "none")


def test_one_scale_for_all_is_not_for_the_columns_of_a_table():
    """Whatever source the table has: its columns would be scaled one by one."""
    frame = Frame({"a": numbers()[:, 0]}, {"a": "number"}, "median", 9)
    with pytest.raises(DataError, match="global is for inputs with a common unit"):
        fit_frame(frame, np.arange(200), "global")


def test_arrays_of_ids_stay_ids():
    """What a source of one's own gives as tokens is neither scaled nor fitted, in training and later."""
    ids, target = np.arange(12).reshape(4, 3) % 5, Target("binary", ("y",), ("a", "b"))
    raw = RawData(ids, (), np.zeros(4, np.int64), target, kind="tokens", vocabulary=tuple("_?xyz"))
    fitted, _ = reader_of(raw).fit(raw, np.arange(4), "none")
    assert fitted.spec == InputSpec("tokens", (3,), vocabulary=5)
    again = from_json(json.loads(json.dumps(fitted.to_json())))
    assert again == fitted
    for found in (*fitted.encode_splits(raw, [np.arange(4)], "random")[0], again.transform(ids)[0]):
        np.testing.assert_array_equal(found, ids)
    with pytest.raises(DataError, match=r"expected an array \[N, 3\], found the columns"):
        again.transform({"a": [1, 2]})


def test_inputs_that_no_kind_reads_are_an_error():
    """A source of one's own that gives a list is told what is expected."""
    raw = RawData([[1.0], [2.0]], ("x",), np.zeros(2), Target("regression"))
    with pytest.raises(DataError, match="inputs of type list, expected a numpy array"):
        reader_of(raw)
