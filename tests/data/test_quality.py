"""What scores rest on: rows in two parts, one column that tells all, targets out of range, windows."""

import numpy as np
import pytest

from slipstream.data.quality import window_step

RANDOM = np.random.default_rng(0)


def table(**columns):
    rows = zip(*columns.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n"


@pytest.mark.parametrize(
    "name", ["iris", "wine", "breast_cancer", "digits", "diabetes", "sine", "linear", "xor"]
)
def test_sound_data_raise_no_doubts(load, name):
    """No false alarm on the data that come with the package."""
    assert load(name).warnings == ()


def test_rows_of_test_that_stand_in_train_are_counted(load_table):
    """As many as numpy finds; rows of the same inputs and another target are none."""
    x = RANDOM.normal(size=200).round(6)
    part = ["train"] * 100 + ["validation"] * 40 + ["test"] * 60
    y = np.arange(200) % 2
    x[140:152], y[140:152] = x[:12], y[:12]
    x[152:160], y[152:160] = x[12:20], 1 - y[12:20]
    data = load_table(table(x=x, z=np.zeros(200), part=part, y=y), split_column="part")
    (said,) = [warning for warning in data.warnings if "also in the training split" in warning]
    assert said.startswith("12 of 60 test rows are also in the training split")
    x[100:103], y[100:103] = x[:3], y[:3]
    data = load_table(table(x=x, z=np.zeros(200), part=part, y=y), split_column="part")
    assert any(w.startswith("3 of 40 validation rows and 12 of 60 test rows are also") for w in data.warnings)


@pytest.mark.parametrize(
    ("column", "y", "tells"),
    [
        (lambda y: y, np.arange(300) % 2, True),
        (lambda y: 7 - y, np.arange(300) % 3, True),
        (lambda y: np.array(["red", "blue"])[y], np.arange(300) % 2, True),
        (lambda y: y * 100 + RANDOM.normal(size=300), np.arange(300) % 2, True),
        (lambda y: y * 2 + RANDOM.normal(size=300), np.arange(300) % 2, False),
        (lambda y: np.arange(300) // 2, np.arange(300) % 2, False),
        (lambda y: 32 + 1.8 * y, RANDOM.normal(size=300), True),
        (lambda y: y + 0.3 * RANDOM.normal(size=300), RANDOM.normal(size=300), False),
    ],
)
def test_a_column_that_tells_the_target_alone_is_named(load_table, column, y, tells):
    """A copy, a recoded or shifted one and another unit are told; a good input is none."""
    data = load_table(table(copy=column(y), x=RANDOM.normal(size=300), y=y))
    found = [warning for warning in data.warnings if "determines the target by itself" in warning]
    assert len(found) == tells
    assert not tells or "'copy'" in found[0]
    assert not [w for w in load_table(table(copy=column(y), y=y)).warnings if "alone" in w]  # the only column


def test_test_targets_outside_the_training_range_are_counted(load_table):
    """A trend that is split by time ends outside of what was trained on."""
    rows = np.arange(200)
    content = table(t=rows, x=RANDOM.normal(size=200), y=rows * 0.5)
    data = load_table(content, time_column="t")
    assert "target 'y': 30 of 30 test rows lie outside the training range, 0 to 69.5" in data.warnings
    assert not [w for w in load_table(content).warnings if "outside" in w]


@pytest.mark.parametrize("step", [1, 3])
def test_overlapping_windows_are_told_unless_split_by_time(load, tmp_path, step):
    """Windows of one series that are dealt at random share their steps with other parts."""
    series = RANDOM.normal(size=500).cumsum()
    x = np.stack([series[i : i + 8] for i in range(0, 480, step)])
    np.savez(tmp_path / "a.npz", inputs=x[:, :, None], targets=x[:, -1] * 0.5, flat=x)
    for inputs in ("inputs", "flat"):
        (said,) = load("arrays", path=str(tmp_path / "a.npz"), inputs=inputs, split="random").warnings[:1]
        assert f"starts {step} step" in said
        assert "data.split=time" in said
        found = load("arrays", path=str(tmp_path / "a.npz"), inputs=inputs, split="time").warnings
        assert not [warning for warning in found if "overlap" in warning]
    assert window_step(RANDOM.normal(size=(100, 8, 1))) is None
    assert window_step(np.ones((100, 8, 1))) is None


def test_sequences_are_split_by_their_times(load, tmp_path):
    """split=time tests on the sequences that end last; auto stays as it was."""
    series = RANDOM.normal(size=300)
    rows = [
        f"s{i},{i + t},{series[i + t]:.4f},{series[i + 5]:.4f}"
        for i in RANDOM.permutation(280)
        for t in range(6)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["id,t,v,y", *rows]) + "\n")
    names = {"path": str(tmp_path / "t.csv"), "id": "id", "time": "t", "target": "y"}
    found = load("sequences", **names, split="time", scaling="none", target_scaling="none")
    ends = [
        {round(float(v), 4) for v in part.targets[:, 0]}
        for part in (found.train, found.validation, found.test)
    ]
    known = [round(float(v), 4) for v in series[5:285]]
    assert ends == [set(known[:196]), set(known[196:238]), set(known[238:])]
    assert "Split: random" in load("sequences", **names).summary
