"""Sequences of tensors: what is known of each element, so that what is taken out has a shape.

A sequence itself has no shape and stays unknown; only its elements are followed, and only where
their number is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from peakmem.dtypes import INT64
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.graph import Operator
from peakmem.ir.shapes.call import Call, Unresolved
from peakmem.ir.shapes.facts import Fact
from peakmem.ir.shapes.movement import concat_shape

Elements: TypeAlias = tuple[Fact, ...]

MOST_ELEMENTS = 1024
# of a sequence that is followed


def _sequence(elements: Elements) -> Fact:
    if len(elements) > MOST_ELEMENTS:
        raise Unresolved(f"a sequence of more than {MOST_ELEMENTS} tensors is not followed")
    return Fact(None, None, None, elements)


def _elements(facts: list[Fact]) -> Elements:
    elements = facts[0].elements if facts else None
    if elements is None:
        raise Unresolved("what the sequence holds is known only while running")
    return elements


def _position(operator: Operator, facts: list[Fact], at: int, count: int) -> int | None:
    """The index given by input `at`, None when it is not given."""
    if at >= len(facts) or not operator.inputs[at]:
        return None
    values = facts[at].values
    if not values or not isinstance(values[0], int) or not -count <= values[0] < count:
        raise Unresolved("which element is meant is known only while running")
    return values[0] + count if values[0] < 0 else values[0]


def _construct(_: Operator, facts: list[Fact]) -> Fact:
    return _sequence(tuple(facts))


def _empty(*_: object) -> Fact:
    return _sequence(())


def _insert(operator: Operator, facts: list[Fact]) -> Fact:
    elements = _elements(facts)
    at = _position(operator, facts, 2, len(elements) + 1)
    at = len(elements) if at is None else at
    return _sequence((*elements[:at], facts[1], *elements[at:]))


def _erase(operator: Operator, facts: list[Fact]) -> Fact:
    elements = _elements(facts)
    at = _position(operator, facts, 1, len(elements))
    at = len(elements) - 1 if at is None else at
    return _sequence((*elements[:at], *elements[at + 1 :]))


def _at(operator: Operator, facts: list[Fact]) -> Fact:
    elements = _elements(facts)
    try:
        at = _position(operator, facts, 1, len(elements))
    except Unresolved:
        # Whichever it is, if they are all alike.
        if not elements or any(replace(one, values=None) != replace(elements[0], values=None) for one in elements):
            raise
        return replace(elements[0], values=None)
    return elements[at or 0]


def _length(_: Operator, facts: list[Fact]) -> Fact:
    known = facts[0].elements
    return Fact((), INT64, None if known is None else (len(known),))


def _split(operator: Operator, facts: list[Fact]) -> Fact:
    shape = facts[0].shape
    if shape is None:
        raise Unresolved("the shape that is split is not known")
    axis = operator.attributes.get("axis", 0) % len(shape)
    size = shape[axis]
    given = facts[1] if len(facts) > 1 and operator.inputs[1] else None
    sizes: tuple[Dim, ...]
    if given is not None and given.values is None:
        raise Unresolved("the parts are known only while running")
    if given is not None and given.values is not None and given.shape != ():
        sizes = given.values
    elif isinstance(size, Symbol):
        raise Unresolved("how many parts there are is not known")
    else:
        part = given.values[0] if given is not None and given.values else 1
        if not isinstance(part, int) or part < 1 or size // part > MOST_ELEMENTS:
            raise Unresolved("how many parts there are is not known")
        sizes = (*([part] * (size // part)), *([size % part] if size % part else []))
    keep = given is not None or operator.attributes.get("keepdims", 1)

    def one(part: Dim) -> Shape:
        return (*shape[:axis], *((part,) if keep else ()), *shape[axis + 1 :])

    return _sequence(tuple(Fact(one(part), facts[0].dtype) for part in sizes))


def _concat(operator: Operator, facts: list[Fact]) -> Fact:
    shapes = [element.shape for element in _elements(facts)]
    if not shapes or any(shape is None for shape in shapes):
        raise Unresolved("the shapes in the sequence are not known")
    whole: list[Shape] = [shape for shape in shapes if shape is not None]
    if operator.attributes.get("new_axis", 0):
        axis = operator.attributes["axis"] % (len(whole[0]) + 1)
        whole = [(*shape[:axis], 1, *shape[axis:]) for shape in whole]
    call = Call(operator, list(whole), [], [], 0)
    return Fact(concat_shape(call, whole), _elements(facts)[0].dtype)


SEQUENCES: dict[str, Callable[[Operator, list[Fact]], Fact]] = {
    "ConcatFromSequence": _concat,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SplitToSequence": _split,
}
