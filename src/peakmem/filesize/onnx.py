"""ONNX: a protobuf message, counted field by field, as onnx.helper and this package's export write it.

Fields, by their numbers in onnx.proto: the message has no lengths but those of what is inside, so that every byte
follows from names, attributes and shapes. Numbers in attributes are not packed; contents of weights are raw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from peakmem.dtypes import DType
from peakmem.filesize.bits import block, key, number, text, varint
from peakmem.filesize.content import Stored
from peakmem.ir.dims import Shape
from peakmem.ir.graph import Graph, Operator, Tensor

IR_VERSION, OPSET = 8, 17
# of this package's export
PRODUCER = "peakmem"
QUANTISER, QUANTISER_VERSION = "onnx.quantize", "0.1.0"
# what onnxruntime's calls itself in a file
LARGEST = 2**31 - 1
# bytes of a protobuf message

UNSAID = "\0"
# stands for a domain that is not written; an empty one is

CODES: Mapping[str, int] = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9,
    "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "complex64": 14, "complex128": 15, "bfloat16": 16,
    "float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20, "uint4": 21, "int4": 22,
    "float4e2m1": 23, "float8e8m0": 24, "uint2": 25, "int2": 26,
}  # fmt: skip
# TensorProto.DataType
FLOAT, INT, TEXT, TENSOR, GRAPH, FLOATS, INTS, TEXTS = 1, 2, 3, 4, 5, 6, 7, 8
# AttributeProto.AttributeType, which are the fields' numbers but for the first


def initializer(one: Stored) -> int:
    """Bytes of a weight in the graph, its content left out."""
    inside = tensor_head(one.name, one.shape, one.dtype) + key(9) + varint(one.nbytes)
    return key(5) + varint(inside + one.nbytes) + inside


def tensor_head(name: str, shape: Iterable[int], dtype: DType) -> int:
    """Bytes of a TensorProto without contents."""
    return sum(number(1, dim) for dim in shape) + number(2, CODES.get(dtype.name, 1)) + text(8, name)


def literal(name: str, shape: Shape, dtype: DType, values: Sequence[Any]) -> int:
    """Bytes of a Constant operator whose contents `make_tensor` has written number by number."""
    kind = dtype.name
    if kind == "float32":
        inside = block(4, 4 * len(values))
    elif kind == "float64":
        inside = block(10, 8 * len(values))
    elif kind == "int64":
        inside = block(7, sum(varint(int(value)) for value in values))
    elif kind in ("float16", "bfloat16"):
        inside = block(5, sum(varint(half_bits(float(value), kind)) for value in values))
    else:
        inside = block(5, sum(varint(int(value)) for value in values))
    inside = 0 if not values else inside
    head = sum(number(1, int(dim)) for dim in shape if isinstance(dim, int))
    head += number(2, CODES.get(kind, 1)) + text(8, "")
    attribute = text(1, "value") + block(5, head + inside) + number(20, TENSOR)
    return block(1, text(2, name) + text(3, name) + text(4, "Constant") + block(5, attribute))


def half_bits(value: float, kind: str) -> int:
    """The bits of a number of 16 bits, as a whole number."""
    import struct

    if kind == "bfloat16":
        return int(struct.unpack("<I", struct.pack("<f", value))[0]) >> 16
    try:
        return int(struct.unpack("<H", struct.pack("<e", value))[0])
    except OverflowError:
        return 0xFC00 if value < 0 else 0x7C00


def attribute(name: str, value: Any) -> int:
    """Bytes of an AttributeProto inside its operator."""
    inside = text(1, name)
    if isinstance(value, bool | int):
        inside += number(3, int(value)) + number(20, INT)
    elif isinstance(value, float):
        inside += key(2) + 4 + number(20, FLOAT)
    elif isinstance(value, str):
        inside += text(4, value) + number(20, TEXT)
    elif isinstance(value, tuple | list) and value:
        if all(isinstance(one, int) for one in value):
            inside += sum(number(8, int(one)) for one in value) + number(20, INTS)
        elif all(isinstance(one, int | float) for one in value):
            inside += 5 * len(value) + number(20, FLOATS)
        else:
            inside += sum(text(9, str(one)) for one in value) + number(20, TEXTS)
    return block(5, inside)


def operator(one: Operator, *, op_type: str = "", domain: str | None = None) -> int:
    """Bytes of a NodeProto inside its graph, bodies included."""
    said = one.domain if domain is None else domain
    inside = sum(text(1, name) for name in one.inputs) + sum(text(2, name) for name in one.outputs)
    inside += text(3, one.name) if one.name else 0
    inside += text(4, op_type or one.op_type) + (0 if said == UNSAID else text(7, said))
    inside += sum(attribute(name, value) for name, value in one.attributes.items())
    for body in one.subgraphs:
        inside += block(5, text(1, body.name) + block(6, graph_inside(body)) + number(20, GRAPH))
    return block(1, inside)


def value_info(field: int, tensor: Tensor, dtype: DType | None) -> int:
    """Bytes of a tensor's name, dtype and shape."""
    inside = number(1, CODES.get(dtype.name, 1) if dtype else 0)
    if tensor.shape is not None:
        dims = 0
        for dim in tensor.shape:
            dims += block(1, number(1, dim) if isinstance(dim, int) else text(2, str(dim)))
        inside += block(2, dims)
    return block(field, text(1, tensor.name) + block(2, block(1, inside)))


def graph_inside(graph: Graph, dtype: DType | None = None, stored: Iterable[Stored] = ()) -> int:
    """Bytes of a GraphProto's content: its operators, literals, inputs and outputs; weights are not in it.

    `dtype` is what floating tensors become, `stored` says for literals what they are.
    """
    size = text(2, graph.name)
    for name in graph.inputs:
        size += value_info(11, graph.tensors[name], _at(graph.tensors[name].dtype, dtype))
    for name in graph.outputs:
        if name in graph.tensors:
            size += value_info(12, graph.tensors[name], _at(graph.tensors[name].dtype, dtype))
    literals = {one.name for one in stored if one.literal}
    for tensor in graph.tensors.values():
        if tensor.name in literals and tensor.dtype is not None:
            kept = _at(tensor.dtype, dtype) or tensor.dtype
            size += literal(tensor.name, tensor.shape or (), kept, tensor.values or ())
    return size + sum(operator(one) for one in graph.operators)


def _at(own: DType | None, dtype: DType | None) -> DType | None:
    return dtype if dtype is not None and own is not None and own.name == "float32" else own


def model_head(documentation: str, opsets: Mapping[str, int], producer: str = PRODUCER) -> int:
    """Bytes of a ModelProto without its graph."""
    size = number(1, IR_VERSION) + text(2, producer) + (text(6, documentation) if documentation else 0)
    for domain, version in opsets.items():
        size += block(8, text(1, domain) + number(2, version))
    return size


def quantised_head(opsets: Mapping[str, int]) -> int:
    """Bytes of a ModelProto without graph and documentation, as onnxruntime's quantiser writes it."""
    told = block(14, text(1, "onnx.infer") + text(2, "onnxruntime.quant"))
    return model_head("", {"": opsets.get("", OPSET)}, QUANTISER) + text(3, QUANTISER_VERSION) + told
