"""Stopped at any step and continued, a run gives the bytes of one that was never stopped."""

from __future__ import annotations

import json
from unittest.mock import patch

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness import TINY, tiny, train
from ondisk import SAVING, STEPS, at_step, bytes_of, last, newest, terminate, train_in, tree
from slipstream.cli import main
from slipstream.config import validate
from slipstream.core.errors import UserError
from slipstream.inference.fitting import train_pack
from slipstream.runs.checkpoints import save
from slipstream.runs.session import run, run_pack
from slipstream.training.engine import Engine

NOISY = {"regularizer": ["dropout", "batch_norm", "ema"], "optimizer": "adam"}
STOPPING = {
    "early_stopping": "patience",
    "early_stopping.patience": 2,
    "trainer.max_epochs": 12,
    "optimizer.lr": 3.0,
}
PLATEAU = {"scheduler": "reduce_on_plateau", "scheduler.patience": 0, "trainer.max_epochs": 4}
SMALL_BATCHES = {"data.batch_size": 4, "trainer.accumulate": 3}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        NOISY,
        NOISY | SMALL_BATCHES,
        NOISY | {"data.batch_size": "full"},
        STOPPING,
        PLATEAU | SMALL_BATCHES,
        {"optimizer": "schedule_free", "regularizer": ["label_smoothing", "gradient_clipping", "max_norm"]},
    ],
    ids=["plain", "noisy", "accumulated", "whole", "stopping", "plateau", "schedule_free"],
)
def test_interrupted_at_any_step_and_resumed_gives_the_same_bytes(changes):
    """Interrupted during step n for every n of two epochs and one step more: tensors, records, best
    epoch and ending are those of the uninterrupted run, to the bit."""
    config = tiny(changes)
    whole = train(config)
    for number in range(1, 2 * whole.engine.batching.steps + 2):
        stopped = train(config, interrupt_after=number)
        if stopped.members[0].status != "interrupted":  # it came to its end with this very step
            assert stopped.bytes() == whole.bytes()
            continue
        assert train(config, resume=stopped).bytes() == whole.bytes(), f"interrupted in step {number}"


@pytest.mark.slow
def test_a_run_interrupted_again_and_again_gives_the_same_bytes():
    """One step at a time, every step in an engine of its own."""
    config = tiny(NOISY)
    whole, part = train(config), train(config, interrupt_after=1)
    while part.members[0].status == "interrupted":
        part = train(config, resume=part, interrupt_after=1)
    assert part.bytes() == whole.bytes()


@pytest.mark.slow
def test_a_pack_interrupted_at_any_step_and_resumed_gives_the_same_bytes():
    """The same for members of a pack, of which one stops early and is not trained further."""
    changes = NOISY | {"early_stopping": "patience", "early_stopping.patience": 1, "trainer.max_epochs": 5}
    configs = [tiny(changes | {"early_stopping.patience": 9}, seed=seed) for seed in range(2)]
    configs.append(tiny(changes | {"early_stopping.min_delta": 100.0}, seed=3))
    whole = train(configs)
    assert len(whole.members[2].records) == 2 < max(len(member.records) for member in whole.members)
    steps = whole.engine.batching.steps
    for number in range(1, steps + 2):
        again = train(configs, resume=train(configs, interrupt_after=number))
        assert [again.bytes(k) for k in range(3)] == [whole.bytes(k) for k in range(3)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of an undisturbed run."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    train_in(directory)
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines + '{"epoch": 2, "st',
        lambda lines: lines + '{"epoch": 2}\n{"epoch": 3}\n',
        lambda lines: "",
        lambda lines: lines.replace("0", "1") + "\0\0\0",
    ],
    ids=["torn", "later", "lost", "wrong"],
)
def test_metrics_are_brought_back_to_the_checkpoints_epochs(whole, tmp_path, damage):
    """Whatever a crash left at the end of metrics.jsonl, resuming makes it that of the whole run."""
    with at_step(STEPS + 1, terminate):
        train_in(tmp_path / "run")
    for name in ("metrics.jsonl", "timings.jsonl"):
        file = tmp_path / "run" / name
        file.write_text(damage(file.read_text()))
    train_in(tmp_path / "run", resume=True)
    assert bytes_of(tmp_path / "run") == bytes_of(whole)
    timings = (tmp_path / "run" / "timings.jsonl").read_text().splitlines()
    assert len(timings) == (2 if damage("") == "" and damage("x") == "" else 3)


