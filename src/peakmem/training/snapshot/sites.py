"""What holds the memory at the peak of a trace, by the frames that a snapshot keeps: kind of work and line of code.

The kinds are guesses from names of files and functions; a trace without frames has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from peakmem.training.snapshot.record import ALLOC, FREE_COMPLETED, FREE_REQUESTED, Record
from peakmem.training.snapshot.start import Start

LONGEST = 200
# frames of one request that are looked at
_INSTALLED = ("site-packages/", "dist-packages/", "torch/", "<frozen", "<string>", "<eval")

_BUILDING = frozenset(("to", "cuda", "_apply", "convert", "half", "bfloat16", "float", "__init__", "load_state_dict"))
KINDS: tuple[tuple[str, Callable[[str, str], bool]], ...] = (
    ("kernel workspace", lambda _, name: "getNewWorkspace" in name or "LtWorkspace" in name),
    ("optimizer", lambda file, name: "/optim/" in file or (name == "step" and "optim" in file)),
    ("backward", lambda file, name: "autograd::Engine" in name or (
        name in ("backward", "_engine_run_backward", "run_backward") and file.endswith(".py"))),
    ("network", lambda file, name: file.endswith("nn/modules/module.py") and name in _BUILDING),
    ("forward", lambda file, name: name == "forward" or file.endswith("nn/functional.py")),
)  # fmt: skip
# the first that one of a request's frames fits, by file and function


@dataclass(frozen=True, slots=True)
class Site:
    """Blocks alive at the peak that came from one place."""

    kind: str
    place: str
    # "model.py:41 forward"
    nbytes: int
    # as requested
    blocks: int


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bytes requested at once, and where they come from."""

    event: int
    # -1: before the first one
    nbytes: int
    kinds: tuple[tuple[str, int, int], ...]
    # kind, bytes, blocks; most bytes first
    sites: tuple[Site, ...]


def peak_of(record: Record, start: Start) -> Peak:
    """What is alive when the most is requested."""
    total = most = start.requested
    at_most = -1
    completes = any(event.action == FREE_COMPLETED for event in record.events)
    last = FREE_COMPLETED if completes else FREE_REQUESTED
    sizes = {block.address: block.requested for block in start.held}
    for at, event in enumerate(record.events):
        if event.action == ALLOC:
            sizes[event.address] = event.nbytes
            total += event.nbytes
            if total > most:
                most, at_most = total, at
        elif event.action == last:
            total -= sizes.pop(event.address, 0)
    ends = {piece.address: piece.frames for segment in record.segments for piece in segment.pieces if piece.active}
    live: dict[int, tuple[int, Any, bool]] = {}
    for block in start.held:
        live[block.address] = (block.requested, ends.get(block.address) if block.frees is None else None, False)
    for event in record.events[: at_most + 1]:
        if event.action == ALLOC:
            live[event.address] = (event.nbytes, event.frames, True)
        elif event.action == last:
            live.pop(event.address, None)
    known: dict[int, tuple[str, str]] = {}
    sums: dict[tuple[str, str], list[int]] = {}
    for nbytes, frames, traced in live.values():
        if not frames or not isinstance(frames, list):
            found = ("no frames" if traced else "older than the trace", "")
        else:
            cached = known.get(id(frames))
            found = known[id(frames)] = cached or _place(frames)
        entry = sums.setdefault(found, [0, 0])
        entry[0] += nbytes
        entry[1] += 1
    kinds: dict[str, list[int]] = {}
    for (kind, _), (nbytes, blocks) in sums.items():
        entry = kinds.setdefault(kind, [0, 0])
        entry[0] += nbytes
        entry[1] += blocks
    return Peak(
        at_most, most,
        tuple(sorted(((kind, *entry) for kind, entry in kinds.items()), key=lambda item: (-item[1], item[0]))),  # type: ignore[misc]
        tuple(sorted((Site(kind, place, *entry) for (kind, place), entry in sums.items() if place),
                     key=lambda site: (-site.nbytes, site.place))),
    )  # fmt: skip


def _place(frames: Sequence[Any]) -> tuple[str, str]:
    """The kind of work and the innermost line that is the user's own."""
    named = [
        (str(frame.get("filename", ""))[:400].replace("\\", "/"), str(frame.get("name", ""))[:400], frame.get("line"))
        for frame in frames[:LONGEST]
        if isinstance(frame, dict)
    ]
    kind = next((kind for kind, fits in KINDS if any(fits(file, name) for file, name, _ in named)), "other")
    lines = [item for item in named if item[0].endswith(".py")]
    own = [item for item in lines if not any(part in item[0] for part in _INSTALLED)]
    for file, name, line in own[:1] or lines[:1] or named[:1]:
        return kind, f"{file.rsplit('/', 1)[-1] or '??'}:{line} {name}"[:200]
    return kind, ""


def place_of(frames: Any) -> str:
    """The innermost line of the user's own code in `frames`; empty where there is none."""
    return _place(frames)[1] if isinstance(frames, list) and frames else ""
