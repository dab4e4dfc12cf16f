"""The screen of a sweep: what it counts is what happened, it is cheap, and it reads anywhere."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from slipstream.sweeps import screen as module
from slipstream.sweeps.plan.job import Job
from slipstream.sweeps.plan.space import Choices, Space
from slipstream.sweeps.plan.sweep_settings import SearchSettings
from slipstream.sweeps.screen import SweepScreen

EPOCHS, STEPS = 10, 20


def jobs(count):
    return tuple(
        Job(i, i, (), {"optimizer": "adam", "optimizer.lr": (i + 1) / 100}, None) for i in range(count)
    )


def plan_of(count, metric="val/loss"):
    config = SimpleNamespace(early_stopping=SimpleNamespace(settings={"metric": metric}))
    return SimpleNamespace(
        jobs=jobs(count),
        grid=({},),
        members=1,
        settings=SimpleNamespace(repeats=1, folds=None),
        notes=("optimizer.momentum only where it applies",),
        space=Space((Choices("optimizer", ("adam",)), Choices("optimizer.lr", tuple(range(count))))),
        example=SimpleNamespace(config=config),
    )


class FakePack:
    """Members that count epochs; member k's value is what `value` says after each."""

    def __init__(self, jobs, value=lambda job, epoch: 1.0):
        self.value = value
        config = SimpleNamespace(trainer=SimpleNamespace(max_epochs=EPOCHS))
        self.engine = SimpleNamespace(batching=SimpleNamespace(steps=STEPS))
        self.slots = [
            SimpleNamespace(
                job=job, member=SimpleNamespace(running=True, epoch=0, best_value=None, config=config)
            )
            for job in jobs
        ]
        self.members = [slot.member for slot in self.slots]

    def train(self):
        for slot in self.slots:
            member = slot.member
            member.epoch += 1
            member.best_value = self.value(slot.job, member.epoch)
            member.running = member.epoch < EPOCHS


def epoch(screen, pack):
    """Tell the screen of a pack's epoch, and before its first one that it begins."""
    if screen._pack is not pack:
        screen.begins(pack)
    screen.epoch(None, [])


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now.seconds)
    return now


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Makes a screen on a console of any kind: (screen, what it has written)."""
    screens = []

    def make(kind="plain", count=4, width=80, terminal=False, minimize=True, plan=None):
        written = io.StringIO()
        made = Console(file=written, width=width, force_terminal=terminal, color_system=None, highlight=False)
        monkeypatch.setattr(module, "console", lambda: made)
        screens.append(SweepScreen(kind, plan or plan_of(count), tmp_path, minimize))
        return screens[-1], written

    yield make
    for screen in screens:
        screen.close()


def test_the_heading_says_what_is_swept(opened):
    """The members, the axes with their sizes, and the plan's notes."""
    _, written = opened(count=6)
    assert written.getvalue().splitlines() == [
        "6 members: 1 x optimizer, 6 x optimizer.lr",
        "optimizer.momentum only where it applies",
    ]


def test_a_plain_line_comes_every_few_seconds_and_has_it_all(opened, clock):
    """Counts, the best so far with its overrides, member-steps a second and the time left."""
    screen, written = opened()
    pack = FakePack(jobs(4), lambda job, epoch: 1 / (epoch * (job.number + 1)))
    for _ in range(4):
        clock.seconds += 2
        pack.train()
        epoch(screen, pack)
    lines = written.getvalue().splitlines()[2:]
    # 2 epochs of 10 in 4 s after the first: 14 s for the rest. 3 epochs of 4 members with 20 updates each:
    # 40 a second.
    assert lines == [
        "0:06  0/4 members  4 running in pack 1  40 member-steps/s  0:14 left"
        "  best val/loss 0.08333: optimizer=adam optimizer.lr=0.04"
    ]


