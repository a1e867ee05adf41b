"""Workspaces that cuBLAS keeps: one for each thread that multiplies, on each stream.

aten/src/ATen/cuda/CublasHandlePool.cpp of PyTorch (parseChosenWorkspaceSize: `:4096:2:16:8`, 32 MiB on capability 9.0;
parseCUDABlasLtWorkspaceSize: 1 MiB): `at::cuda::getNewWorkspace` in recorded traces took 8,519,680 bytes on cards
before and 33,554,432 on Hopper, once in the thread of the forward and once in autograd's.
"""

from __future__ import annotations

import re

from peakmem.training.workspaces.found import Kept

BEFORE_HOPPER, ON_HOPPER = 4096 * 1024 * 2 + 16 * 1024 * 8, 4096 * 8 * 1024
FIRST_IN_FORWARD, FIRST_IN_BACKWARD = "first product in a forward", "first product in a backward"
PRODUCTS = frozenset({"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::addmv", "aten::mv", "aten::dot"})
# operators that cuBLAS runs
SOURCE = "CublasHandlePool.cpp, PyTorch 2.11; getNewWorkspace in recorded traces"


def workspace(capability: tuple[int, int], config: str = "") -> int:
    """Bytes of one; `config` is CUBLAS_WORKSPACE_CONFIG (":4096:2:16:8")."""
    sizes = re.findall(r":([0-9]+):([0-9]+)", config)
    if sizes:
        return sum(int(size) * 1024 * int(count) for size, count in sizes)
    return ON_HOPPER if capability == (9, 0) else BEFORE_HOPPER


def taken(kept: list[Kept], operator: str, *, backward: bool) -> list[Kept]:
    """What an operator takes now of what has not been taken; it is no longer in `kept`."""
    if operator not in PRODUCTS:
        return []
    when = FIRST_IN_BACKWARD if backward else FIRST_IN_FORWARD
    found = [item for item in kept if item.when == when]
    kept[:] = [item for item in kept if item.when != when]
    return found


def persistent(device: str, capability: tuple[int, int] = (8, 0), config: str = "") -> list[Kept]:
    """What is taken once and kept, and when: the first product of each of the two threads."""
    if device != "cuda":
        return []
    nbytes = workspace(capability, config)
    return [
        Kept(FIRST_IN_FORWARD, nbytes, SOURCE),
        Kept(FIRST_IN_BACKWARD, nbytes, SOURCE),
    ]
