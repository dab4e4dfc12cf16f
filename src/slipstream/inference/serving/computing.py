"""Computation of a batch of requests: encode, concatenate, run the networks once, split the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slipstream.core.errors import DataError, UserError
from slipstream.core.types import DataLike
from slipstream.inference.ensemble import Ensemble
from slipstream.inference.serving.occlusion import Replacement, replacements
from slipstream.inference.serving.refusals import Problem, RequestError
from slipstream.inference.serving.row_checking import RequestRows
from slipstream.training.inputs import ready


@dataclass(frozen=True)
class Question:
    """A request's examples. explains: also return what moved each prediction."""

    examples: RequestRows
    explains: bool = False


@dataclass(frozen=True)
class Moved:
    """The scores [C] of an example with one feature replaced."""

    name: str
    told: str
    scores: np.ndarray


@dataclass(frozen=True)
class Answer:
    """The scores [N, C] of a request's examples, warnings about them, and what moved each of them."""

    scores: np.ndarray
    warnings: tuple[str, ...] = ()
    moved: tuple[tuple[Moved, ...], ...] = ()


@dataclass(frozen=True)
class _Encoded:
    inputs: tuple[Tensor, ...]
    warnings: tuple[str, ...] = ()


def compute(ensemble: Ensemble, questions: Sequence[Question]) -> list[Answer | RequestError]:
    """Answer requests in one forward pass; an error in one request does not affect the others."""
    encoded = _encode(ensemble, questions)
    extra = [
        [
            replacements(ensemble, [x[i : i + 1] for x in found.inputs])
            for i in range(question.examples.count if question.explains else 0)
        ]
        if isinstance(found, _Encoded)
        else []
        for question, found in zip(questions, encoded, strict=True)
    ]
    parts: list[tuple[Tensor, ...]] = []
    for found, several in zip(encoded, extra, strict=True):
        if isinstance(found, _Encoded):
            parts.append(found.inputs)
            parts += [one.inputs for example in several for one in example]
    if not parts:
        return [found for found in encoded if isinstance(found, RequestError)]
    scores = ensemble.scores_of([torch.cat(of_one) for of_one in zip(*parts, strict=True)])
    answers: list[Answer | RequestError] = []
    place = 0
    for found, several in zip(encoded, extra, strict=True):
        if isinstance(found, RequestError):
            answers.append(found)
            continue
        own = scores[place : (place := place + len(found.inputs[0]))]
        moved = []
        for example in several:
            moved.append(
                tuple(_moved(one, scores[place : (place := place + len(one.inputs[0]))]) for one in example)
            )
        answers.append(_finite(own) or Answer(own, found.warnings, tuple(moved)))
    return answers


def _moved(one: Replacement, scores: np.ndarray) -> Moved:
    return Moved(one.name, one.told, scores.mean(axis=0))


def _finite(scores: np.ndarray) -> RequestError | None:
    bad = ~np.isfinite(scores).all(axis=1)
    if not bad.any():
        return None
    told = "the prediction is not finite: the values lie too far outside those of training"
    return RequestError.of([Problem(int(np.argmax(bad)) + 1, None, told)])


def _encode(ensemble: Ensemble, questions: Sequence[Question]) -> list[_Encoded | RequestError]:
    """Return the inputs of each request. Columns of several requests are encoded as one table, for speed.

    If that fails or warns, each request is encoded separately, so that the message reaches the right one.
    """
    if len(questions) > 1 and all(question.examples.joinable for question in questions):
        tables = [question.examples.data for question in questions]
        joined = {name: [value for table in tables for value in table[name]] for name in tables[0]}
        try:
            found = _one(ensemble, joined)
        except (DataError, UserError):
            found = None
        if found is not None and not found.warnings:
            sizes = [question.examples.count for question in questions]
            cut = [x.split(sizes) for x in found.inputs]
            return [_Encoded(tuple(of_one)) for of_one in zip(*cut, strict=True)]
    return [_alone(ensemble, question) for question in questions]


def _alone(ensemble: Ensemble, question: Question) -> _Encoded | RequestError:
    try:
        return _one(ensemble, question.examples.data)
    except (DataError, UserError) as error:
        return RequestError(422, str(error))


def _one(ensemble: Ensemble, data: DataLike) -> _Encoded:
    inputs: list[Tensor] = []
    warnings: dict[str, None] = {}
    for model in ensemble.models:
        array, unseen = model.preprocessing.transform(data, model.data)
        warnings |= dict.fromkeys(unseen)
        inputs.append(ready(torch.from_numpy(array), model.preprocessing.spec, model.program.form))
    return _Encoded(tuple(inputs), tuple(warnings))
