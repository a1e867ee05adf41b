"""Normalisations: partial sums of threads, factors of channels, and the copy that batch normalisation's gradient makes.

aten/src/ATen/native/Normalization.cpp, cpu/batch_norm_kernel.cpp, cpu/layer_norm_kernel.cpp, cpu/group_norm_kernel.cpp
of PyTorch 2.13.
"""

from __future__ import annotations

from typing import Any

from peakmem.training.workspaces.cpu.sizes import channels_last, dense
from peakmem.training.workspaces.cpu.tensors import elements, nbytes
from peakmem.training.workspaces.found import Answer, Call


def _accumulated(tensor: Any) -> int:
    return max(int(tensor.dtype.itemsize), 4)


def _wide_statistics(call: Call, weight: Any) -> tuple[int, ...]:
    """Statistics of a narrow image are as wide as the weight (mixed_data_type.h); fake tensors call them narrow."""
    results = call.result if isinstance(call.result, tuple | list) else (call.result,)
    if weight is None or len(results) < 3:
        return ()
    wide = int(weight.dtype.itemsize)
    return 0, *((wide - int(each.dtype.itemsize)) * elements(each) for each in results[1:3])


def batch_norm(call: Call) -> Answer:
    """`aten::native_batch_norm`: a factor and a summand, or mean and variance, for each channel."""
    image, weights, training = call.args[0], call.args[1], bool(call.args[5])
    if len(image.shape) < 2:
        return 0
    channels = int(image.shape[1])
    last = len(image.shape) == 2 or channels_last(image.shape, image.stride())
    each = _accumulated(image)
    taken = 2 * channels * each
    if training and last:
        state = call.args[3] if weights is None else weights
        narrow = each if state is None else int(state.dtype.itemsize)
        taken = max(taken, 2 * channels * narrow + call.machine.threads * channels * each)
    copies = 0 if last or dense(image.shape, image.stride()) else nbytes(image)
    return 0, taken + copies, 0, _wide_statistics(call, weights)


def batch_norm_backward(call: Call) -> Answer:
    """`aten::native_batch_norm_backward`: the gradient of the image, made once in vain."""
    return nbytes(call.args[1]) if call.args[-1][0] else 0


def layer_norm(call: Call) -> Answer:
    """`aten::native_layer_norm`: a copy of rows that do not lie whole."""
    copies = 0 if dense(call.args[0].shape, call.args[0].stride()) else nbytes(call.args[0])
    return copies + nbytes(call.args[0]) if copies else 0, copies, 0, _wide_statistics(call, call.args[2])


def layer_norm_backward(call: Call) -> Answer:
    """`aten::native_layer_norm_backward`: each thread's sums for both parameters, and copies."""
    gradient, image, shape, mask = call.args[0], call.args[1], call.args[2], call.args[-1]
    copies = sum(0 if dense(each.shape, each.stride()) else nbytes(each) for each in (gradient, image))
    width = 1
    for size in shape:
        width *= int(size)
    held = call.args[5] if call.args[5] is not None else image
    sums = 2 * call.machine.threads * width * int(held.dtype.itemsize) if mask[1] or mask[2] else 0
    return (copies + nbytes(image) if copies else 0), copies + sums


def group_norm(call: Call) -> Answer:
    """`aten::native_group_norm`: with channels innermost, two sums for each channel of each image."""
    image = call.args[0]
    if channels_last(image.shape, image.stride()):
        taken = 2 * int(call.args[3]) * int(call.args[4]) * _accumulated(image)
    else:
        taken = 0 if dense(image.shape, image.stride()) else nbytes(image)
    return 0, taken, 0, _wide_statistics(call, call.args[1])


def group_norm_backward(call: Call) -> Answer:
    """`aten::native_group_norm_backward`: the same two sums, whatever the layout."""
    gradient, image = call.args[0], call.args[1]
    last = channels_last(image.shape, image.stride())
    copies = sum(0 if dense(each.shape, each.stride(), last=last) else nbytes(each) for each in (gradient, image))
    return copies + 2 * int(call.args[5]) * int(call.args[6]) * _accumulated(image)
