"""Errors for refused requests: a status, a message, and the row and column of each problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipstream.core.errors import printable
from slipstream.core.types import Plain

MOST = 20  # problems listed in a response


@dataclass(frozen=True)
class Problem:
    """A mistake. row: from 1, None for the header of a CSV. column: None for the row as a whole."""

    row: int | None
    column: str | None
    message: str

    def __str__(self) -> str:
        places = [f"row {self.row}"] if self.row is not None else []
        places += [f"column {self.column!r}"] if self.column is not None else []
        return f"{', '.join(places)}: {self.message}"


class RequestError(Exception):
    """A request that cannot be answered: the status, a message, and the problems by row and column."""

    def __init__(self, status: int, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.status, self.problems = status, tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> RequestError:
        """Return the error for invalid rows, with the first problem's message and the list of all."""
        more = f" (and {len(problems) - 1} more in `problems`)" if len(problems) > 1 else ""
        return cls(422, f"{problems[0]}{more}", problems)

    def to_json(self) -> dict[str, Plain]:
        """Return the body of the response."""
        told = [vars(p) | {"message": printable(p.message)} for p in self.problems[:MOST]]
        return {"detail": printable(str(self))} | ({"problems": told} if told else {})
