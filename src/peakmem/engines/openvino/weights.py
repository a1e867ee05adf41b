"""Weights as the kernels want them: oneDNN's layouts for brgemm kernels, from the sizes that 2026.4.1 asks for.

Each weight exists twice: as the constant of the model and repacked (mapped constants of an IR aside). Output channels
are padded to whole blocks, depthwise ones by channels; at bfloat16 the input channels go in pairs. A product whose
constant stores inputs before outputs keeps it a third time at bfloat16, converted and turned around.
"""

from __future__ import annotations

from math import prod

from peakmem.engines.openvino.network import Weight

CONVOLUTION_BLOCK, PRODUCT_BLOCK = 16, 64
# output channels; oneDNN takes 48 for some 1x1 convolutions of few pixels and then pads a little more


def repacked(weight: Weight, item: int) -> int:
    """Bytes of the repacked copy at `item` bytes an element; 0 for a bias, which is read as it is or converted."""
    outputs, inputs, *window = (*weight.shape, 1)[: max(2, len(weight.shape))]
    if weight.kind == "bias":
        return outputs * item if item < 4 else 0
    if weight.kind == "depthwise":
        return _up(outputs, CONVOLUTION_BLOCK) * prod(window) * item
    inside = _up(inputs, 4 // item)
    if weight.kind == "product":
        turned = outputs * inputs * item if weight.turned and item < 4 else 0
        return (_up(outputs, PRODUCT_BLOCK) * inside * item + turned) * prod(window)
    per_group = _up(outputs // weight.groups, CONVOLUTION_BLOCK)
    return weight.groups * per_group * inside * prod(window) * item


def _up(size: int, by: int) -> int:
    return -(-size // by) * by
