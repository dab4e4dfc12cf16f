"""Recurrent layers as a scan over steps, a loop that exporters keep instead of unrolling it."""

from __future__ import annotations

from torch import Tensor, nn

from slipstream.core.compat import scan
from slipstream.models.recurrent import Direction, advance


class Scanned(nn.Module):
    """Apply a cell to all steps, [T, N, C] -> [T, N, H], as `Direction` does."""

    def __init__(self, direction: Direction) -> None:
        super().__init__()
        self.direction = direction

    def forward(self, steps: Tensor) -> Tensor:
        own = self.direction
        if own.takes_kernel(steps):
            found: Tensor = own(steps)
            return found
        recurrent, inner, z = own.recurrent(steps), own.inner if own.cell == "gru" else None, own.gates(steps)

        def step(state: tuple[Tensor, Tensor], gates: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
            h, c = advance(own.cell, gates, *state, recurrent, inner, own.activation, own.outer)
            return (h, c.clone()), h.clone()

        zero = z.new_zeros(z.shape[1], own.width)
        states: Tensor = scan(step, (zero, zero.clone()), z)[1]
        return states


def with_scans(network: nn.Module) -> nn.Module:
    """Replace the recurrent cells of a network by scans, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Direction) and not isinstance(module, Scanned):
                setattr(module, name, Scanned(child))
    return network
