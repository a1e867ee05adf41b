"""Scratchpads of oneDNN's convolutions: what each kernel books beside the operands.

The `init_scratchpad` of oneDNN v3.12, src/cpu/x64: jit_avx512_common_conv_kernel.cpp,
jit_avx512_common_1x1_conv_kernel.cpp, jit_avx512_core_bf16_conv_kernel.cpp, jit_avx512_core_bf16_1x1_conv_kernel.cpp,
jit_uni_dw_conv_kernel_utils.cpp, jit_brgemm_conv_bwd_utils.cpp, jit_avx2_convolution.hpp, and of
src/cpu/gemm_convolution_utils.cpp. Every entry has its alignment added (src/common/memory_tracking.hpp).
"""

from __future__ import annotations

from math import prod
from typing import Literal

from peakmem.training.workspaces.cpu.sizes import Sizes
from peakmem.training.workspaces.cpu.threading import Split, best_divider, cheapest, faster, per, together, up

ALIGNED, PAGE = 128, 4096
ELEMENT = 40
# bytes of a brgemm_batch_element_t, measured
FEWEST_ROWS = 9
# min_oh_reduce: of a result from which rows are summed apart
CACHE = 1 << 20
# of a core's second level, in bytes; decides the spatial blocks of bfloat16's first convolution only


def book(nbytes: int, align: int = ALIGNED, *, always: bool = False) -> int:
    """One entry of a scratchpad."""
    return nbytes + max(align, ALIGNED) if nbytes or always else 0


def barrier(count: int = 1) -> int:
    """Threads wait for each other on a page (`simple_barrier::ctx_t`)."""
    return book(count * PAGE, PAGE)


def brgemm_batch(threads: int, taps: int) -> int:
    """Lists of the blocks that are multiplied, one for each thread."""
    return book(threads * per(up(taps * ELEMENT, PAGE), ELEMENT) * ELEMENT, PAGE)


