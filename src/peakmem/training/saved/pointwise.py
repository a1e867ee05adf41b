"""Elementwise operators: what each keeps for its backward, and what its backward allocates on the way.

The tables follow tools/autograd/derivatives.yaml of PyTorch 2.13: an operator whose formula names `self` keeps its
input, one whose formula names `result` keeps its output. The temporaries are those of the formula, which C++ holds
until the whole expression is done; the last name is the gradient's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from peakmem.dtypes import BOOL, DType
from peakmem.training.saved.eager import Eager, Value, broadcast

Keeps = Literal["self", "result", "neither"]


@dataclass(frozen=True, slots=True)
class Unary:
    """One function of one tensor."""

    aten: str
    keeps: Keeps
    backward: tuple[str, ...]
    # operators of the backward's formula, in order; each makes a tensor of the gradient's size
    formula: str
    # as derivatives.yaml has it


def _u(aten: str, keeps: Keeps, backward: str, formula: str) -> Unary:
    return Unary(aten, keeps, tuple(backward.split()), formula)


UNARY: Mapping[str, Unary] = {
    "Relu": _u("relu", "result", "threshold_backward", "threshold_backward(grad, result, 0)"),
    "LeakyRelu": _u("leaky_relu", "self", "leaky_relu_backward", "leaky_relu_backward(grad, self, slope, false)"),
    "Elu": _u("elu", "self", "elu_backward", "elu_backward(grad, alpha, scale, input_scale, false, self)"),
    "Selu": _u("elu", "self", "elu_backward", "selu is elu with its constants"),
    "Celu": _u("celu", "self", "elu_backward", "elu_backward(grad, alpha, 1, 1/alpha, false, self)"),
    "ThresholdedRelu": _u("threshold", "self", "threshold_backward", "threshold_backward(grad, self, threshold)"),
    "Sigmoid": _u("sigmoid", "result", "sigmoid_backward", "sigmoid_backward(grad, result)"),
    "Tanh": _u("tanh", "result", "tanh_backward", "tanh_backward(grad, result)"),
    "HardSigmoid": _u("hardsigmoid", "self", "hardsigmoid_backward", "hardsigmoid_backward(grad, self)"),
    "HardSwish": _u("hardswish", "self", "hardswish_backward", "hardswish_backward(grad, self)"),
    "Swish": _u("silu", "self", "silu_backward", "silu_backward(grad, self)"),
    "Mish": _u("mish", "self", "mish_backward", "mish_backward(grad, self)"),
    "Gelu": _u("gelu", "self", "gelu_backward", "gelu_backward(grad, self, approximate)"),
    "Softplus": _u("softplus", "self", "softplus_backward", "softplus_backward(grad, self, beta, threshold)"),
    "Shrink": _u("hardshrink", "self", "hardshrink_backward", "hardshrink_backward(grad, self, lambd)"),
    "HardTanh": _u("hardtanh", "self", "hardtanh_backward", "hardtanh_backward(grad, self, min_val, max_val)"),
    "Exp": _u("exp", "result", "mul", "grad * result.conj()"),
    "Sqrt": _u("sqrt", "result", "mul div", "grad / (2 * result.conj())"),
    "Rsqrt": _u("rsqrt", "result", "mul pow mul", "-0.5 * grad * result.pow(3).conj()"),
    "Log": _u("log", "self", "div", "grad.div(self.conj())"),
    "Reciprocal": _u("reciprocal", "result", "neg mul mul", "-grad * (result * result).conj()"),
    "Abs": _u("abs", "self", "sgn mul", "grad * self.sgn()"),
    "Neg": _u("neg", "neither", "neg", "grad.neg()"),
    "Erf": _u("erf", "self", "pow neg exp mul mul", "2.0 / sqrt(M_PI) * exp(-(self.pow(2))) * grad"),
    "Sin": _u("sin", "self", "cos mul", "grad * self.cos().conj()"),
    "Cos": _u("cos", "self", "sin neg mul", "grad * -self.sin().conj()"),
    "Tan": _u("tan", "result", "pow add mul", "grad * (1 + result.pow(2)).conj()"),
    "Atan": _u("atan", "self", "mul add div", "grad / (self * self + 1).conj()"),
    "Asin": _u("asin", "self", "neg mul add rsqrt mul", "grad * (-self * self + 1).rsqrt().conj()"),
    "Acos": _u("acos", "self", "neg mul add rsqrt neg mul", "grad * -((-self * self + 1).rsqrt()).conj()"),
    "Sinh": _u("sinh", "self", "cosh mul", "grad * self.cosh().conj()"),
    "Cosh": _u("cosh", "self", "sinh mul", "grad * self.sinh().conj()"),
    "Square": _u("pow", "self", "pow mul mul", "grad * (2 * self.pow(1))"),
    "Scale": _u("mul", "neither", "mul", "mul_tensor_backward(grad, other, self.scalar_type()), other a number"),
    "Shift": _u("add", "neither", "", "grad"),
}  # fmt: skip

NO_GRADIENT = frozenset(
    {
        "Floor", "Ceil", "Round", "Sign", "Not", "BitwiseNot", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr",
        "BitwiseXor", "BitShift", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "IsNaN", "IsInf",
        "ArgMax", "ArgMin", "Shape", "Size", "NonZero", "Range", "ConstantOfShape", "OneHot", "EyeLike", "Constant",
        "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial",
        "NonMaxSuppression", "Trilu:mask", "peakmem:CausalMask", "peakmem:Alibi", "peakmem:RotaryTable",
    }
)  # fmt: skip
# through which no gradient goes

IN_PLACE = frozenset({"Relu"})
# written over the input where autograd permits, as torchvision's networks ask for. Of the others autograd would keep a
# copy of the input (gen_variable_type.py, `original_self`), which comes to the same bytes as a result of its own


def unary(e: Eager, kind: str, x: Value, *, in_place: bool = False) -> Value:
    """A function of one tensor."""
    rule = UNARY[kind]
    y = x.again() if in_place else e.like(x, f"aten::{rule.aten}")
    if e.wants(x):
        saved = None if rule.keeps == "neither" else e.keep(y if rule.keeps == "result" else x)
        names = tuple(f"aten::{name}" for name in rule.backward)

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = saved.get() if saved is not None else None
            made = grad
            temporaries = []
            for name in names:
                made = e.like(grad, name)
                temporaries.append(made)
            del held
            return [made]

        e.link(f"aten::{rule.aten}", [x], [y], run)
    return y


def add(e: Eager, a: Value, b: Value, *, minus: bool = False, in_place: bool = False) -> Value:
    """a + b or a - b; neither is kept."""
    name = "aten::sub" if minus else "aten::add"
    y = a.again() if in_place else _result(e, name, a, b)
    if e.wants(a, b):
        first, second = a.wants, b.wants

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            return [grad if first else None, (e.like(grad, "aten::neg") if minus else grad) if second else None]

        e.link(name, [a, b], [y], run)
    return y


def mul(e: Eager, a: Value, b: Value) -> Value:
    """a · b; each is kept if the other wants a gradient."""
    y = _result(e, "aten::mul", a, b)
    if e.wants(a, b):
        kept_b = e.keep(b) if a.wants else None
        kept_a = e.keep(a) if b.wants else None

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = [kept.get() if kept is not None else None for kept in (kept_b, kept_a)]
            found: list[Value | None] = [
                _wide(e, "aten::mul", grad, other) if other is not None else None for other in held
            ]
            return found

        e.link("aten::mul", [a, b], [y], run)
    return y


def div(e: Eager, a: Value, b: Value) -> Value:
    """a / b (derivatives.yaml, div.Tensor): the second's gradient is -grad * ((a / b) / b)."""
    y = _result(e, "aten::div", a, b)
    if e.wants(a, b):
        wants_a, wants_b = a.wants, b.wants
        kept_b = e.keep(b)
        kept_a = e.keep(a) if wants_b else None

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            other = kept_b.get()
            first = _wide(e, "aten::div", grad, other) if wants_a else None
            second = None
            if wants_b:
                assert kept_a is not None
                held = [e.like(grad, "aten::neg"), _wide(e, "aten::div", kept_a.get(), other)]
                held.append(e.like(grad, "aten::div"))
                second = e.like(grad, "aten::mul")
                del held
            return [first, second]

        e.link("aten::div", [a, b], [y], run)
    return y


