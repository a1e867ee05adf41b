"""Functions of keras.ops that a model calls on symbolic tensors: one operator each.

Settings and plain arguments become attributes; which axis a function works on is read by its shape
rule. A function without a rule keeps the shape that the configuration recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peakmem.frontends.keras.config import LONGEST_LIST, Settings
from peakmem.frontends.keras.graph import Given, LayerCall, known_dtype, tensors_in
from peakmem.frontends.keras.layers.windows import PADS
from peakmem.ir.graph import Tensor

RENAMED = frozenset({"Average", "Dot", "Normalize", "Resize"})
# functions that share the name of a layer and do something else

_POSITIONAL: Mapping[str, tuple[str, ...]] = {
    "Reshape": ("newshape",), "Transpose": ("axes",), "BroadcastTo": ("shape",), "Tile": ("repeats",),
    "Repeat": ("repeats", "axis"), "ExpandDims": ("axis",), "Squeeze": ("axis",), "Sum": ("axis", "keepdims"),
    "Mean": ("axis", "keepdims"), "Max": ("axis", "keepdims"), "Min": ("axis", "keepdims"), "Cast": ("dtype",),
    "Clip": ("x_min", "x_max"), "Swapaxes": ("axis1", "axis2"), "Moveaxis": ("source", "destination"),
    "Split": ("indices_or_sections", "axis"), "Softmax": ("axis",), "OneHot": ("num_classes", "axis"),
}  # fmt: skip
# names of plain arguments after the tensor, for functions whose settings may be given either way

_LONGEST = 4096
# entries of a list that is kept as an attribute


_TENSORFLOW: Mapping[str, str] = {
    "add": "Add", "subtract": "Subtract", "sub": "Subtract", "multiply": "Multiply", "mul": "Multiply",
    "truediv": "TrueDivide", "divide": "Divide", "pow": "Power", "maximum": "Maximum", "minimum": "Minimum",
    "relu": "Relu", "relu6": "Relu6", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax", "swish": "Silu",
    "silu": "Silu", "gelu": "Gelu", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "square": "Square", "abs": "Absolute",
    "neg": "Negative", "negative": "Negative", "reduce_mean": "Mean", "reduce_sum": "Sum", "reduce_max": "Max",
    "reduce_min": "Min", "cast": "Cast", "clip_by_value": "Clip", "identity": "Identity", "concat": "Concatenate",
    "reshape": "Reshape", "expand_dims": "ExpandDims", "squeeze": "Squeeze", "transpose": "Transpose",
    "matmul": "Matmul", "stack": "Stack",
}  # fmt: skip
# functions of TensorFlow in models of Keras 2, without their modules
_TENSORFLOW_ARGUMENTS: Mapping[str, str] = {"shape": "newshape", "perm": "axes"}


def write_tensorflow(call: LayerCall) -> list[str] | None:
    """The operator of a TFOpLambda, as Keras 2 wrote functions; None for one that is not known."""
    op_type = _TENSORFLOW.get(call.settings.word("function", "").rpartition(".")[2])
    if op_type is None:
        return None
    attributes: dict[str, Any] = {}
    for key, value in call.given.items():
        if key != "name" and not tensors_in(value):
            _keep(attributes, _TENSORFLOW_ARGUMENTS.get(key, key), value)
    return call.ops(op_type, _operands(call), **attributes)


def write(call: LayerCall) -> list[str]:
    """One operator for the call."""
    op_type = call.spec.class_name
    attributes: dict[str, Any] = {}
    for key, value in call.spec.config.items():
        if key not in ("name", "trainable"):
            _keep(attributes, key, value)
    for name, value in zip(_POSITIONAL.get(op_type, ()), call.args[1:], strict=False):
        if not tensors_in(value):
            _keep(attributes, name, value)
    for key, value in call.given.items():
        if not tensors_in(value):
            _keep(attributes, key, value)
    if op_type == "GetItem":
        index = _index(call.args[1] if len(call.args) > 1 else call.given.get("key"))
        if index is not None:
            attributes["index"] = index
    if op_type == "Einsum" and isinstance(attributes.get("subscripts"), str):
        attributes["equation"] = attributes.pop("subscripts")
    if op_type in _WINDOWS:
        attributes = _sliding(call, attributes)
    inputs = _operands(call)
    name = f"ops.{op_type}" if op_type in RENAMED else op_type
    return call.ops(name, inputs, outputs=max(call.wanted, _pieces(op_type, attributes)), **attributes)


_WINDOWS = frozenset({"MaxPool", "AveragePool", "Conv", "DepthwiseConv"})


def _sliding(call: LayerCall, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of a pool or convolution as the layers of that kind have them."""
    rank = call.rank(least=3) - 2
    settings = Settings(attributes, call.path)
    padding = settings.word("padding", "valid").lower()
    kept: dict[str, Any] = {"padding": padding, "auto_pad": PADS.get(padding, "VALID")}
    kept["data_format"] = settings.word("data_format", "channels_last")
    if "pool_size" in attributes:
        kept["kernel_shape"] = settings.window("pool_size", rank)
    strides = settings.window("strides", rank) if settings.has("strides") else kept.get("kernel_shape", (1,) * rank)
    return {**kept, "strides": strides, "dilations": settings.window("dilation_rate", rank, 1)}


