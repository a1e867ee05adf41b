"""The graph as ONNX Runtime rewrites it: nodes with numbers, values with sizes. The one mutable thing of this package.

Node numbers matter: they decide in which order branches run (`order`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any

from peakmem.errors import GraphError
from peakmem.ir.dims import element_count
from peakmem.ir.graph import Graph

MICROSOFT, NCHWC = "com.microsoft", "com.microsoft.nchwc"
ALIGNMENT = 64
# kAllocAlignment on x86: tensors are asked for in whole multiples


@dataclass(slots=True)
class Value:
    """A tensor: of the file, or made by a rewriting."""

    name: str
    shape: tuple[int, ...]
    bits: int
    # of an element
    kind: str = "float"
    constant: bool = False
    values: tuple[Any, ...] | None = None
    outside: bool = False
    # a weight in another file, which is mapped: no bytes of the heap
    named: tuple[int | str, ...] | None = None
    # its shape in the engine's eyes, where the file leaves sizes open; "" for one without a name

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return (self.count * self.bits + 7) // 8

    @property
    def asked(self) -> int:
        """Bytes that its buffer is asked for."""
        return -(-self.nbytes // ALIGNMENT) * ALIGNMENT

    @property
    def fixed(self) -> bool:
        """Whether the file says its whole shape."""
        return self.named is None

    def is_alike(self, other: Value) -> bool:
        """Whether the engine can tell that both take the same bytes before they are computed."""
        mine, theirs = self.named or self.shape, other.named or other.shape
        return mine == theirs and "" not in mine and self.bits == other.bits

    @property
    def is_float(self) -> bool:
        """Of 32 bits: what the layout and the packing are written for."""
        return self.kind == "float" and self.bits == 32


@dataclass(slots=True)
class Node:
    """An operator of the rewritten graph."""

    number: int
    op_type: str
    inputs: list[str]
    outputs: list[str]
    domain: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    activation: str = ""
    # fused into it
    graphs: tuple[Graph, ...] = ()
    # inside it: of If, Loop and Scan
    captured: tuple[str, ...] = ()
    # values around it that they read

    def is_op(self, *op_types: str, domain: str = "") -> bool:
        """Whether it is one of these operators."""
        return self.domain == domain and self.op_type in op_types


class Network:
    """Nodes by number and values by name."""

    def __init__(self, graph: Graph, shapes: Mapping[str, tuple[int | str, ...]] = MappingProxyType({})) -> None:
        self.nodes: dict[int, Node] = {}
        self.values: dict[str, Value] = {}
        self.inputs = list(graph.inputs)
        self.outputs = list(graph.outputs)
        self.opset = graph.opsets.get("", 0)
        self.grown: list[Growth] = []
        # copies of weights that rewriting makes, in its order
        self._next = 0
        for tensor in graph.tensors.values():
            if tensor.shape is None or tensor.dtype is None or element_count(tensor.shape) is None:
                if tensor.role in ("input", "constant"):
                    raise GraphError("its size is not known", where=f"tensor {tensor.name!r}")
                continue
            sizes = tuple(size for size in tensor.shape if isinstance(size, int))
            bits = tensor.dtype.bits or 8 * (tensor.dtype.nbytes(1) or 0)
            self.values[tensor.name] = Value(
                tensor.name, sizes, bits, tensor.dtype.kind, tensor.role == "constant", tensor.values,
                named=None if tensor.role == "constant" else shapes.get(tensor.name),
            )  # fmt: skip
        for operator in graph.operators:
            self.add(
                operator.op_type, [*operator.inputs], [*operator.outputs], operator.domain, operator.attributes,
                operator.name, operator.subgraphs,
            )  # fmt: skip

    def add(
        self,
        op_type: str,
        inputs: list[str],
        outputs: list[str],
        domain: str = "",
        attributes: Mapping[str, Any] | None = None,
        name: str = "",
        bodies: tuple[Graph, ...] = (),
    ) -> Node:
        """A new node, with the next number."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        node = Node(self._next, op_type, inputs, outputs, domain, dict(attributes or {}), name)
        node.graphs = bodies
        node.captured = tuple(dict.fromkeys(name for body in bodies for name in body.captured()))
        self.nodes[node.number] = node
        self._next += 1
        return node

    def remove(self, node: Node) -> None:
        """Take a node out; its values stay known."""
        del self.nodes[node.number]

    def weight(self, name: str) -> Value | None:
        """The constant called `name`."""
        value = self.values.get(name)
        return value if value is not None and value.constant else None

    def new_value(self, stem: str, shape: tuple[int, ...], like: Value, *, constant: bool = False) -> Value:
        """A value of a new name."""
        number = len(self.values)
        while f"{stem}_{number}" in self.values:
            number += 1
        made = Value(f"{stem}_{number}", shape, like.bits, like.kind, constant)
        if like.named is not None and not constant:
            made.named = tuple(
                like.named[at] if at < len(like.named) and at < len(like.shape) and like.shape[at] == size else size
                for at, size in enumerate(shape)
            )
        self.values[made.name] = made
        return made

    def maker(self, name: str) -> Node | None:
        """The node that makes a value."""
        return next((node for node in self.nodes.values() if name in node.outputs), None) if name else None

    def readers(self, name: str) -> list[Node]:
        """Nodes that read a value, once for each place."""
        return [node for node in self.nodes.values() for one in (*node.inputs, *node.captured) if one == name]

    def reads(self) -> dict[str, int]:
        """How often each value is read, results of the network once more."""
        found: dict[str, int] = {}
        for node in self.nodes.values():
            for name in (*node.inputs, *node.captured):
                if name:
                    found[name] = found.get(name, 0) + 1
        for name in self.outputs:
            found[name] = found.get(name, 0) + 1
        return found

    def weights(self) -> list[Value]:
        """Constants that a node reads or that are results, each once."""
        read = self.reads()
        return [value for name, value in self.values.items() if value.constant and name in read]

    def order(self) -> list[Node]:
        """Nodes in the order in which they run.

        onnxruntime/core/graph/graph.cc, Graph::ReverseDFSFrom with NodeCompare: from the nodes without readers back,
        of several the one with the larger number first.
        """
        makers = {name: node for node in self.nodes.values() for name in node.outputs if name}
        read = {name for node in self.nodes.values() for name in (*node.inputs, *node.captured)}
        stack = [
            (node, False)
            for node in sorted(self.nodes.values(), key=lambda node: node.number)
            if not any(name in read for name in node.outputs)
        ]
        seen: set[int] = set()
        done: list[Node] = []
        while stack:
            node, leave = stack.pop()
            if leave:
                done.append(node)
                continue
            if node.number in seen:
                continue
            seen.add(node.number)
            stack.append((node, True))
            before = {makers[name].number: makers[name] for name in (*node.inputs, *node.captured) if name in makers}
            stack += [(before[number], False) for number in sorted(before) if number not in seen]
        return done


@dataclass(frozen=True, slots=True)
class Growth:
    """A copy of a weight made while the graph is rewritten."""

    level: str
    # "basic" or "layout": originals are freed at the level's end
    before_bytes: int
    after_bytes: int
    what: str
    outside: bool = False
    # the original is mapped, nothing is freed
