"""What is computed element by element."""

from __future__ import annotations

from collections.abc import Mapping

from peakmem.conversion.torch_source.names import literal
from peakmem.conversion.torch_source.writer import RULES, Call, Refused, Rule, rule

UNARY: Mapping[str, str] = {
    "Relu": "F.relu({x})", "Sigmoid": "torch.sigmoid({x})", "Tanh": "torch.tanh({x})", "Erf": "torch.erf({x})",
    "HardSwish": "F.hardswish({x})", "Mish": "F.mish({x})", "Softplus": "F.softplus({x})",
    "Softsign": "F.softsign({x})", "Abs": "torch.abs({x})", "Neg": "-{x}", "Exp": "torch.exp({x})",
    "Log": "torch.log({x})", "Sqrt": "torch.sqrt({x})", "Reciprocal": "torch.reciprocal({x})",
    "Floor": "torch.floor({x})", "Ceil": "torch.ceil({x})", "Round": "torch.round({x})", "Sign": "torch.sign({x})",
    "Sin": "torch.sin({x})", "Cos": "torch.cos({x})", "Tan": "torch.tan({x})", "Asin": "torch.asin({x})",
    "Acos": "torch.acos({x})", "Atan": "torch.atan({x})", "Sinh": "torch.sinh({x})", "Cosh": "torch.cosh({x})",
    "Asinh": "torch.asinh({x})", "Acosh": "torch.acosh({x})", "Atanh": "torch.atanh({x})",
    "Not": "torch.logical_not({x})", "BitwiseNot": "torch.bitwise_not({x})", "IsNaN": "torch.isnan({x})",
    "com.microsoft:QuickGelu": "{x} * torch.sigmoid({alpha} * {x})",
    "com.microsoft:Gelu": "F.gelu({x})",
    "Identity": "{x}", "Det": "torch.linalg.det({x})",
    "LeakyRelu": "F.leaky_relu({x}, {alpha})", "Elu": "F.elu({x}, {alpha})", "Celu": "F.celu({x}, {alpha})",
    "ThresholdedRelu": "F.threshold({x}, {alpha}, 0.0)", "Swish": "{x} * torch.sigmoid({alpha} * {x})",
}  # fmt: skip
ALPHA: Mapping[str, float] = {"LeakyRelu": 0.01, "com.microsoft:QuickGelu": 1.702}
# defaults of the attribute that are not 1

BINARY: Mapping[str, str] = {
    "Add": "{a} + {b}", "Sub": "{a} - {b}", "Mul": "{a} * {b}", "And": "torch.logical_and({a}, {b})",
    "Or": "torch.logical_or({a}, {b})", "Xor": "torch.logical_xor({a}, {b})", "BitwiseAnd": "{a} & {b}",
    "BitwiseOr": "{a} | {b}", "BitwiseXor": "{a} ^ {b}", "Equal": "{a} == {b}", "Greater": "{a} > {b}",
    "GreaterOrEqual": "{a} >= {b}", "Less": "{a} < {b}", "LessOrEqual": "{a} <= {b}",
}  # fmt: skip


def _unary(op_type: str) -> Rule:
    def translate(call: Call) -> str:
        alpha = float(call.attr("alpha", ALPHA.get(op_type, 1.0)))
        return UNARY[op_type].format(x=call.read(), alpha=literal(alpha))

    return translate


RULES.update({op_type: _unary(op_type) for op_type in UNARY})


def scalar(call: Call, position: int) -> str:
    """An input that holds one known number, as that number, where it does not widen the result; else ""."""
    name = call.input(position)
    values = call.writer.known(name)
    others = [call.rank(at) for at in range(len(call.operator.inputs)) if at != position]
    if values is None or len(values) != 1 or call.rank(position) > max(others, default=0):
        return ""
    return literal(values[0])


def operands(call: Call) -> tuple[str, str]:
    """The two inputs, one of them a number if it can be."""
    second = scalar(call, 1)
    first = "" if second else scalar(call, 0)
    return first or call.read(0), second or call.read(1)


def _binary(op_type: str) -> Rule:
    def translate(call: Call) -> str:
        a, b = operands(call)
        return BINARY[op_type].format(a=a, b=b)

    return translate


RULES.update({op_type: _binary(op_type) for op_type in BINARY})


@rule("Div")
def div(call: Call) -> str:
    a, b = operands(call)
    return f"{a} / {b}" if call.kind() == "float" else f'torch.div({a}, {b}, rounding_mode="trunc")'


@rule("Mod")
def mod(call: Call) -> str:
    return f"torch.{'fmod' if call.attr('fmod', 0) else 'remainder'}({call.read(0)}, {scalar(call, 1) or call.read(1)})"


@rule("Pow")
def power(call: Call) -> str:
    exponent = scalar(call, 1) or call.read(1)
    result = f"torch.pow({call.read(0)}, {exponent})"
    return result if call.dtype(0) == call.dtype(1) else f"{result}.to({call.dtype(0)})"


@rule("BitShift")
def shift(call: Call) -> str:
    return f"{call.read(0)} {'<<' if call.text('direction', 'LEFT') == 'LEFT' else '>>'} {call.read(1)}"


