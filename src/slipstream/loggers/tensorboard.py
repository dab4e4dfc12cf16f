"""TensorBoard event files, which no other module writes.

One `Event` contains all scalars of an epoch and is written by the caller's thread. `SummaryWriter` would
start a thread for every member of a sweep and needs a call for every scalar. Events are collected until
`flush` appends them, so that hundreds of members keep no files open.
"""

from __future__ import annotations

import io
import os
import re
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from slipstream.core import folders
from slipstream.core.types import Plain
from slipstream.loggers.event_records import record, scalar_event

if TYPE_CHECKING:
    from PIL.Image import Image

PREFIX = "events.out.tfevents"
OWN = re.compile(rf"{re.escape(PREFIX)}\.\d+\..+\.\d+\.\d{{9,}}")
DT_FLOAT, DT_STRING = 1, 7
BUCKETS = 30
# Prefixes of tags. TensorBoard sorts them and expands the first two, so metrics of single epochs must come
# last.
CURVES, BEST = "curves", "with_best_weights"
# Tags written at the end of a run, also by older versions. A resumed run writes new ones.
OF_AN_END = (f"{BEST}/", "best/", "_hparams_/session_end_info")
AT_ONCE = 5  # hyperparameters that the HParams tab shows by default


class TensorBoard:
    """Writes one run's events into its directory.

    upto: on resume, the step of the last whole epoch; later events are removed. None starts afresh, and so
        does 0, since nothing is certain to be flushed before the first epoch.
    leads: make this run the first in TensorBoard, which sorts runs by start time.
    curves: names of subfolders whose curves share charts. TensorBoard treats each folder as a run with its
        own color.
    """

    def __init__(
        self,
        directory: Path,
        upto: int | None = None,
        *,
        leads: bool = False,
        curves: Sequence[str] = (),
    ) -> None:
        kept = _kept_events(directory, upto) if upto else []
        before = _own_files(directory)
        name = f"{PREFIX}.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{time.monotonic_ns()}"
        self.path = directory / name
        self.resumed = bool(kept)
        self._records = [record(event) for event in kept or [_version(1.0 if leads else time.time())]]
        self._size = 0
        with folders.opened(self.path, "xb"):
            pass
        for curve in curves:
            folders.mkdir(directory / curve)
        self.curves = {curve: TensorBoard(directory / curve, upto, leads=leads) for curve in curves}
        self.flush()
        for path in before:
            folders.remove(path)

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """Write all scalars of one step. None (undefined) leaves a gap."""
        self._records.append(record(scalar_event(values, step)))

    def curve(self, name: str, values: Mapping[str, float | None], step: int) -> None:
        """Write one step of one of the `curves`."""
        self.curves[name].scalars({f"{CURVES}/{tag}": value for tag, value in values.items()}, step)

    def best(self, values: Mapping[str, float | None], step: int) -> None:
        """Write the metrics of the best epoch at its step, under tags that sort after all others."""
        self.scalars({f"{BEST}/{name}": value for name, value in values.items()}, step)

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Write Markdown text."""
        self._tensor(tag, _strings([markdown.encode()]), "text", step)

    def image(self, tag: str, picture: Image, step: int) -> None:
        """Write an image."""
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", compress_level=1)  # a fifth of the time
        encoded = Summary.Image(
            height=picture.height, width=picture.width, colorspace=3, encoded_image_string=buffer.getvalue()
        )
        self._write([Summary.Value(tag=tag, image=encoded)], step)

    def histograms(self, values: Mapping[str, np.ndarray], step: int) -> None:
        """Write a histogram of 30 buckets for each named array, without non-finite values."""
        made = [_histogram(array[np.isfinite(array)]) for array in values.values()]
        self._write(
            [
                Summary.Value(tag=tag, tensor=tensor, metadata=_plugin("histograms"))
                for tag, tensor in zip(values, made, strict=True)
            ],
            step,
        )

    def charts(self, pairs: Mapping[str, Sequence[str]], category: str = "train and validation") -> None:
        """Write the layout of custom scalars: one chart per title, with its tags (regular expressions)."""
        charts = [
            layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=list(tags)))
            for title, tags in pairs.items()
        ]
        layout = layout_pb2.Layout(category=[layout_pb2.Category(title=category, chart=charts)])
        tensor = _strings([layout.SerializeToString()])
        self._tensor("custom_scalars__config__", tensor, "custom_scalars", 0)

    def hparams(self, values: Mapping[str, Plain], group: str) -> None:
        """Write the hyperparameters of this run. Runs of the same group are merged into one row."""
        start = plugin_data_pb2.SessionStartInfo(group_name=group, start_time_secs=time.time())
        for name, value in values.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = str(value)
        self._hparam_event("_hparams_/session_start_info", session_start_info=start)

    def columns(
        self, values: Mapping[str, Sequence[Plain]], metrics: Sequence[str], first: Collection[str] = ()
    ) -> None:
        """Write the columns that the HParams table and its parallel coordinates show for all runs below.

        values: a hyperparameter's name in `hparams` -> its values in all runs. By default, the table shows
        those in `first`, or the first five if it is empty. metrics: from `best`.
        """
        infos = [_hparam_info(name, found) for name, found in values.items()]
        for info in [info for info in infos if info.name in first] or infos[:AT_ONCE]:
            info.differs = True  # the page shows five: these first, then in alphabetical order
        shown = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f"{BEST}/{name}"), display_name=f"best {name}")
            for name in dict.fromkeys(metrics)
        ]
        experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=shown)
        self._hparam_event("_hparams_/experiment", experiment=experiment)

    def hparams_end(self, *, success: bool) -> None:
        """Write the end of the session that `hparams` began."""
        status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        self._hparam_event("_hparams_/session_end_info", session_end_info=end)

    def graph(self, definition: bytes) -> None:
        """Write the graph of a network, as returned by `graph.trace`."""
        event = Event(wall_time=time.time(), graph_def=definition)
        self._records.append(record(event.SerializeToString()))

    def flush(self) -> None:
        """Append the collected events to the files. If it raises OSError, the file is unchanged."""
        for part in self.curves.values():
            part.flush()
        if not self._records:
            return
        content = b"".join(self._records)
        try:
            with folders.opened(self.path, "ab") as file:
                file.write(content)
        except OSError:
            with suppress(OSError), folders.opened(self.path, "r+b") as file:
                file.truncate(self._size)  # a partial record would hide everything after it
            raise
        self._size += len(content)
        self._records.clear()

    def close(self) -> None:
        """Flush for the last time. No file remains open."""
        self.flush()

    def _hparam_event(self, tag: str, **content: object) -> None:
        data = plugin_data_pb2.HParamsPluginData(version=0, **content)
        metadata = _plugin("hparams", data.SerializeToString())
        empty = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto())
        self._write([Summary.Value(tag=tag, metadata=metadata, tensor=empty)], 0)

    def _tensor(self, tag: str, tensor: TensorProto, plugin: str, step: int) -> None:
        self._write([Summary.Value(tag=tag, tensor=tensor, metadata=_plugin(plugin))], step)

    def _write(self, values: Sequence[Summary.Value], step: int) -> None:
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._records.append(record(event.SerializeToString()))


def _version(when: float) -> bytes:
    result: bytes = Event(wall_time=when, file_version="brain.Event:2").SerializeToString()
    return result


def _own_files(directory: Path) -> list[Path]:
    """Return slipstream's own event files, whose names end in nanoseconds instead of a small count."""
    return sorted(path for path in directory.glob(f"{PREFIX}.*") if OWN.fullmatch(path.name))


