"""A member's progress as named tensors and JSON, the content of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from slipstream.core.registry import component
from slipstream.core.storage import CheckpointError
from slipstream.core.types import Layout, Plain
from slipstream.core.wording import counted
from slipstream.optimizers.base import initial_state
from slipstream.training.engine import Best, Engine
from slipstream.training.loop import Progress
from slipstream.training.member import Member
from slipstream.training.model_spec import State
from slipstream.training.step import StepOutput

Tensors = dict[str, dict[str, Tensor]]
Taken = tuple[Tensors, Mapping[str, Plain]]  # tensors by file and name, and the state as JSON
BRANCH = "branch"  # key of a state: the snapshot comes from another configuration


def take(engine: Engine, progress: Progress, member: Member, k: int) -> tuple[Tensors, dict[str, Plain]]:
    """Return the tensors by file, and the state, of member k."""
    pack, names = engine.pack, engine.program.layout.unflatten
    state: State = pack.member(progress.state, k)
    best_params, best_buffers = pack.member(progress.best, k)
    optimizer = {f"rule.{name}": value for name, value in state.opt_state.items()}
    optimizer |= {f"kept.{name}": value for name, value in state.regularizer_state.items()}
    if progress.seen:  # within an epoch: its training metrics need the outputs so far
        columns = zip(*(pack.member(seen, k) for seen in progress.seen), strict=True)
        pairs = zip(StepOutput._fields, columns, strict=True)
        optimizer |= {f"seen.{name}": torch.stack(column) for name, column in pairs}
    tensors = {
        "weights": names(state.params) | state.buffers,
        "optimizer": optimizer,
        "best": names(best_params) | best_buffers,
    }
    described = {
        "epoch": member.epoch,
        "steps_into_epoch": len(progress.seen),
        "best_epoch": member.best_epoch,
        "status": member.status,
        "reason": member.reason,
        "seconds": member.seconds,
        "records": member.records,
    }
    return tensors, described


def restore(engine: Engine, members: Sequence[Member], taken: Sequence[Taken | None]) -> Progress:
    """Restore the progress of each member; None starts a member. Raises CheckpointError."""
    places = range(len(members))
    states, bests = zip(*(enter(engine, members[k], k, taken[k]) for k in places), strict=True)
    # A stopped member was saved at its own end; running ones are at the same step of their epochs.
    made = {0 if (e := taken[k]) is None else e[1]["steps_into_epoch"] for k in places if members[k].running}
    if len(made) > 1:
        raise CheckpointError(f"the members of the pack were saved after different steps: {sorted(made)}")
    seen = _seen(engine, taken, made.pop() if made else 0)
    return Progress(engine.to_device(states), engine.to_device(bests), seen)


def enter(engine: Engine, member: Member, k: int, entry: Taken | None) -> tuple[State, Best]:
    """Return state and best network, on the CPU, of a member that enters slot k, and restore its history.

    entry: its snapshot, or None to start.
    """
    fresh = engine.start_of(k)
    best = engine.program.evaluated(fresh, engine.program.numbers(member.config))
    if entry is None:
        return fresh, best
    tensors, described = entry
    _same_architecture(engine, member, entry, fresh, best)
    member.restore(described)
    if described.get(BRANCH):
        return _branch(engine, member, tensors, fresh)
    return _state(engine, tensors, fresh), _network(engine, tensors["best"], best[1])


def branched(entry: Taken, *, same_optimizer: bool) -> Taken:
    """Return a snapshot from which a run with another configuration can begin.

    The network's parameters and running statistics come from the snapshot, as does the state of the optimizer
    and the regularizers that the configuration still has. All other state is initialized at these parameters.
    """
    tensors, state = entry
    kept = {n: x for n, x in tensors["optimizer"].items() if same_optimizer or not n.startswith("rule.")}
    return tensors | {"optimizer": kept}, {**state, BRANCH: True}


def _seen(engine: Engine, taken: Sequence[Taken | None], steps: int) -> list[StepOutput]:
    """Return the outputs of the finished steps of partial epochs, or zeros for stopped members."""
    if not steps:
        return []
    optimizers = [{} if entry is None else entry[0]["optimizer"] for entry in taken]
    names = [f"seen.{name}" for name in StepOutput._fields]
    running = next(optimizer for optimizer in optimizers if names[0] in optimizer)
    columns = [[o.get(name, torch.zeros_like(running[name])) for name in names] for o in optimizers]
    return [
        engine.to_device([StepOutput(*(part[i] for part in column)) for column in columns])
        for i in range(steps)
    ]


def _state(engine: Engine, tensors: Tensors, fresh: State) -> State:
    params, buffers = _network(engine, tensors["weights"], fresh.buffers)
    return State(
        params=params,
        buffers=buffers,
        opt_state={name: tensors["optimizer"][f"rule.{name}"] for name in fresh.opt_state},
        regularizer_state={name: tensors["optimizer"][f"kept.{name}"] for name in fresh.regularizer_state},
    )


def _branch(engine: Engine, member: Member, tensors: Tensors, fresh: State) -> tuple[State, Best]:
    """Return the state and best network of a branch (`branched`)."""
    program, saved = engine.program, tensors["optimizer"]
    params = flattened(program.layout, tensors["weights"])
    # Other buffers contain the configuration's numbers and random keys, which the branch may change.
    there = [name for name in program.carried if name in tensors["weights"]]
    buffers = fresh.buffers | {name: tensors["weights"][name] for name in there}
    rule = component("optimizer", member.config.optimizer.name)
    begun = initial_state(rule, params, program.layout, member.config.optimizer.settings)
    state = State(
        params=params,
        buffers=buffers,
        opt_state=_kept("rule.", begun, saved),
        regularizer_state=_kept("kept.", program.first_kept(params, buffers), saved),
    )
    best, own = program.evaluated(state, program.numbers(member.config))
    named, averaged = tensors["best"], {name: own[name] for name in program.running}
    if _shapes(program.layout.unflatten(best) | averaged).items() <= _shapes(named).items():
        best, own = flattened(program.layout, named), own | {name: named[name] for name in averaged}
    return state, (best, own)


def _kept(prefix: str, begun: dict[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the initial tensors, replaced by saved ones of the same shape."""
    both = {name: saved.get(f"{prefix}{name}", value) for name, value in begun.items()}
    return {name: x if x.shape == begun[name].shape else begun[name] for name, x in both.items()}


