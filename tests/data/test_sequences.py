"""Sequences from a long table: sorted, padded, scaled by present steps, and read again for predictions."""

import json
from contextlib import suppress

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

import slipstream
import slipstream.config.validation
from slipstream.core.errors import ConfigError, DataError, UserError
from slipstream.data import from_json
from slipstream.runs.session import run

ROLES = {"id": "who", "time": "t", "target": "y"}


def table(count=30, lengths=(3, 9), gaps=0.0, seed=0):
    """A long table of shuffled steps: x, z numbers, k a word, two classes."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        for t in range(draw.integers(*lengths)):
            z = None if draw.random() < gaps else float(draw.normal())
            rows.append(
                (
                    f"p{i}",
                    t * 0.5 - 1,
                    10 + 3 * draw.normal(),
                    z,
                    "abc"[draw.integers(3)],
                    ["no", "yes"][i % 2],
                )
            )
    frame = pl.DataFrame(rows, schema=["who", "t", "x", "z", "k", "y"], orient="row")
    return frame.sample(fraction=1.0, shuffle=True, seed=seed)


@pytest.fixture
def read(tmp_path, load):
    """read(frame or text, ...): the data of a file with that content."""

    def make(frame=None, file="t.csv", **changes):
        frame = table() if frame is None else frame
        path = tmp_path / file
        if file.endswith("parquet"):
            frame.write_parquet(path)
        else:
            path.write_text(frame if isinstance(frame, str) else frame.write_csv(), encoding="utf-8")
        return load("sequences", path=str(path), **ROLES | changes)

    return make


def whole(read, frame, **changes):
    """All sequences, unscaled, in the order of their first rows: inputs [N, T, C] and targets."""
    data = read(frame, validation=0, test=0, scaling="none", **changes)
    return data.train.inputs.numpy(), data.train.targets.numpy()


def by_hand(frame, columns):
    """The sequences that polars makes of it, in the order of their first rows."""
    groups = frame.group_by("who", maintain_order=True)
    return [group.sort("t").select(columns).to_numpy() for _, group in groups]


def test_steps_are_sorted_padded_and_marked(read):
    """Every sequence has its steps by time, then zeros, and a channel that tells them apart."""
    frame = table()
    inputs, targets = whole(read, frame, inputs=["x", "z"])
    expected = by_hand(frame, ["x", "z"])
    assert inputs.shape == (30, max(map(len, expected)), 3)
    for found, steps in zip(inputs, expected, strict=True):
        assert np.allclose(found[: len(steps), :2], steps, rtol=1e-6)  # float32
        assert (found[: len(steps), 2] == 1).all()
        assert (found[len(steps) :] == 0).all()
    labels = [group["y"][0] == "yes" for _, group in frame.group_by("who", maintain_order=True)]
    assert targets.tolist() == labels


def test_sequences_of_one_length_have_no_mask(read):
    """Without padding there is no channel for it."""
    data = read(table(lengths=(5, 6)), inputs=["x", "z"])
    assert data.form.shape == (5, 2)
    assert not data.form.masked
    assert data.input_names == ("x", "z")


@pytest.mark.parametrize("keep", ["first", "last"])
def test_long_sequences_are_cut_off_and_counted(read, keep):
    """max_length steps are kept, the first or the last in time; the summary says of how many more."""
    frame = table()
    expected = by_hand(frame, ["x"])
    inputs, _ = whole(read, frame, inputs=["x"], max_length=4, keep=keep)
    for found, steps in zip(inputs, expected, strict=True):
        steps = steps[:4] if keep == "first" else steps[-4:]
        assert np.allclose(found[: len(steps), 0], steps[:, 0], rtol=1e-6)
    longer = sum(len(steps) > 4 for steps in expected)
    warning = f"{longer} of 30 sequences ({longer / 30:.1%}) have more than 4 steps; the {keep} 4 are kept"
    assert warning in read(frame, max_length=4, keep=keep).warnings


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_scaling_sees_present_steps_of_train_only(read, scaling):
    """In train's steps a channel has mean 0 and deviation 1 (or 0 to 1); padding and the mask stay."""
    data = read(inputs=["x", "z"], scaling=scaling)
    train = data.train.inputs.numpy()
    present = train[..., -1] == 1
    steps = train[present][:, :2]
    if scaling == "standard":
        assert np.allclose(steps.mean(0), 0, atol=1e-6)
        assert np.allclose(steps.std(0), 1, atol=1e-6)
    else:
        assert np.allclose([steps.min(0), steps.max(0)], [[0, 0], [1, 1]], atol=1e-6)
    for part in (data.train, data.validation, data.test):
        mask = part.inputs[..., -1]
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert (part.inputs[mask == 0] == 0).all()


