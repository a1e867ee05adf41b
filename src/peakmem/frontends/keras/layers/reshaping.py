"""Layers that only move what they are given."""

from __future__ import annotations

from peakmem.frontends.keras.graph import LayerCall
from peakmem.frontends.keras.layers.registry import layer


@layer("Flatten")
def flatten(call: LayerCall) -> str:
    if call.channels_first:
        # Keras moves the channels to the end before it flattens.
        moved = call.op("Transpose", call.inputs[:1], part="channels_last", to="channels_last")
        return call.op("Flatten", [moved])
    return call.op("Flatten", call.inputs[:1])


@layer("Reshape")
def reshape(call: LayerCall) -> str:
    return call.op("Reshape", call.inputs[:1], target_shape=call.settings.ints("target_shape"))


@layer("Permute")
def permute(call: LayerCall) -> str:
    return call.op("Permute", call.inputs[:1], perm=(0, *call.settings.ints("dims")))


@layer("RepeatVector")
def repeat(call: LayerCall) -> str:
    return call.op("RepeatVector", call.inputs[:1], n=call.settings.whole("n"))
