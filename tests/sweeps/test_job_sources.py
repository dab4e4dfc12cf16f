"""Where members come from: a study's trials with one member or several."""

from __future__ import annotations

import pytest

from harness import tiny
from slipstream.core.errors import ConfigError
from slipstream.sweeps.plan.job import Job
from slipstream.sweeps.plan.space import Interval, Space

pytest.importorskip("optuna")

from slipstream.sweeps.search.study import Study
from slipstream.sweeps.work.job_sources import SearchSource

SETTINGS = {"name": "random", "trials": 6, "at_once": 2, "seed": 0, "pruner": "none"}
SETTINGS |= {"min_epochs": None, "reduction": None, "patience": None}


class Free:
    """Claims of the only worker."""

    lost = False

    def take(self, numbers, limit):
        return list(numbers)[:limit]

    def release(self, numbers):
        pass


def searched(tmp_path, job, members=1, warn=lambda text: None):
    study = Study(None, Space((Interval("optimizer.lr", 0.0, 1.0),)), SETTINGS, True, 3)
    return study, SearchSource(study, job, members, 2, False, 1, tmp_path, Free(), warn)


def make(trial, i, values, members=2):
    return Job(trial * members + i, trial, (), values, tiny(seed=i))


def test_a_trial_is_told_the_mean_of_its_members(tmp_path):
    """Two are out at a time; when both members of one have ended, its mean is told and another is asked."""
    study, source = searched(tmp_path, make, members=2)
    jobs = source.waiting()
    assert [(job.number, job.trial) for job in jobs] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    source.claim(jobs)
    assert source.waiting() == []
    source.ended([(jobs[0], "finished", 1.0)])
    assert source.waiting() == []
    source.ended([(jobs[1], "finished", 3.0)])
    assert [job.trial for job in source.waiting()] == [2, 2]
    told = study._trials()[0]
    assert told.value == 2.0


def test_a_trial_that_cannot_be_fails_and_the_next_is_asked(tmp_path):
    """Values that contradict each other: said once, nothing is trained for them, all others are asked."""
    said: list[str] = []

    def job(trial, i, values):
        if trial % 2:
            raise ConfigError(["these do not go together"])
        return make(trial, i, values, members=1)

    _, source = searched(tmp_path, job, warn=said.append)
    trained = []
    while jobs := source.waiting():
        source.claim(jobs)
        trained += [job.trial for job in jobs]
        source.ended([(job, "finished", 1.0) for job in jobs])
    assert trained == [0, 2, 4]
    assert len(said) == 3
    assert "trial 1 is invalid: these do not go together" in said[0]


def test_a_member_that_diverges_makes_its_trial_the_worst(tmp_path):
    """One of two members without a value: the trial has no mean."""
    study, source = searched(tmp_path, make, members=2)
    jobs = source.waiting()
    source.claim(jobs)
    source.ended([(jobs[0], "finished", 1.0), (jobs[1], "diverged", 0.5)])
    assert study._trials()[0].value == float("inf")
