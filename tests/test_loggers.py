"""TensorBoard's own reader and backend find in a run's directory what a person looks for."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import time

import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

import slipstream
from harness import small
from slipstream.loggers.event_records import crc32c, scalar_event
from slipstream.loggers.tensorboard import TensorBoard

# What TensorBoard itself warns about while it reads.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

EVERYTHING = {"compressedHistograms": 0, "images": 0, "histograms": 0, "scalars": 0, "tensors": 0}


def read(directory) -> EventAccumulator:
    return EventAccumulator(str(directory), size_guidance=EVERYTHING).Reload()


def plugin(found: EventAccumulator, name: str) -> list[str]:
    return sorted(found.PluginTagToContent(name))


def text(found: EventAccumulator, tag: str) -> str:
    (event,) = found.Tensors(tag)
    return event.tensor_proto.string_val[0].decode()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run with all that a logger writes: (its result, what TensorBoard reads, its directory)."""
    directory = tmp_path_factory.mktemp("logs") / "run"
    config = small(
        *("logger=tensorboard", "trainer.metrics=[accuracy,f1_macro]", "trainer.max_epochs=4"),
        *("data.class_weights=balanced", "logger.tensorboard.histograms=2", "regularizer=[batch_norm]"),
    )
    return slipstream.train(config, directory), read(directory), directory


@pytest.mark.slow
def test_every_number_of_an_epoch_is_a_scalar(run):
    """train and validation of each metric, learning rate, gradient and update norm: each epoch's value
    at its step, as metrics.jsonl has it."""
    result, found, _ = run
    expected = {f"{split}/{name}" for split in ("train", "val") for name in ("loss", "accuracy", "f1_macro")}
    expected |= {"optimizer.lr", "train/gradient_norm", "train/update_norm"}
    assert expected <= set(found.Tags()["scalars"])
    for name in expected:
        logged = [(event.step, event.value) for event in found.Scalars(name)]
        # An event holds float32.
        assert logged == [(r["step"], np.float32(r[name])) for r in result.records], name


def test_training_and_validation_share_a_chart_in_two_colours(run):
    """TensorBoard has a colour for each folder with events: train and val have one each, with every epoch's
    value under one tag, which comes before all others; Custom Scalars has a chart for each of these tags."""
    from tensorboard.plugins.custom_scalar import layout_pb2

    result, found, directory = run
    names = ("loss", "accuracy", "f1_macro")
    parts = {split: read(directory / split) for split in ("train", "val")}
    for split, part in parts.items():
        assert part.Tags()["scalars"] == [f"curves/{name}" for name in names]
        for name in names:
            logged = [(event.step, event.value) for event in part.Scalars(f"curves/{name}")]
            assert logged == [(r["step"], np.float32(r[f"{split}/{name}"])) for r in result.records]
    assert all(f"curves/{name}" < tag for name in names for tag in found.Tags()["scalars"])
    (event,) = found.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts == {name: [f"curves/{name}$"] for name in names}


@pytest.mark.slow
def test_metrics_of_the_best_epoch_stand_at_its_step_behind_all_others(tmp_path):
    """TensorBoard sorts tags and opens the first two groups: single points must not be what it opens with."""
    changes = ("trainer.max_epochs=6", "early_stopping.patience=6", "optimizer.lr=30")
    result = slipstream.train(small("logger=tensorboard", *changes), tmp_path / "run")
    assert result.best_epoch < 6
    found = read(tmp_path / "run")
    tags = sorted([*found.Tags()["scalars"], *found.Tags()["images"], *plugin(found, "histograms")])
    best = [tag for tag in tags if "best" in tag]
    assert (
        best
        == tags[-len(best) :]
        == [f"with_best_weights/{split}/loss" for split in ("test", "train", "val")]
    )
    for tag in best:
        (event,) = found.Scalars(tag)
        assert event.step == result.records[result.best_epoch - 1]["step"]
        assert event.value == np.float32(result.best[tag.partition("/")[2]])
    (event,) = found.Images("val/confusion_matrix")  # of the best weights, which early stopping restores
    assert event.step == result.records[result.best_epoch - 1]["step"]


