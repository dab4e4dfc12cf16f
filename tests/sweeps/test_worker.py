"""A worker trains members by kind, fills places again, shrinks, and every member is as in any pack."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from harness import tiny
from ondisk import bytes_of
from sampling import exhaustive_after
from slipstream.core.errors import UserError
from slipstream.runs import checkpoints, setup
from slipstream.runs.session import run_pack
from slipstream.sweeps import runner
from slipstream.sweeps.plan.job import Job, ended
from slipstream.sweeps.work.job_sources import GridSource
from slipstream.sweeps.work.worker import SameMistake, Worker
from slipstream.training.engine import Engine
from slipstream.training.interrupts import Interrupts

SMALL = {"data.rows": 40, "trainer.max_epochs": 3, "trainer.threads": 1}
STOPS = {"early_stopping": "patience", "early_stopping.patience": 1, "early_stopping.min_delta": 9.0}


class NoOthers:
    """Claims of the only worker."""

    lost = False

    def take(self, numbers, limit):
        return list(numbers)[:limit]

    def release(self, numbers):
        pass


class Log:
    """An observer that keeps what it is told, and may act at an epoch's end."""

    def __init__(self, at_epoch=lambda pack: None):
        self.ends, self.failures, self.warnings, self.sizes, self.said = {}, {}, [], [], []
        self.at_epoch = at_epoch

    def begins(self, pack):
        self.pack = pack

    def epoch(self, progress, finished):
        members = self.pack.members
        self.sizes.append((len(members), sum(member.running for member in members)))
        self.at_epoch(self.pack)

    def interrupted(self, progress, broken=()):
        pass

    def ended(self, job, status, value):
        self.ends[job.number] = status

    def failed(self, job, reason):
        self.failures[job.number] = reason

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warnings.append(text)


def jobs_of(changes: Sequence[dict[str, Any]]) -> list[Job]:
    return [
        Job(number, number, (f"seed={number}",), {}, tiny(SMALL | each))
        for number, each in enumerate(changes)
    ]


def drain(
    directory: Path, jobs: Sequence[Job], size=4, *, packed=True, log=None, interrupts=None, claims=None
) -> Log:
    log = log or Log()

    def choose(alike, folds, device):
        return SimpleNamespace(size=size, packed=packed, compile=False, reason="")

    interrupts = interrupts or Interrupts()
    Worker(directory, GridSource(jobs, directory, claims or NoOthers()), interrupts, log, choose).run()
    return log


def as_pack(directory: Path, jobs: Sequence[Job]) -> list[dict[str, bytes]]:
    """The bytes of the members trained at once, in a pack of all."""
    places = [directory / str(job.number) for job in jobs]
    run_pack([job.config for job in jobs], places, [job.overrides for job in jobs], quiet=True)
    return [bytes_of(slot) for slot in places]


SEEDS = [{"seed": seed, "optimizer.lr": 0.1 * (seed + 1)} for seed in range(7)]


@pytest.mark.slow
def test_members_that_take_free_places_are_as_in_a_pack_of_all(tmp_path):
    """Seven members in four places, some of which stop early, dropout, batch norm and averages within:
    tensors and histories have the bytes of the pack of seven."""
    noisy = {"regularizer": ["dropout", "batch_norm", "ema"], "optimizer": "adam", "trainer.max_epochs": 5}
    jobs = jobs_of([noisy | each | (STOPS if each["seed"] % 2 else {}) for each in SEEDS])
    log = drain(tmp_path / "sweep", jobs, size=4)
    assert log.ends == {n: "stopped_early" if n % 2 else "finished" for n in range(7)}
    found = [bytes_of(tmp_path / "sweep" / str(n)) for n in range(7)]
    assert found == as_pack(tmp_path / "pack", jobs)
    # Places are filled as soon as they are free: with members at different epochs side by side.
    assert max(running for _, running in log.sizes) == 4
    assert log.sizes[2][1] == 4
    assert log.sizes[-1][0] == 2


@pytest.mark.slow
def test_what_was_read_is_shown_once_for_each_source(tmp_path):
    """The card of a single run, once for all folds, settings and kinds; another data set has its own."""
    changes = [{"data.folds": 4, "data.fold": 0}, {"data.folds": 4, "data.fold": 1}, {"model.width": 4}]
    log = drain(tmp_path / "sweep", jobs_of([*changes, {"data": "sine", "data.rows": 40, "loss": "mse"}]))
    assert [card.splitlines()[0] for card in log.said] == [
        "data=spirals: binary, target class (2 classes)",
        "data=sine: regression, target y",
    ]


