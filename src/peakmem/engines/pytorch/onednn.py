"""oneDNN's convolutions as PyTorch calls them: which kernel, in which layout, with what beside it.

Which kernel is asked first: src/cpu/cpu_convolution_list.cpp of oneDNN v3.12 (torch 2.13.0 carries 80afa71). Kernels
and layouts are those that ONEDNN_VERBOSE tells for 200 convolutions, with AVX-512 and AVX2. Memory in blocks of
channels is padded to whole blocks (src/common/memory_desc.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

Kind = Literal["jit", "jit_1x1", "jit_dw", "gemm"]
AVX2, AVX512 = 8, 16
# floats in a register, which is what channels are blocked by; the first held against ONEDNN_MAX_CPU_ISA=AVX2
ALIGNED = 128
# of a scratchpad (memory_tracking.hpp: each entry is aligned)
OBJECTS: dict[Kind, int] = {"jit": 43_286, "jit_1x1": 56_340, "jit_dw": 43_448, "gemm": 36_900}
# bytes in the cache of primitives for each: description, kernel, code generator; measured
SKIPPING = 4_700
# of the generator that leaves out what the strides of a 1x1 convolution skip; measured
BLOCK_REORDER, GENERAL_REORDER = 10_039, 12_132
# the same for reorders: whole blocks of channels (jit:blk), all others (jit:uni)
PLAIN_REORDER = 10_000
# of a copy from one plain layout to another; measured, in round numbers
GEMM_CODE = {4: 350_000, 2: 84_000}
# of the first convolution by gemm, by size of an element: the generators of its product; measured


@dataclass(frozen=True, slots=True)
class Convolution:
    """Sizes of one convolution, one-dimensional ones as two-dimensional."""

    batch: int
    channels_in: int
    channels_out: int
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
    def plain(self) -> bool:
        """Whether the kernel is 1x1 and walks over every place, so that the image is the matrix."""
        return prod(self.kernel) == 1 and prod(self.strides) == 1 and not any(self.pads)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one convolution takes, in bytes."""

    kind: Kind
    source: int
    # the image in the kernel's layout; 0 where it is read as it is
    weights: int
    # the same of the weights
    result: int
    scratch: int
    reorders: tuple[tuple[tuple[object, ...], int], ...]
    # (key, bytes) of each reorder in the cache


def up(value: int, step: int) -> int:
    """`value`, rounded up to a multiple of `step`."""
    return -(-value // step) * step


def plan(one: Convolution, threads: int, lanes: int) -> Plan:
    """How oneDNN does it, with registers of `lanes` floats."""
    ic, oc, groups = one.channels_in, one.channels_out, one.groups
    pixels, places, taps = prod(one.image), prod(one.result), prod(one.kernel)
    size = one.itemsize
    depthwise = groups > 1 and groups == ic == oc
    block = _block(ic // groups, oc // groups, lanes) if groups > 1 and not depthwise else lanes
    if not block:
        columns = threads * (ic // groups) * taps * places * 4
        key = (one.batch, oc, one.result)
        return Plan("gemm", 0, 0, one.batch * oc * places * size, columns + ALIGNED, ((("copy", *key), PLAIN_REORDER),))
    kind: Kind = "jit"
    flat = groups == 1 and ic < lanes
    scratch = 0
    if depthwise:
        kind = "jit_dw"
    elif groups == 1 and taps == 1 and not any(one.pads):
        kind, flat = "jit_1x1", False
        if prod(one.strides) > 1:
            scratch += threads * up(ic, lanes) * places * size
            # the image without what the strides leave out (rtus, jit_uni_1x1_conv_utils.hpp)
        if size == 2:
            scratch += up(oc, lanes) * places * 4
    wide_in, wide_out = up(ic, block), up(oc, block)
    if one.bias and wide_out != oc:
        scratch += wide_out * 4
        # a bias as long as the padded channels
    if depthwise:
        weights = up(groups, lanes) * taps
    elif groups > 1:
        weights = oc * (ic // groups) * taps
    else:
        weights = wide_out * ((up(ic, 2) if size == 2 else ic) if flat else wide_in) * taps
    whole = size == 4 and ic % lanes == 0 and oc % lanes == 0
    reorders: list[tuple[tuple[object, ...], int]] = []
    if not flat:
        reorders.append(
            (("in", one.batch, ic, one.image, block), _reorder(size == 4 and block >= 8 and ic % block == 0))
        )
    simple = (whole and (depthwise or (taps == 1 and groups == 1))) or (flat and ic == 1 and oc % lanes == 0)
    reorders.append((("weights", kind, oc, ic, groups, one.kernel, flat), _reorder(simple)))
    reorders.append((("out", one.batch, oc, one.result, block), _reorder(size == 4 and block >= 8 and oc % block == 0)))
    return Plan(
        kind, 0 if flat else one.batch * wide_in * pixels * size, weights * size, one.batch * wide_out * places * size,
        scratch + ALIGNED if scratch else 0, tuple(reorders),
    )  # fmt: skip


def _reorder(simple: bool) -> int:
    return BLOCK_REORDER if simple else GENERAL_REORDER


def _block(inside: int, outside: int, lanes: int) -> int:
    """Channels in a block where they come in groups; 0: none fits, the product of matrices does it."""
    sizes = (16, 8, 4) if lanes == AVX512 else (8,)
    return next((size for size in sizes if inside % size == 0 and outside % size == 0), 0)
