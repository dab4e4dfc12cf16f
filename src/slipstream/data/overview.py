"""A description of the data that were read: a card for the terminal and a summary in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slipstream.core.console import number
from slipstream.core.types import Plain, Target
from slipstream.core.wording import counted
from slipstream.data.dataset import PARTS, RawData, Settings
from slipstream.data.messages import phrase
from slipstream.data.preprocessing import Preprocessing, Table
from slipstream.data.tabular.columns import is_missing

MOST_COUNTS = 20  # classes or labels that are counted individually
WIDTH = 99  # maximum characters of a card's line


@dataclass(frozen=True)
class Facts:
    """Facts collected before the inputs are encoded, which consumes them.

    kinds: kind -> its columns, empty for arrays. missing: column -> number of missing values, if positive.
    unit: the noun for a row. steps: for sequences from a table, its rows by split, otherwise empty. counts:
    for each split, name -> rows of the class or with the label; empty if there are too many names.
    """

    settings: Settings
    how: str
    target: Target
    sources: tuple[str, ...]
    notes: tuple[str, ...]
    names: tuple[str, ...]
    kinds: Mapping[str, Sequence[str]]
    missing: Mapping[str, int]
    left_out: tuple[str, ...]
    rows: tuple[int, ...]
    unit: str
    steps: tuple[int, ...]
    counts: tuple[Mapping[str, int], ...]
    spread: str

    @classmethod
    def of(
        cls,
        settings: Settings,
        how: str,
        raw: RawData,
        rows: list[np.ndarray],
        table: Table,
    ) -> Facts:
        """Collect the facts of a source whose rows are divided into three splits.

        table: from the kind's `table_of`.
        """
        kinds: dict[str, list[str]] = {}
        missing = {}
        frame, lengths = table
        if frame is not None:
            for name, kind in frame.kinds.items():
                kinds.setdefault(kind, []).append(name)
                missing[name] = int(is_missing(frame.columns[name]).sum())
        return cls(
            settings,
            how,
            raw.target,
            raw.sources,
            tuple(raw.notes),
            raw.input_names,
            kinds,
            {name: count for name, count in missing.items() if count},
            raw.left_out,
            tuple(map(len, rows)),
            raw.unit,
            () if lengths is None else tuple(int(lengths[part].sum()) for part in rows),
            tuple(_counts(raw.target, raw.targets[part]) for part in rows),
            _spread(raw.target, raw.targets[rows[0]]),
        )

    def card(self, preprocessing: Preprocessing) -> str:
        """Return at most 12 lines of plain text, each shorter than 100 characters."""
        target = self.target
        classes = target.classes if target.task in ("binary", "multiclass") else ()
        among = f" ({len(classes)} classes)" if classes else ""
        lines = [self._head(f"{target.task}, {self._target(4)}{among}")]
        lines += [f"inputs: {preprocessing.describe(self.settings['scaling'])}; split: {self._split()}"]
        lines += [fit(f"  {kind}: ", names) for kind, names in self.kinds.items()]
        if self.missing:
            lines += [fit(f"missing values, {self._filled()}: ", _pairs(self.missing))]
        lines += [fit("left out: ", self.left_out)] if self.left_out else []
        for part, examples, counts in zip(PARTS, self._examples(), self.counts, strict=True):
            lines += [fit(f"{part}: {examples}{'; ' if counts else ''}", _pairs(counts))]
        lines += [f"target in train: {self.spread}"] if self.spread else []
        return "\n".join(line if len(line) <= WIDTH else f"{line[: WIDTH - 4]} ..." for line in lines)

    def summary(self, preprocessing: Preprocessing, warnings: Sequence[str]) -> str:
        """Return the whole description in Markdown, with the warnings."""
        blocks = [f"**data={self.settings['name']}**: {self.target.task}, {self._target(8)}"]
        blocks += [f"Files: {', '.join(self.sources)}"] if self.sources else []
        blocks += self.notes
        blocks += [f"Inputs: {preprocessing.describe(self.settings['scaling'])}. Split: {self._split()}."]
        table = [["part", f"{self.unit}s", *self.counts[0]]]
        table.append(["---"] * len(table[0]))
        for part, rows, counts in zip(PARTS, self.rows, self.counts, strict=True):
            table.append([part, str(rows), *map(str, counts.values())])
        blocks += ["\n".join("| " + " | ".join(row) + " |" for row in table)]
        blocks += [f"Target in train: {self.spread}"] if self.spread else []
        if self.kinds:
            blocks += ["\n".join(f"- {k} ({len(n)}): {phrase(n, 20)}" for k, n in self.kinds.items())]
        else:
            blocks += [f"Columns: {phrase(self.names)}"]
        if self.missing:
            blocks += [f"Missing values, {self._filled()}: {phrase(_pairs(self.missing), 20)}"]
        blocks += [f"Left out: {phrase(self.left_out, 20)}"] if self.left_out else []
        blocks += ["\n".join(f"- warning: {warning}" for warning in warnings)] if warnings else []
        return "\n\n".join(blocks)

    def _target(self, most: int) -> str:
        names = self.target.names
        return f"{'target' if len(names) == 1 else f'{len(names)} targets'} {phrase(names, most)}"

    def _head(self, meaning: str) -> str:
        """Return the data source and the target, with as many file names as fit."""
        names = [Path(path).name for path in self.sources]
        for most in range(len(names), 0, -1):
            line = f"data={self.settings['name']} ({phrase(names, most)}): {meaning}"
            if len(line) <= WIDTH:
                return line
        found = f" ({counted(len(names), 'file')})" if names else ""
        return f"data={self.settings['name']}{found}: {meaning}"

    def _examples(self) -> list[str]:
        """Return the number of examples in each split, and for sequences also their rows in the table."""
        said = [counted(rows, self.unit) for rows in self.rows]
        if not self.steps:
            return said
        return [f"{one} of {counted(steps, 'row')}" for one, steps in zip(said, self.steps, strict=True)]

    def _split(self) -> str:
        return f"{self.how}, seed {self.settings['split_seed']}"

    def _filled(self) -> str:
        """Return how missing numbers are filled. In categories, missing is a separate category."""
        impute = self.settings["impute"]
        # `error` applies only to the training split; in the others, missing numbers are still filled.
        return f"numbers filled by {'median' if impute == 'error' else impute}"


def fit(head: str, words: Sequence[str]) -> str:
    """Return as many words as fit on a line, with the number of further ones.

    >>> fit("columns: ", ["aa", "bb"])
    'columns: aa, bb'
    """
    # A word and its comma take at least three characters.
    for most in range(min(len(words), WIDTH // 3), 1, -1):
        line = head + phrase(words, most)
        if len(line) <= WIDTH:
            return line
    return head + phrase(words, 1) if words else head


def _pairs(counts: Mapping[str, Plain]) -> list[str]:
    return [f"{name}: {count}" for name, count in counts.items()]


def _counts(target: Target, targets: np.ndarray) -> dict[str, int]:
    """Return the rows of each class, or with each label."""
    names = target.names if target.task == "multilabel" else target.classes
    if target.task == "regression" or len(names) > MOST_COUNTS:
        return {}
    if target.task == "multilabel":
        found = (targets == 1).sum(axis=0)
    else:
        found = np.bincount(targets, minlength=len(names))
    return {name: int(count) for name, count in zip(names, found, strict=True)}


def _spread(target: Target, targets: np.ndarray) -> str:
    """Describe the distribution of one regression target."""
    if target.task != "regression" or targets.shape[1] != 1:
        return ""
    low, high, mean, deviation = targets.min(), targets.max(), targets.mean(), targets.std()
    return f"{number(low)} to {number(high)}, mean {number(mean)}, deviation {number(deviation)}"