@pytest.mark.slow
def test_kinds_are_trained_one_after_another(tmp_path):
    """Two widths and two losses: each member has the bytes of a pack of its own kind."""
    jobs = jobs_of([each | {"model.width": 4 + each["seed"] % 2} for each in SEEDS])
    assert set(drain(tmp_path / "sweep", jobs).ends) == set(range(7))
    for parity in (0, 1):
        alike = [job for job in jobs if job.number % 2 == parity]
        for job, found in zip(alike, as_pack(tmp_path / f"pack-{parity}", alike), strict=True):
            assert bytes_of(tmp_path / "sweep" / str(job.number)) == found


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4])
def test_what_a_member_costs_beside_its_training(tmp_path, monkeypatch, size):
    """The files of one that ended, what waits for the disk, and what is asked again of all that wait."""
    synced, asked = [], []
    monkeypatch.setattr("os.fsync", lambda number, fsync=os.fsync: (synced.append(number), fsync(number))[1])
    data_key = setup.data_key
    monkeypatch.setattr(setup, "data_key", lambda config: (asked.append(config), data_key(config))[1])
    jobs = jobs_of([{"seed": seed, "logger": ["tensorboard"]} for seed in range(12)])
    drain(tmp_path, jobs, size=size, packed=size > 1)
    for job in jobs:
        found = [path for path in (tmp_path / str(job.number)).rglob("*") if path.is_file()]
        assert {path.name for path in found if not path.name.startswith("events.")} == {
            *(*checkpoints.FILES, "manifest.json", "config.yaml", "metrics.jsonl", "overrides.yaml"),
            *("preprocessing.json", "summary.json", "timings.jsonl"),
        }
        assert len(found) == 12
    saved = len(checkpoints.FILES) + 1 + 3  # the files, and the folders from the new one to the member's
    assert len(synced) == len(jobs) * (saved + 1)  # and the summary
    assert len(asked) <= 6 * len(jobs)  # not those that wait times those that end


@pytest.mark.slow
def test_members_one_after_another_are_runs_alone(tmp_path):
    """Without packing every member has the bytes of a run of its own."""
    jobs = jobs_of(SEEDS[:3])
    drain(tmp_path / "sweep", jobs, size=1, packed=False)
    for job in jobs:
        (alone,) = as_pack(tmp_path / f"alone-{job.number}", [job])
        assert bytes_of(tmp_path / "sweep" / str(job.number)) == alone


def stopped(directory: Path, jobs: Sequence[Job], number: int, **named: Any) -> Log:
    """A sweep that hears a signal in the step after so many."""
    interrupts, steps = Interrupts(), iter(range(number))
    plain = Engine.step

    def step(self, *arguments):
        if next(steps, None) is None:
            interrupts.received = 15
        return plain(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "step", step)
        log = drain(directory, jobs, interrupts=interrupts, **named)
    assert interrupts.received
    return log


@pytest.mark.slow
@pytest.mark.parametrize("number", exhaustive_after(2, [6, 1, 4, 11]))
def test_an_interrupted_sweep_goes_on_to_the_same_bytes(tmp_path, number):
    """A signal in the middle of an epoch, with members at different epochs: drained again, all have
    their bytes, and what was finished is not trained again."""
    jobs = jobs_of([each | (STOPS if each["seed"] % 2 else {}) for each in SEEDS])
    first = stopped(tmp_path / "sweep", jobs, number)
    before = {n: (tmp_path / "sweep" / str(n) / "summary.json").read_bytes() for n in first.ends}
    second = drain(tmp_path / "sweep", jobs)
    assert set(first.ends) | set(second.ends) == set(range(7))
    assert not set(first.ends) & set(second.ends)
    assert before == {n: (tmp_path / "sweep" / str(n) / "summary.json").read_bytes() for n in first.ends}
    found = [bytes_of(tmp_path / "sweep" / str(n)) for n in range(7)]
    assert found == as_pack(tmp_path / "pack", jobs)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [True, False])
def test_a_member_goes_on_as_it_was_begun(tmp_path, packed):
    """One that was begun alone is not packed with those that are now, nor the other way round."""
    jobs = jobs_of(SEEDS[:4])
    whole = tmp_path / "whole"
    drain(whole / "before", jobs[:1], size=4 if packed else 1, packed=packed)
    drain(whole / "after", jobs[1:], size=1 if packed else 4, packed=not packed)
    stopped(tmp_path / "sweep", jobs[:1], 6, size=4 if packed else 1, packed=packed)
    drain(tmp_path / "sweep", jobs, size=1 if packed else 4, packed=not packed)
    for job in jobs:
        expected = whole / ("after" if job.number else "before") / str(job.number)
        assert bytes_of(tmp_path / "sweep" / str(job.number)) == bytes_of(expected)


@pytest.mark.slow
def test_members_that_another_worker_has_moved_on_are_looked_at_again(tmp_path):
    """It stopped at different places of their epochs, after this one had seen that they had not begun."""
    jobs, here = jobs_of(SEEDS[:4]), tmp_path / "sweep"
    drain(tmp_path / "whole", jobs)

    class Another(NoOthers):
        """Has members 2 and 3 until it is looked for the second time, and stops in them."""

        asked = 0

        def take(self, numbers, limit):
            self.asked += 1
            if self.asked == 2:
                stopped(here, jobs[2:3], 1, size=2)
                stopped(here, jobs[3:], 2, size=2)
            return [n for n in numbers if self.asked > 1 or n < 2]

    log = drain(here, jobs, claims=Another())
    assert set(log.ends) == {0, 1, 2, 3}
    for number in range(4):
        assert bytes_of(here / str(number)) == bytes_of(tmp_path / "whole" / str(number))


