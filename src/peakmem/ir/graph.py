"""A network as frozen data: tensors, operators, and the graph they form.

Nothing here computes memory, reads files or changes in place. A pass takes a Graph and returns
a Graph. The order of `Graph.operators` is the schedule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from peakmem.dtypes import DType
from peakmem.ir.dims import Shape, element_count

Role = Literal["activation", "input", "constant", "state"]
Attributes: TypeAlias = Mapping[str, Any]
# int, float, str or a tuple of them; never a tensor (a front end turns those into constants)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of known or yet unknown shape and dtype."""

    name: str
    shape: Shape | None = None
    # None: not even the rank is known
    dtype: DType | None = None
    role: Role = "activation"
    # "constant" is stored with the model, "input" comes from the caller, "state" is memory that the
    # network keeps from run to run (a variable tensor, a key-value cache)
    storage: str = ""
    # name of the tensor whose bytes this one shares (tied constants, views of a state); empty for its own
    values: tuple[Any, ...] | None = None
    # flat contents of a small constant, for shape arithmetic; weights are never read
    parameter: bool = True
    # for a constant: stored as a parameter (initializer), not written into the graph as a literal

    @property
    def count(self) -> int | None:
        """Number of elements, or None while the shape is not known."""
        return element_count(self.shape)

    @property
    def nbytes(self) -> int | None:
        """Bytes, or None while shape or dtype is not known."""
        count = element_count(self.shape)
        return None if count is None or self.dtype is None else self.dtype.nbytes(count)


@dataclass(frozen=True, slots=True)
class Operator:
    """One call in the schedule. Op types are ONNX's where ONNX has the operator."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    # tensor names; "" stands for an optional input that is absent
    outputs: tuple[str, ...]
    attributes: Attributes = field(default_factory=dict)
    domain: str = ""
    # "" is ONNX's own; anything else names who defines the operator
    scope: str = ""
    # module path of the caller, parts joined by "/", as in "layer1/layer1.0"
    subgraphs: tuple[Graph, ...] = ()
    # bodies of If, Loop and Scan; each is named after its attribute ("then_branch", "body")
    aliases: tuple[tuple[int, int], ...] = ()
    # (output, input) positions that share one buffer; set by passes
    fused: tuple[str, ...] = ()
    # op types a pass has merged into this one, in order
    absorbed: tuple[str, ...] = ()
    # constants those merged operators read

    @property
    def reads(self) -> tuple[str, ...]:
        """Names read by the operator, those captured by its subgraphs included, without ""."""
        names = tuple(name for name in self.inputs if name)
        for subgraph in self.subgraphs:
            names += tuple(subgraph.captured())
        return names


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something an analysis could not tell, and what would tell it."""

    operator: str
    op_type: str
    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Detail:
    """A fact of the source beyond the graph, such as the layout of its quantisation."""

    name: str
    text: str
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A network: tensors by name, operators in schedule order, what goes in and comes out."""

    name: str
    tensors: Mapping[str, Tensor]
    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opsets: Mapping[str, int] = field(default_factory=dict)
    # operator set version per domain; decides the meaning of some attributes
    defaults: Mapping[str, int] = field(default_factory=dict)
    # values of symbolic dimensions when the user gives none
    source: str = ""
    # where it came from: a path, a module, or "zoo"
    notes: tuple[str, ...] = ()
    # what the front end or a pass assumed, one sentence each
    unknowns: tuple[Unknown, ...] = ()
    format: str = "onnx"
    # name of the front end that read it
    details: tuple[Detail, ...] = ()
    bound: bool = False
    # its dimensions were fixed when it was captured; other sizes need another capture
    chosen: frozenset[str] = frozenset()
    # tensors whose dtype the user chose; a dtype chosen for all others leaves them as they are
    batched: bool = True
    # false where a run is always one sample, so that there is no batch to choose
    weights_only: bool = False
    # the source stores tensors and no operators: what is computed with them cannot be known
    parameters_told: bool = False
    # `Tensor.parameter` is what the source says of each constant, not a guess from where it stands

    def tensor(self, name: str) -> Tensor:
        """The tensor called `name`; KeyError when the graph has none."""
        return self.tensors[name]

    def captured(self) -> Iterator[str]:
        """Names read here or in nested subgraphs that this graph does not define itself."""
        seen = set(self.tensors)
        for operator in self.operators:
            for name in operator.reads:
                if name not in seen:
                    seen.add(name)
                    yield name
        for name in self.outputs:
            if name not in seen:
                seen.add(name)
                yield name

    def producers(self) -> dict[str, int]:
        """Step at which each tensor is made."""
        return {name: step for step, op in enumerate(self.operators) for name in op.outputs if name}

    def consumers(self) -> dict[str, list[int]]:
        """Steps at which each tensor is read, ascending."""
        readers: dict[str, list[int]] = {}
        for step, operator in enumerate(self.operators):
            for name in dict.fromkeys(operator.reads):
                readers.setdefault(name, []).append(step)
        return readers
