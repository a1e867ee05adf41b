"""Losses that are composed below the dispatcher: each element's loss, and what averaging it takes.

aten/src/ATen/native/Loss.cpp, LossCTC.cpp of PyTorch 2.13.
"""

from __future__ import annotations

from peakmem.training.workspaces.cpu.tensors import SCALAR, elements, nbytes
from peakmem.training.workspaces.found import Answer, Call

MEAN = 1
# at::Reduction


def _averaging(count: int, size: int) -> int:
    """A mean: half precision is summed in a float32 copy."""
    return count * 4 + 4 if size == 2 else SCALAR + size


def pointwise(call: Call) -> Answer:
    """`aten::huber_loss`."""
    if len(call.result.shape) == len(call.args[0].shape) and len(call.result.shape):
        return 0
    count, size = elements(call.args[0]), int(call.args[0].dtype.itemsize)
    return count * size + _averaging(count, size)


def pointwise_kept(call: Call) -> Answer:
    """`aten::mse_loss`, `aten::smooth_l1_loss`: the result was made for each element and keeps that memory."""
    if len(call.result.shape) == len(call.args[0].shape) and len(call.result.shape):
        return 0
    count, size = elements(call.args[0]), int(call.args[0].dtype.itemsize)
    reduction = call.args[2] if len(call.args) > 2 else call.kwargs.get("reduction", MEAN)
    return 0, count * size + (_averaging(count, size) if reduction == MEAN else 0), 0, (count - 1) * size


def averaged_in_place(call: Call) -> Answer:
    """`aten::binary_cross_entropy`, `aten::soft_margin_loss`: the result keeps the memory of each element's loss."""
    if len(call.result.shape) == len(call.args[0].shape) and len(call.result.shape):
        return 0
    count, size = elements(call.args[0]), int(call.args[0].dtype.itemsize)
    left = (count - 1) * size
    return 0, _averaging(count, size) + size, 0, left


def with_logits(call: Call) -> Answer:
    """`aten::binary_cross_entropy_with_logits`."""
    count, size = elements(call.args[0]), int(call.args[0].dtype.itemsize)
    if len(call.result.shape) == len(call.args[0].shape) and len(call.result.shape):
        return 2 * nbytes(call.args[0]), nbytes(call.args[0])
    return 2 * count * size, 2 * count * size + _averaging(count, size)


def ctc_backward(call: Call) -> Answer:
    """`aten::_ctc_loss_backward`: the probabilities of going on from each place, as large as those up to it."""
    return nbytes(call.args[6])
