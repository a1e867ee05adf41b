"""EfficientNet and EfficientNetV2 (torchvision 0.28, `models/efficientnet.py`).

SiLU in place (also inside squeeze-and-excitation), stochastic depth by rows that grows linearly to 0.2 over the
blocks, the residual added in place to what stochastic depth left, dropout in place before the classifier.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from peakmem.training.networks.parts import (
    Classifier,
    ConvNorm,
    Layer,
    SqueezeExcite,
    StochasticDepth,
    divisible,
    plain_norm,
)  # fmt: skip

# fused, factor, kernel, stride, channels in, channels out, repeats
Row = tuple[bool, int, int, int, int, int, int]
B: tuple[Row, ...] = (
    (False, 1, 3, 1, 32, 16, 1), (False, 6, 3, 2, 16, 24, 2), (False, 6, 5, 2, 24, 40, 2), (False, 6, 3, 2, 40, 80, 3),
    (False, 6, 5, 1, 80, 112, 3), (False, 6, 5, 2, 112, 192, 4), (False, 6, 3, 1, 192, 320, 1),
)  # fmt: skip
V2: dict[str, tuple[Row, ...]] = {
    "s": ((True, 1, 3, 1, 24, 24, 2), (True, 4, 3, 2, 24, 48, 4), (True, 4, 3, 2, 48, 64, 4),
          (False, 4, 3, 2, 64, 128, 6), (False, 6, 3, 1, 128, 160, 9), (False, 6, 3, 2, 160, 256, 15)),
    "m": ((True, 1, 3, 1, 24, 24, 3), (True, 4, 3, 2, 24, 48, 5), (True, 4, 3, 2, 48, 80, 5),
          (False, 4, 3, 2, 80, 160, 7), (False, 6, 3, 1, 160, 176, 14), (False, 6, 3, 2, 176, 304, 18),
          (False, 6, 3, 1, 304, 512, 5)),
    "l": ((True, 1, 3, 1, 32, 32, 4), (True, 4, 3, 2, 32, 64, 7), (True, 4, 3, 2, 64, 96, 7),
          (False, 4, 3, 2, 96, 192, 10), (False, 6, 3, 1, 192, 224, 19), (False, 6, 3, 2, 224, 384, 25),
          (False, 6, 3, 1, 384, 640, 7)),
}  # fmt: skip
SCALES = {0: (1.0, 1.0, 0.2, 224), 1: (1.0, 1.1, 0.2, 240), 2: (1.1, 1.2, 0.3, 288), 3: (1.2, 1.4, 0.3, 300),
          4: (1.4, 1.8, 0.4, 380), 5: (1.6, 2.2, 0.4, 456), 6: (1.8, 2.6, 0.5, 528),
          7: (2.0, 3.1, 0.5, 600)}  # fmt: skip
# width, depth, dropout and image of b0 to b7
DROPOUT = {"s": 0.2, "m": 0.3, "l": 0.4}
DEPTH_RATE = 0.2


class Block(nn.Module):
    """A convolution made wider by a factor, squeezed and made narrow again; fused: wider by the 3x3 itself."""

    def __init__(self, row: Row, rate: float, norm: Layer) -> None:
        super().__init__()
        fused, factor, kernel, stride, inside, outside, _ = row
        self.residual = stride == 1 and inside == outside
        middle = divisible(inside * factor)
        layers: list[nn.Module] = []
        if fused:
            wide = middle != inside
            layers.append(ConvNorm(inside, middle if wide else outside, kernel, stride, norm=norm, act=nn.SiLU))
            if wide:
                layers.append(ConvNorm(middle, outside, 1, norm=norm, act=None))
        else:
            if middle != inside:
                layers.append(ConvNorm(inside, middle, 1, norm=norm, act=nn.SiLU))
            layers.append(ConvNorm(middle, middle, kernel, stride, groups=middle, norm=norm, act=nn.SiLU))
            act = partial(nn.SiLU, inplace=True)
            layers.append(SqueezeExcite(middle, max(1, inside // 4), act, nn.Sigmoid))
            layers.append(ConvNorm(middle, outside, 1, norm=norm, act=None))
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(rate)

    def forward(self, x: Tensor) -> Tensor:
        """The branch, thinned out, with the residual added in place."""
        result = self.block(x)
        if self.residual:
            result = self.stochastic_depth(result)
            result += x
        return result


def _scaled(width: float, depth: float) -> Iterator[Row]:
    for fused, factor, kernel, stride, inside, outside, repeats in B:
        wide_in, wide_out = divisible(inside * width), divisible(outside * width)
        yield fused, factor, kernel, stride, wide_in, wide_out, math.ceil(repeats * depth)


def _network(rows: tuple[Row, ...], last: int, dropout: float, norm: Layer, classes: int) -> nn.Module:
    layers: list[nn.Module] = [ConvNorm(3, rows[0][4], 3, 2, norm=norm, act=nn.SiLU)]
    total, done = sum(row[-1] for row in rows), 0
    for row in rows:
        stage = []
        for at in range(row[-1]):
            here = (*row[:3], 1, row[5], row[5], 1) if at else row
            stage.append(Block(here, DEPTH_RATE * float(done) / total, norm))
            done += 1
        layers.append(nn.Sequential(*stage))
    layers.append(ConvNorm(rows[-1][5], last, 1, norm=norm, act=nn.SiLU))
    return Classifier(
        features=nn.Sequential(*layers),
        avgpool=nn.AdaptiveAvgPool2d(1),
        classifier=nn.Sequential(nn.Dropout(dropout, inplace=True), nn.Linear(last, classes)),
    )


def efficientnet(number: int, *, classes: int = 1000) -> nn.Module:
    """B0 to B7; B5 to B7 have a batch norm of their own settings."""
    width, depth, dropout, _ = SCALES[number]
    rows = tuple(_scaled(width, depth))
    norm: Layer = plain_norm(eps=0.001, momentum=0.01) if number >= 5 else nn.BatchNorm2d
    return _network(rows, 4 * rows[-1][5], dropout, norm, classes)


def efficientnet_v2(size: str, *, classes: int = 1000) -> nn.Module:
    """One of the sizes "s", "m" and "l"."""
    return _network(V2[size], 1280, DROPOUT[size], plain_norm(eps=0.001), classes)
