"""A network as a function of its parameters, and as a chain of layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from slipstream.models.layers import Reparametrized

if TYPE_CHECKING:
    from slipstream.data.image.stored import Sliced

FITTED = 10_000  # most rows that hidden layers are fitted to before training
IMAGES_FITTED = 10_000  # most images that any layer is fitted to before training


class Functional:
    """Calls a module with given parameters and buffers and returns its new buffers.

    `torch.func.functional_call` does the same but drops changed buffers, and its checks take a tenth of a
    small network's step.
    """

    def __init__(self, module: nn.Module, autocast: torch.dtype | None = None) -> None:
        self.module = module
        self.layers = list(chain(module))
        self.autocast = autocast
        self.parameters = [self._slot(name, "_parameters") for name, _ in module.named_parameters()]
        self.buffers = {name: self._slot(name, "_buffers") for name, _ in module.named_buffers()}

    def _slot(self, name: str, kind: str) -> tuple[dict[str, Tensor], str, Tensor]:
        owner, _, own = name.rpartition(".")
        slots = getattr(self.module.get_submodule(owner), kind)
        return slots, own, slots[own]

    def __call__(
        self, params: list[Tensor], buffers: dict[str, Tensor], x: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the outputs [N, C] for x [N, ...], and the buffers after the call."""
        for (slots, own, _), value in zip(self.parameters, params, strict=True):
            slots[own] = value
        for name, (slots, own, _) in self.buffers.items():
            slots[own] = buffers[name]
        try:
            with nullcontext() if self.autocast is None else torch.autocast(x.device.type, self.autocast):
                for layer in self.layers:
                    x = layer(x)
            return x.float(), {name: slots[own] for name, (slots, own, _) in self.buffers.items()}
        finally:
            for slots, own, original in (*self.parameters, *self.buffers.values()):
                slots[own] = original


def chain(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of nested sequences: entering each nn.Sequential would cost a microsecond."""
    if type(module) is nn.Sequential:
        for child in module:
            yield from chain(child)
    else:
        yield module


@torch.no_grad()
def fit(module: nn.Module, examples: Tensor | Sliced) -> None:
    """Call `fit`, in order, on every module that has it, with the data that reach it.

    Input layers see all training rows, hidden layers at most FITTED, evenly spaced.
    """
    layers = list(chain(module))
    insides = (layer.layer if isinstance(layer, Reparametrized) else layer for layer in layers)
    looking = {i: inside.fit for i, inside in enumerate(insides) if hasattr(inside, "fit")}
    if not looking:
        return
    inputs = len(list(chain(module.get_submodule("inputs"))))
    module.eval()
    x = examples[:: spread(examples)]
    for i, layer in enumerate(layers[: max(looking) + 1]):
        if i == inputs:
            x = x[:: -(-len(x) // FITTED)]
        if i in looking:
            looking[i](x)  # type: ignore[operator]  # the method `fit`
        x = layer(x)
    module.train()


def spread(examples: Tensor | Sliced) -> int:
    """Return the stride of images used by `fit`: all of them, as floats, would need too much memory."""
    return -(-len(examples) // IMAGES_FITTED) if len(examples.shape) == 4 else 1
