"""A run's networks as one module that maps raw numbers to scores, for exporters.

A program without slipstream can build its inputs from a row: unscaled numbers with NaN for missing values,
and categories and words as indices. Centers, scales, fill values, missing flags and one-hot columns are part
of the module.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from slipstream.core.errors import UserError
from slipstream.data.array_preprocessing import ArrayPreprocessing, channel_axis
from slipstream.data.image.image_preprocessing import ImagePreprocessing
from slipstream.data.preprocessing import Preprocessing
from slipstream.data.scaling import CLIP
from slipstream.data.sequence.long_table import SequencePreprocessing
from slipstream.data.tabular.encoding import CYCLES, Column
from slipstream.data.text.vocabulary import PADDING, UNKNOWN, TextPreprocessing
from slipstream.inference.export.scanned import with_scans
from slipstream.models.functional import put_tensors
from slipstream.runs.prediction import Model
from slipstream.training.evaluate import side_by_side

Words = Sequence[Sequence[str]]  # the vocabulary of each categorical column, or of the texts


class Portable(nn.Module):
    """Map raw inputs to class scores float32 [N, C], or to values in original units float64 [N, D].

    The scores of several models, or of several networks of one model, are averaged.
    """

    def __init__(self, models: Sequence[Model], words: Words) -> None:
        super().__init__()
        self.members = nn.ModuleList(_Member(model, words) for model in models)

    def forward(self, *inputs: Tensor) -> Tensor:
        found = [member(*inputs) for member in self.members]
        return found[0] if len(found) == 1 else torch.stack(found).mean(0)


class _Member(nn.Module):
    """One model: its preprocessing, its networks and its scores."""

    def __init__(self, model: Model, words: Words) -> None:
        super().__init__()
        self.reader = _reader(model, words)
        networks = []
        for named in model.networks:
            network = copy.deepcopy(model.module)
            put_tensors(network, named)
            networks.append(with_scans(network).eval())
        self.networks = nn.ModuleList(networks)
        self.program, self.numbers = model.program, model.numbers

    def forward(self, *inputs: Tensor) -> Tensor:
        x = self.reader(*inputs)
        outputs = [network(x).float() for network in self.networks]
        return self.program.scores(outputs[0] if len(outputs) == 1 else side_by_side(outputs), self.numbers)


def _reader(model: Model, words: Words) -> nn.Module:
    """Return a module that computes the same as `Model.inputs`."""
    preprocessing: Preprocessing = model.preprocessing
    if isinstance(preprocessing, TextPreprocessing):
        return _Ids(preprocessing.vocabulary, words[0])
    if isinstance(preprocessing, SequencePreprocessing):
        return _Steps(preprocessing, words)
    if isinstance(preprocessing, ImagePreprocessing):
        return _Pixels(model)
    if isinstance(preprocessing, ArrayPreprocessing):
        return _Channels(preprocessing.columns, 1 + len(preprocessing.shape))
    return _Table(preprocessing.columns, words)


def _doubles(values: Sequence[float] | np.ndarray) -> Tensor:
    return torch.tensor(np.asarray(values, np.float64))


class _Table(nn.Module):
    """Encode columns as the network's inputs float32 [N, outputs], as `Column.encode` does.

    forward takes numbers float64 [N, F] with NaN for missing, and categories int64 [N, G]: indices into the
    column's words, followed by one index for missing and one for unknown. Each argument is omitted if the
    table has no such columns.
    """

    offset: Tensor
    factor: Tensor
    fill: Tensor
    clip: Tensor
    waving: Tensor
    speed: Tensor
    flagged: Tensor
    table: Tensor
    begins: Tensor
    sources: Tensor
    codes: Tensor
    order: Tensor

    def __init__(self, columns: Sequence[Column], words: Words) -> None:
        super().__init__()
        numbers = [column for column in columns if column.kind != "category"]
        categories = [column for column in columns if column.kind == "category"]
        self.numbers, self.categories = bool(numbers), bool(categories)
        for name in ("offset", "factor", "fill"):
            self.register_buffer(name, _doubles([getattr(column, name) for column in numbers]))
        self.clips = any(column.clip for column in numbers)
        self.register_buffer("clip", torch.tensor([column.clip for column in numbers], dtype=torch.bool))
        waves = [(i, cycle) for i, column in enumerate(numbers) for cycle in column.cycles]
        self.waves = bool(waves)
        self.register_buffer("waving", torch.tensor([i for i, _ in waves], dtype=torch.int64))
        self.register_buffer("speed", _doubles([2 * np.pi / CYCLES[cycle] for _, cycle in waves]))
        flags = [i for i, column in enumerate(numbers) if column.flag]
        self.flags = bool(flags)
        self.register_buffer("flagged", torch.tensor(flags, dtype=torch.int64))
        self._number_categories(categories, words)
        self.register_buffer("order", torch.tensor(_order(columns), dtype=torch.int64))

    def _number_categories(self, categories: Sequence[Column], words: Words) -> None:
        """Store a table from the columns' words to this model's codes, and the code of every output."""
        table: list[int] = []
        begins: list[int] = []
        sources: list[int] = []
        codes: list[int] = []
        for i, (column, known) in enumerate(zip(categories, words, strict=True)):
            own = {word: code for code, word in enumerate(column.categories)}
            rare = len(own)
            own |= dict.fromkeys(column.rare, rare)
            begins.append(len(table))
            table += [*(own.get(word, rare + 2) for word in known), rare + 1, rare + 2]
            outputs = [*range(rare), *([rare] if column.rare else []), *([rare + 1] if column.flag else [])]
            sources += [i] * len(outputs)
            codes += outputs
        self.register_buffer("table", torch.tensor(table, dtype=torch.int64))
        self.register_buffer("begins", torch.tensor(begins, dtype=torch.int64))
        self.register_buffer("sources", torch.tensor(sources, dtype=torch.int64))
        self.register_buffer("codes", torch.tensor(codes, dtype=torch.int64))

    def forward(self, *inputs: Tensor) -> Tensor:
        parts: list[Tensor] = []
        if self.numbers:
            missing = torch.isnan(inputs[0])
            filled = torch.where(missing, self.fill, inputs[0])
            scaled = (filled - self.offset) * self.factor
            parts.append(torch.where(self.clip, _clipped(scaled), scaled) if self.clips else scaled)
            if self.waves:
                angle = filled.index_select(1, self.waving) * self.speed
                parts += [torch.sin(angle), torch.cos(angle)]
            if self.flags:
                parts.append(missing.index_select(1, self.flagged).double())
        if self.categories:
            own = self.table[inputs[-1] + self.begins]
            parts.append(torch.eq(own.index_select(1, self.sources), self.codes).double())
        return torch.cat(parts, 1).index_select(1, self.order).float()


def _order(columns: Sequence[Column]) -> list[int]:
    """Return the index of every output among scaled numbers, sines, cosines, flags and categories."""
    numbers = [column for column in columns if column.kind != "category"]
    waves = sum(len(column.cycles) for column in numbers)
    flags = sum(column.flag for column in numbers)
    number, wave, flag, category = 0, len(numbers), len(numbers) + 2 * waves, len(numbers) + 2 * waves + flags
    order: list[int] = []
    for column in columns:
        if column.kind == "category":
            width = len(column.outputs())
            order += range(category, category + width)
            category += width
            continue
        order.append(number)
        number += 1
        for _ in column.cycles:
            order += [wave, wave + waves]
            wave += 1
        if column.flag:
            order.append(flag)
            flag += 1
    return order


def _clipped(x: Tensor) -> Tensor:
    """Apply the smooth clipping of `data.scaling`."""
    return x / torch.sqrt(1 + (x / CLIP) ** 2)


class _Steps(nn.Module):
    """Encode sequences [N, T, ...] of table rows with lengths [N] as float32 [N, T, C]."""

    places: Tensor

    def __init__(self, preprocessing: SequencePreprocessing, words: Words) -> None:
        super().__init__()
        self.table, self.masked = _Table(preprocessing.columns, words), preprocessing.masked
        self.register_buffer("places", torch.arange(preprocessing.shape[0]))

    def forward(self, *inputs: Tensor) -> Tensor:
        *steps, lengths = inputs
        encoded = self.table(*(part.flatten(0, 1) for part in steps))
        encoded = encoded.unflatten(0, (-1, len(self.places)))
        present = (self.places < lengths[:, None])[..., None]
        encoded = torch.where(present, encoded, 0.0)
        return torch.cat([encoded, present.float()], 2) if self.masked else encoded


class _Ids(nn.Module):
    """Map token ids [N, T] of the common vocabulary to ids of the model's own vocabulary."""

    table: Tensor

    def __init__(self, own: Sequence[str], common: Sequence[str]) -> None:
        super().__init__()
        place = {word: i for i, word in enumerate(own)}
        self.same = tuple(own) == tuple(common)
        found = [PADDING, *(place.get(word, UNKNOWN) for word in common[1:])]
        self.register_buffer("table", torch.tensor(found, dtype=torch.int64))

    def forward(self, ids: Tensor) -> Tensor:
        return ids if self.same else self.table[ids]


