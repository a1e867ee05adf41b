"""ResNet-18 and ResNet-50 (He et al., 2015, arXiv:1512.03385, table 1).

ResNet-50 strides in the 3x3 convolution ("v1.5"), as torchvision does. One scope is one residual
block.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import classifier, conv_bn, image

CHANNELS = (64, 128, 256, 512)
# of the 3x3 convolutions, by stage


def _block(b: GraphBuilder, x: str, channels: int, stride: int, *, bottleneck: bool) -> str:
    out = 4 * channels if bottleneck else channels
    if bottleneck:
        y = conv_bn(b, x, channels, kernel=1, act=b.relu, name="conv1", bn="bn1")
        y = conv_bn(b, y, channels, kernel=3, stride=stride, act=b.relu, name="conv2", bn="bn2")
        y = conv_bn(b, y, out, kernel=1, name="conv3", bn="bn3")
    else:
        y = conv_bn(b, x, channels, kernel=3, stride=stride, act=b.relu, name="conv1", bn="bn1")
        y = conv_bn(b, y, out, kernel=3, name="conv2", bn="bn2")
    if stride != 1 or b.shape(x)[1] != out:
        x = conv_bn(b, x, out, kernel=1, stride=stride, name="downsample.0", bn="downsample.1")
    return b.relu(b.add(y, x))


def _network(
    name: str, blocks: tuple[int, ...], batch: Dim, classes: int, resolution: int, *, bottleneck: bool
) -> Graph:
    b = GraphBuilder(name)
    x = image(b, batch, resolution)
    x = conv_bn(b, x, 64, kernel=7, stride=2, act=b.relu, name="conv1", bn="bn1")
    x = b.max_pool(x, kernel=3, stride=2, pad=1)
    for stage, (count, channels) in enumerate(zip(blocks, CHANNELS, strict=True), start=1):
        for position in range(count):
            stride = 2 if stage > 1 and position == 0 else 1
            with b.scope(f"layer{stage}.{position}"):
                x = _block(b, x, channels, stride, bottleneck=bottleneck)
    return b.finish(classifier(b, x, classes))


def resnet18(batch: Dim, *, classes: int, resolution: int) -> Graph:
    """Eight blocks of two 3x3 convolutions."""
    return _network("resnet18", (2, 2, 2, 2), batch, classes, resolution, bottleneck=False)


def resnet50(batch: Dim, *, classes: int, resolution: int) -> Graph:
    """Sixteen bottleneck blocks."""
    return _network("resnet50", (3, 4, 6, 3), batch, classes, resolution, bottleneck=True)
