"""Small ONNX models for the tests of the front end, written with the onnx package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from peakmem.frontends import read
from peakmem.ir.graph import Graph

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, shape: Sequence[int | str | None] | None = (1, 4), code: int = FLOAT) -> Any:
    """A declared tensor."""
    return helper.make_tensor_value_info(name, code, None if shape is None else list(shape))


def weight(name: str, dims: Sequence[int] = (4,), code: int = FLOAT) -> Any:
    """An initializer of zeros of any element type, as raw data."""
    count = 1
    for dim in dims:
        count *= dim
    bits = {**dict.fromkeys((22, 21, 23), 4), **dict.fromkeys((25, 26), 2), 27: 6, 28: 6}.get(code)
    if bits is None:
        bits = 8 * helper.tensor_dtype_to_np_dtype(code).itemsize
    return TensorProto(name=name, dims=dims, data_type=code, raw_data=bytes((count * bits + 7) // 8))


def model(
    nodes: Sequence[Any],
    *,
    inputs: Sequence[Any] | None = None,
    outputs: Sequence[Any] | None = None,
    weights: Sequence[Any] = (),
    values: Sequence[Any] = (),
    functions: Sequence[Any] = (),
    opsets: dict[str, int] | None = None,
) -> Any:
    """A model; without being told otherwise it reads `x` and gives what its last node makes."""
    inputs = [value("x")] if inputs is None else inputs
    outputs = [value(nodes[-1].output[0], None)] if outputs is None else outputs
    graph = helper.make_graph(
        list(nodes), "tested", list(inputs), list(outputs), list(weights), value_info=list(values)
    )
    imports = [helper.make_opsetid(domain, version) for domain, version in (opsets or {"": 18}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, functions=list(functions))


def body(nodes: Sequence[Any], outputs: Sequence[Any], inputs: Sequence[Any] = (), weights: Sequence[Any] = ()) -> Any:
    """A subgraph."""
    return helper.make_graph(list(nodes), "body", list(inputs), list(outputs), list(weights))


def save(folder: Path, content: Any, name: str = "model.onnx") -> Path:
    """Write a model, or bytes, into `folder`."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def load(folder: Path, content: Any) -> Graph:
    """What the front end reads of a model."""
    return read(save(folder, content))


def external(tensor: Any, location: str = "weights.bin", offset: int | None = 0, length: int | None = None) -> Any:
    """`tensor` with its data moved out of the file."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, entry in (("location", location), ("offset", offset), ("length", length)):
        if entry is not None:
            tensor.external_data.add(key=key, value=str(entry))
    return tensor


__all__ = ["FLOAT", "INT64", "body", "external", "helper", "load", "model", "onnx", "save", "value", "weight"]
