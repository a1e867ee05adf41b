"""Convolutions and their gradients: which backend, and what is alive within the operator at once.

aten/src/ATen/native/Convolution.cpp, ConvolutionMM2d.cpp, NaiveConvolutionTranspose2d.cpp, NaiveDilatedConvolution.cpp,
mkldnn/Conv.cpp of PyTorch 2.13; the order of allocations as the profiler shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from peakmem.training.workspaces.cpu import onednn
from peakmem.training.workspaces.cpu.onednn import Taken
from peakmem.training.workspaces.cpu.onednn_scratch import book
from peakmem.training.workspaces.cpu.sizes import Sizes, by_onednn, channels_last, dense, sizes_of
from peakmem.training.workspaces.cpu.tensors import elements
from peakmem.training.workspaces.found import Answer, Call, Machine


def _bytes(tensor: Any) -> int:
    return elements(tensor) * int(tensor.dtype.itemsize)


def _name(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _copied(tensor: Any, *, last: bool) -> int:
    """Bytes of the copy of an operand that does not lie as the kernel wants it."""
    return 0 if dense(tensor.shape, tensor.stride(), last=last) else _bytes(tensor)


def convolution(call: Call) -> Answer:
    """`aten::convolution`."""
    image, weights, bias, strides, pads, dilations, transposed, extra, groups = call.args[:9]
    if len(image.shape) != len(weights.shape) or len(weights.shape) < 3:
        return None
    one = sizes_of(
        image, weights, tuple(call.result.shape), strides, pads, dilations, groups,
        transposed=transposed, bias=bias is not None,
    )  # fmt: skip
    if not by_onednn(one, _name(image), call.machine, extra if transposed else ()):
        return _slow_forward(one, image, weights, transposed=transposed)
    last = channels_last(image.shape, image.stride()) or channels_last(weights.shape, weights.stride())
    copies = _copied(image, last=last) + _copied(weights, last=last)
    made = _bytes(call.result)
    taken = _transposed_forward(one, call.machine, last=last) if transposed else _forward(one, call.machine, last=last)
    inside = taken.image + taken.weights + taken.scratch
    if last:
        most = inside + inside // 8 + (made if one.inner == 1 else 0)
        return copies, copies + inside, copies + most
        # how wide brgemm's blocks of weights are is an estimate of speed
    again = made if taken.again else 0
    return copies + inside + taken.result, copies + taken.result + again


def _forward(one: Sizes, machine: Machine, *, last: bool) -> Taken:
    return onednn.forward(one, machine.threads, machine.lanes, last=last)


def _transposed_forward(one: Sizes, machine: Machine, *, last: bool) -> Taken:
    """As the gradient of a convolution whose result is this one's image."""
    return _within(onednn.backward_image(one.turned(), machine.threads, machine.lanes, last=last))


def _within(taken: Taken) -> Taken:
    """A scratchpad within a scratchpad: a transposed convolution hands its convolution's on."""
    return taken._replace(scratch=book(taken.scratch))


def convolution_backward(call: Call) -> Answer:
    """`aten::convolution_backward`."""
    gradient, image, weights, _, strides, pads, dilations, transposed, extra, groups, mask = call.args[:11]
    if len(image.shape) != len(weights.shape) or len(weights.shape) < 3:
        return None
    one = sizes_of(
        image, weights, tuple(gradient.shape), strides, pads, dilations, groups, transposed=transposed, bias=mask[2]
    )
    if not by_onednn(one, _name(image), call.machine, extra if transposed else ()):
        return _slow_backward(one, gradient, image, weights, mask, transposed=transposed)
    last = channels_last(image.shape, image.stride()) or channels_last(weights.shape, weights.stride())
    copies = sum(_copied(each, last=last) for each in (gradient, image, weights))
    threads, lanes = call.machine.threads, call.machine.lanes
    done = before = beside = 0
    if mask[0]:
        taken = (
            _within(onednn.forward(one.turned(), threads, lanes, last=last)) if transposed
            else onednn.backward_image(one, threads, lanes, last=last)
        )  # fmt: skip
        done = _bytes(image)
        inside = taken.image + taken.weights + taken.scratch
        before = inside + (done if last else taken.result)
        beside = inside if last else taken.result + (done if taken.again else 0)
        before = max(before, done + beside)
    if mask[1] or mask[2]:
        turned = one.turned() if transposed else one
        taken = onednn.backward_weights(turned, threads, lanes, last=last)
        taken = _within(taken) if transposed else taken
        bias = one.outer * one.itemsize if mask[2] else 0
        plain = _bytes(weights)
        beside = taken.result + bias + (plain if last else 0)
        before = max(before, done + taken.image + taken.scratch + taken.result + bias, done + beside + bias)
    return copies + before, copies + beside


def _columns(one: Sizes, *, transposed: bool) -> int:
    """Bytes of the unfolded image, of the whole batch where it is one (ConvolutionMM2d.cpp)."""
    if transposed:
        return one.outer * prod(one.kernel) * prod(one.image) * one.itemsize
    return one.inner // one.groups * prod(one.kernel) * prod(one.result) * one.itemsize


def _slow_forward(one: Sizes, image: Any, weights: Any, *, transposed: bool) -> Answer:
    """Without oneDNN: the image unfolded into a matrix; in groups, each by itself."""
    last = not transposed and channels_last(image.shape, image.stride())
    copies = _copied(image, last=last) + _copied(weights, last=last)
    flat = len(weights.shape) < 5 and not transposed
    trivial = flat and prod(one.kernel) == 1 and not one.strided and not any(one.pads)
    alone = transposed or prod(one.dilations) > 1
    columns = 0 if trivial else _columns(one, transposed=transposed) * (1 if alone else one.batch)
    made = one.batch * one.outer * prod(one.result) * one.itemsize
    if one.groups > 1:
        part = _bytes(image) // one.groups if one.batch > 1 else 0
        return copies + part + columns + made, copies + made, copies + part + columns + 2 * made
    return copies + columns, copies + columns


def _slow_backward(
    one: Sizes, gradient: Any, image: Any, weights: Any, mask: Sequence[bool], *, transposed: bool
) -> Answer:  # fmt: skip
    """Without oneDNN: two unfolded images, one for each gradient; in half precision float32 sums besides."""
    last = not transposed and channels_last(image.shape, image.stride())
    copies = sum(_copied(each, last=last) for each in (gradient, image, weights))
    flat = len(weights.shape) < 5 and not transposed
    trivial = flat and prod(one.kernel) == 1 and not one.strided and not any(one.pads)
    alone = transposed or prod(one.dilations) > 1
    columns = 0 if trivial else _columns(one, transposed=transposed)
    held = columns * (1 if alone else one.batch)
    made = (_bytes(image) if mask[0] else 0) + (_bytes(weights) if mask[1] else 0)
    if one.groups > 1:
        return copies + made + held, copies + held, copies + 3 * (held + made)
    return copies + held, copies + held, copies + 2 * held
