"""What a runtime holds, by name."""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.engines.prediction import Holding, Unmodelled


@dataclass(frozen=True, slots=True)
class Held:
    """One XNNPACK runtime, on the heap, beside what its caller holds.

    External values are the caller's, and no part of it. `hold(subgraph, processor, threads=1, …)` makes it.
    """

    created: tuple[Holding, ...]
    # after xnn_create_runtime_*, with the subgraph deleted: packed weights, operators, the runtime's tables
    planned: tuple[Holding, ...]
    # what the first xnn_reshape_runtime and xnn_setup_runtime add, for good: workspace, indirection buffers
    creating: int = 0
    # most bytes at once before `created` is reached, less `created`: the subgraph, whose tables grow by copies
    planning: int = 0
    # most bytes beside `created` and `planned` while memory is planned
    workspace: int = 0
    # the workspace within `planned` (XNN_EXTRA_BYTES and alignment included): runtimes that share one workspace hold
    # the largest, once, and a larger one is taken before the smaller is given back
    tensors: int = 0
    # most bytes of values and operator workspaces in it that live at once; the rest are gaps
    unmodelled: tuple[Unmodelled, ...] = ()

    @property
    def created_bytes(self) -> int:
        return sum(one.nbytes for one in self.created)

    @property
    def planned_bytes(self) -> int:
        return sum(one.nbytes for one in self.planned)
