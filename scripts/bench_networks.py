"""Time of a training step of convolutional and recurrent networks, beside tuned loops of plain PyTorch.

    python scripts/bench_networks.py [--rounds 7] [--seconds 0.5] [--only convnet] [--threads 1]

One process. In every round each contestant of a network makes updates for so many seconds, one after the
other; the tables have the median over rounds and the median and range of the ratios within a round. Below
1.00 the contestant is the faster one. A pack's time is that of one of its members.

The plain loops have the same network, data, batches and optimizer, without DataLoader, logging or
validation: channels last in memory where there are channels, fused Adam, examples gathered on the device,
whole batches only.
The toolkit's updates include the order of examples and what each leaves for the epoch's report.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import nn

import slipstream
from slipstream.config import Config, for_target, validate
from slipstream.data import Data, load
from slipstream.training.engine import Engine

Update = Callable[[], None]
COMMON = ("trainer.metrics=[]", "logger=none", "early_stopping=none", "data.batch_size=64")
DIGITS = ("data=digits", "model=convnet")
COLOUR = ("data=shapes", "data.size=32", "data.colour=true")


@dataclass(frozen=True)
class Network:
    """A network of the toolkit, and the plain one that it is compared with.

    packs: also 16 of it together. augmentations: also with these, each list for itself.
    """

    name: str
    overrides: Sequence[str]
    plain: Callable[[], nn.Module]
    packs: bool = False
    augmentations: Sequence[str] = field(default=())


class Block(nn.Module):
    """The paper's block with a shortcut that learns nothing, as others write it."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.two = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for _ in range(2))
        self.more, self.stride = after - before, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[1](self.two(torch.relu(self.norms[0](self.one(x)))))
        if self.more:
            x = nn.functional.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return torch.relu(x + y)


class LastState(nn.Module):
    """torch's LSTM and a dense layer behind its last state."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, width, batch_first=True)
        self.output = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.lstm(x)[0][:, -1])


def convnet(channels: Sequence[int], side: int, classes: int) -> nn.Module:
    """Convolution, relu and max pooling, and again; then a dense layer."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    rest = side // 2 ** (len(channels) - 1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * rest**2, classes))


