"""Training of runs of any structure; runs of equal structure train as one pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from slipstream.config.run_config import Config
from slipstream.core.errors import UserError
from slipstream.data import Data
from slipstream.data.in_memory import InMemory
from slipstream.runs import run_folder, setup
from slipstream.runs.pack_session import Slot, opened, prepared, with_idle
from slipstream.runs.summary import Result
from slipstream.runs.trained import Trained
from slipstream.training.backend import memory
from slipstream.training.interrupts import Interrupts
from slipstream.training.lifting import why_alone
from slipstream.training.member import INTERRUPTED, STOPPED, Member
from slipstream.training.pack import signature
from slipstream.training.snapshot import Taken

LARGEST = 64  # members of a pack; observing each takes as much memory as an update of 256 rows
LEFT = "stopped at the requested epoch"
LEFT_WITHIN = "stopped at the requested update"


class Interrupted(UserError):
    """Raised if a signal ended the training before its results were complete."""

    def __init__(self, interrupts: Interrupts) -> None:
        super().__init__(f"interrupted by {interrupts.name}: there are no results")
        self.exit_code = interrupts.exit_code


@dataclass(frozen=True)
class Ended:
    """A finished run: its result, and everything that its folder would contain."""

    result: Result
    trained: Trained


@dataclass(frozen=True)
class Until:
    """An overseer that stops every member at an epoch. Schedules keep the length of the whole run."""

    epoch: int
    members: Sequence[Member]

    def verdicts(self, trained: Sequence[int]) -> Mapping[int, tuple[str, str]]:
        """Stop the members that have trained this many epochs."""
        return {k: (STOPPED, LEFT) for k in trained if self.members[k].epoch >= self.epoch}

    def failed(self, member: Member, error: UserError) -> None:
        """Raise the error: these runs belong together."""
        raise error

    def pauses(self) -> bool:
        """Never leave the loop with members still running."""
        return False


def train_grouped(
    configs: Sequence[Config],
    saved: Sequence[Taken | None] | None = None,
    directories: Sequence[Path] | None = None,
    overrides: Sequence[Sequence[str]] | None = None,
    *,
    until: int | None = None,
    updates: int | None = None,
    given: InMemory | None = None,
    loaded: Data | None = None,
    packed: bool = True,
    least: int = 1,
) -> list[Ended]:
    """Train runs, as packs where structures are equal, each as if it were trained alone.

    Args:
        configs: validated configurations of any structure. Runs with the same data share them.
        saved: a snapshot for each run to begin from, or None. `snapshot.branched` makes one from a run with
            another configuration.
        directories: a new folder for each run; None writes nothing to disk.
        overrides: the command line of each run, for its folder.
        until: the epoch at which runs are stopped; their schedules still extend to `trainer.max_epochs`.
        updates: the number of updates after which runs are stopped, even within an epoch, as if interrupted.
        given: the rows of data=memory.
        loaded: the data of all runs, if they are the same and already in memory.
        packed: True computes a run with a unique structure as a member of a pack.
        least: runs with fewer than this number per structure train one by one, which is faster for two runs.

    Returns:
        The finished runs, in the order of `configs`.

    Raises:
        ConfigError, DataError: a configuration cannot run. Interrupted: a signal arrived.
    """
    if not configs:
        return []
    entries = [None] * len(configs) if saved is None else list(saved)
    folders = [None] * len(configs) if directories is None else list(directories)
    typed = [()] * len(configs) if overrides is None else list(overrides)
    with ExitStack() as stack:
        for folder in folders:
            if folder is not None:
                stack.enter_context(run_folder.claim(folder, resume=False, advice="choose another folder"))
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(setup.portable_kernels(configs[0]))
        datas, folds = (
            ([loaded], [0] * len(configs)) if loaded is not None else setup.load_all(configs, given)
        )
        slots = []
        for k, (config, fold, entry) in enumerate(zip(configs, folds, entries, strict=True)):
            member = prepared(setup.as_saved(config, entry), folders[k], datas[fold], entry)
            slots.append(Slot(member, fold, typed[k], saved=entry))
        ended: dict[int, Ended] = {}
        limits = until, updates
        for which, liftable in _grouped(slots, datas, least):
            found = _train([slots[k] for k in which], datas, interrupts, limits, packed and liftable)
            ended |= zip(which, found, strict=True)
            if interrupts.received is not None:
                raise Interrupted(interrupts)
    return [ended[k] for k in range(len(configs))]


def _grouped(slots: Sequence[Slot], datas: Sequence[Data], least: int) -> list[tuple[list[int], bool]]:
    """Return the indices of the slots of each pack that fits into memory.

    The flag is False if each slot trains alone, because they are few or the network cannot be vectorized.
    """
    kinds: dict[object, list[int]] = {}
    for k, slot in enumerate(slots):
        into = 0 if slot.saved is None else slot.saved[1]["steps_into_epoch"]
        kind = signature(_alike(slot.member.config)), repr(setup.form(datas[slot.fold])), into
        kinds.setdefault(kind, []).append(k)
    packs = []
    for places in kinds.values():
        first = slots[places[0]].member.config
        if len(places) < least or why_alone(first, datas[slots[places[0]].fold]):
            packs += [([k], False) for k in places]
            continue
        used = [datas[fold] for fold in sorted({slots[k].fold for k in places})]
        most = min(len(places), LARGEST)
        most = max(memory.fitting(first, used, most, setup.device_of(first)), 1)
        packs += [(places[i : i + most], True) for i in range(0, len(places), most)]
    return packs


def _alike(config: Config) -> Config:
    """Return the configuration without what members of a pack may differ in here, beyond what sweeps allow.

    Each has its own split, and what decides on its best epoch is its early stopping's setting.
    """
    data, trainer = dict(config.raw["data"]), dict(config.raw["trainer"])
    for section, key in ((data, "split_seed"), (trainer, "monitor"), (trainer, "mode")):
        section.pop(key, None)
    return replace(config, raw={**config.raw, "data": data, "trainer": trainer})


def _train(
    slots: list[Slot],
    datas: Sequence[Data],
    interrupts: Interrupts,
    limits: tuple[int | None, int | None],
    packed: bool,
) -> list[Ended]:
    """Train the slots of one pack to the end, or up to limits of epochs and updates."""
    until, updates = limits
    known, used = range(len(slots)), sorted({slot.fold for slot in slots})
    for slot in slots:
        slot.fold = used.index(slot.fold)
    with opened(with_idle(slots) if packed else slots, [datas[fold] for fold in used]) as session:
        session.begin(lambda text: None)
        overseer = None if until is None else Until(until, session.members)
        if overseer is not None:  # a snapshot may already be at that epoch
            for k, (status, reason) in overseer.verdicts(range(len(session.members))).items():
                if session.members[k].running:
                    session.members[k].status, session.members[k].reason = status, reason
        session.advance([], interrupts, overseer, updates)
        for member in session.members:
            if member.running:
                member.status, member.reason = INTERRUPTED, LEFT_WITHIN
        results = session.conclude(known, interrupts.exit_code)
        return [Ended(result, session.trained(k, result)) for k, result in zip(known, results, strict=True)]
