"""What the tests of faults share."""

import pytest
from forking import Warm


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """One warm process for all tests."""
    made = Warm(tmp_path_factory.mktemp("warm"))
    yield made
    made.close()
