"""ShuffleNet V2 (torchvision 0.28, `models/shufflenetv2.py`): halves of the channels in turn, ReLU in place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS = {0.5: (48, 96, 192, 1024), 1.0: (116, 232, 464, 1024),
            1.5: (176, 352, 704, 1024), 2.0: (244, 488, 976, 2048)}  # fmt: skip
# of stages 2 to 4 and of the last convolution, by width
UNITS = (4, 8, 4)


def _shuffle(x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    x = x.view(batch, 2, channels // 2, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    return x.view(batch, channels, height, width)


def _conv(inside: int, outside: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 1, bias=False)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, bias=False, groups=channels)


class Unit(nn.Module):
    """One half of the channels through three convolutions; with a stride both branches read all of them."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half = outside // 2
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(
                _depthwise(inside, stride), nn.BatchNorm2d(inside),
                _conv(inside, half), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            )  # fmt: skip
        self.branch2 = nn.Sequential(
            _conv(inside if stride > 1 else half, half), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            _depthwise(half, stride), nn.BatchNorm2d(half),
            _conv(half, half), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Both halves, shuffled."""
        if self.stride == 1:
            kept, used = x.chunk(2, dim=1)
            out = torch.cat((kept, self.branch2(used)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return _shuffle(out)


class ShuffleNet(nn.Module):
    """Three stages of units."""

    def __init__(self, channels: tuple[int, ...], classes: int) -> None:
        super().__init__()
        inside = 24
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, inside, 3, 2, 1, bias=False), nn.BatchNorm2d(inside), nn.ReLU(inplace=True)
        )
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        *stages, last = channels
        for stage, (outside, units) in enumerate(zip(stages, UNITS, strict=True), start=2):
            made = [Unit(inside, outside, 2), *(Unit(outside, outside, 1) for _ in range(units - 1))]
            setattr(self, f"stage{stage}", nn.Sequential(*made))
            inside = outside
        self.conv5 = nn.Sequential(_conv(inside, last), nn.BatchNorm2d(last), nn.ReLU(inplace=True))
        self.fc = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the classes."""
        x = self.conv1(x)
        x = self.maxpool(x)
        x = self.stage2(x)
        x = self.stage3(x)
        x = self.stage4(x)
        x = self.conv5(x)
        x = x.mean([2, 3])
        return self.fc(x)


def shufflenet_v2(*, width: float = 1.0, classes: int = 1000) -> nn.Module:
    """The network in one of the paper's four widths."""
    return ShuffleNet(CHANNELS[width], classes)
