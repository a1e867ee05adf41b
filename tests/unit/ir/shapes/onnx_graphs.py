"""ONNX models as Graphs, for tests only: the smallest reader that keeps what shape rules look at.

It shares nothing with the front end, so that a fault there does not hide one here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from peakmem.dtypes import DTYPES, DType
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Graph, Operator, Tensor

MOST_VALUES = 4096
SPECIAL_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}
DTYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def dtype_of(code: int) -> DType | None:
    """The peakmem dtype of an ONNX element type; None for one that peakmem does not have."""
    name = onnx.TensorProto.DataType.Name(code)
    return DTYPES.get(SPECIAL_NAMES.get(name, name.lower()))


def array_of(value: Any) -> np.ndarray | None:
    """A tensor of a test case as an array; None when it is a sequence, an optional or a map."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    return None


def values_of(array: np.ndarray | None) -> tuple[Any, ...] | None:
    """What a front end would keep of a small constant."""
    if array is None or array.size > MOST_VALUES or array.dtype.kind not in "biuf":
        return None
    return tuple(array.reshape(-1).tolist())


def attribute_of(attribute: onnx.AttributeProto) -> Any:
    """A front end's form of an attribute: numbers, names, tuples."""
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name in DTYPE_ATTRIBUTES and isinstance(value, int):
        dtype = dtype_of(value)
        return None if dtype is None else dtype.name
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(item.decode() if isinstance(item, bytes) else item for item in value)
    return value


def operator_of(node: onnx.NodeProto, name: str, opsets: Mapping[str, int]) -> Operator:
    """One node; tensor attributes are given as the front end gives them."""
    attributes: dict[str, Any] = {}
    subgraphs = []
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            subgraphs.append(graph_of(attribute.g, opsets, name=attribute.name))
        elif attribute.type == onnx.AttributeProto.TENSOR:
            if node.op_type == "ConstantOfShape":
                array = numpy_helper.to_array(attribute.t)
                attributes["value"] = (array.reshape(-1)[0].item(),)
                dtype = dtype_of(attribute.t.data_type)
                attributes["value_dtype"] = dtype.name if dtype else None
        elif attribute.type not in (onnx.AttributeProto.TYPE_PROTO, onnx.AttributeProto.SPARSE_TENSOR):
            attributes[attribute.name] = attribute_of(attribute)
    outputs = tuple(node.output)
    return Operator(name, node.op_type, tuple(node.input), outputs, attributes, node.domain, subgraphs=tuple(subgraphs))


def _constant(node: onnx.NodeProto) -> Tensor:
    name = node.output[0]
    for attribute in node.attribute:
        if attribute.name == "value":
            array = numpy_helper.to_array(attribute.t)
            dtype = dtype_of(attribute.t.data_type)
        elif attribute.name.startswith("value_"):
            value = onnx.helper.get_attribute_value(attribute)
            kind = np.float32 if "float" in attribute.name else np.int64
            array = np.array(value, dtype=object if "string" in attribute.name else kind)
            dtype = DTYPES["string" if "string" in attribute.name else np.dtype(kind).name]
        else:
            continue
        return Tensor(name, array.shape, dtype, "constant", values=values_of(array))
    raise ValueError(f"the constant {name!r} has no value")


def graph_of(
    graph: onnx.GraphProto,
    opsets: Mapping[str, int],
    *,
    given: Sequence[Any] = (),
    name: str = "graph",
    prefix: str = "",
) -> Graph:
    """A graph whose inputs have the shapes and contents of `given`; activations are not declared."""
    tensors: dict[str, Tensor] = {}
    for initializer in graph.initializer:
        array = numpy_helper.to_array(initializer)
        tensors[initializer.name] = Tensor(
            initializer.name, array.shape, dtype_of(initializer.data_type), "constant", values=values_of(array)
        )
    inputs = tuple(item.name for item in graph.input if item.name not in tensors)
    for position, item in enumerate(item for item in graph.input if item.name not in tensors):
        array = array_of(given[position]) if position < len(given) else None
        kind = item.type.tensor_type
        dtype = dtype_of(kind.elem_type) if item.type.HasField("tensor_type") else None
        shape = None
        if array is not None:
            shape = array.shape
        tensors[item.name] = Tensor(item.name, shape, dtype, "input", values=values_of(array))
    operators = []
    for position, node in enumerate(graph.node):
        if node.op_type == "Constant" and not node.domain:
            constant = _constant(node)
            tensors[constant.name] = constant
            continue
        operators.append(operator_of(node, f"{prefix}{node.op_type}_{position}", opsets))
        for output in node.output:
            if output:
                tensors[output] = Tensor(output)
    outputs = tuple(item.name for item in graph.output)
    return Graph(name, tensors, tuple(operators), inputs, outputs, opsets=opsets)


def graph_of_model(model: onnx.ModelProto, given: Sequence[Any]) -> Graph:
    """A model, with the inputs of a test case."""
    opsets = {("" if entry.domain == "ai.onnx" else entry.domain): entry.version for entry in model.opset_import}
    return graph_of(model.graph, opsets, given=given)


def without_values(graph: Graph) -> Graph:
    """`graph` with the contents of its inputs unknown."""
    tensors = {
        name: Tensor(name, tensor.shape, tensor.dtype, tensor.role) if name in graph.inputs else tensor
        for name, tensor in graph.tensors.items()
    }
    return Graph(graph.name, tensors, graph.operators, graph.inputs, graph.outputs, opsets=graph.opsets)


def with_symbols(graph: Graph) -> Graph:
    """`graph` with every dimension of every float input a symbol of its own."""
    tensors = dict(graph.tensors)
    for name in graph.inputs:
        tensor = tensors[name]
        if tensor.shape is not None and tensor.dtype is not None and tensor.dtype.kind == "float":
            shape = tuple(Symbol(f"{name}_{axis}") for axis in range(len(tensor.shape)))
            tensors[name] = Tensor(name, shape, tensor.dtype, tensor.role)
    return Graph(graph.name, tensors, graph.operators, graph.inputs, graph.outputs, opsets=graph.opsets)
