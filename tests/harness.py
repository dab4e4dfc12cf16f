"""Tiny runs for the tests of the engine: 40 rows, a narrow network, two epochs, nothing on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from signal import SIGTERM
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

import slipstream
from slipstream.config import Config, for_target, validate
from slipstream.config.files import defaults
from slipstream.core.registry import LISTS
from slipstream.core.types import InputSpec, Scaling, Target
from slipstream.data import Data, Split
from slipstream.training.engine import Engine
from slipstream.training.interrupts import Interrupts
from slipstream.training.loop import Progress, train_pack
from slipstream.training.member import Member
from slipstream.training.snapshot import restore, take

ROWS = {"train": 28, "validation": 8, "test": 4}  # 28 rows in batches of 12: the last one has 4
TINY = (
    *("data=spirals", "data.batch_size=12", "model.width=5", "model.depth=1", "activation=tanh"),
    *("optimizer=sgd", "logger=none", "trainer.max_epochs=2", "trainer.compile=false"),
    *("trainer.progress=none", "trainer.metrics=[]", "trainer.device=cpu"),
)


def small(*overrides: str) -> dict[str, Any]:
    """A composed configuration that trains in a tenth of a second, on spirals of 40 rows."""
    return slipstream.compose(*TINY, "data.rows=40", *overrides)


@cache
def _base() -> dict[str, Any]:
    raw = slipstream.compose(*TINY)
    raw["early_stopping"] |= {"metric": "${trainer.monitor}", "mode": "${trainer.mode}"}
    return raw


def tiny(changes: Mapping[str, Any] | None = None, **more: Any) -> Config:
    """The validated configuration of `TINY`, changed without Hydra, which takes 10 ms a time.

    changes: a group with an option's name (for regularizer a list of them), then dotted keys.
    """
    changes = dict(changes or {}) | more
    raw = deepcopy(_base())
    for group in [key for key in changes if isinstance(raw[key.partition(".")[0]], dict) and "." not in key]:
        if group in LISTS:
            raw[group] = {name: defaults(group, name) for name in changes[group]}
        else:
            raw[group] = {"name": changes[group], **defaults(group, changes[group])}
    made = OmegaConf.create(raw)
    for key, value in changes.items():
        if "." in key or not isinstance(raw[key], dict):
            OmegaConf.update(made, key, value)
    return validate(OmegaConf.to_container(made, resolve=True))


FORMS = {
    "vector": InputSpec("vector", (3,), numeric=(0, 1, 2)),
    "image": InputSpec("image", (3, 6, 6), scaling=Scaling(0.0, 1.0, (0.5,) * 3, (2.0,) * 3)),
    "sequence": InputSpec("sequence", (5, 3), masked=True),
    "tokens": InputSpec("tokens", (5,), vocabulary=7),
}


def tiny_data(task: str = "multiclass", columns: int = 2, counts: bool = False, form: str = "vector") -> Data:
    """40 rows of 3 standard normal inputs and targets that depend on them.

    columns: of multilabel and regression targets. counts: whole numbers, for a Poisson loss. form: what is
    made of the 3 inputs: images with as many channels and a gradient, sequences of 2 to 5 steps that grow,
    or up to 5 tokens.
    """
    draw = np.random.default_rng(7)
    x = draw.standard_normal((sum(ROWS.values()), 3)).astype(np.float32)
    scores = x @ draw.standard_normal((3, 3)).astype(np.float32)
    if task == "regression":
        y = np.round(np.exp(scores)).clip(0, 9) if counts else np.sin(scores)
        y, target = y[:, :columns].astype(np.float32), Target(task, ("a", "b")[:columns])
        if not counts:  # as the data package scales them: original = scaled * scale + offset
            target = Target(task, target.names, (), (3.0, -1.0)[:columns], (2.0, 0.5)[:columns])
    elif task == "multilabel":
        y, target = (scores[:, :columns] > 0).astype(np.float32), Target(task, ("a", "b")[:columns])
    else:
        classes = {"binary": 2, "multiclass": 3}[task]
        y = scores[:, :classes].argmax(axis=1)
        target = Target(task, classes=tuple("xyz"[:classes]))
    x = _formed(x, form)
    cuts = np.cumsum([0, *ROWS.values()])
    parts = [
        Split(torch.from_numpy(x[a:b]), torch.from_numpy(y[a:b]), torch.ones(b - a))
        for a, b in pairwise(cuts)
    ]
    return Data(*parts, target, FORMS[form], ("i", "j", "k"), {}, "# tiny", "tiny", (), "fingerprint", ())


def _formed(x: np.ndarray, form: str) -> np.ndarray:
    """The inputs [N, 3] as examples of another form."""
    lengths = 2 + np.arange(len(x)) % 4
    present = np.arange(5) < lengths[:, None]
    if form == "image":
        ramp = np.linspace(0, 1, 36, dtype=np.float32).reshape(6, 6)
        return 1 / (1 + np.exp(-x[:, :, None, None] * ramp)).astype(np.float32)
    if form == "sequence":
        steps = x[:, None, :2] * np.linspace(0.2, 1, 5, dtype=np.float32)[:, None]
        return np.concatenate([steps * present[:, :, None], present[:, :, None]], axis=2).astype(np.float32)
    if form == "tokens":
        return (present * (1 + np.abs(x[:, [0, 1, 2, 0, 1]] * 3).astype(np.int64) % 6)).astype(np.int64)
    return x


class Keeper:
    """A watcher that keeps, as the recorder does, what a checkpoint of each ended member would hold."""

    def __init__(self, engine: Engine, members: Sequence[Member]) -> None:
        self.engine, self.members = engine, members
        self.saved: dict[int, Any] = {}

    def epoch(self, progress: Progress, finished: Sequence[int]) -> None:
        for k in finished:
            self.saved[k] = take(self.engine, progress, self.members[k], k)

    def interrupted(self, progress: Progress, broken: Sequence[int] = ()) -> None:
        self.epoch(progress, [k for k, m in enumerate(self.members) if m.status == "interrupted"])
        self.epoch(replace(progress, seen=[]), broken)


@dataclass
class Trained:
    """A pack that has come to its end."""

    engine: Engine
    members: list[Member]
    progress: Progress
    saved: dict[int, Any]

    def tensors(self, k: int = 0) -> dict[str, Tensor]:
        """All tensors of member k's last checkpoint, as file/name."""
        files = self.saved[k][0]
        return {f"{file}/{name}": t for file, named in files.items() for name, t in named.items()}

    def bytes(self, k: int = 0) -> dict[str, Any]:
        """What must not differ by a bit: tensors, history and ending of member k."""
        member = self.members[k]
        found = {name: t.detach().numpy().tobytes() for name, t in self.tensors(k).items()}
        return found | {"records": member.records, "end": (member.status, member.reason, member.best_epoch)}


