"""U-Net (Ronneberger, Fischer and Brox, 2015, arXiv:1505.04597, figure 1), and its padded descendant.

`unet` is the paper's: valid convolutions with bias, skips cropped to fit, 572 in and 388 out.
`unet_256` is the form most code uses (milesial/Pytorch-UNet): padded convolutions without bias,
batch normalization, as large out as in. Scopes as in that code.
"""

from __future__ import annotations

from collections.abc import Callable

from peakmem.errors import UsageError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import conv_bn, image

DEPTH = 4
# poolings on the way down
MARGIN = 4
# rows that the deepest skip has too many on each side, in the paper's form

Double = Callable[[str, int], str]


def _network(b: GraphBuilder, x: str, features: int, classes: int, double: Double, margin: int | None) -> Graph:
    """The U; with `margin`, skips are cropped by it, growing towards the image."""
    with b.scope("inc"):
        skips = [double(x, features)]
    for level in range(1, DEPTH + 1):
        with b.scope(f"down{level}"):
            x = b.max_pool(skips[-1], kernel=2, stride=2)
            skips.append(double(x, features * 2**level))
    x = skips.pop()
    for level in range(1, DEPTH + 1):
        channels = features * 2 ** (DEPTH - level)
        with b.scope(f"up{level}"):
            x = b.conv_transpose(x, channels, kernel=2, stride=2)
            skip = skips.pop()
            if margin is not None:
                skip = _crop(b, skip, margin)
                margin = 2 * margin + 8
            x = double(b.concat([skip, x]), channels)
    return b.finish(b.conv(x, classes, kernel=1, bias=True, name="outc"))


def _crop(b: GraphBuilder, x: str, margin: int) -> str:
    """`x` without `margin` rows and columns on each side."""
    return b.one("Slice", x, b.literal([margin] * 2), b.literal([-margin] * 2), b.literal([2, 3]), name="crop")


def unet(batch: Dim, *, channels: int, classes: int, features: int, resolution: int) -> Graph:
    """The paper's network; only sizes of 16n + 12 leave an even map at every pooling."""
    if resolution % 16 != 12 or resolution < 188:
        near = max(188, (resolution - 4) // 16 * 16 + 12)
        raise UsageError(
            f"unet cannot read images of {resolution}x{resolution}",
            expected="a resolution of 16n + 12, 188 or more",
            hint=f"resolution={near}",
        )
    b = GraphBuilder("unet")

    def double(x: str, wide: int) -> str:
        x = b.relu(b.conv(x, wide, kernel=3, bias=True, name="conv1"))
        return b.relu(b.conv(x, wide, kernel=3, bias=True, name="conv2"))

    return _network(b, image(b, batch, resolution, channels), features, classes, double, MARGIN)


def unet_256(batch: Dim, *, channels: int, classes: int, features: int, resolution: int) -> Graph:
    """The padded network; sizes are multiples of 16."""
    if resolution % 16:
        raise UsageError(
            f"unet_256 cannot read images of {resolution}x{resolution}",
            expected="a multiple of 16",
            hint=f"resolution={max(16, resolution // 16 * 16)}",
        )
    b = GraphBuilder("unet_256")

    def double(x: str, wide: int) -> str:
        x = conv_bn(b, x, wide, kernel=3, act=b.relu, name="conv1", bn="bn1")
        return conv_bn(b, x, wide, kernel=3, act=b.relu, name="conv2", bn="bn2")

    return _network(b, image(b, batch, resolution, channels), features, classes, double, None)
