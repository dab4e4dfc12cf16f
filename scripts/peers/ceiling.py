"""The limit of the machine: the matrix products of an update alone, by torch.bmm, for all members.

Of each layer the outputs, the gradient by the weights and, but for the first layer, which no one needs it
from, the gradient by the inputs. An epoch is as many updates as the data have batches; the last, smaller
one counts as a whole one. The task's seconds say for how long, two epochs after the first at least.
"""

from __future__ import annotations

from itertools import pairwise

import task
import torch

mine = task.read()
torch.set_flush_denormal(True)
steps = -(-len(mine.arrays()["x"]) // mine.batch_size)
kind = {"dtype": getattr(torch, mine.dtype), "device": mine.device}
sizes = [mine.shape[0], mine.width, mine.width, mine.outputs]
members, layers = len(mine.members), []
for before, after in pairwise(sizes):
    x = torch.randn(members, mine.batch_size, before, **kind)
    weight = torch.randn(members, after, before, **kind)
    gradient = torch.randn(members, mine.batch_size, after, **kind)
    layers.append((x, weight, gradient))


def products() -> None:
    """All of an update."""
    for number, (x, weight, gradient) in enumerate(layers):
        torch.bmm(x, weight.mT)
        torch.bmm(gradient.mT, x)
        if number:
            torch.bmm(gradient, weight)


clock = task.Clock(mine)
while len(clock.times) < 4 or clock.times[-1] - clock.times[1] < mine.seconds:
    for _ in range(steps):
        products()
    clock.epoch()
clock.ended(float("nan"), steps * (len(clock.times) - 1))