def test_starting_and_compiling_is_no_speed(opened, clock):
    """There is no estimate by an epoch that a compilation came before, and later ones leave that out."""
    screen, _ = opened()
    pack = FakePack(jobs(4))
    assert screen._left is None
    clock.seconds += 60
    pack.train()
    epoch(screen, pack)
    assert screen._left is None
    assert screen._parts()["left"] == ""
    for left in (8, 7, 6):
        clock.seconds += 1
        pack.train()
        epoch(screen, pack)
        assert screen._left == pytest.approx(left)


def test_members_that_have_stopped_are_made_before_they_are_brought_to_their_end(opened, clock):
    """Two of four stop after their second epoch: what is left is of the other two."""
    screen, _ = opened()
    pack = FakePack(jobs(4))
    for _ in range(2):
        clock.seconds += 1
        pack.train()
        for member in pack.members[:2]:
            member.running = member.epoch < 2
        epoch(screen, pack)
    # 0.4 members' worth in the first second; since then the rest of two members, and 0.1 of two more.
    assert screen._left == pytest.approx(1.6 / 2.0)
    screen.ended(jobs(4)[0], "stopped_early", 1.0)
    assert screen._left == pytest.approx(1.6 / 2.0)


def test_ended_members_are_counted_by_how_they_ended(opened, clock):
    """Each once; only sound ones can be the best; the last epoch's updates count too."""
    screen, written = opened(count=6)
    pack, six = FakePack(jobs(6)), jobs(6)
    pack.train()
    epoch(screen, pack)
    for job, status, value in zip(
        six, ("finished", "stopped_early", "pruned", "diverged"), (0.5, 0.4, 0.1, 0.0), strict=False
    ):
        screen.ended(job, status, value)
        screen.ended(job, status, value)
    screen.failed(six[4], "ValueError: bang")
    parts = screen._parts()
    assert parts["ended"] == "5/6 members"
    assert parts["counts"].endswith("1 finished, 1 stopped early, 1 pruned, 1 diverged, 1 failed")
    assert parts["best"] == "best val/loss 0.4: optimizer=adam optimizer.lr=0.02"
    assert "member 4 failed: optimizer=adam optimizer.lr=0.05: ValueError: bang" in written.getvalue()


def test_when_all_have_ended_no_time_is_left(opened, clock):
    """Members that end are no longer among those that are under way."""
    screen, _ = opened()
    pack = FakePack(jobs(4))
    for _ in range(EPOCHS - 1):
        clock.seconds += 1
        pack.train()
        epoch(screen, pack)
    for job in jobs(4):
        screen.ended(job, "finished", 1.0)
    assert screen._left == 0


def test_the_largest_is_the_best_where_larger_is_better(opened):
    """By the metric's direction."""
    screen, _ = opened(minimize=False, plan=plan_of(3, "val/accuracy"))
    for job, value in zip(jobs(3), (0.5, 0.9, None), strict=True):
        screen.ended(job, "finished", value)
    assert screen._parts()["best"].startswith("best val/accuracy 0.9:")


def test_nothing_is_shown_for_none_but_what_went_wrong(opened, capsys):
    """Warnings and failures go to standard error."""
    screen, written = opened(kind="none")
    epoch(screen, FakePack(jobs(4)))
    screen.say("x")
    screen.warn("y")
    screen.failed(jobs(4)[2], "bang")
    screen.close()
    assert written.getvalue() == ""
    assert capsys.readouterr().err == "warning: y\nmember 2 failed: optimizer=adam optimizer.lr=0.03: bang\n"


def summary(directory, number, status, value=None):
    (directory / str(number)).mkdir(exist_ok=True)
    (directory / str(number) / "summary.json").write_text(json.dumps({"status": status, "value": value}))


