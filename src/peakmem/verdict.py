"""Whether a training step fits in so much memory: its log against a capacity, as predicted and at most.

On a CUDA device the allocator decides: it gives cached blocks back before it fails, so it is run at the limit. "Fits"
is said only where the upper bound fits.
"""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.devices import Device, largest_context
from peakmem.engines.bands import baseline
from peakmem.report.training import Outcome, Reserved, Verdict
from peakmem.training.account import bound, peak
from peakmem.training.allocator import Settings, Simulation, simulate
from peakmem.training.log import Log
from peakmem.units import format_bytes


@dataclass(frozen=True, slots=True)
class Capacity:
    """So much memory, and whose it is."""

    nbytes: int
    said: str
    # where the figure is from
    card: Device | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """What a process holds beyond its tensors."""

    nbytes: int
    bound_bytes: int
    said: str


def beside_cuda(card: Device | None) -> Beside:
    """CUDA context and kernels, from the device's row; where it has none, at most the largest that was published."""
    if card is not None and card.context_bytes is not None:
        said = f"CUDA context and kernels {format_bytes(card.context_bytes)} ({card.context_source})"
        return Beside(card.context_bytes, card.context_bytes, said)
    largest = largest_context()
    most = largest.context_bytes or 0
    return Beside(
        0, most, f"CUDA context and kernels are not known here; {format_bytes(most)} counted in the bound, the largest "
        f"that was published ({largest.title}, {largest.context_source})",
    )  # fmt: skip


def beside_cpu() -> Beside:
    """The interpreter with torch imported, as it was measured."""
    base = baseline("pytorch")
    nbytes = base.anonymous_bytes if base is not None else 0
    said = (
        f"{format_bytes(nbytes)} of anonymous memory in a process with torch {base.version} imported, measured with "
        f"{base.python}; what the C library keeps free comes on top" if base is not None else "not known"
    )  # fmt: skip
    return Beside(nbytes, nbytes, said)


def reserved_of(found: Simulation, *, exact: bool) -> Reserved:
    """The allocator with as much memory as it asks for, as the report has it.

    `exact` is false where the log is no trace by the device's rules: nothing is known then that it does not exceed.
    """
    top, most = found.reserved, found.bound if exact else None
    return Reserved(
        str(found.settings), found.requested.nbytes, found.allocated.nbytes, top.nbytes,
        top.nbytes - found.allocated.nbytes, top.step, top.phase, top.operator, top.module,
        None if most is None else max(most.nbytes, top.nbytes), () if most is None else most.how,
    )  # fmt: skip


def judged_cpu(log: Log, capacity: Capacity, *, exact: bool) -> Verdict:
    """Tensors and the process around them against a machine's memory; `exact` as for `reserved_of`."""
    beside = beside_cpu()
    point, most = peak(log).nbytes + beside.nbytes, bound(log) + beside.bound_bytes if exact else None
    fits = most is not None and most <= capacity.nbytes
    outcome: Outcome = "fits" if fits else "may fit" if point <= capacity.nbytes else "does not fit"
    return _verdict(outcome, capacity, beside, point, most, "")


def judged_cuda(log: Log, capacity: Capacity, reserved: Reserved, settings: Settings) -> Verdict:
    """The allocator run at the limit, without and with the most that operators without a row may take."""
    beside = beside_cuda(capacity.card)
    point = reserved.reserved_bytes + beside.nbytes
    most = None if reserved.bound_bytes is None else max(reserved.bound_bytes + beside.bound_bytes, point)
    reason = ""
    outcome: Outcome = "may fit" if most is None else "fits"
    if point > capacity.nbytes:
        room = capacity.nbytes - beside.nbytes
        ends = simulate(log, settings, capacity=max(room, 0), bound=False)
        reason = "it runs: cached blocks are given back at the limit"
        if ends.failure is not None:
            outcome, reason = "does not fit", str(ends.failure)
    if outcome == "fits" and most is not None and most > capacity.nbytes:
        room = capacity.nbytes - beside.bound_bytes
        if simulate(log, settings, capacity=max(room, 0)).fits is not True:
            outcome = "may fit"
    return _verdict(outcome, capacity, beside, point, most, reason)


def _verdict(
    outcome: Outcome, capacity: Capacity, beside: Beside, point: int, most: int | None, reason: str
) -> Verdict:
    sure = capacity.card.sure_bytes if capacity.card is not None else None
    if outcome == "fits" and sure is not None and most is not None and most > sure and sure < capacity.nbytes:
        outcome, reason = "may fit", f"nobody says what the system leaves; on such devices it is at least {sure:,} B"
    return Verdict(
        outcome, capacity.nbytes, capacity.said, point, most, beside.nbytes, beside.bound_bytes, beside.said, reason
    )
