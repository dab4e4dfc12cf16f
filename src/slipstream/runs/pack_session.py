"""The session of a pack: members in the slots of one engine, from their folders to their summaries.

A single run, a pack from Python and a pack of a sweep are all sessions. A single run is a pack of one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from slipstream.core.storage import side_by_side
from slipstream.runs import resuming, setup, summary
from slipstream.runs.recorder import Recorder, graph_of
from slipstream.runs.tracking import RunLog, Tracking
from slipstream.runs.trained import Trained
from slipstream.training.engine import Engine
from slipstream.training.loop import Overseer, Progress, Watcher, train_pack
from slipstream.training.member import DIVERGED, IDLE, INTERRUPTED, Member
from slipstream.training.snapshot import enter, take

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from slipstream.config.run_config import Config
    from slipstream.data import Data
    from slipstream.training.interrupts import Interrupts
    from slipstream.training.snapshot import Taken

SMALLEST = 2  # the minimum number of slots of a pack, because a single run is rounded differently


@dataclass
class Slot:
    """A slot of a pack: a member, with the lock on its folder if the slot holds one.

    fold: the index of its data. overrides: its command line. swept: keys that the HParams table must show.
    saved: the checkpoint of an earlier process, until the member starts.
    """

    member: Member
    fold: int
    overrides: Sequence[str] = ()
    swept: Collection[str] = ()
    saved: Taken | None = None
    resume: bool = False
    lock: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def idle(cls, other: Slot) -> Self:
        """Return a slot without a run, of the same kind as another."""
        return cls(Member(other.member.config, None, status=IDLE), other.fold)


S = TypeVar("S", bound=Slot)


def prepared(config: Config, directory: Path | None, data: Data, saved: Taken | None) -> Member:
    """Return the member that trains this configuration on these data.

    Raises ConfigError if the data do not fit the configuration, and DataError if `saved` has other data.
    """
    config = setup.resolve(config, data)
    resuming.require_same_data(config, data, saved)
    return Member(config, directory)


def with_idle(slots: Sequence[S]) -> list[S]:
    """Return the slots, extended with idle ones to the minimum size of a vectorized pack."""
    return [*slots, *(type(slots[0]).idle(slots[0]) for _ in range(SMALLEST - len(slots)))]


class PackSession(Generic[S]):
    """Members in the slots of one engine.

    slots: one for a single member, at least SMALLEST for a vectorized pack. datas: the folds. tracking: the
    process's; its creator closes it.
    """

    in_sweep = False  # True if one member will be selected; TensorBoard hides test scores until then

    def __init__(
        self,
        slots: Sequence[S],
        datas: Sequence[Data],
        device: torch.device,
        tracking: Tracking | None = None,
    ) -> None:
        self.tracking = tracking or Tracking()
        self.slots, self.datas, self.device = list(slots), list(datas), device
        self.members = [slot.member for slot in slots]
        self.loggers: list[RunLog | None] = []
        self.engine = self._engine()
        self.progress = resuming.begin(self.engine, self.members, [slot.saved for slot in slots])

    def _engine(self) -> Engine:
        configs, folds = [member.config for member in self.members], [slot.fold for slot in self.slots]
        return Engine(configs, self.datas, self.device, folds)

    def begin(self, warn: Callable[[str], None]) -> None:
        """Write everything known before training, and open loggers and recorder."""
        boards = [
            member.config.loggers.get("tensorboard")
            for member in self.members
            if member.directory is not None
        ]
        if len(self.members) > 1 and any(board is not None and board["graph"] for board in boards):
            graph_of(self.engine)  # cached for all members; it must not be traced in threads
        self.loggers = side_by_side(self._open, range(len(self.slots)))
        self.recorder = Recorder(
            self.engine, self.members, self.loggers, warn, summary.conditions, self.tracking.news
        )

    def _open(self, k: int) -> RunLog | None:
        slot = self.slots[k]
        slot.saved = None  # its tensors are in the state now
        alone = not self.in_sweep and sum(member.status != IDLE for member in self.members) == 1
        sweep = slot.member.directory.parent if self.in_sweep and slot.member.directory else None
        return setup.open_member(
            slot.member,
            slot.overrides,
            self.engine,
            k,
            resume=slot.resume,
            swept=slot.swept,
            alone=alone,
            tracking=self.tracking,
            sweep=sweep,
        )

    def advance(
        self,
        watchers: Sequence[Watcher],
        interrupts: Interrupts,
        overseer: Overseer | None = None,
        limit: int | None = None,
    ) -> None:
        """Train until every member has stopped, a signal arrives, the overseer pauses or `limit` updates."""
        watchers = [self.recorder, *watchers]
        train_pack(self.engine, self.members, self.progress, watchers, interrupts, overseer, limit)

    def conclude(self, which: Sequence[int], exit_code: int = 0) -> list[summary.Result]:
        """Write and return the results of members that have ended. exit_code: of an interrupted run."""
        return summary.conclude(
            self.engine, self.members, which, self.progress, self.loggers, exit_code, chosen=not self.in_sweep
        )

    def trained(self, k: int, result: summary.Result) -> Trained:
        """Return everything about a finished member that a run folder contains."""
        member, engine = self.members[k], self.engine
        tensors, described = take(engine, self.progress, member, k)
        steps = (member.epoch + (member.status == DIVERGED)) * engine.batching.steps
        return Trained(
            raw=member.config.raw,
            fitted=self.datas[self.slots[k].fold].fitted,
            step=steps + len(self.progress.seen),
            tensors=tensors,
            state=described | summary.conditions(engine, k),
            summary=summary.text(engine, member, k, result),
            overrides=list(self.slots[k].overrides),
        )

    def put(self, places: Sequence[int], entered: Sequence[S]) -> None:
        """Put members into free slots, each from its start or its saved progress."""
        for k, slot in zip(places, entered, strict=True):
            self.slots[k], self.members[k] = slot, slot.member
        configs, folds = [slot.member.config for slot in entered], [slot.fold for slot in entered]
        self.engine.place(places, configs, folds)
        trees = [enter(self.engine, self.members[k], k, self.slots[k].saved) for k in places]
        pack, progress = self.engine.pack, self.progress
        progress.state = pack.put(progress.state, places, [state for state, _ in trees])
        progress.best = pack.put(progress.best, places, [best for _, best in trees])
        for k, logger in zip(places, side_by_side(self._open, places), strict=True):
            self.loggers[k] = logger

    def keep(self, places: Sequence[int]) -> None:
        """Move the members of some slots into an engine of that size."""
        pack, progress = self.engine.pack, self.progress
        self.progress = Progress(pack.select(progress.state, places), pack.select(progress.best, places))
        self.slots = [self.slots[k] for k in places]
        self.members = [slot.member for slot in self.slots]
        self.loggers = [self.loggers[k] for k in places]
        self.engine = self._engine()
        self.recorder.move(self.engine, self.members, self.loggers)

    def save(self) -> None:
        """Save the progress of all running members at the end of their last epoch."""
        self.progress.seen = []
        self.recorder.save(self.progress)

    def close(self) -> None:
        """Release files and folders in any case; a full disk has already been reported."""
        for logger in self.loggers:
            if logger is not None:
                logger.end(INTERRUPTED, {}, 0)  # ignored if its end was already logged
                if logger.tensorboard is not None:
                    with suppress(OSError):
                        logger.tensorboard.close()
        for slot in self.slots:
            slot.lock.close()


@contextmanager
def opened(
    slots: Sequence[Slot], datas: Sequence[Data], tracking: Tracking | None = None
) -> Iterator[PackSession[Slot]]:
    """Set up the device and open the session of a pack, which is closed at the end.

    Raises ConfigError if there is no such device, and UserError if there is not enough memory.
    """
    config = slots[0].member.config
    with ExitStack() as stack:
        device = setup.set_up(config)
        stack.enter_context(setup.flushing_denormals())
        stack.enter_context(setup.explain_oom(config))
        session = PackSession(slots, datas, device, tracking)
        stack.callback(session.close)
        stack.enter_context(setup.limit_threads(session.engine))
        yield session
