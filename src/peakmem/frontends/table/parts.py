"""One layer of a table as data, and what it becomes in a graph.

A Part is a layer with all that is needed to build it; `emit` writes it into a GraphBuilder. Images
are channels first, without the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from peakmem.dtypes import FLOAT32, INT32, DType
from peakmem.errors import GraphError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.ir.shapes import Unresolved

Image = tuple[int, ...]
# (channels, height, width) or (features,)

WINDOWED = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool"})
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm"})


@dataclass(frozen=True, slots=True)
class Part:
    """One layer: its ONNX op type, what goes in, and its window."""

    op: str
    image: Image
    window: tuple[int, int] = (1, 1)
    channels: int = 0
    # out; 0 where the op keeps them
    group: int = 1
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: str | tuple[int, int] = "same"
    # "same", "valid", or (vertical, horizontal) on both sides
    bias: bool = False
    others: tuple[Image, ...] = ()
    # images that Add and Concat read beside the first
    residual: bool = False
    # an Add whose other input is what its row began with


def _padding(part: Part) -> dict[str, object]:
    if part.padding == "same":
        return {"auto_pad": "SAME_UPPER"}
    if isinstance(part.padding, tuple):
        return {"pads": (*part.padding, *part.padding)}
    return {"pads": (0, 0, 0, 0)}


def emit(b: GraphBuilder, part: Part, x: str, others: Sequence[str], name: str) -> str:
    """Write `part` into the builder as an operator called `name`; the name of what it makes."""
    if part.op in ("Conv", "ConvTranspose"):
        inside = part.image[0]
        pair = (part.channels, inside // part.group)
        shape = pair if part.op == "Conv" else (inside, part.channels // part.group)
        return b.one(
            part.op, x, *_stored(b, part, name, (*shape, *part.window)), name=name, kernel_shape=part.window,
            strides=part.strides, dilations=part.dilations, group=part.group, **_padding(part),
        )  # fmt: skip
    if part.op in ("MaxPool", "AveragePool"):
        return b.one(
            part.op, x, name=name, kernel_shape=part.window, strides=part.strides, **_padding(part)
        )  # fmt: skip
    if part.op == "Gemm":
        return b.one("Gemm", x, *_stored(b, part, name, (part.channels, part.image[0])), name=name, transB=1)
    if part.op == "BatchNormalization":
        return b.batch_norm(x, name=name)
    if part.op == "Flatten":
        return b.one("Flatten", x, name=name, axis=1)
    if part.op == "Resize":
        scales = b.literal([1.0, 1.0, *map(float, part.strides)], FLOAT32)
        return b.one("Resize", x, "", scales, name=name, mode="nearest")
    if part.op == "Concat":
        return b.one("Concat", x, *others, name=name, axis=1)
    if part.op == "LRN":
        return b.one("LRN", x, name=name, size=5)
    return b.one(part.op, x, *others, name=name)


def _stored(b: GraphBuilder, part: Part, name: str, shape: Sequence[Dim]) -> list[str]:
    with b.scope(name):
        stored = [b.parameter("weight", tuple(shape))]
        if part.bias:
            wide = b.dtype.kind in ("int", "uint")
            stored.append(b.parameter("bias", (part.channels,), INT32 if wide else None))
    return stored


@lru_cache(maxsize=20_000)
def trial(parts: tuple[Part, ...], dtype: DType = FLOAT32) -> Graph:
    """The graph of one row alone, at batch 1.

    Raises:
        GraphError: the row contradicts itself.
    """
    for part in parts:
        least = min(*part.window, *part.strides, *part.dilations, part.group)
        if least < 1 or (part.op in WEIGHTED and part.channels < 1):
            raise GraphError("a window, stride, dilation or number of channels is 0", where=part.op)
    b = GraphBuilder("row", dtype=dtype)
    try:
        return b.finish(_chain(b, parts))
    except Unresolved as fault:
        raise GraphError(str(fault), where=parts[0].op) from fault


def _chain(b: GraphBuilder, parts: tuple[Part, ...]) -> str:
    x = entry = b.input("input", (1, *parts[0].image))
    for position, part in enumerate(parts):
        others = [entry] if part.residual else []
        if not part.residual:
            others = [b.input(f"other_{position}_{at}", (1, *image)) for at, image in enumerate(part.others)]
        x = emit(b, part, x, others, f"part_{position}")
    return x


def made(parts: tuple[Part, ...]) -> Image:
    """What a row gives.

    Raises:
        GraphError: the row contradicts itself.
    """
    graph = trial(parts)
    shape = graph.tensors[graph.outputs[0]].shape or ()
    return tuple(dim for dim in shape[1:] if isinstance(dim, int))


def size(image: Image) -> int:
    """Elements of an image."""
    total = 1
    for dim in image:
        total *= dim
    return total


def written(image: Image, layout: str) -> str:
    """An image as the table writes it: 224x224x3, or 3x224x224 where `layout` is chw."""
    ordered = (*image[1:], image[0]) if layout == "hwc" and len(image) == 3 else image
    return "x".join(map(str, ordered))
