"""The block that all tensors of a run share: src/inference/dev_api/openvino/runtime/memory_solver.hpp of OpenVINO 2026.

Boxes of size and live range are placed largest first, each as low as those placed before allow. Sizes are counted in
units of 32 bytes (src/plugins/intel_cpu/src/memory_control.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UNIT = 32


@dataclass(frozen=True, slots=True)
class Box:
    """Bytes that exist from the step `start` to the step `stop`, both included."""

    nbytes: int
    start: int
    stop: int


def solve(boxes: Sequence[Box]) -> int:
    """Bytes of the block."""
    ordered = sorted(sorted(boxes, key=lambda box: (box.start, box.stop)), key=lambda box: -units(box))
    slots: list[set[tuple[int, int]]] = [set() for _ in range(max((box.stop for box in boxes), default=0) + 1)]
    # what is placed at each step: where it begins and ends
    top = 0
    for box in ordered:
        size, at = units(box), 0
        lived = slots[box.start : box.stop + 1]
        for low, high in sorted(set().union(*lived)):
            if at + size > low and high > at:
                at = high
        for slot in lived:
            slot.add((at, at + size))
        top = max(top, at + size)
    return top * UNIT


def units(box: Box) -> int:
    """Its size in units."""
    return -(-box.nbytes // UNIT)
