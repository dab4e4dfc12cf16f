"""Hydra's own test suites for launchers: for a task that is not slipstream's, ours behave as Hydra's do."""

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.test_utils.launcher_common_tests import (
    BatchedSweeperTestSuite,
    IntegrationTestSuite,
    LauncherTestSuite,
)
from hydra.version import _UNSPECIFIED_, VersionBase

from sampling import exhaustive_after

# Hydra's suites are written for the defaults of its older versions, of which it warns.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*Hydra:UserWarning", "ignore:\\nThe version_base:UserWarning"
)


@pytest.fixture(autouse=True)
def version_base():
    """Hydra's suites expect that no version has been chosen, and a command of ours chooses 1.3."""
    state = VersionBase.instance()
    before = state.version_base
    state.version_base = _UNSPECIFIED_
    yield
    VersionBase.instance().version_base = before


def test_hydra_finds_both():
    """The plugins are discovered as installed ones are."""
    assert "PackLauncher" in [plugin.__name__ for plugin in Plugins.instance().discover(Launcher)]
    assert "SpaceSweeper" in [plugin.__name__ for plugin in Plugins.instance().discover(Sweeper)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher_name", "overrides"), exhaustive_after(1, [("packs", ["hydra/sweeper=space"]), ("packs", [])])
)
class TestPackLauncher(LauncherTestSuite):
    """Hydra's suite for launchers."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    exhaustive_after(
        1,
        [
            ("packs", ["hydra.sweeper.max_batch_size=2", "hydra/sweeper=space"]),
            ("packs", ["hydra.sweeper.max_batch_size=2"]),
        ],
    ),
)
class TestPackLauncherInBatches(BatchedSweeperTestSuite):
    """Hydra's suite for sweepers that launch a few jobs at a time."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task_launcher_cfg", "extra_flags"),
    exhaustive_after(
        1, [({}, ["-m", "hydra/launcher=packs", "hydra/sweeper=space"]), ({}, ["-m", "hydra/launcher=packs"])]
    ),
)
class TestPackLauncherIntegration(IntegrationTestSuite):
    """Hydra's suite that runs applications in processes of their own."""
