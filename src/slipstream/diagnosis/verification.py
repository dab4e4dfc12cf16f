"""Verification of a run: ranges of epochs are trained again, and their bytes are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path

import torch

from slipstream.core import storage
from slipstream.core.errors import UserError
from slipstream.core.types import Plain
from slipstream.core.version import __version__
from slipstream.core.wording import counted
from slipstream.diagnosis.branches import Origin
from slipstream.runs import checkpoints, resuming
from slipstream.runs.grouped import Ended
from slipstream.runs.summary import Result
from slipstream.training.member import METRICS
from slipstream.training.snapshot import Taken, Tensors

THREADS = (1, 2, 4, 8)  # thread counts to try if the bytes differ


@dataclass(frozen=True)
class Stretch:
    """Epochs that were trained again, from after `begin` up to `end`.

    differing: names of tensors and records whose bytes differ from the saved ones; empty if all are equal.
    """

    begin: int
    end: int
    differing: tuple[str, ...]


@dataclass(frozen=True)
class Receipt:
    """The result of a verification.

    Attributes:
        folder: the run.
        stretches: the epochs that were trained again.
        damaged: files that have changed since they were written, each with the reason.
        conditions: changes since the run that can affect the bytes, such as the version of torch.
        explained: the condition that reproduces the saved bytes, if one was found.
    """

    folder: Path
    stretches: tuple[Stretch, ...]
    damaged: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    explained: str | None = None

    @property
    def holds(self) -> bool:
        """True if nothing is damaged and all bytes were reproduced."""
        return not self.damaged and all(not stretch.differing for stretch in self.stretches)

    def lines(self) -> Iterator[str]:
        """Yield the sentences of the receipt."""
        yield from self.damaged
        for stretch in self.stretches:
            several = stretch.end > stretch.begin + 1
            where = f"epochs {stretch.begin + 1} to {stretch.end}" if several else f"epoch {stretch.end}"
            if stretch.differing:
                more = len(stretch.differing) - 3
                names = ", ".join(stretch.differing[:3]) + (f" and {more} more" if more > 0 else "")
                yield f"{where}: trained again, different bytes: {names}"
            else:
                yield f"{where}: trained again, same bytes"
        yield from self.conditions
        if self.explained:
            yield f"the saved bytes are those of {self.explained}"
        if not self.holds and not self.damaged and not self.conditions and not self.explained:
            yield "no recorded condition has changed: the files were modified, or the machine makes errors"


def verify(run: str | Path | Result, *, whole: bool = False) -> Receipt:
    """Train epochs of a run again and compare their bytes with those that the run saved.

    Args:
        run: the folder of a run, or the result of `slipstream.train` with a folder.
        whole: True begins at the start of the run. Otherwise only the epochs between its saved checkpoints
            are trained again, or all if there is just one checkpoint.

    Returns:
        The epochs that were trained again, the differences, and the recorded condition that explains them: a
        damaged file, another version of torch, other kernels, another number of threads, or other data.

    Raises:
        UserError: the folder holds no run, or no checkpoint of a whole epoch, not even a damaged one.

    Example:
        >>> import slipstream
        >>> config = slipstream.compose("data=iris", "trainer.max_epochs=3", "trainer.checkpoint_seconds=0")
        >>> result = slipstream.train(config, "runs/iris")
        >>> slipstream.verify("runs/iris").holds
        True
    """
    origin = Origin(run)
    saved, damaged = origin.saved, list(origin.damaged)
    if not saved and not damaged:
        raise UserError(f"{origin.folder}: has no checkpoint of a whole epoch to compare")
    if not saved:
        return Receipt(origin.folder, (), tuple(damaged))
    begins = [0, *saved] if whole or len(saved) == 1 else [*saved]
    pairs = list(pairwise(begins))
    stretches = [_again(origin, *pair) for pair in pairs]
    last = checkpoints.load(saved[max(saved)])
    damaged += _records(origin.folder, last[1]["records"])
    conditions = list(_conditions(origin.folder, last[1])) if any(s.differing for s in stretches) else []
    explained = None
    for pair, stretch in zip(pairs, stretches, strict=True):
        if stretch.differing and explained is None:
            explained = _threads(origin, *pair)
    return Receipt(origin.folder, tuple(stretches), tuple(damaged), tuple(conditions), explained)


def _again(origin: Origin, begin: int, end: int, threads: int | None = None) -> Stretch:
    """Train the epochs after `begin` up to `end` again and compare the result with the saved checkpoint."""
    taken = checkpoints.load(origin.saved[begin]) if begin else None
    tensors, state = checkpoints.load(origin.saved[end])
    how = state if threads is None else {**state, "threads": threads}
    if taken is not None:
        taken = taken[0], {**taken[1], "threads": how["threads"], "compile": how["compile"]}
    ended: Ended = origin.again(taken, how, until=end)
    return Stretch(begin, end, tuple(_differing((tensors, state), ended.trained.snapshot)))


def _differing(saved: Taken, again: Taken) -> Iterator[str]:
    """Yield the names of everything that differs in any byte."""
    if saved[1]["fingerprint"] != again[1]["fingerprint"]:
        yield "the data"
    nothing: Mapping[str, Plain] = {}
    pairs = zip_longest(saved[1]["records"], again[1]["records"], fillvalue=nothing)
    for number, (was, now) in enumerate(pairs, start=1):
        if was != now:
            names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
            yield f"{', '.join(names[:2])} of epoch {number}"
    yield from (f"{file}: {name}" for file, name in _tensors(saved[0], again[0]))


def _tensors(saved: Tensors, again: Tensors) -> Iterator[tuple[str, str]]:
    """Yield file and name of each saved tensor that is missing or has other bytes."""
    for file, named in saved.items():
        for name, tensor in named.items():
            other = again[file].get(name)
            if other is None or not torch.equal(_bits(tensor), _bits(other.cpu())):
                yield file, name


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of a tensor, uint8 [bytes]: NaNs are equal where their bits are."""
    return tensor.contiguous().flatten().view(torch.uint8)


