"""A session as it is made: executions with their weights, then every tensor placed, command by command.

source/core/Pipeline.cpp of MNN 3.6.1 (_createExecutions, _allocForTensor); working memory of kernels from
source/backend/cpu: CPURaster.cpp, CPUMatMul.cpp, CPUSoftmax.cpp, CPURelu.cpp, CPULayerNorm.cpp, CPUScale.cpp.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod
from typing import Any

from peakmem.engines.mnn import convolution
from peakmem.engines.mnn.allocators import Defer, Eager, Planner, Recursive
from peakmem.engines.mnn.kernels import FLOAT, HEADER, Kernels, up
from peakmem.engines.mnn.values import NC4HW4, WINDOWS, Command, Commands, Value

BILINEAR = 2
# resizeType of Interp
RULED = frozenset((
    *WINDOWS, "Raster", "Copy", "Pooling", "BinaryOp", "UnaryOp", "ReLU", "ReLU6", "Eltwise", "Softmax", "MatMul",
    "BatchMatMul", "PReLU", "LayerNorm", "Scale", "Select", "Reduction", "TanH", "Sigmoid", "Cast", "Interp",
))  # fmt: skip
# whose static and working memory stands here; of others only inputs and outputs are placed


@dataclass(slots=True)
class Session:
    """What the session holds."""

    static: Eager
    block: int
    # bytes of the block that all planned tensors share
    making_peak: int
    # highest sum of what malloc was asked for until all is placed
    tiles: int = 0
    # tiles of products, which are functions to be called
    placed: int = 0
    # bytes of tensors alive at once, at most
    placed_at: str = ""
    unruled: list[Command] = field(default_factory=list)

    @property
    def told(self) -> int:
        """Bytes as getSessionInfo counts them: without alignment and headers of the blocks."""
        return self.static.total + self.block

    @property
    def live(self) -> int:
        """Bytes asked of malloc."""
        return self.static.live + (self.block + HEADER if self.block else 0)


def session(
    commands: Commands, kernels: Kernels, level: int, *, eager: bool, collect: bool, inputs: bool = True
) -> Session:
    """Go through what a session does when it is made.

    Args:
        eager: allocator=eager.
        collect: what is free in the end goes back.
        inputs: place inputs among the other tensors; a module whose shapes may change leaves them outside.
    """
    static = Eager()
    for nbytes in commands.loose:
        # copied: source/utils/InitNet.cpp
        static.alloc(nbytes)
    for nbytes in commands.constant_bytes:
        static.alloc(nbytes)
    unruled = []
    for command in commands.commands:
        if command.op_type in WINDOWS:
            convolution.create(command, kernels, level, static)
        elif command.op_type in ("PReLU", "LayerNorm", "Scale"):
            for shape, _ in command.weights:
                static.alloc(kernels.blocks(prod(shape)) * FLOAT)
        elif command.op_type not in RULED:
            unruled.append(command)
    for command in commands.commands:
        if command.op_type == "Interp" and command.attributes.get("kind") == BILINEAR:
            # positions and factors of lines and columns, taken while tensors are placed
            for size in (*command.outputs[0].shape, 1, 1)[3:1:-1]:
                static.alloc(2 * size * FLOAT)
                static.alloc(size * FLOAT)
    planner: Planner = Recursive(static) if eager else Defer()
    placed, at = _place(commands, kernels, level, planner, inputs=inputs)
    block = planner.total + HEADER if planner.total else 0
    making = max(static.peak, static.live + block)
    if collect:
        static.collect()
    return Session(static, planner.total, making, planner.tiles, placed, at, unruled)


def _place(commands: Commands, kernels: Kernels, level: int, planner: Planner, *, inputs: bool) -> tuple[int, str]:
    """_allocForTensor: each command's tensors, then its working memory; what was read last is free again."""
    uses = Counter(value for command in commands.commands for value in command.inputs)
    held: dict[Value, Any] = {}
    cache: dict[Value, tuple[Any, list[int]]] = {}
    alive, most, where = 0, 0, ""
    for command in commands.commands:
        for value in (*command.inputs, *command.outputs):
            outside = value.usage == "constant" or (value.usage == "input" and not inputs)
            if outside or value in held or value.count == 0:
                continue
            nbytes = value.nbytes(kernels.pack)
            held[value] = planner.alloc(nbytes, separate=value.usage == "input")
            alive += nbytes
        if alive > most:
            most, where = alive, command.name
        if command.op_type in WINDOWS:
            convolution.resize(command, kernels, level, planner)
        elif command.op_type == "Raster":
            _raster(command, kernels, planner, cache, uses)
        elif command.op_type in ("MatMul", "BatchMatMul"):
            _matmul(command, kernels, planner)
        elif command.op_type in _WORKING:
            size = _WORKING[command.op_type](command, kernels)
            if size:
                planner.free(planner.alloc(size))
        for value in command.inputs:
            uses[value] -= 1
            if not uses[value] and value in held and value.usage != "output":
                planner.free(held.pop(value))
                alive -= value.nbytes(kernels.pack)
    for chunk in held.values():
        planner.free(chunk)
    return most, where


