"""Sweeps on the command line: one call of the runner, a folder that is joined, exit codes, resuming."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from sampling import slow_after
from slipstream.core.errors import UserError


def sweep_folder(engine):
    return engine.sweeps[-1].directory


@pytest.mark.slow
def test_a_sweep_is_handed_over_whole(slipstream, engine):
    """-m calls the runner once, with the plan and the sweep's folder, and trains nothing one by one."""
    result = slipstream("-m", "optimizer=sgd,adam", "seed=1,2", "name=mine")
    assert (result.code, result.out, result.err) == (0, "", "")
    (call,) = engine.sweeps
    assert not engine
    assert [(job.config.optimizer.name, job.config.seed) for job in call.plan.jobs] == [
        *(("sgd", 1), ("sgd", 2), ("adam", 1), ("adam", 2))
    ]
    assert call.plan.jobs[1].overrides == ("optimizer=sgd", "seed=2", "name=mine")
    assert call.directory.parent == Path.cwd() / "outputs" / "mine"
    assert [file.name for file in call.directory.iterdir()] == ["sweep.json"]


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_the_flag_stands_anywhere_among_the_settings(slipstream, engine, flag):
    """A setting that is appended behind -m belongs to the sweep."""
    result = slipstream("optimizer=sgd,adam", flag, "seed=1")
    assert (result.code, result.err) == (0, "")
    assert [job.overrides for job in engine.sweeps[0].plan.jobs] == [
        ("optimizer=sgd", "seed=1"),
        ("optimizer=adam", "seed=1"),
    ]


@pytest.mark.parametrize("code", slow_after(1, [0, 3, 130, 143]))
def test_the_exit_code_is_the_runners(slipstream, engine, code):
    """Finished, some failed, interrupted: the command ends with what the runner says."""
    engine.outcome = code
    assert slipstream("-m", "seed=1,2").code == code


@pytest.mark.slow
def test_a_mistake_and_a_bug_of_a_sweep(slipstream, engine, monkeypatch):
    """A UserError is one message and 2; anything else is a bug and 1."""
    engine.outcome = UserError("no")
    assert (slipstream("-m", "seed=1,2").code, len(engine.sweeps)) == (2, 1)
    monkeypatch.setitem(sys.modules, "slipstream.sweeps.runner", SimpleNamespace(sweep=None))
    result = slipstream("-m", "seed=1,2")
    assert result.code == 1
    assert "This is a bug in slipstream" in result.err


@pytest.mark.slow
def test_the_same_command_joins_and_another_does_not(slipstream, engine):
    """hydra.sweep.dir with an identical plan is joined; with another one the answer is 2."""
    place = "hydra.sweep.dir=here"
    assert slipstream("-m", "seed=1,2", place).code == 0
    assert slipstream("-m", "seed=1,2", place, "sweep.workers=2").code == 0
    assert [call.plan.settings.workers for call in engine.sweeps] == [1, 2]
    result = slipstream("-m", "seed=1,3", place)
    assert result.code == 2
    assert f"seed: was 1, 2, now 1, 3 in {Path.cwd() / 'here'}" in result.err
    assert len(engine.sweeps) == 2


@pytest.mark.slow
def test_a_search(slipstream, engine):
    """A searcher's plan has a space and no jobs."""
    assert (
        slipstream("-m", "sweep=tpe", "optimizer.lr=tag(log,interval(1e-4,1))", "optimizer=sgd,adam").code
        == 0
    )
    assert [axis.key for axis in engine.sweeps[0].plan.space.axes] == ["optimizer.lr", "optimizer"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["-m"]])
def test_a_whole_sweep_in_one_yaml(slipstream, engine, more):
    """An experiment with a space is a sweep without -m, and others may be added to it."""
    assert slipstream("experiment=learning_rate", "data=iris,wine", *more).code == 0
    (call,) = engine.sweeps
    assert [axis.key for axis in call.plan.space.axes] == ["optimizer.lr", "data"]
    assert len(call.plan.jobs) == 6 * 2 * 5
    assert call.directory.parent == Path.cwd() / "outputs" / "iris"


@pytest.mark.slow
def test_an_experiment_that_is_no_sweep_is_a_run(slipstream, engine):
    """Only a space makes one."""
    assert slipstream("experiment=xor").code == 0
    assert len(engine) == 1
    assert not engine.sweeps


