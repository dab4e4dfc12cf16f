"""Calibration: measuring the best pack size for members of a kind, and whether to compile.

A pack saves the overhead of torch's operations but not the arithmetic. For small networks the overhead is
nearly everything, for wide ones nothing. Therefore, a few eager steps of a single member and of packs are
timed for about a second.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from filelock import FileLock

from slipstream.core import folders
from slipstream.core.errors import ConfigError
from slipstream.core.registry import component
from slipstream.core.storage import replace as replace_file
from slipstream.core.storage import write_first, writing
from slipstream.core.wording import sizes
from slipstream.runs import resuming, run_folder, setup
from slipstream.runs.checkpoints import CheckpointError
from slipstream.training.backend import memory
from slipstream.training.backend.compile_choice import COMPILED_BEFORE, can_compile, compile_pays
from slipstream.training.engine import Engine
from slipstream.training.epoch_plan import Batching
from slipstream.training.lifting import why_alone, why_eager
from slipstream.training.pack import Pack, signature

if TYPE_CHECKING:
    from slipstream.config.run_config import Config
    from slipstream.data import Data
    from slipstream.sweeps.plan.job import Job
    from slipstream.sweeps.plan.sweep_settings import GridSettings

CHOICES = "packing"  # in the sweep's folder; choices are recorded because bytes depend on them
SIZES = (8, 64, 256)  # pack sizes to time; larger ones gain nothing more
SECONDS, WORTH = 1.0, 0.1  # for timing all sizes, and its maximum share of the expected work
# steps timed at each size; seconds after which LEAST suffice; three times that: any number
MOST, LEAST, ENOUGH = 10, 5, 0.05
APART = "members"  # the start of the reason why a network cannot be vectorized, which a sweep shows
MARGIN = 0.85  # a pack is chosen if it needs less than this fraction of the members' single time
ALIKE = 1.05  # among sizes that are about equally fast, the smallest is chosen to save memory
# The share of an eager step's time that remains when compiled, alone and packed, and the cost of compiling in
# seconds, with inductor's cache cold and warm: torch 2.13, 2 cores (docs/performance.md). The share of a pack
# is the largest observed (1/7 to 0.44). Only orders of magnitude matter. Models that spend their time in
# kernels which compiling does not affect have a trait `compiled_leaves` with their own two.
LEFT_ALONE, LEFT_PACKED = 0.4, 0.45
COLD, WARM = 10.0, COMPILED_BEFORE


@dataclass(frozen=True)
class PackChoice:
    """The choice of how to train the members of a kind.

    size: the maximum number of members together. packed: True if they are vectorized, even a single last one.
    compile: True if their functions are compiled. reason: for the user. measured: seconds of a member's eager
    step by pack size.
    """

    size: int
    packed: bool
    compile: bool
    reason: str
    measured: dict[str, float]


class PlannedWork(NamedTuple):
    """The work ahead for a kind.

    The fields are the waiting members, their total updates, `trainer.compile`, the seconds of compilation by
    pack size, and left: the fraction of an eager step's time that remains when compiled, single and packed.
    """

    members: int
    updates: int
    compile: bool | str
    compiling: Callable[[int], float]
    left: tuple[float, float] = (LEFT_ALONE, LEFT_PACKED)


def choose(
    config: Config,
    folds: Sequence[Data],
    device: torch.device,
    work: PlannedWork,
    pack: int | str = "auto",
    *,
    time_pack: Callable[[int], float] | None = None,
    free: int | None = None,
) -> PackChoice:
    """Choose how to train the members of this configuration's kind.

    config: resolved. pack: `auto`, or the user's number of members. time_pack: returns the seconds of a
    member's step by pack size; None times it here. free: bytes that a pack may take. Raises ConfigError if
    not even one member fits into memory.
    """
    timed = time_pack or _Timer(config, folds, device)
    alone = why_alone(config, folds[0])
    most = 1 if alone else min(work.members, SIZES[-1] if pack == "auto" else int(pack))
    fits = memory.is_small(config, folds, most, free)
    needs = partial(memory.predict, config, folds, device=device)
    room = most if fits else memory.fits(needs, most, free)
    if not room:
        need = needs(1) / 2**30
        raise ConfigError(
            [
                f"model: needs about {need:.1f} GB to train, but only {(free or 0) / 2**30:.1f} GB are free; "
                f"lower data.batch_size, or one of {sizes(config.model.settings)}"
            ]
        )
    short = f"; {room} {'fits' if room == 1 else 'fit'} into memory" if room < most else ""
    if pack != "auto" or room == 1:  # nothing to choose except compiling
        measured = {room: timed(room)} if work.compile == "auto" else {}
        compiled = _expected(work, room, measured[room])[1] if measured else work.compile is True
        why = "one member" if pack == "auto" else f"sweep.pack={pack}"
        if alone:
            why = f"{APART} of model={config.model.name} train one after another: {alone}"
        return _choice(room, compiled, why + short, measured)
    measured = _time_all(timed, room, work.updates)
    packs = {size: each for size, each in measured.items() if size > 1}
    fastest = min(packs.values())
    size = min(size for size, each in packs.items() if each <= fastest * ALIKE)
    together, compile_pack = _expected(work, size, packs[size])
    apart, compile_alone = _expected(work, 1, measured[1])
    if together < MARGIN * apart:
        saved = f"{apart / together:.1f} times as fast as one after another"
        return _choice(size, compile_pack, f"{size} together: {saved}{short}", measured)
    return _choice(1, compile_alone, "one after another, since packs would not be faster", measured)


def _choice(size: int, compiled: bool, reason: str, measured: Mapping[int, float]) -> PackChoice:
    return PackChoice(
        size, size > 1, compiled, reason, {str(n): round(each, 9) for n, each in measured.items()}
    )


def _expected(work: PlannedWork, size: int, each: float) -> tuple[float, bool]:
    """Return the expected seconds of the work, and True if it is compiled. each: a member's eager step."""
    eager = work.updates * each
    left = work.left[size > 1]
    if work.compile == "auto" and eager * (1 - left) < WARM:  # not worth checking inductor's cache
        return eager, False
    compiled = eager * left + work.compiling(size)
    if work.compile == "auto":
        return min((eager, False), (compiled, True))
    return (compiled, True) if work.compile else (eager, False)