def power(e: Eager, x: Value) -> Value:
    """x to a number: grad * (exponent * self.pow(exponent - 1))."""
    y = e.like(x, "aten::pow")
    if e.wants(x):
        saved = e.keep(x)

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = saved.get()
            raised = e.like(held, "aten::pow")
            scaled = e.like(held, "aten::mul")
            found: list[Value | None] = [e.like(grad, "aten::mul")]
            del raised, scaled
            return found

        e.link("aten::pow", [x], [y], run)
    return y


def extremum(e: Eager, name: str, a: Value, b: Value) -> Value:
    """The larger or the smaller of two: where(a == b, grad / 2, grad).masked_fill_(a < b, 0), and for the other."""
    y = _result(e, name, a, b)
    if e.wants(a, b):
        kept_a, kept_b = e.keep(a), e.keep(b)
        wants = (a.wants, b.wants)

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = (kept_a.get(), kept_b.get())
            found: list[Value | None] = []
            for wanted in wants:
                if not wanted:
                    found.append(None)
                    continue
                half, same = e.like(grad, "aten::div"), e.like(grad, "aten::eq", BOOL)
                part = e.like(grad, "aten::where")
                less = e.like(grad, "aten::lt", BOOL)
                found.append(part)
                del half, same, less
            del held
            return found

        e.link(name, [a, b], [y], run)
    return y


