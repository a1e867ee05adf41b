"""A subgraph while XNNPACK rewrites it: values and nodes that can change, with producers and consumers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from peakmem.engines.xnnpack.subgraph import ABSENT, Datatype, Node, Subgraph, Value

BITS = {
    "fp32": 32, "int32": 32, "qint32": 32, "qcint32": 32, "pfp32": 32, "fp16": 16, "bf16": 16, "pfp16": 16, "qcint4": 4,
    "qbint4": 4, "qint4": 4, "qcint2": 2, "qint2": 2,
}  # fmt: skip
# of an element; 8 otherwise


@dataclass(slots=True)
class Tensor:
    """xnn_value."""

    value: Value
    valid: bool = True
    fixed: bool = False
    # XNN_VALUE_FLAG_SHAPE_IS_STATIC
    producer: int = -1
    first_consumer: int = -1
    consumers: int = 0
    owned: int = 0
    # bytes that the runtime keeps for it

    @property
    def external(self) -> bool:
        return self.value.external_input or self.value.external_output

    @property
    def internal(self) -> bool:
        return self.valid and not self.external and not self.value.static

    @property
    def count(self) -> int:
        return math.prod(self.value.shape)

    @property
    def nbytes(self) -> int:
        """xnn_runtime_tensor_get_size."""
        return -(-self.count * BITS.get(self.value.datatype, 8) // 8)


@dataclass(slots=True)
class Call:
    """xnn_node."""

    node: Node
    inputs: list[int]
    outputs: list[int]
    valid: bool = True
    assumed: Datatype | None = None
    # of the first input, where the operator converts it by itself (XNN_FLAG_INLINE_LHS_PACKING)

    @property
    def type(self) -> str:
        return self.node.type if self.valid else "invalid"


class Work:
    """Values and nodes; indices of both are XNNPACK's ids."""

    def __init__(self, given: Subgraph) -> None:
        self.values = [Tensor(one) if one is not None else Tensor(Value(()), valid=False) for one in given.values]
        self.calls: list[Call] = []
        self.table = _grown(given.external_values, len(given.values))
        # entries that the table of values has room for

    def add_value(self, value: Value) -> int:
        self.values.append(Tensor(value))
        self.table = _grown(self.table, len(self.values))
        return len(self.values) - 1

    def define(self, node: Node) -> Call:
        call = Call(node, [at for at in node.inputs if at != ABSENT], list(node.outputs))
        self.calls.append(call)
        return call

    def replace(self, at: int, node: Node) -> Call:
        """A node that takes another's place (xnn_define_… and move_last_node_to)."""
        self.calls[at] = Call(node, [one for one in node.inputs if one != ABSENT], list(node.outputs))
        return self.calls[at]

    def remove(self, call: Call) -> None:
        call.valid = False
        call.inputs, call.outputs = [], []

    def analyse(self) -> None:
        """xnn_subgraph_analyze_consumers_and_producers: an external output counts as consumed once more."""
        for tensor in self.values:
            tensor.producer = tensor.first_consumer = -1
            tensor.consumers = 0
        for at, call in enumerate(self.calls):
            for value in dict.fromkeys(call.inputs) if call.valid else ():
                tensor = self.values[value]
                if not tensor.consumers:
                    tensor.first_consumer = at
                tensor.consumers += 1
            for value in call.outputs if call.valid else ():
                self.values[value].producer = at
        for tensor in self.values:
            tensor.consumers += tensor.value.external_output

    def clean(self) -> None:
        """xnn_subgraph_clean_up: what nothing reads goes, nodes close up, each behind what it needs."""
        again = True
        while again:
            self.analyse()
            again = False
            for tensor in self.values:
                if not tensor.valid or tensor.value.external_input or tensor.consumers:
                    continue
                if tensor.producer >= 0 and len(self.calls[tensor.producer].outputs) == 1:
                    self.remove(self.calls[tensor.producer])
                    again = True
                tensor.valid = False
        ready = {at for at, one in enumerate(self.values) if one.producer < 0 or one.value.external_input}
        left = [call for call in self.calls if call.valid]
        ordered: list[Call] = []
        while left:
            waiting = []
            for call in left:
                if ready.issuperset(call.inputs):
                    ordered.append(call)
                    ready.update(call.outputs)
                else:
                    waiting.append(call)
            if len(waiting) == len(left):
                ordered += waiting
                break
            left = waiting
        self.calls = ordered
        self.analyse()

    def short_circuit(self, given: int, result: int) -> bool:
        """Let all that read `result` read `given`; whether anything changed."""
        changed = False
        if self.values[result].value.external_output:
            source = self.values[given]
            if source.value.external_output or source.producer < 0:
                return False
            maker = self.calls[source.producer]
            changed = given in maker.outputs
            maker.outputs = [result if one == given else one for one in maker.outputs]
            self.values[result].producer = source.producer
            given, result = result, given
        for call in self.calls:
            if result in call.inputs:
                call.inputs = [given if one == result else one for one in call.inputs]
                changed = True
        self._count(given)
        return changed

    def _count(self, value: int) -> None:
        tensor = self.values[value]
        users = [at for at, call in enumerate(self.calls) if value in call.inputs]
        tensor.consumers = len(users) + tensor.value.external_output
        tensor.first_consumer = users[0] if users else -1

    def reshape(self, value: int, shape: Iterable[int]) -> None:
        self.values[value].value = replace(self.values[value].value, shape=tuple(shape))


def _grown(room: int, count: int) -> int:
    """xnn_subgraph_reserve_values and …_nodes: doubled, at least 64 and at most 512 more."""
    while room < count:
        room = max(min(room * 2, room + 512), room + 64)
    return room


def fill_gaps(count: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape whose first 0 is what is left of `count` elements (xnn_shape_fill_gaps)."""
    known = math.prod(one for one in shape if one) or 1
    return tuple(one or count // known for one in shape)