def test_weight_histograms_hold_every_weight(run):
    """Each named parameter, as many times as asked; the counts add up to its size and the edges rise."""
    result, found, _ = run
    shown = [tag for tag in plugin(found, "histograms") if tag.startswith("weights/")]
    assert shown == sorted(f"weights/{name}" for name in result.weights)
    for name, weight in result.weights.items():
        events = found.Tensors(f"weights/{name}")
        assert [event.step for event in events] == [6, 12]
        table = np.frombuffer(events[-1].tensor_proto.tensor_content, np.float32).reshape(30, 3)
        assert table[:, 2].sum() == weight.numel()
        assert (table[:, 0] <= table[:, 1]).all()


def test_the_confusion_matrix_is_an_image(run):
    """A PNG of the validation part at the last step."""
    _, found, _ = run
    (event,) = found.Images("val/confusion_matrix")
    assert event.step == 12
    picture = Image.open(io.BytesIO(event.encoded_image_string))
    assert picture.size == (event.width, event.height)


def test_configuration_and_data_are_texts(run):
    """The text tab has the whole configuration as YAML, equal to config.yaml, and the data's summary."""
    _, found, directory = run
    assert plugin(found, "text") == ["configuration", "data"]
    shown = text(found, "configuration").removeprefix("```yaml\n").removesuffix("```")
    assert yaml.safe_load(shown) == yaml.safe_load((directory / "config.yaml").read_text())
    assert "rows" in text(found, "data")


def test_the_graph_is_the_networks(run):
    """Nodes stand below the names of their layers and weights, and are called after what they compute; every
    edge comes from a node that is there."""
    result, found, _ = run
    nodes = {node.name: list(node.input) for node in found.Graph().node}
    weights = {name.replace(".", "/") for name in result.weights}
    layers = {"example", "prediction", "hidden/0/linear/linear", "hidden/0/batch_norm/batch_norm"}
    assert weights | layers | {"hidden/0/activation/tanh", "output/linear/linear"} <= set(nodes)
    assert {edge for edges in nodes.values() for edge in edges} <= set(nodes)
    assert nodes["prediction"] == ["output/linear/linear"]
    assert set(nodes["output/linear/linear"]) >= {"output/linear/weight", "hidden/0/activation/tanh"}


def test_hyperparameters_are_in_the_same_run(run):
    """No run of their own: the session's start with its settings and its end stand in this one."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    _, found, _ = run
    content = found.PluginTagToContent("hparams")
    tags = ["experiment", "session_end_info", "session_start_info"]
    assert sorted(content) == [f"_hparams_/{tag}" for tag in tags]
    start = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_start_info"])
    values = start.session_start_info.hparams
    assert values["optimizer.lr"].number_value == 0.1
    assert values["activation.name"].string_value == "tanh"
    assert values["model.residual"].bool_value is False
    end = plugin_data_pb2.HParamsPluginData.FromString(content["_hparams_/session_end_info"])
    assert end.session_end_info.status == 1  # STATUS_SUCCESS


@pytest.mark.slow
def test_seeds_share_a_row_and_other_changes_do_not(tmp_path):
    """Runs that differ in the seed alone have one group name in HParams, others another."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    def group(name, *overrides):
        slipstream.train(
            small("logger=tensorboard", "logger.tensorboard.graph=false", *overrides), tmp_path / name
        )
        content = read(tmp_path / name).PluginTagToContent("hparams")["_hparams_/session_start_info"]
        return plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.group_name

    assert group("a", "seed=1") == group("b", "seed=2") != group("c", "optimizer.lr=0.2")


