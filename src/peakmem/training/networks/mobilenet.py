"""MobileNet V1 and V2.

V1 follows the authors' TensorFlow code (slim, `mobilenet_v1.py`): ReLU6 after every norm (here in place, which
TensorFlow's graph cannot say), dropout 0.001. V2 is torchvision 0.28, `models/mobilenetv2.py`: ReLU6 in place, the
residual a new tensor (`x + self.conv(x)`), dropout 0.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from peakmem.training.networks.parts import ConvNorm, divisible

V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# channels out and stride of each pair
V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# factor, channels out, repeats and stride of each stage


class InvertedResidual(nn.Module):
    """Wider by a factor, a depthwise convolution, narrow again."""

    def __init__(self, inside: int, outside: int, stride: int, factor: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inside == outside
        middle = inside * factor
        self.conv = nn.Sequential(
            *([ConvNorm(inside, middle, 1, act=nn.ReLU6)] if factor != 1 else ()),
            ConvNorm(middle, middle, 3, stride, groups=middle, act=nn.ReLU6),
            nn.Conv2d(middle, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Branch and residual, added into a new tensor."""
        if self.residual:
            return x + self.conv(x)
        return self.conv(x)


class MobileNet(nn.Module):
    """Features, their mean, one fully connected layer after dropout."""

    def __init__(self, features: list[nn.Module], outside: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(outside, classes))

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.features(x)
        x = nn.functional.adaptive_avg_pool2d(x, (1, 1))
        x = torch.flatten(x, 1)
        return self.classifier(x)


def mobilenet_v1(*, width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Depthwise and pointwise convolutions in turn."""
    inside = max(8, int(32 * width))
    features: list[nn.Module] = [ConvNorm(3, inside, 3, 2, act=nn.ReLU6)]
    for channels, stride in V1:
        outside = max(8, int(channels * width))
        depthwise = ConvNorm(inside, inside, 3, stride, groups=inside, act=nn.ReLU6)
        features.append(nn.Sequential(depthwise, ConvNorm(inside, outside, 1, act=nn.ReLU6)))
        inside = outside
    return MobileNet(features, inside, 0.001, classes)


def mobilenet_v2(*, width: float = 1.0, classes: int = 1000) -> nn.Module:
    """Inverted residuals."""
    inside, last = divisible(32 * width), divisible(1280 * max(1.0, width))
    features: list[nn.Module] = [ConvNorm(3, inside, 3, 2, act=nn.ReLU6)]
    for factor, channels, repeats, stride in V2:
        outside = divisible(channels * width)
        for at in range(repeats):
            features.append(InvertedResidual(inside, outside, 1 if at else stride, factor))
            inside = outside
    features.append(ConvNorm(inside, last, 1, act=nn.ReLU6))
    return MobileNet(features, last, 0.2, classes)