def _time_all(timed: Callable[[int], float], most: int, updates: int) -> dict[int, float]:
    """Return the seconds of a member's step by size, without sizes that would take too long to time."""
    began = time.monotonic()
    measured = {1: timed(1)}
    deadline = began + min(SECONDS, WORTH * updates * measured[1])
    for size in (*(size for size in SIZES if size < most), most):
        # A first step warms up at about the usual cost. A pack is rarely slower than single members.
        if len(measured) > 1 and 3 * size * min(measured.values()) > deadline - time.monotonic():
            break
        measured[size] = timed(size)
    return measured


class _Timer:
    """A timer for steps of packs with members of one configuration."""

    def __init__(self, config: Config, folds: Sequence[Data], device: torch.device) -> None:
        self.config = replace(config, trainer=replace(config.trainer, compile=False))
        self.data, self.device = folds[0], device

    def __call__(self, size: int) -> float:
        """Return the time of the fastest step after a warm-up, since other load only adds time."""
        engine = Engine([self.config] * size, self.data, self.device)
        plan, state = engine.plan(0), engine.start()
        steps = engine.batching.steps
        rates = engine.rates([[self.config.optimizer.settings["lr"]] * steps] * size)
        counts = engine.counts(0, steps)
        times: list[float] = []
        while len(times) < 2 or (
            len(times) <= MOST and sum(times) < (ENOUGH if len(times) > LEAST else 3 * ENOUGH)
        ):
            i = len(times) % steps
            began = time.perf_counter()
            state, _ = engine.step(state, plan.batches[i], rates[i], counts[i])
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        return min(times[1:]) / size


