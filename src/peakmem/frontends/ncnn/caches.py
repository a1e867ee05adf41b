"""Inputs of language models whose shape is known but for the number of tokens.

The param file of a decoder says nothing about its inputs; its layers do: a norm knows the width of
what it reads, attention the heads of its key-value cache. Such inputs get symbolic dimensions
(`tokens`, `past`, `context`), so that three numbers do for dozens of caches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from peakmem.errors import ShapeError
from peakmem.ir.dims import Shape, Symbol
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.shapes.infer import infer

TOKENS, PAST, CONTEXT = Symbol("tokens"), Symbol("past"), Symbol("context")
USUAL = {"tokens": 1, "past": 127, "context": 128}
# one token after others
_NORMS = ("LayerNorm", "RMSNorm")
MOST_OPERATORS = 20_000


def with_caches(graph: Graph) -> Graph:
    """`graph` with symbolic shapes for the inputs of a decoder; other graphs as they are."""
    attention = [op for op in graph.operators if op.op_type == "SDPA" and op.attributes.get("kv_cache")]
    if not attention or len(graph.operators) > MOST_OPERATORS:
        return graph
    open_inputs = {name for name in graph.inputs if graph.tensors[name].shape is None}
    sources = _sources(graph, open_inputs)
    found: dict[str, Shape] = {}
    for operator in graph.operators:
        source = sources.get(operator.inputs[0], "") if operator.inputs else ""
        width = _width(operator)
        if source and width:
            found.setdefault(source, (TOKENS, width))
    for operator in attention:
        mask = sources.get(operator.inputs[3], "") if len(operator.inputs) > 3 else ""
        if mask:
            found.setdefault(mask, (TOKENS, CONTEXT))
    try:
        shapes = _probed(graph, found)
    except ShapeError:
        return graph  # binding will say what does not fit
    for operator in graph.operators:
        if operator.op_type != "RotaryEmbed" or len(operator.inputs) < 3:
            continue
        turned = shapes.get(operator.inputs[0])
        for source in (sources.get(name, "") for name in operator.inputs[1:3]):
            if source and turned:
                found.setdefault(source, (TOKENS, turned[-1] // 2))
    for operator in attention:
        for position, name in zip((1, 2), operator.inputs[4:6], strict=False):
            shape, source = shapes.get(operator.inputs[position]), sources.get(name, "")
            if source and shape is not None and len(shape) == 3:
                found.setdefault(source, (shape[0], PAST, shape[2]))
    for operator in graph.operators:
        for name, shape in _states(operator, shapes):
            if sources.get(name):
                found.setdefault(sources[name], shape)
    if not found:
        return graph
    note = (
        "the inputs have no shapes in the file; those of a decoder follow from its layers but for tokens "
        "(of this run), past (positions in the caches) and context (both together)"
    )
    return replace(_given(graph, found), notes=(*graph.notes, note), defaults={**graph.defaults, **USUAL})


def _states(operator: Operator, shapes: Mapping[str, Shape | None]) -> list[tuple[str, Shape]]:
    """States of layers whose size does not depend on how many tokens there are."""
    known = [shapes.get(name) or () for name in operator.inputs]
    if operator.op_type == "ShortConv" and len(known) > 2 and known[0] and known[1]:
        return [(operator.inputs[2], (known[0][-1], known[1][-1]))]
    if operator.op_type == "GatedDeltaRule" and len(known) > 7 and len(known[4]) == 3 and known[6]:
        return [(operator.inputs[7], (known[4][1], known[4][2], known[6][-1]))]
    return []


def _sources(graph: Graph, names: set[str]) -> Mapping[str, str]:
    """Each blob that is one of the inputs `names`, perhaps split, and which."""
    found = {name: name for name in names}
    for operator in graph.operators:
        if operator.op_type == "Split" and operator.inputs and operator.inputs[0] in found:
            found.update(dict.fromkeys(operator.outputs, found[operator.inputs[0]]))
    return found


def _width(operator: Operator) -> int:
    """The width that a layer asks of what it reads; 0 where it asks for none."""
    if operator.op_type in _NORMS:
        return int(operator.attributes.get("affine_size", 0))
    if operator.op_type == "Gemm" and operator.attributes.get("constantB") and not operator.attributes.get("transA"):
        return int(operator.attributes.get("constantK", 0))
    return 0


def _given(graph: Graph, shapes: Mapping[str, Shape]) -> Graph:
    tensors: dict[str, Tensor] = dict(graph.tensors)
    for name, shape in shapes.items():
        tensors[name] = replace(tensors[name], shape=shape)
    return replace(graph, tensors=tensors)


def _probed(graph: Graph, shapes: Mapping[str, Shape]) -> Mapping[str, Shape | None]:
    """Shapes of all blobs for some number of tokens: heads and widths follow from the layers and are real."""
    numbers = {TOKENS: 7, PAST: 11, CONTEXT: 18}
    given = {
        name: tuple(numbers[dim] if isinstance(dim, Symbol) else dim for dim in shape) for name, shape in shapes.items()
    }
    inferred = infer(_given(graph, given), symbolic=True)
    return {name: tensor.shape for name, tensor in inferred.tensors.items()}