def _operands(call: LayerCall) -> list[str]:
    """The tensors a function reads, arrays written into the configuration included."""
    found: list[str] = []

    def take(value: Any, depth: int = 0) -> None:
        if isinstance(value, Given):
            found.append(str(value))
        elif isinstance(value, Mapping):
            literal = _literal(call, value, len(found))
            if literal:
                found.append(literal)
            elif depth < 8:
                for item in value.values():
                    take(item, depth + 1)
        elif isinstance(value, list | tuple) and depth < 8:
            for item in value[:LONGEST_LIST]:
                take(item, depth + 1)

    for value in (*call.args, *call.given.values()):
        take(value)
    return found


def _literal(call: LayerCall, value: Mapping[str, Any], position: int) -> str:
    """An array that stands in the configuration itself, as a constant; "" for anything else."""
    inner = value.get("config")
    if value.get("class_name") not in ("__numpy__", "__tensor__") or not isinstance(inner, Mapping):
        return ""
    shape: list[int] = []
    content: Any = inner.get("value")
    while isinstance(content, list) and len(shape) < 16:
        shape.append(len(content))
        content = content[0] if content else None
    name = f"{call.path}/literal_{position}"
    if name not in call.draft.tensors:
        call.draft.add(Tensor(name, tuple(shape), known_dtype(inner.get("dtype")), "constant", parameter=False))
    return name


def _keep(attributes: dict[str, Any], key: str, value: Any) -> None:
    """Keep a setting if it is plain."""
    if isinstance(value, Mapping) and value.get("class_name") == "__tuple__":
        value = value.get("config", {}).get("value") if isinstance(value.get("config"), Mapping) else value.get("items")
    if isinstance(value, bool):
        attributes[key] = int(value)
    elif isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 500):
        attributes[key] = value
    elif isinstance(value, list | tuple) and len(value) <= _LONGEST:
        items: Sequence[Any] = value
        if items and all(isinstance(item, list | tuple) for item in items):
            items = [part for item in items for part in item]
        if all(isinstance(item, int | float | str) for item in items):
            attributes[key] = tuple(items)


def _index(value: Any) -> tuple[str, ...] | None:
    """An index such as x[:, 0, ..., 1:3] as texts; None for one that holds tensors or lists."""
    items = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, Mapping) and value.get("class_name") == "__tuple__":
        inner = value.get("config")
        items = inner.get("value", []) if isinstance(inner, Mapping) else []
    found = []
    for item in items[:64]:
        if item is None:
            found.append("new")
        elif isinstance(item, int) and not isinstance(item, bool):
            found.append(str(item))
        elif isinstance(item, Mapping) and item.get("class_name") == "__slice__":
            inner = item.get("config")
            parts = [inner.get(key) for key in ("start", "stop", "step")] if isinstance(inner, Mapping) else [""]
            if not all(part is None or isinstance(part, int) for part in parts):
                return None
            found.append(":".join("" if part is None else str(part) for part in parts))
        elif isinstance(item, Mapping) and item.get("class_name") == "__ellipsis__":
            found.append("...")
        else:
            return None
    return tuple(found)


def _pieces(op_type: str, attributes: Mapping[str, Any]) -> int:
    """Outputs that a function has whatever the model reads of it."""
    if op_type == "Split":
        cuts = attributes.get("indices_or_sections")
        many = cuts if isinstance(cuts, int) else len(cuts) + 1 if isinstance(cuts, tuple) else 1
        return min(max(1, many), 1024)
    if op_type == "Unstack":
        many = attributes.get("num", 1)
        return min(max(1, many), 1024) if isinstance(many, int) else 1
    return 1
