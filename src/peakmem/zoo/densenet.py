"""DenseNet-161 (Huang et al., 2016, arXiv:1608.06993, table 1; growth 48).

As torchvision runs it without recomputation: every dense layer reads a fresh concatenation of all
that came before it in its block. One scope is one dense layer.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import classifier, conv_bn, image, size

LAYERS = (6, 12, 36, 24)
# dense layers of each block
GROWTH = 48
# channels a dense layer adds


def _layer(b: GraphBuilder, parts: list[str]) -> str:
    x = b.concat(parts)
    x = b.relu(b.batch_norm(x, name="norm1"))
    x = conv_bn(b, x, 4 * GROWTH, kernel=1, act=b.relu, name="conv1", bn="norm2")
    return b.conv(x, GROWTH, kernel=3, pad=1, name="conv2")


def _transition(b: GraphBuilder, x: str) -> str:
    channels = size(b, x, 1)
    x = b.conv(b.relu(b.batch_norm(x, name="norm")), channels // 2, kernel=1)
    return b.average_pool(x, kernel=2, stride=2)


def densenet161(batch: Dim, *, classes: int, resolution: int) -> Graph:
    """The network, with transitions that halve the channels."""
    b = GraphBuilder("densenet161")
    x = image(b, batch, resolution)
    x = conv_bn(b, x, 2 * GROWTH, kernel=7, stride=2, act=b.relu, name="conv0", bn="norm0")
    x = b.max_pool(x, kernel=3, stride=2, pad=1)
    for block, layers in enumerate(LAYERS, start=1):
        parts = [x]
        for layer in range(1, layers + 1):
            with b.scope(f"denseblock{block}.denselayer{layer}"):
                parts.append(_layer(b, parts))
        with b.scope(f"denseblock{block}"):
            x = b.concat(parts)
        if block < len(LAYERS):
            with b.scope(f"transition{block}"):
                x = _transition(b, x)
    x = b.relu(b.batch_norm(x, name="norm5"))
    return b.finish(classifier(b, x, classes, name="classifier"))
