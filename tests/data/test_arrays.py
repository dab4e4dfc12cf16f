"""Arrays: three formats, given parts, tasks, and refusals that name the array."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.numpy import save_file

from slipstream import data
from slipstream.core.errors import ConfigError, DataError, UserError

X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
Y = np.arange(60) % 3


def with_value(array, value):
    """The array with `value` at [3, 1]."""
    array[3, 1] = value
    return array


def save(place, kind, **arrays):
    """Write arrays as npz, safetensors or a folder of npy files; the path."""
    if kind == "folder":
        (place / "f").mkdir(exist_ok=True)
        for name, array in arrays.items():
            np.save(place / "f" / f"{name}.npy", array)
        return str(place / "f")
    path = place / f"a.{kind}"
    np.savez(path, **arrays) if kind == "npz" else save_file(arrays, path)
    return str(path)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "folder"])
def test_every_format_gives_the_same_tensors(tmp_path, load, kind):
    """npz, safetensors and npy files of the same arrays give the same bytes."""
    found = load("arrays", path=save(tmp_path, kind, X=X, y=Y), inputs="X", targets="y", scaling="none")
    first = load("arrays", path=save(tmp_path, "npz", inputs=X, targets=Y), scaling="none")
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(found, part).inputs, getattr(first, part).inputs)
        assert torch.equal(getattr(found, part).targets, getattr(first, part).targets)
    rows = {tuple(row) for row in X.tolist()}
    assert {tuple(row) for row in found.train.inputs.tolist()} <= rows
    assert len(found.sources) == (2 if kind == "folder" else 1)


@pytest.mark.parametrize("shape", [(60,), (60, 5), (60, 7, 5), (60, 2, 8, 8)])
def test_inputs_of_any_number_of_axes(tmp_path, load, shape):
    """Sequences and images keep their axes; a vector becomes one column."""
    x = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
    found = load("arrays", path=save(tmp_path, "npz", inputs=x, targets=Y))
    assert found.train.inputs.shape[1:] == (shape[1:] or (1,))
    assert found.train.inputs.dtype == (torch.uint8 if len(shape) == 4 else torch.float32)  # images stay raw
    assert found.train.inputs.is_contiguous()


@pytest.mark.parametrize(
    ("targets", "task", "dtype", "shape"),
    [
        (np.arange(60) % 2, "binary", torch.int64, (42,)),
        (np.arange(60) % 2 == 0, "binary", torch.int64, (42,)),
        (np.arange(60) % 30, "multiclass", torch.int64, (42,)),
        (np.arange(60) / 7, "regression", torch.float32, (42, 1)),
        (np.random.default_rng(0).normal(size=(60, 3)), "regression", torch.float32, (42, 3)),
        (np.random.default_rng(0).integers(0, 2, (60, 4)), "multilabel", torch.float32, (42, 4)),
    ],
)
def test_the_task_is_inferred(tmp_path, load, targets, task, dtype, shape):
    """Whole numbers are labels, columns of 0 and 1 labels that go together, other numbers regression."""
    # 30 classes of two rows each: the parts cannot have them all.
    found = load("arrays", path=save(tmp_path, "npz", inputs=X, targets=targets))
    assert found.target.task == task
    assert found.train.targets.dtype == dtype
    assert found.train.targets.shape == shape


def test_classes_name_the_labels(tmp_path, load):
    """classes gives the indices their names; the stored labels stay the indices."""
    path = save(tmp_path, "npz", inputs=X, targets=Y)
    found = load("arrays", path=path, classes=["red", "green", "blue"], test=0.0, validation=0.0)
    assert found.target.classes == ("red", "green", "blue")
    assert found.train.targets.tolist() == Y.tolist()


def test_given_parts_weights_and_groups(tmp_path, load):
    """Arrays named ..._test are the test part; weights and groups go with their rows."""
    path = save(
        *(tmp_path, "npz"),
        inputs=X[:40],
        targets=Y[:40],
        inputs_test=X[40:],
        targets_test=Y[40:],
        w=np.arange(40.0) + 1,
        w_test=np.arange(20.0) + 1,
        g=np.arange(40) // 4,
        g_test=np.arange(20) + 100,
    )
    found = load("arrays", path=path, weights="w", groups="g", scaling="none")
    assert torch.equal(found.test.inputs, torch.from_numpy(X[40:]))
    assert found.test.weights.tolist() == list(range(1, 21))
    groups = [set(((part.weights - 1) // 4).tolist()) for part in (found.train, found.validation)]
    assert not groups[0] & groups[1]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.where(Y == 1, np.nan, Y), "g[1]: found nan"),
        (np.full((60, 1), 2), "g has shape (60, 1), expected [N]"),
    ],
)
def test_what_is_no_group_is_refused(tmp_path, load, groups, message):
    """Rows without a group are not one group together."""
    path = save(tmp_path, "npz", inputs=X, targets=Y, g=groups)
    with pytest.raises(DataError) as caught:
        load("arrays", path=path, groups="g")
    assert message in str(caught.value)


@pytest.mark.parametrize("shape", [(60, 5), (60, 7, 5), (60, 2, 8, 8)])
@pytest.mark.parametrize("kind", ["u1", "<f4", ">f4", ">i2"])
@pytest.mark.parametrize("file", ["npz", "folder"])
def test_the_order_of_bytes_in_memory_is_nothing_to_the_data(tmp_path, load, shape, kind, file):
    """Fortran order and the other byte order give the tensors, and the fingerprint, of C order."""
    x = np.random.default_rng(1).integers(0, 255, shape)
    (tmp_path / "other").mkdir()
    first = load("arrays", path=save(tmp_path, file, inputs=x.astype(kind[-2:]), targets=Y))
    turned = save(tmp_path / "other", file, inputs=np.asfortranarray(x.astype(kind)), targets=Y.astype(">i4"))
    found = load("arrays", path=turned)
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(found, part).inputs, getattr(first, part).inputs)
        assert getattr(found, part).inputs.is_contiguous()
        assert torch.equal(getattr(found, part).targets, getattr(first, part).targets)


def test_split_by_time_takes_the_order_of_the_rows(tmp_path, load):
    """split=time trains on the first rows and tests on the last."""
    path = save(tmp_path, "npz", inputs=np.arange(60.0), targets=Y)
    found = load("arrays", path=path, split="time", scaling="none")
    assert found.train.inputs[:, 0].tolist() == list(range(42))
    assert found.test.inputs[:, 0].tolist() == list(range(51, 60))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": X}, "has no array 'targets'"),
        ({"input": X, "targets": Y}, "did you mean input?"),
        ({"inputs": X, "targets": Y[:50]}, "inputs 60, targets 50"),
        ({"inputs": X, "targets": Y, "inputs_test": X}, "has no array 'targets_test'"),
        ({"inputs": X, "targets": Y, "inputs_test": X[:, :2], "targets_test": Y}, "different shapes"),
        ({"inputs": X.astype(str), "targets": Y}, "inputs contains text"),
        ({"inputs": X.astype(object), "targets": Y}, "never unpickled"),
        ({"inputs": X.astype(complex), "targets": Y}, "inputs contains complex numbers"),
        ({"inputs": X[:0], "targets": Y[:0]}, "is empty"),
        ({"inputs": X[:, :0], "targets": Y}, "is empty"),
        ({"inputs": np.float32(3), "targets": Y}, "a single number"),
        ({"inputs": X, "targets": np.zeros((60, 2, 2))}, "expected [N] or [N, D]"),
        ({"inputs": X, "targets": np.where(Y == 1, np.nan, Y)}, "targets[1]: found nan"),
        ({"inputs": with_value(X.astype(np.float16), np.inf), "targets": Y}, "inputs[3, 1]: found inf"),
        ({"inputs": with_value(X.astype(np.float64), 1e39), "targets": Y}, "inputs[3, 1]: found 1e+39"),
        ({"inputs": np.zeros((60, 8, 8, 1)), "targets": Y}, "save inputs.transpose(0, 3, 1, 2)"),
        ({"inputs": np.zeros((60, 8, 12, 3)), "targets": Y}, "expected [N, C, H, W]"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, load, arrays, message):
    """Missing, mismatched, object, empty and non-finite arrays are refused by name."""
    with pytest.raises(DataError) as caught:
        load("arrays", path=save(tmp_path, "npz", **arrays))
    assert "a.npz" in str(caught.value)
    assert message in str(caught.value), str(caught.value)


def test_a_path_that_cannot_serve_is_found_before_reading(tmp_path, settings):
    """No path, a missing one, another ending and a single npy file are problems of the configuration."""
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "x.mat").touch()
    for path, words in [
        (None, "data.path: is not set"),
        (str(tmp_path / "no.npz"), "does not exist"),
        (str(tmp_path / "x.mat"), "expected .npz"),
        (str(tmp_path / "x.npy"), "give its folder"),
    ]:
        (problem,) = data.problems(settings("arrays", path=path))
        assert problem.startswith("data.path: ")
        assert words in problem


@pytest.mark.parametrize("changes", [{"split": "group"}, {"split": "random", "groups": "g"}])
def test_split_and_groups_go_together(tmp_path, load, changes):
    """split=group without groups, and groups with another split, are errors of the configuration."""
    with pytest.raises(ConfigError, match=r"data\.groups"):
        load("arrays", path=save(tmp_path, "npz", inputs=X, targets=Y, g=Y), **changes)


@pytest.mark.slow
@examples(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["npz", "safetensors", "folder"]), where=st.integers(0, 5000), cut=st.booleans())
def test_damaged_files_give_data_or_a_data_error(tmp_path, load, kind, where, cut):
    """A file that is cut or has a byte changed loads or is refused, and never anything else."""
    path = save(tmp_path, kind, inputs=X, targets=Y)
    file = tmp_path / "f" / "inputs.npy" if kind == "folder" else tmp_path / f"a.{kind}"
    content = bytearray(file.read_bytes())
    where %= len(content)
    if cut:
        content = content[:where]
    else:
        content[where] ^= 0xFF
    file.write_bytes(content)
    with suppress(UserError):
        load("arrays", path=path)
