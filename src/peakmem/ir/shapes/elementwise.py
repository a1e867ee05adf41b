"""Shape rules of operators that work element by element, and of reductions."""

from __future__ import annotations

from peakmem.dtypes import BOOL, INT64, DType
from peakmem.ir.dims import Dim, Shape
from peakmem.ir.shapes.call import Call, Specs, Unresolved, broadcast, rule

SAME_AS_INPUT = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Clip",
    "Cos", "Cosh", "CumProd", "CumSum", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Hardmax", "Identity", "LeakyRelu", "Log", "LogSoftmax", "Mish", "Neg", "Not",
    "Optional", "OptionalGetElement", "PRelu", "Reciprocal", "Relu", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "SwiGLU", "Swish",
    "Tan", "Tanh", "ThresholdedRelu", "Trilu",
)  # fmt: skip
EXPERIMENTAL = ("Affine", "ImageScaler", "ParametricSoftplus", "ScaledTanh")
# dropped from ONNX in 2019; old converters still left them in files
ARITHMETIC = (
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


@rule(*SAME_AS_INPUT, *EXPERIMENTAL)
def same_as_input(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("IsNaN", "IsInf")
def predicate(call: Call) -> Specs:
    return [(call.shape(), BOOL)]


def operands(call: Call) -> Shape:
    """All inputs broadcast together."""
    shapes = [call.shape(i) for i in range(len(call.op.inputs))]
    if not shapes:
        raise call.error("an operator with operands has none")
    # Before operator set 7 the second operand could be placed by `axis` instead of by its end.
    return shapes[0] if call.opset < 7 and call.attr("broadcast") else broadcast(call, *shapes)


def first_dtype(call: Call) -> DType | None:
    """The first dtype known of inputs that all have the same."""
    return next((dtype for dtype in call.dtypes if dtype is not None), None)


@rule(*ARITHMETIC)
def arithmetic(call: Call) -> Specs:
    return [(operands(call), call.dtype() if call.op.op_type in ("Pow", "BitShift") else first_dtype(call))]


@rule(*COMPARISONS)
def comparison(call: Call) -> Specs:
    return [(operands(call), BOOL)]


@rule("Where")
def where(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(1), call.shape(2)), call.dtype(1) or call.dtype(2))]


@rule("Cast", "BitCast")
def cast(call: Call) -> Specs:
    return [(call.shape(), call.dtype_attr("to"))]


@rule("CastLike")
def cast_like(call: Call) -> Specs:
    return [(call.shape(), call.dtype(1))]


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


def reduction_shape(call: Call) -> Shape:
    """Shape after a reduction over `axes`, an attribute or (opset 13, 18) the second input."""
    keep = bool(call.attr("keepdims", 1))
    try:
        axes = call.ints("axes", 1)
    except Unresolved:
        shape, count = call.shape(), call.length(1)
        if keep:
            # Unknown axes, kept: only the sizes are open, and a size of 1 stays.
            return tuple(dim if dim == 1 else call.unknown_dim(axis) for axis, dim in enumerate(shape))
        if not count:
            raise
        return call.unknown_shape(len(shape) - count)
    if not axes:
        axes = () if call.attr("noop_with_empty_axes") else None
    return reduced(call, axes, keep=keep)


@rule(*REDUCTIONS)
def reduction(call: Call) -> Specs:
    return [(reduction_shape(call), call.dtype())]


@rule("ArgMax", "ArgMin")
def arg_reduction(call: Call) -> Specs:
    axes = (call.attr("axis", 0),)
    return [(reduced(call, axes, keep=bool(call.attr("keepdims", 1))), INT64)]
