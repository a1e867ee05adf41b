"""A graph of ONNX operators as the source of a `torch.nn.Module`; neither torch nor a weight is needed to write it.

    source = torch_source(bound(load("resnet18")))
    source.text        # a Python file: class Network, factory(), INPUTS
    source.fill(module, arrays)    # the graph's own weights into a module made from it

The file is flat: a layer for each operator with weights of its own, a function call for each other one, a local for
each tensor, deleted behind its last reader, so that eager execution holds what the graph's liveness says. Sizes are
those of the graph. An operator without a rule is an error that names all such operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from peakmem.conversion.torch_source import (  # noqa: F401  (rules register themselves)
    movement,
    pointwise,
    products,
    recurrent,
    reductions,
    windows,
)  # fmt: skip
from peakmem.conversion.torch_source.names import comment, literal
from peakmem.conversion.torch_source.writer import DTYPES, RULES, Call, Many, Refused, Weight, Writer, rule
from peakmem.errors import ConversionError, GraphError, PeakmemError
from peakmem.ir.graph import Graph, Operator

if TYPE_CHECKING:
    import numpy as np

MOST_REASONS = 8
# kinds of operators an error names


@dataclass(frozen=True, slots=True)
class Source:
    """A written module."""

    text: str
    # of the Python file
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    # (name, dtype, shape)
    outputs: tuple[str, ...]
    weights: tuple[Weight, ...]
    # where each stored tensor of the graph stands in the module

    def fill(self, module: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Copy `arrays`, by the graph's tensor names, into a module made from the text.

        Raises:
            KeyError: an array is missing. RuntimeError: one has another shape.
        """
        import numpy
        import torch

        state = module.state_dict()
        for weight in self.weights:
            array = arrays[weight.tensor]
            array = weight.change(array) if weight.change is not None else array
            there = state[weight.path]
            there.copy_(torch.from_numpy(numpy.array(array)).reshape(there.shape))


def torch_source(graph: Graph) -> Source:
    """The Python source of a module that computes what `graph` does.

    Args:
        graph: bound and inferred, with ONNX's operators, before any pass.

    Raises:
        ConversionError: operators without a rule, by op type with counts and reasons.
        PeakmemError: inputs or outputs without a size.
    """
    graph = _with_biases(graph)
    writer = Writer(graph, _uses(graph))
    inputs = _inputs(writer)
    last, refused = _last_readers(graph), Counter[tuple[str, str]]()
    for step, operator in enumerate(graph.operators):
        if _told(writer, operator):
            continue
        try:
            _operator(writer, operator)
        except Refused as fault:
            refused[_kind(operator), str(fault)] += 1
            for name in operator.outputs:
                writer.computed.setdefault(name, "refused")
            writer.passing.clear()
            continue
        gone = [writer.computed[name] for name in last.get(step, ()) if name in writer.computed]
        gone += writer.passing
        writer.passing.clear()
        if gone:
            writer.lines.append(f"del {', '.join(gone)}")
    if refused:
        raise _no_rule(graph, refused)
    try:
        results = [writer.read(name) for name in graph.outputs]
    except Refused as fault:
        raise PeakmemError(f"an output cannot be written: {fault}", where=graph.name) from None
    return Source(_text(writer, inputs, results), inputs, graph.outputs, tuple(writer.weights))


def _kind(operator: Operator) -> str:
    return f"{operator.domain}:{operator.op_type}" if operator.domain else operator.op_type


def _no_rule(graph: Graph, refused: Counter[tuple[str, str]]) -> ConversionError:
    total = sum(refused.values())
    shown = [
        f"{count} × {comment(kind)}" + (f" ({reason})" if reason else "")
        for (kind, reason), count in refused.most_common(MOST_REASONS)
    ]
    more = len(refused) - len(shown)
    listed = ", ".join(shown) + (f" and {more} more kinds" if more > 0 else "")
    return ConversionError(
        f"{total} of {len(graph.operators)} operators cannot be written for PyTorch: {listed}",
        operators=tuple(sorted({comment(kind) for kind, _ in refused})), where=comment(graph.name),
    )  # fmt: skip


def _operator(writer: Writer, operator: Operator) -> None:
    """Write the statements of one operator."""
    if operator.subgraphs:
        raise Refused("with a body")
    if operator.fused:
        raise Refused("merged by a pass")
    translate = RULES.get(_kind(operator))
    if translate is None:
        raise Refused("")
    for name in operator.inputs:
        if name and writer.computed.get(name) == "refused":
            writer.shape(name)
    call = Call(writer, operator)
    try:
        made = translate(call)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise Refused("attributes that do not fit its inputs") from None
    if isinstance(made, Many):
        targets = [_local(writer, operator, name) for name in operator.outputs]
        writer.lines.append(f"{', '.join(targets)}{',' if len(targets) == 1 else ''} = {made}")
        writer.passing += [
            target for name, target in zip(operator.outputs, targets, strict=True) if not _read(writer, name)
        ]
        return
    for name, expression in zip(operator.outputs, [made] if isinstance(made, str) else made, strict=False):
        if name and (_read(writer, name) or name == operator.outputs[0]):
            target = _local(writer, operator, name)
            writer.lines.append(f"{target} = {expression}")
            if not _read(writer, name):
                writer.passing.append(target)


def _read(writer: Writer, name: str) -> bool:
    return bool(name) and (writer.uses[name] > 0 or name in writer.graph.outputs)


