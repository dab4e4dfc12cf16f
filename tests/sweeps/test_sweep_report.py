"""The end of a sweep: its folders are read whatever is in them, and what is written and shown is right."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from slipstream.core.console import Output
from slipstream.sweeps.plan.job import Job, Outcome
from slipstream.sweeps.plan.space import Choices
from slipstream.sweeps.report import make, outcomes, overrides, show, write

LRS = (0.001, 0.01, 0.1)
AXES = [Choices("optimizer", ("adam", "sgd")), Choices("optimizer.lr", LRS)]
SUMMARY = {
    "status": "finished",
    "reason": "all 3 epochs done",
    "value": 0.5,
    "best_epoch": 2,
    "epochs": 3,
    "seconds": 1.5,
    "best": {"val/loss": 0.5, "val/accuracy": None},
}


def job(number, trial=0, folds=None, fold=0, mode="auto", metric="val/loss", **values):
    config = SimpleNamespace(
        seed=number,
        data=SimpleNamespace(settings={"folds": folds, "fold": fold}),
        early_stopping=SimpleNamespace(settings={"metric": metric, "mode": mode}),
    )
    return Job(number, trial, (), values, config)


def folder(directory, number, summary=None, **files):
    place = directory / str(number)
    place.mkdir()
    if summary is not None:
        (place / "summary.json").write_text(summary if isinstance(summary, str) else json.dumps(summary))
    for name, content in files.items():
        (place / name.replace("_", ".")).write_text(content)


def sweep(repeats=2, broken=None):
    """Outcomes of a grid of optimizer and lr, the best at the largest lr of adam."""
    found = []
    for trial, (name, lr) in enumerate((name, lr) for name in ("adam", "sgd") for lr in LRS):
        for seed in range(repeats):
            number = len(found)
            value = (2.0 if name == "sgd" else 1.0) - lr + 0.001 * seed * (trial + 1)
            status, reason = ("finished", "") if number not in (broken or {}) else broken[number]
            values = {"optimizer": name, "optimizer.lr": lr}
            known = None if status == "failed" else value
            best = {} if known is None else {"val/loss": known}
            row = (number, trial, values, status, reason, known, 3, 5, 1.25, seed, None, best, None)
            found.append(Outcome(*row, {} if known is None else {"test/loss": trial + 0.5 * seed}))
    return found


def shown(report, width=80, terminal=False):
    written = io.StringIO()
    show(Console(file=written, width=width, force_terminal=terminal, color_system=None), report)
    return written.getvalue()


# Reading folders


def test_a_summary_is_the_outcome(tmp_path):
    """Status, value, best epoch and metrics of an ended member are those of its summary."""
    folder(tmp_path, 7, SUMMARY)
    (found,) = outcomes(tmp_path, [job(7, trial=3, folds=5, fold=2, lr=0.1)])
    assert (found.status, found.value, found.best_epoch, found.epochs) == ("finished", 0.5, 2, 3)
    assert (found.number, found.trial, found.seed, found.fold) == (7, 3, 7, 2)
    assert found.best == {"val/loss": 0.5, "val/accuracy": None}
    assert found.directory == tmp_path / "7"
    assert outcomes(tmp_path, [job(7)])[0].fold is None


@pytest.mark.parametrize(
    "summary",
    [
        *("", "{", "[]", "null", '"x"', "{}", "\0\0\0"),
        *(json.dumps({k: v for k, v in SUMMARY.items() if k != gone}) for gone in SUMMARY),
        *(json.dumps(SUMMARY | {"best": []}), json.dumps(SUMMARY | {"status": "?"})),
        json.dumps(SUMMARY | {"epochs": None}),
    ],
)
def test_a_damaged_summary_counts_as_none(tmp_path, summary):
    """The member is one that has not ended, and nothing is raised."""
    folder(tmp_path, 0, summary)
    assert outcomes(tmp_path, [job(0)])[0].status == "waiting"


def test_a_value_that_is_no_number_is_none(tmp_path):
    """JSON's NaN and infinity, or a text, are no values."""
    for number, value in enumerate(("NaN", "Infinity", '"0.5"', "true")):
        folder(tmp_path, number, json.dumps(SUMMARY).replace('"value": 0.5', f'"value": {value}'))
    assert [found.value for found in outcomes(tmp_path, [job(k) for k in range(4)])] == [None] * 4


