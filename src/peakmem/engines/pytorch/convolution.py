"""Convolutions: which backend, and what each takes.

aten/src/ATen/native/Convolution.cpp (ConvParams::use_mkldnn, select_conv_backend), ConvolutionMM2d.cpp
(compute_columns2d), mkldnn/Conv.cpp (_mkldnn_convolution_out) of PyTorch, ideep's convolution_forward: the names that
malloc's callers have in torch 2.13.0+cpu, whose allocations were traced call by call.
"""

from __future__ import annotations

from math import prod
from typing import Any

from peakmem.engines.pytorch.machine import Machine
from peakmem.engines.pytorch.network import Call
from peakmem.engines.pytorch.onednn import AVX512, GEMM_CODE, OBJECTS, SKIPPING, Convolution, plan
from peakmem.errors import GraphError

LEAST_WORK = 20_480
# elements of the image from which oneDNN is asked for one image without groups (use_mkldnn)
LARGE_BATCH = 16
WIDE_KERNEL = 3
CALL_OBJECTS, RESULT_OBJECTS = 27_000, 8_000
# ideep's descriptions and attributes while a convolution is called and while its result is copied; measured
CREATION = 16_000
# the list of kernels that are asked, while one is made; measured
TRANSPOSED, BIASED, TRANSPOSED_SCRATCH, TRANSPOSED_THREAD = 142_000, 24_000, 12_416, 8_216
# of a transposed convolution in the cache, with a bias, and of its scratchpad; measured
NOCOPY_GEMM = 74_176
# of oneDNN's own product for AVX-512 without packing


