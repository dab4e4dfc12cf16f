"""TensorBoard, and nothing else knows it.

One `Event` holds all scalars of an epoch and is written by the caller's thread: `SummaryWriter`
would start a thread for every member of a sweep and takes a call for every scalar. Events are
collected until `flush` appends them, so that hundreds of members hold no file open.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

PREFIX = "events.out.tfevents"
DT_FLOAT, DT_STRING = 1, 7
BUCKETS = 30
BLOCK = 1024  # bytes whose checksum is taken at once
POLYNOMIAL = 0x82F63B78
WALL_TIME, CHECKSUM = struct.Struct("<Bd"), struct.Struct("<I")


class TensorBoard:
    """Writes one run's events into its directory.

    upto: on resume, events of later steps are taken out of what is there (the step of the last
    whole epoch); None starts afresh, as does 0: before the first epoch nothing is flushed for sure.
    """

    def __init__(self, directory: Path, upto: int | None = None) -> None:
        kept = _kept_events(directory, upto) if upto else []
        before = list(directory.glob(f"{PREFIX}.*"))
        name = f"{PREFIX}.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self.path = directory / name
        self.resumed = bool(kept)
        self._records = [_record(event) for event in kept or [_version()]]
        self._size = 0
        self.flush()
        for path in before:
            path.unlink()

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """All scalars of one step; None (undefined) leaves a gap."""
        self._records.append(_record(_scalar_event(values, step)))

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """A text in markdown."""
        self._tensor(tag, _strings([markdown.encode()]), "text", step)

    def image(self, tag: str, picture: Image, step: int) -> None:
        """A picture."""
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", compress_level=1)  # a fifth of the time
        encoded = Summary.Image(
            height=picture.height, width=picture.width, colorspace=3, encoded_image_string=buffer.getvalue()
        )
        self._write([Summary.Value(tag=tag, image=encoded)], step)

    def histograms(self, values: Mapping[str, np.ndarray], step: int) -> None:
        """One histogram of 30 buckets for each named array; values that are not finite are left out."""
        made = [_histogram(array[np.isfinite(array)]) for array in values.values()]
        self._write(
            [
                Summary.Value(tag=tag, tensor=tensor, metadata=_plugin("histograms"))
                for tag, tensor in zip(values, made, strict=True)
            ],
            step,
        )

    def charts(self, pairs: Mapping[str, Sequence[str]], category: str = "train and validation") -> None:
        """Custom scalars: one chart for each title, with all of its tags (regular expressions) on it."""
        charts = [
            layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=list(tags)))
            for title, tags in pairs.items()
        ]
        layout = layout_pb2.Layout(category=[layout_pb2.Category(title=category, chart=charts)])
        tensor = _strings([layout.SerializeToString()])
        self._tensor("custom_scalars__config__", tensor, "custom_scalars", 0)

    def hparams(self, values: Mapping[str, Any], group: str) -> None:
        """The hyperparameters of this run, in this run. Runs of one group are merged into a row."""
        start = plugin_data_pb2.SessionStartInfo(group_name=group, start_time_secs=time.time())
        for name, value in values.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = str(value)
        self._hparam_event("_hparams_/session_start_info", session_start_info=start)

    def columns(self, values: Mapping[str, Sequence[Any]], metrics: Sequence[str]) -> None:
        """What the HParams table and its parallel coordinates show of all runs below this directory.

        values: a hyperparameter's name in `hparams` -> what it may be there. metrics: tags of scalars.
        """
        infos = [_hparam_info(name, found) for name, found in values.items()]
        shown = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag) for tag in metrics]
        experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=shown)
        self._hparam_event("_hparams_/experiment", experiment=experiment)

    def hparams_end(self, *, success: bool) -> None:
        """The end of the session that `hparams` began."""
        status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        self._hparam_event("_hparams_/session_end_info", session_end_info=end)

    def graph(self, definition: bytes) -> None:
        """The graph of a network, as `trace` gives it."""
        event = Event(wall_time=time.time(), graph_def=definition)
        self._records.append(_record(event.SerializeToString()))

    def flush(self) -> None:
        """Append to the file what has been collected. Raises OSError; then the file is as it was."""
        if not self._records:
            return
        content = b"".join(self._records)
        try:
            with open(self.path, "ab") as file:
                file.write(content)
        except OSError:
            with suppress(OSError):  # half a record would hide all that comes after it
                os.truncate(self.path, self._size)
            raise
        self._size += len(content)
        self._records.clear()

    def close(self) -> None:
        """The last flush. There is nothing to be closed."""
        self.flush()

    def _hparam_event(self, tag: str, **content: Any) -> None:
        data = plugin_data_pb2.HParamsPluginData(version=0, **content)
        metadata = _plugin("hparams", data.SerializeToString())
        empty = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto())
        self._write([Summary.Value(tag=tag, metadata=metadata, tensor=empty)], 0)

    def _tensor(self, tag: str, tensor: TensorProto, plugin: str, step: int) -> None:
        self._write([Summary.Value(tag=tag, tensor=tensor, metadata=_plugin(plugin))], step)

    def _write(self, values: Sequence[Summary.Value], step: int) -> None:
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._records.append(_record(event.SerializeToString()))


def trace(module: nn.Module, example: Tensor) -> bytes:
    """The graph of a network, traced with one example [1, ...]."""
    from torch.utils.tensorboard._pytorch_graph import graph

    with warnings.catch_warnings():  # it traces, which torch deprecates and gives no other way to
        warnings.simplefilter("ignore", DeprecationWarning)
        definition, _ = graph(module, example)
    return bytes(definition.SerializeToString())


def _version() -> bytes:
    return Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()


def _scalar_event(values: Mapping[str, float | None], step: int) -> bytes:
    """A serialized Event with one simple value a tag, in a sixth of protobuf's time."""
    if None in values.values():
        values = {tag: value for tag, value in values.items() if value is not None}
    layout, heads = _layout(tuple(values))
    try:
        summary = layout.pack(*chain.from_iterable(zip(heads, values.values(), strict=True)))
    except OverflowError:  # larger than float32
        with np.errstate(over="ignore"):
            numbers = np.array(list(values.values()), np.float64).astype(np.float32).tolist()
        summary = layout.pack(*chain.from_iterable(zip(heads, numbers, strict=True)))
    begin = WALL_TIME.pack(0x09, time.time())
    steps = b"\x10" + _varint(step) if step else b""
    return b"%b%b\x2a%b%b" % (begin, steps, _varint(len(summary)), summary)


