"""What reads from outside, and what to throw at it: anything may be refused, nothing may crash."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import strategies as st
from PIL import Image

import slipstream
from slipstream.config import replay, validate
from slipstream.config.files import defaults
from slipstream.core.errors import UserError
from slipstream.data import from_json, load
from slipstream.data.image.image_files import ImageFormat, headers, read_images
from slipstream.loggers.tensorboard import TensorBoard
from slipstream.runs import checkpoints
from slipstream.sweeps.plan import planning, store
from slipstream.sweeps.plan.job import ended
from slipstream.sweeps.plan.space import Interval, Space
from slipstream.sweeps.report.reading import lines
from slipstream.sweeps.search.study import Study


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


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in inside for place in _places(child, (*path, key)))]


def documents(seed: bytes) -> st.SearchStrategy[bytes]:
    """Lines of JSON, or one document, with other values at some of its places; or with some bytes edited."""
    try:
        trees, end = [json.loads(seed)], ""
    except ValueError:
        trees, end = [json.loads(line) for line in seed.splitlines()], "\n"
    places = st.sampled_from([(n, *place) for n, tree in enumerate(trees) for place in _places(tree)])

    def apply(changes: list[tuple[tuple[Any, ...], Any]]) -> bytes:
        made: list[Any] = deepcopy(trees)
        for path, value in changes:
            node: Any = made
            with suppress(KeyError, IndexError, TypeError):  # an earlier change took the place away
                for key in path[:-1]:
                    node = node[key]
                node[path[-1]] = value
        return "".join(json.dumps(tree) + end for tree in made).encode()

    texts = st.text(max_size=8) | st.none() | st.booleans() | st.integers() | st.floats()
    values = st.recursive(
        texts, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=2)
    )
    changed = st.lists(st.tuples(places, values), min_size=1, max_size=2).map(apply)
    return changed | edits(seed)


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


def _idx(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.idx"
        labels.write_bytes(LABELS)
        _data("idx", content, "images.idx", labels=str(labels))


def _labels(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.idx"
        labels.write_bytes(content)
        _data("idx", IMAGES, "images.idx", labels=str(labels))


def _cifar(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"):
            (Path(folder) / name).write_bytes(content)
        load({"name": "cifar", **defaults("data", "cifar"), "path": folder})


def _archive(content: bytes) -> None:
    _data("cifar", content, "cifar-10-binary.tar.gz")


def _lines(content: bytes) -> None:
    _data("text", content, "t.txt", min_count=1)


def _sequences(content: bytes) -> None:
    _data("sequences", content, "s.csv", id="id", time="t", target="y")


def _image(content: bytes) -> None:
    """Read in colour and in grey, or refused; its header alone as well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes(content)
        for channels in (1, 3):
            with suppress(UserError):
                read_images([path], ImageFormat((6, 6), channels))
        list(headers([str(path)]))


LINE = Space((Interval("x", 0.0, 1.0), Interval("y", 1e-4, 1.0, log=True)))
SEARCH = {"name": "random", "trials": 9, "at_once": 4, "seed": 3, "pruner": "none"}


def _study(path: Path) -> Study:
    return Study(path, LINE, {**SEARCH, "min_epochs": None, "reduction": None, "patience": None}, True, 9)


def _journal(content: bytes) -> None:
    """A study that somebody goes on with."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.journal"
        path.write_bytes(content)
        study = _study(path)
        study.asked()
        study.ask(1)


def _sweep(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sweep.json").write_bytes(content)
        plan = store.resume(Path(folder), [])
        _ = plan.example, plan.jobs


def _run(content: bytes) -> None:
    """The config.yaml of a run that is to be resumed."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_bytes(content)
        (Path(folder) / "overrides.yaml").write_bytes(b"[]\n")
        replay.replay([f"resume={folder}"])
        replay.check_resume(Path(folder), _base())


def _typed(content: bytes) -> None:
    """The overrides.yaml of a run that is to be resumed."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_bytes(b"{}\n")
        (Path(folder) / "overrides.yaml").write_bytes(content)
        replay.replay([f"resume={folder}"])


def _events(content: bytes) -> None:
    """The event file of a run that is resumed."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "events.out.tfevents.1.host.1.1").write_bytes(content)
        TensorBoard(Path(folder), upto=2).close()


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
        from_json(source)
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


