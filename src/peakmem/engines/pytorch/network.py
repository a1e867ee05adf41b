"""A graph as eager PyTorch runs it: calls with sizes in bytes, and how long Python holds each storage.

A storage is given back when the last name for it goes. Generated code and exported programs let go of a tensor behind
its last reader (torch.fx: `x = None`; conversion.torch_source: `del x`). What a module's own variables hold was
looked at where the graph was captured (`source.with_lifetimes`). Where it was not, a tensor is taken to go at its last
use, and a module that is called to hold what it was called with until it returns: the arguments stand in the frames of
Module.__call__ and forward (torch/nn/modules/module.py, _call_impl; torch 2.13.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from peakmem.dtypes import DType
from peakmem.engines.pytorch.layout import lies_dense
from peakmem.errors import UsageError
from peakmem.ir.graph import Graph, Operator

EXPORTED = "torch.export.ExportedProgram"
# source of a graph whose program runs without the frames of its modules
LIFETIMES = "lifetimes"
# the detail in which `source.graph_for` says when Python lets go of each result
DIFFERS = "runs otherwise"
# the one in which it names operators that ran and were not captured
FLOATING = ("float16", "bfloat16", "float32", "float64")
SIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True, slots=True)
class Value:
    """One tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    root: str
    # the tensor whose storage it lies in; its own name where that is its own
    stored: bool
    dense: bool = True
    # row by row in memory

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.nbytes // max(prod(self.shape), 1)


@dataclass(frozen=True, slots=True)
class Call:
    """One operator at work."""

    name: str
    kind: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    # those that are there
    fresh: tuple[bool, ...]
    # for each output, whether it has a storage of its own
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def input(self, position: int) -> Value:
        """An input that has to be there."""
        found = self.inputs[position] if position < len(self.inputs) else None
        if found is None:
            raise UsageError(f"{self.name} ({self.kind}) has no input {position}")
        return found

    def has(self, position: int) -> bool:
        """Whether the input is there."""
        return position < len(self.inputs) and self.inputs[position] is not None

    @property
    def title(self) -> str:
        """Name and type."""
        return f"{self.name} ({self.kind})"


@dataclass(frozen=True, slots=True)
class Network:
    """Calls in order, with what is stored."""

    calls: tuple[Call, ...]
    inputs: tuple[Value, ...]
    stored: tuple[Value, ...]
    # one for each storage of a parameter or buffer
    dying: Mapping[int, tuple[str, ...]]
    # step to the storages that go behind it
    frames: bool
    # whether modules hold what they are called with
    looked: bool
    # whether the source looked how long results are held
    differs: str
    # operators that run and are not in the graph, as the source saw them; empty when none was seen


def network_of(graph: Graph, dtype: str) -> Network:
    """`graph` with all floating tensors in `dtype`, "" for the graph's own.

    Raises:
        UsageError: a size or a dtype that is not known.
    """
    values: dict[str, Value] = {}
    for name, tensor in graph.tensors.items():
        if tensor.shape is None or tensor.dtype is None or not all(isinstance(dim, int) for dim in tensor.shape):
            raise UsageError(f"tensor {name} has no known size", hint="--dim, --shape")
        shape = tuple(int(dim) for dim in tensor.shape if isinstance(dim, int))
        kind, nbytes = _stored_as(tensor.dtype, shape, dtype)
        held = tensor.role in ("constant", "state")
        values[name] = Value(name, shape, kind, nbytes, tensor.storage or name, held)
    calls = tuple(_call(operator, values) for operator in graph.operators)
    frames = graph.format == "torch" and graph.source != EXPORTED
    stored = tuple(value for value in values.values() if value.stored and value.root == value.name and value.nbytes)
    looked = any(detail.name == LIFETIMES for detail in graph.details)
    differs = next((detail.text for detail in graph.details if detail.name == DIFFERS), "")
    return Network(
        calls, tuple(values[name] for name in graph.inputs), stored,
        _dying(graph, calls, values, frames=frames), frames, looked, differs,
    )  # fmt: skip


