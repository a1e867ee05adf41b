"""Which buffer must exist at which step: live ranges over the schedule.

Live ranges are half-open, `[start, stop)` in steps. A buffer holds one tensor, or several that
alias. Constants and states are not here: they live with the model. What runs inside If, Loop and Scan is
counted at the step of the operator that holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from peakmem.ir import kinds
from peakmem.ir.graph import Graph, Operator


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that must exist during `[start, stop)`."""

    name: str
    # of the tensor that starts it
    nbytes: int
    start: int
    stop: int
    tensors: tuple[str, ...]
    # all tensors that live in it, in the order they appear
    role: str
    # "input" or "activation"


@dataclass(frozen=True, slots=True)
class Liveness:
    """All buffers of a graph, and what its control-flow operators hold inside."""

    buffers: tuple[Buffer, ...]
    inner_bytes: tuple[tuple[int, int], ...]
    # (step, bytes) alive inside an operator's subgraphs beyond its own outputs
    steps: int
    unsized: tuple[str, ...]
    # tensors without known bytes; they count as zero, so that sums are lower bounds


def live_ranges(graph: Graph, *, hold_inputs: bool = False) -> Liveness:
    """Live ranges of every buffer of `graph` in the order its operators stand.

    Args:
        graph: shapes inferred, aliases marked by passes.
        hold_inputs: keep graph inputs until the end, as a caller does who owns them; otherwise an
            input is free after its last reader.

    A graph input starts at step 0. A graph output lives to the end. A result nobody reads lives
    during the step that makes it.
    """
    steps = len(graph.operators)
    tensors = graph.tensors
    index: dict[str, int] = {}
    names: list[list[str]] = []
    starts: list[int] = []
    stops: list[int] = []
    sizes: list[int] = []
    roles: list[str] = []
    unsized: list[str] = []
    elsewhere: set[str] = set()
    # results whose bytes are none of this graph's

    def open_buffer(name: str, start: int, role: str) -> None:
        nbytes = tensors[name].nbytes
        if nbytes is None:
            unsized.append(name)
        index[name] = len(names)
        names.append([name])
        starts.append(start)
        stops.append(start + 1)
        sizes.append(nbytes or 0)
        roles.append(role)

    for name in graph.inputs:
        open_buffer(name, 0, "input")
    inner: list[tuple[int, int]] = []
    for step, operator in enumerate(graph.operators):
        names_read = operator.reads if operator.subgraphs else operator.inputs
        for name in names_read:
            at = index.get(name)
            if at is not None:
                stops[at] = step + 1
        shared = dict(operator.aliases) if operator.aliases else None
        for position, name in enumerate(operator.outputs):
            if not name:
                continue
            if shared is not None and position in shared:
                source = operator.inputs[shared[position]]
                at = index.get(source)
                if at is not None:
                    index[name] = at
                    names[at].append(name)
                    continue  # the operator read it, so that it lives to the end of this step
                if source in elsewhere or source not in tensors or tensors[source].role in ("constant", "state"):
                    elsewhere.add(name)
                    continue  # a view of the model's own bytes, of its state, or of what encloses this graph
            open_buffer(name, step, "activation")
        if operator.subgraphs:
            inner.append((step, inner_peak(operator, graph, unsized)))
    for name in graph.outputs:
        at = index.get(name)
        if at is not None:
            stops[at] = max(steps, 1)
    if hold_inputs:
        for name in graph.inputs:
            stops[index[name]] = max(steps, 1)
    buffers = tuple(
        Buffer(members[0], size, start, stop, tuple(members), role)
        for members, size, start, stop, role in zip(names, sizes, starts, stops, roles, strict=True)
    )
    return Liveness(buffers, tuple(inner), steps, tuple(unsized))


def state_bytes(graph: Graph) -> int:
    """Bytes of the states a network keeps from run to run, each once; unknown sizes count as zero."""
    states = (tensor for tensor in graph.tensors.values() if tensor.role == "state" and not tensor.storage)
    return sum(tensor.nbytes or 0 for tensor in states)


def inner_peak(operator: Operator, graph: Graph, unsized: list[str]) -> int:
    """Bytes alive inside the subgraphs of `operator` beyond the outputs it hands out.

    One body runs at a time. The last results of a body are the operator's own outputs (If), or
    the states it carries (Loop, Scan), so their bytes are not counted twice.
    """
    if operator.domain:
        return _called_peak(operator, unsized)
    handed: int = 0
    most = 0
    for body in operator.subgraphs:
        ranges = live_ranges(body)
        unsized.extend(ranges.unsized)
        most = max(most, max(live_bytes(ranges), default=0))
    first = operator.subgraphs[0]
    states = {"If": len(operator.outputs), "Loop": len(first.inputs) - 2}.get(
        operator.op_type, len(first.inputs) - int(operator.attributes.get("num_scan_inputs", 0))
    )
    for name in operator.outputs[: max(states, 0)]:
        if name:
            handed += graph.tensors[name].nbytes or 0
    return max(0, most - handed)


def _called_peak(operator: Operator, unsized: list[str]) -> int:
    """As `inner_peak`, where bodies are called with arguments instead of reading what lies around them.

    A body reads its arguments where the caller has them and writes its results there. A loop holds
    its state in the operator's outputs; what a turn makes is beside it until the turn is over.
    """
    loops = kinds.native(operator) in kinds.LOOPS
    most = 0
    for body in operator.subgraphs:
        ranges = live_ranges(body)
        unsized.extend(ranges.unsized)
        handed = set(body.inputs).union(() if loops else body.outputs)
        own = tuple(buffer for buffer in ranges.buffers if handed.isdisjoint(buffer.tensors))
        most = max(most, max(live_bytes(replace(ranges, buffers=own)), default=0))
    return most


def live_bytes(liveness: Liveness) -> list[int]:
    """Bytes alive at each step."""
    change = [0] * (max(liveness.steps, 1) + 1)
    for buffer in liveness.buffers:
        change[buffer.start] += buffer.nbytes
        change[buffer.stop] -= buffer.nbytes
    live: list[int] = []
    total = 0
    for delta in change[:-1]:
        total += delta
        live.append(total)
    for step, nbytes in liveness.inner_bytes:
        live[step] += nbytes
    return live
