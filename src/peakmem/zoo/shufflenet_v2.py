"""ShuffleNet V2 (Ma et al., 2018, arXiv:1807.11164, table 5).

The shuffle is Reshape, Transpose, Reshape; the image size in the targets comes from Shape, so any
resolution can be bound afterwards. Scopes as in torchvision; one scope is one unit.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import classifier, conv_bn, image, size

CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
# of stages 2 to 4 and of the last convolution, by width; the paper gives no rule for other widths
UNITS = (4, 8, 4)
# in stages 2 to 4


def _shuffle(b: GraphBuilder, x: str) -> str:
    """Interleave the two halves of the channels."""
    channels = size(b, x, 1)
    sizes = b.one("Shape", x, start=2)
    split = b.concat([b.literal([0, 2, channels // 2]), sizes], axis=0)
    merged = b.concat([b.literal([0, channels]), sizes], axis=0)
    x = b.one("Reshape", x, split)
    return b.one("Reshape", b.transpose(x, (0, 2, 1, 3, 4)), merged)


def _branch(b: GraphBuilder, x: str, channels: int, stride: int) -> str:
    x = conv_bn(b, x, channels, kernel=1, act=b.relu, name="branch2.0")
    x = conv_bn(b, x, channels, kernel=3, stride=stride, group=channels, name="branch2.3")
    return conv_bn(b, x, channels, kernel=1, act=b.relu, name="branch2.5")


def _unit(b: GraphBuilder, x: str) -> str:
    channels = size(b, x, 1)
    kept, used = b.op("Split", [x], 2, axis=1)
    return _shuffle(b, b.concat([kept, _branch(b, used, channels // 2, 1)]))


def _down_unit(b: GraphBuilder, x: str, channels: int) -> str:
    inside = size(b, x, 1)
    left = conv_bn(b, x, inside, kernel=3, stride=2, group=inside, name="branch1.0")
    left = conv_bn(b, left, channels // 2, kernel=1, act=b.relu, name="branch1.2")
    return _shuffle(b, b.concat([left, _branch(b, x, channels // 2, 2)]))


def shufflenet_v2(batch: Dim, *, width: float, classes: int, resolution: int) -> Graph:
    """The network in one of the paper's four widths."""
    b = GraphBuilder("shufflenet_v2")
    *stages, last = CHANNELS[width]
    x = image(b, batch, resolution)
    with b.scope("conv1"):
        x = conv_bn(b, x, 24, kernel=3, stride=2, act=b.relu)
    x = b.max_pool(x, kernel=3, stride=2, pad=1)
    for stage, (channels, units) in enumerate(zip(stages, UNITS, strict=True), start=2):
        for unit in range(units):
            with b.scope(f"stage{stage}.{unit}"):
                x = _unit(b, x) if unit else _down_unit(b, x, channels)
    with b.scope("conv5"):
        x = conv_bn(b, x, last, kernel=1, act=b.relu)
    return b.finish(classifier(b, x, classes))
