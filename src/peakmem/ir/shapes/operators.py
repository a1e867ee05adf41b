"""One operator: its rule or the fallback is asked, the answer checked, small contents followed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from peakmem.dtypes import DType
from peakmem.errors import ShapeError
from peakmem.ir.dims import Shape, Symbol, format_shape
from peakmem.ir.graph import Operator
from peakmem.ir.shapes.call import CONTENTS, Call, Rule, Spec, Specs, Unresolved
from peakmem.ir.shapes.facts import LARGEST_TENSOR, NEWEST_OPSET, NOTHING, Fact
from peakmem.ir.shapes.fold import fold
from peakmem.ir.shapes.rules import find_rule, is_foreign
from peakmem.ir.shapes.sequences import SEQUENCES

Fallback: TypeAlias = Callable[[Call, Mapping[str, int]], list[Spec] | None]
# (call, opsets) -> one spec per output, or None when it cannot tell either

UNEXPECTED = (
    TypeError, ValueError, IndexError, KeyError, AttributeError, ZeroDivisionError, OverflowError, struct.error
)  # fmt: skip
# what a rule trips over when attributes or inputs are not of the kind the operator takes


def infer_operator(
    operator: Operator, facts: list[Fact], opsets: Mapping[str, int], fallback: Fallback | None = None
) -> list[Fact]:
    """What is known of the outputs of one operator, given the `facts` of its inputs.

    Raises:
        Unresolved: no rule, or a rule that lacks something.
        ShapeError: the inputs contradict each other.
    """
    count = len(operator.outputs)
    if not count:
        return []
    domain = "" if operator.domain == "ai.onnx" else operator.domain
    call = Call(
        operator,
        [fact.shape for fact in facts],
        [fact.dtype for fact in facts],
        [fact.values for fact in facts],
        opsets.get(domain, 1 if domain else NEWEST_OPSET),
    )
    if not domain and operator.op_type in SEQUENCES:
        try:
            found = SEQUENCES[operator.op_type](operator, facts)
        except UNEXPECTED as fault:
            raise Unresolved(f"attributes or inputs do not fit the operator ({fault})") from fault
        if found.shape is not None:
            _check(call, found.shape, found.dtype)
        return [found, *[NOTHING] * (count - 1)]
    rule = find_rule(f"{domain}:{operator.op_type}" if domain else operator.op_type)
    specs = list(_ruled(rule, call, opsets, None if is_foreign(domain) else fallback))
    if len(specs) != count:
        specs = specs[:count] + [(None, None)] * (count - len(specs))
    for shape, dtype in specs:
        if shape is not None:
            _check(call, shape, dtype)
    if domain:
        return _with_contents(call, specs, f"{domain}:{operator.op_type}")
    # Contents are told of the outputs an operator should have; it may list more.
    values = [*fold(call, specs), *[None] * count]
    return [Fact(shape, dtype, value) for (shape, dtype), value in zip(specs, values, strict=False)]


def _with_contents(call: Call, specs: list[Spec], name: str) -> list[Fact]:
    """The facts of an operator of another domain, with the contents that it says follow."""
    known = CONTENTS.get(name)
    found: Sequence[tuple[Any, ...] | None] = ()
    if known is not None:
        try:
            found = known(call, specs)
        except (*UNEXPECTED, Unresolved):
            found = ()
    filled = (*found, *[None] * len(specs))
    return [Fact(shape, dtype, value) for (shape, dtype), value in zip(specs, filled, strict=False)]


def _ruled(rule: Rule | None, call: Call, opsets: Mapping[str, int], fallback: Fallback | None) -> Specs:
    """What the rule says; where it cannot tell, or there is none, what the fallback says."""
    if rule is None:
        specs = None if fallback is None else fallback(call, opsets)
        if specs is None:
            raise Unresolved("no shape rule for this operator")
        return _opened(call, specs)
    try:
        return rule(call)
    except Unresolved as fault:
        reason = fault
    except UNEXPECTED as fault:
        # Attributes of the wrong kind, say: not understood, and so not judged.
        reason = Unresolved(f"attributes or inputs do not fit the operator ({fault})")
    if fallback is None or any(shape is None and call.has(position) for position, shape in enumerate(call.shapes)):
        raise reason
    try:
        specs = fallback(call, opsets)
    except Unresolved:
        raise reason from None
    if specs is None:
        raise reason
    return _opened(call, specs)


def _opened(call: Call, specs: Specs) -> Specs:
    """What a fallback says, its own names of open dimensions replaced by ours."""
    known = {dim for shape in call.shapes for dim in shape or () if isinstance(dim, Symbol)}
    return [
        (
            None
            if shape is None
            else tuple(
                call.unknown_dim(axis, output) if isinstance(dim, Symbol) and dim not in known else dim
                for axis, dim in enumerate(shape)
            ),
            dtype,
        )
        for output, (shape, dtype) in enumerate(specs)
    ]


def _check(call: Call, shape: Shape, dtype: DType | None) -> None:
    """Refuse sizes that no tensor can have."""
    fault = _impossible(shape, dtype)
    if fault:
        raise call.error(fault)


def check_size(operator: Operator, shape: Shape, dtype: DType | None) -> None:
    """Refuse a declared size that no tensor can have."""
    fault = _impossible(shape, dtype)
    if fault:
        raise ShapeError(fault, where=f"operator {operator.name!r} ({operator.op_type})")


def _impossible(shape: Shape, dtype: DType | None) -> str:
    count = 1
    for dim in shape:
        if isinstance(dim, int):
            if dim < 0:
                return f"the output would have a negative dimension: {format_shape(shape)}"
            count *= dim
        elif isinstance(dim, Symbol):
            count = 0
        else:
            raise Unresolved(f"a dimension of the output is {dim!r}, not a whole number")
    if count > LARGEST_TENSOR // 16 and count * (dtype.bits or 8 if dtype else 8) // 8 > LARGEST_TENSOR:
        return f"the output {format_shape(shape)} is larger than any address space"
    return ""
