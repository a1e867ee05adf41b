"""MobileNet V1: depthwise separable convolutions (Howard et al., 2017, arXiv:1704.04861, table 1).

Scopes are the names of the authors' TensorFlow code; one scope is one separable pair.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import classifier, conv_bn, image, size

PAIRS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    *[(512, 1)] * 5,
    (1024, 2), (1024, 1),
)  # fmt: skip
# channels out and stride of each pair


def mobilenet_v1(batch: Dim, *, width: float, classes: int, resolution: int) -> Graph:
    """The network; `width` multiplies the channels of every layer, at least 8 remain."""
    b = GraphBuilder("mobilenet_v1")

    def wide(channels: int) -> int:
        return max(8, int(channels * width))

    x = image(b, batch, resolution)
    with b.scope("Conv2d_0"):
        x = conv_bn(b, x, wide(32), kernel=3, stride=2, act=b.relu)
    for position, (channels, stride) in enumerate(PAIRS, start=1):
        with b.scope(f"Conv2d_{position}"):
            inside = size(b, x, 1)
            x = conv_bn(b, x, inside, kernel=3, stride=stride, group=inside, act=b.relu, name="depthwise")
            x = conv_bn(b, x, wide(channels), kernel=1, act=b.relu, name="pointwise")
    return b.finish(classifier(b, x, classes))
