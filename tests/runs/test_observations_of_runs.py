"""What a run keeps of its observations: lines, TensorBoard, results, through resumes and in packs."""

import json

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


def test_the_first_the_last_and_every_so_many_epochs_are_observed(tmp_path):
    result = slipstream.train(config("data.batch_size=16", epochs=25), tmp_path / "run")  # 44 updates each
    assert [line["epoch"] for line in lines(tmp_path / "run")] == [1, 12, 24, 25]
    assert result.observations == lines(tmp_path / "run")
    assert "layers/hidden.0/dead" in result.observations[0]


def test_tensorboard_shows_them_by_layer(tmp_path):
    slipstream.train(config("logger=tensorboard"), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    values = [event.value for event in events.Scalars("layers/hidden.0/rank")]
    assert values == pytest.approx([line["layers/hidden.0/rank"] for line in lines(tmp_path / "run")])


def test_a_resumed_run_keeps_its_lines(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(config(epochs=6), whole)
    run(config(epochs=3), parts)
    run(config(epochs=6), parts, resume=True)
    # epoch 3 was the last one of the shorter run
    assert [line for line in lines(parts) if line["epoch"] != 3] == lines(whole)


def test_lines_after_the_checkpoint_and_torn_ones_are_dropped_by_a_resume(tmp_path):
    run(config(epochs=3), tmp_path / "run")
    path = tmp_path / "run" / "observations.jsonl"
    before = lines(tmp_path / "run")
    path.write_text(path.read_text() + json.dumps({"epoch": 9}) + '\n{"epoch": 1, "ste\n')
    run(config(epochs=4), tmp_path / "run", resume=True)
    assert lines(tmp_path / "run")[: len(before)] == before
    assert [line["epoch"] for line in lines(tmp_path / "run")] == [1, 3, 4]


def test_nothing_of_a_run_depends_on_them(tmp_path):
    """Bytes are equal, and false leaves no file."""
    seen, unseen = tmp_path / "seen", tmp_path / "unseen"
    for folder, observes in ((seen, "true"), (unseen, "false")):
        slipstream.train(config(f"trainer.observations={observes}", "regularizer=[dropout]"), folder)
    assert (seen / "metrics.jsonl").read_bytes() == (unseen / "metrics.jsonl").read_bytes()
    for path in seen.glob("checkpoints/*/*.safetensors"):
        assert path.read_bytes() == (unseen / path.relative_to(seen)).read_bytes()
    assert not (unseen / "observations.jsonl").exists()


def test_members_of_a_pack_are_observed_each(tmp_path):
    configs = [config(f"seed={seed}") for seed in (1, 2)]
    results = slipstream.train_pack(configs, [tmp_path / "1", tmp_path / "2"])
    alone = slipstream.train(configs[1])
    for mine, other in zip(results[1].observations, alone.observations, strict=True):
        assert mine.keys() == other.keys()
        assert mine["probe/loss"] == pytest.approx(other["probe/loss"], rel=1e-4)


@pytest.mark.parametrize(("asked", "there"), [("auto", False), ("true", True)])
def test_a_sweep_observes_its_members_only_if_asked(tmp_path, asked, there):
    words = (*SMALL, "trainer.max_epochs=1", f"trainer.observations={asked}")
    slipstream.sweep({"seed": [0, 1]}, *words, directory=tmp_path / "sweep")
    assert (tmp_path / "sweep" / "0" / "observations.jsonl").exists() == there
