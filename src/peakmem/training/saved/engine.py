"""The backward, in the order and with the lifetimes of autograd's engine.

torch/csrc/autograd/engine.cpp, PyTorch 2.13: of the nodes that have all their gradients the one made last runs first,
and a parameter's gradient is added as soon as it is there. What a node saved goes when it has run. Gradients that meet
are added in place if the first one is no view and nobody else holds it (input_buffer.cpp, `accumulate`); a gradient
becomes a parameter's own without a copy if nobody else holds the tensor and it is laid out like the parameter
(functions/accumulate_grad.h).
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import prod

from peakmem.dtypes import DType
from peakmem.training.saved.eager import LAST, Dims, Eager, Node, Value, dense


class Leaf(Node):
    """A parameter and its gradient."""

    __slots__ = ("eager", "gradient", "name", "shape", "strides")

    def __init__(self, eager: Eager, name: str, value: Value) -> None:
        super().__init__("AccumulateGrad", "", LAST, [], [], 1, None)
        self.eager, self.name = eager, name
        self.shape, self.strides = value.shape, value.strides
        self.gradient: Value | None = None

    def add(self, new: Value) -> None:
        """Add to the gradient; `new` is given away by the caller."""
        if self.gradient is not None:
            return  # added in place
        taken = new.holders[0] <= 1 and new.strides == dense(self.shape, self.strides)
        value = new.again() if taken else self.eager.like(new, "aten::clone")
        self.eager.recorder.label(value.block.number, "gradient", self.name)
        self.gradient = value


def backward(eager: Eager, loss: Value, first: Value) -> None:
    """Run the backward of everything that led to `loss`; `first` is its own gradient, which the caller holds on to."""
    assert loss.edge is not None
    root = loss.edge[0]
    waiting = _readers(root)
    buffers: dict[Node, list[Value | None]] = {root: [first.again()]}
    ready: list[tuple[int, int, Node]] = [(-root.sequence, 0, root)]
    turns = 0
    recording, eager.recording = eager.recording, False
    while ready:
        node = heappop(ready)[2]
        given = buffers.pop(node, [None] * node.outputs)
        if isinstance(node, Leaf):
            eager.module = ""
            if given[0] is not None:
                node.add(given[0])
            del given
            continue
        eager.module = node.module
        assert node.run is not None, f"the backward of {node.operator} runs a second time"
        found = node.run(given)
        for at, value in enumerate(found):
            if value is not None and node.edges[at] is not None:
                found[at] = _fitted(eager, value, node.inputs[at])
            value = None
        del given
        node.run = None  # what it saved goes
        for at, edge in enumerate(node.edges):
            if edge is None:
                found[at] = None
                continue
            reader, slot = edge
            value, found[at] = found[at], None
            if value is not None:
                value = _own(value, found)
                buffer = buffers.setdefault(reader, [None] * reader.outputs)
                _meet(eager, buffer, slot, value)
                value = None
            waiting[reader] -= 1
            if waiting[reader] == 0:
                turns += 1
                heappush(ready, (-reader.sequence, turns, reader))
        node.edges = []
    eager.module = ""
    eager.recording = recording


def _readers(root: Node) -> dict[Node, int]:
    """How many gradients each node waits for."""
    counts: dict[Node, int] = {}
    seen, stack = {root}, [root]
    while stack:
        for edge in stack.pop().edges:
            if edge is not None:
                counts[edge[0]] = counts.get(edge[0], 0) + 1
                if edge[0] not in seen:
                    seen.add(edge[0])
                    stack.append(edge[0])
    return counts


def _own(value: Value, others: list[Value | None]) -> Value:
    """A Value of its own for each buffer, where an operator hands one tensor on to several."""
    return value.again() if any(other is value for other in others) else value


def _meet(eager: Eager, buffer: list[Value | None], slot: int, value: Value) -> None:
    """Put a gradient where a node waits for it, or add it to the one that is there."""
    old = buffer[slot]
    if old is None:
        buffer[slot] = value
    elif old.viewed or old.holders[0] > 1 or old.block.users > 1:
        eager.module, module = "", eager.module
        buffer[slot] = eager.like(old, "aten::add")
        eager.module = module


def _fitted(eager: Eager, value: Value, wanted: tuple[Dims, DType] | None) -> Value:
    """A gradient in the shape and dtype of the tensor that it is for (engine.cpp, `validate_outputs`)."""
    if wanted is None:
        return value
    shape, dtype = wanted
    if value.shape != shape:
        same = value.count == prod(shape)
        value = value.seen(shape) if same else eager.new(shape, value.dtype, "aten::sum")
    if value.dtype is not dtype:
        value = eager.like(value, "aten::_to_copy", dtype)
    return value