@pytest.mark.parametrize(("metric", "value", "epoch"), [("val/loss", 0.2, 2), ("val/accuracy", 0.9, 3)])
def test_a_member_that_has_not_ended_stands_where_its_lines_say(tmp_path, metric, value, epoch):
    """The best of its epochs in the metric's direction; a torn last line is none."""
    rows = [(0.3, 0.7), (0.2, 0.8), (0.4, 0.9)]
    text = "".join(
        json.dumps({"epoch": i, "step": i, "val/loss": a, "val/accuracy": b}) + "\n"
        for i, (a, b) in enumerate(rows, start=1)
    )
    folder(
        tmp_path, 0, metrics_jsonl=text + '{"epoch": 4, "val/lo', timings_jsonl='{"epoch":1,"seconds":2.5}\n'
    )
    (found,) = outcomes(tmp_path, [job(0, metric=metric)])
    assert (found.status, found.value, found.best_epoch, found.epochs) == ("running", value, epoch, 3)
    assert found.seconds == 2.5
    assert found.best["val/loss"] == rows[epoch - 1][0]


def test_what_is_not_there_waits(tmp_path):
    """No folder, an empty one, and a file in a folder's place are waiting; a configuration has begun."""
    folder(tmp_path, 1)
    (tmp_path / "2").write_text("")
    folder(tmp_path, 3, config_yaml="seed: 0\n")
    found = outcomes(tmp_path, [job(k) for k in range(4)])
    assert [one.status for one in found] == ["waiting", "waiting", "waiting", "running"]


def test_of_a_member_that_has_ended_one_file_is_read(tmp_path, monkeypatch):
    """A sweep of thousands is looked at often: the summary alone is opened."""
    for number in range(3):
        folder(tmp_path, number, SUMMARY)
    read, plain = [], Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, **kind: read.append(self.name) or plain(self, **kind))
    found = outcomes(tmp_path, [job(k) for k in range(3)])
    assert [outcome.status for outcome in found] == ["finished"] * 3
    assert read == ["summary.json"] * 3


# Files


