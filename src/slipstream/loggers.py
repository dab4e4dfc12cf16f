"""TensorBoard, and nothing else knows it.

One `Event` holds all scalars of an epoch and is written by the caller's thread: `SummaryWriter`
would start a thread for every member of a sweep and takes a call for every scalar.
"""

from __future__ import annotations

import io
import os
import socket
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

PREFIX = "events.out.tfevents"
DT_FLOAT, DT_STRING = 1, 7
BUCKETS = 30


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
        self._file = open(self.path, "wb")  # noqa: SIM115 - closed by close()
        self._records = RecordWriter(self._file)
        self.resumed = bool(kept)
        for event in kept or [_version()]:
            self._records.write(event)
        self._file.flush()
        for path in before:
            path.unlink()

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """All scalars of one step; None (undefined) leaves a gap."""
        self._write(
            [Summary.Value(tag=tag, simple_value=v) for tag, v in values.items() if v is not None], step
        )
        self._file.flush()

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """A text in markdown."""
        self._tensor(tag, _strings([markdown.encode()]), "text", step)

    def image(self, tag: str, picture: Image, step: int) -> None:
        """A picture."""
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
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

    def charts(self, pairs: Mapping[str, Sequence[str]]) -> None:
        """Custom scalars: one chart for each title, with all of its tags on it."""
        charts = [
            layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=list(tags)))
            for title, tags in pairs.items()
        ]
        layout = layout_pb2.Layout(category=[layout_pb2.Category(title="train and validation", chart=charts)])
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

    def hparams_end(self, *, success: bool) -> None:
        """The end of the session that `hparams` began."""
        status = api_pb2.STATUS_SUCCESS if success else api_pb2.STATUS_FAILURE
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        self._hparam_event("_hparams_/session_end_info", session_end_info=end)

    def graph(self, module: nn.Module, example: Tensor) -> None:
        """The graph of a network, traced with one example [1, ...]."""
        from torch.utils.tensorboard._pytorch_graph import graph

        with warnings.catch_warnings():  # it traces, which torch deprecates and gives no other way to
            warnings.simplefilter("ignore", DeprecationWarning)
            definition, _ = graph(module, example)
        event = Event(wall_time=time.time(), graph_def=definition.SerializeToString())
        self._records.write(event.SerializeToString())

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def _hparam_event(self, tag: str, **content: Any) -> None:
        data = plugin_data_pb2.HParamsPluginData(version=0, **content)
        metadata = _plugin("hparams", data.SerializeToString())
        empty = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto())
        self._write([Summary.Value(tag=tag, metadata=metadata, tensor=empty)], 0)

    def _tensor(self, tag: str, tensor: TensorProto, plugin: str, step: int) -> None:
        self._write([Summary.Value(tag=tag, tensor=tensor, metadata=_plugin(plugin))], step)

    def _write(self, values: Sequence[Summary.Value], step: int) -> None:
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=values))
        self._records.write(event.SerializeToString())


def _version() -> bytes:
    return Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()


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
