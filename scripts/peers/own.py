"""A whole run of this toolkit, as its command line makes it: validation and metrics every epoch, TensorBoard,
checkpoints, the best weights, the evaluation at the end. `own.py nowhere` trains without a directory.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import task

import slipstream

mine = task.read()
config = slipstream.compose(
    *mine.overrides,
    f"data.batch_size={mine.batch_size}",
    f"optimizer.lr={mine.rates[0]}",
    f"trainer.max_epochs={mine.epochs}",
    f"trainer.device={mine.device}",
    f"trainer.dtype={mine.dtype}",
    f"trainer.compile={str(mine.compile == 'compiled').lower()}",
    "early_stopping=none",
)
folder = None if "nowhere" in sys.argv else Path(mine.folder) / "run"
clock = task.Clock(mine)
result = slipstream.train(config, folder)
whole = time.perf_counter() - clock.times[0]
if folder is not None:
    lines = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()]
    clock.times = [0.0, *(line["seconds"] for line in lines)]  # from the beginning of training
accuracy = result.last.get("val/accuracy", float("nan"))
clock.ended(accuracy, result.records[-1]["step"], whole=whole)
