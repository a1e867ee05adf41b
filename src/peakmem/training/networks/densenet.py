"""DenseNet (torchvision 0.28, `models/densenet.py`): every layer concatenates all that came before, ReLU in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SHAPES = {121: (32, (6, 12, 24, 16), 64), 161: (48, (6, 12, 36, 24), 96),
          169: (32, (6, 12, 32, 32), 64), 201: (32, (6, 12, 48, 32), 64)}  # fmt: skip
# growth, layers of each block and channels of the first convolution, by the number in the name
BOTTLENECK = 4
# channels inside a layer, in growths


class DenseLayer(nn.Module):
    """1x1 then 3x3, each behind a norm and ReLU in place, on everything so far."""

    def __init__(self, inside: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inside)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inside, BOTTLENECK * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def squeezed(self, features: list[Tensor]) -> Tensor:
        """The bottleneck's result."""
        joint = torch.cat(features, 1)
        return self.conv1(self.relu1(self.norm1(joint)))

    def forward(self, features: list[Tensor]) -> Tensor:
        """The new features alone."""
        x = self.squeezed(features)
        return self.conv2(self.relu2(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    """Layers on ever more features."""

    def __init__(self, layers: int, inside: int, growth: int) -> None:
        super().__init__()
        for at in range(layers):
            self.add_module(f"denselayer{at + 1}", DenseLayer(inside + at * growth, growth))

    def forward(self, x: Tensor) -> Tensor:
        """All features, in one tensor."""
        features = [x]
        for layer in self.values():
            new = layer(features)
            features.append(new)
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """Four blocks with a halving between them."""

    repeated = DenseLayer

    def __init__(self, growth: int, layers: tuple[int, ...], channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, channels, 7, 2, 3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(channels))
        self.features.add_module("relu0", nn.ReLU(inplace=True))
        self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        for at, count in enumerate(layers, start=1):
            self.features.add_module(f"denseblock{at}", DenseBlock(count, channels, growth))
            channels += count * growth
            if at < len(layers):
                half = nn.Sequential()
                half.add_module("norm", nn.BatchNorm2d(channels))
                half.add_module("relu", nn.ReLU(inplace=True))
                half.add_module("conv", nn.Conv2d(channels, channels // 2, 1, bias=False))
                half.add_module("pool", nn.AvgPool2d(2, 2))
                self.features.add_module(f"transition{at}", half)
                channels //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(channels))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        features = self.features(x)
        out = functional.relu(features, inplace=True)
        out = functional.adaptive_avg_pool2d(out, (1, 1))
        out = torch.flatten(out, 1)
        return self.classifier(out)


def densenet(depth: int, *, classes: int = 1000) -> nn.Module:
    """A network of `depth` layers."""
    return DenseNet(*SHAPES[depth], classes)
