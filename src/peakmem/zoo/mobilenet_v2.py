"""MobileNet V2: inverted residuals with linear bottlenecks (Sandler et al., 2018, arXiv:1801.04381, table 2).

Scopes and rounding of channels as in torchvision; one scope is one inverted residual.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import classifier, conv_bn, divisible, image, size

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# expansion, channels out, blocks, stride of the first block


def _block(b: GraphBuilder, x: str, channels: int, stride: int, expansion: int) -> str:
    inside = size(b, x, 1)
    y, hidden = x, inside * expansion
    if expansion != 1:
        y = conv_bn(b, y, hidden, kernel=1, act=b.relu6, name="expand")
    y = conv_bn(b, y, hidden, kernel=3, stride=stride, group=hidden, act=b.relu6, name="depthwise")
    y = conv_bn(b, y, channels, kernel=1, name="project")
    return b.add(x, y) if stride == 1 and inside == channels else y


def mobilenet_v2(batch: Dim, *, width: float, classes: int, resolution: int) -> Graph:
    """The network; `width` multiplies the channels, those of the last layer only when above 1."""
    b = GraphBuilder("mobilenet_v2")
    x = image(b, batch, resolution)
    with b.scope("features.0"):
        x = conv_bn(b, x, divisible(32 * width), kernel=3, stride=2, act=b.relu6)
    position = 1
    for expansion, channels, blocks, first in STAGES:
        for block in range(blocks):
            with b.scope(f"features.{position}"):
                x = _block(b, x, divisible(channels * width), first if block == 0 else 1, expansion)
            position += 1
    with b.scope(f"features.{position}"):
        x = conv_bn(b, x, divisible(1280 * max(1.0, width)), kernel=1, act=b.relu6)
    return b.finish(classifier(b, x, classes, name="classifier"))
