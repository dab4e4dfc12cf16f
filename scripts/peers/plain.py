"""A tuned plain loop: `plain.py [I N]` trains every Nth member from the Ith on, all of them by default.

Data preloaded and shuffled whole, fused Adam; asked for, network and loss compiled by torch.compile or the
whole update captured as a CUDA graph. It neither validates (but for one look at the end, to show that it
learned) nor logs nor saves.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import task
import torch
from networks import network
from torch import Tensor
from torch.nn.functional import cross_entropy

Update = Callable[[Tensor, Tensor], None]


def make_update(mine: task.Task, net: torch.nn.Module, rate: float) -> Update:
    """The function that makes an update with a batch."""

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(net(inputs), targets)

    def in_bfloat16(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(mine.device, torch.bfloat16):
            return loss_of(inputs, targets)

    loss = in_bfloat16 if mine.dtype == "bfloat16" else loss_of
    if mine.compile == "compiled":
        loss = torch.compile(loss, dynamic=False)
    graphs = mine.compile == "graphs"
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, fused=True, capturable=graphs)

    def update(inputs: Tensor, targets: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(inputs, targets).backward()
        optimizer.step()

    return Graphed(update) if graphs else update


class Graphed:
    """An update captured as a CUDA graph for the first batch's size; others are made one by one.

    Capturing makes three updates more with the first batch.
    """

    def __init__(self, update: Update) -> None:
        self.update = update
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Tensor, targets: Tensor) -> None:
        if self.graph is None:
            self._capture(inputs, targets)
        if len(inputs) != len(self.inputs):
            self.update(inputs, targets)
            return
        self.inputs.copy_(inputs)
        self.targets.copy_(targets)
        self.graph.replay()

    def _capture(self, inputs: Tensor, targets: Tensor) -> None:
        self.inputs, self.targets = inputs.clone(), targets.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.update(self.inputs, self.targets)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.update(self.inputs, self.targets)


def train(mine: task.Task, data: dict[str, Tensor], rate: float, seed: int, clock: task.Clock) -> float:
    """Train a member; its accuracy on the validation rows."""
    torch.manual_seed(seed)
    x, y = data["x"], data["y"]
    net = network(mine).to(mine.device)
    update = make_update(mine, net, rate)
    for _ in range(mine.epochs):
        order = torch.randperm(len(x), device=x.device)
        for inputs, targets in zip(
            x[order].split(mine.batch_size), y[order].split(mine.batch_size), strict=True
        ):
            update(inputs, targets)
        clock.epoch()
    with torch.no_grad():
        return (net(data["xv"]).argmax(1) == data["yv"]).float().mean().item()


def main() -> None:
    """Train the members of this process."""
    mine = task.read()
    first, processes = map(int, sys.argv[1:] or ("0", "1"))
    data = {name: tensor.to(mine.device) for name, tensor in mine.tensors().items()}
    steps = -(-len(data["x"]) // mine.batch_size)
    for rate, seed in mine.members[first::processes]:
        clock = task.Clock(mine)
        clock.ended(train(mine, data, rate, seed, clock), mine.epochs * steps)


if __name__ == "__main__":
    main()
