"""TensorBoard, and nothing else knows it.

One `Event` holds all scalars of an epoch and is written by the caller's thread: `SummaryWriter`
would start a thread for every member of a sweep and takes a call for every scalar. Events are
collected until `flush` appends them, so that hundreds of members hold no file open.
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
from typing import TYPE_CHECKING, Any

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
# What tags begin with. TensorBoard sorts them, and opens the first two beginnings: the metrics of single
# epochs shall come behind all others.
CURVES, BEST = "curves", "with_best_weights"
# Of an earlier end, also of runs of older versions: a run that goes on comes to another.
OF_AN_END = (f"{BEST}/", "best/", "_hparams_/session_end_info")
AT_ONCE = 5  # hyperparameters that the HParams tab shows unasked


class TensorBoard:
    """Writes one run's events into its directory.

    upto: on resume, events of later steps are taken out of what is there (the step of the last
    whole epoch); None starts afresh, as does 0: before the first epoch nothing is flushed for sure.
    leads: runs are listed by their beginnings; this one comes before all others.
    curves: TensorBoard has a colour for each run, and a run is a folder: names of folders below this one
    whose curves share charts.
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
        """All scalars of one step; None (undefined) leaves a gap."""
        self._records.append(record(scalar_event(values, step)))

    def curve(self, name: str, values: Mapping[str, float | None], step: int) -> None:
        """One step of one of the `curves`."""
        self.curves[name].scalars({f"{CURVES}/{tag}": value for tag, value in values.items()}, step)

    def best(self, values: Mapping[str, float | None], step: int) -> None:
        """The metrics of the best epoch, at its step, under tags that come after all others."""
        self.scalars({f"{BEST}/{name}": value for name, value in values.items()}, step)

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

    def hparams(self, values: Mapping[str, Plain], group: str) -> None:
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

    def columns(
        self, values: Mapping[str, Sequence[Any]], metrics: Sequence[str], first: Collection[str] = ()
    ) -> None:
        """What the HParams table and its parallel coordinates show of all runs below this directory.

        values: a hyperparameter's name in `hparams` -> what it is in all runs; those that come `first`, and
        without any the first five, are shown at once, the others when they are ticked. metrics: of `best`.
        """
        infos = [_hparam_info(name, found) for name, found in values.items()]
        for info in [info for info in infos if info.name in first] or infos[:AT_ONCE]:
            info.differs = True  # the page shows five, those first, else by the alphabet
        shown = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f"{BEST}/{name}"), display_name=f"best {name}")
            for name in dict.fromkeys(metrics)
        ]
        experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=shown)
        self._hparam_event("_hparams_/experiment", experiment=experiment)

    def hparams_end(self, *, success: bool) -> None:
        """The end of the session that `hparams` began."""
        status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        self._hparam_event("_hparams_/session_end_info", session_end_info=end)

    def graph(self, definition: bytes) -> None:
        """The graph of a network, as `graph.trace` gives it."""
        event = Event(wall_time=time.time(), graph_def=definition)
        self._records.append(record(event.SerializeToString()))

    def flush(self) -> None:
        """Append to the files what has been collected. Raises OSError; then a file is as it was."""
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
                file.truncate(self._size)  # half a record would hide all that comes after it
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
        self._records.append(record(event.SerializeToString()))


def _version(when: float) -> bytes:
    return Event(wall_time=when, file_version="brain.Event:2").SerializeToString()


def _own_files(directory: Path) -> list[Path]:
    """Event files that a run of ours wrote, told by the nanoseconds at the end: others have a small count."""
    return sorted(path for path in directory.glob(f"{PREFIX}.*") if OWN.fullmatch(path.name))


def _kept_events(directory: Path, upto: int) -> list[bytes]:
    """Serialized events of all files with a step of at most `upto`, without those of an end; a torn tail
    ends a file."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    kept = []
    for path in _own_files(directory):
        for event in RawEventFileLoader(str(path)).Load():
            read = Event.FromString(event)
            if read.step <= upto and not _of_an_end(read):
                kept.append(event)
    return list(dict.fromkeys(kept))  # a crash in the middle of this may have left copies


def _of_an_end(event: Event) -> bool:
    """Whether an event was written when a run ended: its best metrics, its status and its pictures."""
    return any(
        v.tag.startswith(OF_AN_END) or (v.HasField("image") and event.step) for v in event.summary.value
    )


def _plugin(name: str, content: bytes = b"") -> SummaryMetadata:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=name, content=content))
    if name == "histograms":
        metadata.data_class = 2  # DATA_CLASS_TENSOR
    return metadata


def _hparam_info(name: str, values: Sequence[Any]) -> api_pb2.HParamInfo:
    """A column: an interval of numbers, or the values as texts."""
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
    """[buckets, 3]: left edge, right edge, count; a single bucket of nothing where there is no value."""
    table = np.zeros((BUCKETS if array.size else 1, 3), np.float32)
    if array.size:
        low, high = float(array.min()), float(array.max())
        low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
        edges = np.linspace(low, high, BUCKETS + 1)
        # numpy.histogram in a fifth of its time: a pack writes thousands.
        places = ((array - low) * (BUCKETS / (high - low))).astype(np.int64).clip(0, BUCKETS - 1)
        table[:, 0], table[:, 1] = edges[:-1], edges[1:]
        table[:, 2] = np.bincount(places, minlength=BUCKETS)
    dims = [TensorShapeProto.Dim(size=size) for size in table.shape]
    return TensorProto(
        dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=dims), tensor_content=table.tobytes()
    )