def _local(writer: Writer, operator: Operator, name: str) -> str:
    stem = operator.name or operator.op_type
    if len(operator.outputs) > 1:
        stem += f"_{operator.outputs.index(name)}"
    local = writer.locals.make(stem, operator.op_type)
    if name:
        writer.computed[name] = local
    return local


def _told(writer: Writer, operator: Operator) -> bool:
    """Whether all results follow from the graph, so that nothing has to be computed."""
    tensors = [writer.graph.tensors[name] for name in operator.outputs if name]
    return bool(tensors) and all(tensor.values is not None for tensor in tensors)


def _uses(graph: Graph) -> Counter[str]:
    """Readers of every tensor; those of a stored one are counted for the one whose bytes it shares, too."""
    uses: Counter[str] = Counter()
    for operator in graph.operators:
        outputs = [graph.tensors[name] for name in operator.outputs if name]
        if outputs and all(tensor.values is not None for tensor in outputs):
            continue
        for name in operator.reads:
            uses[name] += 1
            storage = graph.tensors[name].storage if name in graph.tensors else ""
            if storage and storage != name:
                uses[storage] += 1
    for name in graph.outputs:
        if graph.tensors[name].role == "constant":
            uses[name] += 1
    return uses


def _last_readers(graph: Graph) -> dict[int, list[str]]:
    """Tensors to delete behind each step: those that operators make and nobody reads later."""
    kept = {*graph.inputs, *graph.outputs}
    last: dict[int, list[str]] = {}
    made = {name for operator in graph.operators for name in operator.outputs}
    seen: dict[str, int] = {}
    for step, operator in enumerate(graph.operators):
        for name in operator.reads:
            if name in made and name not in kept:
                seen[name] = step
    for name, step in seen.items():
        last.setdefault(step, []).append(name)
    return last


def _with_biases(graph: Graph) -> Graph:
    """MatMul and the Add of a vector behind it as one Gemm-like operator, as both came from one linear layer."""
    consumers, uses, outputs = graph.consumers(), _uses(graph), {*graph.outputs}
    writer = Writer(graph, uses)
    operators = list(graph.operators)
    gone: set[int] = set()
    for step, operator in enumerate(graph.operators):
        if _kind(operator) != "MatMul" or not writer.own(operator.inputs[1]):
            continue
        product, matrix = operator.outputs[0], graph.tensors[operator.inputs[1]]
        readers = consumers.get(product, [])
        if len(matrix.shape or ()) != 2 or product in outputs or len(readers) != 1:
            continue
        add = graph.operators[readers[0]]
        if _kind(add) != "Add" or len(add.inputs) != 2:
            continue
        bias = add.inputs[1] if add.inputs[0] == product else add.inputs[0]
        same = graph.tensors[bias].dtype == matrix.dtype == graph.tensors[operator.inputs[0]].dtype
        if bias == product or not same or not writer.own(bias) or graph.tensors[bias].shape != (matrix.shape or ())[1:]:
            continue
        operators[step] = replace(
            operator, op_type="Linear", domain="peakmem.torch", inputs=(*operator.inputs, bias), outputs=add.outputs
        )
        gone.add(readers[0])
    return replace(graph, operators=tuple(op for step, op in enumerate(operators) if step not in gone))


@rule("peakmem.torch:Linear")
def _linear(call: Call) -> str:
    return f"{products.linear(call, 1, call.input(2), transposed=False)}({call.read()})"


def _inputs(writer: Writer) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """The inputs of the graph, each with a local of its own."""
    rows = []
    for name in writer.graph.inputs:
        tensor = writer.graph.tensors[name]
        try:
            shape, dtype = writer.shape(name), writer.dtype(tensor)
        except Refused as fault:
            raise GraphError(f"an input has {fault}", where=comment(name)) from None
        writer.computed[name] = writer.locals.make(name, "input")
        rows.append((name, next(key for key, value in DTYPES.items() if value == dtype), shape))
    return tuple(rows)


def _text(writer: Writer, inputs: tuple[tuple[str, str, tuple[int, ...]], ...], results: list[str]) -> str:
    """The whole file."""
    graph = writer.graph
    arguments = ", ".join(["self", *(writer.computed[name] for name in graph.inputs)])
    rows = "\n".join(f"    ({name!a}, {dtype!a}, {literal(shape)})," for name, dtype, shape in inputs)
    body = "\n        ".join(writer.lines)
    made = "\n        ".join(writer.layers)
    given = ", ".join(results)
    return f'''"""{comment(graph.name)}, written by peakmem from {len(graph.operators)} operators.

One local for each tensor, deleted behind its last reader; functions are not in-place. Sizes are fixed. Weights are
random: the file is for measuring memory.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

INPUTS = [
{rows}
]
# (name, dtype, shape)
WEIGHTED = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Linear,
)


def weight(shape, dtype=torch.float32):
    """A parameter that no layer holds."""
    return nn.Parameter((torch.randn(shape) * 0.02).to(dtype))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        {made or "pass"}

    def forward({arguments}):
        {body or "pass"}
        return {given if len(results) == 1 else f"({given})"}


def factory():
    """The network, ready to run; weights are drawn so that values neither grow nor vanish (He et al., 2015)."""
    network = Network()
    for layer in network.modules():
        if isinstance(layer, WEIGHTED):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return network.eval()


model = factory
'''
