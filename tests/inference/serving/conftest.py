"""One small run on a table with a column of every kind, and a server of it on loopback."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from asking import trained
from slipstream.inference.ensemble import open_run
from slipstream.inference.serving.application import Application, ServerLimits
from slipstream.inference.serving.http_server import serving

LIMITS = ServerLimits(body=200_000, rows=300, explained=3)


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    """A run on numbers, a category, a date, a boolean and a time of day; some values are missing."""
    folder, draw = tmp_path_factory.mktemp("serving"), np.random.default_rng(0)
    n = 300
    age, city = draw.integers(18, 80, n), draw.choice(["Oslo", "Rome", "Kyiv"], n)
    table = {
        "age": [None if i % 50 == 0 else int(a) for i, a in enumerate(age)],
        "city": city,
        "since": [f"{d:02}/{m:02}/20{y}" for d, m, y in draw.integers([1, 1, 10], [29, 13, 23], (n, 3))],
        "member": draw.choice(["yes", "no"], n),
        "at": [f"{h:02}:{m:02}" for h, m in draw.integers([0, 0], [24, 60], (n, 2))],
        "churned": np.where(age + 20 * (city == "Oslo") + draw.normal(0, 5, n) > 55, "yes", "no"),
    }
    pl.DataFrame(table).write_csv(folder / "t.csv")
    words = ["data=table", f"data.path={folder / 't.csv'}", "data.target=churned", "trainer.max_epochs=5"]
    return trained(folder / "run", *words)


@pytest.fixture(scope="package")
def ensemble(run):
    """Its network."""
    return open_run(run)


@pytest.fixture(scope="package")
def application(ensemble):
    """The application of the run."""
    return Application(ensemble, LIMITS)


@pytest.fixture(scope="package")
def url(application):
    """A server of the run."""
    with serving(application) as found:
        yield found


@pytest.fixture
def row():
    """A row of the run."""
    return {"age": 33, "city": "Oslo", "since": "2019-02-28", "member": True, "at": "14:30"}
