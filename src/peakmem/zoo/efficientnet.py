"""EfficientNet-B0 (Tan and Le, 2019, arXiv:1905.11946, table 1).

Scopes as in torchvision; one scope is one inverted residual, its squeeze-and-excitation nested in
"se". SiLU is x · sigmoid(x), two operators.
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import classifier, conv_bn, image, size, squeeze_excite

STAGES = (
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1),
)  # fmt: skip
# expansion, kernel, stride of the first block, channels out, blocks


def _block(b: GraphBuilder, x: str, expansion: int, kernel: int, stride: int, channels: int) -> str:
    inside = size(b, x, 1)
    y, hidden = x, inside * expansion
    if expansion != 1:
        y = conv_bn(b, y, hidden, kernel=1, act=b.silu, name="expand")
    y = conv_bn(b, y, hidden, kernel=kernel, stride=stride, group=hidden, act=b.silu, name="depthwise")
    y = squeeze_excite(b, y, max(1, inside // 4), act=b.silu, gate=b.sigmoid)
    y = conv_bn(b, y, channels, kernel=1, name="project")
    return b.add(y, x) if stride == 1 and inside == channels else y


def efficientnet_b0(batch: Dim, *, classes: int, resolution: int) -> Graph:
    """The base network of the family."""
    b = GraphBuilder("efficientnet_b0")
    x = image(b, batch, resolution)
    with b.scope("features.0"):
        x = conv_bn(b, x, 32, kernel=3, stride=2, act=b.silu)
    for stage, (expansion, kernel, first, channels, blocks) in enumerate(STAGES, start=1):
        for block in range(blocks):
            with b.scope(f"features.{stage}.{block}"):
                x = _block(b, x, expansion, kernel, first if block == 0 else 1, channels)
    with b.scope(f"features.{len(STAGES) + 1}"):
        x = conv_bn(b, x, 1280, kernel=1, act=b.silu)
    return b.finish(classifier(b, x, classes, name="classifier"))
