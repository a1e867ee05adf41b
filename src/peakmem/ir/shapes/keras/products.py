"""Shape rules of Keras products: dense layers, einsum equations, embeddings, dot products, attention."""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.shapes.call import Call, Specs, broadcast, rule

LONGEST_EQUATION = 200


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation such as abc,cd->abd: letters of the input, of the kernel, of the result."""

    given: str
    kernel: str
    result: str

    def match_input(self, shape: Shape) -> dict[str, Dim]:
        """Sizes of the letters that the input has; dots stand for any number of axes."""
        return match(self.given, shape)


def match(letters: str, shape: Shape) -> dict[str, Dim]:
    """Which letter has which size; the axes that dots stand for are called 0, 1, ….

    Raises:
        ValueError: another rank, or a letter with two sizes.
    """
    head, dots, tail = letters.partition("...")
    if len(head) + len(tail) > len(shape) or (not dots and len(letters) != len(shape)):
        raise ValueError(f"{letters!r} is for another rank than {len(shape)}")
    spread = len(shape) - len(head) - len(tail)
    if spread > 10:
        raise ValueError("dots that stand for more than ten axes")
    named = head + "".join(str(axis) for axis in range(spread)) + tail
    sizes: dict[str, Dim] = {}
    for letter, size in zip(named, shape, strict=True):
        have = sizes.get(letter)
        if isinstance(have, int) and isinstance(size, int) and have != size and 1 not in (have, size):
            raise ValueError(f"{letter!r} is {have} and {size}")
        if have is None or isinstance(have, Symbol) or have == 1:
            sizes[letter] = size
    return sizes


def parse_equation(text: str) -> Equation:
    """The equation of an EinsumDense layer.

    Raises:
        ValueError: not of two operands and a result.
    """
    if len(text) > LONGEST_EQUATION:
        raise ValueError("too long")
    left, arrow, result = text.replace(" ", "").partition("->")
    operands = left.split(",")
    letters = "".join(operands) + result
    if not arrow or len(operands) != 2 or not letters.replace(".", "").isalpha():
        raise ValueError("two operands and a result are wanted")
    return Equation(operands[0], operands[1], result)


def spread(letters: str, sizes: dict[str, Dim]) -> Shape:
    """The shape that `letters` stand for."""
    out: list[Dim] = []
    head, dots, tail = letters.partition("...")
    out += [sizes[letter] for letter in head]
    if dots:
        out += [sizes[letter] for letter in sorted(sizes) if letter.isdigit()]
    return (*out, *(sizes[letter] for letter in tail))


def einsum_shape(call: Call, equation: str, shapes: list[Shape]) -> Shape:
    """The shape an equation makes of its operands."""
    text = equation.replace(" ", "")
    left, arrow, result = text.partition("->")
    operands = left.split(",")
    if len(text) > LONGEST_EQUATION or len(operands) != len(shapes):
        raise call.error(f"the equation {equation[:60]!r} is for {len(operands)} operands")
    sizes: dict[str, Dim] = {}
    try:
        for letters, shape in zip(operands, shapes, strict=True):
            for letter, size in match(letters, shape).items():
                have = sizes.get(letter)
                if isinstance(have, int) and isinstance(size, int) and have != size and 1 not in (have, size):
                    raise ValueError(f"{letter!r} is {have} and {size}")
                if have is None or isinstance(have, Symbol) or have == 1:
                    sizes[letter] = size
        if not arrow:
            letters = left.replace(",", "")
            result = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
        return spread(result, sizes)
    except (ValueError, KeyError) as fault:
        raise call.error(f"the equation {equation[:60]!r} does not fit ({fault})") from None


@rule("keras:EinsumDense")
def einsum_dense(call: Call) -> Specs:
    shape = einsum_shape(call, call.attr("equation", ""), [call.shape(0), call.shape(1)])
    return [(shape, call.dtype_attr("dtype", call.dtype()))]


@rule("keras:Einsum")
def einsum(call: Call) -> Specs:
    shapes = [call.shape(position) for position in range(len(call.op.inputs))]
    return [(einsum_shape(call, call.attr("equation", ""), shapes), call.dtype())]


@rule("keras:Dense")
def dense(call: Call) -> Specs:
    given, weight = call.shape(0), call.shape(1)
    if not given:
        raise call.error("a scalar has no features")
    if isinstance(given[-1], int) and isinstance(weight[0], int) and given[-1] != weight[0]:
        raise call.error(f"the kernel takes {weight[0]} features, the input has {given[-1]}")
    return [((*given[:-1], weight[-1]), call.dtype_attr("dtype", call.dtype()))]


@rule("keras:ReversibleEmbedding")
def reversed_embedding(call: Call) -> Specs:
    return [((*call.shape()[:-1], call.attr("units")), call.dtype_attr("dtype", call.dtype()))]


@rule("keras:Embedding", "keras:QuantizedEmbedding")
def embedding(call: Call) -> Specs:
    return [((*call.shape(1), call.shape(0)[-1]), call.dtype_attr("dtype", call.dtype()))]


@rule("keras:Matmul")
def matmul(call: Call) -> Specs:
    left, right = call.shape(0), call.shape(1)
    if call.attr("transB", 0) and len(right) >= 2:
        right = (*right[:-2], right[-1], right[-2])
    if not left or not right:
        raise call.error("a scalar has no matrix product")
    row: Shape = left[-2:-1]
    column: Shape = right[-1:] if len(right) > 1 else ()
    inner = right[-2] if len(right) > 1 else right[0]
    if isinstance(left[-1], int) and isinstance(inner, int) and left[-1] != inner:
        raise call.error(f"{left[-1]} columns do not go with {inner} rows")
    batches = [shape for shape in (left[:-2], right[:-2]) if shape]
    return [((*(broadcast(call, *batches) if batches else ()), *row, *column), call.dtype())]


@rule("keras:Dot")
def dot(call: Call) -> Specs:
    left, right = call.shape(0), call.shape(1)
    axes = call.attr("axes")
    if not axes:
        return matmul(call)
    first, second = call.axis(axes[0], len(left)), call.axis(axes[1], len(right))
    if isinstance(left[first], int) and isinstance(right[second], int) and left[first] != right[second]:
        raise call.error(f"axes of {left[first]} and {right[second]} do not go together")
    kept = [dim for axis, dim in enumerate(left) if axis != first]
    more = [dim for axis, dim in enumerate(right) if axis not in (0, second)]
    return [((*kept, *more) if len(kept) + len(more) > 1 else (*kept, *more, 1), call.dtype())]


@rule("keras:DotProductAttention")
def attention(call: Call) -> Specs:
    return [((*call.shape(0)[:-1], call.shape(2)[-1]), call.dtype())]
