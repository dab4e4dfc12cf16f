"""What a run keeps of its observations: lines, TensorBoard, results, through resumes and in packs."""

import json

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import slipstream
from slipstream.config.validation import validate
from slipstream.runs.session import run

SMALL = ("data=two_moons", "model.width=8", "trainer.compile=false", "trainer.checkpoint_seconds=0")


def lines(folder):
    return [json.loads(text) for text in (folder / "observations.jsonl").read_text().splitlines()]


def config(*overrides, epochs=3):
    return validate(slipstream.compose(*SMALL, f"trainer.max_epochs={epochs}", *overrides))


@pytest.mark.slow
def test_the_first_the_last_and_every_so_many_epochs_are_observed(tmp_path):
    result = slipstream.train(config("data.batch_size=16", epochs=25), tmp_path / "run")  # 44 updates each
    assert [line["epoch"] for line in lines(tmp_path / "run")] == [1, 12, 24, 25]
    assert result.observations == lines(tmp_path / "run")
    assert "layers/hidden.0/dead" in result.observations[0]


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run of 25 epochs, 44 updates each, read by TensorBoard's own reader: (result, folder, events)."""
    folder = tmp_path_factory.mktemp("logged") / "run"
    words = (
        "logger=tensorboard",
        "data.batch_size=16",
        "regularizer=[l2]",
        "logger.tensorboard.histograms=2",
    )
    result = slipstream.train(config(*words, epochs=25), folder)
    everything = {"scalars": 0, "tensors": 0}
    return result, folder, EventAccumulator(str(folder), size_guidance=everything).Reload()


@pytest.mark.slow
def test_tensorboard_shows_them_by_layer(logged):
    """Each value that is a number, at its step."""
    _, folder, events = logged
    for name in lines(folder)[0].keys() - {"epoch", "step"}:
        told = [(line["step"], line[name]) for line in lines(folder) if line[name] is not None]
        shown = [(e.step, e.value) for e in events.Scalars(name)] if told else []
        assert [step for step, _ in shown] == [step for step, _ in told]
        assert [v for _, v in shown] == pytest.approx([v for _, v in told], rel=1e-6), name


