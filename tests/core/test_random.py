"""Counted randomness: published vectors, moments, and independence of everything but the key."""

import pytest
import torch

from slipstream.core import random

# Random123 kat_vectors, philox4x32 10 rounds: counter, key, result.
VECTORS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text):
    return tuple(torch.tensor(int(word, 16)) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "result"), VECTORS)
def test_philox_gives_the_published_vectors(counter, key, result):
    """Philox-4x32-10 equals the known-answer vectors of its authors."""
    assert random.philox(words(counter), words(key)) == words(result)


def test_numbers_do_not_depend_on_how_many_are_drawn():
    """The first numbers of a longer draw are those of a shorter one."""
    key = random.make_key(7, random.NOISE, 3, 11)
    assert torch.equal(random.bits(key, 1001)[:10], random.bits(key, 10))


def test_rows_drawn_together_are_those_drawn_apart():
    """Every row of several draws in one call has the bytes of its own draw, in a pack too."""
    keys = torch.stack([random.make_key(seed, random.BATCH, 0, 5) for seed in (1, 2)])
    rows = torch.vmap(lambda key: random.uniform_rows(key, [3, 40, 41], 11))(keys)
    for key, member in zip(keys, rows, strict=True):
        for number, row in zip([3, 40, 41], member, strict=True):
            assert torch.equal(row, random.uniform(random.fold(key, number), (11,)))


@pytest.mark.parametrize("change", [{"seed": 1}, {"seed": 2**40}, {"purpose": 2}, {"number": 1}, {"time": 1}])
def test_every_part_of_the_key_matters(change):
    """Another seed, purpose, number or time gives other numbers."""
    base = {"seed": 0, "purpose": 1, "number": 0, "time": 0}
    one, other = (random.bits(random.make_key(**arguments), 64) for arguments in (base, base | change))
    assert not torch.equal(one, other)


def test_members_of_a_pack_draw_what_they_draw_alone():
    """Under vmap every member gets the bytes of its own key, whatever its companions."""
    keys = torch.stack([random.make_key(seed, random.NOISE) for seed in range(5)])
    for draw in (random.uniform, random.normal):
        packed = torch.vmap(lambda key, draw=draw: draw(key, (3, 7)))(keys)
        for key, row in zip(keys, packed, strict=True):
            assert torch.equal(row, draw(key, (3, 7)))


def test_moments():
    """Mean and variance lie within five standard errors of their values for 100,000 numbers."""
    key = random.make_key(0, random.INIT)
    u, z = random.uniform(key, (100_000,)), random.normal(key, (100_000,))
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * (1 / 12 / 1e5) ** 0.5
    assert abs(z.mean()) < 5 * 1e-5**0.5
    assert abs(z.var() - 1) < 5 * (2 / 1e5) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / 1e5) ** 0.5


@pytest.mark.slow
def test_permutation_is_a_permutation_and_even():
    """Every index occurs once, and the first place holds each of four indices equally often."""
    firsts = [int(random.permutation(random.make_key(seed, random.SHUFFLE), 4)[0]) for seed in range(2000)]
    assert sorted(random.permutation(random.make_key(1, random.SHUFFLE), 1000).tolist()) == list(range(1000))
    for index in range(4):  # five standard deviations of a binomial with n=2000, p=1/4
        assert abs(firsts.count(index) - 500) < 5 * (2000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize("count", [1, 2, 3, 700, 3 * random.ORDERED])
def test_orders_are_the_same_in_any_company_and_by_either_library(count):
    """By numpy in pieces, by torch as on a GPU, and for every key and time alone."""
    keys = torch.stack([random.make_key(seed, random.SHUFFLE) for seed in (0, 5, 2**40)])
    times = torch.tensor([[0, 1], [7, 2**32 - 1], [1, 1]])
    orders = random.permutations(keys, times, count)
    assert orders.shape == (3, 2, count)
    for key, own, drawn in zip(keys, times, orders, strict=True):
        ranges = torch.arange((count + 1) // 2), torch.arange(count)
        assert torch.equal(random._orders(key.expand(2, 4), own, ranges, torch), drawn)
        assert torch.equal(random.permutation(random.at(key, own[1]), count), drawn[1])


@pytest.mark.parametrize("count", [1, 7, 1024, random.AHEAD + 3])
def test_a_host_key_draws_the_same_numbers(count):
    """Bit for bit, at times in order and out of it, folded, and for several uses at once."""
    key = random.make_key(2**40 + 5, random.NOISE, 3, 2**32 - 2)
    host = random.HostKey.of(key)
    for time in (2**32 - 2, 2**32 - 1, 0, 1, 1, 500, 2):
        here, there = random.at(key, time), random.at(host, time)
        assert torch.equal(random.uniform(there, (count,)), random.uniform(here, (count,)))
        assert torch.equal(random.normal(there, (count,)), random.normal(here, (count,)))
        here, there = random.fold(here, 9), random.fold(there, 9)
        several = random.uniform_rows(there, [4, 0, 7], count)
        assert torch.equal(several, random.uniform_rows(here, [4, 0, 7], count))
