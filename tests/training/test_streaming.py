"""Runs whose images stay in a file, against the same runs with the images in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from harness import Trained, tiny, train
from sampling import exhaustive_after, slow_after
from slipstream.config import for_target
from slipstream.core.errors import DataError
from slipstream.core.types import InputSpec, Scaling, Target
from slipstream.data import Data, Split
from slipstream.data.image.stored import Stored
from slipstream.runs import setup, summary
from slipstream.runs.augmentation_preview import augmented
from slipstream.runs.recorder import graph_of
from slipstream.training.backend import streaming
from slipstream.training.backend.memory import predict
from slipstream.training.backend.streaming import BUFFER, Resident, Streamed, bytes_ahead, depth, read_ahead
from slipstream.training.engine import Engine

CUTS = (0, 150, 230, 300)  # rows of the three parts: more than are evaluated at once
FORM = InputSpec("image", (3, 4, 4), scaling=Scaling(0.0, 255.0, (100.0, 120.0, 140.0), (1 / 70,) * 3))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """64 rows are evaluated at once."""
    monkeypatch.setattr("slipstream.training.evaluate.NUMBERS", 1)


@pytest.fixture(autouse=True)
def no_thread_stays():
    """Every test, whatever it does, leaves no reader behind."""
    yield
    assert not [thread.name for thread in threading.enumerate() if "reader" in thread.name]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images.npy"


@pytest.fixture
def images(path):
    """(data in memory, the same data in a file): three classes, told apart by their brightness."""
    return made(path)


def made(path, order=None):
    draw = np.random.default_rng(5)
    y = draw.integers(0, 3, CUTS[-1])
    x = (draw.integers(0, 120, (CUTS[-1], *FORM.shape)) + 40 * y[:, None, None, None]).astype(np.uint8)
    np.save(path, x)
    stored = Stored.of(np.load(path, mmap_mode="r"))
    order = np.arange(CUTS[-1]) if order is None else order
    rows = [np.sort(order[a:b]) for a, b in pairwise(CUTS)]
    target = Target("multiclass", classes=("a", "b", "c"))

    def data(inputs):
        splits = [
            Split(part, torch.from_numpy(y[r]), torch.ones(len(r)))
            for part, r in zip(inputs, rows, strict=True)
        ]
        return Data(*splits, target, FORM, ("r", "g", "b"), {}, "", "", (), "fingerprint", ())

    return data([torch.from_numpy(x[r]) for r in rows]), data([stored.part(r) for r in rows])


def config(**changes):
    settings = {"data.batch_size": 32, "trainer.metrics": ["accuracy"], "optimizer": "adam"}
    return tiny(settings | {k.replace("__", "."): v for k, v in changes.items()})


def ends(trained: Trained):
    """All that a run computes: bytes of its states, and the metrics of all parts."""
    places = range(len(trained.members))
    results = summary.results(trained.engine, trained.members, places, trained.progress, 0)
    return [
        (
            trained.bytes(k),
            result.best,
            result.last,
            {n: w.numpy().tobytes() for n, w in result.weights.items()},
        )
        for k, result in enumerate(results)
    ]


def same(configs, pair, **how):
    """Train on both; the streamed run."""
    held, streamed = (train(configs, data, **how) for data in pair)
    assert isinstance(held.engine.source, Resident)
    assert isinstance(streamed.engine.source, Streamed)
    assert set(streamed.engine.splits.files) == {"train", "val", "test"}
    assert ends(held) == ends(streamed)
    return streamed


ALONE = {
    "plain": {},
    "a last batch that is filled up": {"data__batch_size": 40},
    "accumulated": {"data__batch_size": 16, "trainer__accumulate": 3},
    "batch statistics and noise": {"regularizer": ["batch_norm", "dropout"]},
    "an average": {"regularizer": ["ema"]},
    "a start that looks at data": {"initializer": "lsuv"},
    "layers that look at data": {"model": "tabm"},
    "half precision": {"trainer__dtype": "bfloat16"},
}


@pytest.mark.parametrize("changes", slow_after(1, ALONE.values()), ids=ALONE)
def test_one_run_has_the_same_bytes(images, changes):
    """Weights, optimizer, history and every metric do not depend on where the images are."""
    same(config(**changes), images)


@pytest.mark.parametrize("seeds", slow_after(1, [((0, 1, 2),), ((0, 0, 0),), ((1, 0, 1),)]))
def test_a_pack_has_the_same_bytes(images, seeds):
    """Members with orders of their own, with one order, and some with one."""
    changes = {"trainer__accumulate": 2, "regularizer": ["dropout"]}
    configs = [config(seed=seed, optimizer__lr=0.01 / (k + 1), **changes) for k, seed in enumerate(seeds)]
    same(configs, images)


@pytest.mark.slow
def test_an_order_is_read_once_for_all_that_share_it(images):
    """Members of one seed cost no more reading than one."""
    engine = train([config(seed=seed) for seed in (4, 7, 4)], images[1]).engine
    data, (batch,) = engine.source.take([engine.plan(0).batches[0]])
    assert len(data.inputs) == len(data.targets) == 2 * 32
    assert batch.indices[0].tolist() == [[*range(32)], [*range(32, 64)], [*range(32)]]


@pytest.mark.slow
def test_folds_have_the_same_bytes(path):
    """Members that train on different folds of one file, each with its own validation part."""
    order = np.random.default_rng(1).permutation(CUTS[-1])
    pairs = [made(path, order), made(path, order[::-1].copy())]
    configs, ended = [config(seed=k) for k in range(3)], []
    for datas in zip(*pairs, strict=True):
        engines = Engine([for_target(c, datas[0].target) for c in configs], datas, CPU, [0, 1, 0])
        ended.append(ends(train_engine(engines)))
    assert ended[0] == ended[1]
    assert ended[0][0] != ended[0][2]


def train_engine(engine):
    from harness import Keeper
    from slipstream.training.interrupts import Interrupts
    from slipstream.training.loop import Progress, train_pack
    from slipstream.training.member import Member

    members = [Member(c, None) for c in engine.configs]
    state = engine.start()
    progress, keeper = Progress(state, engine.evaluated(state)), Keeper(engine, members)
    train_pack(engine, members, progress, [keeper], Interrupts())
    return Trained(engine, members, progress, keeper.saved)


@pytest.mark.parametrize("number", slow_after(1, [3, 1, 5, 7]))
def test_a_resumed_run_has_the_same_bytes(images, number):
    """Interrupted while it streams and gone on with in memory, or the other way, it ends alike."""
    configs = [config(seed=0, regularizer=["dropout"]), config(seed=1, regularizer=["dropout"])]
    whole = train(configs, images[0])
    for first, second in (images, images[::-1]):
        begun = train(configs, first, interrupt_after=number)
        assert {member.status for member in begun.members} == {"interrupted"}
        assert ends(train(configs, second, resume=begun)) == ends(whole)


@pytest.mark.slow
def test_members_at_different_epochs_have_the_same_bytes(images):
    """One that stops early leaves the others' batches as they are."""
    # At a rate of 1e-9 losses still fall by a few last digits, on some processors.
    stopping = {"early_stopping": "patience", "early_stopping.patience": 1, "early_stopping.min_delta": 1e-3}
    stopping |= {"trainer.max_epochs": 4}
    configs = [config(seed=0, **stopping, optimizer__lr=lr) for lr in (1e-9, 0.01)]
    streamed = same(configs, images)
    assert len({len(member.records) for member in streamed.members}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 3])