def test_words_become_channels_of_0_and_1(read):
    """A category has a channel for each of its words, also in steps only."""
    data = read(table(), inputs=["k"])
    assert data.input_names == ("k=a", "k=b", "k=c", "is a step")
    words, mask = data.train.inputs[..., :3], data.train.inputs[..., 3]
    assert (words.sum(-1) == mask).all()


@pytest.mark.slow
def test_missing_values_are_filled_forward_in_their_own_sequence(read):
    """A gap is the value of the step before, and the median of train's steps where there is none."""
    frame = table(gaps=0.3)
    data = read(frame, inputs=["z"], validation=0, test=0, scaling="none")
    assert data.input_names == ("z", "z is missing", "is a step")
    filled = []
    for steps in by_hand(frame, ["z"]):
        values = pl.Series(steps[:, 0].astype(float)).fill_nan(None)
        filled.append(values.fill_null(strategy="forward"))
    median = pl.concat(filled).median()
    for found, values in zip(data.train.inputs.numpy(), filled, strict=True):
        n = len(values)
        assert np.allclose(found[:n, 0], values.fill_null(median).to_numpy(), rtol=1e-6)
        assert np.array_equal(found[:n, 1], values.is_null().to_numpy())
    assert f"z: {frame['z'].null_count()}" in data.card


def test_other_ways_to_fill_and_to_refuse(read):
    """mean takes the mean of train's steps; error names the row."""
    frame = table(gaps=0.2)
    inputs, _ = whole(read, frame, inputs=["z"], impute="mean")
    gone = inputs[..., 1] == 1
    assert gone.sum() == frame["z"].null_count()
    assert np.allclose(inputs[gone][:, 0], frame["z"].mean(), rtol=1e-5)
    row = int(np.argmax(frame["z"].is_null().to_numpy())) + 1
    with pytest.raises(DataError, match=rf"column 'z', row {row}: the value is missing"):
        read(frame, inputs=["z"], impute="error")


@pytest.mark.slow
def test_formats_and_dates_agree(read):
    """Parquet with dates as times gives what CSV with numbers gives."""
    frame = table()
    days = frame.with_columns(t=pl.date(2026, 1, 1) + pl.duration(days=(pl.col("t") * 2).cast(pl.Int64)))
    first = read(frame)
    for other in (read(frame, "t.parquet"), read(days, "d.parquet"), read(days, "d.csv")):
        assert np.array_equal(other.train.inputs, first.train.inputs)
        assert np.array_equal(other.test.targets, first.test.targets)