class _Channels(nn.Module):
    """Scale arrays [N, ...] by channel; token ids stay unchanged."""

    offset: Tensor
    factor: Tensor

    def __init__(self, columns: Sequence[Column], axes: int) -> None:
        super().__init__()
        self.scaled, self.clip = bool(columns), any(column.clip for column in columns)
        shape = [1] * axes
        shape[channel_axis(axes)] = -1
        for name in ("offset", "factor"):
            values = [getattr(column, name) for column in columns]
            self.register_buffer(name, _doubles(values).view(shape if columns else (0,)))

    def forward(self, x: Tensor) -> Tensor:
        if not self.scaled:
            return x
        scaled = (x - self.offset) * self.factor
        return (_clipped(scaled) if self.clip else scaled).float()


class _Pixels(nn.Module):
    """Scale raw images [N, C, H, W] for the network, as `training.inputs.ready` does."""

    offset: Tensor
    factor: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        given, wanted = model.preprocessing.spec.scaling, model.program.form.scaling
        assert given is not None
        self.bytes = given.low == 0 and given.high == 255
        self.as_they_are = wanted is not None and self.bytes
        offset: Sequence[float] = given.offset
        factor: Sequence[float] = given.factor
        if wanted is not None:
            offset, factor = (given.low,), (1 / (given.high - given.low),)
        self.register_buffer("offset", _doubles(offset).view(-1, 1, 1))
        self.register_buffer("factor", _doubles(factor).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x if self.as_they_are else ((x.double() - self.offset) * self.factor).float()


def common_words(models: Sequence[Model]) -> Words:
    """Return the vocabularies that index the inputs, shared by all models.

    Raises UserError if the models read their examples in different ways.
    """
    first = models[0].preprocessing
    for model in models[1:]:
        if _way(model.preprocessing) != _way(first):
            raise UserError(
                "export: the members of the best trial read their examples in different ways (columns, "
                "lengths or spellings differ between folds); export one of them with "
                "slipstream export SWEEP/NUMBER"
            )
    if isinstance(first, TextPreprocessing):
        own = [model.preprocessing.to_json()["vocabulary"] for model in models]
        return [list(dict.fromkeys(word for words in own for word in words))]
    found = []
    for i, column in enumerate(first.columns):
        if column.kind == "category":
            same = [model.preprocessing.columns[i] for model in models]
            found.append(list(dict.fromkeys(word for c in same for word in (*c.categories, *c.rare))))
    return found


def _way(preprocessing: Preprocessing) -> object:
    """Return the properties that must be equal to read examples alike: names, kinds, spellings, lengths."""
    saved = preprocessing.to_json()
    columns = [(column.name, column.kind, column.format) for column in preprocessing.columns]
    shape = preprocessing.spec.shape if preprocessing.spec.kind != "vector" else ()
    kept = shape[:1] if saved["steps"] else shape
    return columns, kept, saved["kind"], saved["tokenizer"], saved["steps"], saved["span"]
