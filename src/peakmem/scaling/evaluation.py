"""One value of the knob: the ordinary analysis of the graph it gives, with plain numbers or with numbers that remember.

Both ways run the same code; only the number put in differs. Nothing is fitted or guessed here.
"""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.dtypes import DType
from peakmem.ir.graph import Graph
from peakmem.liveness import live_bytes, live_ranges, state_bytes
from peakmem.parameters import parameters
from peakmem.pipeline import retype
from peakmem.study import Study


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same while the knob turns."""

    dtype: DType | None = None
    assume: str = "fused"
    hold_inputs: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes of one network at one size; not a measurement of a process."""

    live: tuple[int, ...]
    # at each step
    weights_bytes: int
    state_bytes: int
    operators: tuple[tuple[str, str], ...]
    # (name, op type) of each step
    unknown: bool
    # something had no known size, so that the bytes are a lower bound


@dataclass(frozen=True, slots=True)
class Point:
    """The peak of one network at one size."""

    live_bytes: int
    weights_bytes: int
    state_bytes: int
    operator: str
    op_type: str
    step: int
    unknown: bool = False

    @property
    def resident_bytes(self) -> int:
        """Weights, state and live peak together."""
        return self.live_bytes + self.weights_bytes + self.state_bytes


def measured(graph: Graph, setting: Setting) -> Measured:
    """The live bytes of every step of a bound graph, and what stays resident beside them."""
    stored = parameters(graph)
    side_bytes = 0
    if setting.dtype is not None:
        side_bytes = stored.size(setting.dtype)[1]
        graph = retype(graph, setting.dtype, stored)
        stored = parameters(graph)
    study = Study(graph, hold_inputs=setting.hold_inputs, known_parameters=stored)
    running = study.graph(setting.assume)
    liveness = live_ranges(running, hold_inputs=setting.hold_inputs)
    return Measured(
        live=tuple(live_bytes(liveness)),
        weights_bytes=stored.nbytes() + side_bytes,
        state_bytes=state_bytes(running),
        operators=tuple((operator.name, operator.op_type) for operator in running.operators),
        unknown=bool(liveness.unsized or graph.unknowns),
    )


def point(found: Measured) -> Point:
    """The first step with the most live bytes."""
    peak = max(found.live)
    step = found.live.index(peak)
    name, op_type = found.operators[step] if found.operators else ("", "")
    return Point(peak, found.weights_bytes, found.state_bytes, name, op_type, step, found.unknown)
