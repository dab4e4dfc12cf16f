"""Findings of the checks of a run's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipstream.core.wording import KEY, spell
from slipstream.data.messages import brief, phrase

SURE = 0.5  # smallest strength of a finding that is shown as a cause


@dataclass(frozen=True)
class Finding:
    """A cause that lies in the data.

    Attributes:
        cause: its name.
        evidence: one sentence with numbers, which begins with the cause.
        strength: from 0 to 1, how certain and how harmful the cause is.
        remedy: overrides that remove the cause, as arguments of train.py without shell quotes; empty if only
            the data can be repaired.
        advice: the remedy in words.

    Example:
        >>> Finding("no signal", "no signal: ...", 0.8, (), "check that the rows match").sure
        True
    """

    cause: str
    evidence: str
    strength: float
    remedy: tuple[str, ...]
    advice: str

    @property
    def sure(self) -> bool:
        """True if the finding is strong enough to be shown as a cause."""
        return self.strength >= SURE


def ignoring(names: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that leave out columns of a table.

    >>> ignoring(["visits", "a b"])
    ('data.kinds.visits=ignore', "data.kinds={'a b':ignore}")
    """
    return tuple(
        f"data.kinds.{name}=ignore" if KEY.fullmatch(name) else f"data.kinds={spell({name: 'ignore'})}"
        for name in names
    )


def columns(names: Sequence[str]) -> str:
    """Return words that name columns, at most four of them.

    >>> columns(["age"]), columns(["a", "b"])
    ("column 'age'", "columns 'a', 'b'")
    """
    return f"column{'s' if len(names) > 1 else ''} {phrase(map(brief, names), 4)}"


def percent(share: float) -> str:
    """Return a share as a percentage.

    >>> percent(0.034), percent(0.5)
    ('3.4 %', '50 %')
    """
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
