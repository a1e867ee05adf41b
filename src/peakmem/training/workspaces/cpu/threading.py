"""How oneDNN splits a convolution's gradient over threads: each thread that sums over images has its own copy of it.

`balance` of jit_avx512_common_conv_kernel.cpp, jit_avx512_common_1x1_conv_kernel.cpp,
jit_avx512_core_bf16_conv_kernel.cpp, jit_avx512_core_bf16_1x1_conv_kernel.cpp and `reduce_balancer_t` of
cpu_reducer.cpp, oneDNN v3.12.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Split(NamedTuple):
    """Threads over images, over channels of the result and over channels of the image."""

    images: int = 1
    out: int = 1
    inner: int = 1
    groups: int = 1

    @property
    def all(self) -> int:
        """How many threads work."""
        return self.images * self.out * self.inner * self.groups


def up(value: int, step: int) -> int:
    """`value`, rounded up to a multiple of `step`."""
    return -(-value // step) * step


def per(value: int, parts: int) -> int:
    """The largest of `parts` shares."""
    return -(-value // parts)


def best_divider(value: int, least: int, most: int, *, largest: bool, step: int = 1) -> int:
    """The divider between two bounds that wastes least (`best_divider` of jit_generator's utils)."""
    most = max(1, min(most, value))
    least = max(1, min(least, most))
    loss, found = float("inf"), most
    for divider in range(most, least - 1, -step):
        padded = up(value, divider)
        wasted = (padded - value) / padded
        if wasted < loss or (not largest and wasted <= loss):
            loss, found = wasted, divider
    return found


def cheapest(
    threads: int, images: int, out: int, inner: int, cost: Callable[[int, int, int], float]
) -> tuple[int, int, int]:
    """The split with the lowest cost; of equals the last."""
    best, found = cost(1, 1, 1), (1, 1, 1)
    for mb in range(1, min(threads, images) + 1):
        left = threads // mb
        for oc in range(1, min(left, out) + 1):
            candidate = (mb, oc, min(left // oc, inner))
            price = cost(*candidate)
            if price <= best:
                best, found = price, candidate
    return found


def faster(
    threads: int, images: int, out: int, inner: int, start: tuple[int, int, int],
    cost: Callable[[int, int, int], float], work: Callable[[int, int, int], int],
) -> tuple[int, int, int]:  # fmt: skip
    """From the cheapest split to one with less work for each thread, where it costs not much more (float32)."""
    found, least, best = start, work(*start), cost(*start)
    for mb in range(1, min(threads, images) + 1):
        left = threads // mb
        for oc in range(1, min(left, out) + 1):
            candidate = (mb, oc, min(left // oc, inner))
            share = work(*candidate)
            if (share <= least and cost(*candidate) < 1.1 * best) or 4 * share <= 3 * least:
                least, found = share, candidate
    return found


def together(threads: int, job: int, jobs: int, reduction: int, largest: int) -> tuple[int, int, int]:
    """Groups of threads, threads in each, jobs of each: who sums what (`reduce_balancer_t::balance`)."""
    fewest = max(1, jobs // threads)
    most = max(1, largest // (threads * job))
    groups = min(jobs // fewest, threads)
    each = min(threads // groups, reduction)
    share = per(jobs, groups)
    load = jobs * job * reduction
    for candidate in range(fewest, jobs):
        some = min(jobs // candidate, threads)
        inside = min(threads // some, reduction)
        part = per(jobs, some)
        if inside > 1 and part > most:
            continue
        work = job * part * (per(reduction, inside) + (inside != 1))
        if work < load:
            groups, each, share, load = some, inside, part, work
    return groups, each, share