def test_what_diverges_is_said_alike(images, members):
    """The update that breaks a member is found among streamed batches, and named by what broke."""
    configs = [config(seed=k, optimizer="sgd", optimizer__lr=(1e38, 0.01, 1e38)[k]) for k in range(members)]
    streamed = same(configs, images)
    assert streamed.members[0].status == "diverged"
    assert "step" in streamed.members[0].reason


@pytest.mark.slow
def test_small_parts_do_not_stay_in_the_file(images):
    """What is evaluated at once is held: 64 rows."""
    part = images[1].validation
    few = Split(part.inputs.part(np.arange(64)), part.targets[:64], part.weights[:64])
    assert set(train(config(), replace(images[1], validation=few)).engine.splits.files) == {"train", "test"}


@pytest.mark.slow
def test_the_graph_the_strip_and_the_start_see_the_same_examples(images):
    """What looks at some examples gets them from the file."""
    flipping = config(augmentation=["horizontal_flip"], data="digits", model="mlp")
    held, streamed = (train(flipping, data).engine for data in images)
    strips = [np.asarray(augmented(engine, flipping)) for engine in (held, streamed)]
    np.testing.assert_array_equal(*strips)
    assert graph_of(held) == graph_of(streamed)
    np.testing.assert_array_equal(streamed.splits.training_inputs(0)[:5], held.splits.training_inputs(0)[:5])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # inductor's own, of many kinds
