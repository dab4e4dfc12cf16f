"""Conversion of predictions to the library of the examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slipstream.core.lazy import torch
from slipstream.core.types import DataLike
from slipstream.data.tabular.frames import is_table


def like_caller(x: DataLike, values: np.ndarray, names: Sequence[str]) -> DataLike:
    """Return predictions in the type of the caller's data.

    For a data frame, return a column, or a frame for several columns, with the index of a pandas frame. For a
    tensor, return a tensor if values are numbers. Otherwise return an array. values: [N], or [N, names].
    """
    if isinstance(x, torch.Tensor) and values.dtype.kind in "fiub":
        return torch.from_numpy(np.ascontiguousarray(values)).to(x.device)
    if not is_table(x):
        return values
    import narwhals.stable.v2 as nw

    frame = nw.from_native(x, eager_only=True, pass_through=True)
    if not isinstance(frame, nw.DataFrame):  # a mapping of columns
        return values
    words = values.dtype.kind == "U"  # numpy's strings have a fixed length, which not every library accepts
    listed = values.astype(object) if words else values
    if values.ndim == 1:
        column = listed.tolist() if words else listed
        native = nw.new_series(names[0], column, backend=frame.implementation).to_native()
    else:
        columns = dict(zip(names, listed.T, strict=True))
        native = nw.from_dict(columns, backend=frame.implementation).to_native()
    if frame.implementation.is_pandas_like() and len(native) == len(x):
        native.index = x.index
    return native