def test_the_leaderboard_has_a_row_a_member_the_best_trial_first(tmp_path):
    """Values as they would be typed, numbers exact, members of a trial together with its rank."""
    found = sweep()
    write(tmp_path, found, AXES, "val/loss", True)
    with open(tmp_path / "leaderboard.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(i // 2 + 1) for i in range(12)]
    assert (rows[0]["optimizer"], rows[0]["optimizer.lr"]) == ("adam", "0.1")
    assert sorted(int(row["number"]) for row in rows) == list(range(12))
    for row in rows:
        assert float(row["value"]) == found[int(row["number"])].value == float(row["val/loss"])
    assert list(rows[0])[:7] == ["rank", "number", "trial", "optimizer", "optimizer.lr", "seed", "fold"]


def test_null_and_what_does_not_apply_differ_in_the_leaderboard(tmp_path):
    """null is written, a key without meaning is empty; lists and bools are written as typed."""
    values = [{"a": None, "b": ["l2", "dropout"]}, {"b": True}]
    found = [
        Outcome(i, i, v, "finished", "", 1.0, 1, 1, 1.0, 0, None, {}, None) for i, v in enumerate(values)
    ]
    write(tmp_path, found, [Choices("a", (None,))], "val/loss", True)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    assert [(row["a"], row["b"]) for row in rows] == [("null", "[l2,dropout]"), ("", "true")]


def test_the_report_is_json_with_all_that_is_shown(tmp_path):
    """Trials with their comparison, advice and failures."""
    made = write(tmp_path, sweep(3, {17: ("failed", "bang")}), AXES, "val/loss", True)
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["statuses"] == {"finished": 17, "failed": 1}
    first, second = found["trials"][:2]
    assert first["against_the_best"] is None
    assert second["against_the_best"]["verdict"] in ("worse", "too few to tell")
    assert second["against_the_best"]["pairs"] == 3
    assert found["trials"][-1]["remark"] == "1 of 3 failed"
    assert found["advice"] == list(made.advice)
    assert found["failures"] == [
        {"number": 17, "values": {"optimizer": "sgd", "optimizer.lr": 0.1}, "reason": "bang"}
    ]


@pytest.mark.parametrize("statuses", [[], ["waiting"], ["diverged", "diverged"], ["failed"], ["running"]])
def test_a_sweep_without_a_single_result_has_a_report(tmp_path, statuses):
    """Nothing, or nothing sound, is written and shown without a best trial."""
    found = [
        Outcome(i, i, {"lr": i}, status, "why", None, 0, 0, 0.0, 0, None, {}, None)
        for i, status in enumerate(statuses)
    ]
    report = write(tmp_path, found, [Choices("lr", (0, 1))], "val/loss", True)
    assert report.best is None
    text = shown(report)
    assert "best:" not in text
    assert "rank" not in text
    if statuses == ["diverged", "diverged"]:
        assert "all members diverged:\n  0  lr=0: why\n  1  lr=1: why\nagainst divergence: lower" in text


# The screen


def test_what_is_shown_of_a_sweep(tmp_path):
    """The counts, the best trial with its exact overrides, mean, deviation and n, advice, and the folder."""
    text = shown(make(tmp_path, sweep(), AXES, "val/loss", True))
    assert "12 members of 6 trials: 12 finished" in text
    first = next(line for line in text.splitlines() if line.startswith("   1  "))
    assert first.split() == ["1", "adam", "0.1", "0.9015", "±", "0.0021", "(2)", "4"]
    assert "best: optimizer=adam optimizer.lr=0.1\n" in text
    assert "the best optimizer.lr, 0.1, is the largest tried: widen it upwards" in text
    assert "compared with it: 5 too few to tell (paired t-test and signed ranks over seeds, Holm" in text
    assert "?: too few to tell, 2 members per trial; use more repeats, such as sweep.repeats=10" in text
    assert "folder: of the trial's best member\n" in text
    assert f"sweep: {tmp_path}\n" in text
    assert "tensorboard" not in text
    (tmp_path / "events.out.tfevents.1").touch()
    assert f"curves: tensorboard --logdir {tmp_path}\n" in shown(
        make(tmp_path, sweep(), AXES, "val/loss", True)
    )


def test_repeated_folds_are_told_to_have_more_folds(tmp_path):
    """More seeds of three folds tell nothing more; the advice can be typed."""
    draw = np.random.default_rng(0)
    found = [
        Outcome(
            *(100 * trial + 3 * seed + fold, trial, {"lr": trial}, "finished", ""),
            *(float(draw.normal()), 1, 1, 1.0, seed, fold, {}, None),
        )
        for trial in range(2)
        for seed in range(10)
        for fold in range(3)
    ]
    text = shown(make(tmp_path, found, [Choices("lr", (0, 1))], "val/loss", True))
    assert "too few to tell, 30 members of 3 folds per trial; use more folds, such as sweep.folds=10" in text


def test_only_the_best_ten_are_shown(tmp_path):
    """And the number of the others is said."""
    found = [
        Outcome(i, i, {"lr": i / 10}, "finished", "", i / 7, 1, 1, 1.0, 0, None, {}, None) for i in range(256)
    ]
    text = shown(make(tmp_path, found, [Choices("lr", tuple(i / 10 for i in range(256)))], "val/loss", True))
    assert "and 246 more in leaderboard.csv" in text
    assert "best member" not in text
    assert "one member per trial, so noise cannot be estimated" in text
    assert "±" not in text


def test_verdicts_are_marked(tmp_path):
    """A trial that is no worse than the noise says tie, one that clearly is worse, in words that count."""
    values = {0: (1.0, 1.2, 1.1, 1.3, 0.9), 1: (1.1, 1.05, 1.2, 1.25, 0.95), 2: (3.0, 3.1, 3.2, 3.1, 3.0)}
    found = [
        Outcome(5 * t + s, t, {"lr": t}, "finished", "", v, 1, 1, 1.0, s, None, {}, None)
        for t, row in values.items()
        for s, v in enumerate(row)
    ]
    text = shown(make(tmp_path, found, [Choices("lr", (0, 1, 2))], "val/loss", True))
    rows = [line for line in text.splitlines() if line[:4].strip() in ("1", "2", "3")]
    assert ["tie" in row for row in rows] == [False, True, False]
    assert ["worse" in row for row in rows] == [False, False, True]
    assert "compared with it: 1 worse, 1 tie (paired t-test and signed ranks over seeds, Holm's" in text
    assert "too few" not in text


def test_one_trial_has_no_name_and_nothing_beside_it(tmp_path):
    """Repeats of one configuration: a mean, and no best member that chance chose."""
    found = [
        Outcome(i, 0, {"seed": i}, "finished", "", float(v), 1, 1, 1.0, i, None, {}, None)
        for i, v in enumerate((1, 2, 6))
    ]
    text = shown(make(tmp_path, found, [Choices("seed", (0, 1, 2))], "val/loss", True))
    assert "3 members of 1 trial: 3 finished" in text
    assert "3 ± 2.6 (3)" in text
    assert "best:" not in text
    assert "compared" not in text


def test_trials_are_told_apart_by_what_differs(tmp_path):
    """A key with one value is no column."""
    found = [
        Outcome(
            i, i, {"optimizer": "adam", "optimizer.lr": lr}, "finished", "", lr, 1, 1, 1.0, 0, None, {}, None
        )
        for i, lr in enumerate((0.1, 0.2))
    ]
    axes = [Choices("optimizer", ("adam",)), Choices("optimizer.lr", (0.1, 0.2))]
    text = shown(make(tmp_path, found, axes, "val/loss", True))
    assert "rank  lr   val/loss" in text
    assert "best: optimizer=adam optimizer.lr=0.1" in text


# Test scores


def test_test_scores_are_shown_of_the_chosen_trial_alone(tmp_path):
    """Not in the leaderboard, not of other trials, not of what ranks: mean and deviation of the best one."""
    report = write(tmp_path, sweep(3), AXES, "val/loss", True)
    assert "test" not in (tmp_path / "leaderboard.csv").read_text()
    saved = json.loads((tmp_path / "report.json").read_text())
    values = [2, 2.5, 3]  # of trial 2, adam at 0.1
    assert report.best.trial == 2
    assert saved["test_of_the_best"] == {
        "test/loss": {"mean": pytest.approx(np.mean(values)), "std": pytest.approx(0.5), "n": 3}
    }
    text = shown(report)
    assert "test scores of the best (not used for selection): test/loss 2.5 ± 0.5 (3)" in text
    assert text.count("test/loss") == 1


def test_test_scores_change_no_rank(tmp_path):
    """Whatever they are, report and leaderboard but for the best one's own are the same bytes."""
    found = sweep(3)
    write(tmp_path, found, AXES, "val/loss", True)
    before = (tmp_path / "leaderboard.csv").read_bytes()
    write(tmp_path, [replace(o, test={"test/loss": -1.0 * o.number}) for o in found], AXES, "val/loss", True)
    assert (tmp_path / "leaderboard.csv").read_bytes() == before


@pytest.mark.parametrize("status", ["running", "waiting", "interrupted"])
def test_before_the_end_no_test_score_is_shown(tmp_path, status):
    """While a member is still to be trained the choice is not made."""
    found = sweep(3)
    found[-1] = replace(found[-1], status=status)
    assert make(tmp_path, found, AXES, "val/loss", True).test == {}
    found[-1] = replace(found[-1], status="diverged")
    assert make(tmp_path, found, AXES, "val/loss", True).test


def test_a_summarys_test_scores_are_kept_apart(tmp_path):
    """What ranks cannot see them: they have a place of their own."""
    best = {"val/loss": 0.5, "test/loss": 0.25, "test/accuracy": None}
    folder(tmp_path, 0, SUMMARY | {"best": best})
    (found,) = outcomes(tmp_path, [job(0)])
    assert found.best == {"val/loss": 0.5}
    assert found.test == {"test/loss": 0.25, "test/accuracy": None}


@pytest.mark.parametrize(
    ("epochs", "test", "fold", "said"),
    [(5, {}, True, True), (1, {}, True, False), (5, {"test/loss": 1.0}, True, False), (5, {}, False, False)],
)
def test_folds_that_judge_by_what_chose_the_epoch_are_optimistic(tmp_path, epochs, test, fold, said):
    """Said where no test rows stand apart, and the best of several epochs is taken."""
    found = [replace(o, fold=o.seed if fold else None, seed=0, epochs=epochs, test=test) for o in sweep(5)]
    text = shown(make(tmp_path, found, AXES, "val/loss", True))
    assert ("the values are optimistic" in text) is said


def test_failures_are_listed_with_their_overrides_and_the_way_to_run_just_them_again(tmp_path):
    """Each with its number, what was swept and why; a resume tries them again."""
    broken = {1: ("failed", "ValueError: bang"), 3: ("failed", "out of memory"), 5: ("diverged", "inf")}
    text = shown(make(tmp_path, sweep(2, broken), AXES, "val/loss", True))
    assert "1  optimizer=adam optimizer.lr=0.001: ValueError: bang" in text
    assert f"to train them again after fixing the cause: python train.py resume={tmp_path}\n" in text
    assert "\ndiverged:\n  5  optimizer=adam optimizer.lr=0.1: inf\nagainst divergence: lower" in text
    assert "1 of 2 diverged" in text


def test_members_that_diverged_are_named_with_step_reason_and_advice(tmp_path):
    """The first three with what was swept and why, the others by number, and what to do about it."""
    broken = {k: ("diverged", f"the loss was nan at step {k} (epoch 1)") for k in range(6, 12)}
    text = shown(make(tmp_path, sweep(2, broken), AXES, "val/loss", True))
    assert "  6  optimizer=sgd optimizer.lr=0.001: the loss was nan at step 6 (epoch 1)\n" in text
    assert "  8  optimizer=sgd optimizer.lr=0.01: " in text
    assert "step 9" not in text
    assert "  and 9, 10, 11; their reasons are in leaderboard.csv\n" in text
    assert "against divergence: lower optimizer.lr, or add regularizer=gradient_clipping\n" in text


@pytest.mark.parametrize(
    ("best_epoch", "status", "keys", "said"),
    [
        (5, "finished", {}, True),
        (4, "finished", {}, False),
        (5, "stopped_early", {}, False),
        (5, "finished", {"trainer.max_epochs": 5}, False),
    ],
)
def test_a_best_trial_that_improved_to_the_end_may_train_longer(tmp_path, best_epoch, status, keys, said):
    """Said where every member's best epoch is its last one, and nobody swept their number."""
    found = [
        replace(o, best_epoch=best_epoch, epochs=5, status=status, values={**o.values, **keys})
        for o in sweep(2)
    ]
    text = shown(make(tmp_path, found, AXES, "val/loss", True))
    assert ("more epochs may help: trainer.max_epochs=10\n" in text) is said
    one = [replace(o, best_epoch=1, epochs=1) for o in found]
    assert "may be better" not in shown(make(tmp_path, one, AXES, "val/loss", True))


def test_a_pipe_keeps_the_tables_lines_whole(tmp_path):
    """However narrow Rich takes a pipe for, every column is there on one line."""
    long = [
        replace(o, values={f"a.{'very_' * 6}{key.replace('.', '_')}": v for key, v in o.values.items()})
        for o in sweep(2)
    ]
    text = shown(make(tmp_path, long, [], "val/loss", True), width=80)
    (head,) = [line for line in text.splitlines() if line.startswith("rank")]
    assert len(head) > 80
    assert head.split() == [
        "rank",
        f"{'very_' * 6}optimizer",
        f"{'very_' * 6}optimizer_lr",
        "val/loss",
        "folder",
    ]
    assert "   1  adam" in text
    assert "…" not in text


def test_a_tables_numbers_have_one_notation(tmp_path):
    """Thousands are written out, mean and deviation alike."""
    found = [replace(o, value=None if o.value is None else 12345 * o.value) for o in sweep(2)]
    text = shown(make(tmp_path, found, AXES, "val/loss", True))
    assert "11129 ± 26 (2)" in text
    assert "e+" not in text


@pytest.mark.parametrize("width", [60, 80])
def test_nothing_is_cut_on_a_narrow_terminal(tmp_path, width):
    """Long keys fold; every value and every number of the table is there, and no line is wider."""
    found = sweep()
    long = [
        Outcome(o.number, o.trial, {f"{k}_and_more": v for k, v in o.values.items()}, *rest)
        for o in found
        for rest in [(o.status, "", o.value, 1, 1, 1.0, o.seed, None, {}, None)]
    ]
    text = shown(make(tmp_path, long, [], "val/loss", True), width, terminal=True)
    table = text[text.index("rank") : text.index("best:")]
    assert "…" not in text
    assert all(len(line) <= width for line in table.splitlines())
    for lr in LRS:
        assert re.search(rf"[ =]{lr:g}\b", table)


def test_the_table_reads_in_a_pipe_and_on_a_dumb_terminal(tmp_path, monkeypatch, capfd):
    """No escape sequences; an encoding without the sign of deviation gets another one."""
    report = make(tmp_path, sweep(), AXES, "val/loss", True)
    monkeypatch.setenv("TERM", "dumb")
    show(Output(highlight=False), report)
    text = capfd.readouterr().out
    assert "\x1b" not in text
    assert "0.9015" in text
    path = tmp_path / "ascii.txt"
    with open(path, "w", encoding="ascii") as file:
        show(Console(file=file), report)
    assert "0.9015 +/- 0.0021 (2)" in path.read_text(encoding="ascii")


def test_a_reader_that_goes_away_does_not_end_it(tmp_path):
    """`| head -1`: the report is written and shown as far as it is read."""
    report = make(tmp_path, sweep(), AXES, "val/loss", True)
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as file:
        show(Output(file=file), report)


def test_overrides_are_for_a_shell():
    """Lists are quoted."""
    assert overrides({"a": 1e-05, "b": ["x", "y"], "c": None}) == 'a=1e-05 "b=[x,y]" c=null'
