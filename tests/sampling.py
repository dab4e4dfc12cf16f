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


def scikit_learns_checks(
    estimators: Iterable[Any],
    *,
    failing: dict[str, str] | None = None,
    marks: Iterable[pytest.MarkDecorator] = (),
) -> list[Any]:
    """Cases of an estimator and a check, as `parametrize_with_checks` has them, with short names.

    Its names have all settings of the estimators, which takes a second to write in each worker.
    failing: names of checks that are expected to fail, and why.
    """
    from sklearn.utils.estimator_checks import estimator_checks_generator

    cases = []
    for estimator in estimators:
        for case in estimator_checks_generator(estimator, expected_failed_checks=failing, mark="xfail"):
            made, check = getattr(case, "values", case)
            name = f"{type(estimator).__name__}-{getattr(check, 'func', check).__name__}"
            cases.append(pytest.param(made, check, marks=[*getattr(case, "marks", ()), *marks], id=name))
    return cases


def _marked_after(count: int, cases: Iterable[Any], mark: pytest.MarkDecorator) -> list[Any]:
    made = []
    for number, case in enumerate(cases):
        known = isinstance(case, type(pytest.param()))  # with marks and a name of its own
        values = case.values if known else case if isinstance(case, tuple) else (case,)
        marks = [*(case.marks if known else ()), *([mark] if number >= count else ())]
        made.append(pytest.param(*values, marks=marks, id=case.id if known else None))
    return made
