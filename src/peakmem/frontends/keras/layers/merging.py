"""Layers that make one tensor of several."""

from __future__ import annotations

from peakmem.frontends.keras.graph import LayerCall
from peakmem.frontends.keras.layers.registry import layer


@layer("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
def merge(call: LayerCall) -> str:
    if len(call.inputs) < 2:
        raise call.settings.error(f"is called with {len(call.inputs)} tensors", "2 at least")
    return call.op(call.op_type, [call.cast(name) for name in call.inputs])


@layer("Concatenate")
def concatenate(call: LayerCall) -> str:
    return call.op("Concatenate", [call.cast(name) for name in call.inputs], axis=call.settings.axis("axis", -1))


@layer("Dot")
def dot(call: LayerCall) -> str:
    if len(call.inputs) != 2:
        raise call.settings.error(f"is called with {len(call.inputs)} tensors", "2")
    axes = call.settings.ints("axes")
    return call.op("Dot", [call.cast(name) for name in call.inputs], axes=axes if len(axes) == 2 else axes * 2)


@layer("CustomScaleLayer")
def residual_scale(call: LayerCall) -> str:
    """Of keras.applications' InceptionResNetV2: the first input and the second one scaled, summed."""
    if len(call.inputs) != 2:
        raise call.settings.error(f"is called with {len(call.inputs)} tensors", "2")
    first, second = (call.cast(name) for name in call.inputs)
    return call.op("Add", [first, call.op("Multiply", [second], part="scaled")])


@layer("LayerScale")
def layer_scale(call: LayerCall) -> str:
    """Of keras.applications' ConvNeXt: one factor a channel."""
    gamma = call.weight("gamma", (call.settings.whole("projection_dim"),))
    return call.op("Multiply", [call.cast(call.inputs[0]), gamma])
