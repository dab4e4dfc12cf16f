"""Faults of checkpoints: K1-K10. Resuming skips damaged checkpoints with a warning, or refuses."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from contextlib import suppress

import numpy as np
import pytest

from ondisk import STEPS, at_step, bytes_of, newest, terminate, train_in, tree
from sampling import exhaustive_after, slow_after
from slipstream.runs.checkpoints import FILES, CheckpointError, latest, load, verify

ALL = sorted([*FILES, "manifest.json"])
OPENED = []


def note(what):
    """Stand for the code that a pickle would call."""
    OPENED.append(what)


class Payload:
    """An object that reports that it was unpickled."""

    def __reduce__(self):
        return note, ("unpickled",)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run interrupted in its third epoch: checkpoints of steps 6 and 7."""
    directory = tmp_path_factory.mktemp("stopped") / "run"
    with at_step(2 * STEPS + 1, terminate):
        train_in(directory)
    return directory


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of an undisturbed run."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    train_in(directory)
    return directory


@pytest.fixture
def run(stopped, tmp_path):
    """A copy of the interrupted run, to be damaged."""
    return shutil.copytree(stopped, tmp_path / "run")


def sign(checkpoint):
    """Write a manifest that matches the present files of the checkpoint."""
    contents = {name: (checkpoint / name).read_bytes() for name in FILES}
    files = {n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in contents.items()}
    (checkpoint / "manifest.json").write_text(json.dumps({"format": 1, "files": files}))


def truncate(file):
    file.write_bytes(file.read_bytes()[:-2])  # of a manifest the last byte is a line feed


def empty(file):
    file.write_bytes(b"")


def extend(file):
    file.write_bytes(file.read_bytes() + b"\0")


def remove(file):
    file.unlink()


def pickled(file):
    file.write_bytes(pickle.dumps(Payload()))


def folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", slow_after(2, [truncate, remove, empty, extend, pickled, folder]))
@pytest.mark.parametrize("name", ALL)
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(run, whole, capsys, name, damage):
    """K1, K3, K6: any file of the newest one cut, emptied, longer, gone or replaced: resuming says so
    on the screen, goes on from the one before, and ends with the bytes of the uninterrupted run."""
    damage(newest(run) / name)
    train_in(run, {"trainer.progress": "plain"}, resume=True)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert "step-00000007" in line
    assert line.endswith("using an earlier checkpoint")
    assert bytes_of(run) == bytes_of(whole)
    assert OPENED == []


@pytest.mark.parametrize("flips", exhaustive_after(1, [300, 10_000]))
def test_no_single_bit_can_flip_in_silence(run, flips):
    """K2: no flipped bit is accepted, of many random ones in all files and the manifest."""
    checkpoint = newest(run)
    before = load(checkpoint)[1]
    draw = np.random.default_rng(0)
    for number in range(flips):
        file = checkpoint / ALL[number % len(ALL)]
        content = file.read_bytes()
        flipped = bytearray(content)
        bit = int(draw.integers(8 * len(content)))
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(flipped))
        with pytest.raises(CheckpointError, match=str(checkpoint)):
            load(checkpoint)
        if number < 300:
            path, damaged = latest(run / "checkpoints")
            assert path.name == "step-00000006"
            assert len(damaged) == 1
        file.write_bytes(content)
    assert load(checkpoint)[1] == before


@pytest.mark.parametrize("name", ALL)
def test_no_file_can_be_cut_in_silence(run, name):
    """K1: cut at every 64th byte, and at the last, a file is refused with its name."""
    file = newest(run) / name
    content = file.read_bytes()
    # Without its last line feed a manifest says the same.
    last = len(content.rstrip()) - 1 if name == "manifest.json" else len(content) - 1
    for length in [*range(0, last, 64), last]:
        file.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=name):
            load(file.parent)
    file.write_bytes(content)
    assert load(file.parent)


def test_when_all_are_damaged_resuming_refuses_and_touches_nothing(run):
    """K1: a message that names every one, exit code 2, and no silent start from the beginning."""
    for name in ("step-00000006", "step-00000007"):
        truncate(run / "checkpoints" / name / "weights.safetensors")
    before = tree(run)
    with pytest.raises(CheckpointError, match="no checkpoint is valid; start a new run") as error:
        train_in(run, resume=True)
    assert error.value.exit_code == 2
    assert str(error.value).count("weights.safetensors") == 2
    assert tree(run) == before


