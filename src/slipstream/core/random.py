"""Counted randomness: every random number is a function of a key and an index.

There is no generator and no state. A key [4] holds the run's seed (two 32-bit words), a site (the
numbers' purpose and the layer or tensor that uses them) and a time (a step or an epoch); the index
is the number's position in the tensor. Philox-4x32-10 turns them into bits (Salmon, Moraes, Dror,
Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11). Numbers therefore do not depend on earlier
draws, on the other members of a pack, or on the device, and resuming needs no state.

All words are int64 tensors with values in [0, 2^32): torch has no unsigned 32-bit arithmetic on
every device, and int64 products wrap without losing the low bits. A single run on a CPU, neither
vectorized nor compiled, uses `HostKey`s: numpy draws the same numbers for several times in one call.
"""

from __future__ import annotations

import random as generator
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import pi, prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from slipstream.core.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

# Purposes form the high half of a site. The low half numbers the tensors or layers of that purpose.
INIT, SHUFFLE, NOISE, SPLIT, DATA, BATCH, GRADIENT = range(1, 8)

AHEAD = 1 << 16  # numbers that a host key draws in one call
ORDERED = 1 << 13  # blocks of Philox per call when permutations are drawn on a CPU

Word: TypeAlias = Any  # int, numpy or torch: philox uses operators that all of them have
Words = tuple[Word, Word, Word, Word]
Key: TypeAlias = "Tensor | HostKey"


