"""What oneDNN takes for a convolution and its gradients: blocked copies of the operands and scratchpads.

oneDNN v3.12 (torch 2.13.0 carries 80afa71). Which kernel comes first: src/cpu/cpu_convolution_list.cpp; layouts: the
`init_conf` of each kernel, held against ONEDNN_VERBOSE for the convolutions of the sweep; scratchpads: their
`init_scratchpad`. ideep asks PyTorch's allocator for all of them, so the profiler sees every byte. With AVX-512 (and
its bfloat16); processors with AMX take other kernels for bfloat16, AVX2 blocks of eight channels.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

from peakmem.training.workspaces.cpu.onednn_scratch import (
    book,
    brgemm_batch,
    gemm_scratch,
    jit_gradient,
    narrow_gradient,
    outputs_of_threads,
    pointwise_gradient,
    strided_scratch,
)
from peakmem.training.workspaces.cpu.sizes import Sizes
from peakmem.training.workspaces.cpu.threading import up

FEW_CHANNELS = 4
# of an image that the gradient for AVX-512 reads as it lies: fewer than these (float32)
WIDEST_FIRST, WIDEST = 24, 14
# columns of a kernel that the gradients of bfloat16 and the other gradients for AVX-512 take
WIDEST_DEPTHWISE = 3
MARGIN = 6
# columns that a depthwise kernel makes at a time: its margin may not be wider


class Taken(NamedTuple):
    """Bytes of one call of oneDNN."""

    image: int
    # copies in the kernel's layout; 0: read where they lie
    weights: int
    result: int
    scratch: int
    again: bool = False
    # the result has its channels innermost, and turning it back takes one more copy


def block_of(inside: int, outside: int, lanes: int) -> int:
    """Channels in a block where they come in groups; 0: none fits, a product of matrices does it."""
    sizes = (16, 8, 4) if lanes == 16 else (8,)
    return next((size for size in sizes if inside % size == 0 and outside % size == 0), 0)


def _block(one: Sizes, lanes: int) -> int:
    if one.depthwise:
        narrow = one.pads[-1] <= MARGIN
        return lanes if len(one.image) == 2 and narrow else 0
    if one.groups == 1:
        return lanes
    return block_of(one.inner // one.groups, one.outer // one.groups, lanes)


def _blocks(channels: int, lanes: int) -> int:
    """Channels in whole blocks of brgemm's weights: one to four registers, by an estimate of speed; two fit best."""
    return up(channels, 2 * lanes if channels > lanes else lanes)


