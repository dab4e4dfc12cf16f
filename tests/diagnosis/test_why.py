import json

import numpy as np
import pytest
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import slipstream
from slipstream.core.errors import UserError
from slipstream.diagnosis import why_files
from slipstream.diagnosis.ablation import Ablation
from slipstream.diagnosis.branches import NOTHING, Branch, Change
from slipstream.diagnosis.evidence import Evidence
from slipstream.diagnosis.judging import Measure, gain_of
from slipstream.diagnosis.paired_effects import Effect
from slipstream.diagnosis.suspicion import suspect
from slipstream.diagnosis.trials import TrainedChange, explored
from slipstream.diagnosis.verdicts import NOTHING_FOUND, Diagnosis, TriedCause, Verdict, section
from slipstream.diagnosis.why import _ablated, _lucky, _nothing, _verdicts, why
from slipstream.runs.summary import Result

ACCURACY = Measure("val/accuracy", 0.5)


def branch(change, value, seed=0, status="finished"):
    values = {"val/accuracy": value}
    return Branch(change, seed, Result(status, "", 1, values, values, [], {}))


def branches_of(change, *values):
    return [branch(change, value, seed) for seed, value in enumerate(values)]


def trained(control, change, *values):
    return TrainedChange(change, tuple(branches_of(change, *values)), tuple(control))


def test_gains_are_paired_and_in_units_of_what_matters():
    before, after = [0.50, 0.60, 0.70], [0.90, 0.85, 0.95]
    gain = gain_of(branches_of(Change(("a=1",)), *after), branches_of(NOTHING, *before), [ACCURACY])
    apart = np.subtract(after, before) / 0.04
    assert gain.mean == pytest.approx(apart.mean())
    assert gain.p == pytest.approx(stats.ttest_rel(after, before, alternative="greater").pvalue)
    assert (gain.better, gain.pairs, gain.before, gain.after) == (
        3,
        3,
        pytest.approx(0.6),
        pytest.approx(0.9),
    )


def test_a_branch_that_diverged_counts_as_one_that_knows_nothing():
    control = [branch(NOTHING, 0.9, status="diverged")]
    assert gain_of([branch(Change(("a=1",)), 0.7)], control, [ACCURACY]).mean == pytest.approx(5)


@pytest.mark.parametrize(
    ("measure", "before", "after"),
    [(Measure("val/log_loss", 0.693), 25.0, 0.1), (Measure("val/r2", 0.0), -40.0, 0.9)],
)
def test_a_metric_far_below_chance_is_shown_as_it_is(measure, before, after):
    """The gain over it is bounded."""

    def at(value):
        values = {measure.name: value}
        return Branch(NOTHING, 0, Result("finished", "", 1, values, values, [], {}))

    gain, worse = (gain_of([at(after)], [at(value)], [measure]) for value in (before, 10 * before))
    assert (gain.before, gain.after) == (before, after)
    assert gain.mean == worse.mean


def test_the_strongest_evidence_among_equal_remedies_is_the_root_cause():
    control = branches_of(NOTHING, 0.50, 0.52, 0.49, 0.51, 0.50)
    good, equal, weak = Change(("a=1",)), Change(("b=1",)), Change(("c=1",))
    fresh = [
        trained(control, good, 0.90, 0.91, 0.89, 0.90, 0.92),
        trained(control, equal, 0.86, 0.87, 0.85, 0.86, 0.84),
        trained(control, weak, 0.60, 0.61, 0.59, 0.60, 0.62),
    ]
    gain = gain_of(branches_of(good, 0.9), control[:1], [ACCURACY])
    finalists = [
        TriedCause(f"{c} cause", s, "", c, gain) for c, s in ((good, 0.3), (equal, 0.8), (weak, 0.9))
    ]
    found = list(_verdicts(finalists, fresh, [ACCURACY]))
    assert [verdict.cause for verdict in found] == ["b=1 cause", "a=1 cause"]
    assert found[0].proof.startswith(
        "with b=1, val/accuracy is 0.856 instead of 0.504, better for 5 of 5 fresh seeds"
    )


def test_gains_that_are_all_equal_have_no_p():
    """Student's t would be infinite, and five seeds never make a p of 0."""
    change = Change(("a=1",))
    fresh = [trained(branches_of(NOTHING, *[0.5] * 5), change, *[1.0] * 5)]
    gain = gain_of(branches_of(change, 1.0), branches_of(NOTHING, 0.5), [ACCURACY])
    (found,) = _verdicts([TriedCause("dead", 0.9, "", change, gain)], fresh, [ACCURACY])
    assert found.proof.endswith("better for 5 of 5 fresh seeds (each by the same)")


def test_what_fresh_seeds_do_not_confirm_is_no_verdict():
    change = Change(("a=1",))
    fresh = [trained(branches_of(NOTHING, 0.5, 0.9, 0.6, 0.8, 0.7), change, 0.9, 0.5, 0.8, 0.6, 0.75)]
    gain = gain_of(branches_of(change, 0.9), branches_of(NOTHING, 0.5), [ACCURACY])
    assert list(_verdicts([TriedCause("luck", 0.9, "", change, gain)], fresh, [ACCURACY])) == []


def test_a_run_far_above_its_other_seeds_is_a_lucky_one(tmp_path):
    lucky = Ablation(tmp_path, "val/accuracy", False, (), (0.95, 0.70, 0.71, 0.69, 0.70))
    (verdict,) = _lucky(lucky, ACCURACY)
    assert verdict.evidence == "val/accuracy is 0.95, and 0.7 ± 0.0082 with 4 other seeds"
    usual = Ablation(tmp_path, "val/accuracy", False, (), (0.95, 0.90, 0.97, 0.93, 0.96))
    assert list(_lucky(usual, ACCURACY)) == []


