"""TensorBoard's own reader finds in a sweep's folder what compares its members."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from slipstream.loggers.tensorboard import TensorBoard
from slipstream.runs.recorder import hyperparameters
from slipstream.sweeps.plan.job import Job, Outcome
from slipstream.sweeps.plan.space import Choices, Interval
from slipstream.sweeps.report import board, make
from slipstream.sweeps.report.aggregates import groups
from slipstream.sweeps.report.parallel_coordinates import BOTTOM, TOP, picture

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LRS = (0.001, 0.01, 0.1, 0.3, 1.0)
AXES = [
    Choices("optimizer", ("sgd", "momentum")),
    Choices("optimizer.momentum", (0.5,)),
    Choices("optimizer.lr", LRS),
    Choices("seed", (0, 1, 2)),
]


def raw(values):
    optimizer = {"name": values["optimizer"], "lr": values["optimizer.lr"]}
    if "optimizer.momentum" in values:
        optimizer["momentum"] = values["optimizer.momentum"]
    data = {"name": "digits", "batch_size": 64, "path": "x"}
    trainer = {"max_epochs": 3, "accumulate": 1, "dtype": "float32"}
    return {"optimizer": optimizer, "seed": values["seed"], "data": data, "trainer": trainer}


@pytest.fixture
def sweep(tmp_path):
    """30 members of 10 trials with their event files: (jobs, report)."""
    jobs, outcomes = [], []
    for trial, (name, lr) in enumerate((name, lr) for name in ("sgd", "momentum") for lr in LRS):
        for seed in range(3):
            number, folder = len(jobs), tmp_path / str(len(jobs))
            momentum = {"optimizer.momentum": 0.5} if name == "momentum" else {}
            values = {"optimizer": name, **momentum, "optimizer.lr": lr, "seed": seed}
            value = 1.0 + trial + 0.1 * seed
            folder.mkdir()
            rows = [
                {
                    "epoch": e,
                    "step": 9 * e,
                    "val/loss": value / e,
                    "val/accuracy": 0.5,
                    "train/gradient_norm": 1.0,
                }
                for e in range(1, 4)
            ]
            (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            config = SimpleNamespace(raw=raw(values))
            jobs.append(Job(number, trial, (), values, config))
            best = {"val/loss": value / 3}
            outcomes.append(
                Outcome(number, trial, values, "finished", "", value / 3, 3, 3, 1.0, seed, None, best, folder)
            )
            logger = TensorBoard(folder)
            logger.hparams(hyperparameters(config.raw), group=f"group {trial}")
            logger.best({"val/loss": value / 3, "val/accuracy": 0.5}, 27)
            logger.hparams_end(success=True)
            logger.close()
    return jobs, make(tmp_path, outcomes, AXES, "val/loss", True)


def read(directory):
    return EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0, "images": 0}).Reload()


@pytest.mark.slow
def test_best_median_and_worst_are_on_one_chart(sweep):
    """Every epoch's mean over the seeds, each trial's in a folder of its own, as TensorBoard colours folders,
    under one tag that comes before all others; and a chart with all three."""
    jobs, report = sweep
    board.write(report, AXES, jobs)
    for name, trial in (("best", 0), ("median", 5), ("worst", 9)):
        found = read(report.directory / "trials" / name)
        assert found.Tags()["scalars"] == ["curves/val/loss_by_epoch"]
        expected = [(e, np.float32((1.1 + trial) / e)) for e in (1, 2, 3)]
        curve = [(event.step, event.value) for event in found.Scalars("curves/val/loss_by_epoch")]
        assert curve == expected
    (event,) = read(report.directory).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    (chart,) = layout.category[0].chart
    assert list(chart.multiline.tag) == ["curves/val/loss_by_epoch$"]


@pytest.mark.slow
def test_a_member_that_has_stopped_stays_in_its_trials_curve(sweep):
    """With its last value: the curve does not jump to those of the members that go on."""
    jobs, report = sweep
    kept = (report.directory / "0" / "metrics.jsonl").read_text().splitlines()[:1]
    (report.directory / "0" / "metrics.jsonl").write_text(kept[0] + "\n")
    board.write(report, AXES, jobs)
    curve = [e.value for e in read(report.directory / "trials/best").Scalars("curves/val/loss_by_epoch")]
    assert curve == [np.float32((1.0 + 1.1 / e + 1.2 / e) / 3) for e in (1, 2, 3)]


def columns(report):
    content = read(report.directory).PluginTagToContent("hparams")["_hparams_/experiment"]
    return plugin_data_pb2.HParamsPluginData.FromString(content).experiment


@pytest.mark.slow
def test_the_columns_are_what_was_swept_and_every_row_has(sweep):
    """A key that applies to some would hide the rows that lack it; the deciding metric is first."""
    jobs, report = sweep
    board.write(report, AXES, jobs)
    found = columns(report)
    assert sorted(info.name for info in found.hparam_infos) == ["optimizer.lr", "optimizer.name"]
    assert all(info.differs for info in found.hparam_infos)
    assert [info.name.tag for info in found.metric_infos] == [
        "with_best_weights/val/loss",
        "with_best_weights/val/accuracy",
    ]


@pytest.mark.slow
def test_what_members_do_not_write_is_no_column(sweep):
    """A swept key that is not among a member's hyperparameters would hide every row."""
    jobs, report = sweep
    swept = [
        Outcome(**{**vars(o), "values": {**o.values, "data.path": str(o.number)}}) for o in report.outcomes
    ]
    other = make(report.directory, swept, AXES, "val/loss", True)
    board.write(other, AXES, jobs)
    assert "data.path" not in [info.name for info in columns(other).hparam_infos]