def resnet(blocks: int, classes: int) -> nn.Module:
    """CIFAR's, with 16, 32 and 64 channels."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    before = 16
    for stage in range(3):
        for number in range(blocks):
            after = 16 * 2**stage
            layers.append(Block(before, after, 2 if stage and not number else 1))
            before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


NETWORKS = (
    Network(
        "convnet 8x8, 8-16",
        (*DIGITS, "model.channels=[8,16]"),
        lambda: convnet((1, 8, 16), 8, 10),
        packs=True,
    ),
    Network("convnet 8x8, 32-32", DIGITS, lambda: convnet((1, 32, 32), 8, 10), packs=True),
    Network(
        "convnet 16x16, 16-32",
        ("data=shapes", "model=convnet", "model.channels=[16,32]"),
        lambda: convnet((1, 16, 32), 16, 4),
        packs=True,
        augmentations=("[translation,rotation]", "[horizontal_flip,crop,rotation,cutout]", "[mixup]"),
    ),
    Network(
        "convnet 32x32x3, 16-32",
        (*COLOUR, "model=convnet", "model.channels=[16,32]"),
        lambda: convnet((3, 16, 32), 32, 4),
        augmentations=("[translation,rotation]", "[horizontal_flip,crop,color_jitter,cutout]"),
    ),
    Network(
        "resnet-8 32x32x3",
        (*COLOUR, "model=resnet", "model.blocks=1", "regularizer=batch_norm"),
        lambda: resnet(1, 4),
    ),
    Network(
        "rnn lstm 50 steps, 64",
        ("data=adding_problem", "model=rnn", "data.target_scaling=none"),
        lambda: LastState(2, 64),
        packs=True,
    ),
)


def configured(*overrides: str) -> Config:
    """A validated configuration with the numbers of this benchmark."""
    return validate(slipstream.compose(*COMMON, *overrides))


def toolkit(config: Config, data: Data, members: int) -> Update:
    """An update of so many members together."""
    engine = Engine([for_target(config, data.target)] * members, data, torch.device("cpu"))
    state, steps = engine.start(), engine.batching.steps
    rates = engine.rates([[1e-3] * steps] * members)
    epoch, waiting = 0, []

    def update() -> None:
        nonlocal state, epoch
        if not waiting:
            plan, counts = engine.plan(epoch), engine.counts(epoch * steps, steps)
            arguments = list(zip(rates, counts, strict=True))
            starts = range(0, steps, engine.stride)
            waiting.extend(
                (plan.batches[i : i + engine.stride], arguments[i : i + engine.stride]) for i in starts
            )
            epoch += 1
        state, _, _ = engine.advance(state, *waiting.pop(0))

    update.each = engine.stride * members  # type: ignore[attr-defined]
    return update


def tuned(network: nn.Module, data: Data) -> Update:
    """An update of the plain loop."""
    if data.form.kind == "image":
        network = network.to(memory_format=torch.channels_last)
    x, y = data.train.inputs, data.train.targets
    if data.form.scaling:  # scaled once, outside the loop
        offset, factor = (
            torch.tensor(v).view(-1, 1, 1) for v in (data.form.scaling.offset, data.form.scaling.factor)
        )
        x = ((x - offset) * factor).float()
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    loss_of = nn.MSELoss() if data.target.task == "regression" else nn.CrossEntropyLoss()
    waiting: list[torch.Tensor] = []

    def update() -> None:
        if not waiting:
            waiting.extend(torch.randperm(len(x))[: len(x) // 64 * 64].split(64))
        indices = waiting.pop()
        optimizer.zero_grad(set_to_none=True)
        loss_of(network(x[indices]), y[indices]).backward()
        optimizer.step()

    update.each = 1  # type: ignore[attr-defined]
    return update


def seconds_each(update: Update, seconds: float) -> float:
    """The time of a member's update, over so many seconds."""
    made, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        update()
        made += update.each  # type: ignore[attr-defined]
    return passed / made


def contestants(network: Network, size: int, *, compiled: bool) -> dict[str, Update]:
    """All that are compared, warmed up; the first one is what the others are divided by."""
    config = configured(*network.overrides, "trainer.compile=false")
    data = load({"name": config.data.name, **config.data.settings})
    made = {"plain loop": tuned(network.plain(), data), "eager": toolkit(config, data, 1)}
    if network.packs:
        made[f"pack of {size}, eager"] = toolkit(config, data, size)
    for chosen in network.augmentations:
        own = configured(*network.overrides, "trainer.compile=false", f"augmentation={chosen}")
        made[chosen.strip("[]")] = toolkit(own, data, 1)
    if compiled and "rnn" not in network.name:
        config = configured(*network.overrides, "trainer.compile=true")
        made["compiled"] = toolkit(config, data, 1)
        if network.packs:
            update = toolkit(config, data, size)
            made[f"pack of {size}, compiled"] = update
    for update in made.values():
        for _ in range(3):
            update()
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default="", help="networks whose names contain this")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--size", type=int, default=16, help="members of a pack")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # Subnormal numbers slow the plain loop as well; it gets the same setting.
    torch.set_flush_denormal(True)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, load {os.getloadavg()[0]:.2f}; "
        f"{arguments.rounds} rounds of {arguments.seconds:g} s each, batch 64, Adam"
    )
    print(f"{'network':<24}{'contestant':<42}{'us a step':>10}{'ratio':>8}   range of the ratio")
    for network in NETWORKS:
        if arguments.only not in network.name:
            continue
        updates = contestants(network, arguments.size, compiled=not arguments.eager)
        times: dict[str, list[float]] = {name: [] for name in updates}
        for _ in range(arguments.rounds):
            for name, update in updates.items():
                times[name].append(seconds_each(update, arguments.seconds))
        for name, seconds in times.items():
            ratios = [a / b for a, b in zip(seconds, times["plain loop"], strict=True)]
            print(
                f"{network.name:<24}{name:<42}{statistics.median(seconds) * 1e6:>10.0f}"
                f"{statistics.median(ratios):>8.2f}   {min(ratios):.2f} to {max(ratios):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
