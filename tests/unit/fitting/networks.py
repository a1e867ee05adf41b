"""Small networks whose sizes are worked out by hand."""

from __future__ import annotations

from peakmem.dtypes import FLOAT32
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Graph, Operator, Tensor

WEIGHTS = 8 * 3 * 9 * 4 + 8 * 4 + 8 * 10 * 4 + 10 * 4
# kernel and bias of the convolution, matrix and bias of the classifier, in float32
MATRICES = 8 * 3 * 9 + 8 * 10
# elements of kernel and matrix
LIVE = (3 * 32 * 32 + 8 * 32 * 32) * 4
# input and output of the convolution, the activation fused


def small(batch: int | Symbol = 1) -> Graph:
    """A convolution, an activation, a pool over the whole image and a classifier."""
    b = GraphBuilder("small")
    x = b.relu(b.conv(b.input("image", (batch, 3, 32, 32)), 8, kernel=3, pad=1, bias=True))
    return b.finish(b.linear(b.flatten(b.global_average_pool(x)), 10))


def unknown() -> Graph:
    """An operator that nobody knows between an input and an output without a size."""
    tensors = {
        "x": Tensor("x", (1, 1000), FLOAT32, "input"),
        "y": Tensor("y"),
    }
    odd = Operator("odd", "Odd", ("x",), ("y",), domain="own")
    return Graph("unknown", tensors, (odd,), ("x",), ("y",))
