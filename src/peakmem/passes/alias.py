"""Mark outputs that share the buffer of an input: views, and elementwise work done in place; or undo it."""

from __future__ import annotations

from dataclasses import replace

from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.kinds import ELEMENTWISE, VIEWS, key


def own_buffers(graph: Graph) -> Graph:
    """`graph` with no sharing at all, that which its source tells of included."""
    if not any(operator.aliases for operator in graph.operators):
        return graph
    return replace(graph, operators=tuple(replace(operator, aliases=()) for operator in graph.operators))


def alias_views(graph: Graph) -> Graph:
    """Operators that only relabel bytes share the buffer of their input.

    Reshape, Flatten, Squeeze, Unsqueeze, Identity and Dropout at inference; a Transpose that moves
    no dimension other than 1; a Cast or Expand that changes nothing.
    """
    operators = tuple(
        replace(operator, aliases=((0, 0),)) if not operator.aliases and _is_view(operator, graph) else operator
        for operator in graph.operators
    )
    return replace(graph, operators=operators)


def _is_view(operator: Operator, graph: Graph) -> bool:
    if not any(operator.inputs[:1]) or not any(operator.outputs[:1]):
        return False
    if key(operator) in VIEWS:
        return True
    if operator.domain or operator.op_type not in ("Transpose", "Cast", "Expand"):
        return False
    source, result = graph.tensors.get(operator.inputs[0]), graph.tensors[operator.outputs[0]]
    if source is None or source.shape is None or result.shape is None or source.dtype is not result.dtype:
        return False
    if operator.op_type == "Transpose":
        order = operator.attributes.get("perm") or tuple(reversed(range(len(source.shape))))
        moved = [axis for axis in order if source.shape[axis] != 1]
        return moved == sorted(moved)
    return source.shape == result.shape


def alias_in_place(graph: Graph) -> Graph:
    """Elementwise operators write over an input where that is legal.

    Legal means: the input has the same shape and element width, its buffer is read by nobody
    later, and it belongs neither to the caller (a graph input), nor to the model (a constant), nor
    to a graph output.
    """
    last_read: dict[str, int] = {}
    for step, operator in enumerate(graph.operators):
        for name in operator.reads:
            last_read[name] = step
    outputs = set(graph.outputs)
    buffer_of: dict[str, int] = {}
    busy_until: list[int] = []
    # per buffer: the last step that reads it; -1 where it must never be written over
    forever = len(graph.operators)
    operators: list[Operator] = []

    def join(name: str, buffer: int) -> None:
        buffer_of[name] = buffer
        until = forever if name in outputs else last_read.get(name, -1)
        busy_until[buffer] = max(busy_until[buffer], until)

    for step, operator in enumerate(graph.operators):
        shared = dict(operator.aliases)
        if not shared and key(operator) in ELEMENTWISE and operator.outputs:
            for position, name in enumerate(operator.inputs):
                buffer = buffer_of.get(name)
                if (
                    buffer is not None
                    and busy_until[buffer] == step
                    and _same_bytes(graph.tensors[name], graph.tensors[operator.outputs[0]])
                ):
                    shared = {0: position}
                    operator = replace(operator, aliases=((0, position),))
                    break
        operators.append(operator)
        for position, name in enumerate(operator.outputs):
            if not name:
                continue
            source_buffer = buffer_of.get(operator.inputs[shared[position]]) if position in shared else None
            if position in shared and source_buffer is None:
                continue  # a view of something that must not be written over
            if source_buffer is None:
                busy_until.append(-1)
                source_buffer = len(busy_until) - 1
            join(name, source_buffer)
    return replace(graph, operators=tuple(operators))


def _same_bytes(source: Tensor, result: Tensor) -> bool:
    if source.shape is None or source.shape != result.shape or source.dtype is None or result.dtype is None:
        return False
    return source.dtype.bits == result.dtype.bits
