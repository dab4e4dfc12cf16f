"""Fits of estimators that are prepared one by one and trained together as packs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain, pairwise
from math import ceil
from typing import NamedTuple

from slipstream.config.run_config import Config
from slipstream.core.errors import UserError
from slipstream.core.wording import counted
from slipstream.data import Data
from slipstream.data.in_memory import InMemory
from slipstream.runs import setup
from slipstream.runs.recorder import flat
from slipstream.runs.session import run_pack
from slipstream.runs.summary import Result
from slipstream.runs.trained import Trained
from slipstream.training.backend import memory
from slipstream.training.member import INTERRUPTED
from slipstream.training.model_spec import ModelSpec
from slipstream.training.pack import HOST_GROUPS, OWN_KEYS, signature

LARGEST = 256  # members of a pack; larger packs gain nothing
VARYING = 8  # the largest number of settings that a line about a pack names


@dataclass(frozen=True)
class PendingFit:
    """A fit whose rows are prepared and whose network is not trained yet.

    given: the rows of data=memory. finish: called with the training's result and the networks that other fits
    have built, by structure; raises ValueError if it failed.
    """

    config: Config
    given: InMemory
    overrides: Sequence[str]
    finish: Callable[[Result, Trained, dict[str, ModelSpec]], None]


class TrainedFit(NamedTuple):
    """The result of a fit: its share of the time, and its error, if any."""

    seconds: float
    error: Exception | None


@dataclass
class _Kind:
    """Fits that can be members of one pack, by number, with their data and the index of each."""

    fits: list[int]
    datas: list[Data]
    folds: list[int]


_postponed: ContextVar[list[PendingFit] | None] = ContextVar("postponed", default=None)


@contextmanager
def postponing() -> Iterator[list[PendingFit]]:
    """Collect the fits inside the block instead of training them."""
    fits: list[PendingFit] = []
    token = _postponed.set(fits)
    try:
        yield fits
    finally:
        _postponed.reset(token)


def submit(fit: PendingFit) -> None:
    """Train and finish a fit, or leave it to the block of `postponing`. Raises UserError, ValueError."""
    waiting = _postponed.get()
    if waiting is not None:
        waiting.append(fit)
        return
    keep: list[Trained] = []
    (result,) = run_pack([fit.config], [None], [fit.overrides], quiet=True, given=fit.given, keep=keep)
    fit.finish(result, keep[0], {})


def train_all(fits: Sequence[PendingFit], say: Callable[[str], None]) -> list[TrainedFit]:
    """Train and finish all fits, as packs where structure and number of rows are equal.

    say: called with a line about each kind of fit. Raises KeyboardInterrupt after a signal.
    """
    ends: dict[int, TrainedFit] = {}
    kinds = _kinds(fits, ends)
    for kind, varying in zip(kinds, _varying([fits[kind.fits[0]].config for kind in kinds]), strict=True):
        try:
            size = _size([fits[k].config for k in kind.fits], kind)
        except UserError as error:
            ends |= {k: TrainedFit(0.0, ValueError(str(error))) for k in kind.fits}
            continue
        rows, packs = counted(len(kind.datas[0].train), "row"), ceil(len(kind.fits) / size)
        how = "one after another" if size == 1 else counted(packs, "pack")
        say(f"{counted(len(kind.fits), 'fit')} of {', '.join([rows, *varying])}: {how}")
        bounds = [len(kind.fits) * i // packs for i in range(packs + 1)]
        for first, last in pairwise(bounds):
            ends |= _train([fits[k] for k in kind.fits[first:last]], kind, range(first, last))
    return [ends[k] for k in range(len(fits))]


def _kinds(fits: Sequence[PendingFit], ends: dict[int, TrainedFit]) -> list[_Kind]:
    """Return the fits by kind. Fits whose data cannot be used go to `ends`. Equal rows are read once."""
    read: dict[tuple[str, str], Data | UserError] = {}
    kinds: dict[tuple[str, str], _Kind] = {}
    for number, fit in enumerate(fits):
        key = setup.data_key(fit.config), _digest(fit.given)
        if key not in read:
            try:
                (read[key],), _ = setup.load_all([fit.config], fit.given)
            except UserError as error:
                read[key] = error
        data = read[key]
        if isinstance(data, UserError):
            ends[number] = TrainedFit(0.0, ValueError(str(data)))
            continue
        kind = kinds.setdefault((signature(fit.config), repr(setup.form(data))), _Kind([], [], []))
        places = [i for i, other in enumerate(kind.datas) if other is data]
        kind.folds.append(places[0] if places else len(kind.datas))
        kind.fits.append(number)
        if not places:
            kind.datas.append(data)
    return list(kinds.values())


def _digest(given: InMemory) -> str:
    digest = hashlib.blake2b()
    for array in (given.inputs, given.targets, given.weights):
        if array is not None:
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _varying(configs: Sequence[Config]) -> list[list[str]]:
    """Return, for each kind, the settings in which kinds differ."""
    flats = [flat({k: v for k, v in c.raw.items() if k not in (*HOST_GROUPS, *OWN_KEYS)}) for c in configs]
    keys = [key for key in dict.fromkeys(chain(*flats)) if len({str(one.get(key)) for one in flats}) > 1]
    return [[f"{key}={one[key]}" for key in keys if key in one][:VARYING] for one in flats]


def _size(configs: Sequence[Config], kind: _Kind) -> int:
    """Return how many fits to train together: as many as fit into memory. No result depends on it.

    The size is not calibrated by speed: a network trained alone is rounded differently, so two searches could
    differ.
    """
    config = setup.resolve(configs[0], kind.datas[0])
    device, most = setup.set_up(config), min(len(configs), LARGEST)
    return 1 if most == 1 else max(memory.fitting(config, kind.datas, most, device), 1)


def _train(fits: Sequence[PendingFit], kind: _Kind, places: range) -> dict[int, TrainedFit]:
    """Train and finish fits as one pack. If one fails, halves are tried, so that only that fit is lost."""
    begun = time.perf_counter()
    keep: list[Trained] = []
    folds = [kind.folds[i] for i in places]
    used = sorted(set(folds))
    loaded = [kind.datas[fold] for fold in used], [used.index(fold) for fold in folds]
    overrides = [fit.overrides for fit in fits]
    try:
        results = run_pack(
            [fit.config for fit in fits], [None] * len(fits), overrides, quiet=True, loaded=loaded, keep=keep
        )
    except Exception as error:
        if len(fits) == 1:
            shown = ValueError(str(error)) if isinstance(error, UserError) else error
            return {kind.fits[places[0]]: TrainedFit(time.perf_counter() - begun, shown)}
        half = len(fits) // 2
        ends = _train(fits[:half], kind, places[:half])
        return ends | _train(fits[half:], kind, places[half:])
    if any(result.status == INTERRUPTED for result in results):
        raise KeyboardInterrupt
    share, specs = (time.perf_counter() - begun) / len(fits), dict[str, ModelSpec]()
    return {
        kind.fits[place]: _finished(fit, result, trained, share, specs)
        for place, fit, result, trained in zip(places, fits, results, keep, strict=True)
    }


def _finished(
    fit: PendingFit, result: Result, trained: Trained, seconds: float, specs: dict[str, ModelSpec]
) -> TrainedFit:
    begun = time.perf_counter()
    try:
        fit.finish(result, trained, specs)
    except ValueError as error:
        return TrainedFit(seconds, error)
    return TrainedFit(seconds + time.perf_counter() - begun, None)
