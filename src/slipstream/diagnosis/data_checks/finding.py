"""Findings of the checks of a run's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipstream.core.wording import KEY, spell
from slipstream.data.messages import brief, phrase

SURE = 0.5  # findings from this strength on are shown as a cause


@dataclass(frozen=True)
class Finding:
    """A cause that lies in the data.

    cause: its name. evidence: one sentence with numbers, which names the cause. strength: from 0 to 1, how
    certain and how harmful it is. remedy: overrides that repair it, as arguments of train.py without a
    shell's quotes; empty if only the data can be repaired. advice: what to do, in words.

    >>> Finding("no signal", "no signal: ...", 0.8, (), "check that rows and targets belong together").sure
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
    """Name columns in a sentence.

    >>> columns(["age"]), columns(["a", "b"])
    ("column 'age'", "columns 'a', 'b'")
    """
    return f"column{'s' if len(names) > 1 else ''} {phrase(map(brief, names), 4)}"


def percent(share: float) -> str:
    """Return a share in percent.

    >>> percent(0.034), percent(0.5)
    ('3.4 %', '50 %')
    """
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