def _table(header: str, row: str) -> bytes:
    return "\n".join(
        [header, *(row.format(i=i, two=i % 2, four=i // 4, label=i // 4 % 2) for i in range(24)), ""]
    ).encode()


def _picture(kind: str) -> bytes:
    picture = Image.fromarray(DRAW.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    return _bytes(lambda buffer: picture.save(buffer, kind))


def _pngs() -> st.SearchStrategy[bytes]:
    """Blocks with right checksums: a wrong one is refused before anything is decoded."""

    def block(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    kinds = st.sampled_from([b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"acTL"])
    size = st.sampled_from([0, 1, 2, 3, 40, 60_000, 2**31 - 1])
    byte = st.integers(0, 17)
    head = st.builds(struct.pack, st.just(">IIBBBBB"), size, size, byte, byte, byte, byte, byte)
    pixels = st.one_of(st.binary(max_size=40), st.integers(0, 999).map(lambda n: zlib.compress(bytes(n))))
    others = st.lists(st.builds(block, kinds, st.binary(max_size=40)), max_size=3).map(b"".join)
    whole = st.tuples(head.map(lambda c: block(b"IHDR", c)), others, pixels.map(lambda c: block(b"IDAT", c)))
    return whole.map(lambda parts: b"\x89PNG\r\n\x1a\n" + b"".join(parts) + block(b"IEND", b""))


def _written(write: Callable[[Path], Any], name: str) -> bytes:
    """What a file of this name has, once it was written below a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return next(Path(folder).glob(name)).read_bytes()


def _archived() -> bytes:
    def write(buffer: Any) -> None:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name in (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"):
                entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                entry.size = len(CIFAR)
                archive.addfile(entry, io.BytesIO(CIFAR))

    return _bytes(write)


def _some_events(folder: Path) -> None:
    writer = TensorBoard(folder)
    for step in range(4):
        writer.scalars({"train/loss": 0.5, "val/loss": None}, step)
    writer.close()


def _some_trials(folder: Path) -> None:
    study = _study(folder / "study.journal")
    for trial in study.ask(3):
        study.tell(trial.number, 0.5, "finished")


def _some_plan(folder: Path) -> None:
    store.freeze(planning.plan(*PLAN), folder)


PLAN = ("data=two_moons", "sweep.repeats=2"), {"optimizer": ["sgd", "adam"], "optimizer.lr": [0.1, 0.01]}
IMAGES = struct.pack(">BBBBIII", 0, 0, 8, 3, 12, 4, 4) + DRAW.bytes(192)
LABELS = struct.pack(">BBBBI", 0, 0, 8, 1, 12) + bytes([0, 1, 2] * 4)
CIFAR = b"".join(bytes([k]) + DRAW.bytes(3072) for k in range(3))
RUN = yaml.safe_dump(_base()).encode()
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
    **{kind: Target(edits(_picture(kind)), _image) for kind in ("png", "jpeg", "webp")},
    "png_blocks": Target(_pngs(), _image),
    "idx": Target(edits(IMAGES) | edits(gzip.compress(IMAGES)), _idx),
    "idx_labels": Target(edits(LABELS), _labels),
    "cifar": Target(edits(CIFAR), _cifar),
    "cifar_archive": Target(edits(_archived()), _archive),
    "text": Target(edits(_table("0\ta b", "{two}\tsome words {i} é")), _lines),
    "sequences": Target(edits(_table("id,t,a,y", "s{four},{i},{i}.5,{label}")), _sequences),
    "events": Target(edits(_written(_some_events, "events.*")), _events),
    "journal": Target(documents(_written(_some_trials, "study.journal")), _journal),
    "sweep": Target(
        documents(_written(lambda f: store.freeze(planning.plan(*PLAN), f), "sweep.json")), _sweep
    ),
    "run": Target(edits(RUN), _run),
    "typed": Target(edits(b"- data=wine\n- optimizer.lr=0.1\n"), _typed),
    "manifest": Target(documents(MANIFEST), _manifest),
    "summary": Target(documents(b'{"status": "finished", "value": 0.5}'), _summary),
    "metrics": Target(documents(RECORD * 3), _metrics),
    "preprocessing": Target(VALUES, _preprocessing),
}