def described(call: Call) -> Convolution:
    """Sizes of a convolution."""
    x, w = call.input(0), call.input(1)
    rank = len(w.shape) - 2
    batched = len(x.shape) == len(w.shape)
    image = x.shape[-rank:]
    y = call.outputs[0]
    if rank < 1 or len(x.shape) not in (rank + 1, rank + 2) or len(y.shape) != len(x.shape):
        raise GraphError(
            f"PyTorch would not convolve {len(x.shape)} dimensions with weights of {len(w.shape)}", where=call.title
        )
    fill = (1,) if rank == 1 else ()
    # conv1d is done as a convolution over an image of one row
    pads = _listed(call.attributes.get("pads", 0), rank)[:rank]
    if call.attributes.get("auto_pad") == "SAME_UPPER":
        pads = tuple((size - 1) // 2 for size in w.shape[2:])
    return Convolution(
        x.shape[0] if batched else 1, x.shape[-rank - 1], y.shape[-rank - 1], int(call.attributes.get("group", 1)),
        (*fill, *image), (*fill, *y.shape[-rank:]), (*fill, *w.shape[2:]),
        (*fill, *_listed(call.attributes.get("strides", 1), rank)), pads,
        (*fill, *_listed(call.attributes.get("dilations", 1), rank)), call.has(2), x.itemsize,
    )  # fmt: skip


def _listed(value: Any, rank: int) -> tuple[int, ...]:
    return tuple(int(one) for one in value) if isinstance(value, tuple | list) else (int(value),) * rank


def by_onednn(one: Convolution, machine: Machine, dtype: str) -> bool:
    """Whether oneDNN gets it (ConvParams::use_mkldnn)."""
    if not machine.mkldnn:
        return False
    if dtype == "bfloat16" and machine.bfloat16:
        return True
    if dtype == "float16" and machine.half:
        return True
    if dtype != "float32":
        return False
    moves = prod(one.strides) > 1 or prod(one.dilations) > 1
    if not (moves or one.batch >= LARGE_BATCH or prod(one.kernel[-2:]) > 1 or machine.threads > 1):
        return False
        # 1x1 on one thread: a plain product is faster
    work = one.batch * one.channels_in * prod(one.image)
    return one.groups > 1 or min(one.kernel[-2:]) > WIDE_KERNEL or one.batch > 1 or work > LEAST_WORK


def convolve(call: Call, machine: Machine) -> None:
    """conv1d, conv2d, conv3d."""
    one = described(call)
    dtype = call.input(0).dtype
    copied = 0 if call.input(0).dense else call.input(0).nbytes
    with machine.heap.lent("workspace", copied):
        _convolve(call, one, machine, dtype)


def _convolve(call: Call, one: Convolution, machine: Machine, dtype: str) -> None:
    if by_onednn(one, machine, dtype):
        _onednn(call, one, machine)
    elif prod(one.dilations) > 1 or len(one.image) == 3:
        machine.lacks(call, "dilated or three-dimensional convolution without oneDNN: its unfolded image is left out")
        machine.results(call)
    else:
        _unfolded(call, one, machine, dtype)


def _onednn(call: Call, one: Convolution, machine: Machine) -> None:
    heap = machine.heap
    done = plan(one, machine.threads, machine.lanes)
    key = (done.kind, one)
    nbytes, first = OBJECTS[done.kind], GEMM_CODE[one.itemsize] if done.kind == "gemm" else 0
    if done.kind == "jit_1x1" and prod(one.strides) > 1:
        nbytes += SKIPPING
    with heap.lent("objects", CALL_OBJECTS):
        machine.primitive(key, nbytes, CREATION, first)
        with heap.lent("workspace", done.scratch):
            for reorder, cost in done.reorders[:-1]:
                machine.primitive(("reorder", *reorder), cost)
            with heap.lent("workspace", done.source), heap.lent("repacked weights", done.weights):
                heap.take("workspace", done.result)
                if done.kind == "gemm":
                    heap.burst("workspace", NOCOPY_GEMM * machine.threads)
    machine.results(call)
    with heap.lent("objects", RESULT_OBJECTS):
        last, cost = done.reorders[-1]
        machine.primitive(("reorder", *last), cost)
    heap.take("workspace", -done.result)


def _unfolded(call: Call, one: Convolution, machine: Machine, dtype: str) -> None:
    """The image unfolded into a matrix, for the whole batch at once, times the weights (slow_conv2d)."""
    heap, groups = machine.heap, one.groups
    size = one.itemsize
    inner = one.channels_in // groups * prod(one.kernel)
    places = prod(one.result)
    columns = 0 if one.plain else one.batch * inner * places * size
    if one.batch >= LARGE_BATCH and dtype == "float32":
        machine.lacks(call, "NNPACK takes large batches where oneDNN is off: counted as if it were unfolded", columns)
    if groups == 1:
        with heap.lent("workspace", columns):
            machine.results(call)
            _multiply(machine, one.channels_out, inner, places, dtype)
        return
    part = one.channels_in // groups * prod(one.image) * one.batch * size
    share = one.batch * one.channels_out // groups * places * size
    for _ in range(groups):
        # each group's share of the image is copied where the batch has more than one
        with heap.lent("workspace", part if one.batch > 1 else 0), heap.lent("workspace", columns):
            heap.take("workspace", share)
            _multiply(machine, one.channels_out // groups, inner, places, dtype)
    machine.results(call)
    heap.take("workspace", -share * groups)


def transposed(call: Call, machine: Machine) -> None:
    """conv_transpose1d, 2d, 3d: oneDNN with channels innermost, and the result copied back (mkldnn/Conv.cpp)."""
    one = described(call)
    heap, dtype = machine.heap, call.input(0).dtype
    x, w, y = call.input(0), call.input(1), call.outputs[0]
    wide = any(int(extra) >= stride for extra, stride in zip(
        _listed(call.attributes.get("output_padding", 0), len(one.strides)), one.strides, strict=False
    ))  # fmt: skip
    if one.groups > 1 or len(one.image) != 2 or one.itemsize != 4 or machine.lanes < AVX512:
        machine.lacks(
            call, "transposed convolution in groups, in three dimensions, in half precision or without AVX-512"
        )
        machine.results(call)
    elif by_onednn(one, machine, dtype) and not wide:
        padded = x.nbytes
        if one.kernel != one.strides:
            padded = x.nbytes // one.image[1] * (one.image[1] + one.image[1] // 16 + 2)
            # rows with their margins; three sizes measured
        with heap.lent("objects", CALL_OBJECTS):
            machine.primitive(("transposed", one), TRANSPOSED + (BIASED if one.bias else 0), CREATION)
            scratch = machine.threads * (padded + TRANSPOSED_THREAD) + TRANSPOSED_SCRATCH
            with heap.lent("workspace", scratch + x.nbytes), heap.lent("repacked weights", w.nbytes):
                heap.take("workspace", y.nbytes)
        machine.results(call)
        if one.channels_out > 1:
            heap.burst("workspace", y.nbytes + RESULT_OBJECTS)
        heap.take("workspace", -y.nbytes)
    else:
        machine.results(call)
        inner = one.channels_out * prod(one.kernel)
        with heap.lent("workspace", inner * prod(one.image) * one.itemsize):
            _multiply(machine, inner, one.channels_in, prod(one.image), dtype)


def _multiply(machine: Machine, rows: int, inner: int, columns: int, dtype: str) -> None:
    if dtype == "float32":
        machine.mkl.gemm(rows, inner, columns)