@pytest.mark.slow
def test_conditional_keys_reach_hydra_only_where_they_apply(slipstream, engine):
    """What the default optimizer does not have is no fault of Hydra's first composition."""
    assert slipstream("-m", "optimizer=sgd,momentum", "optimizer.momentum=0.5").code == 0
    assert [job.overrides for job in engine.sweeps[0].plan.jobs] == [
        ("optimizer=sgd",),
        ("optimizer=momentum", "optimizer.momentum=0.5"),
    ]


@pytest.mark.slow
def test_conditional_keys_job_by_job(slipstream, engine):
    """hydra/launcher=basic runs the same jobs."""
    assert (
        slipstream("-m", "hydra/launcher=basic", "optimizer=sgd,momentum", "optimizer.momentum=0.5").code == 0
    )
    assert [call.overrides for call in engine] == [
        ["optimizer=sgd"],
        ["optimizer=momentum", "optimizer.momentum=0.5"],
    ]


@pytest.mark.slow
def test_repeats_job_by_job(slipstream, engine):
    """Repeats are jobs for any launcher."""
    assert slipstream("-m", "hydra/launcher=basic", "sweep.repeats=2", "optimizer.lr=0.1,0.2").code == 0
    assert [(call.config.seed, call.directory.name) for call in engine] == [
        *zip([0, 1, 0, 1], "0123", strict=True)
    ]


@pytest.mark.slow
def test_hydras_own_sweeper_hands_its_jobs_to_packs(slipstream, engine):
    """hydra/sweeper=basic with our launcher gives the same plan."""
    assert slipstream("-m", "hydra/sweeper=basic", "seed=1,2").code == 0
    assert [job.config.seed for job in engine.sweeps[0].plan.jobs] == [1, 2]
    assert slipstream("-m", "hydra/sweeper=basic", "hydra/launcher=basic", "seed=1,2").code == 0
    assert [call.config.seed for call in engine] == [1, 2]


@pytest.mark.slow
def test_resume_goes_on_with_a_sweep(slipstream, engine):
    """resume=DIR of a sweep calls the runner with what may change, and nothing else is accepted."""
    slipstream("-m", "seed=1,2")
    folder = sweep_folder(engine)
    assert slipstream(f"resume={folder}", "trainer.progress=none").code == 0
    assert engine.sweeps[-1].plan.jobs[0].config.trainer.progress == "none"
    result = slipstream(f"resume={folder}", "optimizer.lr=0.5")
    assert result.code == 2
    assert f"optimizer.lr: was 0.001 in {folder}, now 0.5" in result.err
    assert slipstream("-m", f"resume={folder}").code == 2
    assert len(engine.sweeps) == 2


@pytest.mark.slow
def test_a_member_is_resumed_as_a_run(slipstream, engine):
    """The overrides of a member of a whole YAML's sweep make one run, not the sweep again."""
    slipstream("experiment=learning_rate")
    job = engine.sweeps[0].plan.jobs[7]
    folder = sweep_folder(engine) / "7"
    folder.mkdir()
    (folder / "overrides.yaml").write_text(yaml.safe_dump(list(job.overrides)))
    (folder / "config.yaml").write_text(yaml.safe_dump(job.config.raw))
    assert slipstream(f"resume={folder}").code == 0
    assert engine[0].config.raw == job.config.raw
    assert len(engine.sweeps) == 1


@pytest.mark.slow
def test_what_a_sweep_would_run_can_be_printed(slipstream, engine):
    """--cfg job with -m prints the first job and the sweep's settings, and runs nothing."""
    result = slipstream("--cfg", "job", "-m", "seed=7,8", "sweep.pack=2")
    assert result.code == 0
    printed = yaml.safe_load(result.out)
    assert (printed["seed"], printed["sweep"]["pack"]) == (7, 2)
    assert not engine.sweeps


@pytest.mark.slow
def test_the_listing_and_the_completion_know_the_group(slipstream, engine, shell):
    """slipstream list sweep tpe explains the settings; files that options share are not offered."""
    listed = slipstream("list", "sweep", "tpe")
    assert listed.code == 0
    for text in ("sweep.trials", "'median'", "100", "Parzen"):
        assert text in listed.out
    query = "COMP_LINE='python train.py sweep=' COMP_POINT=999 $TRAIN -sc query=bash"
    offered = shell(query).stdout
    assert "sweep=tpe" in offered
    assert "_base" not in offered
    assert "_search" not in offered
