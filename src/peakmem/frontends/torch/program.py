"""A PyTorch program as data: calls of operators in order, whoever wrote them down.

An exported file, an export in memory and a trace all become this; `graph` makes a Graph of
it. Neither torch nor any file is known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Literal, TypeAlias

from peakmem.dtypes import DType
from peakmem.ir.dims import Shape, Symbol


@dataclass(frozen=True, slots=True)
class Value:
    """What a program says of one tensor."""

    shape: Shape
    dtype: DType | None
    device: str = ""
    sizes: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    # the shape and the steps between elements for the sizes the program was written down with
    memory: int = 0
    # what the tensor's bytes were known by while they were traced; 0 when nobody looked


@dataclass(frozen=True, slots=True)
class Ref:
    """An argument that is a tensor of the program."""

    name: str


Argument: TypeAlias = "bool | int | float | str | Ref | Symbol | tuple[Argument, ...] | Program | None"
# a Program is the body of a control-flow operator


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operator."""

    name: str
    # unique in its program
    namespace: str
    op: str
    overload: str
    arguments: tuple[tuple[str, Argument], ...]
    # (name in the operator's schema, value) in the order of the schema; names may be empty
    outputs: tuple[str, ...]
    # tensors it gives; "" for what is no tensor
    module: str = ""
    # path of the module that made the call, as in "layer1.0.conv1"

    def argument(self, name: str) -> Argument:
        """The argument called `name`; None when it is not given."""
        return next((value for key, value in self.arguments if key == name), None)

    def refs(self) -> Iterator[str]:
        """Tensors among the arguments, lists included, in order."""
        for _, value in self.arguments:
            yield from refs(value)


def refs(argument: Argument) -> Iterator[str]:
    """Names of the tensors in one argument."""
    if isinstance(argument, Ref):
        yield argument.name
    elif isinstance(argument, tuple):
        for part in argument:
            yield from refs(part)


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that the module keeps."""

    name: str
    # its path in the module
    kind: Literal["parameter", "buffer", "constant"]
    payload: str = ""
    # what holds its bytes; tensors with the same one share them where they overlap
    start: int = 0
    # its first byte there


def elements(value: Value) -> int:
    """How many elements a tensor has at the sizes of the program."""
    return prod(value.sizes)


def end_of(stored: Stored, value: Value) -> int:
    """The byte behind the last one of a stored tensor, in what holds its bytes."""
    if value.dtype is None or 0 in value.sizes:
        return stored.start
    if len(value.strides) != len(value.sizes):
        return stored.start + (value.dtype.nbytes(elements(value)) or 0)
    last = sum((size - 1) * step for size, step in zip(value.sizes, value.strides, strict=True))
    return stored.start + (value.dtype.nbytes(max(last, 0) + 1) or 0)


@dataclass(frozen=True, slots=True)
class Program:
    """Calls in order, with all tensors they mention."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    calls: tuple[Call, ...]
    values: Mapping[str, Value]
    stored: Mapping[str, Stored] = field(default_factory=dict)
    # tensors that are neither inputs nor made by a call
    hints: Mapping[str, int] = field(default_factory=dict)
    # sizes it was written down with, by symbol