def test_tensorboard_has_histograms_by_layer(logged):
    """Of gradients, last updates, inputs and outputs of activations: first, last, `histograms` more."""
    result, folder, events = logged
    shown = set(events.PluginTagToContent("histograms"))
    expected = {f"{of}/{name}" for of in ("weights", "gradients", "last_update") for name in result.weights}
    expected |= {
        f"{of}/{layer}" for of in ("layer_inputs", "layer_outputs") for layer in ("hidden.0", "hidden.1")
    }
    assert shown == expected
    curves = EventAccumulator(str(folder / "val")).Reload().Tags()["scalars"]
    assert min(shown) > max(curves)  # TensorBoard sorts groups and opens the first
    for tag in expected:
        made = events.Tensors(tag)
        epochs = [12, 24] if tag.startswith("weights/") else [1, 24, 25]  # observed: 1, 12, 24, 25
        assert [e.step // 44 for e in made] == epochs
    table = histogram(events, "layer_outputs/hidden.0", -1)
    assert table[:, 2].sum() == 2048
    assert table[0, 0] == 0  # relu
    name = "gradients/hidden.0.linear.weight"
    counts = histogram(events, name, 0)
    assert counts[:, 2].sum() == result.weights["hidden.0.linear.weight"].numel()
    # The norm of the gradient lies between those of the buckets' edges.
    edges = np.sort(np.abs(counts[:, :2]), axis=1)
    low, high = np.sqrt((edges**2 * counts[:, 2:]).sum(0))
    norm = lines(folder)[0]["layers/hidden.0.linear.weight/gradient_norm"]
    assert low * 0.7 <= norm <= high * 1.001


def histogram(events, tag, place):
    """Left edge, right edge and count of each bucket."""
    return np.frombuffer(events.Tensors(tag)[place].tensor_proto.tensor_content, np.float32).reshape(-1, 3)


def test_loss_and_penalty_are_separate_curves(logged):
    """The penalty after each epoch beside the loss; of the last one it is that of the last weights."""
    result, folder, events = logged
    for name in ("train/loss", "train/penalty"):
        assert [e.step for e in events.Scalars(name)] == [44 * epoch for epoch in range(1, 26)]
    shown = {e.step: e.value for e in events.Scalars("train/penalty")}
    for line in lines(folder):
        assert shown[line["step"]] == pytest.approx(line["probe/penalty"], rel=1e-5)
    assert "train/penalty" not in result.records[0]


@pytest.mark.slow
def test_the_penalty_on_activations_is_in_the_curve(tmp_path):
    """Alone and in a pack, and a run without a penalty has no such curve."""
    words = ("logger=tensorboard", "model.depth=1")
    configs = [config(*words, "regularizer=[activity_l2]", f"seed={seed}") for seed in (1, 2)]
    slipstream.train_pack(configs, [tmp_path / "1", tmp_path / "2"])
    slipstream.train(configs[1], tmp_path / "alone")
    slipstream.train(config(*words), tmp_path / "none")
    read = {name: EventAccumulator(str(tmp_path / name)).Reload() for name in ("2", "alone", "none")}
    packed, alone = ([e.value for e in read[name].Scalars("train/penalty")] for name in ("2", "alone"))
    assert packed == pytest.approx(alone, rel=1e-4)
    assert len(alone) == 3
    assert min(alone) > 0
    assert "train/penalty" not in read["none"].Tags()["scalars"]


@pytest.mark.slow
def test_a_resumed_run_keeps_its_lines(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(config(epochs=6), whole)
    run(config(epochs=3), parts)
    run(config(epochs=6), parts, resume=True)
    # epoch 3 was the last one of the shorter run
    assert [line for line in lines(parts) if line["epoch"] != 3] == lines(whole)


@pytest.mark.slow
def test_lines_after_the_checkpoint_and_torn_ones_are_dropped_by_a_resume(tmp_path):
    run(config(epochs=3), tmp_path / "run")
    path = tmp_path / "run" / "observations.jsonl"
    before = lines(tmp_path / "run")
    path.write_text(path.read_text() + json.dumps({"epoch": 9}) + '\n{"epoch": 1, "ste\n')
    run(config(epochs=4), tmp_path / "run", resume=True)
    assert lines(tmp_path / "run")[: len(before)] == before
    assert [line["epoch"] for line in lines(tmp_path / "run")] == [1, 3, 4]


@pytest.mark.slow
def test_nothing_of_a_run_depends_on_them(tmp_path):
    """Bytes are equal, and false leaves no file."""
    seen, unseen = tmp_path / "seen", tmp_path / "unseen"
    for folder, observes in ((seen, "true"), (unseen, "false")):
        slipstream.train(config(f"trainer.observations={observes}", "regularizer=[dropout]"), folder)
    assert (seen / "metrics.jsonl").read_bytes() == (unseen / "metrics.jsonl").read_bytes()
    for path in seen.glob("checkpoints/*/*.safetensors"):
        assert path.read_bytes() == (unseen / path.relative_to(seen)).read_bytes()
    assert not (unseen / "observations.jsonl").exists()


@pytest.mark.slow
def test_members_of_a_pack_are_observed_each(tmp_path):
    configs = [config(f"seed={seed}") for seed in (1, 2)]
    results = slipstream.train_pack(configs, [tmp_path / "1", tmp_path / "2"])
    alone = slipstream.train(configs[1])
    for mine, other in zip(results[1].observations, alone.observations, strict=True):
        assert mine.keys() == other.keys()
        assert mine["probe/loss"] == pytest.approx(other["probe/loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "there"), [("auto", False), ("true", True)])
def test_a_sweep_observes_its_members_only_if_asked(tmp_path, asked, there):
    words = (*SMALL, "trainer.max_epochs=1", f"trainer.observations={asked}")
    slipstream.sweep({"seed": [0, 1]}, *words, directory=tmp_path / "sweep")
    assert (tmp_path / "sweep" / "0" / "observations.jsonl").exists() == there
