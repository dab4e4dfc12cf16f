"""A member's progress as named tensors and JSON, and back: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from slipstream.checkpoints import CheckpointError
from slipstream.training.engine import Engine
from slipstream.training.loop import Progress
from slipstream.training.member import Member
from slipstream.training.program import State
from slipstream.training.step import Seen

Tensors = dict[str, dict[str, Tensor]]


def take(engine: Engine, progress: Progress, member: Member, k: int) -> tuple[Tensors, dict[str, Any]]:
    """The tensors by file, and the state, of member k."""
    pack, names = engine.pack, engine.program.layout.unflatten
    state: State = pack.member(progress.state, k)
    best_params, best_buffers = pack.member(progress.best, k)
    optimizer = {f"rule.{name}": value for name, value in state.rule.items()}
    optimizer |= {f"average.{name}": value for name, value in state.average.items()}
    if progress.seen:  # in the middle of an epoch: its training metrics need what it gave so far
        columns = zip(*(pack.member(seen, k) for seen in progress.seen), strict=True)
        pairs = zip(Seen._fields, columns, strict=True)
        optimizer |= {f"seen.{name}": torch.stack(column) for name, column in pairs}
    tensors = {
        "weights": names(state.params) | state.buffers,
        "optimizer": optimizer,
        "best": names(best_params) | best_buffers,
    }
    described = {
        "epoch": progress.epoch,
        "steps_into_epoch": len(progress.seen),
        "best_epoch": member.best_epoch,
        "status": member.status,
        "reason": member.reason,
        "seconds": member.seconds,
        "records": member.records,
    }
    return tensors, described


def restore(
    engine: Engine, members: Sequence[Member], taken: Sequence[tuple[Tensors, Mapping[str, Any]]]
) -> Progress:
    """The progress that was taken, and the members' histories with it. Raises CheckpointError."""
    start = [engine.pack.member(engine.start(), k) for k in range(len(members))]
    for member, (tensors, _), fresh in zip(members, taken, start, strict=True):
        _same_architecture(engine, member, tensors, fresh)
    for member, (_, described) in zip(members, taken, strict=True):
        member.restore(described)
    # A member that had stopped was saved at its own end; those that run stand together.
    ahead = [entry for member, entry in zip(members, taken, strict=True) if member.running] or taken[:1]
    places = {(described["epoch"], described["steps_into_epoch"]) for _, described in ahead}
    if len(places) > 1:
        raise CheckpointError(f"members of a pack were saved at different steps: {sorted(places)}")
    ((epoch, made),) = places
    states = [_state(engine, tensors, fresh) for (tensors, _), fresh in zip(taken, start, strict=True)]
    files = [tensors for tensors, _ in taken]
    bests = [_network(engine, file["best"], fresh) for file, fresh in zip(files, start, strict=True)]
    past = [_seen(file["optimizer"], ahead[0][0]["optimizer"], made) for file in files]
    to_device = engine.to_device
    seen = [to_device(step) for step in zip(*past, strict=True)]
    return Progress(to_device(states), to_device(bests), epoch, seen)


def _seen(optimizer: Mapping[str, Tensor], running: Mapping[str, Tensor], made: int) -> list[Seen]:
    """What the finished steps of a half-done epoch had left; zeros for a member that had stopped."""
    names = [f"seen.{name}" for name in Seen._fields] if made else []
    columns = [optimizer.get(name, torch.zeros_like(running[name])) for name in names]
    return [Seen(*(column[i] for column in columns)) for i in range(made)]


def _state(engine: Engine, tensors: Tensors, fresh: State) -> State:
    params, buffers = _network(engine, tensors["weights"], fresh)
    return State(
        params=params,
        buffers=buffers,
        rule={name: tensors["optimizer"][f"rule.{name}"] for name in fresh.rule},
        average={name: tensors["optimizer"][f"average.{name}"] for name in fresh.average},
    )


def _network(engine: Engine, named: Mapping[str, Tensor], fresh: State) -> tuple[Tensor, dict[str, Tensor]]:
    params = torch.cat([named[name].flatten() for name in engine.program.layout.names])
    return params, {name: named[name] for name in fresh.buffers}


def _same_architecture(engine: Engine, member: Member, tensors: Tensors, fresh: State) -> None:
    layout = engine.program.layout
    network = dict(zip(layout.names, layout.shapes, strict=True)) | _shapes(fresh.buffers)
    optimizer = _shapes(fresh.rule, "rule.") | _shapes(fresh.average, "average.")
    for file, expected in (("weights", network), ("best", network), ("optimizer", optimizer)):
        found = {name: s for name, s in _shapes(tensors[file]).items() if not name.startswith("seen.")}
        differing = [name for name in expected | found if expected.get(name) != found.get(name)]
        if differing:
            name = differing[0]
            raise CheckpointError(
                f"{member.directory}: the checkpoint is of another network or optimizer: {name} is "
                f"{found.get(name, 'missing')} in {file} and {expected.get(name, 'missing')} in this "
                f"configuration ({len(differing)} differ); resume with the configuration it was made with"
            )


def _shapes(named: Mapping[str, Tensor], prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in named.items()}