def _records(folder: Path, records: Sequence[Mapping[str, Plain]]) -> Iterator[str]:
    """Yield the lines of metrics.jsonl that differ from the checkpoint."""
    path = folder / METRICS
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        yield f"{path}: cannot be read ({error.strerror or error})"
        return
    for number, record in enumerate(records):
        found = lines[number] if number < len(lines) else "missing"
        if found != storage.line(record).rstrip("\n"):
            yield f"{path}: line {number + 1} has changed since the run wrote it: {found[:60]}"


def _conditions(folder: Path, state: Mapping[str, Plain]) -> Iterator[str]:
    """Yield the changes since the run that can affect the bytes."""
    versions = state.get("versions", {})
    for name, now in (("torch", torch.__version__), ("slipstream", __version__)):
        if versions.get(name, now) != now:
            yield f"{name} was {versions[name]} and is {now}"
    yield from resuming.other_kernels(folder, state)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if state.get("device", device) != device:
        yield f"the device was {state['device']} and is {device}"


def _threads(origin: Origin, begin: int, end: int) -> str | None:
    """Return words about another number of threads that reproduces the saved bytes, None without one."""
    recorded = checkpoints.load(origin.saved[end])[1]["threads"]
    for threads in THREADS:
        if threads != recorded and not _again(origin, begin, end, threads).differing:
            return f"{counted(threads, 'thread')}; the run recorded {recorded}"
    return None


def receipt_json(receipt: Receipt) -> str:
    """Return the receipt as JSON text."""
    stretches = [vars(stretch) for stretch in receipt.stretches]
    told = {"run": str(receipt.folder), "holds": receipt.holds, "stretches": stretches}
    told |= {"damaged": receipt.damaged, "conditions": receipt.conditions, "explained": receipt.explained}
    return json.dumps(told, indent=1) + "\n"
