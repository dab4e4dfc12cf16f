"""Settings as they stand in configs/data, changed where a test says so; tables written from text."""

import pytest

import slipstream.data as data
from slipstream.config.files import defaults


@pytest.fixture
def settings():
    """settings("iris", test=0.2): the option's settings with changes."""

    def make(name, **changes):
        values = {"name": name, **defaults("data", name)}
        assert set(changes) <= set(values), set(changes) - set(values)
        return values | changes

    return make


@pytest.fixture
def load(settings):
    """load("iris", test=0.2): the data of these settings."""
    return lambda name, **changes: data.load(settings(name, **changes))


@pytest.fixture
def load_table(tmp_path, load):
    """load_table(text or bytes, target="y", ...): a CSV file of that content, loaded."""

    def make(content, file="t.csv", target="y", **changes):
        path = tmp_path / file
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load("table", path=str(path), target=target, **changes)

    return make
