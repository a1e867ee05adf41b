"""A graph made ready to be trained: which constants learn, which operators run, when a tensor is read last.

What cannot be trained from a file is refused here, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from peakmem.dtypes import BFLOAT16, FLOAT16, DType
from peakmem.errors import GraphError, UnboundDimension, UsageError
from peakmem.ir.dims import Symbol, format_shape
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.kinds import BIASES, NORM_AFFINE, QUANTIZE, STATISTICS, WEIGHTS, key
from peakmem.ir.shapes.infer import infer
from peakmem.training.saved import idioms
from peakmem.training.saved.paths import module_path, parameter_name
from peakmem.training.scenario import Scenario

PURE = {"bf16": BFLOAT16, "bf16-master": BFLOAT16, "fp16": FLOAT16}
NARROW = {"amp-bf16": BFLOAT16, "amp-fp16": FLOAT16}
# precisions of a scenario: what everything is kept in, what autocast computes products in

QUANTISED = QUANTIZE | {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear"}


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of the forward."""

    operator: Operator
    kind: str
    module: str
    frees: tuple[str, ...]
    # tensors that nobody reads after it
    residual: bool
    # a sum that only a ReLU reads


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant that is stored."""

    tensor: Tensor
    name: str
    # as PyTorch would call it
    trains: bool
    kept: bool
    # a parameter or a buffer; a frozen parameter is a parameter that does not train


@dataclass(frozen=True, slots=True)
class Network:
    """What `walk` runs."""

    graph: Graph
    steps: tuple[Step, ...]
    weights: tuple[Weight, ...]
    narrow: DType | None
    notes: tuple[str, ...]
    norms: int
    # batch norms: each has a counter of 8 bytes besides

    def weight(self, name: str) -> Weight | None:
        """The stored constant of this name."""
        return next((weight for weight in self.weights if weight.tensor.name == name), None)


def prepared(graph: Graph, scenario: Scenario, *, attention: str = "fused") -> Network:
    """The network that a graph describes, under a scenario.

    Raises:
        UnboundDimension: a dimension has no value yet.
        GraphError: there is nothing to train: no operators, no parameters, integer arithmetic.
    """
    _trainable(graph)
    graph, notes = _all_tokens(graph)
    pure = PURE.get(scenario.precision)
    if pure is not None:
        graph = replace(graph, tensors={name: _as(tensor, pure) for name, tensor in graph.tensors.items()})
    graph, found = idioms.raised(graph, attention=attention)
    notes += _said(found)
    weights = _weights(graph, scenario)
    if not any(weight.trains for weight in weights):
        raise GraphError(
            "nothing in this network learns: it stores no floating parameters" if not any(w.kept for w in weights)
            else "no parameter is trained: all are frozen", where=graph.source or graph.name,
            hint="--freeze with fewer names" if scenario.freeze else "",
        )  # fmt: skip
    kinds = Counter(key(operator) for operator in graph.operators)
    if kinds["Conv"] > 3 and not kinds["BatchNormalization"] and _biased(graph) and graph.format != "zoo":
        notes += ("no batch norm is in this file and each convolution has a bias: norms that were folded on export are "
                  "trained with PyTorch and are missing here",)  # fmt: skip
    if not kinds["Dropout"]:
        notes += ("the graph has no dropout; where the network in training has some, its masks come on top",)
    return Network(
        graph, _steps(graph), weights, NARROW.get(scenario.precision), notes, kinds["BatchNormalization"]
    )  # fmt: skip


def _trainable(graph: Graph) -> None:
    where = graph.source or graph.name
    if graph.weights_only or not graph.operators:
        raise GraphError("the source holds weights and no operators, so no step can be run", where=where,
                         hint="its config.json, or an ONNX file")  # fmt: skip
    for operator in graph.operators:
        kind = key(operator)
        for at in WEIGHTS.get(kind, ()):
            weight = graph.tensors.get(operator.inputs[at]) if at < len(operator.inputs) else None
            if (
                weight is not None
                and weight.role == "constant"
                and weight.dtype is not None
                and weight.dtype.kind != "float"
            ):
                raise GraphError(
                    f"its weight is {weight.dtype}: integers have no gradient", where=operator.name,
                    expected="the network before it was quantised",
                )  # fmt: skip
        if kind in QUANTISED or (operator.domain == "com.microsoft" and operator.op_type.startswith("QLinear")):
            raise GraphError(
                f"{operator.op_type} computes with integers, through which no gradient goes", where=operator.name,
                expected="the network before it was quantised",
            )  # fmt: skip
        if operator.subgraphs:
            raise GraphError(
                f"{operator.op_type} decides while it runs what is computed, so the file does not tell what is kept",
                where=operator.name, expected="a network without branches and loops",
            )  # fmt: skip
        for name in operator.outputs:
            tensor = graph.tensors.get(name)
            if name and (tensor is None or tensor.shape is None or tensor.count is None):
                raise _unbound(graph, tensor)
    for name in graph.inputs:
        if graph.tensors[name].count is None:
            raise _unbound(graph, graph.tensors[name])
    floats = [name for name in graph.outputs if _is_float(graph.tensors[name])]
    if not floats:
        raise GraphError(
            "no output of this network is a floating number, so there is no loss to train with", where=where
        )


def _unbound(graph: Graph, tensor: Tensor | None) -> UnboundDimension:
    symbols = [dim for dim in (tensor.shape or ()) if isinstance(dim, Symbol)] if tensor is not None else []
    name = tensor.name if tensor is not None else "an output"
    shown = format_shape(tensor.shape) if tensor is not None else "?"
    hint = "--batch 1" if not symbols or symbols[0].is_computed else f"--dim {symbols[0]}=1 (or --batch 1)"
    return UnboundDimension(f"the size of {name!r} is not known: {shown}", where=graph.source or graph.name, hint=hint)


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype is not None and tensor.dtype.kind == "float"


def _as(tensor: Tensor, dtype: DType) -> Tensor:
    return replace(tensor, dtype=dtype) if _is_float(tensor) else tensor


def _all_tokens(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """Training needs the scores of every token: without the operators that leave only the last one's."""
    names = {
        op.outputs[0]: op.inputs[0] for op in graph.operators if op.domain == "peakmem" and op.op_type == "LastToken"
    }
    if not names:
        return graph, ()
    kept = tuple(
        replace(op, inputs=tuple(names.get(name, name) for name in op.inputs))
        for op in graph.operators
        if (op.outputs[:1] != op.outputs[:0] and op.outputs[0] not in names) or not op.outputs
    )
    made = {name for op in kept for name in op.outputs}
    tensors = {
        name: replace(tensor, shape=None, values=None) if name in made else tensor
        for name, tensor in graph.tensors.items()
        if name not in names
    }
    outputs = tuple(names.get(name, name) for name in graph.outputs)
    graph = infer(replace(graph, operators=kept, tensors=tensors, outputs=outputs))
    return graph, ("the scores of all tokens are computed, as training needs them",)