def strided_scratch(one: Sizes, threads: int) -> int:
    """Of brgemm's gradient with strides: each thread turns the result's gradient, with margins, for itself."""
    padded = []
    for axis, places in enumerate(one.result):
        kernel, stride, pad = one.kernel[axis], one.strides[axis], one.pads[axis]
        reach = (kernel - 1) * one.dilations[axis]
        end = max(0, (places - 1) * stride + reach + 1 - (one.image[axis] + pad))
        padded.append(places + max(0, reach - pad) // stride + max(0, reach - end) // stride)
    size = one.itemsize
    turned = up(prod(padded) * one.outer, PAGE)
    total = brgemm_batch(threads, prod(one.kernel)) + book(threads * turned * size, PAGE) + book(threads * PAGE, PAGE)
    if size == 2:
        wide = min(up(one.inner // one.groups, 16), 64)
        total += book(threads * wide * -(-one.image[-1] // one.strides[-1]) * 4, PAGE)
    return total


def outputs_of_threads(one: Sizes, threads: int, reduced: int, made: int, places: tuple[int, ...]) -> int:
    """Of a 1x1 convolution in bfloat16: sums in float32, for each thread its share of the channels made."""
    pixels = prod(one.result)
    rows = prod(places[:-1])
    if (8 * one.batch) // threads >= 1:
        most, least = (6, 5) if 128 < up(made, 16) < 256 and 10 < rows < 28 else (9, 6)
    else:
        most, least = 30, 9
    at_once = next((w for w in range(most, least - 1, -1) if (rows if rows >= 14 else pixels) % w == 0), 0)
    if not at_once:
        at_once, rest = min(most, pixels), pixels % most
        for width in range(most, least - 1, -1):
            if pixels % width > rest or pixels % width == 0:
                at_once, rest = width, pixels % width
                if not rest:
                    break
    blocks = per(pixels, at_once)
    groups = per(threads, one.batch * blocks)
    channels = up(made, 16)
    if most < 30 and pixels <= 64 and channels * up(reduced, 16) >= CACHE // 2:
        groups = max(groups, 4)
    elif pixels <= 49 and one.batch <= threads and channels > 512 and channels // up(reduced, 16) >= 4:
        groups = max(groups, 2)
    shares = per(threads, per(threads, groups))
    return book(threads * up(pixels, at_once) * up(per(channels, shares), 16) * 4)


def gemm_scratch(one: Sizes, threads: int, what: Literal["forward", "image", "weights"]) -> int:
    """Of a convolution by products of matrices: the unfolded image of each thread (gemm_convolution_utils.cpp)."""
    inner, outer = one.inner // one.groups, one.outer // one.groups
    places, pixels, taps = prod(one.result), prod(one.image), prod(one.kernel)
    slow = one.itemsize == 2
    trivial = taps == 1 and prod(one.strides) == 1 and one.image == one.result
    columns = 0 if trivial else inner * taps * places
    many = one.batch != 1 or one.groups > 2
    if what == "weights":
        used = threads if places // threads < 256 and many else 1
        weights = one.outer * inner * taps * one.itemsize
        total = book(used * weights * 4)
        # the size in bytes, taken for a number of floats
        if slow:
            total += book(weights * 4) + (book(one.outer * 4) if one.bias else 0)
        return total + book(used * columns * one.itemsize)
    work = one.groups * one.batch
    apart = work / up(work, threads)
    within = per(places, 16) * per(outer if what == "forward" else inner, 16)
    better = apart / (within / up(within, threads)) >= 1 or places * inner * outer // threads < 64 * 1024
    few = places // threads < 512 or (what == "image" and taps < 64)
    used = threads if few and many and better else 1
    if what == "image":
        total = book(used * up(inner * pixels, 16) * 4) if slow else 0
        return total + book(used * columns * 4)
    total = book(used * up(outer * places, 16) * 4) if slow else 0
    total += book(one.outer * 4) if slow and one.bias else 0
    return total + book(used * columns * one.itemsize)


def narrow_gradient(one: Sizes, threads: int, lanes: int, *, last: bool) -> int:
    """Of a depthwise convolution's weights: each thread that sums over images has its own sums."""
    groups, slow = up(one.groups, lanes), one.itemsize == 2
    taps = prod(one.kernel)
    if last:
        copies = threads if slow else threads - 1
        total = book(copies * groups * taps * 4) + (book(copies * one.groups * 4) if one.bias else 0)
        return total + (book(one.groups * 4) if one.bias and slow else 0)
    over = min(groups // lanes, threads)
    images = min(max(1, threads // over), one.batch)
    total = book((images if slow else images - 1) * groups * taps * 4)
    if one.bias:
        total += book((images - 1) * groups * 4) + (book(groups * 4) if slow else 0)
    return total


def _bias_sums(one: Sizes, threads: int, lanes: int, jobs: int, largest: int) -> int:
    """Threads that share the sums of a bias's gradient (cpu_reducer_t)."""
    groups, each, share = together(threads, lanes, jobs, one.batch, largest)
    return 0 if each == 1 else book(groups * (each - 1) * share * lanes * 4, PAGE) + barrier(groups)


def jit_gradient(one: Sizes, threads: int, lanes: int, *, last: bool) -> int:
    """Of the weights' gradient by generated code."""
    if one.itemsize == 2:
        return _bfloat16_gradient(one, threads, lanes, last=last)
    if lanes == 8:
        return _avx2_gradient(one, threads)
    inner, outer, taps = one.inner // one.groups, one.outer // one.groups, prod(one.kernel)
    first = one.groups == 1 and inner < lanes
    block = inner if first else lanes
    in_blocks, out_blocks = per(inner, block), per(outer, lanes)
    split = _split(one, threads, block, in_blocks, out_blocks, lanes, last=last)
    total = 0
    if split.images > 1:
        weights = one.groups * out_blocks * lanes * (in_blocks * block * taps + 1)
        total += book((split.images - 1) * weights * 4) + barrier()
    if one.bias:
        if outer % lanes:
            total += book(one.groups * out_blocks * lanes * 4)
        total += _bias_sums(one, split.all, lanes, one.groups * out_blocks, split.all * 3 * 25 * 256)
    return total


def _split(
    one: Sizes, threads: int, block: int, in_blocks: int, out_blocks: int, lanes: int, *, last: bool
) -> Split:  # fmt: skip
    """jit_avx512_common_conv_bwd_weights_kernel_f32_t::balance."""
    if threads < one.groups:
        return Split(groups=threads)
    rank, taps = len(one.image), prod(one.kernel)
    by_rows = rank == 2 and prod(one.dilations[-2:-1]) == 1 and one.result[-2] > FEWEST_ROWS and not last
    deep_in, deep_out = (one.image[0], one.result[0]) if rank == 3 else (1, 1)
    rows_in, rows_out = one.image[-2], one.result[-2]
    images_in, images_out = one.batch * (rows_in if by_rows else 1), one.batch * (rows_out if by_rows else 1)
    line_in = block * (1 if by_rows else rows_in) * one.image[-1] * deep_in
    line_out = lanes * (1 if by_rows else rows_out) * one.result[-1] * deep_out

    def cost(mb: int, oc: int, ic: int) -> float:
        read = per(images_in, mb) * per(in_blocks, ic) * line_in
        for stride in one.strides:
            read //= stride
        written = per(images_out, mb) * per(out_blocks, oc) * line_out
        return read + written + 8 * per(out_blocks, oc) * per(in_blocks, ic) * taps * block * lanes

    def work(mb: int, oc: int, ic: int) -> int:
        return per(images_out, mb) * per(out_blocks, oc) * per(in_blocks, ic)

    inside = threads // one.groups
    most = one.batch * deep_out * (max(1, rows_out // FEWEST_ROWS) if by_rows else 1)
    start = cheapest(inside, most, out_blocks, in_blocks, cost)
    images, out, inner = faster(inside, most, out_blocks, in_blocks, start, cost, work)
    if threads // 2 < images < threads:
        images = min(most, threads)
    return Split(images, out, inner, one.groups)


def _avx2_gradient(one: Sizes, threads: int) -> int:
    """jit_avx2_convolution_bwd_weights_t: blocks of eight, sums of bias and weights shared by threads."""
    outs, ins, taps = per(one.outer, 8), per(one.inner, 8), prod(one.kernel)
    total = book(outs * 8 * 4) if one.bias and one.outer % 8 else 0
    if one.bias:
        total += _bias_sums(one, threads, 8, outs, 1 << 21)
    deep = one.result[0] if len(one.result) == 3 else 1
    groups, each, share = together(threads, taps * 64, outs * ins, one.batch * deep, 1 << 21)
    return total + (0 if each == 1 else book(groups * (each - 1) * share * taps * 64 * 4, PAGE) + barrier(groups))


def _bfloat16_gradient(one: Sizes, threads: int, lanes: int, *, last: bool) -> int:
    """jit_avx512_core_bf16_conv_bwd_weights_kernel_f32_t: image and gradient transposed, sums in float32."""
    inner, outer, rank = one.inner // one.groups, one.outer // one.groups, len(one.image)
    first = one.groups == 1 and inner < lanes
    block = inner if first else lanes
    ins, outs = per(inner, block), per(outer, lanes)
    turn_image = not (first and (not last or inner == 1))
    reach = (one.kernel[-1] - 1) * one.dilations[-1]
    end = max(0, (one.result[-1] - 1) * one.strides[-1] + reach + 1 - (one.image[-1] + one.pads[-1]))
    margin = up(max(one.pads[-1], end + 1), 2)
    wide_in = up(per(one.image[-1], one.strides[-1]) + margin, 2) * one.strides[-1] if turn_image else one.image[-1]
    wide_out = up(one.result[-1], 2)
    rows_in, rows_out = prod(one.image[:-1]), prod(one.result[:-1])
    square = (
        rank == 2 and one.image == one.result and min(one.kernel) > 1 and prod(one.strides) == prod(one.dilations) == 1
        and all(pad == kernel // 2 for pad, kernel in zip(one.pads, one.kernel, strict=True))
        and not first and (inner if last else up(inner, lanes)) >= 128
        and 2 * lanes * (wide_in + wide_out) * max(1, one.pads[-2]) <= FULL
    )  # fmt: skip
    images = one.batch * (one.result[0] if rank == 3 else 1 if square else one.result[-2])
    if rank == 3 and one.kernel[-1] == 1 and not first and not one.strided and not last:
        return _sums(one, 1, ins * block, outs * lanes)
    padded = (inner, outer) if last else (ins * block, outs * lanes)
    split = _bfloat16_split(one, threads, images, (ins, block, wide_in), (outs, lanes, wide_out), padded)
    spatial = first and rank == 2 and outer * prod(one.result) >= CACHE // 4 and one.result[-1] >= 124
    count_in = split.all if spatial else split.images * ins * one.groups
    count_out = split.all if spatial else split.images * outs * one.groups
    total = 0
    if turn_image:
        total += book((count_in * wide_in * block * rows_in + margin) * 2)
    elif margin:
        total += book(margin * 2)
    total += barrier(split.all // split.out) if not spatial and split.out > 1 else 0
    total += book(count_out * wide_out * lanes * rows_out * 2)
    total += barrier(split.all // split.inner) if not spatial and split.inner > 1 else 0
    return total + _sums(one, split.images, ins * block, outs * lanes) + (0 if spatial else barrier())


FULL = 48 * 1024
# bytes of one row of image and gradient up to which all rows are taken at once (full_spat_opt_working_set_size)


def _sums(one: Sizes, images: int, inner: int, outer: int) -> int:
    weights = one.groups * inner * outer * prod(one.kernel)
    return book(images * (weights + (one.groups * outer if one.bias else 0)) * 4)


def _bfloat16_split(
    one: Sizes, threads: int, images: int, image: tuple[int, int, int], result: tuple[int, int, int],
    channels: tuple[int, int],
) -> Split:  # fmt: skip
    """jit_avx512_core_bf16_conv_bwd_weights_kernel_f32_t::balance."""
    if threads < one.groups:
        return Split(groups=threads)
    ins, block, wide_in = image
    outs, lanes, wide_out = result
    taps = prod(one.kernel)
    rows_in, rows_out = prod(one.image[:-1]), prod(one.result[:-1])
    read, written = one.batch * channels[0] * rows_in * wide_in * 2, one.batch * channels[1] * rows_out * wide_out * 2
    weights = channels[0] * channels[1] * taps * 4
    scale, ratio = 0.5 * (read + written) / weights, outs / ins
    of_image, of_result = max(1 / ratio, 1.0) * (4 if scale < 1 else 1), max(ratio, 1.0)

    def cost(mb: int, oc: int, ic: int) -> float:
        source = of_image * per(images, mb) * per(ins, ic) * one.batch * block * rows_in * wide_in / images
        source /= prod(one.strides)
        made = of_result * per(images, mb) * per(outs, oc) * one.batch * lanes * rows_out * wide_out / images
        return source + made + max(scale, 1.0) * per(outs, oc) * per(ins, ic) * taps * block * lanes

    inside = threads // one.groups
    mb, oc, ic = cheapest(inside, images, outs, ins, cost)
    if inside // 2 < mb < inside:
        mb = min(images, inside)
    return Split(mb, oc, ic, one.groups)


def pointwise_gradient(one: Sizes, threads: int, lanes: int, *, last: bool) -> int:
    """Of the weights' gradient of a 1x1 convolution."""
    slow = one.itemsize == 2
    outs, ins = per(one.outer, lanes), per(one.inner, lanes)
    places = prod(one.result)
    kept = slow and not last and min(one.result[-2:]) > 14 and (len(one.result) == 2 or up(one.outer, lanes) <= 64)
    # the product permutes words itself
    wide = one.image[-1] if not one.strided else one.result[-1]
    if slow:
        step = best_divider(places, 7, min(256, places), largest=True, step=2) if kept else 0
        step = step or best_divider(places, 8, 16, largest=True, step=2)
    else:
        step = best_divider(places, 7, 16, largest=True)
    if places % step:
        step = best_divider(wide, 4, wide, largest=kept, step=2 if slow else 1)
    step = 1 if step > 256 else step
    step = up(step, 2) if slow and not kept else step
    weight = 4 * max(1, up(one.outer, lanes) // up(one.inner, lanes)) if slow else 12
    pieces = one.batch * per(places, step)

    def cost(mb: int, oc: int, ic: int) -> float:
        share = per(pieces, mb) * step * lanes
        return share * (per(ins, ic) + per(outs, oc)) + weight * per(outs, oc) * per(ins, ic) * lanes * lanes

    mb, oc, ic = cheapest(threads, pieces, outs, ins, cost)
    if threads // 2 < mb < threads:
        mb = min(one.batch, threads)
    used = Split(mb, oc, ic).all
    total = book(threads * _at_once(ins) * places * lanes * one.itemsize) if one.strided and not last else 0
    if one.strided and last:
        total = book(threads * places * one.inner * one.itemsize)
    padded = one.bias and bool(one.outer % lanes)
    total += book((one.outer if last and slow else outs * lanes) * one.itemsize) if padded else 0
    copies = mb if slow else mb - 1
    sums = ins * outs * lanes * lanes + (outs * lanes if one.bias and slow else 0)
    total += book(copies * sums * 4) + (barrier() if mb > 1 else 0)
    if slow and not kept:
        rows = up(places, 2) * lanes * used * 2
        total += book(rows * _loads_at_once(outs)) + book(rows * _at_once(ins))
    if one.bias and not slow:
        total += _bias_sums(one, used, lanes, outs, used * 3 * 25 * 256)
    return total


def _at_once(blocks: int) -> int:
    return best_divider(blocks, 5, blocks, largest=False)


def _loads_at_once(blocks: int) -> int:
    return best_divider(blocks, 16, blocks, largest=False)
