"""Pooling and enlarging: tables of places, and copies with channels innermost.

aten/src/ATen/native/cpu/UpSampleKernel.cpp, UpSampleMoreKernel.cpp, MaxPoolKernel.cpp of PyTorch 2.13.
"""

from __future__ import annotations

from peakmem.training.workspaces.cpu.sizes import channels_last, dense
from peakmem.training.workspaces.cpu.tensors import nbytes
from peakmem.training.workspaces.found import Answer, Call, Rule

VECTORISED = 128
# height and width of a result together, up to which enlarging works with channels innermost


def enlarged(taps: int) -> Rule:
    """A rule for interpolation that reads `taps` places along each dimension."""

    def rule(call: Call) -> Answer:
        image, size = call.args[0], int(call.args[0].dtype.itemsize)
        sizes = call.result.shape[2:]
        last = channels_last(image.shape, image.stride())
        if len(sizes) == 2 and taps < 4 and not last and sum(sizes) <= VECTORISED and image.shape[1] > 1:
            return nbytes(image) + nbytes(call.result)
        copies = 0 if last or dense(image.shape, image.stride()) else nbytes(image)
        if last and taps < 4:
            return copies
        return copies + taps * sum(int(each) for each in sizes) * (8 + size)

    return rule


def reduced(call: Call) -> Answer:
    """The gradient of interpolation: a copy of what does not lie row by row."""
    gradient = call.args[0]
    if dense(gradient.shape, gradient.stride()) or channels_last(call.result.shape, call.result.stride()):
        return 0
    return nbytes(gradient)


def max_pool_backward(call: Call) -> Answer:
    """`aten::max_pool2d_with_indices_backward`: copies where gradient or places lie otherwise than the image."""
    gradient, image, places = call.args[0], call.args[1], call.args[-1]
    last = channels_last(image.shape, image.stride())
    if last and not dense(gradient.shape, gradient.stride(), last=True):
        return nbytes(places) + nbytes(call.result)
    return sum(nbytes(each) for each in (gradient, places) if not dense(each.shape, each.stride(), last=last))
