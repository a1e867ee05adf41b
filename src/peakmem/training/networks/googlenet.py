"""GoogLeNet with batch norm (torchvision 0.28, `models/googlenet.py`).

In training two auxiliary classifiers read the features of 4a and 4d: dropout 0.7, ReLU in place; the main classifier
has dropout 0.2. `aux=False` leaves them out; they hold 6,379,984 of 13,004,888 parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128), "5b": (832, 384, 192, 384, 48, 128, 128),
}  # fmt: skip
# channels in, 1x1, before 3x3, 3x3, before 5x5 (a 3x3 in torchvision), 5x5, after the pooling


class Conv(nn.Module):
    """Convolution, norm, ReLU in place."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outside, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """The activated features."""
        x = self.conv(x)
        x = self.bn(x)
        return functional.relu(x, inplace=True)


class Inception(nn.Module):
    """Four branches, concatenated."""

    def __init__(self, inside: int, one: int, three_in: int, three: int, five_in: int, five: int, pooled: int) -> None:
        super().__init__()
        self.branch1 = Conv(inside, one, 1)
        self.branch2 = nn.Sequential(Conv(inside, three_in, 1), Conv(three_in, three, 3))
        self.branch3 = nn.Sequential(Conv(inside, five_in, 1), Conv(five_in, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), Conv(inside, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        """All branches, in one tensor."""
        branches = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)]
        return torch.cat(branches, 1)


class Auxiliary(nn.Module):
    """A classifier halfway."""

    def __init__(self, inside: int, classes: int) -> None:
        super().__init__()
        self.conv = Conv(inside, 128, 1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, classes)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        x = functional.adaptive_avg_pool2d(x, (4, 4))
        x = self.conv(x)
        x = torch.flatten(x, 1)
        x = functional.relu(self.fc1(x), inplace=True)
        x = self.dropout(x)
        return self.fc2(x)


class GoogLeNet(nn.Module):
    """Nine inceptions in three groups."""

    repeated = Inception

    def __init__(self, *, classes: int = 1000, aux: bool = True) -> None:
        super().__init__()
        self.conv1 = Conv(3, 64, 7, 2)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = Conv(64, 64, 1)
        self.conv3 = Conv(64, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name, shape in INCEPTIONS.items():
            setattr(self, f"inception{name}", Inception(*shape))
            if name == "3b":
                self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
            if name == "4e":
                self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.aux1 = Auxiliary(512, classes) if aux else None
        self.aux2 = Auxiliary(528, classes) if aux else None
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """The scores of the classes; in training those of the auxiliary classifiers after them."""
        x = self.conv1(x)
        x = self.maxpool1(x)
        x = self.conv2(x)
        x = self.conv3(x)
        x = self.maxpool2(x)
        aux: list[Tensor] = []
        for name in INCEPTIONS:
            x = getattr(self, f"inception{name}")(x)
            if name == "3b":
                x = self.maxpool3(x)
            if name == "4a" and self.aux1 is not None and self.training:
                aux.append(self.aux1(x))
            if name == "4d" and self.aux2 is not None and self.training:
                aux.append(self.aux2(x))
            if name == "4e":
                x = self.maxpool4(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        x = self.dropout(x)
        x = self.fc(x)
        return (x, aux[1], aux[0]) if aux else x


def googlenet(*, classes: int = 1000, aux: bool = True) -> nn.Module:
    """The network as it is trained."""
    return GoogLeNet(classes=classes, aux=aux)
