"""Command lines trained and measured in one process, and remembered in a file.

A measured metric is a number, or None where the run diverged or could not start.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slipstream
from slipstream.config.run_config import Config
from slipstream.core.errors import UserError

QUIET = ("logger=none", "trainer.observations=false", "trainer.compile=false", "trainer.threads=1")
SEEDS = (0, 1, 2)
MENDED_ON = (11, 12, 13)  # seeds that are used for nothing else
MARGIN = {"accuracy": 0.05, "balanced_accuracy": 0.05, "r2": 0.06, "log_loss": 0.1}  # least gain that counts
FEWER = ("log_loss", "rmse")  # metrics of which less is better


def changed(words: str, overrides: str) -> str:
    """Return a command line with overrides: a key is replaced, ~PREFIX takes overrides away."""
    line = shlex.split(words)
    for one in shlex.split(overrides):
        if one.startswith("~"):
            line = [word for word in line if not word.startswith(one[1:])]
            continue
        key = one.partition("=")[0]
        line = [word for word in line if word.partition("=")[0] != key] + [one]
    return shlex.join(line).replace("'{data}", "'{data}")


def typed(words: str, data: Path, seed: int) -> list[str]:
    """Return the words of a command line for a seed, which is that of the split, too."""
    line = [word.replace("{data}", str(data)) for word in shlex.split(words)]
    return [*line, f"seed={seed}", f"data.split_seed={seed}"]


class Unknown(LookupError):
    """Raised for a run that was never measured, where nothing is to be trained."""


@dataclass
class Measured:
    """Metrics of command lines by seed, each trained once.

    folder: of the data files. memory: a file of JSON lines. trains: False raises Unknown for others.
    """

    folder: Path
    memory: Path | None = None
    trains: bool = True
    known: dict[str, dict[str, float | None]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory.exists():
            for line in self.memory.read_text().splitlines():
                entry = json.loads(line)
                self.known[entry["line"]] = entry["found"]

    def metric(self, words: str, metric: str, seed: int) -> float | None:
        """Return a metric of a run, None if it has none."""
        found = self._run(words, seed, fresh=metric.startswith(("fresh/", "optimism/")))
        return found.get(metric)

    def metrics(self, words: str, metric: str, seeds: Sequence[int] = SEEDS) -> list[float | None]:
        """Return a metric of a run for each seed."""
        return [self.metric(words, metric, seed) for seed in seeds]

    def refuses(self, words: str) -> bool:
        """Return True if the configuration or its data cannot be trained."""
        return bool(self._run(words, 0, fresh=False).get("refused"))

    def seconds(self, words: str) -> float:
        """Return how long the run of seed 0 took."""
        return float(self._run(words, 0, fresh=False).get("seconds") or 0)

    def _run(self, words: str, seed: int, *, fresh: bool) -> dict[str, float | None]:
        name = f"{seed} {words}"
        found = self.known.get(name)
        if found is None or (fresh and "fresh" not in found):
            if not self.trains:
                raise Unknown(name)
            found = self._train(words, seed, fresh=fresh)
            self.known[name] = found
            if self.memory is not None:
                with self.memory.open("a") as file:
                    file.write(json.dumps({"line": name, "found": found}) + "\n")
        return found

    def _train(self, words: str, seed: int, *, fresh: bool) -> dict[str, float | None]:
        begun = time.perf_counter()
        try:
            config = slipstream.compose(*typed(words, self.folder, seed), *QUIET)
            found = measures(config, "fresh/" if fresh else "")
        except UserError as error:
            self.refused[words] = str(error)
            return {"refused": 1.0}
        return found | {"seconds": round(time.perf_counter() - begun, 2)} | ({"fresh": 1.0} if fresh else {})


def measures(config: Mapping[str, Any] | Config, metric: str) -> dict[str, float | None]:
    """Train a configuration; return its metrics on the test part, none if it diverged.

    metric: of fresh rows, or the optimism about them, measures the file of fresh rows beside the run's, too.
    """
    run = slipstream.train(config)
    if run.status == "diverged" or not run.best_epoch:
        return {}
    raw = config.raw if isinstance(config, Config) else config
    kept = run.best if raw["early_stopping"]["restore_best"] else run.last  # of the weights that are kept
    found = {k: _short(v) for k, v in kept.items() if k.startswith("test/") and isinstance(v, float)}
    if not metric.startswith(("fresh/", "optimism/")):
        return found
    path = raw["data"]["path"]
    told = slipstream.evaluate(run, f"data.path={path.replace('.csv', '_fresh.csv')}").whole.values
    for name, value in told.items():
        test = found.get(f"test/{name}")
        if value is not None:
            found[f"fresh/{name}"] = _short(value)
            if test is not None:
                found[f"optimism/{name}"] = _short(test - value)
    return found


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def gain(before: float | None, after: float | None, metric: str) -> float:
    """Return by how much a metric is better after than before; a run that broke is worse than any."""
    if before is None or after is None:
        return float(after is not None) - float(before is not None)
    part, _, name = metric.partition("/")
    return before - after if name in FEWER or part == "optimism" else after - before


def margin(metric: str, before: float | None) -> float:
    """Return the least gain that is clear. The error of a linear fit without noise: half of it."""
    return MARGIN.get(metric.partition("/")[2], 0.5 * (before or 0.0))


def clear(faulty: Sequence[float | None], mended: Sequence[float | None], metric: str) -> bool:
    """Return True if the mean gain is clear, and every seed gains."""
    gains = [gain(a, b, metric) for a, b in zip(faulty, mended, strict=True)]
    return min(gains) > 0 and sum(gains) / len(gains) >= margin(metric, faulty[0])


Values = Sequence[float | None]


def taken_back(before: float | None, after: float | None, table: tuple[Values, Values], metric: str) -> float:
    """Return the share of a fault's harm that a change takes back.

    table: the metric with the fault and without, by seed, which tells the harm. Of a run that broke it is 1
    where the change comes as near to the sound runs as two margins, else 0.
    """
    sound = [value for value in table[1] if value is not None]
    if before is None:
        good = sum(sound) / len(sound)
        return float(after is not None and gain(good, after, metric) >= -2 * margin(metric, good))
    whole = [gain(a, b, metric) for a, b in zip(*table, strict=True) if a is not None and b is not None]
    return gain(before, after, metric) / (sum(whole) / len(whole)) if whole else 0.0
