"""Tensors without content, operators that only allocate, and the record that autograd keeps of them.

A network from a file is run here the way PyTorch runs one: a Value is a tensor, its Block the storage that it shares
with its views. A storage is released when the last Value on it goes, so that lifetimes follow from who holds what, as
they do in PyTorch. Nothing here knows a graph; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from peakmem.dtypes import DType
from peakmem.training.log import Category
from peakmem.training.recorder import Recorder
from peakmem.training.workspaces import Machine, persistent

if TYPE_CHECKING:
    from peakmem.training.saved.autocast import Cache

Dims: TypeAlias = tuple[int, ...]
Run: TypeAlias = "Callable[[Sequence[Value | None]], list[Value | None]]"

LAST = 1 << 62
# the sequence number of what adds to a parameter's gradient: autograd runs it as soon as it can


class Block:
    """One storage."""

    __slots__ = ("kept", "nbytes", "number", "recorder", "users")

    def __init__(self, recorder: Recorder, number: int, nbytes: int) -> None:
        self.recorder, self.number, self.nbytes = recorder, number, nbytes
        self.users = 0
        # Values on it
        self.kept = False
        # whether a backward needs what is in it now, so that nothing may write over it


class Value:
    """A tensor: a block seen with a shape and strides, and where its gradient goes."""

    __slots__ = ("block", "dtype", "edge", "holders", "shape", "strides", "viewed")

    def __init__(
        self, block: Block, shape: Dims, strides: Dims, dtype: DType, *, viewed: bool = False,
        holders: list[int] | None = None,
    ) -> None:  # fmt: skip
        self.block, self.shape, self.strides, self.dtype, self.viewed = block, shape, strides, dtype, viewed
        self.edge: tuple[Node, int] | None = None
        self.holders = holders if holders is not None else [0]
        # how many Values are this same tensor
        self.holders[0] += 1
        block.users += 1

    def __del__(self) -> None:
        self.holders[0] -= 1
        self.block.users -= 1
        if self.block.users == 0:
            self.block.recorder.release(self.block.number)

    def again(self) -> Value:
        """The same tensor, held once more, without a way for its gradient."""
        return Value(self.block, self.shape, self.strides, self.dtype, viewed=self.viewed, holders=self.holders)

    def seen(self, shape: Dims, strides: Dims | None = None) -> Value:
        """A view; contiguous where no strides are given."""
        return Value(self.block, shape, contiguous(shape) if strides is None else strides, self.dtype, viewed=True)

    @property
    def wants(self) -> bool:
        """Whether a gradient is to be computed for it."""
        return self.edge is not None

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements lie in the order of its shape."""
        return all(
            size == 1 or stride == wanted
            for size, stride, wanted in zip(self.shape, self.strides, contiguous(self.shape), strict=True)
        )


class Saved:
    """A tensor that a node keeps for its backward; one that recompute dropped is made again when it is asked for."""

    __slots__ = ("again", "value")

    def __init__(self, value: Value | None, again: Callable[[Saved], None] | None = None) -> None:
        self.value, self.again = value, again

    def get(self) -> Value:
        """The tensor."""
        if self.value is None:
            assert self.again is not None
            self.again(self)
        assert self.value is not None
        return self.value


class Node:
    """One operator's backward, as autograd keeps it."""

    __slots__ = ("edges", "inputs", "module", "operator", "outputs", "run", "sequence")

    def __init__(
        self, operator: str, module: str, sequence: int, edges: list[tuple[Node, int] | None],
        inputs: list[tuple[Dims, DType] | None], outputs: int, run: Run | None,
    ) -> None:  # fmt: skip
        self.operator, self.module, self.sequence = operator, module, sequence
        self.edges, self.inputs, self.outputs, self.run = edges, inputs, outputs, run
        # inputs: shape and dtype that the gradients of the forward's inputs must have


