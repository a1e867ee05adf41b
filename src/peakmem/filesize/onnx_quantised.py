"""The graph that onnxruntime's `quantize_static` makes, with pairs of QuantizeLinear and DequantizeLinear (QDQ).

Scales for each output channel of weights (int8, zero points all zero), biases as int32, a scale and a zero point for
each tensor between operators. Rectifiers behind a convolution go; results of operators that only move values take the
scale of what they move. Names are the quantiser's (onnxruntime 1.31).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from peakmem.dtypes import FLOAT32, INT8, INT32, DType
from peakmem.filesize.content import Stored
from peakmem.ir.graph import Graph, Operator, Tensor

MOVING = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "AveragePool", "Slice", "Resize"}
)
# their result has the scale of their input
QUANTISED = MOVING | {
    "Conv", "ConvTranspose", "Gemm", "Clip", "Relu", "Pad", "MatMul", "Split", "Gather", "Where",
    "InstanceNormalization", "LayerNormalization", "BatchNormalization", "Add", "Mul", "LeakyRelu", "Sigmoid",
    "GlobalAveragePool", "Concat", "Softmax", "ArgMax",
}  # fmt: skip
# op types that are quantised unless told otherwise
NORMS = frozenset({"InstanceNormalization", "LayerNormalization", "BatchNormalization"})
RECTIFIERS = frozenset({"Relu", "Clip"})
MATRICES = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
POSITIVE = RECTIFIERS | {"Sigmoid", "HardSigmoid", "Softmax"}
# results that are never below zero, whose zero point is the smallest number
BELOW_ZERO, ABOVE_ZERO = 10, 1
# bytes of a zero point: negative numbers take ten
AFTER = "_DequantizeLinear_Output"


@dataclass(frozen=True, slots=True)
class Quantised:
    """The graph and its tensors."""

    graph: Graph
    stored: tuple[Stored, ...]
    open: int
    # zero points whose sign only the data tells
    described: tuple[Tensor, ...]
    # tensors that value_info lists


@dataclass(slots=True)
class _Work:
    graph: Graph
    dtype: DType
    stored: dict[str, Stored]
    pairs: dict[str, str] = field(default_factory=dict)
    # tensor -> the tensor whose scale it has
    made: list[Stored] = field(default_factory=list)
    nodes: list[Operator] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    # constant -> what is read in its place
    tied: dict[str, int] = field(default_factory=dict)
    # output channels of weights that a product reads, whoever else does
    replaced: dict[str, str] = field(default_factory=dict)
    # result -> what it is called after a rectifier went

    def floating(self, name: str) -> bool:
        """Whether a tensor flows between operators, or is written into the graph as a literal."""
        tensor = self.graph.tensors.get(name)
        if tensor is None or tensor.dtype is None or tensor.dtype.kind != "float":
            return False
        return tensor.role != "constant" or (name in self.stored and self.stored[name].literal)

    def pair(self, name: str, like: str = "") -> None:
        """Quantise a tensor between operators, with a scale of its own or that of another."""
        if name and self.floating(name) and name not in self.pairs:
            self.pairs[name] = self.pairs.get(like, name) if like else name

    def constant(self, name: str, channels: int, *, bias: bool = False, flowing: bool = False) -> None:
        """Quantise a stored tensor."""
        one = self.stored.get(name)
        if one is None or one.literal or not one.floating or name in self.renamed:
            return
        base = f"{name}_quantized" if bias else name
        scale = _named(f"{base}_scale", FLOAT32, channels or int(bias))
        kind = INT32 if bias else INT8 if flowing else self.dtype
        zero = _named(f"{base}_zero_point", kind, channels)
        kept = replace(one, name=f"{name}_quantized", dtype=kind)
        self.made += [kept, scale, zero]
        result = name if bias else f"{name}{AFTER}"
        told = {"axis": 0} if channels else {}
        inputs = (kept.name, scale.name, zero.name)
        self.nodes.append(Operator(f"{name}_DequantizeLinear", "DequantizeLinear", inputs, (result,), told))
        self.renamed[name] = result


def _named(name: str, dtype: DType, channels: int) -> Stored:
    shape = (channels,) if channels else ()
    return Stored(name, "quantisation", shape, dtype, max(1, channels), 1, 0)


def quantised(graph: Graph, stored: Sequence[Stored], dtype: DType, *, activations: bool = True) -> Quantised:
    """`graph` and its constants as `quantize_static(…, per_channel=True)` writes them; else weights alone."""
    work = _Work(graph, dtype, {one.name: one for one in stored})
    readers = graph.consumers()
    gone: set[str] = set()
    work.tied = {
        operator.inputs[1]: work.stored[operator.inputs[1]].channels
        for operator in graph.operators
        if operator.op_type in MATRICES and len(operator.inputs) > 1 and operator.inputs[1] in work.stored
    }
    if not activations:
        for one in stored:
            if one.role == "weight":
                work.constant(one.name, one.channels)
        return _finished(work, gone)
    for operator in graph.operators:
        if operator.domain or operator.op_type not in QUANTISED:
            continue
        if operator.op_type in RECTIFIERS:
            if _rectifies(work, graph, operator, readers):
                gone.add(operator.name)
                work.replaced[operator.inputs[0]] = operator.outputs[0]
                work.pairs.pop(operator.inputs[0], None)
                work.pair(operator.outputs[0])
            elif operator.inputs[0] in work.pairs:
                work.pair(operator.outputs[0])
            continue
        _inputs(work, operator)
        if operator.op_type == "Where" and not any(name in work.pairs for name in operator.inputs):
            continue
        for name in operator.outputs:
            if operator.op_type == "Gather" and operator.inputs[0] in work.renamed and work.floating(name):
                work.pairs.setdefault(name, operator.inputs[0])  # rows of a table have the table's scale
            elif operator.op_type in MOVING | {"Split"} and operator.inputs[0] in work.pairs:
                work.pair(name, operator.inputs[0])
            elif operator.op_type not in MOVING:
                work.pair(name)
    return _finished(work, gone)


def _rectifies(work: _Work, graph: Graph, operator: Operator, readers: dict[str, list[int]]) -> bool:
    """Whether an activation goes, as what is in front of it is quantised and read by nobody else."""
    given = operator.inputs[0]
    return given in work.pairs and len(readers.get(given, ())) == 1 and given not in graph.outputs


def _inputs(work: _Work, operator: Operator) -> None:
    kind = operator.op_type
    for at, name in enumerate(operator.inputs):
        one = work.stored.get(name) if name else None
        if one is None or one.literal:
            if kind not in MOVING | {"Pad", "Split", "Gather", "Where"} or (at == 0 and kind in ("Pad", "Split")):
                work.pair(name)
        elif kind in MATRICES | NORMS and at == 2:
            # a norm's weight has one scale, and so has its bias
            work.constant(name, one.elements if kind in MATRICES else 0, bias=True)
        elif kind in MATRICES and at == 1:
            work.constant(name, one.channels)
        elif one.floating and kind not in MOVING and not (kind in NORMS and at > 2):
            # what no product and no norm reads is as what flows: eight bits
            work.constant(name, work.tied.get(name, 0), flowing=kind not in NORMS and name not in work.tied)


def _finished(work: _Work, gone: set[str]) -> Quantised:
    graph = work.graph
    outputs = set(graph.outputs)
    tensors = dict(graph.tensors)
    nodes: list[Operator] = []
    unknown = 0
    makers = {name: operator.op_type for operator in graph.operators for name in operator.outputs}
    for name, like in work.pairs.items():
        if like == name:
            work.made.append(_named(f"{name}_scale", FLOAT32, 0))
            sure = name in work.replaced.values() or makers.get(name) in POSITIVE
            unknown += not sure
            point = _named(f"{name}_zero_point", INT8, 0)
            work.made.append(replace(point, packed=BELOW_ZERO if sure else (BELOW_ZERO + ABOVE_ZERO) // 2))
        sides = (f"{like}_scale", f"{like}_zero_point")
        given = f"{name}_QuantizeLinear_Input" if name in outputs else name
        result = name if name in outputs else f"{name}{AFTER}"
        between = f"{name}_QuantizeLinear_Output"
        nodes.append(Operator(f"{name}_QuantizeLinear", "QuantizeLinear", (given, *sides), (between,)))
        nodes.append(Operator(f"{name}_DequantizeLinear", "DequantizeLinear", (between, *sides), (result,)))
    kept = []
    for operator in graph.operators:
        if operator.name in gone:
            continue
        inputs = tuple(_read(work, name) for name in operator.inputs)
        made = tuple(work.replaced.get(name, name) for name in operator.outputs)
        made = tuple(
            f"{name}_QuantizeLinear_Input" if name in outputs and name in work.pairs else name for name in made
        )
        kept.append(replace(operator, inputs=inputs, outputs=made))
    plain = [one for name, one in work.stored.items() if name not in work.renamed]
    literals = tuple(graph.tensors[one.name] for one in work.stored.values() if one.literal)
    described = literals + tuple(
        graph.tensors[name]
        for operator in graph.operators for name in operator.outputs
        if name and name not in outputs and graph.tensors[name].shape is not None
    )  # fmt: skip
    whole = replace(graph, tensors=tensors, operators=(*kept, *_without_domain([*nodes, *work.nodes])))
    return Quantised(whole, (*plain, *work.made), unknown, described)


def _read(work: _Work, name: str) -> str:
    if name in work.renamed:
        return work.renamed[name]
    return f"{name}{AFTER}" if name in work.pairs else name


def _without_domain(nodes: Iterable[Operator]) -> list[Operator]:
    """Operators whose domain is not written at all."""
    return [replace(node, domain="\0") for node in nodes]