@pytest.mark.slow
def test_writing_again_replaces(sweep):
    """One file, each curve once, after a second report of a sweep that went on."""
    jobs, report = sweep
    for _ in range(2):
        board.write(report, AXES, jobs)
    assert len(list(report.directory.glob("events.out.tfevents.*"))) == 1
    assert len(read(report.directory / "trials/best").Scalars("curves/val/loss_by_epoch")) == 3


@pytest.mark.slow
def test_the_report_and_the_picture_are_there(sweep):
    """The text as on the screen; a PNG of parallel coordinates."""
    jobs, report = sweep
    board.write(report, AXES, jobs)
    found = read(report.directory)
    (event,) = found.Tensors("sweep/report")
    assert "best: optimizer=sgd optimizer.lr=0.001" in event.tensor_proto.string_val[0].decode()
    (image,) = found.Images("sweep/parallel_coordinates")
    assert Image.open(io.BytesIO(image.encoded_image_string)).size == (image.width, image.height)


@pytest.mark.parametrize("status", ["waiting", "diverged", "failed", "running"])
def test_a_sweep_without_a_result_has_a_text(tmp_path, status):
    """Nothing to be drawn, nothing raised; damaged lines are no curves."""
    found = [Outcome(0, 0, {"lr": 1}, status, "", None, 0, 0, 0.0, 0, None, {}, tmp_path / "0")]
    board.write(make(tmp_path, found, [Choices("lr", (1,))], "val/loss", True), [], [])
    assert read(tmp_path).Tags()["tensors"] == ["sweep/report"]


def trials(rows):
    return groups(
        [
            Outcome(i, i, v, "finished", "", float(i), 1, 1, 1.0, 0, None, {}, None)
            for i, v in enumerate(rows)
        ],
        True,
    )


def test_the_best_lines_are_drawn_in_red_to_the_top():
    """Of two trials the better one's line ends at the top, red; the other's at the bottom, pale."""
    axis = Interval("lr", 1e-4, 1.0, log=True)
    pixels = np.asarray(picture(trials([{"lr": 1e-2}, {"lr": 1e-2}]), [axis], "val/loss")).astype(int)
    red = (pixels[..., 0] - pixels[..., 1]) > 120
    rows, across = np.nonzero(red)
    assert red.any()
    middle = (pixels.shape[0] - TOP - BOTTOM) / 2 + TOP
    # It starts at the middle of the logarithmic axis and rises to the top.
    assert abs(rows[across == across.min()].mean() - middle) < 6
    assert rows[across == across.max()].mean() < TOP + 4


def test_pictures_of_any_space_can_be_drawn():
    """Texts, lists, bools, null, mixed values, keys that do not apply, one trial, and 300 values."""
    rows = [{"a": ["l2"], "b": None}, {"a": [], "b": True, "c": 3}, {"a": ["l2"], "b": "full", "c": 299}]
    axes = [
        Choices("a", (["l2"], [])),
        Choices("b", (None, True, "full", 32)),
        Choices("c", tuple(range(300))),
        Interval("d", 2.0, 2.0),
        Choices("seed", (1, 2)),
    ]
    picture(trials(rows), axes, "val/loss")
    assert picture(trials(rows[:1]), axes, "val/loss").width == picture(trials(rows), axes, "m").width
    many = trials([{"c": i % 300} for i in range(500)])
    picture(many, axes, "val/loss")


@pytest.mark.slow
def test_tensorboards_backend_has_a_row_a_trial_with_all_columns(sweep):
    """The server's own answer, in process: ten groups of three seeds, each with every column's value."""
    from tensorboard import default, program
    from tensorboard.backend import application
    from tensorboard.backend.event_processing.data_ingester import LocalDataIngester
    from werkzeug.test import Client

    jobs, report = sweep
    board.write(report, AXES, jobs)
    plugins = default.get_plugins()
    served = program.TensorBoard(plugins=plugins)
    options = ("--load_fast=false", "--reload_interval=0", "--reload_task=blocking")
    served.configure(argv=["tensorboard", f"--logdir={report.directory}", *options])
    ingester = LocalDataIngester(served.flags)
    ingester.start()
    client = Client(application.TensorBoardWSGIApp(served.flags, plugins, ingester.data_provider))
    runs = json.loads(client.get("/data/runs").text)
    assert runs[0] == "."  # the first of the list
    assert {"trials/best", "trials/median", "trials/worst"} <= set(runs)
    assert len(runs) == 34
    request = {
        "startIndex": 0,
        "sliceSize": 100,
        "allowedStatuses": ["STATUS_SUCCESS"],
        "aggregationType": "AGGREGATION_AVG",
        "colParams": [{"hparam": name} for name in ("optimizer.lr", "optimizer.name")]
        + [{"metric": {"group": "", "tag": "with_best_weights/val/loss"}}],
    }
    answer = client.post("/data/plugin/hparams/session_groups", json=request)
    rows = json.loads(answer.text)["sessionGroups"]
    assert len(rows) == 10
    for row in rows:
        assert len(row["sessions"]) == 3
        assert {"optimizer.lr", "optimizer.name"} <= set(row["hparams"])
        assert [entry["name"]["tag"] for entry in row["metricValues"]] == [
            "with_best_weights/val/loss",
            "with_best_weights/val/accuracy",
        ]
