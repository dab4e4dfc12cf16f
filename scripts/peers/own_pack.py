"""The updates of a pack of this toolkit: all members of the task, seeds and learning rates, trained together.

Nothing but updates, with the order of examples and what each leaves for the epoch's report: no
validation, no log. The task's seconds say for how long it trains after the first epoch, two epochs at
least.
"""

from __future__ import annotations

import task
import torch

import slipstream
from slipstream.config import for_target, validate
from slipstream.data import load
from slipstream.runs.setup import set_up
from slipstream.training.engine import Engine

mine = task.read()
torch.set_flush_denormal(True)
base = slipstream.compose(
    *mine.overrides,
    f"data.batch_size={mine.batch_size}",
    f"trainer.compile={str(mine.compile == 'compiled').lower()}",
    f"trainer.dtype={mine.dtype}",
    f"trainer.device={mine.device}",
    "trainer.metrics=[accuracy]",
    "logger=none",
)
data = load({"name": base["data"]["name"], **validate(base).data.settings})
members = [{**base, "seed": seed, "optimizer": {**base["optimizer"], "lr": lr}} for lr, seed in mine.members]
configs = [for_target(validate(member), data.target) for member in members]
engine = Engine(configs, data, set_up(configs[0]))
state, steps, epoch = engine.start(), engine.batching.steps, 0
clock = task.Clock(mine)
while len(clock.times) < 4 or clock.times[-1] - clock.times[1] < mine.seconds:
    plan, counts = engine.plan(epoch), engine.counts(epoch * steps, steps)
    rates = engine.rates([[lr] * steps for lr, _ in mine.members])
    arguments = list(zip(rates, counts, strict=True))
    for i in range(0, steps, engine.stride):
        here = slice(i, i + engine.stride)
        state, _, _ = engine.advance(state, plan.batches[here], arguments[here])
    epoch += 1
    clock.epoch()
measured = engine.measure(
    "val", engine.predict(engine.evaluated(state), "val"), ["accuracy"], range(len(members))
)
clock.ended(measured[..., 1].mean().item(), epoch * steps)
