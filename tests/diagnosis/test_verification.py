import json
import shutil

import pytest
import torch

import slipstream
from slipstream.diagnosis.verification import verify
from slipstream.runs import checkpoints


@pytest.fixture
def copy(small_run, tmp_path):
    return shutil.copytree(small_run, tmp_path / "run")


CHANGED = "hidden.0.linear.weight"


def rewritten(folder, change):
    """Save the newest checkpoint again, changed, with a manifest that fits."""
    newest = checkpoints.steps(folder / "checkpoints")[0]
    tensors, state = checkpoints.load(newest)
    change(tensors, state)
    shutil.rmtree(newest)
    checkpoints.save(newest.parent, int(newest.name[5:]), tensors, state, keep=9)


def other_weight(tensors, state):
    name = CHANGED
    tensors["weights"][name] = tensors["weights"][name].clone()
    tensors["weights"][name].view(-1)[0] += 1e-6


@pytest.mark.slow
def test_a_sound_run_is_verified(small_run, capsys, code):
    assert verify(small_run, whole=True).holds
    assert code(["verify", str(small_run)]) == 0
    assert "epoch 4: trained again, same bytes" in capsys.readouterr().out


@pytest.mark.slow
def test_a_flipped_bit_is_named(copy):
    newest = checkpoints.steps(copy / "checkpoints")[0] / "weights.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(bytes(content))
    receipt = verify(copy)
    assert not receipt.holds
    assert "weights.safetensors: is damaged: its SHA-256 differs from the manifest" in receipt.damaged[0]


def test_a_flipped_bit_in_every_checkpoint_is_not_verified(copy, capsys, code):
    for step in checkpoints.steps(copy / "checkpoints"):
        content = bytearray((step / "weights.safetensors").read_bytes())
        content[-1] ^= 1
        (step / "weights.safetensors").write_bytes(bytes(content))
    assert code(["verify", str(copy)]) == 1
    printed = capsys.readouterr().out
    assert printed.count("weights.safetensors: is damaged") >= 1
    assert printed.endswith("not verified\n")


@pytest.mark.slow
def test_a_changed_weight_with_a_manifest_that_fits_is_found(copy, capsys, code):
    rewritten(copy, other_weight)
    assert code(["verify", str(copy), "--json"]) == 1
    receipt = json.loads(capsys.readouterr().out)
    assert receipt["stretches"][0]["differing"] == [f"weights: {CHANGED}"]
    assert not receipt["conditions"]


def test_a_changed_record_is_found(copy):
    path = copy / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace("0.", "0.1", 1)
    path.write_text("\n".join(lines) + "\n")
    (damaged,) = verify(copy).damaged
    assert "metrics.jsonl: line 2 has changed since the run wrote it" in damaged


@pytest.mark.slow
def test_another_version_of_torch_is_named(copy):
    def change(tensors, state):
        other_weight(tensors, state)
        state["versions"]["torch"] = "2.0.0"

    rewritten(copy, change)
    assert f"torch was 2.0.0 and is {torch.__version__}" in verify(copy).conditions


@pytest.mark.slow
def test_another_number_of_threads_is_found(tmp_path):
    config = slipstream.compose(
        *("data=digits", "model.width=512", "trainer.max_epochs=2", "trainer.checkpoint_seconds=0"),
        *("regularizer=gradient_clipping", "trainer.threads=2", "logger=[]", "trainer.compile=false"),
        "data.batch_size=512",
    )
    slipstream.train(config, tmp_path / "run")
    rewritten(tmp_path / "run", lambda tensors, state: state.update(threads=1))
    receipt = verify(tmp_path / "run")
    if not receipt.stretches[0].differing:
        pytest.skip("on this processor one thread gives the bytes of two")
    assert receipt.explained == "2 threads; the run recorded 1"
