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
members, size, pairs = len(mine.members), mine.batch_size, []
for number, (before, after) in enumerate(pairwise(sizes)):
    x = torch.randn(members, size, before, **kind)
    weight = torch.randn(members, after, before, **kind)
    gradient = torch.randn(members, size, after, **kind)
    pairs += [(x, weight.mT), (gradient.mT, x)] + [(gradient, weight)] * (number > 0)
# Room made once: fresh memory for large products costs as much again.
products = [(left, right, torch.bmm(left, right)) for left, right in pairs]
clock = task.Clock(mine)
while len(clock.times) < 4 or clock.times[-1] - clock.times[1] < mine.seconds:
    for _ in range(steps):
        for left, right, out in products:
            torch.bmm(left, right, out=out)
    clock.epoch()
clock.ended(float("nan"), steps * (len(clock.times) - 1))
