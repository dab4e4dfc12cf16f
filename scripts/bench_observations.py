"""Benchmark: what an observation of the layers costs, in updates.

    python scripts/bench_observations.py

It prints, for networks of two hidden layers on the digits, single and in a pack of 16, the processor time of
an update and of an observation, and the share of a run that observing every so many updates takes. Eager, one
thread, nothing else running.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

import slipstream
from slipstream.config.validation import validate
from slipstream.runs import setup
from slipstream.training.engine import OBSERVED_EVERY, Engine

WIDTHS, PACKS, SECONDS = (16, 128, 1024), (1, 16), 2.0


def processor_time(call: Callable[[], object]) -> float:
    """Return the seconds of processor time of a call, the mean of as many as take SECONDS."""
    call()
    begun, calls = time.process_time(), 0
    while time.process_time() - begun < SECONDS:
        call()
        calls += 1
    return (time.process_time() - begun) / calls


def engine_of(width: int, members: int) -> Engine:
    """Return the engine of networks of this width that differ in their seeds."""
    words = ("data=digits", f"model.width={width}", "trainer.compile=false")
    configs = [validate(slipstream.compose(*words, f"seed={seed}")) for seed in range(members)]
    datas, folds = setup.load_all(configs)
    return Engine([setup.resolve(config, datas[0]) for config in configs], datas, torch.device("cpu"), folds)


def cost(engine: Engine) -> tuple[float, float]:
    """Return the seconds of an update and of an observation."""
    members, state, batch = engine.pack.size, engine.start(), engine.plan(0).batches[0]
    (rate,), (count,) = engine.rates([[0.001]] * members), engine.counts(0, 1)
    seen = [engine.step(state, batch, rate, count)[1]] * engine.batching.steps
    update = processor_time(lambda: engine.step(state, batch, rate, count))
    return update, processor_time(lambda: engine.observe(state, state.params, seen))


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    for width in WIDTHS:
        for members in PACKS:
            update, observation = cost(engine_of(width, members))
            updates = observation / update
            print(
                f"width {width}, {members} together: update {update * 1e6:.0f} us, observation "
                f"{observation * 1e6:.0f} us = {updates:.1f} updates, {updates / OBSERVED_EVERY:.1%} of a run"
            )


if __name__ == "__main__":
    main()
