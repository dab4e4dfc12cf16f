"""A tuned plain loop: `plain.py I N` trains every Nth member from the Ith on.

Data preloaded and shuffled whole, fused Adam, one thread to a process. It neither validates (but for
one look at the end, to show that it learned) nor logs nor saves.
"""

from __future__ import annotations

import sys

import task
import torch
from torch import nn
from torch.nn.functional import cross_entropy

mine = task.read()
first, processes = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
data = {name: tensor.to(mine.device) for name, tensor in mine.tensors().items()}
x, y, size = data["x"], data["y"], mine.batch_size
for rate, seed in mine.members[first::processes]:
    torch.manual_seed(seed)
    width = mine.width
    net = nn.Sequential(
        nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    ).to(mine.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, fused=True)
    for _ in range(mine.epochs):
        order = torch.randperm(len(x), device=x.device)
        for inputs, targets in zip(x[order].split(size), y[order].split(size), strict=True):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(net(inputs), targets).backward()
            optimizer.step()
    with torch.no_grad():
        mine.ended((net(data["xv"]).argmax(1) == data["yv"]).float().mean().item())