@pytest.mark.parametrize("found", [2, 0, "1", None])
def test_another_format_is_named(run, found):
    """K4, K5: a newer format is distinguished from an unknown one before anything else is read."""
    word = "newer" if found == 2 else "unknown"
    checkpoint = newest(run)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(manifest | {"format": found}))
    with pytest.raises(CheckpointError, match=f"format {found!r} is {word}, this version reads 1"):
        verify(checkpoint)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_pickle_is_never_opened(run, name):
    """K6: not even if the manifest lists it."""
    checkpoint = newest(run)
    pickled(checkpoint / name)
    sign(checkpoint)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(checkpoint)
    assert OPENED == []
    pickle.loads((checkpoint / name).read_bytes())
    assert OPENED == ["unpickled"]  # it would have worked
    OPENED.clear()


@pytest.mark.parametrize("name", ["../config.yaml", "/etc/hostname", "..", "", "a\0b"])
def test_a_manifest_cannot_name_other_files(run, name):
    """K7: only the files that a checkpoint has, whatever the manifest says."""
    checkpoint = newest(run)
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 0, "sha256": ""}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"expected the files best.safetensors"):
        verify(checkpoint)


def test_symbolic_links_are_refused(run, tmp_path):
    """K8: neither a file nor the checkpoint itself may be a link, wherever it leads."""
    checkpoint = newest(run)
    moved = checkpoint.rename(tmp_path / "elsewhere")
    checkpoint.symlink_to(moved)
    with pytest.raises(CheckpointError, match="a symbolic link"):
        verify(checkpoint)
    checkpoint.unlink()
    moved.rename(checkpoint)
    (checkpoint / "state.json").rename(tmp_path / "state.json")
    (checkpoint / "state.json").symlink_to(tmp_path / "state.json")
    with pytest.raises(CheckpointError, match=r"state.json: is a symbolic link"):
        verify(checkpoint)


def test_a_huge_declared_shape_allocates_nothing(run):
    """K9: a header that declares petabytes is refused by its length, with a message."""
    checkpoint = newest(run)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2**50], "data_offsets": [0, 2**52]}}).encode()
    (checkpoint / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    sign(checkpoint)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(checkpoint)


@pytest.mark.parametrize(
    ("changes", "tensor"),
    [
        ({"model.width": 6}, r"hidden.0.linear.weight is \(5, 2\) in weights and \(6, 2\)"),
        ({"model.depth": 2}, r"hidden.1.linear.weight is missing in weights and \(5, 5\)"),
        ({"optimizer": "adam"}, "rule.m is missing in optimizer"),
        ({"regularizer": ["batch_norm"]}, "is missing in weights"),
        ({"regularizer": ["ema"]}, "kept.ema is missing in optimizer"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(run, changes, tensor):
    """K10: the first tensor that differs is named with both shapes; nothing is touched."""
    before = tree(run)
    with pytest.raises(CheckpointError, match=tensor) as error:
        train_in(run, changes, resume=True)
    assert str(run) in str(error.value)
    assert tree(run) == before


def test_an_unreadable_file_is_damage_and_not_a_crash(run, monkeypatch):
    """EIO when reading: the older one is used."""
    plain = type(run).read_bytes

    def fails(self):
        if self.parent.name == "step-00000007" and self.name == "best.safetensors":
            raise OSError(5, "Input/output error")
        return plain(self)

    monkeypatch.setattr(type(run), "read_bytes", fails)
    path, damaged = latest(run / "checkpoints")
    assert path.name == "step-00000006"
    assert "cannot be read (Input/output error)" in damaged[0]


def test_manifests_of_any_shape_are_refused(run):
    """JSON that is valid and no manifest: an error each time, never a crash."""
    checkpoint = newest(run)
    good = json.loads((checkpoint / "manifest.json").read_text())
    name = "state.json"
    for files in ([], {}, "x", 1, None, {name: 1}, good["files"] | {name: None}, good["files"] | {name: {}}):
        (checkpoint / "manifest.json").write_text(json.dumps({"format": 1, "files": files}))
        with pytest.raises(CheckpointError, match=r"manifest.json: is damaged"):
            verify(checkpoint)
    for text in ("[]", "3", '"x"', "{}", "", "\ud800".encode("utf-8", "surrogatepass").decode("latin1")):
        (checkpoint / "manifest.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"manifest.json: is damaged"):
            verify(checkpoint)
    with suppress(FileNotFoundError):
        os.unlink(checkpoint / "manifest.json")
    with pytest.raises(CheckpointError, match=r"manifest.json: is missing"):
        verify(checkpoint)
