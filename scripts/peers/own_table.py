"""A large table with this toolkit: `own_table.py read` reads it alone, `own_table.py epoch` trains one epoch.

The time begins after the imports, which a small run makes before. Training is a whole run: metrics,
TensorBoard, checkpoints and, in the time as well, the evaluation at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path

import memory
import polars  # noqa: F401  before the clock begins, like everything that is imported on first use
import task

import slipstream
from slipstream.config import validate
from slipstream.data import load

mine = task.read()
slipstream.train(slipstream.compose("data=iris", "trainer.max_epochs=1"), Path(mine.folder) / "small")
before = memory.forget()
clock = task.Clock(mine)
config = validate(
    slipstream.compose(
        *mine.overrides,
        f"data.path={mine.data}",
        f"data.batch_size={mine.batch_size}",
        f"model.width={mine.width}",
        f"trainer.max_epochs={mine.epochs}",
        f"trainer.device={mine.device}",
    )
)
if sys.argv[1] == "read":
    data = load({"name": config.data.name, **config.data.settings})
    clock.epoch()
    features = data.train.inputs.shape[1]
    clock.ended(float("nan"), 0, memory=memory.peak() - before, features=features)
else:
    result = slipstream.train(config, Path(mine.folder) / "run")
    clock.epoch()
    clock.ended(result.last["val/accuracy"], result.records[-1]["step"], memory=memory.peak() - before)
