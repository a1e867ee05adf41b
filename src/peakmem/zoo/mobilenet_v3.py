"""MobileNet V3, small and large (Howard et al., 2019, arXiv:1905.02244, tables 1 and 2).

Scopes and rounding of channels as in torchvision; one scope is one inverted residual, its
squeeze-and-excitation nested in "se".
"""

from __future__ import annotations

from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import conv_bn, divisible, image, size, squeeze_excite

# kernel, hidden channels, channels out, squeeze-and-excitation, hard swish (else ReLU), stride
LARGE = (
    (3, 16, 16, False, False, 1), (3, 64, 24, False, False, 2), (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2), (5, 120, 40, True, False, 1), (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2), (3, 200, 80, False, True, 1), (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1), (3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2), (5, 960, 160, True, True, 1), (5, 960, 160, True, True, 1),
)  # fmt: skip
SMALL = (
    (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1), (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
)  # fmt: skip


def _block(
    b: GraphBuilder, x: str, kernel: int, hidden: int, channels: int, excite: bool, swish: bool, stride: int
) -> str:
    inside = b.shape(x)[1]
    act = b.hard_swish if swish else b.relu
    y = x if hidden == inside else conv_bn(b, x, hidden, kernel=1, act=act, name="expand")
    y = conv_bn(b, y, hidden, kernel=kernel, stride=stride, group=hidden, act=act, name="depthwise")
    if excite:
        y = squeeze_excite(b, y, divisible(hidden // 4), act=b.relu, gate=b.hard_sigmoid)
    y = conv_bn(b, y, channels, kernel=1, name="project")
    return b.add(y, x) if stride == 1 and inside == channels else y


def _network(
    name: str,
    blocks: tuple[tuple[int, int, int, bool, bool, int], ...],
    last: int,
    batch: Dim,
    width: float,
    classes: int,
    resolution: int,
) -> Graph:
    b = GraphBuilder(name)
    x = image(b, batch, resolution)
    with b.scope("features.0"):
        x = conv_bn(b, x, divisible(16 * width), kernel=3, stride=2, act=b.hard_swish)
    for position, (kernel, hidden, channels, excite, swish, stride) in enumerate(blocks, start=1):
        with b.scope(f"features.{position}"):
            wide = divisible(hidden * width), divisible(channels * width)
            x = _block(b, x, kernel, *wide, excite, swish, stride)
    inside = size(b, x, 1)
    with b.scope(f"features.{len(blocks) + 1}"):
        x = conv_bn(b, x, 6 * inside, kernel=1, act=b.hard_swish)
    x = b.flatten(b.global_average_pool(x))
    x = b.hard_swish(b.linear(x, divisible(last * width), name="classifier.0"))
    return b.finish(b.linear(x, classes, name="classifier.3"))


def mobilenet_v3_small(batch: Dim, *, width: float, classes: int, resolution: int) -> Graph:
    """The small network; `width` multiplies the channels of every layer."""
    return _network("mobilenet_v3_small", SMALL, 1024, batch, width, classes, resolution)


def mobilenet_v3_large(batch: Dim, *, width: float, classes: int, resolution: int) -> Graph:
    """The large network; `width` multiplies the channels of every layer."""
    return _network("mobilenet_v3_large", LARGE, 1280, batch, width, classes, resolution)
