"""An ONNX graph as OpenVINO's CPU plugin runs it: folded constants, fused nodes, tensors in their order.

Common transformations fold normalisations and constant products into the convolution before them
(ConvMultiplyFusion, BatchNormDecomposition; src/common/transformations), the plugin fuses what follows a convolution or
product element by element, and a residual sum that is then written over its other operand
(src/plugins/intel_cpu/src/graph_optimizer.cpp: FuseConvolutionAndSimpleOperation, FuseConvolutionSumAndConvolutionSum-
Activation, FuseFullyConnectedAndSimpleOperation, FuseEltwiseAndSimple). Held against the executed layers that 2026.4.1
lists for the networks of the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from peakmem.errors import GraphError
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.passes.fold import fold_constants

CONVOLUTIONS = frozenset(("Conv", "ConvTranspose"))
PRODUCTS = frozenset(("Gemm", "MatMul"))
VIEWS = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"))
ACTIVATIONS = frozenset((
    "Abs", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish",
    "Neg", "PRelu", "Relu", "Round", "Sigmoid", "Softplus", "Sqrt", "Swish", "Tanh",
))  # fmt: skip
PAIRS = frozenset(("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Where", "Sum"))
FOLDED = frozenset(("BatchNormalization",))
UNFUSED = frozenset(("HardSigmoid",))
# run by themselves after a convolution: the node Math, in float
RULED = frozenset((
    *CONVOLUTIONS, *PRODUCTS, *VIEWS, *ACTIVATIONS, *PAIRS, *FOLDED, "MaxPool", "AveragePool", "GlobalAveragePool",
    "GlobalMaxPool", "Concat", "ReduceMean", "ReduceSum", "Softmax", "LRN", "Transpose", "Slice", "Split", "Gather",
    "Resize", "Pad", "LayerNormalization", "Cast", "InstanceNormalization",
))  # fmt: skip


@dataclass(slots=True)
class Weight:
    """A constant of a convolution or product, as stored."""

    name: str
    kind: str
    # "conv", "depthwise", "product" or "bias"
    shape: tuple[int, ...]
    # convolutions: output channels, input channels of a group, window; products: outputs, inputs
    nbytes: int
    groups: int = 1
    folded: bool = False
    # made anew, because a normalisation is folded into it
    turned: bool = False
    # of a product that stores inputs before outputs


@dataclass(slots=True, eq=False)
class Buffer:
    """Bytes that one or several tensors share, from the node that writes them to the last that reads."""

    name: str
    count: int
    start: int
    stop: int
    outside: bool = False
    # an input or result, with memory of its own


@dataclass(slots=True)
class Node:
    """One execution."""

    op_type: str
    name: str
    fused: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Network:
    """What is executed and what it reads."""

    nodes: list[Node]
    buffers: list[Buffer]
    weights: list[Weight]
    other_bytes: int
    # constants that are neither
    input_bytes: int
    output_bytes: int
    kept_bytes: int
    # of results that stay with the stream after a run
    unruled: list[Operator]
    unfitted: list[Operator]
    # with rules for tensors and weights, but kernels that no slope was fitted to


def network(graph: Graph) -> Network:
    """The executed network of `graph`.

    Raises:
        GraphError: a tensor without a size.
    """
    return _Reading(fold_constants(graph)).network()


class _Reading:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.readers: dict[str, list[Operator]] = {}
        for operator in graph.operators:
            for name in operator.reads:
                self.readers.setdefault(name, []).append(operator)
        self.buffers: dict[str, Buffer] = {}
        # by tensor
        self.nodes: list[Node] = []
        self.weights: list[Weight] = []
        self.done: set[str] = set()
        # names of operators that a node before them has taken in
        self.used: set[str] = set()
        # constants that belong to a weight
        self.unruled: list[Operator] = []

    def network(self) -> Network:
        graph = self.graph
        for name in graph.inputs:
            if graph.tensors[name].role == "input":
                self.buffers[name] = Buffer(name, self.count(name), 0, 0, outside=True)
        for name in graph.inputs:
            if name in self.buffers and self._wants_reorder(name):
                self._reorder(name)
        for operator in graph.operators:
            if operator.name not in self.done:
                self.operator(operator)
        for name in graph.outputs:
            if name not in self.buffers:
                continue
            buffer = self.buffers[name]
            if buffer.outside or len(graph.tensors[name].shape or ()) < 3:
                buffer.outside = True
                continue
            # an image leaves channels last and the type of inference behind
            buffer.stop = len(self.nodes)
            self.nodes.append(Node("Reorder", f"{name} reordered"))
        seen = list(dict.fromkeys(self.buffers.values()))
        inputs = sum(self.bytes(name) for name in graph.inputs if graph.tensors[name].role == "input")
        outputs = sum(self.bytes(name) for name in graph.outputs)
        return Network(
            self.nodes, seen, self.weights, self.others(), inputs, outputs, self.kept(), self.unruled,
            [one for one in graph.operators if self._unlike(one)],
        )  # fmt: skip

    def kept(self) -> int:
        """Results of Softmax: the stream's own tensor is not replaced by the request's (three networks measured)."""
        makers = {name: one for one in self.graph.operators for name in one.outputs}
        return sum(
            self.bytes(name) for name in self.graph.outputs if name in makers and makers[name].op_type == "Softmax"
        )

    def _unlike(self, operator: Operator) -> bool:
        """Convolutions over one dimension, transposed ones, and products of several rows with a constant."""
        if operator.op_type == "ConvTranspose":
            return True
        if operator.op_type not in CONVOLUTIONS | PRODUCTS or len(operator.inputs) < 2:
            return False
        weights = self.constant(operator.inputs[1])
        if weights is None:
            return False
        if operator.op_type == "Conv":
            return len(weights.shape or ()) == 3
        shape = self.graph.tensors[operator.inputs[0]].shape or ()
        return prod(dim for dim in shape[:-1] if isinstance(dim, int)) > 1

    def others(self) -> int:
        """Constants that run-time operators read besides weights."""
        found = 0
        for operator in self.graph.operators:
            for name in operator.inputs:
                tensor = self.graph.tensors.get(name)
                if tensor is not None and tensor.role == "constant" and name not in self.used and tensor.nbytes:
                    self.used.add(name)
                    found += tensor.nbytes
        return found

    def count(self, name: str) -> int:
        count = self.graph.tensors[name].count
        if count is None:
            if name in self.graph.inputs:
                raise GraphError(
                    f"the size of {name!r} is not known", where=self.graph.source, hint="--shape NAME=DIMS"
                )
            raise GraphError(
                f"the size of {name!r} depends on values, and is not known before it runs", where=self.graph.source
            )
        return count

    def bytes(self, name: str) -> int:
        self.count(name)
        return self.graph.tensors[name].nbytes or 0

    def constant(self, name: str) -> Tensor | None:
        tensor = self.graph.tensors.get(name)
        return tensor if tensor is not None and tensor.role == "constant" else None

    def _wants_reorder(self, name: str) -> bool:
        """An image is brought to channels last, and to the type of inference, before its first use."""
        return any(one.op_type in CONVOLUTIONS for one in self.readers.get(name, ()))

    def _reorder(self, name: str) -> None:
        at = len(self.nodes)
        self.nodes.append(Node("Reorder", f"{name} reordered"))
        self.buffers[name].stop = at
        self.buffers[name] = Buffer(name, self.count(name), at, at)

    # -- operators -----------------------------------------------------------------------

    def operator(self, operator: Operator) -> None:
        data = [name for name in operator.reads if name in self.buffers]
        if operator.op_type in VIEWS and data and len(operator.outputs) == 1:
            self.buffers[operator.outputs[0]] = self.buffers[data[0]]
            return
        if operator.op_type not in RULED or operator.domain not in ("", "ai.onnx"):
            self.unruled.append(operator)
        at = len(self.nodes)
        node = Node(operator.op_type, operator.name)
        self.nodes.append(node)
        self.touch(data, at)
        outputs = [name for name in operator.outputs if name and self.graph.tensors[name].count is not None]
        last = outputs[0] if outputs else ""
        over: Buffer | None = None
        weight: Weight | None = None
        if operator.op_type in CONVOLUTIONS or operator.op_type in PRODUCTS:
            weight = self.weight(operator)
        if operator.op_type in CONVOLUTIONS | PRODUCTS | PAIRS | ACTIVATIONS | FOLDED:
            last, over = self.fuse(operator, node, last, weight, at)
        if not last:
            return
        if over is not None:
            over.stop = max(over.stop, at)
            self.buffers[last] = over
            return
        for name in outputs:
            target = last if name == outputs[0] else name
            self.buffers[target] = Buffer(target, self.count(target), at, at)

    def touch(self, data: list[str], at: int) -> None:
        for name in data:
            self.buffers[name].stop = max(self.buffers[name].stop, at)

    def fuse(
        self, operator: Operator, node: Node, last: str, weight: Weight | None, at: int
    ) -> tuple[str, Buffer | None]:
        """Take in what follows; the tensor that comes out in the end, and the buffer it is written over."""
        over: Buffer | None = None
        heavy = weight is not None
        while True:
            readers = self.readers.get(last, [])
            if last in self.graph.outputs or not readers:
                return last, over
            after = self._swish(readers)
            if after is None:
                if len(readers) != 1:
                    return last, over
                after = readers[0]
                others = [name for name in after.reads if name != last]
                live = [name for name in others if self.constant(name) is None]
                if after.op_type in FOLDED and heavy:
                    self.fold(after, weight)
                elif not live and (
                    (after.op_type in PAIRS and others)
                    or (after.op_type in ACTIVATIONS and after.op_type not in UNFUSED)
                ):
                    pass
                elif after.op_type == "Add" and operator.op_type == "Conv" and over is None and len(live) == 1:
                    other = self.buffers.get(live[0])
                    if other is None or self.count(live[0]) != self.count(last) or other.outside:
                        return last, over
                    if any(one is not after and one.name not in self.done for one in self.left(live[0])):
                        return last, over
                    over = other
                else:
                    return last, over
            self.done.add(after.name)
            node.fused.append(after.op_type)
            self.touch([name for name in after.reads if name in self.buffers], at)
            last = after.outputs[0]

    def left(self, name: str) -> list[Operator]:
        """Readers of a tensor that have not run."""
        ran = {node.name for node in self.nodes}
        return [one for one in self.readers.get(name, ()) if one.name not in ran]

    def _swish(self, readers: list[Operator]) -> Operator | None:
        """x * sigmoid(x), which becomes one activation: its last operator."""
        if len(readers) != 2:
            return None
        gates = [one for one in readers if one.op_type in ("Sigmoid", "HardSigmoid")]
        joins = [one for one in readers if one.op_type == "Mul"]
        if len(gates) != 1 or len(joins) != 1 or gates[0].outputs[0] not in joins[0].inputs:
            return None
        if len(self.readers.get(gates[0].outputs[0], ())) != 1:
            return None
        self.done.add(gates[0].name)
        return joins[0]

    # -- weights -------------------------------------------------------------------------

    def weight(self, operator: Operator) -> Weight | None:
        name = operator.inputs[1] if len(operator.inputs) > 1 else ""
        tensor = self.constant(name)
        if tensor is None or not tensor.shape or not all(isinstance(dim, int) for dim in tensor.shape):
            return None
        shape = tuple(int(dim) for dim in tensor.shape if isinstance(dim, int))
        self.used.add(name)
        groups = int(operator.attributes.get("group", 1))
        if operator.op_type in PRODUCTS:
            inputs, outputs = shape[-2:] if len(shape) > 1 else (1, shape[0])
            turned = not operator.attributes.get("transB")
            if not turned:
                inputs, outputs = outputs, inputs
            made = Weight(name, "product", (outputs, inputs, *shape[:-2]), tensor.nbytes or 0, turned=turned)
        else:
            if operator.op_type == "ConvTranspose":
                shape = (shape[1] * groups, shape[0] // groups, *shape[2:])
            kind = "depthwise" if groups > 1 and shape[1] == 1 else "conv"
            made = Weight(name, kind, shape, tensor.nbytes or 0, groups)
        self.weights.append(made)
        bias = operator.inputs[2] if len(operator.inputs) > 2 else ""
        if (tensor := self.constant(bias)) is not None and tensor.nbytes:
            self.used.add(bias)
            self.weights.append(Weight(bias, "bias", (prod(made.shape[:1]),), tensor.nbytes))
        return made

    def fold(self, after: Operator, weight: Weight | None) -> None:
        """A normalisation behind a convolution: a new weight and one bias instead of four vectors."""
        self.used.update(name for name in after.inputs if self.constant(name) is not None)
        if weight is None:
            return
        weight.folded = True
        channels = weight.shape[0]
        self.weights.append(Weight(f"{after.name}.bias", "bias", (channels,), channels * 4))