def test_no_verdict_names_an_ingredient_without_which_the_run_is_far_better():
    def effect(change, values, verdict):
        return Effect(Change((change,)), "val/accuracy", values, (0.5, 0.0), 0.1, None, 0.01, 2, verdict)

    far, near = effect("activation=relu", (0.9, 0.8), "better"), effect("a=1", (0.51, 0.01), "better")
    found = Ablation("run", "val/accuracy", False, (near, far, effect("b=1", (1.0, 1.0), "worse")), ())
    assert _nothing(found, ACCURACY) == (
        "no known cause was found, but the run is better with activation=relu: val/accuracy is 0.85 "
        "instead of 0.25, better for 2 of 2 seeds"
    )
    assert _nothing(Ablation("run", "val/accuracy", False, (near,), ()), ACCURACY) == NOTHING_FOUND
    assert _nothing(None, ACCURACY) == NOTHING_FOUND


def test_a_change_that_does_not_fit_the_data_is_not_tried(tmp_path):
    """Cross entropy does not take the outputs of a ReLU, which shows only with the classes of the data."""
    words = ("data=iris", "loss=hinge", "model.output_activation=relu", "trainer.max_epochs=1", "logger=none")
    slipstream.train(slipstream.compose(*words), tmp_path / "run")
    assert explored(Evidence(tmp_path / "run"), [Change(("loss=auto",)), Change(("optimizer.lrr=1",))]) == []


@pytest.mark.slow
def test_an_ingredient_that_others_need_stays_in_a_run_that_works(tmp_path):
    words = ("data=iris", "model=perceptron", "trainer.max_epochs=1", "logger=none")
    slipstream.train(slipstream.compose(*words), tmp_path / "run")
    found = _ablated(Evidence(tmp_path / "run"), "val/accuracy")
    assert {str(effect.change) for effect in found.effects} == {"model=mlp", "trainer.max_epochs=50"}


def test_a_suspicion_lists_alternative_changes():
    found = suspect("too few epochs", 0.5, "2 epochs", "trainer.max_epochs=10", ("a=1", "b=2"))
    assert [str(change) for change in found.changes] == ["trainer.max_epochs=10", "a=1 b=2"]


@pytest.mark.slow
def test_why_finds_a_rate_that_is_too_low(tmp_path, capsys, code):
    words = ("data=iris", "model.width=16", "optimizer.lr=1e-7", "trainer.max_epochs=20")
    slipstream.train(slipstream.compose(*words), tmp_path / "run")
    before = set((tmp_path / "run").rglob("*"))
    found = why(tmp_path / "run")
    assert found.verdicts[0].cause == "learning rate too low"
    assert found.verdicts[0].remedy[0].startswith("optimizer.lr=")
    assert found.symptoms[0].startswith("the learning rate 1e-07 is")
    assert set((tmp_path / "run").rglob("*")) == before
    files = why_files.write(found, tmp_path / "run")
    assert [file.name for file in files] == ["why.json", "why.csv", "why.png"]
    assert json.loads(files[0].read_text())["verdicts"][0]["cause"] == "learning rate too low"
    assert files[1].read_text().count("True") == 1
    events = EventAccumulator(str(tmp_path / "run" / "why"), size_guidance={"tensors": 0}).Reload()
    assert (events.Tags()["images"], events.Tags()["tensors"]) == (["why"], ["why"])
    assert code(["report", str(tmp_path / "run"), "-o", str(tmp_path / "page.html")]) == 0
    assert "1. learning rate too low" in (tmp_path / "page.html").read_text()


def test_the_command_shows_and_writes_the_answer(tmp_path, capsys, code, monkeypatch):
    gain = gain_of(branches_of(Change(("a=1",)), 0.9), branches_of(NOTHING, 0.5), [ACCURACY])
    verdict = Verdict(
        "dead ReLU units", "100% are 0", "better in 5 of 5", ("activation=leaky_relu",), True, 0.9
    )
    tried = TriedCause("linear network", 0.2, "depth 0", Change(("a=1",)), gain)
    found = Diagnosis(tmp_path, ("the loss diverged",), (verdict,), (tried,), (), (), 7, 1.5)
    monkeypatch.setattr("slipstream.diagnosis.why.why", lambda run: found)
    assert code(["why", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[:6] == [
        "symptom: the loss diverged",
        "1. dead ReLU units: 100% are 0",
        "   better in 5 of 5",
        "   to fix it: activation=leaky_relu",
        f"   more: {section('dead ReLU units')}",
        "explains less, or was not confirmed: linear network (a=1: val/accuracy 0.9 instead of 0.5)",
    ]
    assert code(["why", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdicts"][0]["remedy"] == ["activation=leaky_relu"]


def test_a_folder_without_a_run_is_no_run(tmp_path):
    with pytest.raises(UserError, match="run"):
        Evidence(tmp_path)


@pytest.mark.slow
def test_a_suspicious_run_ends_with_one_line_and_the_command(tmp_path, capsys, code):
    run = tmp_path / "run"
    assert (
        code(["data=two_moons", "initializer.bias=-9", "trainer.max_epochs=2", f"hydra.run.dir={run}"]) == 0
    )
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("suspicious: ")]
    assert line.endswith(f"; to find out why: slipstream why {run}")
