"""MobileNet V3 (torchvision 0.28, `models/mobilenetv3.py`): Hardswish, residual and dropout of 0.2 are in place."""

from __future__ import annotations

from torch import Tensor, nn

from peakmem.training.networks.parts import Classifier, ConvNorm, SqueezeExcite, divisible, plain_norm
from peakmem.zoo.mobilenet_v3 import LARGE, SMALL

NORM = plain_norm(eps=0.001, momentum=0.01)


class Block(nn.Module):
    """An inverted residual with squeeze-and-excitation where the table says so."""

    def __init__(self, inside: int, middle: int, outside: int, kernel: int, stride: int, squeezed: bool,
                 act: type[nn.Module]) -> None:  # fmt: skip
        super().__init__()
        self.residual = stride == 1 and inside == outside
        layers: list[nn.Module] = []
        if middle != inside:
            layers.append(ConvNorm(inside, middle, 1, norm=NORM, act=act))
        layers.append(ConvNorm(middle, middle, kernel, stride, groups=middle, norm=NORM, act=act))
        if squeezed:
            layers.append(SqueezeExcite(middle, divisible(middle // 4), nn.ReLU, nn.Hardsigmoid))
        layers.append(ConvNorm(middle, outside, 1, norm=NORM, act=None))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """The branch, with the residual added in place."""
        result = self.block(x)
        if self.residual:
            result += x
        return result


def mobilenet_v3(size: str, *, width: float = 1.0, classes: int = 1000) -> nn.Module:
    """One of the sizes "large" and "small"."""
    rows, last = (LARGE, 1280) if size == "large" else (SMALL, 1024)
    inside = divisible(16 * width)
    layers: list[nn.Module] = [ConvNorm(3, inside, 3, 2, norm=NORM, act=nn.Hardswish)]
    for kernel, middle, outside, squeezed, hard, stride in rows:
        act = nn.Hardswish if hard else nn.ReLU
        wide = divisible(outside * width)
        layers.append(Block(inside, divisible(middle * width), wide, kernel, stride, squeezed, act))
        inside = wide
    layers.append(ConvNorm(inside, 6 * inside, 1, norm=NORM, act=nn.Hardswish))
    hidden = divisible(last * width)
    return Classifier(
        features=nn.Sequential(*layers),
        avgpool=nn.AdaptiveAvgPool2d(1),
        classifier=nn.Sequential(
            nn.Linear(6 * inside, hidden), nn.Hardswish(inplace=True), nn.Dropout(0.2, inplace=True),
            nn.Linear(hidden, classes),
        ),
    )  # fmt: skip
