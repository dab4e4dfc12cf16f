"""Inputs with one column, channel, region or word perturbed, for permutation importance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from slipstream.core.types import InputSpec
from slipstream.core.wording import counted
from slipstream.data.preprocessing import Preprocessing
from slipstream.data.text.vocabulary import PADDING, SPECIAL, UNKNOWN

Kind = Literal["column", "channel", "region", "word"]


@dataclass(frozen=True)
class Perturbation:
    """A perturbation of one feature.

    change: (index of the network, its inputs [N, ...], a permutation of the examples [N]) -> inputs [N, ...].
    shuffles: False if the permutation does not matter, for example because the feature is removed.
    touched: the examples that change, bool [N]; None for all.
    """

    name: str
    kind: Kind
    change: Callable[[int, Tensor, Tensor], Tensor]
    shuffles: bool = True
    touched: Tensor | None = None


def perturbations(
    preprocessings: Sequence[Preprocessing], inputs: Sequence[Tensor], grid: int, words: int
) -> list[Perturbation]:
    """Return the perturbations of the inputs of networks.

    A column of a table takes the values of another example, in all the inputs that encode it (categories, the
    cycles of a date, the missing flag). So does the whole sequence of a column and each channel of an image.
    For images, each region of a grid is also filled with the mean color. For texts, each
    of the `words` most frequent words is removed.
    """
    spec = preprocessings[0].spec
    if spec.kind == "tokens":
        return list(_words(preprocessings, inputs, words))
    if spec.kind == "image":
        return [*_regions(inputs, grid), *_channels(preprocessings[0], spec)]
    return list(_columns(preprocessings, spec))


def slices(preprocessing: Preprocessing) -> dict[str, slice]:
    """Return the slice of the inputs that each column is encoded as, by column name."""
    found, start = {}, 0
    for column in preprocessing.columns:
        found[column.name] = slice(start, start + len(column.outputs()))
        start = found[column.name].stop
    return found


def _columns(preprocessings: Sequence[Preprocessing], spec: InputSpec) -> Iterator[Perturbation]:
    places = [slices(preprocessing) for preprocessing in preprocessings]

    def change_of(name: str) -> Callable[[int, Tensor, Tensor], Tensor]:
        def change(number: int, x: Tensor, order: Tensor) -> Tensor:
            made, place = x.clone(), places[number][name]
            made[..., place] = x[order][..., place]
            if spec.masked:  # padding stays 0
                made[..., place] *= x[..., -1:]
            return made

        return change

    for name, place in places[0].items():
        if not (spec.masked and place.stop == spec.shape[-1]):
            yield Perturbation(name, "column", change_of(name))


def _channels(preprocessing: Preprocessing, spec: InputSpec) -> Iterator[Perturbation]:
    def change_of(c: int) -> Callable[[int, Tensor, Tensor], Tensor]:
        def change(_: int, x: Tensor, order: Tensor) -> Tensor:
            made = x.clone()
            made[:, c] = x[order, c]
            return made

        return change

    names = [column.name for column in preprocessing.columns]
    for c in range(spec.shape[0] if spec.shape[0] > 1 else 0):
        yield Perturbation(names[c] if c < len(names) else f"channel {c + 1}", "channel", change_of(c))


def _regions(inputs: Sequence[Tensor], grid: int) -> Iterator[Perturbation]:
    height, width = inputs[0].shape[2:]
    means = [x.double().mean((0, 2, 3)) for x in inputs]
    # Keep uint8 images as uint8.
    fills = [m if x.is_floating_point() else m.round() for m, x in zip(means, inputs, strict=True)]

    def change_of(rows: slice, columns: slice) -> Callable[[int, Tensor, Tensor], Tensor]:
        def change(number: int, x: Tensor, _: Tensor) -> Tensor:
            made = x.clone()
            made[:, :, rows, columns] = fills[number].to(x.dtype)[:, None, None]
            return made

        return change

    for i, rows in enumerate(_bands(height, grid)):
        for j, columns in enumerate(_bands(width, grid)):
            name = f"row {i + 1}, column {j + 1}"
            yield Perturbation(name, "region", change_of(rows, columns), shuffles=False)


def _bands(size: int, count: int) -> list[slice]:
    edges = np.linspace(0, size, min(count, size) + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def _words(
    preprocessings: Sequence[Preprocessing], inputs: Sequence[Tensor], words: int
) -> Iterator[Perturbation]:
    tables = [_vocabulary(preprocessing) for preprocessing in preprocessings]
    first = tables[0]
    texts = torch.zeros(len(first), dtype=torch.int64)  # the number of texts with each word
    for row in inputs[0]:
        texts[row.long().unique()] += 1
    texts[: len(SPECIAL)] = 0
    usual = sorted(torch.nonzero(texts).flatten().tolist(), key=lambda i: (-int(texts[i]), first[i]))
    places = [{word: i for i, word in enumerate(table)} for table in tables]

    def change_of(ids: Sequence[int | None]) -> Callable[[int, Tensor, Tensor], Tensor]:
        return lambda number, x, _: without(x, ids[number])

    for word in (first[i] for i in usual[:words]):
        ids = [place.get(word) for place in places]
        touched = torch.stack([(x == i).any(1) for x, i in zip(inputs, ids, strict=True) if i is not None])
        yield Perturbation(word, "word", change_of(ids), shuffles=False, touched=touched.any(0))


def _vocabulary(preprocessing: Preprocessing) -> list[str]:
    known: list[str] = list(preprocessing.to_json()["vocabulary"])
    return known or [counted(i, "id") for i in range(preprocessing.spec.vocabulary)]


def without(x: Tensor, word: int | None) -> Tensor:
    """Remove a word from texts of ids [N, T]. Later words move up, and a text is never left empty.

    >>> without(torch.tensor([[5, 7, 5, 0], [5, 0, 0, 0]]), 5).tolist()
    [[7, 0, 0, 0], [1, 0, 0, 0]]
    """
    if word is None:
        return x
    gone = (x == word) | (x == PADDING)
    order = gone.to(torch.uint8).argsort(dim=1, stable=True)
    made = torch.where(gone, PADDING, x).gather(1, order)
    made[gone.all(1), 0] = UNKNOWN
    return made
