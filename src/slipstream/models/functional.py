"""A network as a function of its parameters, and as a chain of layers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from slipstream.core import random
from slipstream.models.layers import Reparametrized

if TYPE_CHECKING:
    from slipstream.data.image.stored import Sliced

FITTED = 10_000  # most rows that hidden layers are fitted to before training
IMAGES_FITTED = 10_000  # most images that any layer is fitted to before training


@dataclass(frozen=True)
class Nature:
    """The ways of a network that our own layers do not have.

    whole: it is called as one module, not as a chain of layers. draws: training draws from torch's generator,
    numpy's or Python's. writes: buffers that training changes in place.
    """

    whole: bool = False
    draws: bool = False
    writes: tuple[str, ...] = ()


Slot = tuple[dict[str, Tensor], str, Tensor]  # where a tensor stands in its module, and the module's own


class Functional:
    """Calls a module with given parameters and buffers and returns its new buffers.

    The parameters are those that are trained; frozen ones are buffers. A tensor that stands in several
    places (tied weights) is one. `torch.func.functional_call` does the same but drops changed buffers, and
    its checks take a tenth of a small network's step.
    """

    def __init__(
        self, module: nn.Module, autocast: torch.dtype | None = None, nature: Nature | None = None
    ) -> None:
        self.module, self.autocast, self.nature = module, autocast, nature or Nature()
        self.layers = [module] if self.nature.whole else list(chain(module))
        trained, kept = split_tensors(module)
        self.parameters = [self._slot(name) for name in trained]
        self.buffers = {name: self._slot(name) for name in kept}
        self._tied = list(self._other_places({**trained, **kept}))

    def _slot(self, name: str) -> Slot:
        owner, _, own = name.rpartition(".")
        module = self.module.get_submodule(owner)
        slots: dict[str, Tensor] = module._parameters if own in module._parameters else module._buffers  # type: ignore[assignment]  # this one is not None
        return slots, own, slots[own]

    def _other_places(self, known: Collection[str]) -> Iterator[tuple[Slot, Slot]]:
        """Yield further places of tied tensors, each with the first one."""
        first = {id(slot[2]): slot for slot in self._all()}
        parameters = self.module.named_parameters(remove_duplicate=False)
        for name, value in (*parameters, *self.module.named_buffers(remove_duplicate=False)):
            if name not in known:
                yield self._slot(name), first[id(value)]

    def _all(self) -> tuple[Slot, ...]:
        return (*self.parameters, *self.buffers.values())

    def __call__(
        self, params: list[Tensor], buffers: dict[str, Tensor], x: Tensor, key: random.Key | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the outputs [N, C] for x [N, ...], and the buffers after the call.

        key: of this call, for a network that draws in training.
        """
        for (slots, own, _), value in zip(self.parameters, params, strict=True):
            slots[own] = value
        for name, (slots, own, _) in self.buffers.items():
            slots[own] = buffers[name]
        for name in self.nature.writes:  # what was passed in belongs to the caller
            slots, own, _ = self.buffers[name]
            slots[own] = slots[own].clone()
        for (slots, own, _), (place, name, _) in self._tied:
            slots[own] = place[name]
        seeded = key is not None and self.nature.draws and not x.is_meta
        try:
            with (
                nullcontext() if self.autocast is None else torch.autocast(x.device.type, self.autocast),
                random.seeded(key, x.device.type) if seeded and key is not None else nullcontext(),
            ):
                for layer in self.layers:
                    x = layer(x)
            return x.float(), {name: slots[own] for name, (slots, own, _) in self.buffers.items()}
        finally:
            for slots, own, original in self._all():
                slots[own] = original
            for (slots, own, original), _ in self._tied:
                slots[own] = original


def split_tensors(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a module's trained parameters, and its buffers with the frozen parameters, by name."""
    named = dict(module.named_parameters())
    trained = {name: p.detach() for name, p in named.items() if p.requires_grad}
    frozen = {name: p.detach() for name, p in named.items() if not p.requires_grad}
    return trained, dict(module.named_buffers()) | frozen


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, tied ones once."""
    trained, kept = split_tensors(module)
    return trained | kept


@torch.no_grad()
def put_tensors(module: nn.Module, named: Mapping[str, Tensor]) -> None:
    """Give a module its parameters and buffers by name, those too that its state_dict leaves out."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        tensor.copy_(named[name])


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
