"""Operators of other formats by ONNX's names, as far as sizes of files need them.

More than `peakmem.ir.kinds.key` says: what is the same here is the same for a file's size, not for memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from peakmem.ir.graph import Graph, Operator
from peakmem.ir.kinds import key

MORE: Mapping[str, str] = {
    "aten:flatten": "Flatten", "aten:reshape": "Reshape", "aten:split_with_sizes": "Split", "aten:split": "Split",
    "aten:chunk": "Split", "aten:dropout": "Dropout", "aten:contiguous": "Identity", "aten:clone": "Identity",
    "aten:_to_copy": "Cast", "aten:to": "Cast", "aten:mean": "ReduceMean", "aten:rsub": "Sub", "aten:lstm": "LSTM",
    "aten:gru": "GRU", "tflite:MEAN": "ReduceMean", "tflite:SPLIT": "Split", "tflite:QUANTIZE": "Identity",
    "tflite:DEQUANTIZE": "Identity", "ncnn:Split": "Identity", "ncnn:Dropout": "Dropout", "ncnn:Concat": "Concat",
    "ncnn:Softmax": "Softmax", "ncnn:Flatten": "Flatten", "ncnn:Reshape": "Reshape", "ncnn:Slice": "Split",
    "ncnn:Eltwise": "Add", "ncnn:BinaryOp": "Add", "ncnn:LRN": "LRN", "ncnn:Permute": "Transpose",
    "ncnn:BatchNorm": "BatchNormalization", "ncnn:Squeeze": "Squeeze",
}  # fmt: skip


def kind_of(operator: Operator, graph: Graph) -> str:
    """ONNX's name for `operator`; `domain:OpType` where it has none."""
    name = key(operator)
    if name in ("aten:adaptive_avg_pool2d", "ncnn:Pooling"):
        made = graph.tensors[operator.outputs[0]].shape or ()
        over_all = len(made) < 3 or all(dim == 1 for dim in made[-2:])
        return "GlobalAveragePool" if over_all else "AveragePool"
    return MORE.get(name, name)


def translated(graph: Graph) -> Graph:
    """`graph` with every operator under ONNX's name, where it has one."""
    operators = []
    for operator in graph.operators:
        name = kind_of(operator, graph)
        told = name if ":" not in name else operator.op_type
        operators.append(replace(operator, op_type=told, domain="" if ":" not in name else operator.domain))
    return replace(graph, operators=tuple(operators))