_TOLD = {
    "linear": "a product and the sum after it are one linear layer",
    "gelu": "GELU written out is one operator",
    "silu": "x · sigmoid(x) is one operator",
    "hardswish": "x · hardsigmoid(x) is one operator",
    "layer norm": "a layer norm written out is one operator",
    "attention": "attention written out is one kernel (scaled_dot_product_attention), which keeps no scores",
}


def _said(found: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{_TOLD[name]} ({count}×)" for name, count in found.items() if name != "linear")


def _weights(graph: Graph, scenario: Scenario) -> tuple[Weight, ...]:
    roles: dict[str, str] = {}
    read: dict[str, None] = {}
    for operator in graph.operators:
        kind = key(operator)
        for at, name in enumerate(operator.inputs):
            if not name or graph.tensors[name].role != "constant":
                continue
            read[name] = None
            if at in STATISTICS.get(kind, ()):
                roles[name] = "statistic"
            elif at in WEIGHTS.get(kind, ()) or at in BIASES.get(kind, ()) or at in NORM_AFFINE.get(kind, ()):
                roles.setdefault(name, "weight")
    hit: set[str] = set()
    found, known = [], set()
    for name in read:
        tensor = graph.tensors[name]
        root = graph.tensors.get(tensor.storage, tensor) if tensor.storage else tensor
        if root.name in known:
            continue
        known.add(root.name)
        role = roles.get(name, "")
        kept = bool(role) or (root.parameter and (root.count or 0) > 1 and _is_float(root))
        if not kept:
            if (root.values is not None and not _is_float(root)) or (root.count or 0) <= 1:
                continue  # a number of the code
            role = "statistic"
        title = parameter_name(name, graph.format)
        frozen = [
            pattern for pattern in scenario.freeze if fnmatchcase(title, pattern) or title.startswith(pattern + ".")
        ]
        hit.update(frozen)
        found.append(Weight(root, title, kept and role != "statistic" and _is_float(root) and not frozen, kept))
    for pattern in scenario.freeze:
        if pattern not in hit:
            raise UsageError(f"no parameter is called {pattern!r}", hint="--freeze 'layer1.*' (a pattern of names)")
    return tuple(found)


def _biased(graph: Graph) -> bool:
    return all(len(op.inputs) > 2 and op.inputs[2] for op in graph.operators if key(op) == "Conv")


def _steps(graph: Graph) -> tuple[Step, ...]:
    last: dict[str, int] = {}
    for at, operator in enumerate(graph.operators):
        for name in (*operator.reads, *(name for name in operator.outputs if name)):
            last[name] = at
    ends: dict[int, list[str]] = {}
    keep = set(graph.outputs)
    for name, at in last.items():
        if name not in keep and graph.tensors[name].role != "constant":
            ends.setdefault(at, []).append(name)
    readers = graph.consumers()
    found = []
    for at, operator in enumerate(graph.operators):
        kind = key(operator)
        after = readers.get(operator.outputs[0], []) if operator.outputs else []
        residual = kind == "Add" and len(after) == 1 and key(graph.operators[after[0]]) == "Relu"
        found.append(Step(operator, kind, module_path(operator, graph), tuple(ends.get(at, ())), residual))
    return tuple(found)


def names_of(weights: Sequence[Weight]) -> list[str]:
    """The names of those that train."""
    return [weight.name for weight in weights if weight.trains]
