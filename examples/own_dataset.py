"""A torch Dataset as data: python examples/own_dataset.py data=rings data.radius=2 model=mlp"""

import torch

from slipstream import register
from slipstream.cli import main


class Rings(torch.utils.data.Dataset):
    """Points on two noisy rings, and the number of their ring."""

    def __init__(self, count: int, radius: float) -> None:
        self.count, self.radius = count, radius

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        draw = torch.Generator().manual_seed(i)
        ring, angle = i % 2, torch.rand(1, generator=draw) * 6.2832
        point = torch.cat([angle.cos(), angle.sin()]) * (self.radius if ring else 1.0)
        return point + 0.1 * torch.randn(2, generator=draw), ring


@register("data")
def rings(*, count: int = 400, radius: float = 2.0):
    """Two rings of points: each item is read once, and split and scaled as any data."""
    return Rings(count, radius)


if __name__ == "__main__":
    main()
