"""Layers that keep the shape: activations, what is the identity when not training, masks."""

from __future__ import annotations

from peakmem.frontends.keras.graph import LayerCall
from peakmem.frontends.keras.layers.registry import layer
from peakmem.ir.kinds.keras import UNTRAINED


@layer(*sorted(UNTRAINED))
def nothing(call: LayerCall) -> str:
    """At inference these hand on what they are given."""
    return call.op(call.op_type, call.inputs[:1])


@layer("Masking")
def masking(call: LayerCall) -> str:
    return call.op("Masking", [call.cast(call.inputs[0])])


@layer("Activation")
def activation(call: LayerCall) -> str:
    function = call.settings.named("activation", "linear")
    if function in ("", "linear"):
        return call.op("Identity", call.inputs[:1])
    return call.function(call.cast(call.inputs[0]), function)


@layer("AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization")
@layer("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Softmax")
def simple(call: LayerCall) -> str:
    return call.op(call.op_type, [call.cast(call.inputs[0])])


@layer("PReLU")
def prelu(call: LayerCall) -> str:
    rank = call.rank(least=2)
    shared = call.settings.ints("shared_axes", ())
    axes = {axis % rank for axis in shared}
    shape = tuple(1 if axis in axes else call.dim(axis) for axis in range(1, rank))
    return call.op("PReLU", [call.cast(call.inputs[0]), call.weight("alpha", shape)])
