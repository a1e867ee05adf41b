"""Reductions over blocks of threads: partial results in global memory, and a counter for each column of blocks.

aten/src/ATen/native/cuda/Reduce.cuh (setReduceConfig, ReduceConfig::global_memory_size, semaphore_size) of PyTorch
2.6 to 2.11. Held against recorded traces: of a transformer's 49 norms, each `aten::sum` of their gradients over 1,024,
2,048 and 4,096 rows of 1,024 columns takes 8, 16 and 32 MiB and 32 bytes, over 512 rows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from peakmem.training.workspaces.cpu.tensors import elements, is_tensor
from peakmem.training.workspaces.found import Answer, Call, Machine, Rule

THREADS, WARP, VECTOR = 512, 32, 4
# of a block at most; of a warp; elements that are read at once
LEAST, MOST = 16, 256
# values for each thread
RESIDENT = {(7, 5): 1024, (8, 6): 1536, (8, 7): 1536, (8, 9): 1536, (12, 0): 1536}
# threads of a multiprocessor, by compute capability (CUDA C++ Programming Guide); 2048 elsewhere


def _power(value: int) -> int:
    """The largest power of two that is not greater."""
    return 1 << (max(value, 1).bit_length() - 1)


def _merged(shape: Sequence[int], strides: Sequence[int], kept: set[int]) -> list[tuple[int, int, bool]]:
    """Dimensions as TensorIterator sees them: (size, stride, kept), fastest first, neighbours joined."""
    axes = [(strides[axis], shape[axis], axis in kept) for axis in range(len(shape)) if shape[axis] > 1]
    found: list[tuple[int, int, bool]] = []
    for stride, size, keeps in sorted(axes, key=lambda item: (item[2], item[0])):
        if found and found[-1][2] == keeps and found[-1][0] * found[-1][1] == stride:
            found[-1] = (found[-1][0] * size, found[-1][1], keeps)
        else:
            found.append((size, stride, keeps))
    return found


def scratch(
    shape: Sequence[int], strides: Sequence[int], axes: Sequence[int], accumulated: int, machine: Machine
) -> list[int]:
    """Bytes of partial results and of counters; empty where one block makes each result."""
    reduced = {axis % len(shape) for axis in axes} if len(axes) else set(range(len(shape)))
    merged = _merged(shape, strides, set(range(len(shape))) - reduced)
    inner = [item for item in merged if not item[2]]
    outer = [item for item in merged if item[2]]
    inputs, outputs = prod(item[0] for item in inner), prod(item[0] for item in outer)
    if inputs <= 1:
        return []
    along = not outer or inner[0][1] < outer[0][1]
    wide, high, fastest = (inputs, outputs, inner[0][1]) if along else (outputs, inputs, outer[0][1])
    vector = 1
    if fastest == 1 and along and wide > 128 and len(inner) == 1:
        wide //= VECTOR
    elif fastest == 1 and not along:
        vector = VECTOR
        for number in (outer[0][0], *(item[1] for item in merged if item is not outer[0])):
            while number % vector:
                vector //= 2
        wide //= vector
    most = THREADS // vector
    x, y = min(_power(wide), most), min(_power(high), most)
    width = min(x, WARP)
    height = min(y, most // width)
    width = min(x, most // height)
    step_in, step_out = (width, 1) if along else (1, width)
    values = -(-inputs // step_in)
    if not (values >= height * LEAST or values >= MOST):
        return []
    step_in *= height
    values = -(-inputs // step_in)
    columns = -(-(outputs // vector) // step_out)
    room = machine.multiprocessors * (RESIDENT.get(machine.capability, 2048) // (width * height))
    if values < MOST or columns > room:
        return []
    blocks = max(min(-(-room // columns), -(-values // LEAST)), -(-values // MOST))
    if blocks <= 1:
        return []
    partial = accumulated * outputs * blocks * (1 if along else width * vector)
    return [partial, 4 * columns]


def reduction(accumulated: int, *, typed: bool = False) -> Rule:
    """A rule for reductions that carry `accumulated` bytes; `typed`: whole numbers are copied in the result's type."""

    def rule(call: Call) -> Answer:
        tensor = call.args[0]
        if len(tensor.shape) == 0:
            return 0
        axes = _axes(call.args, call.kwargs)
        each = accumulated if tensor.dtype.itemsize <= 4 else 2 * accumulated
        blocks = scratch(tuple(tensor.shape), tuple(tensor.stride()), axes, each, call.machine)
        made = call.result if is_tensor(call.result) else None
        if typed and made is not None and not tensor.dtype.is_floating_point and tensor.dtype is not made.dtype:
            return [elements(tensor) * int(made.dtype.itemsize), *blocks]
        return blocks if blocks else 0

    return rule


def _axes(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    named = kwargs.get("dim")
    for each in (named, *args[1:3]):
        if type(each) is int:
            return (each,)
        if isinstance(each, list | tuple) and all(type(axis) is int for axis in each):
            return tuple(each)
    return ()


def vector_norm(call: Call) -> Answer:
    """`aten::linalg_vector_norm`: its second operand is the order, not a dimension."""
    axes = call.args[2] if len(call.args) > 2 and call.args[2] is not None else ()
    tensor = call.args[0]
    if len(tensor.shape) == 0:
        return 0
    axes = (axes,) if type(axes) is int else tuple(axes)
    return scratch(tuple(tensor.shape), tuple(tensor.stride()), axes, 4, call.machine) or 0
