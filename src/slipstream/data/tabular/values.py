"""Raw columns as read, and the columns of a table before they are encoded."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Text:
    """A text column: codes int32 [N] into its distinct `values`, -1 for a missing value.

    kind: the original type, `text`, `number` or `boolean`; `untyped` if read from a text file.
    """

    codes: np.ndarray
    values: list[str]
    kind: str = "text"

    def __len__(self) -> int:
        return len(self.codes)

    def counts(self) -> np.ndarray:
        """Count the occurrences of each value, int64 [len(values)]."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))


Values = np.ndarray | Text  # float64 [N] with NaN for missing values, or text


@dataclass
class Frame:
    """A table's input columns with their kinds (number, boolean, date, category), not yet encoded.

    formats: the spelling of numbers or dates, for new data; the columns themselves are already parsed.
    """

    columns: dict[str, Values]
    kinds: dict[str, str]
    impute: str
    max_categories: int
    formats: dict[str, str] = field(default_factory=dict)