@pytest.mark.slow
def test_the_hparams_table_of_single_runs_says_what_differs(tmp_path):
    """Each run names what it has changed from the defaults, in a column that is shown first, beside the
    metric that decides and others of the best epoch."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    def written(config):
        slipstream.train(config, tmp_path / str(len(list(tmp_path.iterdir()))))
        content = read(max(tmp_path.iterdir())).PluginTagToContent("hparams")
        return [
            getattr(plugin_data_pb2.HParamsPluginData.FromString(content[f"_hparams_/{name}"]), name)
            for name in ("session_start_info", "experiment")
        ]

    quiet = ("data=iris", "trainer.max_epochs=1", "trainer.progress=none")
    plain, _ = written(slipstream.compose(*quiet))
    assert plain.hparams["changed"].string_value == "data=iris trainer.max_epochs=1"
    deep, table = written(slipstream.compose(*quiet, "model.depth=3", "regularizer=[dropout]", "seed=4"))
    changed = "data=iris model.depth=3 regularizer=[dropout] trainer.max_epochs=1"
    assert deep.hparams["changed"].string_value == changed
    shown = [info.name for info in table.hparam_infos if info.differs]
    assert sorted(shown) == ["changed", "data.name", "model.name", "optimizer.lr", "optimizer.name"]
    assert {info.name for info in table.hparam_infos} == set(deep.hparams)
    titles = [(info.display_name, info.name.tag) for info in table.metric_infos]
    assert titles[0] == ("best val/loss", "with_best_weights/val/loss")
    assert {tag for _, tag in titles} <= set(read(max(tmp_path.iterdir())).Tags()["scalars"])


@pytest.mark.slow
def test_predicted_against_true_is_an_image_for_regression(tmp_path):
    """A regression run has a scatter picture of its target in place of a confusion matrix."""
    slipstream.train(small("data=linear", "data.rows=40", "logger=tensorboard"), tmp_path / "run")
    (tag,) = read(tmp_path / "run").Tags()["images"]
    assert tag.endswith("predicted_against_true")


def test_lists_numbers_and_nothing_are_hyperparameters(tmp_path):
    """A list is text, a bool a bool, a number a number, in one event that can be read back."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    logger = TensorBoard(tmp_path)
    logger.hparams({"widths": [7, 4], "on": True, "lr": 0.1, "depth": 2, "split": None}, group="g")
    logger.close()
    content = read(tmp_path).PluginTagToContent("hparams")["_hparams_/session_start_info"]
    values = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert values["widths"].string_value == "[7, 4]"
    assert values["on"].WhichOneof("kind") == "bool_value"
    assert (values["lr"].number_value, values["depth"].number_value) == (0.1, 2)
    assert values["split"].string_value == "None"


def test_an_undefined_metric_is_a_gap(tmp_path):
    """None leaves the tag out of its step, others stay."""
    logger = TensorBoard(tmp_path)
    logger.scalars({"a": 1.0, "b": None}, 3)
    logger.scalars({"a": None, "b": 2.0}, 6)
    logger.close()
    found = read(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("a")] == [(3, 1.0)]
    assert [(e.step, e.value) for e in found.Scalars("b")] == [(6, 2.0)]


SCALARS = {
    "train/loss": 0.25,
    "val/größe": -1e-30,
    "zero": 0.0,
    "int": 3,
    "nan": float("nan"),
    "inf": float("inf"),
    "huge": 1e300,
    "x" * 200: -1e300,
}


@pytest.mark.parametrize("step", [0, 1, 127, 128, 300, 2**40])
def test_an_events_bytes_are_protobufs(step):
    """What is written without protobuf is what protobuf writes, for every length of a tag and a step."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    for count in (0, 1, len(SCALARS)):
        values = dict(list(SCALARS.items())[:count])
        made = scalar_event(values | {"undefined": None}, step)
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])
        event = Event(wall_time=Event.FromString(made).wall_time, step=step, summary=summary)
        assert made == event.SerializeToString()
        assert abs(event.wall_time - time.time()) < 60


@pytest.mark.parametrize("length", [*range(9), 1023, 1024, 1025, 1027, 3000])
def test_checksums_are_tensorboards(length):
    """The same as TensorBoard's own loop over the bytes, around the ends of a block too."""
    from tensorboard.compat.tensorflow_stub import pywrap_tensorflow as reference

    data = np.random.default_rng(length).bytes(length)
    assert crc32c(data) == reference.crc32c(data)


def test_nothing_is_written_and_no_file_is_open_between_two_flushes(tmp_path):
    """Events wait in memory; 300 loggers open no more files than one."""
    loggers = []
    for k in range(300):
        (tmp_path / str(k)).mkdir()
        loggers.append(TensorBoard(tmp_path / str(k)))
    for logger in loggers:
        logger.scalars({"loss": 1.0}, 1)
    if os.path.exists("/proc/self/fd"):
        opened = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
        assert not any(path.startswith(str(tmp_path)) for path in opened)
    assert read(tmp_path / "7").Tags()["scalars"] == []
    loggers[7].flush()
    assert steps_of(tmp_path / "7", "loss") == [1]
    loggers[7].close()
    loggers[7].close()
    assert steps_of(tmp_path / "7", "loss") == [1]


