"""Live bytes over the schedule, their peak, and who is alive there."""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.ir.graph import Graph
from peakmem.liveness import Buffer, Liveness, live_bytes, live_ranges


@dataclass(frozen=True, slots=True)
class Timeline:
    """Live bytes at each step; the peak is their maximum, at the first step that reaches it."""

    live: tuple[int, ...]
    peak_bytes: int
    peak_step: int
    liveness: Liveness

    @property
    def alive_at_peak(self) -> tuple[Buffer, ...]:
        """Buffers alive at the peak, largest first."""
        return alive_at(self.liveness, self.peak_step)


def alive_at(liveness: Liveness, step: int) -> tuple[Buffer, ...]:
    """Buffers alive at `step`, largest first, then in order of their start."""
    alive = [buffer for buffer in liveness.buffers if buffer.start <= step < buffer.stop]
    return tuple(sorted(alive, key=lambda buffer: (-buffer.nbytes, buffer.start)))


def timeline(graph: Graph, *, hold_inputs: bool = False) -> Timeline:
    """The timeline of `graph` in the order its operators stand; see `liveness.live_ranges`."""
    liveness = live_ranges(graph, hold_inputs=hold_inputs)
    live = live_bytes(liveness)
    peak = max(live)
    return Timeline(tuple(live), peak, live.index(peak), liveness)
