"""Checkpoints: what goes in comes out, the newest good one is found, old ones go."""

from __future__ import annotations

import os

import pytest
import torch

from slipstream.runs import checkpoints
from slipstream.runs.checkpoints import CheckpointError, clean, latest, load, prune, save, verify


def tensors(value=1.0):
    """Three files of tensors of different shapes and kinds."""
    base = torch.arange(12.0).reshape(3, 4) * value
    return {
        "weights": {"a.weight": base, "a.bias": base[0], "view": base.t()},
        "optimizer": {"rule.m": base.flatten(), "scalar": torch.tensor(value), "flag": torch.tensor(True)},
        "best": {"a.weight": base.bfloat16(), "counter": torch.tensor([2**62])},
    }


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
    """Names, shapes, kinds, values and the state; views of one storage are saved as their own."""
    path = save(tmp_path, 7, tensors(), {"epoch": 2, "reason": "ä", "records": [{"x": None}]}, keep=2)
    loaded, state = load(path)
    for file, named in tensors().items():
        assert loaded[file].keys() == named.keys()
        assert all(torch.equal(loaded[file][name], tensor) for name, tensor in named.items())
        assert all(loaded[file][name].dtype == tensor.dtype for name, tensor in named.items())
    assert state == {"epoch": 2, "reason": "ä", "records": [{"x": None}], "format": 1, "step": 7}
    assert path == tmp_path / "step-00000007"
    assert sorted(os.listdir(path)) == [
        "best.safetensors",
        "manifest.json",
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    """Nothing of the moment, the machine or the path is in a checkpoint."""
    first = verify(save(tmp_path / "a", 1, tensors(), {"epoch": 1}, keep=2))
    assert verify(save(tmp_path / "b", 1, tensors(), {"epoch": 1}, keep=2)) == first


@pytest.mark.parametrize("keep", [2, 3])
def test_the_newest_are_kept_by_step_and_not_by_time(tmp_path, keep):
    """P12: the highest steps stay, also above 99999999, whatever the clock said when they were made."""
    steps = [1, 2, 30, 99_999_999, 100_000_000]
    for step in steps:
        path = save(tmp_path, step, tensors(), {}, keep)
        os.utime(path, (1e9 - step, 1e9 - step))  # the clock runs backwards
    kept = [f"step-{step:08d}" for step in steps[-keep:]]
    assert sorted(os.listdir(tmp_path), key=len) == kept
    assert latest(tmp_path) == (tmp_path / kept[-1], [])


def test_a_step_that_was_saved_is_not_written_again(tmp_path):
    """A complete checkpoint of that step stays as it is; a damaged one is replaced."""
    path = save(tmp_path, 1, tensors(), {}, keep=2)
    inode = os.stat(path).st_ino
    save(tmp_path, 1, tensors(), {}, keep=2)
    assert os.stat(path).st_ino == inode
    (path / "state.json").write_text("{}")
    save(tmp_path, 1, tensors(), {}, keep=2)
    assert latest(tmp_path) == (path, [])
    assert os.listdir(tmp_path) == ["step-00000001"]


def test_damaged_checkpoints_do_not_count_among_those_kept(tmp_path):
    """Two that verify stay, however many broken ones lie between them or above."""
    for step in (1, 2):
        save(tmp_path, step, tensors(), {}, keep=2)
    broken = save(tmp_path, 9, tensors(), {}, keep=3)
    (broken / "weights.safetensors").unlink()
    save(tmp_path, 3, tensors(), {}, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-00000002", "step-00000003"]


def test_left_overs_are_removed_and_foreign_files_are_not(tmp_path):
    """tmp- folders go; what slipstream did not make stays and is no checkpoint."""
    save(tmp_path, 1, tensors(), {}, keep=2)
    (tmp_path / "tmp-step-00000002-abcd").mkdir()
    (tmp_path / "tmp-step-00000002-abcd" / "weights.safetensors").write_text("half")
    (tmp_path / "step-last").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    for name in ("tmp-mine", "tmp-step-00000003-mine", "tmp-step-00000004-0123abcd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    clean(tmp_path)
    prune(tmp_path, 2)
    left = ["tmp-mine", "tmp-step-00000003-mine", "tmp-step-00000004-0123abcd"]
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "step-00000001", "step-last", *left]
    assert all((tmp_path / name / "notes.txt").read_text() == "mine" for name in left)
    assert latest(tmp_path)[0] == tmp_path / "step-00000001"


def test_without_checkpoints_there_is_no_latest(tmp_path):
    """An empty folder and one that is not there: none, and nothing was passed over."""
    assert latest(tmp_path) == latest(tmp_path / "nowhere") == (None, [])


def test_a_save_that_does_not_verify_removes_nothing(tmp_path, monkeypatch):
    """A disk that gives back other bytes than it was given: an error, the older ones stay."""
    for step in (1, 2):
        save(tmp_path, step, tensors(), {}, keep=2)
    plain = checkpoints._write

    def faulty(path, content):
        plain(path, content.replace(b"\x00\x00\x80\x3f", b"\x00\x00\x80\x3e", 1))

    monkeypatch.setattr(checkpoints, "_write", faulty)
    with pytest.raises(CheckpointError, match="SHA-256 differs from the manifest"):
        save(tmp_path, 3, tensors(), {}, keep=2)
    monkeypatch.undo()
    path, damaged = latest(tmp_path)
    assert path == tmp_path / "step-00000002"
    assert len(damaged) == 1


def test_an_older_one_that_cannot_be_removed_is_named(tmp_path, monkeypatch):
    """The new checkpoint is saved all the same."""
    for step in (1, 2):
        save(tmp_path, step, tensors(), {}, keep=2)
    plain = os.replace

    def refuse(old, new, **options):
        if "tmp-step-00000001" in str(new):
            raise PermissionError(13, "Permission denied")
        plain(old, new, **options)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(CheckpointError, match=r"is saved, but an older .* \(Permission denied\)"):
        save(tmp_path, 3, tensors(), {}, keep=2)
    assert latest(tmp_path) == (tmp_path / "step-00000003", [])
