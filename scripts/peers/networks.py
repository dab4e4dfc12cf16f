"""The network of a task as plain PyTorch modules."""

from __future__ import annotations

from itertools import pairwise

import torch
from task import Task
from torch import nn


def network(task: Task) -> nn.Sequential:
    """Dense, relu, dense, relu, dense; or convolution, relu and max pooling, twice, and a dense layer."""
    if not task.channels:
        (features,), width = task.shape, task.width
        return nn.Sequential(
            nn.Linear(features, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, task.outputs),
        )
    layers: list[nn.Module] = []
    for before, after in pairwise([task.shape[0], *task.channels]):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    side = task.shape[1] // 2 ** len(task.channels)
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(task.channels[-1] * side**2, task.outputs))
    return net.to(memory_format=torch.channels_last)
