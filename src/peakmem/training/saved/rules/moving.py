"""Views, slices and what puts parts together."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from peakmem.training.saved import movement, windows
from peakmem.training.saved.eager import Dims, Value
from peakmem.training.saved.rules.call import Call, rule, same


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze", "ncnn:Flatten", "ncnn:Reshape", "ncnn:Squeeze", "ncnn:ExpandDims",
      "mnn:Reshape", "mnn:Flatten", "peakmem:Tokens")  # fmt: skip
def _reshape(call: Call) -> Sequence[Value | None]:
    x = call.x()
    if call.kind == "peakmem:Tokens":
        batch, channels = x.shape[:2]
        return [movement.permute(call.e, movement.reshape(call.e, x, (batch, channels, prod(x.shape[2:]))), (0, 2, 1))]
    return [movement.reshape(call.e, x, call.shape()) if x.shape != call.shape() else same(x)]


@rule("Identity", "aten:contiguous", "ncnn:Noop", "aten:detach", "aten:alias", "ncnn:Split")
def _same(call: Call) -> Sequence[Value | None]:
    return [same(call.x()) for _ in call.operator.outputs]


@rule("Transpose")
def _transpose(call: Call) -> Sequence[Value | None]:
    x = call.x()
    order = call.attribute("perm") or tuple(reversed(range(len(x.shape))))
    if tuple(x.shape[axis] for axis in order) != call.shape():
        order = _order(x.shape, call.shape())
    return [movement.permute(call.e, x, order)]


@rule("peakmem:SplitHeads")
def _split_heads(call: Call) -> Sequence[Value | None]:
    batch, heads, tokens, size = call.shape()
    return [movement.permute(call.e, movement.reshape(call.e, call.x(), (batch, tokens, heads, size)), (0, 2, 1, 3))]


@rule("peakmem:JoinHeads", "peakmem:MergeHeads")
def _join_heads(call: Call) -> Sequence[Value | None]:
    return [movement.reshape(call.e, movement.permute(call.e, call.x(), (0, 2, 1, 3)), call.shape())]


@rule("peakmem:ExpandHeads", "peakmem:RepeatHeads")
def _repeat_heads(call: Call) -> Sequence[Value | None]:
    x = call.x()
    batch, heads, tokens, size = x.shape
    times = call.shape()[1] // heads
    wide = movement.expand(
        call.e, movement.reshape(call.e, x, (batch, heads, 1, tokens, size)), (batch, heads, times, tokens, size)
    )
    return [movement.reshape(call.e, wide, call.shape())]


@rule("Expand", "tflite:BROADCAST_TO")
def _expand(call: Call) -> Sequence[Value | None]:
    return [movement.expand(call.e, call.x(), call.shape()) if call.shape() != call.x().shape else same(call.x())]


@rule("Tile", "tflite:TILE")
def _tile(call: Call) -> Sequence[Value | None]:
    return [windows.resize(call.e, call.x(), call.shape(), "aten::repeat")]


@rule("Slice", "peakmem:Part", "peakmem:DropSink", "ncnn:Crop", "tflite:STRIDED_SLICE", "aten:narrow")
def _slice(call: Call) -> Sequence[Value | None]:
    x = call.x()
    return [movement.cut(call.e, x, call.shape()) if x.shape != call.shape() else same(x)]


@rule("peakmem:FirstToken", "peakmem:LastToken", "aten:select")
def _token(call: Call) -> Sequence[Value | None]:
    if call.kind == "aten:select":
        return [movement.select(call.e, call.x(), _gone(call.x().shape, call.shape()))]
    row = movement.select(call.e, call.x(), 1)
    return [row if row.shape == call.shape() else movement.reshape(call.e, row, call.shape())]


@rule("Split", "ncnn:Slice", "aten:split", "aten:split_with_sizes", "aten:chunk", "tflite:SPLIT", "tflite:SPLIT_V")
def _split(call: Call) -> Sequence[Value | None]:
    at = 1 if call.kind == "tflite:SPLIT" else 0
    return movement.split(call.e, call.x(at), [call.shape(number) for number in range(len(call.operator.outputs))])


@rule("Concat", "ncnn:Concat", "aten:stack", "mnn:Concat", "tflite:PACK")
def _concat(call: Call) -> Sequence[Value | None]:
    parts = [value for value in call.values if value is not None]
    return [movement.cat(call.e, parts, call.shape())]


@rule("Gather", "peakmem:Positions", "peakmem:TokenTypes", "ncnn:Embed", "tflite:EMBEDDING_LOOKUP", "GatherElements")
def _gather(call: Call) -> Sequence[Value | None]:
    first, second = call.maybe(0), call.maybe(1)
    if call.kind in ("peakmem:Positions", "peakmem:TokenTypes", "tflite:EMBEDDING_LOOKUP", "ncnn:Embed"):
        first, second = second, first
    assert first is not None
    if second is None and len(call.shape()) == len(first.shape) - 1 and first.block.users and first.edge is not None:
        return [movement.select(call.e, first, call.attribute("axis", 0))]
    table = _is_constant(call, 0) or call.kind.startswith(("peakmem", "tflite", "ncnn"))
    return [movement.rows(call.e, first, second, call.shape(), embedding=table)]


def _is_constant(call: Call, at: int) -> bool:
    return call.graph.tensors[call.operator.inputs[at]].role == "constant"


def _gone(before: Dims, after: Dims) -> int:
    """The axis that is there no more."""
    return next((at for at, size in enumerate(after) if before[at] != size), len(before) - 1)


def _order(before: Dims, after: Dims) -> tuple[int, ...]:
    """Some order of axes that gives this shape."""
    left = list(range(len(before)))
    found = []
    for size in after:
        axis = next((axis for axis in left if before[axis] == size), left[0])
        left.remove(axis)
        found.append(axis)
    return tuple(found)