def test_what_had_ended_before_is_counted_and_no_speed(opened, clock, tmp_path):
    """A resumed sweep says how much is done; the time left counts only what this process did."""
    for number in range(2):
        summary(tmp_path, number, "finished", 0.3 + number)
    summary(tmp_path, 2, "interrupted", 0.1)
    screen, written = opened(count=6)
    assert "continuing: 2 of 6 members have ended" in written.getvalue()
    assert screen._parts()["best"] == "best val/loss 0.3: optimizer=adam optimizer.lr=0.01"
    assert screen._left is None
    clock.seconds += 10
    screen.ended(jobs(6)[2], "finished", 0.2)
    screen.look()
    assert screen._left is None
    clock.seconds += 4
    screen.ended(jobs(6)[3], "finished", 0.2)
    assert screen._left == 8


def test_members_of_other_workers_are_found_in_their_folders(opened, clock, tmp_path):
    """Every few seconds; their failures are said, once."""
    screen, written = opened()
    pack = FakePack(jobs(1))
    for status, number in (("finished", 1), ("failed", 3)):
        summary(tmp_path, number, status, 0.05 if status == "finished" else None)
    for _ in range(3):
        clock.seconds += 6
        pack.train()
        epoch(screen, pack)
    assert screen._parts()["ended"] == "2/4 members"
    assert screen._parts()["best"].endswith("optimizer.lr=0.02")
    assert written.getvalue().count("member 3 failed") == 1


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_live_display_fits_and_loses_nothing(opened, width):
    """Members, clock, counts and the best are there at every width, and no line is cut."""
    screen, written = opened("bar", width=width, terminal=True)
    pack = FakePack(jobs(4), lambda job, epoch: 0.125)
    pack.train()
    screen._looked = 0.0
    epoch(screen, pack)
    screen.ended(jobs(4)[0], "diverged", None)
    screen._live.refresh()
    text = " ".join(written.getvalue().split())
    for part in (
        "1/4 members",
        "4 running in pack 1",
        "1 diverged",
        "best val/loss 0.125",
        "optimizer.lr=0.01",
    ):
        assert part in text
    assert "…" not in text
    screen.close()
    assert screen._live is None


def test_auto_is_plain_without_a_terminal_and_on_a_dumb_one(opened, monkeypatch):
    """No escape sequence is written there."""
    screen, written = opened("auto")
    assert screen.kind == "plain"
    monkeypatch.setenv("TERM", "dumb")
    screen, written = opened("auto", terminal=True)
    assert screen.kind == "plain"
    assert "\x1b" not in written.getvalue()
    monkeypatch.setenv("TERM", "xterm")
    screen, _ = opened("auto", terminal=True)
    assert screen.kind == "bar"


def test_an_epoch_of_many_members_calls_no_more_functions_a_member_than_one_of_few(opened):
    """What an epoch costs beside training is linear in the members, a few calls each."""

    def calls(count):
        screen, _ = opened(count=count)
        pack, made = FakePack(jobs(count)), [0]
        epoch(screen, pack)
        sys.setprofile(lambda frame, event, _: made.__setitem__(0, made[0] + (event == "call")))
        try:
            epoch(screen, pack)
        finally:
            sys.setprofile(None)
        return made[0]

    assert calls(500) < 20 * calls(50) + 500
    assert calls(500) < 10 * 500


def test_a_searchers_total_is_its_trials_times_their_members(opened):
    """Members that nobody has asked for yet are counted; folders of earlier trials are found."""
    plan = plan_of(0)
    plan.grid, plan.members, plan.settings, plan.trials = None, 3, object.__new__(SearchSettings), 10
    vars(plan.settings).update(repeats=3, folds=None)
    _, written = opened(plan=plan)
    assert written.getvalue().startswith(
        "30 members of 10 trials: 1 x optimizer, 0 x optimizer.lr, 3 seeds\n"
    )


def test_the_heading_names_the_members_of_a_trial(opened):
    """Seeds and folds, where the sweep's settings made them."""
    plan = plan_of(30)
    plan.members, plan.settings = 15, SimpleNamespace(repeats=3, folds=5)
    plan.space = Space((Choices("model.width", (16, 64)),))
    _, written = opened(plan=plan)
    assert written.getvalue().startswith("30 members of 2 trials: 2 x model.width, 3 seeds, 5 folds\n")
