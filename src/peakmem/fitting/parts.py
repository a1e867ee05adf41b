"""Bytes against a room: the outcome of each part, for one block of memory and for memory in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from peakmem.engines.tflm.planner import Buffer
from peakmem.fitting.need import spread
from peakmem.fitting.place import Room
from peakmem.report.fit import Outcome, Part

WORST: tuple[Outcome, ...] = ("does not fit", "cannot tell", "may fit", "fits")
Shares = Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Parts of one question, and what stands behind them."""

    name: str
    parts: tuple[Part, ...]
    live_bytes: int
    # the live peak; 0 where an engine was asked
    matrix_bytes: int
    # of the weights that a narrower dtype shrinks; 0 where an engine holds them
    matrix_elements: int
    assumptions: tuple[str, ...]
    unknowns: tuple[str, ...]
    converted: bool = False
    # whether another tool had to bring the model into the engine's format

    @property
    def outcome(self) -> Outcome:
        """The worst of the parts."""
        return min((part.outcome for part in self.parts), key=WORST.index)

    @property
    def holds(self) -> bool:
        """Whether all parts fit: by their bounds, or where none is known by what is predicted."""
        return all(one.outcome == "fits" or (one.outcome == "may fit" and one.bound_bytes is None)
                   for one in self.parts)  # fmt: skip

    @property
    def gap(self) -> float:
        """Need over capacity of the worst part."""
        return max(part.needed_bytes / part.capacity_bytes for part in self.parts)


def judged(needed: int, bound: int | None, capacity: int, *, sure: bool) -> Outcome:
    """Whether `needed` has room: for sure only where the bound has.

    Args:
        bound: bytes that are not exceeded; None where nobody knows.
        sure: whether everything has a size; otherwise `needed` is a lower bound.
    """
    if needed > capacity:
        return "does not fit"
    if not sure:
        return "cannot tell"
    return "fits" if bound is not None and bound <= capacity else "may fit"


def part(
    room: Room, bound: int | None, convention: str, shares: Shares, *, sure: bool, said: str = "",
    kind: str = "estimate",
) -> Part:  # fmt: skip
    """One room and what it has to hold: the sum of `shares`."""
    kept = tuple((name, nbytes) for name, nbytes in shares if nbytes)
    needed = sum(nbytes for _, nbytes in kept)
    most = None if bound is None or not sure else max(bound, needed)
    outcome = judged(needed, most, room.capacity_bytes, sure=sure)
    reason = ""
    if outcome == "cannot tell":
        reason = "what is known fits, but something has no size: see Unknown"
    if outcome == "may fit":
        reason = "the estimate fits, and no bound is known" if most is None else "the estimate fits, its bound does not"
    if outcome == "fits" and room.sure_bytes is not None and most is not None and most > room.sure_bytes:
        outcome = "may fit"
        reason = f"nobody says what the system leaves; on such devices it is at least {room.sure_bytes:,} B"
    return Part(
        room.name, needed, room.capacity_bytes, outcome, convention, kind if sure else "lower bound", most,
        "; ".join(text for text in (room.said, said) if text), kept, reason,
    )  # fmt: skip


def arena(
    room: Room, bound: int | None, convention: str, shares: Shares, buffers: Sequence[Buffer], *, sure: bool,
    said: str = "",
) -> Part:  # fmt: skip
    """As `part`, for an arena: one block, which lies in one piece of RAM, or its buffers in several."""
    whole = part(room, bound, convention, shares, sure=sure, said=said)
    piece = room.piece_bytes
    height = whole.needed_bytes if bound is None else max(bound, whole.needed_bytes)
    if piece is None or piece >= room.capacity_bytes or whole.outcome == "does not fit":
        return whole
    if height <= piece:
        holding = next((name for name, size in room.banks if height <= size), None)
        return replace(whole, reason=whole.reason or (f"the arena lies in {holding}" if holding else ""))
    placed = spread(buffers, room.banks) if buffers and room.banks else ""
    if isinstance(placed, dict):
        used = ", ".join(f"{nbytes:,} B in {name}" for name, nbytes in placed.items() if nbytes)
        reason = f"no piece of RAM holds the arena whole; with several arenas it fits: {used}"
        return replace(whole, outcome="cannot tell" if not sure else "may fit", reason=reason)
    largest = max((one.nbytes for one in buffers), default=whole.needed_bytes)
    if whole.needed_bytes <= piece:
        return replace(whole, outcome="may fit", reason=f"RAM is in pieces, the longest has {piece:,} B")
    over = f"buffer {placed} ({largest:,} B)" if largest > piece else f"an arena of {whole.needed_bytes:,} B"
    return replace(
        whole, outcome="does not fit" if largest > piece or not buffers else "may fit", capacity_bytes=piece,
        reason=f"RAM is in pieces, the longest has {piece:,} B: {over} is larger",
    )  # fmt: skip
