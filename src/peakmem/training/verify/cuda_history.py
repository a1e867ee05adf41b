"""Sizes as requested, from the CUDA allocator's history, for events that carry rounded ones. Needs no torch."""

from __future__ import annotations

from typing import Any


def requested(events: list[tuple[int, ...]], entries: list[dict[str, Any]]) -> tuple[list[tuple[int, ...]], list[str]]:
    """The profiler's events with the sizes of the history.

    Entries have `action` ("alloc", "free_requested", "free_completed", "segment_alloc", …), `addr` and `size`
    (torch/csrc/cuda/memory_snapshot.cpp of 2.13).
    """
    asked = [(int(one["addr"]), int(one["size"])) for one in entries if one["action"] == "alloc"]
    found: list[tuple[int, ...]] = []
    living: dict[int, int] = {}
    at = wrong = 0
    for event in events:
        if len(event) == 1:
            found.append(event)
            continue
        address, nbytes, *rest = event
        if nbytes > 0:
            if at < len(asked) and asked[at][0] == address:
                nbytes = asked[at][1]
            else:
                wrong += 1
            at += 1
            living[address] = nbytes
        else:
            nbytes = -living.pop(address, -nbytes)
        found.append((address, nbytes, *rest))
    if wrong:
        return found, [f"{wrong} allocations have the allocator's rounded size: its history does not hold them"]
    return found, []