def test_metrics_repeat_to_the_byte_and_seconds_stand_elsewhere(whole, tmp_path):
    """Two runs of one configuration: the same metrics.jsonl; timings.jsonl holds what differs."""
    train_in(tmp_path / "run")
    assert bytes_of(tmp_path / "run") == bytes_of(whole)
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    timings = [json.loads(line) for line in (whole / "timings.jsonl").read_text().splitlines()]
    assert not any("seconds" in record for record in records)
    assert [(timing["epoch"], set(timing)) for timing in timings] == [
        (epoch, {"epoch", "seconds"}) for epoch in (1, 2, 3)
    ]


@pytest.mark.slow
def test_resuming_a_finished_run_says_so_and_touches_nothing(tmp_path, capsys):
    """Nothing left to do: exit code 0, the same result, every byte of the directory as it was."""
    changes = {"trainer.progress": "plain", "logger": ["tensorboard"]}
    first = train_in(tmp_path / "run", changes)
    before = tree(tmp_path / "run")
    capsys.readouterr()
    again = train_in(tmp_path / "run", changes, resume=True)
    assert capsys.readouterr().out == (
        "nothing left to do: finished, all 3 epochs done\nto continue, increase trainer.max_epochs\n"
    )
    assert (again.exit_code, again.best, again.last) == (0, first.best, first.last)
    assert tree(tmp_path / "run") == before


