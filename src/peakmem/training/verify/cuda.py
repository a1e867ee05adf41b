"""The caching allocator's own history of a run, beside the profiler's events: bytes as requested, and its counters.

The profiler reports blocks, rounded and with the slack of their split (`block->size`, c10/cuda/CUDACachingAllocator.cpp
of 2.13); the history has what was asked for. Both are written by one allocator, so that the n-th allocation of one is
the n-th of the other and stands at the same address. Imported with torch at hand; it has not been run on a GPU by this
project's tests, which hold it against entries written by hand in the documented form.
"""

from __future__ import annotations

from typing import Any

import torch

from peakmem.training.verify.cuda_history import requested

MOST = 1 << 22
# entries that the history keeps


class History:
    """Records from now on."""

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self._entries: list[dict[str, Any]] = []
        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.memory._record_memory_history("all", context=None, stacks="python", max_entries=MOST)

    def stop(self) -> None:
        """Read it, and record no more."""
        torch.cuda.synchronize()
        snapshot = torch.cuda.memory._snapshot()
        self._entries = list(snapshot["device_traces"][torch.cuda.current_device()])
        self.counters = {
            "max_memory_allocated": torch.cuda.max_memory_allocated(),
            "max_memory_reserved": torch.cuda.max_memory_reserved(),
        }
        torch.cuda.memory._record_memory_history(None)

    def requested(self, events: list[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[str]]:
        """Events with bytes as requested, and doubts."""
        return requested(events, self._entries)
