"""A network of one's own: python examples/own_module.py data=shapes model=own_resnet"""

from torch import Tensor, nn

from slipstream import register
from slipstream.cli import main


class Block(nn.Module):
    """Two convolutions beside a shortcut, as torchvision's BasicBlock has them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.relu, self.shortcut = nn.ReLU(inplace=True), nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(h + self.shortcut(x))


@register("model", takes=("image",))
def own_resnet(form, outputs, *, width: int = 8, dropout: float = 0.1):
    """A small residual network with batch normalization and torch's own dropout."""
    stem = nn.Sequential(
        nn.Conv2d(form.shape[0], width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )
    backbone = nn.Sequential(stem, Block(width, width, 1), Block(width, 2 * width, 2))
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width, outputs)
    )
    return nn.Sequential(backbone, head)


if __name__ == "__main__":
    main()
