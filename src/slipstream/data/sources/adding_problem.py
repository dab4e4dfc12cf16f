"""The adding problem: a test of a recurrent network's long-term memory."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge

from slipstream.core import random
from slipstream.core.registry import register
from slipstream.core.types import Natural, Target
from slipstream.data.dataset import RawData


@register("data", task="regression", form="sequence")
def adding_problem(*, rows: Annotated[int, Ge(10)], length: Annotated[int, Ge(2)], seed: Natural) -> RawData:
    """The sum of two marked numbers in a long sequence: the first must be remembered until the second.

    y = v_a + v_b with v uniform on [0, 1), a uniform on the steps of the first half (0 ... T/2 - 1, rounded
    down) and b on those of the second. Inputs [N, T, 2]: v, and a marker that is 1 at a and b and 0
    elsewhere. Targets [N, 1]. Always predicting 1 gives a mean squared error of 1/6 and an R2 of 0.
    rows: number of sequences. length: T, the number of steps. seed: of the numbers. A row does not depend on
        the number of rows.
    Source: S. Hochreiter, J. Schmidhuber, "Long short-term memory" (1997); halves and the range [0, 1) as in
    Q. V. Le, N. Jaitly, G. E. Hinton, arXiv 1504.00941.
    """
    values = _uniform(seed, 0, (rows, length))
    half = length // 2
    drawn = _uniform(seed, 1, (rows, 2))
    # Numbers below 1 in float64: the product never rounds up to the number of steps.
    marked = np.floor(drawn * [half, length - half]).astype(np.int64)
    marked[:, 1] += half
    markers = np.zeros((rows, length))
    np.put_along_axis(markers, marked, 1.0, axis=1)
    sums = np.take_along_axis(values, marked, axis=1).sum(axis=1, keepdims=True)
    inputs = np.stack([values, markers], axis=2)
    return RawData(inputs, ("value", "marker"), sums, Target("regression", ("sum",)), kind="sequence")


def _uniform(seed: int, number: int, shape: tuple[int, ...]) -> np.ndarray:
    key = random.make_key(seed, random.DATA, number)
    return np.asarray(random.uniform(key, shape).numpy().astype(np.float64))
