"""Run one operator in onnxruntime, and ask our rules for the same: shapes, dtypes and contents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from peakmem.ir.dims import Shape
from peakmem.ir.shapes.infer import Fact, infer_operator

from .onnx_graphs import dtype_of, operator_of, values_of

Spec = tuple[Shape, str]
DOMAIN_VERSIONS = {"ai.onnx.ml": 3}


class NoKernel(Exception):
    """This build of onnxruntime cannot run the operator."""


def make_node(
    op_type: str, arrays: Sequence[Any], outputs: int, domain: str, attributes: dict[str, Any]
) -> onnx.NodeProto:
    names = [f"in{i}" if array is not None else "" for i, array in enumerate(arrays)]
    node = helper.make_node(op_type, names, [f"out{i}" for i in range(outputs)], domain=domain)
    for key, value in attributes.items():
        if isinstance(value, list) and not value:
            node.attribute.append(onnx.AttributeProto(name=key, type=onnx.AttributeProto.INTS))
        else:
            node.attribute.append(helper.make_attribute(key, value))
    return node


def actual(
    op_type: str, arrays: Sequence[Any], *, outputs: int = 1, domain: str = "", version: int = 17,
    types: Sequence[int] = (), static: bool = True, constants: Sequence[int] = (), **attributes: Any,
) -> list[Spec]:  # fmt: skip
    """Shapes and dtypes that onnxruntime gives; NoKernel, or its own error, when it cannot.

    `types` are the element types of the outputs, for an operator that does not infer them. With
    `static` the model declares the shapes of its inputs, without it only their ranks. Inputs at
    `constants` are stored in the model.
    """
    node = make_node(op_type, arrays, outputs, domain, attributes)
    inputs = [
        helper.make_tensor_value_info(
            name,
            helper.np_dtype_to_tensor_dtype(array.dtype),
            array.shape if static else [f"{name}_{i}" for i in range(array.ndim)],
        )
        for position, (name, array) in enumerate(zip(node.input, arrays, strict=True))
        if name and position not in constants
    ]
    stored = [onnx.numpy_helper.from_array(arrays[position], f"in{position}") for position in constants]
    results = [helper.make_empty_tensor_value_info(name) for name in node.output]
    if types:
        results = [
            helper.make_tensor_value_info(name, type_, None) for name, type_ in zip(node.output, types, strict=True)
        ]
    imports = [
        helper.make_opsetid("", version),
        *([helper.make_opsetid(domain, DOMAIN_VERSIONS.get(domain, 1))] if domain else []),
    ]
    model = helper.make_model(
        helper.make_graph([node], "g", inputs, results, stored), opset_imports=imports, ir_version=10
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as fault:
        if "NOT_IMPLEMENTED" in str(fault) or "not a registered" in str(fault):
            raise NoKernel(str(fault)) from fault
        raise
    feeds = {item.name: arrays[list(node.input).index(item.name)] for item in inputs}
    try:
        found = session.run(None, feeds)
        return [(value.shape, "string" if value.dtype == object else value.dtype.name) for value in found]
    except Exception as fault:
        if "not implemented" in str(fault):
            raise NoKernel(str(fault)) from fault
        raise


def ours(
    op_type: str, arrays: Sequence[Any], *, outputs: int = 1, domain: str = "", version: int = 17, **attributes: Any
) -> list[Spec]:
    """Shapes and dtypes that our rules give."""
    node = make_node(op_type, arrays, outputs, domain, attributes)
    opsets = {"": version, domain: version if not domain else DOMAIN_VERSIONS.get(domain, 1)}
    facts = [
        Fact(None, None)
        if array is None
        else Fact(array.shape, dtype_of(helper.np_dtype_to_tensor_dtype(array.dtype)), values_of(array))
        for array in arrays
    ]
    found = infer_operator(operator_of(node, "node", opsets), facts, opsets)
    return [(fact.shape, fact.dtype.name) for fact in found]  # type: ignore[misc, union-attr]


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def halves(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float16)


def bytes_(*shape: int) -> np.ndarray:
    return np.ones(shape, np.uint8)


def longs(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


SCALE = np.array(0.5, np.float32)
ZERO = np.array(0, np.uint8)
SIGNED_ZERO = np.array(0, np.int8)
