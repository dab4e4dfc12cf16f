"""Fixtures for everything about configurations."""

import pytest

from slipstream.config import compose, composed, composition
from slipstream.core.errors import ConfigError


@pytest.fixture(autouse=True)
def shipped_options_only():
    """Whatever folder a test looks into, the next one starts without."""
    yield
    composition.use_folder(None)


@pytest.fixture(scope="session")
def plain():
    """The default configuration."""
    return compose()


@pytest.fixture
def problems_of():
    """A function of overrides: the problems that composing them reports."""

    def problems(*overrides):
        with pytest.raises(ConfigError) as caught:
            composed(overrides)
        return caught.value.problems

    return problems


@pytest.fixture
def only_problem(problems_of):
    """A function of overrides with exactly one problem."""

    def problem(*overrides):
        (found,) = problems_of(*overrides)
        return found

    return problem
