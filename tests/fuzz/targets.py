"""What reads from outside, and what to throw at it: anything may be refused, nothing may crash."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import slipstream
from slipstream import checkpoints
from slipstream.config import validate
from slipstream.config.files import defaults
from slipstream.data import Preprocessing, load
from slipstream.sweep.jobs import ended
from slipstream.sweep.report.reading import lines


@dataclass(frozen=True)
class Target:
    """A reader, and a strategy for what it reads."""

    given: st.SearchStrategy[Any]
    reads: Callable[[Any], Any]


SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    *(st.just("${seed}"), st.just("???"), st.just("1e-3"), st.just(10**400)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=6,
)


def edits(seed: bytes) -> st.SearchStrategy[bytes]:
    """The seed with some bytes changed, cut out or put in; or any bytes at all."""
    edit = st.tuples(st.integers(0, len(seed)), st.integers(0, 8), st.binary(max_size=8))

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        made = seed
        for place, length, new in changes:
            made = made[:place] + new + made[place + length :]
        return made

    return st.lists(edit, min_size=1, max_size=4).map(apply) | st.binary(max_size=200)


@cache
def _base() -> dict[str, Any]:
    return slipstream.compose("regularizer=[dropout,l2]", "data=two_moons")


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(node, dict):
        for key, value in node.items():
            found += _paths(value, (*path, key))
    return found


def _changed(changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
    made = deepcopy(_base())
    for path, value in changes:
        node = made
        for key in path[:-1]:
            node = node.get(key) if isinstance(node, dict) else None  # type: ignore[assignment]
        if isinstance(node, dict):
            node[path[-1]] = value
    return made


def configurations() -> st.SearchStrategy[Any]:
    """A good configuration with some of its places overwritten, or any nested mapping."""
    places = st.sampled_from(_paths(_base()))
    named = st.tuples(places, VALUES)
    unknown = st.tuples(st.tuples(st.sampled_from(list(_base())), st.text(max_size=5)), VALUES)
    changed = st.lists(named | unknown, min_size=1, max_size=3).map(_changed)
    return changed | st.dictionaries(SCALARS, VALUES, max_size=5)


def _data(name: str, content: bytes, file: str, **settings: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_bytes(content)
        load({"name": name, **defaults("data", name), "path": str(path), **settings})


def _csv(content: bytes) -> None:
    _data("table", content, "t.csv", target="y")


def _parquet(content: bytes) -> None:
    _data("table", content, "t.parquet", target="y")


def _npz(content: bytes) -> None:
    _data("arrays", content, "a.npz")


def _safetensors(content: bytes) -> None:
    _data("arrays", content, "a.safetensors")


def _manifest(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoints" / "step-00000001"
        path.mkdir(parents=True)
        for name in checkpoints.FILES:
            (path / name).write_bytes(b"{}")
        (path / "manifest.json").write_bytes(content)
        checkpoints.load(path)


def _summary(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "summary.json").write_bytes(content)
        ended(Path(folder))


def _metrics(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        path.write_bytes(content)
        lines(path)


def _preprocessing(source: Any) -> None:
    """As prediction.load guards it: what is not of the form is an error of one of these kinds."""
    try:
        Preprocessing.from_json(source)
    except (ValueError, KeyError, TypeError, AttributeError):
        return


def _bytes(write: Callable[[Any], Any]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def _frame() -> Any:
    import polars

    return polars.DataFrame({"a": [1.5, None, 3.0] * 5, "b": ["x", "y", "z"] * 5, "y": [0, 1, 0] * 5})


DRAW = np.random.default_rng(0)
ARRAYS = {"inputs": DRAW.normal(size=(12, 2)), "targets": np.arange(12) % 2}


def _safe() -> bytes:
    from safetensors.numpy import save

    return save(ARRAYS)


RECORD = json.dumps({"epoch": 1, "step": 20, "train/loss": 0.5, "val/loss": None}).encode() + b"\n"
MANIFEST = json.dumps(
    {"format": 1, "files": {name: {"bytes": 2, "sha256": "44136fa355b3678a"} for name in checkpoints.FILES}}
).encode()

TARGETS = {
    "configuration": Target(configurations(), validate),
    "csv": Target(edits(_bytes(lambda b: _frame().write_csv(b))), _csv),
    "parquet": Target(edits(_bytes(lambda b: _frame().write_parquet(b))), _parquet),
    "npz": Target(edits(_bytes(lambda b: np.savez(b, **ARRAYS))), _npz),
    "safetensors": Target(edits(_safe()), _safetensors),
    "manifest": Target(edits(MANIFEST), _manifest),
    "summary": Target(edits(b'{"status": "finished", "value": 0.5}'), _summary),
    "metrics": Target(edits(RECORD * 3), _metrics),
    "preprocessing": Target(VALUES, _preprocessing),
}
