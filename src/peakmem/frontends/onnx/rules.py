"""ONNX's own shape inference, asked for one operator at a time where peakmem has no rule.

It needs the onnx package, which is imported here, at the moment of need, and only when a model
holds such an operator. Without the package the operator stays unknown and says what to install.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peakmem.frontends.onnx.tensors import ELEMENT_TYPES
from peakmem.ir.dims import Dim, Symbol
from peakmem.ir.graph import Operator
from peakmem.ir.shapes.call import Call, Spec, Unresolved

_CODES = {dtype.name: code for code, dtype in ELEMENT_TYPES.items()}


def infer_with_onnx(call: Call, opsets: Mapping[str, int]) -> list[Spec] | None:
    """What ONNX infers for the operator; None when it has no schema for it.

    Raises:
        Unresolved: the onnx package is missing, or its inference refuses the operator.
    """
    operator = call.op
    try:
        import onnx
        from onnx import defs, shape_inference
    except ImportError:
        raise Unresolved(
            "no shape rule of its own, and asking ONNX needs the onnx package: pip install 'peakmem[onnx]'"
        ) from None
    version = opsets.get(operator.domain, 1 if operator.domain else defs.onnx_opset_version())
    try:
        schema = defs.get_schema(operator.op_type, min(version, defs.onnx_opset_version()), operator.domain)
    except defs.SchemaError:
        return None
    try:
        types, data = _inputs(onnx, call)
        imports = [onnx.helper.make_opsetid(domain, number) for domain, number in opsets.items()]
        found = shape_inference.infer_node_outputs(schema, _node(onnx, operator), types, data, opset_imports=imports)
        return [_spec(found.get(name)) for name in operator.outputs]
    except Exception as fault:
        # The C++ inference and the helpers raise several unrelated types; none of them may end the analysis.
        reason = " ".join(str(fault).split()) or type(fault).__name__
        raise Unresolved(f"ONNX's inference gives up: {reason[:160]}") from fault


def _inputs(onnx: Any, call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
    """Types and, where known, contents of the inputs by name."""
    types: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for position, name in enumerate(call.op.inputs):
        dtype = call.dtype(position)
        if not name or dtype is None:
            continue
        types[name] = _type_proto(onnx, call, position, _CODES[dtype.name])
        values = call.value(position)
        if values is not None and not any(isinstance(value, Symbol) for value in values) and dtype.bits != 4:
            shape = [int(dim) for dim in call.shapes[position] or () if isinstance(dim, int)]
            data[name] = onnx.helper.make_tensor(
                name, _CODES[dtype.name], shape, [int(value) if isinstance(value, int) else value for value in values]
            )
    return types, data


def _type_proto(onnx: Any, call: Call, position: int, code: int) -> Any:
    shape = call.shapes[position]
    dims = None if shape is None else [int(dim) if isinstance(dim, int) else dim.name for dim in shape]
    return onnx.helper.make_tensor_type_proto(code, dims)


def _node(onnx: Any, operator: Operator) -> Any:
    node = onnx.helper.make_node(
        operator.op_type, operator.inputs, operator.outputs, operator.name, domain=operator.domain
    )
    for key, value in operator.attributes.items():
        if key in ("to", "dtype", "output_dtype") and isinstance(value, str):
            value = _CODES[value]
        if value != ():  # an empty list does not say what it is a list of
            node.attribute.append(onnx.helper.make_attribute(key, value))
    return node


def _spec(found: Any) -> Spec:
    if found is None or not found.HasField("tensor_type"):
        return None, None
    tensor = found.tensor_type
    dtype = ELEMENT_TYPES.get(tensor.elem_type)
    if not tensor.HasField("shape"):
        return None, dtype
    dims: list[Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value)
        else:
            dims.append(Symbol(dim.dim_param or f"?{axis}"))
    return tuple(dims), dtype