def engine_of(configs: Config | Sequence[Config], data: Data | None = None) -> Engine:
    """The engine of a pack on the CPU."""
    data = data or tiny_data()
    configs = [configs] if isinstance(configs, Config) else configs
    return Engine([for_target(config, data.target) for config in configs], data, torch.device("cpu"))


def train(
    configs: Config | Sequence[Config],
    data: Data | None = None,
    *,
    interrupt_after: int | None = None,
    resume: Trained | None = None,
) -> Trained:
    """Train a pack on the CPU; SIGTERM "arrives" during step `interrupt_after` of this call."""
    engine = engine_of(configs, data)
    members = [Member(config, None) for config in engine.configs]
    if resume is None:
        state = engine.start()
        progress = Progress(state, engine.evaluated(state))
    else:
        progress = restore(engine, members, [resume.saved[k] for k in range(len(members))])
    interrupts, keeper = Interrupts(), Keeper(engine, members)
    if interrupt_after is not None:
        _signal_during(engine, interrupts, interrupt_after)
    train_pack(engine, members, progress, [keeper], interrupts)
    return Trained(engine, members, progress, keeper.saved)


def _signal_during(engine: Engine, interrupts: Interrupts, number: int) -> None:
    plain, made = engine.advance, [0]

    def advance(state: Any, batches: Any, arguments: Any) -> Any:
        made[0] += len(batches)
        if made[0] >= number:
            interrupts.received = SIGTERM
        return plain(state, batches, arguments)

    engine.advance = advance  # type: ignore[method-assign]