@pytest.mark.slow
def test_a_run_killed_before_its_summary_gets_it_on_resume(tmp_path):
    """The last checkpoint is saved, the summary is not: resuming trains nothing and writes it."""
    train_in(tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    (tmp_path / "run" / "summary.json").unlink()
    with at_step(1, lambda: pytest.fail("a step was made")):
        train_in(tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary


@pytest.mark.slow
def test_more_epochs_continue_a_finished_run(tmp_path):
    """With a constant rate, 3 epochs and then 2 more are the bytes of 5."""
    train_in(tmp_path / "whole", NOISY | {"trainer.max_epochs": 5})
    train_in(tmp_path / "run", NOISY)
    longer = train_in(tmp_path / "run", NOISY | {"trainer.max_epochs": 5}, resume=True)
    assert (longer.status, len(longer.records)) == ("finished", 5)
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_stopped_early_stays_stopped(tmp_path):
    """More epochs do not wake it, and nothing in its directory changes."""
    changes = {"early_stopping": "patience", "early_stopping.patience": 1, "early_stopping.min_delta": 100.0}
    first = train_in(tmp_path / "run", changes)
    before = tree(tmp_path / "run")
    again = train_in(tmp_path / "run", changes | {"trainer.max_epochs": 50}, resume=True)
    assert (first.status, again.status, again.exit_code) == ("stopped_early", "stopped_early", 0)
    assert tree(tmp_path / "run") == before


@pytest.mark.slow
def test_without_a_checkpoint_a_resumed_run_begins_at_its_start(whole, tmp_path):
    """Killed before its first save, a run has lost nothing but time."""
    with pytest.raises(ZeroDivisionError), at_step(2, lambda: 1 / 0):
        train_in(tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
    train_in(tmp_path / "run", resume=True)
    assert bytes_of(tmp_path / "run") == bytes_of(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, STEPS, STEPS + 2])
def test_tensorboard_has_every_step_once_after_a_resume(tmp_path, number):
    """Scalars of the interrupted and resumed run: those of the whole one, no step twice."""
    changes = {
        "logger": ["tensorboard"],
        "logger.tensorboard.graph": False,
        "logger.tensorboard.histograms": 3,
    }
    train_in(tmp_path / "whole", changes)
    with at_step(number, terminate):
        train_in(tmp_path / "run", changes)
    train_in(tmp_path / "run", changes, resume=True)
    assert len(list((tmp_path / "run").glob("events.out.tfevents.*"))) == 1
    assert scalars(tmp_path / "run") == scalars(tmp_path / "whole")


@pytest.mark.slow
def test_a_torn_event_file_is_read_up_to_its_tear(tmp_path):
    """A kill in the middle of writing an event leaves a part of one, which resuming drops."""
    changes = {
        "logger": ["tensorboard"],
        "logger.tensorboard.graph": False,
        "logger.tensorboard.histograms": 0,
    }
    train_in(tmp_path / "whole", changes)
    with at_step(STEPS + 1, terminate):
        train_in(tmp_path / "run", changes)
    (events,) = (tmp_path / "run").glob("events.out.tfevents.*")
    events.write_bytes(events.read_bytes() + events.read_bytes()[:20])
    train_in(tmp_path / "run", changes, resume=True)
    assert scalars(tmp_path / "run") == scalars(tmp_path / "whole")


def scalars(directory):
    """tag -> [(step, value), ...] of a run's event files."""
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.slow
def test_threads_and_compile_mode_are_those_the_run_began_with(tmp_path):
    """What bytes depend on is taken from the checkpoint, whatever this machine would choose."""
    with at_step(4, terminate):
        train_in(tmp_path / "run", {"trainer.threads": None})
    saved = json.loads((tmp_path / "run" / "summary.json").read_text())
    train_in(tmp_path / "run", {"trainer.threads": None, "trainer.compile": "auto"}, resume=True)
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (again["threads"], again["compile"]) == (saved["threads"], saved["compile"])


@pytest.mark.slow
def test_a_diverged_run_stays_diverged(tmp_path):
    """Resuming it trains nothing, keeps its reason and ends with 3 again."""
    changes = {"optimizer.lr": 1e39}
    first = train_in(tmp_path / "run", changes)
    before = tree(tmp_path / "run")
    again = train_in(tmp_path / "run", changes, resume=True)
    assert (first.status, first.exit_code) == ("diverged", 3)
    assert (again.status, again.reason, again.exit_code) == ("diverged", first.reason, 3)
    assert tree(tmp_path / "run") == before


def test_a_pack_with_directories_writes_what_its_members_would():
    """A pack refuses members of another structure before it makes a directory."""
    one, other = tiny(SAVING), tiny(SAVING | {"model.width": 6})
    with pytest.raises(UserError, match=r"differ in structure, among model.width"):
        train_pack([one, validate(other.raw)])


@pytest.mark.slow
def test_a_pack_that_was_killed_while_it_saved_is_resumed_together(tmp_path, monkeypatch):
    """One member is a save ahead of the others, one has ended: each goes on from its own, and all end
    with the bytes of the uninterrupted pack."""
    monkeypatch.setattr("slipstream.core.storage.AT_ONCE", 1)
    changes = SAVING | NOISY | {"trainer.max_epochs": 4}
    configs = [tiny(changes, seed=seed) for seed in range(3)]
    configs[2] = tiny(
        changes
        | {"early_stopping": "patience", "early_stopping.patience": 1, "early_stopping.min_delta": 9.0}
    )
    whole = [tmp_path / f"whole-{k}" for k in range(3)]
    run_pack(configs, whole, [()] * 3)
    for number in (1, 2):  # saves of the third epoch that were made before the kill
        run = [tmp_path / f"{number}-{k}" for k in range(3)]
        saves = iter(range(3 + 3 + number))  # of three members in the epochs 1 and 2
        with pytest.raises(Killed), patch("slipstream.runs.checkpoints.save", limited(save, saves)):
            run_pack(configs, run, [()] * 3)
        assert len({newest(directory).name for directory in run}) > 1
        again = run_pack(configs, run, [()] * 3, resume=True)
        assert [result.status for result in again] == ["finished", "finished", "stopped_early"]
        assert [bytes_of(directory) for directory in run] == [bytes_of(directory) for directory in whole]


class Killed(BaseException):
    """Stands for the end of a process."""


def limited(function, calls):
    """The function as long as there are calls left; then the end."""

    def call(*arguments):
        if next(calls, None) is None:
            raise Killed
        return function(*arguments)

    return call


@pytest.mark.slow
def test_a_changed_setting_is_refused_with_the_difference_and_nothing_is_touched(whole, capsys):
    """C13: `resume=DIR seed=1` and a smaller number of epochs: exit code 2, both values, no change."""
    typed = [f"{key}={value}" for key, value in SAVING.items()]
    before = tree(whole)
    with pytest.raises(SystemExit) as ended:
        main([f"resume={whole}", *last(*TINY, *typed, "seed=1", "trainer.max_epochs=2")])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert f"seed: was 0 in {whole}, now 1" in message
    assert f"trainer.max_epochs: was 3 in {whole}, now 2" in message
    assert tree(whole) == before


@pytest.mark.slow
def test_a_signal_during_an_evaluation_saves_at_the_epochs_end(whole, tmp_path):
    """P5: the epoch that was being measured is kept whole; resuming gives the same bytes."""
    plain, calls = Engine.report, iter(range(2))

    def report(self, *arguments):
        if next(calls, None) == 1:
            terminate()
        return plain(self, *arguments)

    with patch.object(Engine, "report", report):
        result = train_in(tmp_path / "run")
    assert (result.exit_code, len(result.records)) == (143, 2)
    assert newest(tmp_path / "run").name == f"step-{2 * STEPS:08d}"
    train_in(tmp_path / "run", resume=True)
    assert bytes_of(tmp_path / "run") == bytes_of(whole)


def test_a_run_is_never_overwritten(whole):
    """A second start in the directory of a run is refused, exit code 2, and touches nothing."""
    before = tree(whole)
    with pytest.raises(UserError, match="already contains a run, which is never overwritten") as error:
        run(tiny(SAVING), whole)
    assert error.value.exit_code == 2
    assert tree(whole) == before
