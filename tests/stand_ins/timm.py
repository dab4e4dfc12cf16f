"""Stands in for timm where it is not installed: `create_model`, and parameters named as a resnet's."""

from torch import nn


class _Network(nn.Module):
    def __init__(self, channels, outputs, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, outputs)

    def forward(self, x):
        return self.fc(self.bn1(self.conv1(x)).relu().mean((2, 3)))


def create_model(model_name, pretrained=False, *, in_chans=3, num_classes=1000):
    """Return a network of this name with random weights; timm would fetch others over the network."""
    assert not pretrained
    return _Network(in_chans, num_classes, {"test_resnet": 4}[model_name])
