"""Which tensors a file holds: every stored constant once, with its role, and what it becomes at another dtype.

Bytes of tensors alone; what a format writes around them stands in the module of its writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from peakmem.dtypes import FLOAT32, INT32, DType
from peakmem.errors import GraphError
from peakmem.ir.graph import Graph
from peakmem.parameters import Parameters, parameters

PARTS: Mapping[str, str] = {
    "weight": "weights", "bias": "biases", "norm": "norms", "statistic": "statistics",
    "quantisation": "quantisation", "other": "other constants",
}  # fmt: skip
# the part of a file that a tensor of each role counts for


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor of the file."""

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: DType
    elements: int
    channels: int
    # output channels, for a weight: scales when quantised per channel
    row: int
    # elements that block formats store together; 0 for what is no matrix
    literal: bool = False
    # written into the graph, not stored beside it
    packed: int = 0
    # bytes where elements times bits is not it

    @property
    def nbytes(self) -> int:
        """Bytes of its content."""
        return self.packed or self.dtype.nbytes(self.elements) or 0

    @property
    def part(self) -> str:
        """The part of the file it counts for."""
        return PARTS[self.role]

    @property
    def floating(self) -> bool:
        """Whether a dtype chosen for the file is for it."""
        return self.dtype.kind == "float" and self.dtype.block == 1


Rule = Callable[[Stored], Iterable[Stored]]


def contents(graph: Graph, known: Parameters | None = None) -> tuple[Stored, ...]:
    """The stored constants of an inferred graph, each storage once, in the graph's order.

    Raises:
        GraphError: one has no known size.
    """
    roles = {one.name: one for one in (known or parameters(graph)).constants}
    found: list[Stored] = []
    for body in _bodies(graph):
        for tensor in body.tensors.values():
            if tensor.role != "constant" or tensor.storage:
                continue
            shape, dtype = tensor.shape, tensor.dtype
            sizes = tuple(dim for dim in shape or () if isinstance(dim, int))
            if shape is None or dtype is None or len(sizes) < len(shape):
                raise GraphError("its size is not known, so the file's is not either", where=tensor.name)
            one = roles.get(tensor.name)
            literal = not tensor.parameter and tensor.values is not None and not graph.parameters_told
            found.append(
                Stored(
                    tensor.name,
                    one.role if one else "other",
                    sizes,
                    dtype,
                    tensor.count or 0,
                    one.channels if one else 1,
                    one.row if one else 0,
                    literal,
                    0 if dtype.bits is not None or dtype.block > 1 else tensor.nbytes or 0,
                )
            )
    return tuple(found)


def _bodies(graph: Graph) -> Iterable[Graph]:
    yield graph
    for operator in graph.operators:
        for body in operator.subgraphs:
            yield from _bodies(body)


def read_names(graph: Graph) -> frozenset[str]:
    """Names that some operator reads, or that come out."""
    return frozenset(
        {name for body in _bodies(graph) for one in body.operators for name in one.inputs} | {*graph.outputs}
    )


def converted(stored: Iterable[Stored], dtype: DType | None, side: Rule | None = None) -> list[Stored]:
    """`stored` with floating tensors at `dtype`.

    At an integer dtype weights take it and bring what `side` makes of them; norms and statistics stay. Biases stay,
    or become int32 of the same size. Block dtypes are for weights whose rows they divide.
    """
    if dtype is None:
        return list(stored)
    found: list[Stored] = []
    for one in stored:
        if not one.floating or (one.role == "quantisation" and dtype.kind != "float"):
            found.append(one)
        elif dtype.block > 1:
            fits = one.role == "weight" and dtype.fits(one.row)
            found.append(replace(one, dtype=dtype) if fits else one)
        elif dtype.kind == "float":
            found.append(one if one.role == "quantisation" else replace(one, dtype=dtype))
        elif one.role == "weight":
            found.append(replace(one, dtype=dtype))
            found += side(one) if side else ()
        else:
            found.append(one)
    return found


def scale(one: Stored, suffix: str = "_scale") -> Stored:
    """One float32 scale for each output channel of a weight."""
    return Stored(f"{one.name}{suffix}", "quantisation", (one.channels,), FLOAT32, one.channels, 1, 0)


def as_int32(stored: Iterable[Stored]) -> list[Stored]:
    """Biases as engines with whole numbers store them; their size is that of float32."""
    return [replace(one, dtype=INT32) if one.role == "bias" and one.floating else one for one in stored]


def total(stored: Iterable[Stored]) -> dict[str, int]:
    """Bytes by part."""
    found: dict[str, int] = {}
    for one in stored:
        found[one.part] = found.get(one.part, 0) + one.nbytes
    return found
