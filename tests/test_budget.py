"""What a run costs, counted: operations, graphs, threads, events. Numbers that no machine's mood changes.

A count that falls is good news: lower it here. One that rises makes every update or epoch slower.
That no step waits for the device is in training/test_loop.py.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness import engine_of, small, tiny, train
from sampling import slow_after
from slipstream.config import validate
from slipstream.core import compat
from slipstream.runs.session import run
from slipstream.training import engine
from slipstream.training.engine import Engine

VIEWS = ("detach", "view", "_unsafe_view", "t", "transpose", "permute", "slice", "select", "expand")
VIEWS += ("unsqueeze", "squeeze", "as_strided", "split", "split_with_sizes", "unbind")

counted = pytest.mark.skipif(not torch.__version__.startswith("2.13"), reason="counted with torch 2.13")


class Operations(TorchDispatchMode):
    """Counts what reaches the dispatcher by name, but for views: they compute nothing."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name not in VIEWS:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))


def of_a_step(changes, size):
    """Of the second update of an epoch: what is drawn ahead is drawn in the first."""
    engine = engine_of([tiny(changes, seed=k) for k in range(size)])
    state, plan, steps = engine.start(), engine.plan(0), engine.batching.steps
    rates, counts = engine.rates([[0.1] * steps] * size), engine.counts(0, steps)
    state, _ = engine.step(state, plan.batches[0], rates[0], counts[0])
    with Operations() as seen:
        engine.step(state, plan.batches[1], rates[1], counts[1])
    return seen.counts


def of_an_epoch(size):
    """Of one epoch more: three updates, validation, metrics, what is kept of the best."""
    made = []
    for epochs in (4, 5):
        changes = {"trainer.max_epochs": epochs, "trainer.metrics": ["accuracy"], "early_stopping": "none"}
        with Operations() as seen:
            train([tiny(changes, seed=k) for k in range(size)])
        made.append(seen.counts)
    return made[1] - made[0]


STEPS = {  # of a network with one hidden layer: changes, operations alone, in a pack
    "sgd": ({}, 22, 43),
    "adam": ({"optimizer": "adam"}, 26, 63),
    "dropout": ({"optimizer": "adam", "regularizer": ["dropout"]}, 36, 240),
    "batch_norm": ({"optimizer": "adam", "regularizer": ["batch_norm"]}, 30, 90),
    "four": (
        {"optimizer": "adam", "regularizer": ["l2", "weight_decay", "gradient_clipping", "ema"]},
        50,
        102,
    ),
}


@counted
@pytest.mark.parametrize("case", slow_after(1, STEPS))
def test_a_step_has_no_more_operations_than_it_had(case):
    """An eager update, alone and in a pack; in a pack they do not become more with its members."""
    changes, alone, packed = STEPS[case]
    assert of_a_step(changes, 1).total() <= alone, of_a_step(changes, 1)
    assert of_a_step(changes, 3).total() <= packed, of_a_step(changes, 3)
    assert of_a_step(changes, 9).total() == of_a_step(changes, 3).total()


@pytest.mark.slow
@counted
def test_an_epoch_has_no_more_operations_than_it_had():
    """With three updates in it, alone and in a pack."""
    assert of_an_epoch(1).total() <= 135, of_an_epoch(1)
    assert of_an_epoch(3).total() <= 230, of_an_epoch(3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # inductor's own, of many kinds
def test_a_run_is_two_graphs(monkeypatch):
    """Alone an update and an epoch's report; of a pack, in however many blocks, the update. Nothing is
    compiled again in the epochs that follow."""
    made = []

    def traced(graph, inputs):  # they are counted, and not compiled
        made.append(graph)
        return lambda leaves: graph(*leaves)

    monkeypatch.setitem(vars(compat), "compile_fx_inner", traced)
    changes = {"optimizer": "adam", "regularizer": ["dropout"], "trainer.compile": True, "data.batch_size": 3}
    train(tiny(changes | {"trainer.max_epochs": 5}))
    assert len(made) == 2
    monkeypatch.setattr(engine, "block_size", lambda *_, **__: 2)
    train([tiny(changes | {"optimizer.lr": 0.1 * k}, seed=k) for k in (1, 2, 3)])
    assert len(made) == 3


@pytest.mark.slow
def test_a_run_has_one_thread_and_two_events_an_epoch(tmp_path, monkeypatch):
    """What trains also logs: no thread of Python's besides. An epoch leaves one event for its curves and
    one for its histograms."""
    threads, advance = [], Engine.advance

    def watched(*arguments):
        threads.append(threading.active_count())
        return advance(*arguments)

    monkeypatch.setattr(Engine, "advance", watched)
    events = []
    for epochs in (2, 6):
        config = small("logger=tensorboard", f"trainer.max_epochs={epochs}", "early_stopping=none")
        run(validate(config), tmp_path / str(epochs))
        (file,) = (tmp_path / str(epochs)).glob("events.*")
        events.append(records(file.read_bytes()))
    assert set(threads) == {threading.active_count()}
    assert len(events[1]) - len(events[0]) == 4 * 2
    assert sum(events[1]) - sum(events[0]) < 4 * 2000


def records(content):
    """The lengths of an event file's records: length, its checksum, data, its checksum."""
    found, place = [], 0
    while place < len(content):
        found.append(struct.unpack_from("<Q", content, place)[0])
        place += 16 + found[-1]
    return found
