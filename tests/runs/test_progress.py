"""The screen: what a person needs fits into any width, and names what is watched."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from slipstream.core.console import console, metrics_table
from slipstream.runs import progress
from slipstream.runs.progress import Screen, describe

RECORD = {
    "epoch": 36,
    "step": 720,
    "optimizer.lr": 0.001,
    "train/loss": 0.002589,
    "train/gradient_norm": 1.0,
    "val/loss": 0.05479,
    "val/accuracy": 0.9778,
    "val/mcc": 0.97,
}


def trained(epoch, epochs):
    """A member after some epochs, as far as the screen looks at it."""
    config = SimpleNamespace(trainer=SimpleNamespace(max_epochs=epochs))
    return SimpleNamespace(config=config, metric="val/loss", running=True, status="running", epoch=epoch)


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_epoch_and_time_left_are_never_cut(width, monkeypatch):
    """At every width the live line has its epoch, its time left, and no ellipsis."""
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, width=width, legacy_windows=False)
    monkeypatch.setattr(progress, "console", lambda: terminal)
    member = trained(0, epochs=200)
    screen = Screen("bar", [member], examples=1257)
    member.epoch, member.records = 36, [RECORD]
    screen.epoch(None, [])
    screen.close()
    last = [line for line in written.getvalue().split("\r") if "36/200" in line][-1]
    assert "epoch 36/200" in last
    assert "…" not in last
    assert ":" in last  # the time left
    assert "train/loss 0.002589" in last


def test_the_speed_is_that_of_the_epoch(monkeypatch):
    """A fast epoch after a slow one shows its own samples a second, and not the mean since the start."""
    written, now = io.StringIO(), [0.0]
    monkeypatch.setattr(progress, "console", lambda: Console(file=written, width=200))
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    member = trained(0, epochs=2)
    screen = Screen("plain", [member], examples=100)
    for epoch, seconds in ((1, 10.0), (2, 0.5)):
        now[0] += seconds
        member.epoch, member.records = epoch, [RECORD | {"epoch": epoch}]
        screen.epoch(None, [])
    assert [line.split(" samples/s")[0].split()[-1] for line in written.getvalue().splitlines()] == [
        "10",
        "200",
    ]


def test_the_time_left_does_not_count_starting_and_compiling(monkeypatch):
    """It is told from the second epoch on, by the epochs after the first."""
    written, now = io.StringIO(), [0.0]
    monkeypatch.setattr(progress, "console", lambda: Console(file=written, width=200))
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    member = trained(0, epochs=4)
    screen = Screen("plain", [member], examples=100)
    for epoch, seconds in ((1, 100.0), (2, 1.0), (3, 1.0)):
        now[0] += seconds
        member.epoch, member.records = epoch, [RECORD | {"epoch": epoch}]
        screen.epoch(None, [])
    first, second, third = written.getvalue().splitlines()
    assert "left" not in first
    assert second.endswith("  2 s left")
    assert third.endswith("  1 s left")


def test_the_monitored_metric_is_on_the_line():
    """The losses, then the metric that decides; any other one only where the loss decides."""
    assert describe(RECORD, "val/mcc") == ["train/loss 0.002589", "val/loss 0.05479", "val/mcc 0.97"]
    assert describe(RECORD, "val/loss")[-1] == "val/accuracy 0.9778"


def test_a_table_has_a_row_a_metric_and_a_dash_where_it_is_undefined():
    """Splits are columns; None is a dash, an absent split no column."""
    table = metrics_table({"train/loss": 0.5, "val/loss": None}, "t")
    written = io.StringIO()
    Console(file=written, width=60).print(table)
    assert [column.header for column in table.columns] == ["metric", "train", "val"]
    assert "0.5" in written.getvalue()
    assert "-" in written.getvalue().splitlines()[4]


def test_brackets_are_printed(capsys):
    """A list of options in a table is no style."""
    table = Table("regularizer")
    table.add_row("[swa]")
    console().print(table)
    assert "[swa]" in capsys.readouterr().out