def test_half_a_record_is_taken_back_when_the_disk_is_full(tmp_path, monkeypatch):
    """A failed flush leaves the file as it was and keeps the events; the next one writes them."""
    from slipstream.loggers import tensorboard

    logger = TensorBoard(tmp_path)
    logger.scalars({"loss": 1.0}, 1)
    logger.flush()
    before = logger.path.read_bytes()
    logger.scalars({"loss": 2.0}, 2)

    class Full(io.FileIO):
        def write(self, content):
            super().write(content[:11])
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensorboard.folders, "opened", Full)
    with pytest.raises(OSError, match="No space"):
        logger.flush()
    assert logger.path.read_bytes() == before
    monkeypatch.undo()
    logger.close()
    assert steps_of(tmp_path, "loss") == [1, 2]


def test_columns_of_the_hparams_table(tmp_path):
    """Numbers have an interval, bools and all that is mixed have a list; metrics are tags."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    logger = TensorBoard(tmp_path)
    logger.columns({"lr": [0.1, 1], "on": [True, False], "mixed": [32, "full"]}, ["val/loss"])
    logger.close()
    content = read(tmp_path).PluginTagToContent("hparams")["_hparams_/experiment"]
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    lr, on, mixed = experiment.hparam_infos
    assert (lr.domain_interval.min_value, lr.domain_interval.max_value) == (0.1, 1)
    assert [value.bool_value for value in on.domain_discrete.values] == [False, True]
    assert [value.string_value for value in mixed.domain_discrete.values] == ["32", "full"]
    assert [info.name.tag for info in experiment.metric_infos] == ["with_best_weights/val/loss"]


def test_histograms_leave_out_what_is_not_finite(tmp_path):
    """NaN and infinity are not counted, and an array of nothing else is an empty histogram."""
    logger = TensorBoard(tmp_path)
    logger.histograms({"w": np.array([0.0, 1, np.nan, np.inf]), "nan": np.array([np.nan])}, 1)
    logger.close()
    found = read(tmp_path)
    totals = {
        tag: np.frombuffer(found.Tensors(tag)[0].tensor_proto.tensor_content, np.float32)[2::3].sum()
        for tag in ("w", "nan")
    }
    assert totals == {"w": 2, "nan": 0}


def steps_of(directory, tag):
    return [event.step for event in read(directory).Scalars(tag)]


def test_on_resume_no_step_is_lost_or_doubled(tmp_path):
    """Events past the checkpoint go, earlier ones stay in one file, a torn last record is dropped."""
    logger = TensorBoard(tmp_path)
    logger.text("configuration", "x")
    for step in (3, 6, 9):
        logger.scalars({"loss": float(step)}, step)
    logger.close()
    (path,) = tmp_path.glob("events.*")
    path.write_bytes(path.read_bytes()[:-5])
    again = TensorBoard(tmp_path, upto=6)
    assert again.resumed
    for step in (9, 12):
        again.scalars({"loss": float(step)}, step)
    again.close()
    assert steps_of(tmp_path, "loss") == [3, 6, 9, 12]
    assert text(read(tmp_path), "configuration") == "x"
    assert len(list(tmp_path.glob("events.*"))) == 1


def test_a_run_that_goes_on_has_one_end(tmp_path):
    """What was written when a run ended, by this version or an older one, goes when it is resumed: best
    metrics, status, pictures; what was there at its start stays."""
    logger = TensorBoard(tmp_path)
    logger.image("train/augmentation", Image.new("RGB", (2, 2)), 0)
    logger.scalars({"train/loss": 1.0}, 3)
    logger.scalars({"best/val/loss": 1.0}, 3)
    logger.best({"val/loss": 1.0}, 3)
    logger.image("val/confusion_matrix", Image.new("RGB", (2, 2)), 3)
    logger.hparams_end(success=True)
    logger.close()
    again = TensorBoard(tmp_path, upto=3)
    again.best({"val/loss": 0.5}, 6)
    again.close()
    found = read(tmp_path)
    assert found.Tags()["scalars"] == ["train/loss", "with_best_weights/val/loss"]
    assert [(e.step, e.value) for e in found.Scalars("with_best_weights/val/loss")] == [(6, 0.5)]
    assert found.Tags()["images"] == ["train/augmentation"]
    assert not [tag for tag in found.Tags()["tensors"] if "hparams" in tag]


def test_a_run_that_was_killed_before_its_first_epoch_logs_its_start_anew(tmp_path):
    """What was not flushed then is written by the resumed run: it starts its file afresh."""
    TensorBoard(tmp_path).close()
    again = TensorBoard(tmp_path, upto=0)
    assert not again.resumed
    again.close()
    (path,) = tmp_path.glob("events.*")
    versions = [Event.FromString(record).file_version for record in RawEventFileLoader(str(path)).Load()]
    assert versions == ["brain.Event:2"]


@pytest.mark.slow
def test_a_longer_run_goes_on_in_its_events(tmp_path):
    """A finished run whose max_epochs is raised has every step of both parts once, in one file."""
    from pathlib import Path

    from slipstream.config import validate
    from slipstream.runs.session import run

    first = small("logger=tensorboard", "trainer.max_epochs=2", "trainer.checkpoint_seconds=0")
    run(validate(first), tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    shutil.rmtree(tmp_path / "run/train")  # as an older version left it
    longer = validate(first | {"trainer": first["trainer"] | {"max_epochs": 4}})
    result = run(longer, Path(tmp_path / "run"), resume=True)
    assert steps_of(tmp_path / "run", "train/loss") == [r["step"] for r in result.records] == [3, 6, 9, 12]
    assert steps_of(tmp_path / "run/train", "curves/loss") == [3, 6, 9, 12]
    assert steps_of(tmp_path / "run/val", "curves/loss") == [3, 6, 9, 12]
    assert len(steps_of(tmp_path / "run", "with_best_weights/val/loss")) == 1
    assert steps_of(tmp_path / "copy", "train/loss") == [3, 6]


@pytest.mark.slow
def test_tensorboards_backend_serves_it_all(run):
    """The server's own answers, asked in process: runs, scalars, charts, histograms, images, text,
    graph, and a row of the HParams table with its metrics."""
    from tensorboard import default, program
    from tensorboard.backend import application
    from tensorboard.backend.event_processing.data_ingester import LocalDataIngester
    from werkzeug.test import Client

    result, _, directory = run
    plugins = default.get_plugins()
    board = program.TensorBoard(plugins=plugins)
    options = ("--load_fast=false", "--reload_interval=0", "--reload_task=blocking")
    board.configure(argv=["tensorboard", f"--logdir={directory.parent}", *options])
    ingester = LocalDataIngester(board.flags)
    ingester.start()
    app = application.TensorBoardWSGIApp(board.flags, plugins, ingester.data_provider)
    client = Client(app)

    def ask(path, **query):
        answer = client.get(f"/data/{path}", query_string=query)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return json.loads(answer.text)

    assert ask("runs") == ["run", "run/train", "run/val"]
    assert {"train/loss", "val/loss", "optimizer.lr"} <= set(ask("plugin/scalars/tags")["run"])
    curve = ask("plugin/scalars/scalars", run="run", tag="val/loss")
    assert [point[1] for point in curve] == [record["step"] for record in result.records]
    (category,) = ask("plugin/custom_scalars/layout")["category"]
    assert [chart["title"] for chart in category["chart"]] == ["loss", "accuracy", "f1_macro"]
    drawn = ask("plugin/histograms/tags")["run"]
    for group in ("weights", "gradients", "last_update"):
        assert len([tag for tag in drawn if tag.startswith(f"{group}/")]) == len(result.weights), group
    assert list(ask("plugin/images/tags")["run"]) == ["val/confusion_matrix"]
    assert sorted(ask("plugin/text/tags")["run"]) == ["configuration", "data"]
    assert "run" in ask("plugin/graphs/info")
    request = {"startIndex": 0, "sliceSize": 10, "allowedStatuses": ["STATUS_SUCCESS"]}
    answer = client.post("/data/plugin/hparams/session_groups", json=request)
    assert answer.status_code == 200, answer.text
    (group,) = json.loads(answer.text)["sessionGroups"]
    assert group["hparams"]["optimizer.lr"] == 0.1
    assert group["hparams"]["optimizer.name"] == "sgd"