@rule("Max", "Min", "Sum", "Mean")
def variadic(call: Call) -> str:
    kind = call.operator.op_type
    parts = [call.read(at) for at in range(len(call.operator.inputs))]
    if kind in ("Sum", "Mean"):
        total = " + ".join(parts)
        return total if kind == "Sum" else f"({total}) / {len(parts)}"
    function, bound = ("maximum", "min") if kind == "Max" else ("minimum", "max")
    if len(parts) == 2:
        for at in (0, 1):
            number = scalar(call, at)
            if number:
                return f"torch.clamp({parts[1 - at]}, {bound}={number})"
    result = parts[0]
    for part in parts[1:]:
        result = f"torch.{function}({result}, {part})"
    return result


@rule("Where")
def where(call: Call) -> str:
    first = scalar(call, 1)
    second = "" if first else scalar(call, 2)
    return f"torch.where({call.read(0)}, {first or call.read(1)}, {second or call.read(2)})"


@rule("Clip")
def clip(call: Call) -> str:
    low, high = (_limit(call, at, name) for at, name in ((1, "min"), (2, "max")))
    if not low and not high:
        return call.read()
    if (low, high) == ("0.0", "6.0"):
        return f"F.relu6({call.read()})"
    return f"torch.clamp({call.read()}{f', min={low}' if low else ''}{f', max={high}' if high else ''})"


def _limit(call: Call, position: int, attribute: str) -> str:
    """A limit as a number, a tensor or nothing."""
    if call.has(position) and call.writer.graph.tensors[call.input(position)].values is None:
        return call.read(position)
    value = call.number(position, attribute)
    if value is None or abs(value) >= 3.4028234e38:
        return ""
    return literal(value if call.kind() == "float" else int(value))


@rule("PRelu")
def prelu(call: Call) -> str:
    x, shape = call.read(), call.shape(1)
    count = max(1, *shape) if shape else 1
    wanted = (count, *(1,) * (call.rank() - 2))
    if call.own(1) and call.rank() >= 2 and (count == 1 or shape == wanted) and count in (1, call.shape()[1]):
        typed = call.writer.typed(call.input(1))
        return f"{call.layer(f'nn.PReLU({count}{typed})', ('weight', 1, _flat))}({x})"
    return f"torch.where({x} < 0, {x} * {call.read(1)}, {x})"


def _flat(array):  # type: ignore[no-untyped-def]
    return array.reshape(-1)


@rule("Selu")
def selu(call: Call) -> str:
    alpha, gamma = float(call.attr("alpha", 1.67326319)), float(call.attr("gamma", 1.05070102))
    if abs(alpha - 1.67326319) < 1e-6 and abs(gamma - 1.05070102) < 1e-6:
        return f"F.selu({call.read()})"
    return f"F.elu({call.read()}, {literal(alpha)}) * {literal(gamma)}"


@rule("HardSigmoid")
def hard_sigmoid(call: Call) -> str:
    alpha, beta = float(call.attr("alpha", 0.2)), float(call.attr("beta", 0.5))
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return f"F.hardsigmoid({call.read()})"
    return f"torch.clamp({call.read()} * {literal(alpha)} + {literal(beta)}, 0.0, 1.0)"


@rule("Gelu")
def gelu(call: Call) -> str:
    how = ', approximate="tanh"' if call.text("approximate", "none") == "tanh" else ""
    return f"F.gelu({call.read()}{how})"


@rule("com.microsoft:FastGelu", "com.microsoft:BiasGelu")
def bias_gelu(call: Call) -> str:
    x = f"{call.read()} + {call.read(1)}" if call.has(1) else call.read()
    return f"F.gelu({x}" + (', approximate="tanh")' if call.operator.op_type == "FastGelu" else ")")


@rule("Shrink")
def shrink(call: Call) -> str:
    limit, bias = float(call.attr("lambd", 0.5)), float(call.attr("bias", 0.0))
    x, zero = call.read(), "0.0"
    low, high = literal(-limit), literal(limit)
    return f"torch.where({x} < {low}, {x} + {literal(bias)}, torch.where({x} > {high}, {x} - {literal(bias)}, {zero}))"


@rule("IsInf")
def is_inf(call: Call) -> str:
    positive, negative = call.attr("detect_positive", 1), call.attr("detect_negative", 1)
    if positive and negative:
        return f"torch.isinf({call.read()})"
    return f"torch.is{'pos' if positive else 'neg'}inf({call.read()})"


@rule("Cast", "CastLike")
def cast(call: Call) -> str:
    x, made = call.read(), call.out_dtype()
    return f"{x} != 0" if made == "torch.bool" and call.dtype() != "torch.bool" else f"{x}.to({made})"


@rule("Dropout")
def dropout(call: Call) -> str:
    call.only()
    if call.has(2) and any(call.values(2)):
        raise Refused("while training")
    return call.read()


@rule("Softmax", "LogSoftmax")
def softmax(call: Call) -> str:
    function = "softmax" if call.operator.op_type == "Softmax" else "log_softmax"
    axis, rank = call.axis("axis", -1 if call.opset >= 13 else 1), call.rank()
    if call.opset >= 13 or axis == rank - 1:
        return f"F.{function}({call.read()}, {axis})"
    # before operator set 13 all axes from this one on are one
    return f"F.{function}({call.read()}.flatten({axis}), {axis}).reshape({literal(call.shape())})"
