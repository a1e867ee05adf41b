"""What the layers of ncnn are made of: their arrays, their lines, and those made so far of a graph."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from peakmem.dtypes import FLOAT32, DType
from peakmem.ir.graph import Graph, Operator


@dataclass(frozen=True, slots=True)
class Weight:
    """One array of the .bin file."""

    name: str
    # of the graph's tensor; empty for what the conversion makes
    part: str
    elements: int
    tagged: bool = False
    # four bytes in front say how it is stored; only such arrays can be halved


@dataclass(frozen=True, slots=True)
class Layer:
    """One line of the .param file."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: str = ""
    weights: tuple[Weight, ...] = ()
    quantised: int = 0
    # scales that int8 adds, 0 for a layer that stays as it is
    known: bool = True


@dataclass(slots=True)
class Network:
    """The layers made so far."""

    graph: Graph
    layers: list[Layer] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)
    # tensors that are another blob
    flat: set[str] = field(default_factory=set)
    # blobs of one dimension, left by a pooling over everything
    strange: dict[str, int] = field(default_factory=dict)
    # op types without a rule

    def blob(self, name: str) -> str:
        """The blob that the tensor `name` is."""
        while name in self.same:
            name = self.same[name]
        return name

    def constant(self, name: str) -> bool:
        """Whether the tensor is stored."""
        tensor = self.graph.tensors.get(name)
        return tensor is not None and tensor.role == "constant"

    def own_dtype(self, name: str) -> DType | None:
        """What a weight is stored as where that is no float32: files of quantised networks keep what they have."""
        tensor = self.graph.tensors.get(name)
        if tensor is None or tensor.dtype is None or tensor.dtype == FLOAT32:
            return None
        return tensor.dtype if tensor.dtype.bits and tensor.dtype.bits <= 16 else None

    def stored(self, name: str) -> bool:
        """Whether the tensor is a weight, not a setting."""
        tensor = self.graph.tensors.get(name)
        floating = tensor is not None and tensor.dtype is not None and tensor.dtype.kind == "float"
        return floating and self.constant(name) and self.count(name) > 1

    def numbers(self, operator: Operator, at: int, attribute: str) -> tuple[int, ...]:
        """The whole numbers that an operator gets as its input `at`, or as an attribute."""
        name = operator.inputs[at] if at < len(operator.inputs) else ""
        tensor = self.graph.tensors.get(name) if name else None
        given = tensor.values if tensor is not None else operator.attributes.get(attribute)
        return (given,) if isinstance(given, int) else tuple(int(one) for one in given or ())

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor without the batch."""
        tensor = self.graph.tensors.get(name)
        sizes = tuple(dim if isinstance(dim, int) else 1 for dim in (tensor.shape or ()) if tensor) if tensor else ()
        return sizes[1:]

    def whole(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor."""
        tensor = self.graph.tensors.get(name)
        return tuple(dim if isinstance(dim, int) else 1 for dim in tensor.shape or ()) if tensor else ()

    def count(self, name: str) -> int:
        """Elements of a tensor."""
        tensor = self.graph.tensors.get(name)
        return (tensor.count or 0) if tensor else 0

    def value(self, name: str) -> float | None:
        """The number that a constant of one element is."""
        tensor = self.graph.tensors.get(name)
        if tensor is None or tensor.role != "constant" or (tensor.count or 0) != 1:
            return None
        return float(tensor.values[0]) if tensor.values else 0.0


def number(value: float) -> str:
    """A float as pnnx spells it."""
    exact = struct.unpack("f", struct.pack("f", value))[0]
    if exact == 0:
        return "0.0"
    if abs(exact) < 1e-4 or abs(exact) >= 1e6:
        mantissa, _, power = f"{exact:e}".partition("e")
        return f"{mantissa}e{int(power)}"
    short = f"{exact:g}"
    if struct.unpack("f", struct.pack("f", float(short)))[0] != exact:
        short = f"{exact:.9g}"
    return short if "." in short or "e" in short else f"{short}.0"
