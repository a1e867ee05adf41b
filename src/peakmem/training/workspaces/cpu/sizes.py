"""Sizes of one convolution, read from ATen's operands, and whether oneDNN gets it.

aten/src/ATen/native/Convolution.cpp (ConvParams::use_mkldnn, use_cpu_depthwise3x3_winograd), ConvUtils.h
(mkldnn_conv_use_channels_last) of PyTorch 2.13.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from peakmem.training.workspaces.found import Machine

LEAST_WORK = 20_480
# elements of the image from which oneDNN is asked for one image without groups
LARGE_BATCH = 16
WIDE_KERNEL = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one convolution; one-dimensional ones are images of one row."""

    batch: int
    inner: int
    # channels of the image
    outer: int
    # channels of the result
    groups: int
    image: tuple[int, ...]
    result: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    bias: bool
    itemsize: int

    @property
    def depthwise(self) -> bool:
        """Whether each channel is filtered by itself."""
        return self.groups > 1 and self.groups == self.inner == self.outer

    @property
    def pointwise(self) -> bool:
        """Whether oneDNN takes it as a product of matrices: 1x1, no groups, no margins."""
        if self.groups > 1 or prod(self.kernel) != 1 or any(self.pads):
            return False
        if prod(self.strides) == 1:
            return True
        whole = all(y * s == x for y, s, x in zip(self.result, self.strides, self.image, strict=True))
        return whole and len(self.image) == 2
        # what strides skip is left out first (rtus_prepare, jit_uni_1x1_conv_utils.hpp)

    @property
    def strided(self) -> bool:
        """Whether it leaves out places of the image."""
        return prod(self.strides) > 1

    def turned(self) -> Sizes:
        """The convolution whose gradient with regard to its image a transposed convolution is."""
        return Sizes(
            self.batch, self.outer, self.inner, self.groups, self.result, self.image, self.kernel, self.strides,
            self.pads, self.dilations, False, self.itemsize,
        )  # fmt: skip


def listed(value: Any, rank: int) -> tuple[int, ...]:
    """One number for each dimension."""
    numbers = tuple(value) if isinstance(value, Sequence) else (value,)
    return numbers * rank if len(numbers) == 1 else numbers


def sizes_of(
    image: Any, weights: Any, result: tuple[int, ...], strides: Any, pads: Any, dilations: Any, groups: int,
    *, transposed: bool, bias: bool,
) -> Sizes:  # fmt: skip
    """Sizes of `aten::convolution`, transposed ones as they come."""
    shape, kernel = tuple(image.shape), tuple(weights.shape)
    rank = len(kernel) - 2
    one, none = ((1,), (0,)) if rank == 1 else ((), ())
    return Sizes(
        shape[0], shape[1], kernel[1] * groups if transposed else kernel[0], groups,
        (*one, *shape[2:]), (*one, *result[2:]), (*one, *kernel[2:]), (*one, *listed(strides, rank)),
        (*none, *listed(pads, rank)), (*one, *listed(dilations, rank)), bias, image.dtype.itemsize,
    )  # fmt: skip


def by_onednn(one: Sizes, dtype: str, machine: Machine, extra: Sequence[int] = ()) -> bool:
    """Whether oneDNN does it; `extra` is a transposed convolution's padding of its result."""
    if not machine.onednn or any(more >= step for more, step in zip(extra, one.strides[-len(extra) :], strict=False)):
        return False
    if dtype == "bfloat16":
        return machine.bfloat16
    if dtype == "float16":
        return machine.half
    if dtype != "float32":
        return False
    moves = prod(one.strides) > 1 or prod(one.dilations) > 1
    if not (moves or one.batch >= LARGE_BATCH or prod(one.kernel[-2:]) > 1 or machine.threads > 1):
        return False
        # 1x1 on one thread: a plain product is faster
    work = one.batch * one.inner * prod(one.image)
    return one.groups > 1 or min(one.kernel[-2:]) > WIDE_KERNEL or one.batch > 1 or work > LEAST_WORK


def channels_last(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether channels are innermost (`is_channels_last_strides_2d`, `_3d` of c10/core/MemoryFormat.h)."""
    if len(shape) not in (4, 5) or strides[1] == 0:
        return False
    least = 0
    for axis in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[axis] == 0 or strides[axis] < least or (axis == 0 and least == strides[1]):
            return False
        least = strides[axis] * max(shape[axis], 1)
    return True


def dense(shape: Sequence[int], strides: Sequence[int], *, last: bool = False) -> bool:
    """Whether a tensor lies whole and in order, row by row or (`last`) with its channels innermost."""
    order = (1, *range(len(shape) - 1, 1, -1), 0) if last and len(shape) > 3 else range(len(shape) - 1, -1, -1)
    step = 1
    for axis in order:
        if shape[axis] != 1:
            if strides[axis] != step:
                return False
            step *= shape[axis]
    return True
