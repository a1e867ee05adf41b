"""What a shape rule sees of one operator, and the registry of rules.

A rule is a function of a `Call` that returns one (shape, dtype) per output. It computes in plain
arithmetic that works for numbers and symbols alike, and raises ShapeError when inputs contradict
each other. A rule never guesses: what cannot be told is None, or a symbol when only a size is open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from peakmem.dtypes import DTYPES, DType
from peakmem.errors import ShapeError
from peakmem.ir.dims import Dim, Shape, Symbol, format_shape
from peakmem.ir.graph import Operator

Spec: TypeAlias = tuple[Shape | None, DType | None]
Specs: TypeAlias = Sequence[Spec]

DTYPE_CODES = (
    "", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16",
    "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn",
    "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4", "int4", "float4e2m1", "float8e8m0",
    "uint2", "int2", "float6e2m3", "float6e3m2",
)  # fmt: skip
# ONNX's numbers for element types, for dtype attributes that a front end left as a number


MOST_DIMS = 1024
# of one tensor; more are an overflow or an attack


class Unresolved(Exception):
    """A rule needs something that is not known (a shape, the content of an input)."""


class Call:
    """One operator with what is known of its inputs: `shapes`, `dtypes`, `values` by position."""

    __slots__ = ("dtypes", "op", "opset", "shapes", "values")

    def __init__(
        self,
        op: Operator,
        shapes: list[Shape | None],
        dtypes: list[DType | None],
        values: list[tuple[Any, ...] | None],
        opset: int,
    ) -> None:
        self.op = op
        self.shapes = shapes
        self.dtypes = dtypes
        self.values = values
        self.opset = opset

    # -- inputs --------------------------------------------------------------------------

    def has(self, position: int) -> bool:
        """Whether the input at `position` is given."""
        return position < len(self.op.inputs) and self.op.inputs[position] != ""

    def shape(self, position: int = 0) -> Shape:
        """Shape of an input that the rule cannot do without."""
        shape = self.shapes[position] if position < len(self.shapes) else None
        if shape is None:
            raise Unresolved(f"the shape of input {self._label(position)} is not known")
        return shape

    def dtype(self, position: int = 0) -> DType | None:
        """Dtype of an input, None when absent or unknown."""
        return self.dtypes[position] if position < len(self.dtypes) else None

    def value(self, position: int) -> tuple[Any, ...] | None:
        """Flat content of an input when it is a known small constant, else None."""
        return self.values[position] if position < len(self.values) else None

    def known(self, position: int) -> tuple[Any, ...]:
        """Flat content of an input that the rule cannot do without."""
        value = self.value(position)
        if value is None:
            raise Unresolved(f"input {self._label(position)} is computed while running")
        return value

    def length(self, position: int) -> int | None:
        """How many elements a one-dimensional input has, even when its content is not known."""
        value = self.value(position)
        if value is not None:
            return len(value)
        shape = self.shapes[position] if position < len(self.shapes) else None
        return shape[0] if shape is not None and len(shape) == 1 and isinstance(shape[0], int) else None

    # -- attributes ----------------------------------------------------------------------

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, or `default`."""
        return self.op.attributes.get(name, default)

    def ints(self, name: str, position: int | None = None) -> tuple[int, ...] | None:
        """Integers given as an attribute or, in newer operator sets, as input `position`.

        None when given as neither; Unresolved when the input is there without known content.
        """
        attribute = self.op.attributes.get(name)
        if attribute is not None:
            return tuple(attribute) if isinstance(attribute, tuple | list) else (attribute,)
        if position is None or not self.has(position):
            return None
        return self.known(position)

    def dtype_attr(self, name: str, default: DType | None = None) -> DType | None:
        """A dtype given as an attribute, by name or by ONNX's number; `default` without it.

        None for a dtype that peakmem does not know.
        """
        value = self.op.attributes.get(name)
        if value is None or value == 0:
            return default
        if isinstance(value, int):
            value = DTYPE_CODES[value] if 0 < value < len(DTYPE_CODES) else ""
        return DTYPES.get(value)

    # -- answers -------------------------------------------------------------------------

    def unknown_dim(self, axis: int, output: int = 0) -> Symbol:
        """A dimension that only running can tell; named so that `--dim NAME=VALUE` can set it."""
        outputs = self.op.outputs
        name = outputs[output] if output < len(outputs) else ""
        return Symbol(f"{name or self.op.name}.{axis}")

    def open_axes(self, shape: Shape, axes: Sequence[int] | None = None) -> Shape:
        """`shape` with the sizes of `axes` (all when None) left open."""
        dims = list(shape)
        for axis in range(len(shape)) if axes is None else axes:
            at = self.axis(axis, len(shape))
            dims[at] = self.unknown_dim(at)
        return tuple(dims)

    def unknown_shape(self, rank: int, output: int = 0) -> Shape:
        """A shape of which only the rank is known."""
        if rank > MOST_DIMS:
            raise self.error(f"the output would have {rank} dimensions")
        return tuple(self.unknown_dim(axis, output) for axis in range(rank))

    def error(self, what: str) -> ShapeError:
        """A ShapeError that names this operator and the shapes it was given."""
        shapes = ", ".join(format_shape(shape) for shape in self.shapes)
        return ShapeError(what, where=f"operator {self.op.name!r} ({self.op.op_type}) on {shapes}")

    def axis(self, value: int, rank: int) -> int:
        """`value` as a non-negative axis below `rank`."""
        axis = value + rank if value < 0 else value
        if not 0 <= axis < rank:
            raise self.error(f"axis {value} is outside a shape of rank {rank}")
        return axis

    def _label(self, position: int) -> str:
        name = self.op.inputs[position] if position < len(self.op.inputs) else ""
        return f"{position} ({name!r})" if name else str(position)


Rule: TypeAlias = Callable[[Call], Specs]
RULES: dict[str, Rule] = {}
# by op type; "domain:OpType" outside ONNX's own domain
Contents: TypeAlias = Callable[[Call, Specs], Sequence[tuple[Any, ...] | None]]
CONTENTS: dict[str, Contents] = {}
# what operators of other domains make of known small contents; ONNX's own stand in `fold`


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Register the decorated function for each of `op_types`."""

    def register(function: Rule) -> Rule:
        for op_type in op_types:
            if op_type in RULES:
                raise ValueError(f"two shape rules for {op_type}")
            RULES[op_type] = function
        return function

    return register


def contents(*op_types: str) -> Callable[[Contents], Contents]:
    """Register the decorated function for each of `op_types`: the flat content of each output, None where open."""

    def register(function: Contents) -> Contents:
        for op_type in op_types:
            if op_type in CONTENTS:
                raise ValueError(f"two ways to fold {op_type}")
            CONTENTS[op_type] = function
        return function

    return register


def broadcast(call: Call, *shapes: Shape) -> Shape:
    """NumPy's broadcasting of `shapes`; a symbol gives way to a number other than 1."""
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    rank = max(len(shape) for shape in shapes)
    out: list[Dim] = [1] * rank
    for shape in shapes:
        offset = rank - len(shape)
        for axis, dim in enumerate(shape, start=offset):
            have = out[axis]
            if have == dim or dim == 1:
                continue
            if have == 1 or isinstance(have, Symbol):
                out[axis] = have if have != 1 and isinstance(dim, Symbol) else dim
            elif not isinstance(dim, Symbol):
                raise call.error(f"dimensions {have} and {dim} cannot be broadcast together")
    return tuple(out)


def ceil_div(size: Dim, by: Dim) -> Dim:
    """size / by, rounded up."""
    return (size + (by - 1)) // by