@pytest.mark.parametrize("seeds", exhaustive_after(1, [((0, 0, 1),), ((0,),)]))
def test_compiled_runs_have_the_same_bytes(images, seeds):
    """Tables of one size for packs."""
    configs = [config(seed=seed, trainer__compile=True, trainer__max_epochs=3) for seed in seeds]
    streamed = same(configs, images)
    assert streamed.engine.compiled


@pytest.mark.parametrize(("folds", "needed"), [(None, 4), (5, 16)])
def test_images_stay_in_their_file_where_half_of_the_memory_would_not_hold_them(
    tmp_path, monkeypatch, folds, needed
):
    """20 images of 12 bytes: once, or for two folds twice, and as often again put together."""
    for i in range(20):
        folder = tmp_path / "files" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2), (i, i, i)).save(folder / f"{i}.png")
    changes = {"data": "images", "data.path": str(tmp_path / "files"), "data.cache": str(tmp_path / "cache")}
    changes |= {"data.batch_size": 4, "data.folds": folds}
    configs = [tiny(changes | {"data.fold": k}) for k in range(2 if folds else 1)]
    for free, stays in ((needed * 120 - 2, True), (needed * 120, False)):
        monkeypatch.setattr(setup, "free_bytes", lambda device, free=free: free)
        for data in setup.load_all(configs)[0]:
            assert isinstance(data.train.inputs, Stored) == stays


# What can go wrong


@pytest.mark.parametrize("members", [1, 2])
def test_a_file_cut_off_while_it_is_read_ends_the_run_with_a_sentence(images, path, members):
    """A reader's error reaches the run as it is, and no reader goes on."""
    os.truncate(path, 128 + 48 * 100)
    with pytest.raises(
        DataError, match=r"images\.npy: can no longer be read: it was truncated to 4,928 bytes"
    ):
        train([config(seed=k) for k in range(members)], images[1])


def test_an_error_of_the_step_ends_the_readers(images, monkeypatch):
    """Whatever stops an epoch, the threads stop with it."""

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "advance", broken)
    with pytest.raises(KeyboardInterrupt):
        train(config(), images[1])


def test_readers_are_a_bounded_number_of_requests_ahead(images, monkeypatch):
    """However slow the step is, a few requests are in memory."""
    stored, begun = images[1].train.inputs, []
    plain = Stored.read

    def read(self, places, out):
        begun.append(int(places[0]))
        plain(self, places, out)

    monkeypatch.setattr(Stored, "read", read)
    monkeypatch.setattr(streaming, "AHEAD", 3)
    wanted = [np.array([k]) for k in range(20)]
    found = read_ahead(stored, wanted, CPU)
    for k in range(5):
        np.testing.assert_array_equal(next(found)[0], stored[np.array([k])][0])
        time.sleep(0.02)
        assert len([number for number in begun if number > k]) <= 3 + k  # those of the check are k + 1
    found.close()
    assert max(begun) <= 8


