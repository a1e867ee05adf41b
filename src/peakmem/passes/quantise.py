"""Quantised graphs as engines run them: QDQ pairs become operators on quantised tensors.

An operator whose data inputs come from DequantizeLinear and whose result goes into
QuantizeLinear runs on the quantised tensors; the float tensors in between never exist. Weights
behind a DequantizeLinear stay in their stored dtype. A pair that encloses nothing, or an operator
with a float side, is left as it is.
"""

from __future__ import annotations

from dataclasses import replace

from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.kinds import DEQUANTIZE, QUANTIZE, key


def merge_quantisation(graph: Graph) -> Graph:
    """`graph` with QDQ pairs merged into the operators they enclose."""
    if not any(key(operator) in QUANTIZE or key(operator) in DEQUANTIZE for operator in graph.operators):
        return graph
    dequantised = {op.outputs[0]: op for op in graph.operators if key(op) in DEQUANTIZE}
    consumers = graph.consumers()
    quantisers: dict[str, Operator] = {}
    for operator in graph.operators:
        if key(operator) in QUANTIZE and len(consumers.get(operator.inputs[0], ())) == 1:
            quantisers[operator.inputs[0]] = operator
    held = set(graph.outputs)
    tensors = dict(graph.tensors)
    merged: list[Operator] = []
    absorbed: set[str] = set()
    changed = 0
    for operator in graph.operators:
        if operator.name in absorbed:
            continue
        unit = _unit(operator, dequantised, quantisers, tensors, held)
        if unit is None:
            merged.append(operator)
            continue
        changed += 1
        merged.append(unit)
        absorbed.update(quantisers[name].name for name in operator.outputs if name in quantisers)
    graph = _drop_unread(replace(graph, operators=tuple(merged)), DEQUANTIZE)
    if not changed:
        return graph
    note = f"{changed} operators between DequantizeLinear and QuantizeLinear run on the quantised tensors"
    return replace(graph, notes=(*graph.notes, note))


def _unit(
    operator: Operator,
    dequantised: dict[str, Operator],
    quantisers: dict[str, Operator],
    tensors: dict[str, Tensor],
    held: set[str],
) -> Operator | None:
    """`operator` on quantised tensors, or None when one of its sides is in float."""
    if key(operator) in DEQUANTIZE or key(operator) in QUANTIZE or operator.subgraphs:
        return None
    weights_only = all(
        name in dequantised and tensors[dequantised[name].inputs[0]].role == "constant"
        for name in operator.inputs
        if name in dequantised
    ) and any(name in dequantised for name in operator.inputs)
    outputs = [name for name in operator.outputs if name]
    sides = [name for name in operator.inputs if name and tensors.get(name) is not None]
    floats = [
        name
        for name in sides
        if tensors[name].role != "constant" and name not in dequantised and _is_float(tensors[name])
    ]
    enclosed = (
        any(name in dequantised for name in sides)
        and not floats
        and all(name in quantisers and name not in held for name in outputs)
    )
    if not enclosed and not weights_only:
        return None
    inputs = tuple(dequantised[name].inputs[0] if name in dequantised else name for name in operator.inputs)
    if not enclosed:
        # Weight-only quantisation: weights are stored quantised, the operator computes in float.
        return replace(operator, inputs=inputs)
    scales = [
        name for source in operator.inputs if source in dequantised for name in dequantised[source].inputs[1:]
    ]
    scales += [name for output in outputs for name in quantisers[output].inputs[1:]]
    results = tuple(quantisers[name].outputs[0] if name else "" for name in operator.outputs)
    return replace(
        operator, inputs=inputs, outputs=results, absorbed=tuple(dict.fromkeys(name for name in scales if name))
    )


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype is not None and tensor.dtype.kind == "float"


def _drop_unread(graph: Graph, kinds: frozenset[str]) -> Graph:
    """`graph` without operators of `kinds` whose results nobody reads any more."""
    read = {name for operator in graph.operators for name in operator.reads} | set(graph.outputs)
    kept = tuple(
        operator
        for operator in graph.operators
        if key(operator) not in kinds or any(name in read for name in operator.outputs)
    )
    return replace(graph, operators=kept)