def test_parts_and_groups_belong_to_sequences(read, tmp_path):
    """A split column or a file of their own says the part; a group stays in one part."""
    frame = table()
    number = pl.col("who").str.slice(1).cast(pl.Int64)
    named = frame.with_columns(part=pl.when(number < 5).then(pl.lit("test")).otherwise(pl.lit("train")))
    data = read(named, split_column="part", inputs=["x"], validation=0)
    assert (len(data.train), len(data.test)) == (25, 5)
    frame.filter(number < 5).write_csv(tmp_path / "test.csv")
    rest = read(frame.filter(number >= 5), inputs=["x"], validation=0, test_path=str(tmp_path / "test.csv"))
    assert np.array_equal(rest.test.inputs, data.test.inputs)
    with pytest.raises(DataError, match=r"who=p\d is in both .*t\.csv and .*test\.csv"):
        read(frame, validation=0, test_path=str(tmp_path / "test.csv"))
    grouped = frame.with_columns(team=number // 3, x=(number // 3).cast(pl.Float64))
    data = read(grouped, group_column="team", inputs=["x"], scaling="none")
    teams = [set(part.inputs[:, 0, 0].tolist()) for part in (data.train, data.validation, data.test)]
    assert all(teams)
    assert len(set.union(*teams)) == sum(map(len, teams)) == 10


def test_new_tables_are_read_as_in_training(read):
    """Saved and read again, the preprocessing gives training's inputs for its own table."""
    frame = table(gaps=0.2)
    data = read(frame, validation=0, test=0)
    again = from_json(json.loads(json.dumps(data.preprocessing)))
    for same in (frame, frame.to_dict(as_series=False), frame.drop("y")):
        inputs, warnings = again.transform(same)
        assert np.array_equal(inputs, data.train.inputs)
        assert warnings == []
    longer = pl.DataFrame(
        {"who": ["q"] * 20, "t": range(20), "x": [1.0] * 20, "z": [0.0] * 20, "k": ["new"] * 20}
    )
    inputs, warnings = again.transform(longer)
    assert inputs.shape == (1, *data.form.shape)
    assert len(warnings) == 2
    with pytest.raises(DataError, match="the table lacks columns of the training data: who, t"):
        again.transform(frame.drop("who", "t"))
    fixed = read(table(lengths=(5, 6)), "fixed.csv", validation=0, test=0)
    with pytest.raises(DataError, match="found a sequence of 3 steps, expected 5 as in training"):
        from_json(fixed.preprocessing).transform(longer.head(3))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,1,2,u", "a,1,3,u"], r"rows 1 and 2 both have who=a and the same t; expected one row"),
        (["a,1,2,u", "a,2,3,v"], r"y changes within who=a: row 1 has 'u', row 2 has 'v'; expected one value"),
        (["a,,2,u"], r"column 't', row 1: the value is missing"),
        ([",1,2,u"], r"column 'who', row 1: the value is missing"),
        (["a,1,2,"], r"the target is missing in 1 of 9 rows \(row 1\): correct it$"),
        (["a,1,2,", "a,2,3,u", "a,3,3,v"], r"y changes within who=a: row 2 has 'u', row 3 has 'v'"),
        ([",1,2,", ",2,3,u", ",3,3,v"], r"the target is missing in 1 of 11 rows"),
        (["a,soon,2,u"], r"column 't', row 1: found 'soon', expected a number"),
    ],
)
def test_broken_tables_are_named(read, rows, message):
    """What makes no sequences is refused, with the sequence or the row."""
    good = [f"{who},{t},{t},{y}" for who, y in ("pu", "qv", "rv", "su") for t in (1, 2)]
    text = "\n".join(["who,t,x,y", *rows, *good]) + "\n"
    with pytest.raises(DataError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": None}, "data.path: is not set"),
        (
            {"id": None},
            "data.id: is not set, expected the name of the column that identifies each row's sequence",
        ),
        ({"time": "who"}, "data.time: column 'who' is already data.id"),
        ({"split": "group"}, "data.split: group needs data.group_column"),
        ({"kinds": {"y": "number"}}, "data.kinds.y: the column is data.target, not an input"),
        ({"scaling": "global"}, "data.scaling: global is for inputs with a common unit"),
    ],
)
def test_settings_that_do_not_fit_are_refused(load, tmp_path, changes, message):
    """What can be told without reading is told before."""
    path = tmp_path / "t.csv"
    path.write_text(table().write_csv())
    with pytest.raises(ConfigError, match=message):
        load("sequences", **{"path": str(path)} | ROLES | changes)


def test_a_misspelled_column_is_answered_with_the_nearest(read):
    """Every setting that names a column is checked against the header."""
    with pytest.raises(DataError, match=r"data\.id names 'wo', which is not a column, did you mean who\?"):
        read(id="wo")


CELL = st.sampled_from(["1", "2.5", "", "x", "-3", "1e400", "2026-01-31"])


@pytest.mark.slow
@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(rows=st.lists(st.tuples(st.sampled_from("pqrstu"), CELL, CELL, CELL), max_size=40))
def test_random_tables_give_data_or_a_data_error(read, rows):
    """Whatever the columns hold, loading ends with finite, padded tensors or with a user's error."""
    text = "\n".join(
        ["who,t,x,y", *(f"{who},{i if t == '1' else t},{x},{who}" for i, (who, t, x, _) in enumerate(rows))]
    )
    with suppress(UserError):
        found = read(text + "\n", inputs=["x"])
        for part in (found.train, found.validation, found.test):
            assert torch.isfinite(part.inputs).all()
            if found.form.masked:
                assert (part.inputs[part.inputs[..., -1] == 0] == 0).all()


@pytest.mark.slow
def test_a_trained_network_predicts_new_tables_as_it_was_measured(tmp_path):
    """Predictions for the table's own sequences have the accuracy of summary.json, from the saved folder."""
    frame = table()
    frame.write_csv(tmp_path / "t.csv")
    options = ("model=rnn", "model.width=4", "trainer.max_epochs=3", "logger=none", "trainer.progress=none")
    data = ("data=sequences", f"data.path={tmp_path / 't.csv'}", *(f"data.{k}={v}" for k, v in ROLES.items()))
    parts = ("data.validation=0", "data.test=0.5", "trainer.monitor=train/loss", "trainer.compile=false")
    run(slipstream.config.validate(slipstream.compose(*data, *parts, *options)), tmp_path / "run", [])
    (tmp_path / "t.csv").unlink()
    found = slipstream.load(tmp_path / "run").predict(frame.drop("y"))
    labels = [group["y"][0] for _, group in frame.group_by("who", maintain_order=True)]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["best"]
    mean = (summary["train/accuracy"] + summary["test/accuracy"]) / 2
    assert np.mean(found.labels == np.array(labels)) == pytest.approx(mean, abs=1e-6)
