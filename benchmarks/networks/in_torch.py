"""The networks as PyTorch modules; activation functions out of place."""

from __future__ import annotations

import torch
from torch import nn

from networks import FIRES, INVERTED, PAIRS, STAGES


def _conv(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outside)]


class Added(nn.Module):
    """What the branches give, added; then an activation function, if any."""

    def __init__(self, main: nn.Module, side: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.main, self.side, self.after = main, side, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.main(x) + self.side(x))


class Fire(nn.Module):
    def __init__(self, inside: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inside, squeeze, 1)
        self.narrow = nn.Conv2d(squeeze, expand, 1)
        self.wide = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.narrow(x)), torch.relu(self.wide(x))], 1)


def _head(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)]


def mobilenet_v1() -> nn.Module:
    layers = [*_conv(3, 32, 3, 2), nn.ReLU()]
    inside = 32
    for outside, stride in PAIRS:
        layers += [*_conv(inside, inside, 3, stride, inside), nn.ReLU(), *_conv(inside, outside, 1), nn.ReLU()]
        inside = outside
    return nn.Sequential(*layers, *_head(inside))


def mobilenet_v2() -> nn.Module:
    layers = [*_conv(3, 32, 3, 2), nn.ReLU6()]
    inside = 32
    for expansion, outside, repeats, first in INVERTED:
        for turn in range(repeats):
            stride, wide = (first if turn == 0 else 1), inside * expansion
            block = [*_conv(inside, wide, 1), nn.ReLU6()] if expansion > 1 else []
            block += [*_conv(wide, wide, 3, stride, wide), nn.ReLU6(), *_conv(wide, outside, 1)]
            main = nn.Sequential(*block)
            shortcut = stride == 1 and inside == outside
            layers.append(Added(main, nn.Identity(), nn.Identity()) if shortcut else main)
            inside = outside
    return nn.Sequential(*layers, *_conv(inside, 1280, 1), nn.ReLU6(), *_head(1280))


def resnet50() -> nn.Module:
    layers = [*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for stage, (blocks, channels) in enumerate(STAGES):
        for turn in range(blocks):
            stride = 2 if stage and not turn else 1
            main = nn.Sequential(
                *_conv(inside, channels, 1), nn.ReLU(), *_conv(channels, channels, 3, stride), nn.ReLU(),
                *_conv(channels, 4 * channels, 1),
            )  # fmt: skip
            side = nn.Sequential(*_conv(inside, 4 * channels, 1, stride)) if not turn else nn.Identity()
            layers.append(Added(main, side, nn.ReLU()))
            inside = 4 * channels
    return nn.Sequential(*layers, *_head(inside))


def squeezenet1_1() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    inside = 64
    for fire in FIRES:
        if fire is None:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        else:
            layers.append(Fire(inside, *fire))
            inside = 2 * fire[1]
    return nn.Sequential(*layers, nn.Conv2d(inside, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def build(name: str) -> nn.Module:
    """The network called `name`, ready for inference, no two of its parameters equal (exporters merge those)."""
    make = {"mobilenet_v1": mobilenet_v1, "mobilenet_v2": mobilenet_v2, "resnet50": resnet50,
            "squeezenet1_1": squeezenet1_1}[name]  # fmt: skip
    module = make().eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_()
    return module