@dataclass(frozen=True)
class HostKey:
    """A key as Python integers.

    Philox takes 160 operations, more than a small layer. Uniform numbers are therefore also drawn in advance
    for the following times, which are requested in order.
    """

    seed: tuple[int, int]
    site: int
    time: int
    ahead: dict[Hashable, tuple[int, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, key: Tensor, ahead: dict[Hashable, tuple[int, Tensor]] | None = None) -> HostKey:
        """Copy a tensor key to the host, waiting for the device. ahead: numbers drawn by an earlier copy."""
        low, high, site, time = key.tolist()
        return cls((low, high), site, time, {} if ahead is None else ahead)

    def uniform(self, numbers: tuple[int, ...], count: int) -> Tensor:
        """Return the numbers of `uniform_rows`: float32 [len(numbers), count]."""
        if not (each := len(numbers) * count):
            return torch.empty(len(numbers), count)
        which = (self.seed, self.site, numbers, count)
        first, drawn = self.ahead.get(which, (0, ()))
        if not first <= self.time < first + len(drawn):
            drawn = self._draw(max(AHEAD // each, 1), numbers, count)
            first, self.ahead[which] = self.time, (self.time, drawn)
        return drawn[self.time - first]

    def _draw(self, times: int, numbers: tuple[int, ...], count: int) -> Tensor:
        at = (np.array(numbers, np.uint64)[:, None] + self.site) & MASK
        time = (np.arange(self.time, self.time + times, dtype=np.uint64) & MASK)[:, None, None]
        words = philox((np.arange((count + 3) // 4, dtype=np.uint64), 0, at, time), self.seed)
        rows = np.empty((*words[0].shape, 4), np.uint32)
        for i, word in enumerate(words):
            rows[..., i] = word
        rows = rows.reshape(*rows.shape[:2], -1)[..., :count] >> 8
        return torch.from_numpy(rows.astype(np.float32) * np.float32(2.0**-24))


def philox(counter: Words, key: tuple[Word, Word]) -> Words:
    """Apply Philox-4x32-10 to four counter words and two key words, elementwise with broadcasting.

    >>> from slipstream.core.lazy import torch
    >>> zero = torch.tensor(0)
    >>> [f"{int(word):08x}" for word in philox((zero,) * 4, (zero, zero))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        # The shift is arithmetic; the mask removes the copies of the sign bit.
        c0, c2 = ((p1 >> 32) ^ c1 ^ k0) & MASK, ((p0 >> 32) ^ c3 ^ k1) & MASK
        c1, c3 = p1 & MASK, p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def make_key(seed: int, purpose: int, number: int = 0, time: int = 0) -> Tensor:
    """Return a key [4], int64: seed (low, high word), site, time.

    seed: 0 <= seed < 2^64. number: the index of the tensor or layer, 0 <= number < 2^24.
    time: a step or an epoch, 0 <= time < 2^32.
    """
    return torch.tensor(key_words(seed, purpose, number, time))


def key_words(seed: int, purpose: int, number: int = 0, time: int = 0) -> tuple[int, int, int, int]:
    """Return the words of `make_key` as integers."""
    return seed & MASK, seed >> 32, (purpose << 24) | number, time


def fold(key: Key, number: int) -> Key:
    """Return the key for the `number`-th use of a key: its site plus `number`."""
    if isinstance(key, HostKey):
        return replace(key, site=(key.site + number) & MASK)
    return torch.cat([key[:2], (key[2:3] + number) & MASK, key[3:]])


def at(key: Key, time: float | Tensor) -> Key:
    """Return the same key at another time (an int or a scalar integer tensor)."""
    if isinstance(key, HostKey):
        return replace(key, time=int(time))
    return torch.cat([key[:3], torch.as_tensor(time, device=key.device).reshape(1)])


def bits(key: Tensor, count: int) -> Tensor:
    """Return `count` words [count], int64 in [0, 2^32). A larger count gives the same first words."""
    index = torch.arange((count + 3) // 4, device=key.device)
    words = philox((index, torch.zeros_like(index), key[2], key[3]), (key[0], key[1]))
    return torch.stack(words, dim=-1).flatten()[:count]


def uniform(key: Key, shape: tuple[int, ...]) -> Tensor:
    """Draw uniform numbers in [0, 1): float32 of this shape, multiples of 2^-24, equal on all devices."""
    if isinstance(key, HostKey):
        return key.uniform((0,), prod(shape)).reshape(shape)
    return (bits(key, prod(shape)) >> 8).to(torch.float32).mul(2.0**-24).reshape(shape)


def uniform_rows(key: Key, numbers: Sequence[int], count: int) -> Tensor:
    """Draw uniform numbers in [0, 1) for several uses of one key: float32 [len(numbers), count].

    Row i is `uniform(fold(key, numbers[i]), (count,))`. All rows together take as many operations as one.
    """
    if isinstance(key, HostKey):
        return key.uniform(tuple(numbers), count)
    index = torch.arange((count + 3) // 4, device=key.device)
    numbered = torch.tensor(numbers, dtype=torch.int64, device=key.device)
    sites = (key[2] + numbered[:, None]) & MASK
    words = philox((index, torch.zeros_like(index), sites, key[3]), (key[0], key[1]))
    rows = torch.stack(words, dim=-1).flatten(-2)[:, :count]
    return (rows >> 8).to(torch.float32).mul(2.0**-24)


def normal(key: Key, shape: tuple[int, ...]) -> Tensor:
    """Draw standard normal numbers with the Box-Muller transform: float32 of the given shape."""
    count = prod(shape)
    pairs = (count + 1) // 2
    u = uniform(key, (2 * pairs,)).view(pairs, 2)
    radius = (-2 * torch.log(1 - u[:, 0])).sqrt()
    angle = 2 * pi * u[:, 1]
    both = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    return both.flatten()[:count].reshape(shape)


@contextmanager
def seeded(key: Key, device: str = "cpu") -> Iterator[None]:
    """Let the global generators of torch, numpy and Python start from a key; restore them afterwards.

    For code that is not ours and draws from them. Waits for the device of a tensor key.
    """
    host = key if isinstance(key, HostKey) else HostKey.of(key)
    words = philox((0, 0, host.site, host.time), host.seed)
    python, array = generator.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=None if device == "cuda" else []):
        torch.manual_seed((words[1] << 32 | words[0]) & (2**63 - 1))
        generator.seed(words[2])
        np.random.seed(words[3])
        try:
            yield
        finally:
            generator.setstate(python)
            np.random.set_state(array)


def generators() -> tuple[object, ...]:
    """Return the states of the processor's global generators, to compare."""
    of_numpy = np.random.get_state(legacy=False)["state"]
    return (
        bytes(torch.get_rng_state().numpy()),
        of_numpy["key"].tobytes(),
        of_numpy["pos"],
        generator.getstate(),
    )


def permutations(keys: Tensor, times: Tensor, count: int) -> Tensor:
    """Return random permutations of 0 ... count-1 for keys [..., 4] at times [..., E]: int64 [..., E, count].

    Each index gets 62 random bits whose lowest bits are replaced by the index. No two values are equal, so
    any sort gives the same order. Below a million indices, the remaining bits hardly ever collide.
    """
    keys, rows = keys[..., None, :].expand(*times.shape, 4).reshape(-1, 4), times.reshape(-1)
    sizes = (count + 1) // 2, count
    ranges: list[Word]
    if keys.device.type != "cpu":
        ranges = [torch.arange(size, device=keys.device) for size in sizes]
        result: Tensor = _orders(keys, rows, ranges, torch).view(*times.shape, count)
        return result
    # numpy sorts four times as fast, and draws faster in chunks that fit in the cache.
    ranges = [np.arange(size, dtype=np.uint64) for size in sizes]
    own, at_times = (part.numpy().astype(np.uint64) for part in (keys, rows))
    orders = np.empty((len(rows), count), np.int64)
    piece = max(ORDERED // sizes[0], 1)
    for first in range(0, len(rows), piece):
        here = slice(first, first + piece)
        orders[here] = _orders(own[here], at_times[here], ranges, np)
    return torch.from_numpy(orders).view(*times.shape, count)


# Any: library is the module numpy or torch.
def _orders(keys: Word, times: Word, ranges: Sequence[Word], library: Any) -> Word:
    """Return permutations [R, N] for keys [R, 4] at times [R], by numpy or torch. ranges: of pairs and N."""
    index, places = ranges
    site, seed = keys[:, 2:3], (keys[:, :1], keys[:, 1:2])
    words = philox((index, 0 * index, site, times[:, None]), seed)
    pairs = library.stack([(words[0] << 30) ^ words[1], (words[2] << 30) ^ words[3]], -1)
    width = max(len(places) - 1, 1).bit_length()
    numbered = (pairs.reshape(len(keys), -1)[:, : len(places)] >> width << width) | places
    ordered = library.sort(numbered, -1)
    return (ordered if library is np else ordered.values) & ((1 << width) - 1)


def permutation(key: Tensor, count: int) -> Tensor:
    """Return a random permutation of 0 ... count-1 at the key's own time, int64 [count]."""
    return permutations(key, key[3:], count)[0]
