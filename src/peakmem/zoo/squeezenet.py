"""SqueezeNet 1.1 (Iandola et al., 2016, arXiv:1602.07360; release 1.1 of the authors' repository).

Scopes as in torchvision; one scope is one fire module.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import image

MODULES = {
    3: (16, 64),
    4: (16, 64),
    6: (32, 128),
    7: (32, 128),
    9: (48, 192),
    10: (48, 192),
    11: (64, 256),
    12: (64, 256),
}
# position in the sequence -> channels of the squeeze and of each expand layer
POOLS = (2, 5, 8)
# positions of the poolings


def _fire(b: GraphBuilder, x: str, squeeze: int, expand: int) -> str:
    x = b.relu(b.conv(x, squeeze, kernel=1, bias=True, name="squeeze"))
    narrow = b.relu(b.conv(x, expand, kernel=1, bias=True, name="expand1x1"))
    wide = b.relu(b.conv(x, expand, kernel=3, pad=1, bias=True, name="expand3x3"))
    return b.concat([narrow, wide])


def squeezenet1_1(batch: Dim, *, classes: int, resolution: int) -> Graph:
    """The network; its classifier is a convolution."""
    b = GraphBuilder("squeezenet1_1")
    x = image(b, batch, resolution)
    with b.scope("features.0"):
        x = b.relu(b.conv(x, 64, kernel=3, stride=2, bias=True))
    for position in range(2, 13):
        with b.scope(f"features.{position}"):
            pool = position in POOLS
            x = b.max_pool(x, kernel=3, stride=2, ceil=True) if pool else _fire(b, x, *MODULES[position])
    with b.scope("classifier"):
        x = b.relu(b.conv(x, classes, kernel=1, bias=True))
        x = b.global_average_pool(x)
    return b.finish(b.flatten(x))