def _grouped(one: Sizes, lanes: int) -> int:
    """Elements of weights in groups whose channels are padded each."""
    each = up(one.inner // one.groups, lanes) * up(one.outer // one.groups, lanes)
    return one.groups * each * prod(one.kernel)


@lru_cache(maxsize=4096)
def forward(one: Sizes, threads: int, lanes: int, *, last: bool) -> Taken:
    """A convolution; `last`: channels innermost."""
    size, taps, places = one.itemsize, prod(one.kernel), prod(one.result)
    pairs = 2 if size == 2 else 1
    if last:
        if one.depthwise and len(one.image) == 2:
            return Taken(0, up(one.groups, lanes) * taps * size, 0, 0)
        inside, outside = one.inner // one.groups, one.outer // one.groups
        if one.groups > 1 and (size == 4 or outside % lanes == 0):
            return Taken(0, _grouped(one, lanes) * size, 0, 0)
        weights = one.groups * _blocks(outside, lanes) * up(inside, pairs) * taps * size
        return Taken(0, weights, 0, brgemm_batch(threads, taps))
    block = _block(one, lanes)
    if not block:
        return Taken(0, 0, one.batch * one.outer * places * size, gemm_scratch(one, threads, "forward"))
    flat = one.groups == 1 and one.inner < lanes and not one.pointwise
    inner, outer = up(one.inner, block), up(one.outer, block)
    scratch = 0
    if one.depthwise:
        weights = up(one.groups, lanes) * taps
        if one.bias and (size == 2 or outer != one.outer):
            scratch = book(outer * 4)
    elif one.groups > 1:
        weights = one.outer * (one.inner // one.groups) * taps
    else:
        weights = outer * (up(one.inner, pairs) if flat else inner) * taps
        if one.bias and outer != one.outer:
            scratch = book(outer * size)
        if one.pointwise:
            if one.strided:
                scratch += book(threads * inner * places * size)
            if size == 2:
                scratch += outputs_of_threads(one, threads, one.inner, one.outer, one.result)
    return Taken(
        0 if flat else one.batch * inner * prod(one.image) * size, weights * size, one.batch * outer * places * size,
        scratch,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def backward_image(one: Sizes, threads: int, lanes: int, *, last: bool) -> Taken:
    """Its gradient with regard to the image: copies of the result's gradient, the weights and the image's gradient."""
    size, taps, places, pixels = one.itemsize, prod(one.kernel), prod(one.result), prod(one.image)
    pairs = 2 if size == 2 else 1
    if one.strided and not (one.depthwise and size == 4):
        gradient, image = one.batch * one.outer * places * size, one.batch * one.inner * pixels * size
        inside, outside = one.inner // one.groups, one.outer // one.groups
        weights = one.groups * _blocks(inside, lanes) * up(outside, pairs) * taps * size
        scratch = strided_scratch(one, threads)
        return Taken(0, weights, 0, scratch) if last else Taken(gradient, weights, image, scratch, one.inner > 1)
    if last:
        if one.depthwise:
            return Taken(0, up(one.groups, lanes) * taps * size, 0, 0)
        if one.groups > 1 and (one.outer // one.groups) % lanes:
            return Taken(0, _grouped(one, lanes) * size, 0, 0)
        inside, outside = one.inner // one.groups, one.outer // one.groups
        weights = one.groups * _blocks(inside, lanes) * up(outside, pairs) * taps * size
        return Taken(0, weights, 0, brgemm_batch(threads, taps) + book(0, always=True))
    block = _block(one, lanes)
    if not block:
        return Taken(0, 0, one.batch * one.inner * pixels * size, gemm_scratch(one, threads, "image"))
    inner, outer = up(one.inner, block), up(one.outer, block)
    if one.depthwise:
        weights = up(one.groups, lanes) * taps
    elif one.groups > 1:
        weights = one.outer * (one.inner // one.groups) * taps
    else:
        weights = inner * outer * taps
    scratch = 0
    if one.pointwise and size == 2:
        scratch = outputs_of_threads(one, threads, one.outer, one.inner, one.image)
    return Taken(
        one.batch * outer * places * size, weights * size, one.batch * inner * pixels * size, scratch
    )  # fmt: skip


@lru_cache(maxsize=4096)
def backward_weights(one: Sizes, threads: int, lanes: int, *, last: bool) -> Taken:
    """Its gradient with regard to the weights: copies of image and gradient together, the weights' gradient."""
    size, taps, places, pixels = one.itemsize, prod(one.kernel), prod(one.result), prod(one.image)
    plain = prod(one.kernel) * (one.inner // one.groups) * one.outer * size
    by_gemm = Taken(0, 0, plain, gemm_scratch(one, threads, "weights"))
    if one.depthwise and len(one.image) == 2 and _depthwise_fits(one):
        groups = up(one.groups, lanes)
        both = 0 if last else one.batch * groups * (places + pixels) * size
        return Taken(both, 0, groups * taps * size, narrow_gradient(one, threads, lanes, last=last))
    widest = WIDEST_FIRST if size == 2 and one.inner < lanes and one.groups == 1 else WIDEST
    if one.kernel[-1] > widest:
        return by_gemm
    if last:
        first = one.groups == 1 and one.inner < lanes and not one.pointwise
        weights = up(one.outer, lanes) * one.inner * taps if first else _grouped(one, lanes)
        scratch = (pointwise_gradient if one.pointwise else jit_gradient)(one, threads, lanes, last=True)
        return Taken(0, 0, weights * size, scratch)
    if one.groups > 1:
        block = 0 if one.depthwise else _block(one, lanes)
        if block == lanes or (block == 8 and size == 4):
            both = one.batch * (one.inner * pixels + one.outer * places) * size
            scratch = jit_gradient(one, threads, block, last=False) if block == lanes else 0
            return Taken(both, 0, plain, scratch)
        return by_gemm
    outer = up(one.outer, lanes)
    gradient = one.batch * outer * places * size
    if one.pointwise:
        inner = up(one.inner, lanes)
        scratch = pointwise_gradient(one, threads, lanes, last=False)
        return Taken(gradient + one.batch * inner * pixels * size, 0, inner * outer * size, scratch)
    if one.inner < lanes and size == 2:
        if one.outer % lanes:
            return by_gemm
        return Taken(gradient, 0, outer * one.inner * taps * size, jit_gradient(one, threads, lanes, last=False))
    if one.inner < FEW_CHANNELS:
        return Taken(gradient, 0, outer * one.inner * taps * size, jit_gradient(one, threads, lanes, last=False))
    if one.inner < lanes:
        return _by_avx2(one, threads)
    inner = up(one.inner, lanes)
    scratch = jit_gradient(one, threads, lanes, last=False)
    return Taken(gradient + one.batch * inner * pixels * size, 0, inner * outer * taps * size, scratch)


def _by_avx2(one: Sizes, threads: int) -> Taken:
    """Four to fifteen channels of float32: the kernel for AVX2, in blocks of eight."""
    inner, outer = up(one.inner, 8), up(one.outer, 8)
    both = one.batch * (inner * prod(one.image) + outer * prod(one.result)) * 4
    return Taken(both, 0, inner * outer * prod(one.kernel) * 4, jit_gradient(one, threads, 8, last=False))


def _depthwise_fits(one: Sizes) -> bool:
    """jit_uni_dw_conv_bwd_weights_kernel_t::init_conf: narrow kernels without gaps, and small margins."""
    if prod(one.dilations) > 1 or one.kernel[-1] > WIDEST_DEPTHWISE or one.strides[-1] > one.kernel[-1]:
        return False
    margins = all(pad <= kernel // 2 for pad, kernel in zip(one.pads, one.kernel, strict=True))
    steps = one.pads[-2] <= 1 or one.pads[-2] % one.strides[-2] == 0
    return margins and steps and one.image[-2] >= one.kernel[-2] + (-one.pads[-2]) % one.strides[-2]