class Chooser:
    """A chooser that decides once for every kind of member and records the choice in the sweep's folder.

    members: returns all members of the sweep, including ended ones, from which a lost choice is recovered.
    """

    def __init__(
        self, directory: Path, settings: GridSettings, members: Callable[[], Sequence[Job]] = lambda: ()
    ) -> None:
        self.sweep, self.directory, self.settings = directory, directory / CHOICES, settings
        self.members = members

    def __call__(self, jobs: Sequence[Job], folds: Mapping[str, Data], device: torch.device) -> PackChoice:
        """Return the choice for a kind. jobs: its waiting jobs. folds: their data, all of one form."""
        first, datas = jobs[0].config, list(folds.values())
        kind = _digest(signature(first))
        path = self.directory / f"{kind}.json"
        with writing(path):
            folders.mkdir(self.directory)
        # Other workers wait while one measures, because they would disturb it.
        with FileLock(path.with_suffix(".lock")):
            if recorded := _read(path):
                return recorded
            how = self._as_begun(kind, lost=path.exists())
            return self._choose(path, first, datas, device, len(jobs), how)

    def _as_begun(self, kind: str, *, lost: bool) -> resuming.How | None:
        """Recover a kind's choice from its checkpoints, or return None if they do not determine it.

        lost: True if there was a record. Otherwise, a search may have trained a single member without a
            choice.
        """
        lonely = hasattr(self.settings, "trials") and not lost
        for job in self._begun.get(kind, ()):
            with suppress(CheckpointError):
                how = resuming.begun(self.sweep / str(job.number)).how
                if how is not None and (how.packed or not lonely):
                    return how
        return None

    @cached_property
    def _begun(self) -> dict[str, list[Job]]:
        """Return members that started before this process checked, by kind, the latest first."""
        found: dict[str, list[Job]] = {}
        for job in reversed(self.members()):
            if (self.sweep / str(job.number) / run_folder.CONFIG).exists():
                found.setdefault(_digest(signature(job.config)), []).append(job)
        return found

    def _choose(
        self,
        path: Path,
        first: Config,
        datas: Sequence[Data],
        device: torch.device,
        waiting: int,
        how: resuming.How | None,
    ) -> PackChoice:
        config = setup.resolve(first, datas[0])
        if how is not None:
            config = replace(config, trainer=replace(config.trainer, compile=how.compile))
        free, workers = memory.free_bytes(device), self.settings.workers
        work = self._work(config, datas[0], -(-waiting // workers))
        if free is not None:
            free //= workers
        pack = self.settings.pack if how is None or how.packed else 1
        choice = choose(config, datas, device, work, pack, free=free)
        if how is not None:
            choice = _alike(choice, how)
        if config.trainer.portable:  # a single member would be rounded differently
            choice = replace(choice, packed=True)
        if choice.compile:
            _note_compiled(config, datas[0], choice.size)
        # A member that waits alone in a search may soon be followed by others, so nothing is recorded.
        lonely = waiting == 1 and hasattr(self.settings, "trials")
        return choice if lonely else _record(path, choice)

    def _work(self, config: Config, data: Data, waiting: int) -> PlannedWork:
        # A search proposes more later, presumably of all kinds in the same proportion.
        rounds = getattr(self.settings, "trials", 1) / getattr(self.settings, "at_once", 1)
        batching = Batching.of(
            len(data.train.inputs), config.data.settings["batch_size"], config.trainer.accumulate
        )
        updates = round(waiting * max(rounds, 1) * config.trainer.max_epochs * batching.steps)
        setting = config.trainer.compile
        # This raises an error if compilation is requested but impossible.
        if not compile_pays(setting, sys.maxsize, Pack(2), able=can_compile(config, Pack(2))):
            setting = False
        if setting == "auto" and why_eager(config, data):
            setting = False
        return PlannedWork(
            waiting,
            updates,
            setting,
            lambda size: WARM if _mark(config, data, size).exists() else COLD,
            component("model", config.model.name).traits.compiled_leaves or (LEFT_ALONE, LEFT_PACKED),
        )


def _mark(config: Config, data: Data, size: int) -> Path:
    """Return a file next to inductor's cache that exists if such a pack was compiled before."""
    from slipstream.core.compat import cache_dir

    parts = (signature(config), size, len(data.train.inputs), torch.get_num_threads(), torch.__version__)
    return Path(cache_dir()) / "slipstream" / _digest(repr(parts))


def _note_compiled(config: Config, data: Data, size: int) -> None:
    with suppress(OSError):  # it only improves an estimate
        mark = _mark(config, data, size)
        folders.mkdir(mark.parent)
        folders.opened(mark, "xb").close()


def _alike(choice: PackChoice, how: resuming.How) -> PackChoice:
    """Return a choice that keeps the bytes of a kind whose other members have already been trained."""
    packs = {int(size): each for size, each in choice.measured.items() if int(size) > 1}
    size = choice.size if choice.size > 1 or not packs else min(packs, key=packs.__getitem__)
    return replace(
        choice,
        size=size if how.packed else 1,
        packed=how.packed,
        compile=how.compile,
        reason="as its first members were trained, since the record of the choice was lost",
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(path: Path) -> PackChoice | None:
    """Read a recorded choice. A damaged record counts as none."""
    with suppress(OSError, ValueError, TypeError):
        return PackChoice(**json.loads(path.read_text(encoding="utf-8")))
    return None


def _record(path: Path, choice: PackChoice) -> PackChoice:
    """Write the choice atomically. If several workers write one, the first counts."""
    text = json.dumps(asdict(choice), indent=1) + "\n"
    with writing(path):
        folders.mkdir(path.parent)
        folders.sync(path.parent.parent)
        if not write_first(path, text) and _read(path) is None:  # a damaged file
            replace_file(path, text)
            folders.sync(path.parent)
    return _read(path) or choice
