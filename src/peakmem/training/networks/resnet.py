"""ResNet, ResNeXt and wide ResNet (torchvision 0.28, `models/resnet.py`).

The residual is added in place to the branch's last batch norm, ReLU is in place after it; the stride of a bottleneck
stands in its 3x3 convolution (version 1.5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1; a residual around them."""

    def __init__(self, kernels: tuple[int, ...], channels: tuple[int, ...], stride: int, groups: int,
                 downsample: nn.Module | None) -> None:  # fmt: skip
        super().__init__()
        strided = len(kernels) - 2
        # the first of two, the second of three
        for at, kernel in enumerate(kernels):
            conv = nn.Conv2d(
                channels[at], channels[at + 1], kernel, stride if at == strided else 1, kernel // 2,
                groups=groups if kernel == 3 else 1, bias=False,
            )  # fmt: skip
            setattr(self, f"conv{at + 1}", conv)
            setattr(self, f"bn{at + 1}", nn.BatchNorm2d(channels[at + 1]))
        self.layers = len(kernels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Branch and residual, added."""
        identity = x
        out = x
        for at in range(1, self.layers + 1):
            out = getattr(self, f"conv{at}")(out)
            out = getattr(self, f"bn{at}")(out)
            if at < self.layers:
                out = self.relu(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """Four stages of blocks."""

    def __init__(
        self, repeats: tuple[int, ...], *, bottleneck: bool, groups: int = 1, width: int = 64, classes: int = 1000
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inside = 64
        for stage, count in enumerate(repeats):
            base = 64 * 2**stage
            middle = base * width // 64 * groups if bottleneck else base
            outside = base * 4 if bottleneck else base
            blocks = []
            for at in range(count):
                stride = 2 if stage and not at else 1
                downsample = None
                if stride != 1 or inside != outside:
                    downsample = nn.Sequential(
                        nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
                    )
                kernels, channels = (
                    ((1, 3, 1), (inside, middle, middle, outside)) if bottleneck else ((3, 3), (inside, base, base))
                )
                blocks.append(Block(kernels, channels, stride, groups, downsample))
                inside = outside
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inside, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.conv1(x)
        x = self.bn1(x)
        x = self.relu(x)
        x = self.maxpool(x)
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.fc(x)


REPEATS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet(depth: int, *, groups: int = 1, width: int = 64, classes: int = 1000) -> nn.Module:
    """A network of `depth` layers with parameters."""
    return ResNet(REPEATS[depth], bottleneck=depth >= 50, groups=groups, width=width, classes=classes)
