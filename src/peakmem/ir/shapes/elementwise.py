"""Shape rules of operators that work element by element, and of reductions."""

from __future__ import annotations

from peakmem.dtypes import BOOL, DTYPES, INT64
from peakmem.ir.dims import Dim, Shape
from peakmem.ir.shapes.call import Call, Specs, Unresolved, broadcast, rule

UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "CumSum", "CumProd", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Hardmax", "Identity", "LeakyRelu", "Log", "LogSoftmax", "Mish", "Neg", "PRelu", "Reciprocal",
    "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus",
    "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Trilu", "BitwiseNot", "Not",
)  # fmt: skip
BINARY = (
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
    "Max", "Min", "Mean", "Sum",
)  # fmt: skip
COMPARISONS = (
    "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
)  # fmt: skip
REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip


@rule(*UNARY)
def unary(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("IsNaN", "IsInf")
def predicate(call: Call) -> Specs:
    return [(call.shape(), BOOL)]


def _operands(call: Call) -> tuple[Shape, ...]:
    shapes = tuple(call.shape(i) for i in range(len(call.op.inputs)))
    if not shapes:
        raise call.error("an operator with operands has none")
    # Before operator set 7 the second operand could be placed by `axis` instead of by its end.
    return shapes[:1] if call.opset < 7 and call.attr("broadcast") else shapes


@rule(*BINARY)
def binary(call: Call) -> Specs:
    return [(broadcast(call, *_operands(call)), call.dtype())]


@rule(*COMPARISONS)
def comparison(call: Call) -> Specs:
    return [(broadcast(call, *_operands(call)), BOOL)]


@rule("Where")
def where(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(1), call.shape(2)), call.dtype(1))]


@rule("Cast")
def cast(call: Call) -> Specs:
    return [(call.shape(), DTYPES.get(call.attr("to")))]


@rule("CastLike")
def cast_like(call: Call) -> Specs:
    return [(call.shape(), call.dtype(1))]


@rule("BitCast")
def bit_cast(call: Call) -> Specs:
    return [(call.shape(), DTYPES.get(call.attr("to")))]


def reduced(call: Call, axes: tuple[int, ...] | None, *, keep: bool) -> Shape:
    """The input's shape with `axes` (all when None) reduced to 1 or removed."""
    shape = call.shape()
    gone = range(len(shape)) if axes is None else [call.axis(axis, len(shape)) for axis in axes]
    dims: list[Dim] = []
    for axis, dim in enumerate(shape):
        if axis not in gone:
            dims.append(dim)
        elif keep:
            dims.append(1)
    return tuple(dims)


@rule(*REDUCTIONS)
def reduction(call: Call) -> Specs:
    keep = bool(call.attr("keepdims", 1))
    try:
        axes = call.ints("axes", 1)
    except Unresolved:
        if not keep:
            raise
        axes = ()  # unknown axes, kept: only the sizes are open
        dims = tuple(call.unknown_dim(axis) for axis in range(len(call.shape())))
        return [(dims, call.dtype())]
    if not axes:
        axes = () if call.attr("noop_with_empty_axes") else None
    return [(reduced(call, axes, keep=keep), call.dtype())]


@rule("ArgMax", "ArgMin")
def arg_reduction(call: Call) -> Specs:
    axes = (call.attr("axis", 0),)
    return [(reduced(call, axes, keep=bool(call.attr("keepdims", 1))), INT64)]
