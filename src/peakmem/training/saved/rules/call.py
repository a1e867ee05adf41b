"""One operator about to run, and the table of rules that run it.

A rule gets a Call and gives the Values of the operator's outputs; it stands under the operator's name as
`ir.kinds.key` gives it. An operator without a rule is run by `unknown`, which keeps everything and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from peakmem.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType
from peakmem.ir.graph import Graph, Operator
from peakmem.ir.kinds import native
from peakmem.training.saved import autocast, pointwise
from peakmem.training.saved.eager import Dims, Eager, Value


@dataclass(slots=True)
class Call:
    """One operator about to run."""

    e: Eager
    graph: Graph
    operator: Operator
    kind: str
    values: list[Value | None]
    # of the inputs; None for an absent one and for a number that the code would hold
    free: frozenset[int]
    # positions of inputs that nobody reads after this operator
    narrow: DType | None = None
    # under autocast: the dtype that products are computed in
    residual: bool = False
    # a sum whose only reader is a ReLU: written over the branch, as residual networks have it

    @property
    def native(self) -> str:
        """The operator's name as its format has it."""
        return native(self.operator)

    def x(self, at: int = 0) -> Value:
        """An input that has to be there."""
        value = self.values[at]
        assert value is not None, f"{self.operator.name} has no input {at}"
        return value

    def maybe(self, at: int) -> Value | None:
        """An input that may be absent."""
        return self.values[at] if at < len(self.values) else None

    def shape(self, at: int = 0) -> Dims:
        """The shape of an output, as the graph has it."""
        return tuple(int(dim) for dim in self.graph.tensors[self.operator.outputs[at]].shape or ())  # type: ignore[arg-type]

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute of the operator."""
        return self.operator.attributes.get(name, default)

    def numbers(self, at: int) -> tuple[Any, ...] | None:
        """The content of a small constant input."""
        if at >= len(self.operator.inputs) or not self.operator.inputs[at]:
            return None
        return self.graph.tensors[self.operator.inputs[at]].values

    def product(self, *values: Value | None) -> list[Value | None]:
        """Factors in the dtype that autocast computes products in."""
        return [None if value is None else autocast.lowered(self.e, value, self.narrow) for value in values]

    def wide(self, value: Value, operator: str) -> Value:
        """An operand in float32 where autocast wants it."""
        if self.narrow is not None and autocast.is_wide(operator, self.e.device) and value.dtype in (BFLOAT16, FLOAT16):
            return pointwise.cast(self.e, value, FLOAT32)
        return value


Rule = Callable[[Call], Sequence[Value | None]]
RULES: dict[str, Rule] = {}


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Stand under these names."""

    def put(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return put


def unknown(call: Call) -> Sequence[Value | None]:
    """An operator without a rule: all that goes in and comes out is taken to be kept, and the account has a doubt."""
    e = call.e
    inputs = [value for value in call.values if value is not None]
    made = []
    for at, name in enumerate(call.operator.outputs):
        dtype = call.graph.tensors[name].dtype if name else None
        made.append(e.new(call.shape(at), dtype, call.kind) if name and dtype is not None else None)
    there = [value for value in made if value is not None]
    e.doubt(sum(value.block.nbytes for value in (*inputs, *there)), call.kind, "no rule for what its backward keeps")
    if e.wants(*inputs) and there:
        kept = [e.keep(value) for value in (*inputs, *there)]
        wanted = [(value.shape, value.dtype) if value.wants else None for value in inputs]
        name = f"{call.kind}_backward"

        def run(_given: Sequence[Value | None]) -> list[Value | None]:
            held = [saved.get() for saved in kept]
            found: list[Value | None] = [None if item is None else e.new(item[0], item[1], name) for item in wanted]
            del held
            return found

        floats = [value for value in there if value.dtype.kind == "float"]
        if floats:
            e.link(call.kind, inputs, floats, run)
    return made


def same(x: Value) -> Value:
    """The tensor itself under another name."""
    y = x.again()
    y.edge = x.edge
    return y
