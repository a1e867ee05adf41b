"""Options of TensorFlow Lite operators as attributes, in ONNX's words where they mean the same.

Windows become `kernel_shape`, `strides` and `dilations`, outermost axis first; enumerations become
their names; everything else keeps the schema's name.
"""

from __future__ import annotations

from typing import Any

from peakmem.frontends.flatbuffer import Table
from peakmem.frontends.tflite import schema
from peakmem.frontends.tflite.flexbuffer import plain_map

LONGEST_OPTIONS = 1 << 16
# bytes; custom options up to here are looked into, longer ones only sized
LONGEST_LIST = 4096

_WINDOWS = {
    "strides": ("stride_d", "stride_h", "stride_w"),
    "dilations": ("dilation_d_factor", "dilation_h_factor", "dilation_w_factor"),
    "kernel_shape": ("filter_height", "filter_width"),
}
_NAMES = {"fused_activation_function": "fused_activation", "keep_dims": "keepdims", "block_size": "blocksize"}
_ENUMERATIONS = {
    "padding": schema.PADDINGS, "fused_activation_function": schema.ACTIVATIONS, "mode": schema.MIRROR_MODES,
    "kernel_type": schema.LSTM_KERNELS,
}  # fmt: skip
_DTYPES = ("quantized_bias_type", "in_data_type", "out_data_type", "output_type", "out_type", "idx_out_type",
           "key_dtype", "value_dtype")  # fmt: skip


def attributes(operator: Table) -> dict[str, Any]:
    """The options of an operator, builtin and custom."""
    found: dict[str, Any] = {}
    for kind, field, second in (
        (schema.Operator.OPTIONS_KIND, schema.Operator.OPTIONS, False),
        (schema.Operator.OPTIONS2_KIND, schema.Operator.OPTIONS2, True),
    ):
        table = operator.table(field)
        if table is not None:
            found.update(_plain(table, operator.number(kind, "B"), second))
    found.update(_custom(operator))
    return found


def _plain(table: Table, kind: int, second: bool) -> dict[str, Any]:
    given: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    # of a composite: whatever its maker wrote, which must not pass for an option of the schema
    for number, option in enumerate(schema.options(kind, second)):
        if option.vector and option.code == "B":
            extra.update(_bytes(table, number, option.name))
        elif option.vector:
            at, count = table.span(number, option.code)
            given[option.name] = table.file.numbers(option.code, at, count) if count <= LONGEST_LIST else ()
        elif option.code == "s":
            given[option.name] = table.text(number)
        else:
            value = table.number(number, option.code, option.default)
            given[option.name] = int(value) if option.code == "?" else value
    found: dict[str, Any] = {}
    for name, parts in _WINDOWS.items():
        window = tuple(given.pop(part) for part in parts if part in given)
        if window:
            found[name] = window
    for name, value in given.items():
        names = _ENUMERATIONS.get(name)
        if names is not None and isinstance(value, int):
            value = names[value] if 0 <= value < len(names) else str(value)
        elif name in _DTYPES:
            value = schema.TYPES[value].name if 0 <= value < len(schema.TYPES) else str(value)
        found[_NAMES.get(name, name)] = value
    return {**extra, **found}


def _custom(operator: Table) -> dict[str, Any]:
    large = operator.number(schema.Operator.LARGE_OFFSET, "Q")
    if large > 1:
        # Of a file above 2 GiB: the options stand outside of the tables.
        at, count = large, operator.number(schema.Operator.LARGE_SIZE, "Q")
    else:
        at, count = operator.span(schema.Operator.CUSTOM_OPTIONS)
    if not count:
        return {}
    found = plain_map(operator.file.read(at, count)) if count <= LONGEST_OPTIONS else {}
    return {**found, "custom_options_bytes": count}


def _bytes(table: Table, number: int, name: str) -> dict[str, Any]:
    at, count = table.span(number)
    if not count:
        return {}
    return plain_map(table.file.read(at, count)) if count <= LONGEST_OPTIONS else {f"{name}_bytes": count}