def _network(engine: Engine, named: Mapping[str, Tensor], buffers: Iterable[str]) -> Best:
    return flattened(engine.program.layout, named), {name: named[name] for name in buffers}


def flattened(layout: Layout, named: Mapping[str, Tensor]) -> Tensor:
    """Invert `layout.unflatten`: return [P], or [E P] for tensors with a leading axis E."""
    parts = zip(layout.names, layout.sizes, strict=True)
    return torch.cat([named[name].reshape(-1, size) for name, size in parts], dim=1).flatten()


def _same_architecture(engine: Engine, member: Member, taken: Taken, fresh: State, best: Best) -> None:
    tensors, described = taken
    names = engine.program.layout.unflatten
    network = _shapes(names(fresh.params) | fresh.buffers)
    evaluated = _shapes(names(best[0]) | best[1])
    optimizer = _shapes(fresh.opt_state, "rule.") | _shapes(fresh.regularizer_state, "kept.")
    files = {"weights": network, "best": evaluated, "optimizer": optimizer}
    if described.get(BRANCH):  # only the parameters must match
        files = {"weights": _shapes(names(fresh.params))}
    for file, expected in files.items():
        found = {name: s for name, s in _shapes(tensors[file]).items() if not name.startswith("seen.")}
        compared = expected if described.get(BRANCH) else expected | found
        differing = [name for name in compared if expected.get(name) != found.get(name)]
        if differing:
            name, where = differing[0], member.directory or "this run"
            raise CheckpointError(
                f"{where}: the checkpoint belongs to another network or optimizer: {name} is "
                f"{found.get(name, 'missing')} in {file} and {expected.get(name, 'missing')} in this "
                f"configuration ({counted(len(differing), 'tensor differs', 'tensors differ')}); resume with "
                "the original configuration"
            )


def _shapes(named: Mapping[str, Tensor], prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in named.items()}