def test_requests_come_in_their_order(images, monkeypatch):
    """Also where an early one takes longest."""
    stored, plain = images[1].train.inputs, Stored.read

    def read(self, places, out):
        time.sleep(0.01 * (places[0] % 3 == 0))
        plain(self, places, out)

    monkeypatch.setattr(Stored, "read", read)
    found = list(read_ahead(stored, [np.array([k, 149 - k]) for k in range(12)], CPU))
    for k, rows in enumerate(found):
        np.testing.assert_array_equal(rows, stored[np.array([k, 149 - k])])


def test_the_depth_is_bounded_by_bytes():
    """Eight small requests, two of any size."""
    assert [depth(size) for size in (1, BUFFER // 8, BUFFER // 4, 10 * BUFFER)] == [8, 8, 4, 2]
    assert bytes_ahead(BUFFER // 4) == 6 * (BUFFER // 4)


def test_batches_out_of_turn_are_read_when_they_are_asked_for(images):
    """What is read ahead is a matter of speed only."""
    engine = train(config(), images[1]).engine
    batches = engine.plan(0).batches
    with engine.source.ahead([batches[:1], batches[1:2]]):
        for batch in (batches[3], batches[0], batches[2], batches[1], batches[0]):
            data, _ = engine.source.take([batch])
            rows = images[0].train.inputs[batch.indices[0]]
            torch.testing.assert_close(data.inputs, rows, rtol=0, atol=0)


@pytest.mark.slow
def test_images_in_a_file_are_not_counted_as_memory(images):
    """Of a part that stays in its file the prediction has what is read ahead, with folds and without."""
    held, streamed = images
    resolved = for_target(config(seed=0), held.target)
    for folds in (1, 2):
        needs = [predict(resolved, [data] * folds, 4) for data in (held, streamed)]
        ahead = bytes_ahead(32 * 4 * 48) + 2 * 32 * 4 * 48  # and the one in use, with its scatter
        copies = (folds > 1) * 4 * 80 * 48 * 2  # at most, with the scatter: each member's validation part
        assert needs[0] - 2 * folds * 300 * 48 - copies <= needs[1] <= needs[0] + ahead


# In a fresh process: what an epoch over a large file adds at most, after one over a few of its rows.
MEASURE = """
import sys
from dataclasses import replace
import numpy as np, torch
from harness import tiny, train
from slipstream.data import Data, Split
from slipstream.data.image.stored import Stored
from slipstream.core.types import InputSpec, Scaling, Target

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

rows = 40_000
np.lib.format.open_memmap(sys.argv[1], "w+", np.uint8, (rows, 3, 64, 64))[-1] = 255
stored = Stored.of(np.load(sys.argv[1], mmap_mode="r"))
form = InputSpec("image", stored.shape[1:], scaling=Scaling(0.0, 255.0, (1.0,) * 3, (1.0,) * 3))

def epoch(count):
    parts = np.split(np.arange(count), [count * 3 // 4, count * 7 // 8])
    splits = [Split(stored.part(p), torch.from_numpy(p % 3), torch.ones(len(p))) for p in parts]
    data = Data(*splits, Target("multiclass", classes=("a", "b", "c")), form, (), {}, "", "", (), "", ())
    train(tiny({"data.batch_size": 64, "trainer.max_epochs": 1}), data)

epoch(1600)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = status("VmRSS")
epoch(rows)
print(stored.nbytes / 2**20, status("VmHWM") - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(path):
    """An epoch over 469 MB of images, validation and all, takes a small part of that."""
    script = [sys.executable, "-c", MEASURE, str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(script, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    size, grown = map(float, done.stdout.split())
    assert size > 468
    assert grown < size / 3