@cache
def _layout(tags: tuple[str, ...]) -> tuple[struct.Struct, list[bytes]]:
    """How the values of a Summary with these tags lie, and what stands before each value."""
    heads = []
    for tag in tags:
        name = tag.encode()
        inner = b"\x0a%b%b\x15" % (_varint(len(name)), name)
        heads.append(b"\x0a%b%b" % (_varint(len(inner) + 4), inner))
    return struct.Struct("<" + "".join(f"{len(head)}sf" for head in heads)), heads


def _varint(number: int) -> bytes:
    """A whole number of 0 or above as protobuf writes it: seven bits to a byte, the lowest first."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def _record(data: bytes) -> bytes:
    """An event as it stands in the file: length, checksum of that, data, checksum of that."""
    return b"%b%b%b" % (_record_head(len(data)), data, CHECKSUM.pack(_masked(crc32c(data))))


@cache
def _record_head(length: int) -> bytes:
    head = struct.pack("<Q", length)
    return head + CHECKSUM.pack(_masked(crc32c(head)))


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum; tensorboard's own is a Python loop over the bytes.

    It is linear: each byte adds, by exclusive or, what a table has for its value and its distance
    from the end; the checksum of the block before enters as if it stood in the first four bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    offsets, table = _crc_table()
    for start in range(0, len(data), BLOCK):
        block = np.frombuffer(data, np.uint8, min(BLOCK, len(data) - start), start).copy()
        first = block[:4]
        first ^= np.frombuffer(crc.to_bytes(4, "little"), np.uint8, len(first))
        parts = table.take(offsets[BLOCK - len(block) :] + block)
        crc = int(np.bitwise_xor.reduce(parts)) ^ crc >> 8 * len(first)
    return crc ^ 0xFFFFFFFF


@cache
def _crc_table() -> tuple[np.ndarray, np.ndarray]:
    """What a byte adds, a row of 256 for each place in a block; and where each row begins."""
    row: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = row >> 1 ^ np.where(row & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    rows = [row]
    while len(rows) < BLOCK:
        rows.append(rows[-1] >> 8 ^ row[rows[-1] & 0xFF])
    return np.arange(BLOCK) * 256, np.concatenate(rows[::-1])


def _kept_events(directory: Path, upto: int) -> list[bytes]:
    """Serialized events of all files with a step of at most `upto`; a torn tail ends a file."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    kept = []
    for path in sorted(directory.glob(f"{PREFIX}.*")):
        for record in RawEventFileLoader(str(path)).Load():
            if Event.FromString(record).step <= upto:
                kept.append(record)
    return list(dict.fromkeys(kept))  # a crash in the middle of this may have left copies


def _plugin(name: str, content: bytes = b"") -> SummaryMetadata:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=name, content=content))
    if name == "histograms":
        metadata.data_class = 2  # DATA_CLASS_TENSOR
    return metadata


def _hparam_info(name: str, values: Sequence[Any]) -> api_pb2.HParamInfo:
    """A column: an interval of numbers, or the values as texts."""
    info = api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_STRING, differs=True)
    if all(isinstance(value, bool) for value in values):
        info.type = api_pb2.DATA_TYPE_BOOL
        info.domain_discrete.extend(sorted(set(values)))
    elif all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value, info.domain_interval.max_value = min(values), max(values)
    else:
        info.domain_discrete.extend(sorted({str(value) for value in values}))
    return info


def _strings(values: Sequence[bytes]) -> TensorProto:
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(values))])
    return TensorProto(dtype=DT_STRING, string_val=values, tensor_shape=shape)


def _histogram(array: np.ndarray) -> TensorProto:
    """[buckets, 3]: left edge, right edge, count."""
    counts, edges = np.histogram(array, bins=BUCKETS) if array.size else (np.zeros(1), np.zeros(2))
    table = np.stack([edges[:-1], edges[1:], counts], axis=1).astype(np.float32)
    dims = [TensorShapeProto.Dim(size=size) for size in table.shape]
    return TensorProto(
        dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=dims), tensor_content=table.tobytes()
    )