def _stored_as(dtype: DType, shape: tuple[int, ...], chosen: str) -> tuple[str, int]:
    if chosen and dtype.name in FLOATING:
        return chosen, SIZES[chosen] * prod(shape)
    return dtype.name, dtype.nbytes(prod(shape)) or 0


def _call(operator: Operator, values: dict[str, Value]) -> Call:
    """The call of `operator`; notes in `values` where its results lie."""
    shared = dict(operator.aliases)
    outputs, fresh = [], []
    for at, name in enumerate(operator.outputs):
        if not name:
            continue
        value = values[name]
        source = operator.inputs[shared[at]] if at in shared else ""
        first = values[source] if source else next((values[one] for one in operator.inputs if one), None)
        dense = first is None or lies_dense(
            operator.op_type, operator.attributes, first.shape, first.dense, value.shape, own=not source
        )
        root, stored = (values[source].root, values[source].stored) if source else (value.root, value.stored)
        value = Value(name, value.shape, value.dtype, value.nbytes, root, stored, dense)
        values[name] = value
        outputs.append(value)
        fresh.append(not source)
    inputs = tuple(values[name] if name else None for name in operator.inputs)
    kind = operator.op_type if operator.domain == "aten" else f"{operator.domain}::{operator.op_type}"
    return Call(operator.name, kind, inputs, tuple(outputs), tuple(fresh), operator.attributes)


def _dying(
    graph: Graph, calls: tuple[Call, ...], values: Mapping[str, Value], *, frames: bool
) -> dict[int, tuple[str, ...]]:  # fmt: skip
    """Step to storages that go behind it; results of the network stay to the end."""
    made: dict[str, int] = {}
    last: dict[str, int] = {}
    for step, call in enumerate(calls):
        for value in (*call.inputs, *call.outputs):
            if value is not None and not value.stored:
                last[value.root] = step
        for value, own in zip(call.outputs, call.fresh, strict=True):
            if own:
                made[value.root] = step
    told = _told(graph, calls)
    if told is not None:
        last.update(told)
    elif frames:
        for begin, end in _spans(graph):
            for call in calls[begin : end + 1]:
                for value in call.inputs:
                    if value is not None and made.get(value.root, len(calls)) < begin:
                        last[value.root] = max(last[value.root], end)
    kept = {values[name].root for name in graph.outputs}
    found: dict[int, list[str]] = {}
    for root, step in last.items():
        if root in made and root not in kept and step < len(calls):
            found.setdefault(step, []).append(root)
    return {step: tuple(roots) for step, roots in found.items()}


def _told(graph: Graph, calls: tuple[Call, ...]) -> dict[str, int] | None:
    """Last step of each storage as the graph's source saw it; None where it did not look."""
    text = next((detail.text for detail in graph.details if detail.name == LIFETIMES), "")
    rows = text.split()
    if len(rows) != len(calls):
        return None
    last: dict[str, int] = {}
    for call, row in zip(calls, rows, strict=True):
        steps = [int(step) for step in row.split("/")] if row != "-" else []
        if len(steps) < len(call.outputs):
            return None
        for value, step in zip(call.outputs, steps, strict=False):
            if not value.stored:
                last[value.root] = max(last.get(value.root, 0), step)
    return last


def _spans(graph: Graph) -> list[tuple[int, int]]:
    """First and last step of each call of a module, read from the paths of neighbours."""
    found = []
    open_at: list[tuple[str, int]] = []
    for step, operator in enumerate((*graph.operators, None)):
        parts = operator.scope.split("/") if operator is not None and operator.scope else []
        paths = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
        while open_at and open_at[-1][0] not in paths:
            found.append((open_at.pop()[1], step - 1))
        for path in paths[len(open_at) :]:
            open_at.append((path, step))
    return [(begin, end) for begin, end in found if end > begin]
