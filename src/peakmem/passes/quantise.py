"""Quantised graphs as engines run them: QDQ pairs become operators on quantised tensors.

An operator whose data inputs come from DequantizeLinear and whose result goes into
QuantizeLinear, at once or through activation functions, runs on the quantised tensors; the float
tensors in between never exist. Weights behind a DequantizeLinear stay in their stored dtype. An
operator with a float side keeps its pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.ir.kinds import DEQUANTIZE, QUANTIZE, UNARY, key


def merge_quantisation(graph: Graph) -> Graph:
    """`graph` with QDQ pairs merged into the operators they enclose."""
    if not any(key(operator) in QUANTIZE or key(operator) in DEQUANTIZE for operator in graph.operators):
        return graph
    return _Merge(graph).run()


@dataclass(frozen=True, slots=True)
class _Tail:
    """The way from a result to its QuantizeLinear: the float tensors passed, and the operator."""

    floats: tuple[str, ...]
    quantiser: Operator


def _is_whole(operator: Operator) -> bool:
    """Whether its first input and output are there, as they have to be."""
    return bool(operator.inputs and operator.inputs[0] and operator.outputs and operator.outputs[0])


class _Merge:
    """One walk over a graph that holds QuantizeLinear or DequantizeLinear."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: dict[str, Tensor] = dict(graph.tensors)
        self.dequantised = {op.outputs[0]: op for op in graph.operators if key(op) in DEQUANTIZE and _is_whole(op)}
        self.consumers = graph.consumers()
        self.held = set(graph.outputs)
        self.final: dict[str, str] = {}
        # a float result that its operator writes in quantised form -> the quantised tensor
        self.absorbed: set[str] = set()

    def run(self) -> Graph:
        merged: list[Operator] = []
        changed = 0
        for operator in self.graph.operators:
            if operator.name in self.absorbed:
                continue
            unit = self._unit(operator)
            changed += unit is not None
            operator = unit or operator
            if any(name in self.final for name in operator.outputs):
                operator = replace(operator, outputs=tuple(self.final.get(name, name) for name in operator.outputs))
            merged.append(operator)
        read = {name for operator in merged for name in operator.reads} | self.held
        kept = tuple(op for op in merged if key(op) not in DEQUANTIZE or any(name in read for name in op.outputs))
        notes = self.graph.notes
        if changed:
            notes += (f"{changed} operators between DequantizeLinear and QuantizeLinear run on the quantised tensors",)
        return replace(self.graph, tensors=self.tensors, operators=kept, notes=notes)

    def _unit(self, operator: Operator) -> Operator | None:
        """`operator` on quantised tensors, or None when it is not enclosed."""
        if key(operator) in DEQUANTIZE or key(operator) in QUANTIZE or operator.subgraphs:
            return None
        sources = [self.dequantised[name] for name in operator.inputs if name in self.dequantised]
        if not sources:
            return None
        inputs = tuple(
            self.dequantised[name].inputs[0] if name in self.dequantised else name for name in operator.inputs
        )
        tails = [self._tail(name) for name in operator.outputs if name]
        float_side = any(
            name and name not in self.dequantised and self._is_float_activation(name) for name in operator.inputs
        )
        if float_side or any(tail is None for tail in tails):
            if all(self.tensors[source.inputs[0]].role == "constant" for source in sources):
                # Weight-only quantisation: stored quantised, computed in float.
                return replace(operator, inputs=inputs)
            return None
        scales = [name for source in sources for name in source.inputs[1:]]
        for tail in tails:
            assert tail is not None
            scales += tail.quantiser.inputs[1:]
            self._write_quantised(tail)
        return replace(operator, inputs=inputs, absorbed=tuple(dict.fromkeys(name for name in scales if name)))

    def _tail(self, name: str) -> _Tail | None:
        floats = [name]
        while True:
            readers = self.consumers.get(name, [])
            if len(readers) != 1 or name in self.held:
                return None
            reader = self.graph.operators[readers[0]]
            if key(reader) in QUANTIZE:
                return _Tail(tuple(floats), reader) if reader.inputs[0] == name and _is_whole(reader) else None
            if key(reader) not in UNARY or len(reader.outputs) != 1 or reader.inputs[0] != name:
                return None
            name = reader.outputs[0]
            floats.append(name)

    def _write_quantised(self, tail: _Tail) -> None:
        result = tail.quantiser.outputs[0]
        self.absorbed.add(tail.quantiser.name)
        self.final[tail.floats[-1]] = result
        for name in tail.floats[:-1]:
            self.tensors[name] = replace(self.tensors[name], dtype=self.tensors[result].dtype)

    def _is_float_activation(self, name: str) -> bool:
        tensor = self.tensors.get(name)
        if tensor is None:
            return True  # lent by an enclosing graph
        return tensor.role != "constant" and tensor.dtype is not None and tensor.dtype.kind == "float"
