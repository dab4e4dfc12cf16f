"""Faults planted into data are found and named, and clean data are left alone."""

import numpy as np
import pytest

import slipstream
from slipstream.config.validation import validate
from slipstream.diagnosis.data_checks.checking import data_findings


def causes(*words):
    """Return the causes that are found, the strongest first."""
    return [one.cause for one in data_findings(validate(slipstream.compose(words))) if one.sure]


def table(folder, columns, target):
    """Write a table of columns [N, D] and a target [N], and return the words that name it."""
    names = [*columns, "y"]
    rows = zip(*columns.values(), target, strict=True)
    text = "\n".join(",".join(map(str, row)) for row in [names, *rows])
    (folder / "data.csv").write_text(text + "\n")
    return ("data=table", f"data.path={folder / 'data.csv'}", "data.target=y")


@pytest.fixture
def clean():
    """Return 240 rows of five columns that tell one of two classes, with some noise."""
    draw = np.random.default_rng(3)
    x = draw.standard_normal((240, 5)) * [1, 10, 100, 1, 1] + [0, 5, 50, 0, 0]
    score = x[:, 0] + x[:, 1] / 10 - x[:, 2] / 100 + 0.5 * draw.standard_normal(240)
    return {f"c{i}": column for i, column in enumerate(x.T)}, np.where(score > 0, "yes", "no")


@pytest.mark.slow
@pytest.mark.parametrize("data", ["two_moons", "iris", "linear", "sine"])
def test_clean_data_have_no_cause(data):
    assert causes(f"data={data}") == []


@pytest.mark.slow
def test_a_clean_table_has_no_cause(clean, tmp_path):
    assert causes(*table(tmp_path, *clean)) == []


def planted(name, columns, y):
    """Return a table with a fault."""
    draw = np.random.default_rng(5)
    if name == "outliers":
        columns["c1"][::60] = 999999
    elif name == "constant features":
        columns |= {f"c{i}": np.full(len(y), 3.5) for i in (0, 1, 2)}
    elif name == "leaking feature":
        columns["visits"] = np.where(y == "yes", 10.0, 14.0) + 0.3 * draw.standard_normal(len(y))
    elif name == "identifier column":
        order = np.argsort(np.argsort((y == "yes") + draw.random(len(y))))
        columns["entry"] = 1000 + 3 * order + draw.integers(0, 2, len(y))
    elif name == "no signal":
        y = draw.permutation(y)
    elif name == "duplicates across parts":
        picked = draw.integers(0, 60, len(y))
        columns, y = {name: values[picked] for name, values in columns.items()}, y[picked]
    elif name == "features without signal":
        columns |= {f"n{i}": draw.standard_normal(len(y)) for i in range(150)}
    elif name in ("label noise", "distribution shift"):
        columns["part"] = np.repeat(["train", "validation", "test"], [120, 30, 90])
        test = columns["part"] == "test"
        if name == "label noise":
            y = np.where((columns["c0"] > 0) ^ (~test & (draw.random(len(y)) < 0.3)), "yes", "no")
        else:
            columns |= {f"c{i}": columns[f"c{i}"] * np.where(test, 1.5, 1) + 2 * test for i in range(5)}
    elif name == "split in wrong order":
        order = np.argsort(y)
        columns, y = {name: values[order] for name, values in columns.items()}, y[order]
    return columns, y


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cause", "words", "remedy"),
    [
        ("outliers", (), "999999"),
        ("constant features", (), ""),
        ("leaking feature", (), "data.kinds.visits=ignore"),
        ("identifier column", (), "data.kinds.entry=ignore"),
        ("no signal", (), ""),
        ("duplicates across parts", (), ""),
        ("features without signal", (), "data.inputs=[c0"),
        ("split in wrong order", ("data.split=time",), "data.split=stratified"),
        ("label noise", ("data.split_column=part",), ""),
        ("distribution shift", ("data.split_column=part",), ""),
        ("inputs not scaled", ("data.scaling=none",), "data.scaling=standard"),
    ],
)
def test_a_planted_fault_is_the_first_cause(clean, tmp_path, cause, words, remedy):
    settings = (*table(tmp_path, *planted(cause, *clean)), *words)
    found = data_findings(validate(slipstream.compose(settings)))
    assert found[0].cause == cause
    assert found[0].sure
    assert cause in found[0].evidence
    assert remedy in " ".join(found[0].remedy)
    again = slipstream.compose((*settings, *found[0].remedy))  # the remedy is accepted as it stands
    if found[0].remedy:
        assert cause not in [one.cause for one in data_findings(validate(again)) if one.sure]


@pytest.mark.slow
def test_a_target_far_from_1_is_named(clean, tmp_path):
    columns, _ = clean
    words = table(tmp_path, columns, 500 + 100 * columns["c0"])
    assert causes(*words, "data.target_scaling=none") == ["target not scaled"]
    assert causes(*words) == []


def test_rows_that_resemble_their_neighbors_leak_by_time(tmp_path):
    x, y, _ = np.split(np.cumsum(np.random.default_rng(0).standard_normal((400, 5)), axis=0), [3, 4], axis=1)
    words = table(tmp_path, {f"c{i}": column for i, column in enumerate(x.T)}, y[:, 0])
    assert causes(*words)[:1] == ["leakage by time"]


def test_rows_of_equal_categories_are_no_near_copies(tmp_path):
    """One number beside categories: some training row of the same categories is always near."""
    draw = np.random.default_rng(3)
    columns = {
        "district": draw.choice(["north", "south", "old", "port"], 480),
        "heated": draw.choice(["gas", "wood"], 480),
        "area": draw.uniform(20, 140, 480).round(1),
        "floor": draw.integers(0, 8, 480),
    }
    words = table(tmp_path, columns, columns["area"] * 11 + draw.normal(size=480) * 25)
    assert "duplicates across parts" not in causes(*words)


def test_copies_with_noise_are_found(tmp_path):
    draw = np.random.default_rng(4)
    whole = np.tile(draw.normal(size=(160, 6)), (3, 1)) + draw.normal(size=(480, 6)) * 1e-3
    columns = {f"x{k}": column for k, column in enumerate(whole.T)}
    columns["kind"] = np.tile(draw.choice(["a", "b"], 160), 3)
    assert "duplicates across parts" in causes(*table(tmp_path, columns, np.tile(draw.normal(size=160), 3)))
