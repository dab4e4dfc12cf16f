"""Whatever is read from outside is taken or refused with a sentence: nothing crashes, hangs or eats memory.

scripts/fuzz.py does the same for as many minutes as it is given.
"""

from __future__ import annotations

import warnings
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from targets import TARGETS

from sampling import slow_after
from slipstream.core.errors import UserError


@pytest.mark.parametrize("examples", slow_after(1, [10, 40]))
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_that_is_read_can_crash_a_reader(name, examples):
    """A few examples of each kind, the same in every run: an error is a UserError."""
    target = TARGETS[name]

    @settings(
        max_examples=examples, deadline=10_000, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(target.given)
    def read(content):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with suppress(UserError):
                target.reads(content)

    read()
