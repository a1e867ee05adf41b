"""Functions of each element: activations, sums, products, conditions, softmax, dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peakmem.dtypes import parse_dtype
from peakmem.training.saved import pointwise
from peakmem.training.saved.eager import Value
from peakmem.training.saved.rules.call import RULES, Call, rule, same


def _unary(call: Call) -> Sequence[Value | None]:
    kind = _UNARY_NAMES.get(call.kind, call.kind)
    x = call.wide(call.x(), pointwise.UNARY[kind].aten)
    in_place = (
        kind in pointwise.IN_PLACE and 0 in call.free and not x.viewed and not x.block.kept and x.edge is not None
    )
    return [pointwise.unary(call.e, kind, x, in_place=in_place)]


_UNARY_NAMES = {
    "peakmem:Scale": "Scale", "aten:rsqrt": "Rsqrt", "tflite:RSQRT": "Rsqrt", "keras:Rsqrt": "Rsqrt",
    "tflite:SQUARE": "Square", "keras:Square": "Square", "aten:square": "Square", "com.microsoft:Gelu": "Gelu",
    "com.microsoft:FastGelu": "Gelu", "com.microsoft:QuickGelu": "Swish", "Softsign": "Mish",
}  # fmt: skip
# one-operator functions by the names of other formats
RULES.update(dict.fromkeys((*pointwise.UNARY, *_UNARY_NAMES), _unary))
del RULES["Scale"], RULES["Shift"], RULES["Square"], RULES["Rsqrt"], RULES["HardTanh"]


@rule("Clip")
def _clip(call: Call) -> Sequence[Value | None]:
    bounds = [call.attribute("min"), call.attribute("max")]
    for at in (1, 2):
        found = call.numbers(at)
        bounds[at - 1] = found[0] if found else bounds[at - 1]
    foreign = bool(call.operator.domain)
    if foreign or bounds == [0, 6] or bounds == [-1, 1]:
        return [pointwise.unary(call.e, "HardTanh", call.x())]
    return [pointwise.clamp(call.e, call.x())]


@rule("PRelu")
def _prelu(call: Call) -> Sequence[Value | None]:
    x, weight = call.x(), call.maybe(1)
    if weight is None:
        return [pointwise.unary(call.e, "LeakyRelu", x)]
    return [pointwise.prelu(call.e, x, weight)]


def _binary(call: Call, with_number: str, function: Callable[[Value, Value], Value]) -> Sequence[Value | None]:
    """An operator of two tensors, or of a tensor and numbers."""
    there = [value for value in call.values if value is not None]
    if len(there) == 1:
        return [pointwise.unary(call.e, with_number, there[0])]
    result = there[0]
    for other in there[1:]:
        result = function(result, other)
    return [result]


@rule("Add", "Sum", "peakmem:AddBias", "com.microsoft:BiasAdd", "keras:Add")
def _add(call: Call) -> Sequence[Value | None]:
    x = call.maybe(0)
    over = call.residual and 0 in call.free and x is not None and not x.block.kept and not x.viewed
    return _binary(call, "Shift", lambda a, b: pointwise.add(call.e, a, b, in_place=over and a.shape == call.shape()))


@rule("Sub")
def _sub(call: Call) -> Sequence[Value | None]:
    return _binary(
        call, "Neg" if call.values[0] is None else "Shift", lambda a, b: pointwise.add(call.e, a, b, minus=True)
    )


@rule("Mul")
def _mul(call: Call) -> Sequence[Value | None]:
    return _binary(call, "Scale", lambda a, b: pointwise.mul(call.e, a, b))


@rule("Div")
def _div(call: Call) -> Sequence[Value | None]:
    return _binary(call, "Reciprocal" if call.values[0] is None else "Scale", lambda a, b: pointwise.div(call.e, a, b))


@rule("Pow")
def _pow(call: Call) -> Sequence[Value | None]:
    return [pointwise.power(call.e, call.wide(call.x(), "pow"))]


@rule("Max", "Min")
def _extremum(call: Call) -> Sequence[Value | None]:
    name = "aten::maximum" if call.kind == "Max" else "aten::minimum"
    there = [value for value in call.values if value is not None]
    if len(there) == 1:
        return [pointwise.clamp(call.e, there[0])]
    return _binary(call, "Shift", lambda a, b: pointwise.extremum(call.e, name, a, b))


@rule("Mean")
def _mean_of(call: Call) -> Sequence[Value | None]:
    total = _binary(call, "Shift", lambda a, b: pointwise.add(call.e, a, b))[0]
    assert total is not None
    return [pointwise.unary(call.e, "Scale", total)]


@rule("Where")
def _where(call: Call) -> Sequence[Value | None]:
    return [pointwise.where(call.e, call.maybe(0), call.maybe(1), call.maybe(2))]


@rule("Cast")
def _cast(call: Call) -> Sequence[Value | None]:
    dtype = call.graph.tensors[call.operator.outputs[0]].dtype or call.x().dtype
    if dtype.kind == "float" and call.x().dtype.kind == "float" and call.narrow is not None:
        return [same(call.x())]
    return [pointwise.cast(call.e, call.x(), dtype) if dtype is not call.x().dtype else same(call.x())]


@rule("Softmax", "LogSoftmax", "peakmem:FloatSoftmax", "tflite:LOG_SOFTMAX", "ncnn:Softmax", "mnn:Softmax")
def _softmax(call: Call) -> Sequence[Value | None]:
    log = "log" in call.kind.lower()
    dtype = parse_dtype(str(call.attribute("dtype"))) if call.kind == "peakmem:FloatSoftmax" else None
    return [pointwise.softmax(call.e, call.wide(call.x(), "softmax"), log=log, dtype=dtype)]


@rule("Dropout", "ncnn:Dropout", "aten:dropout", "aten:native_dropout")
def _dropout(call: Call) -> Sequence[Value | None]:
    ratio = call.numbers(1)
    rate = ratio[0] if ratio else call.attribute("ratio", call.attribute("p", call.attribute("rate", 0.5)))
    rest: list[Value | None] = [None] * (len(call.operator.outputs) - 1)
    if not rate:
        return [same(call.x()), *rest]
    return [pointwise.dropout(call.e, call.x()), *rest]
