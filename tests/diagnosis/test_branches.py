import json
from types import SimpleNamespace

import pytest

import slipstream
from sampling import slow_after
from slipstream.config.changes import written
from slipstream.config.replay import diff, remaining
from slipstream.config.validation import validate
from slipstream.core.errors import ConfigError, UserError
from slipstream.diagnosis.branches import NOTHING, Change, Origin, branches
from slipstream.runs.summary import Result


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 2, 3])  # the start; an epoch that is not saved any more; a saved one
def test_the_control_repeats_the_run_to_the_byte(small_run, at):
    (control,) = branches(Origin(small_run), [NOTHING], at=at)
    assert control.result.records == records(small_run)


@pytest.mark.slow
def test_branches_differ_in_their_change_alone(small_run):
    origin = Origin(small_run)
    found = branches(origin, [NOTHING, Change(("optimizer.lr=0.1",))], at=3, seeds=2)
    assert origin.trained == 4
    assert [(str(b.change), b.seed) for b in found] == [
        *(("unchanged", 0), ("unchanged", 1), ("optimizer.lr=0.1", 0), ("optimizer.lr=0.1", 1)),
    ]
    assert all(b.result.records[:3] == records(small_run)[:3] for b in found)
    last = [b.result.records[3]["val/loss"] for b in found]
    assert len(set(last)) == 4


@pytest.mark.slow
def test_a_branch_takes_the_numbers_of_its_change_and_not_the_checkpoints(small_run):
    """Layers keep their numbers in buffers, which checkpoints hold."""
    without, none = branches(
        Origin(small_run),
        [Change(("regularizer.dropout.rate=0.0",)), Change(("regularizer=[]",))],
        at=3,
    )
    assert without.result.records[3]["train/loss"] == pytest.approx(
        none.result.records[3]["train/loss"], rel=1e-5
    )


@pytest.mark.slow
def test_another_optimizer_goes_on_with_the_weights(small_run):
    still, moved = branches(
        Origin(small_run),
        [Change(("optimizer=sgd", "optimizer.lr=1e-12")), Change(("optimizer=sgd",))],
        at=4 - 1,
    )
    before, after = records(small_run)[2], still.result.records[3]
    assert after["val/loss"] == pytest.approx(before["val/loss"], rel=1e-6)
    assert moved.result.records[3]["val/loss"] != after["val/loss"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ema", "swa", "lookahead"])
def test_what_a_new_regularizer_keeps_begins_at_the_present_weights(small_run, name):
    change = Change(("regularizer=[dropout," + name + "]", "optimizer=sgd", "optimizer.lr=1e-12"))
    (branch,) = branches(Origin(small_run), [change], at=3)
    assert branch.result.records[3]["val/loss"] == pytest.approx(records(small_run)[2]["val/loss"], rel=1e-5)


def test_another_network_cannot_go_on_from_an_epoch(small_run):
    with pytest.raises(ConfigError, match="a different network, which cannot continue from epoch 3"):
        branches(Origin(small_run), [Change(("model.width=16",))], at=3)


@pytest.mark.slow
def test_until_keeps_the_schedule_of_the_whole_run(small_run):
    change = Change(("scheduler=cosine",))
    (short,) = branches(Origin(small_run), [change], until=2)
    (whole,) = branches(Origin(small_run), [change])
    assert short.result.records == whole.result.records[:2]


def test_an_epoch_that_the_run_does_not_have(small_run):
    with pytest.raises(UserError, match="has no epoch 9; its last saved epoch is 4"):
        Origin(small_run).at(9)


def test_a_replaced_choice_takes_its_settings_along():
    raw = (
        slipstream.compose(
            "optimizer=sgd",
            "optimizer.momentum=0.5",
            "regularizer=[l2,dropout]",
            "regularizer.l2.strength=0.1",
        )
        if False
        else slipstream.compose("optimizer=sgd", "regularizer=[l2,dropout]", "regularizer.l2.strength=0.1")
    )
    typed = [
        "optimizer=sgd",
        "optimizer.lr=0.5",
        "regularizer=[l2,dropout]",
        "regularizer.l2.strength=0.1",
        "seed=3",
    ]
    assert remaining(typed, raw, ["optimizer=adam"]) == typed[2:]
    assert remaining(typed, raw, ["optimizer=sgd"]) == typed[1:]
    assert remaining(typed, raw, ["regularizer=[dropout]"]) == [*typed[:2], "seed=3"]
    assert remaining(typed, raw, ["seed=4"]) == typed[:-1]


@pytest.mark.parametrize(
    "overrides",
    slow_after(
        1,
        [
            [],
            ["data=iris", "regularizer=[dropout,l2]", "regularizer.dropout.rate=0.3", "seed=7"],
            ["optimizer=sgd", "scheduler=cosine", "augmentation=[rotation]", "trainer.monitor=val/accuracy"],
            ["experiment=realmlp", "data=iris"],
        ],
    ),
)
def test_a_command_line_is_written_for_any_configuration(overrides):
    raw = validate(slipstream.compose(overrides)).raw
    assert diff(raw, validate(slipstream.compose(written(raw))).raw) == []


@pytest.mark.parametrize("name", ["why", "verify", "ablate", "find_lr", "fork"])
def test_a_result_stands_for_its_folder(name, tmp_path):
    """What slipstream.train returns; without a folder, the sentence names the way to one."""
    ask = getattr(slipstream, name)
    held = Result("finished", "", 1, {}, {}, [], {}, directory=tmp_path / "gone")
    with pytest.raises(UserError, match="gone: no such folder"):
        ask(held)
    with pytest.raises(UserError, match="has no folder to begin from: train it on a file"):
        ask(Result("finished", "", 1, {}, {}, [], {}))
    if name != "find_lr":
        with pytest.raises(UserError, match="run: found SimpleNamespace, expected the folder of a run"):
            ask(SimpleNamespace())