class Eager:
    """Makes values, writes them down and links them for the backward."""

    def __init__(self, recorder: Recorder, device: str, machine: Machine | None = None) -> None:
        self.recorder, self.device, self.machine = recorder, device, machine or Machine()
        # the processor or the card whose kernels are asked for
        self.kept = persistent(device, self.machine.capability)
        # what libraries take once, as long as it has not been taken
        self.sequence = 0
        self.recording = True
        # false inside of torch.no_grad()
        self.pack: Callable[[Value], Saved] | None = None
        # what happens to tensors that are saved, while recompute drops them
        self.cache: Cache | None = None
        # of narrow weights, inside of an autocast region

    @property
    def module(self) -> str:
        """The path of the module that runs."""
        return self.recorder.module

    @module.setter
    def module(self, path: str) -> None:
        self.recorder.module = path

    def new(
        self, shape: Dims, dtype: DType, operator: str, *, strides: Dims | None = None,
        category: Category | None = None, name: str = "",
    ) -> Value:  # fmt: skip
        """A new tensor with a storage of its own."""
        nbytes = dtype.nbytes(prod(shape)) or 0
        number = self.recorder.allocate(
            nbytes, operator, category=category, dtype=str(dtype), shape=shape, name=name
        )  # fmt: skip
        block = Block(self.recorder, number, nbytes)
        return Value(block, shape, contiguous(shape) if strides is None else strides, dtype)

    def like(self, x: Value, operator: str, dtype: DType | None = None, shape: Dims | None = None) -> Value:
        """A new tensor of the shape and the layout of another, as elementwise operators make it."""
        if shape is not None and shape != x.shape:
            return self.new(shape, dtype or x.dtype, operator)
        return self.new(x.shape, dtype or x.dtype, operator, strides=dense(x.shape, x.strides))

    def keep(self, value: Value) -> Saved:
        """Save a tensor for the backward."""
        value.block.kept = True
        return self.pack(value) if self.pack is not None else Saved(value.again())

    def wants(self, *values: Value | None) -> bool:
        """Whether a backward of an operator on these has to be recorded."""
        return self.recording and any(value is not None and value.edge is not None for value in values)

    def link(self, operator: str, inputs: Sequence[Value | None], outputs: Sequence[Value], run: Run) -> None:
        """Record the backward of an operator. `run` gets a gradient per output, and gives one per input."""
        node = Node(
            operator, self.module, self.sequence, [None if item is None else item.edge for item in inputs],
            [None if item is None else (item.shape, item.dtype) for item in inputs], len(outputs), run,
        )  # fmt: skip
        self.sequence += 1
        for at, value in enumerate(outputs):
            value.edge = (node, at)

    def doubt(self, nbytes: int, operator: str, reason: str) -> None:
        """Bytes that may be taken as well."""
        self.recorder.doubt(nbytes, operator, reason)


# Layouts -------------------------------------------------------------------------------------------------------


def contiguous(shape: Dims) -> Dims:
    """Strides of a tensor whose last axis is the innermost."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def dense(shape: Dims, strides: Dims) -> Dims:
    """Strides of a result that keeps the order of the axes of its operand, without holes."""
    if 0 in strides:
        return contiguous(shape)
    order = sorted(range(len(shape)), key=lambda axis: (strides[axis], -axis))
    found, step = [0] * len(shape), 1
    for axis in order:
        found[axis] = step
        step *= max(shape[axis], 1)
    return tuple(found)


def view_strides(shape: Dims, strides: Dims, wanted: Dims) -> Dims | None:
    """Strides with which `wanted` sees the same elements; None where only a copy can have that shape.

    As `at::detail::computeStride` does (aten/src/ATen/TensorUtils.cpp, PyTorch 2.13).
    """
    if prod(shape) == 0:
        return contiguous(wanted)
    if not shape:
        return (1,) * len(wanted)
    found = [0] * len(wanted)
    at = len(wanted) - 1
    base, chunk, viewed = strides[-1], 1, 1
    for axis in range(len(shape) - 1, -1, -1):
        chunk *= shape[axis]
        if axis == 0 or (shape[axis - 1] != 1 and strides[axis - 1] != chunk * base):
            while at >= 0 and (viewed < chunk or wanted[at] == 1):
                found[at] = viewed * base
                viewed *= wanted[at]
                at -= 1
            if viewed != chunk:
                return None
            if axis > 0:
                base, chunk, viewed = strides[axis - 1], 1, 1
    return tuple(found) if at == -1 else None


def broadcast(*shapes: Dims) -> Dims:
    """The shape of an elementwise result."""
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in zip(*padded, strict=True))