def _kept_events(directory: Path, upto: int) -> list[bytes]:
    """Return serialized events up to step `upto` or a truncated record, without those of a run's end."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    kept = []
    for path in _own_files(directory):
        for event in RawEventFileLoader(str(path)).Load():
            read = Event.FromString(event)
            if read.step <= upto and not _of_an_end(read):
                kept.append(event)
    return list(dict.fromkeys(kept))  # a crash during this step may have left duplicates


def _of_an_end(event: Event) -> bool:
    """Return True for an event written at a run's end: best metrics, status and images."""
    return any(
        v.tag.startswith(OF_AN_END) or (v.HasField("image") and event.step) for v in event.summary.value
    )


def _plugin(name: str, content: bytes = b"") -> SummaryMetadata:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=name, content=content))
    if name == "histograms":
        metadata.data_class = 2  # DATA_CLASS_TENSOR
    return metadata


def _hparam_info(name: str, values: Sequence[Plain]) -> api_pb2.HParamInfo:
    """Return the description of a column: an interval of numbers, or the values as strings."""
    info = api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_STRING)
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
    """Return [buckets, 3]: left edge, right edge, count; a single empty bucket if there are no values."""
    table = np.zeros((BUCKETS if array.size else 1, 3), np.float32)
    if array.size:
        low, high = float(array.min()), float(array.max())
        low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
        edges = np.linspace(low, high, BUCKETS + 1)
        # This takes a fifth of the time of numpy.histogram, and a pack writes thousands.
        places = ((array - low) * (BUCKETS / (high - low))).astype(np.int64).clip(0, BUCKETS - 1)
        table[:, 0], table[:, 1] = edges[:-1], edges[1:]
        table[:, 2] = np.bincount(places, minlength=BUCKETS)
    dims = [TensorShapeProto.Dim(size=size) for size in table.shape]
    return TensorProto(
        dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=dims), tensor_content=table.tobytes()
    )
