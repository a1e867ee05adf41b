"""ncnn layers that keep the shape, combine blobs element by element, or change the dtype alone."""

from __future__ import annotations

from peakmem.dtypes import BFLOAT16, FLOAT16, FLOAT32, INT8
from peakmem.ir.dims import Dim
from peakmem.ir.shapes.call import Call, Specs, rule
from peakmem.ir.shapes.ncnn.blob import Blob, blob, larger, made

_CAST = {1: FLOAT32, 2: FLOAT16, 3: INT8, 4: BFLOAT16}


@rule(
    "ncnn:AbsVal", "ncnn:BNLL", "ncnn:BatchNorm", "ncnn:Bias", "ncnn:CELU", "ncnn:Clip", "ncnn:CumulativeSum",
    "ncnn:DeepCopy", "ncnn:Dropout", "ncnn:ELU", "ncnn:Erf", "ncnn:Exp", "ncnn:Flip", "ncnn:GELU", "ncnn:GroupNorm",
    "ncnn:HardSigmoid", "ncnn:HardSwish", "ncnn:InstanceNorm", "ncnn:LRN", "ncnn:LayerNorm", "ncnn:Log", "ncnn:MVN",
    "ncnn:Mish", "ncnn:Normalize", "ncnn:PReLU", "ncnn:Packing", "ncnn:Power", "ncnn:RMSNorm", "ncnn:ReLU",
    "ncnn:SELU", "ncnn:Scale", "ncnn:Shrink", "ncnn:Sigmoid", "ncnn:Softmax", "ncnn:Softplus", "ncnn:Swish",
    "ncnn:TanH", "ncnn:Threshold", "ncnn:UnaryOp",
)  # fmt: skip
def same(call: Call) -> Specs:
    return made(call, blob(call))


@rule("ncnn:ShuffleChannel")
def shuffle_channel(call: Call) -> Specs:
    group, channels = call.attr("group"), blob(call).c
    if isinstance(channels, int) and (group < 1 or channels % group):
        raise call.error(f"{channels} channels cannot be shuffled in {group} groups")
    return made(call, blob(call))


@rule("ncnn:CopyTo", "ncnn:RotaryEmbed")
def like_first(call: Call) -> Specs:
    return made(call, blob(call))


@rule("ncnn:Split")
def split(call: Call) -> Specs:
    return [made(call, blob(call))[0] for _ in call.op.outputs]


@rule("ncnn:Noop")
def noop(call: Call) -> Specs:
    return [(blob(call, at).shape, call.dtype(at)) for at in range(len(call.op.outputs))]


@rule("ncnn:Eltwise")
def eltwise(call: Call) -> Specs:
    first = blob(call)
    for position in range(1, len(call.op.inputs)):
        other = blob(call, position)
        if all(isinstance(dim, int) for dim in (*first.shape, *other.shape)) and first.shape != other.shape:
            raise call.error("tensors of different shapes are combined")
    return made(call, first)


def _lifted(small: Blob, big: Blob) -> Blob:
    """A blob of fewer dimensions as BinaryOp lines it up: with the outer axes, a vector where it fits."""
    outer = {2: big.h, 3: big.c, 4: big.c}[big.dims]
    if small.dims == 1:
        if small.w != outer:
            return Blob(big.dims, small.w)
        return Blob(2, 1, small.w) if big.dims == 2 else Blob(big.dims, c=small.w)
    if big.dims == 3:
        return Blob(3, 1, small.w, 1, small.h)
    if small.dims == 2:
        return Blob(4, 1, 1, small.w, small.h)
    return Blob(4, 1, small.w, small.h, small.c)


@rule("ncnn:BinaryOp")
def binary_op(call: Call) -> Specs:
    left = blob(call)
    if call.attr("with_scalar"):
        return made(call, left)
    right = blob(call, 1)
    if left.dims < right.dims:
        left = _lifted(left, right)
    elif right.dims < left.dims:
        right = _lifted(right, left)

    def wider(axis: str) -> Dim:
        one, two = getattr(left, axis), getattr(right, axis)
        if isinstance(one, int) and isinstance(two, int) and one != two and 1 not in (one, two) and axis != "c":
            raise call.error(f"sizes {one} and {two} cannot be broadcast together")
        # Of channels ncnn takes the larger number and does not ask; published models rely on it.
        return larger(one, two)

    return made(call, Blob(left.dims, wider("w"), wider("h"), wider("d"), wider("c")))


@rule("ncnn:Cast")
def cast(call: Call) -> Specs:
    if call.attr("type_from") == call.attr("type_to"):
        return made(call, blob(call))
    return made(call, blob(call), _CAST.get(call.attr("type_to")))


@rule("ncnn:Quantize", "ncnn:Requantize")
def quantize(call: Call) -> Specs:
    return made(call, blob(call), INT8)


@rule("ncnn:Dequantize")
def dequantize(call: Call) -> Specs:
    return made(call, blob(call), FLOAT32)
