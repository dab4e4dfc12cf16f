"""Which cases of a sweep stand for all of them in the fast tests, and in the README's line of tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def exhaustive_after(count: int, cases: Iterable[Any]) -> list[Any]:
    """Cases for `parametrize`, of which those after the first `count` are marked `exhaustive`.

    A tuple is one case of several arguments.
    """
    return _marked_after(count, cases, pytest.mark.exhaustive)


def slow_after(count: int, cases: Iterable[Any]) -> list[Any]:
    """The same with the mark `slow`: the fast tests have the first cases, the README's line has all."""
    return _marked_after(count, cases, pytest.mark.slow)


def _marked_after(count: int, cases: Iterable[Any], mark: pytest.MarkDecorator) -> list[Any]:
    cases = [case if isinstance(case, tuple) else (case,) for case in cases]
    rest = [pytest.param(*case, marks=mark) for case in cases[count:]]
    return [*(pytest.param(*case) for case in cases[:count]), *rest]