def _raster(
    command: Command, kernels: Kernels, planner: Planner, cache: dict[Value, tuple[Any, list[int]]],
    uses: Counter[Value],
) -> None:  # fmt: skip
    """CPURaster::onResize: blocks to blocks and plain layouts to blocks go directly, the rest through copies."""
    made, blocks = command.outputs[0], command.outputs[0].layout == NC4HW4
    shown = command.inputs
    if blocks and all(one.layout == NC4HW4 for one in shown) and _fits(shown, made, kernels, command):
        return
    if command.attributes["whole"] and len(shown) == 1 and (shown[0].layout == NC4HW4) != blocks:
        packed = made if blocks else shown[0]
        if len(packed.shape) > 1:
            return
    copy = planner.alloc(made.count * made.item) if blocks else None
    done = []
    for one in shown:
        if one.layout != NC4HW4 or (one.batch == 1 and one.channels % kernels.pack == 0):
            continue
        if one not in cache:
            cache[one] = planner.alloc(one.count * one.item), [uses[one]]
        left = cache[one][1]
        left[0] -= 1
        if not left[0]:
            done.append(one)
    for one in done:
        planner.free(cache.pop(one)[0])
    if copy is not None:
        planner.free(copy)


def _fits(shown: list[Value], made: Value, kernels: Kernels, command: Command) -> bool:
    """Whether blocks are copied as blocks: OpCommonUtils::canBlitFast, for what concatenation and views give."""
    if command.attributes["whole"]:
        one = shown[0]
        return one.channels == made.channels and one.area == made.area and one.batch == made.batch
    if len(made.shape) < 2 or any(len(one.shape) < 2 for one in shown):
        return False
    if len(shown) == 1:
        return shown[0].area == made.area or shown[0].channels == made.channels
    if all(one.area == made.area and one.batch == made.batch for one in shown):
        return all(one.channels % kernels.pack == 0 for one in shown[:-1])
    return all(one.channels == made.channels for one in shown)


def _matmul(command: Command, kernels: Kernels, planner: Planner) -> None:
    """Tiles of the left matrix, all of the right one, tiles of the result.

    More than one product runs in a loop, where each thread has its own (CPULoop).
    """
    left, right, made = command.inputs[0], command.inputs[1], command.outputs[0]
    if min(len(left.shape), len(right.shape), len(made.shape)) < 2:
        return
    rows, columns = made.shape[-2], made.shape[-1]
    inner = left.shape[-2] if command.attributes.get("transpose_a") else left.shape[-1]
    if rows == 1 or columns == 1:
        return
    looped = len(made.shape) > 2 and kernels.threads > 1
    inside = 1 if looped else kernels.threads
    sizes = (
        kernels.rows * inner * inside, up(columns, kernels.columns) * inner,
        kernels.blocks(columns) * kernels.rows * inside,
    )  # fmt: skip
    if looped:
        planner.begin()
    for _ in range(kernels.threads if looped else 1):
        convolution.give_back(planner, [planner.alloc(size * FLOAT) for size in sizes])
    if looped:
        planner.end()


def _binary(command: Command, kernels: Kernels) -> int:
    """A loop over an input that is repeated along the last dimensions copies a line of it: CPULoop::onResize."""
    made = command.outputs[0]
    tails = []
    for one in command.inputs:
        tail, shape = 1, (1,) * (len(made.shape) - len(one.shape)) + one.shape
        for mine, whole in zip(reversed(shape), reversed(made.shape), strict=False):
            if mine != 1:
                break
            tail *= whole
        tails.append(tail if 1 < one.count < made.count else 1)
    return 2 * max(tails) * FLOAT * kernels.threads if max(tails) > 1 else 0


def _softmax(command: Command, kernels: Kernels) -> int:
    """A copy for each thread where the axis is not the last; blocks are brought into a plain layout."""
    given = command.inputs[0]
    axis = int(command.attributes.get("axis", 1))
    axis = axis + len(given.shape) if axis < 0 else axis
    size = given.count * FLOAT if given.layout == NC4HW4 else 0
    if prod(given.shape[axis + 1 :]) == 1:
        return size
    return size + min(kernels.threads, prod(given.shape[:axis])) * prod(given.shape[axis:]) * FLOAT


def _interp(command: Command, kernels: Kernels) -> int:
    """Lines of a bilinear one."""
    made = command.outputs[0]
    bilinear = command.attributes.get("kind") == BILINEAR and len(made.shape) == 4
    return 8 * made.shape[3] * kernels.threads * FLOAT if bilinear else 0


_WORKING = {"BinaryOp": _binary, "Softmax": _softmax, "Interp": _interp}