def where(e: Eager, condition: Value | None, a: Value | None, b: Value | None) -> Value:
    """One or the other; a number is None. The condition is kept."""
    there = [value for value in (condition, a, b) if value is not None]
    given_dtype = next(value.dtype for value in (a, b, condition) if value is not None)
    y = e.new(broadcast(*(value.shape for value in there)), given_dtype, "aten::where")
    if e.wants(a, b):
        kept = e.keep(condition) if condition is not None else None
        wants = (a is not None and a.wants, b is not None and b.wants)

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = kept.get() if kept is not None else None
            found: list[Value | None] = [e.like(grad, "aten::where") if wanted else None for wanted in wants]
            del held
            return found

        e.link("aten::where", [a, b], [y], run)
    return y


def clamp(e: Eager, x: Value) -> Value:
    """min(max(x, low), high) of torch.clamp: where((self >= min).logical_and_(self <= max), grad, 0)."""
    y = e.like(x, "aten::clamp")
    if e.wants(x):
        saved = e.keep(x)

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = saved.get()
            masks = [e.like(grad, "aten::ge", BOOL), e.like(grad, "aten::le", BOOL)]
            found: list[Value | None] = [e.like(grad, "aten::where")]
            del masks, held
            return found

        e.link("aten::clamp", [x], [y], run)
    return y


def prelu(e: Eager, x: Value, weight: Value) -> Value:
    """A slope for each channel: both are kept; the slopes' gradient is as large as the input before its sum."""
    y = e.like(x, "aten::_prelu_kernel")
    if e.wants(x, weight):
        kept = e.keep(x), e.keep(weight)

        def run(_given: Sequence[Value | None]) -> list[Value | None]:
            held = [saved.get() for saved in kept]
            found: list[Value | None] = [e.like(held[0], "aten::_prelu_kernel_backward") for _ in range(2)]
            del held
            return found

        e.link("aten::_prelu_kernel", [x, weight], [y], run)
    return y


def cast(e: Eager, x: Value, dtype: DType) -> Value:
    """x in another dtype; its gradient goes back into x's."""
    if x.dtype is dtype:
        return x
    y = e.like(x, "aten::_to_copy", dtype)
    if e.wants(x) and dtype.kind == "float":

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            return [given[0]]

        e.link("aten::_to_copy", [x], [y], run)
    return y


def dropout(e: Eager, x: Value) -> Value:
    """A mask of the input's dtype on the processor (Dropout.cpp, `_dropout_impl`), of bool on cuda."""
    if e.device == "cuda":
        y = e.like(x, "aten::native_dropout")
        mask = e.like(x, "aten::native_dropout", BOOL)
        name = "aten::native_dropout_backward"
    else:
        mask = e.like(x, "aten::empty_like")
        y = e.like(x, "aten::mul")
        name = "aten::mul"
    if e.wants(x):
        saved = e.keep(mask)

        def run(given: Sequence[Value | None]) -> list[Value | None]:
            grad = given[0]
            assert grad is not None
            held = saved.get()
            found: list[Value | None] = [e.like(grad, name)]
            del held
            return found

        e.link("aten::dropout", [x], [y], run)
    return y


def softmax(e: Eager, x: Value, *, log: bool = False, dtype: DType | None = None) -> Value:
    """Softmax or its logarithm: the result is kept."""
    name = "aten::_log_softmax" if log else "aten::_softmax"
    y = e.new(x.shape, dtype or x.dtype, name)
    if e.wants(x):
        saved = e.keep(y)

        def run(_given: Sequence[Value | None]) -> list[Value | None]:
            held = saved.get()
            found: list[Value | None] = [e.new(held.shape, held.dtype, f"{name}_backward_data")]
            del held
            return found

        e.link(name, [x], [y], run)
    return y


def _result(e: Eager, name: str, a: Value, b: Value) -> Value:
    shape = broadcast(a.shape, b.shape)
    wide = a if _rank(a) >= _rank(b) else b
    model = a if a.shape == shape else b if b.shape == shape else None
    if model is None:
        return e.new(shape, wide.dtype, name)
    return e.like(model, name, wide.dtype)


def _rank(value: Value) -> tuple[bool, bool, int]:
    """Which dtype a result of two has: tensors of one element give way to others, narrow ones to wide ones."""
    return value.dtype.kind == "float", bool(value.shape), value.dtype.bits or 0


def _wide(e: Eager, name: str, a: Value, b: Value) -> Value:
    shape = broadcast(a.shape, b.shape)
    return e.like(a, name) if a.shape == shape else e.new(shape, a.dtype, name)