@pytest.mark.slow
def test_folds_share_a_pack(tmp_path):
    """Four folds of equal size and two seeds, in six places: each member has the bytes of its pack, and
    its own fold's examples."""
    changes = [
        {"seed": s, "data.folds": 4, "data.fold": f, "data.test": 0.1} for s in (0, 1) for f in range(4)
    ]
    jobs = jobs_of(changes)
    log = drain(tmp_path / "sweep", jobs, size=6)
    assert set(log.ends) == set(range(8))
    for pair in ((0, 4), (1, 5), (2, 6), (3, 7)):
        alike = [jobs[n] for n in pair]
        for job, found in zip(alike, as_pack(tmp_path / str(pair[0]), alike), strict=True):
            assert bytes_of(tmp_path / "sweep" / str(job.number)) == found
    assert len({bytes_of(tmp_path / "sweep" / str(n))["metrics"] for n in range(8)}) == 8


@pytest.mark.slow
def test_a_member_that_diverges_changes_no_byte_of_the_others(tmp_path):
    """S1: three of seven explode at their first step; the rest is as in a pack without them."""
    jobs = jobs_of([each | ({"optimizer.lr": 1e39} if each["seed"] in (1, 2, 5) else {}) for each in SEEDS])
    log = drain(tmp_path / "sweep", jobs)
    assert log.ends == {n: "diverged" if n in (1, 2, 5) else "finished" for n in range(7)}
    good = [jobs[n] for n in (0, 3, 4, 6)]
    for job, found in zip(good, as_pack(tmp_path / "pack", good), strict=True):
        assert bytes_of(tmp_path / "sweep" / str(job.number)) == found


@pytest.mark.slow
def test_what_is_legal_and_not_meant_is_said_once(tmp_path):
    """A warning that all members of two kinds share comes once."""
    common = {"scheduler.warmup_steps": 1000}
    jobs = jobs_of([each | common | {"model.width": 4 + each["seed"] % 2} for each in SEEDS[:4]])
    log = drain(tmp_path, jobs)
    assert [text for text in log.warnings if "warmup_steps" in text] == log.warnings
    assert len(log.warnings) == 1


def broken_at(numbers, error=RuntimeError("boom")):
    """Something that fails while a member of these numbers has a slot."""

    def at_epoch(pack):
        if any(slot.job is not None and slot.job.number in numbers for slot in pack.slots):
            raise error

    return at_epoch


@pytest.mark.slow
def test_one_broken_member_is_found_and_the_others_end(tmp_path):
    """A bug that only one member brings out ends that one, with its reason, and costs no other."""
    jobs = jobs_of(SEEDS)
    log = drain(tmp_path, jobs, size=7, log=Log(broken_at({2})))
    assert set(log.failures) == {2}
    assert "RuntimeError: boom" in log.failures[2]
    assert set(log.ends) == set(range(7)) - {2}
    assert ended(tmp_path / "2").status == "failed"
    assert "Traceback" in (tmp_path / "2" / "error.txt").read_text()


def test_the_same_bug_in_all_stops_after_the_first_pack(tmp_path):
    """S8: one message, and no second pack is begun."""
    jobs = jobs_of([each | {"model.width": 4 + each["seed"] % 2} for each in SEEDS])
    with pytest.raises(SameMistake, match="boom"):
        drain(tmp_path, jobs, log=Log(broken_at(set(range(7)))))
    assert not any((tmp_path / str(n)).exists() for n in (1, 3, 5))


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "the first member failed; nothing"),
        (3, "all 3 members of the first pack failed in the same way; nothing"),
    ],
)
def test_how_many_failed_alike_is_said_in_the_right_number(count, said):
    """One member is not alike to itself."""
    with pytest.raises(runner.NothingStarted, match=f"no such file\n\\({said} else was started"):
        runner._all_alike(SameMistake(UserError("no such file"), count), Mock())


@pytest.mark.slow
def test_what_is_too_large_is_halved_until_the_culprit_stands_alone(tmp_path, monkeypatch):
    """S3: memory runs out in the second epoch for more than three members together, and at once for
    number 5: that one fails with its reason, the others end with their bytes."""
    jobs, plain = jobs_of(SEEDS), Engine.advance

    def advance(self, state, batches, arguments):
        late = float(arguments[0][1].max()) > 3
        if (len(self.configs) > 3 and late) or any(config.seed == 5 for config in self.configs):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return plain(self, state, batches, arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "advance", advance)
        log = drain(tmp_path / "sweep", jobs, size=7)
    assert set(log.failures) == {5}
    assert "memory" in log.failures[5]
    assert any("at a time" in text for text in log.warnings)
    good = [job for job in jobs if job.number != 5]
    for job, found in zip(good, as_pack(tmp_path / "pack", good), strict=True):
        assert bytes_of(tmp_path / "sweep" / str(job.number)) == found
