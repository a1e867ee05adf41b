"""The profiler's tree of events as a flat list: what came and went, in which operator, between which marks.

An operator here is what a dispatch mode would see, so that a measured log names what a traced one does: the outermost
one around an allocation that is not made of others before autograd (`CompositeImplicitAutograd`). Imported with torch
at hand.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

SIGN = "peakmem:"
# before the number of a mark
NODE = "autograd::engine::evaluate_function: "
# before the name of the autograd node that runs, torch/csrc/autograd/engine.cpp


def flat(roots: Any, device: str) -> tuple[list[tuple[int, ...]], list[str], list[str]]:
    """Events as `wire.Recording` holds them, names of operators, doubts about the order."""
    found: list[tuple[int, tuple[int, ...], int]] = []
    operators: dict[str, int] = {}
    calls = 0
    kinds = torch._C._profiler._EventType
    # depth first, children in their order: the order of time within a thread
    waiting = [(event, -1, 0, -1) for event in sorted(roots, key=lambda one: one.start_time_ns, reverse=True)]
    while waiting:
        event, operator, call, node = waiting.pop()
        if event.tag == kinds.Allocation:
            fields = event.extra_fields
            if fields.device.type == device:
                moment = (int(fields.ptr), int(fields.alloc_size), operator, call, node)
                found.append((event.start_time_ns, moment, int(fields.total_allocated)))
            continue
        if event.tag == kinds.TorchOp:
            name = event.name
            if name.startswith(SIGN):
                found.append((event.start_time_ns, (int(name[len(SIGN) :]),), 0))
            elif name.startswith(NODE):
                number = int(event.extra_fields.sequence_number)
                operator, call, node = -1, 0, number if number >= 0 else -2
            elif not call and _seen(name):
                calls += 1
                operator, call = operators.setdefault(name, len(operators)), calls
        children = sorted(event.children, key=lambda one: one.start_time_ns, reverse=True)
        waiting.extend((child, operator, call, node) for child in children)
    found.sort(key=lambda one: one[0])
    return [moment for _, moment, _ in found], list(operators), _doubts(found, device)


def _doubts(found: list[tuple[int, tuple[int, ...], int]], device: str) -> list[str]:
    """The allocator counts what is allocated with each event: where the order is right, its counts follow from it."""
    before: int | None = None
    wrong = 0
    for _, moment, total in found:
        if len(moment) > 1:
            wrong += before is not None and before + moment[1] != total
            before = total
    if wrong and device == "cpu":
        return [f"{wrong} of the allocator's totals do not follow from the event before"]
    return []


@cache
def _seen(name: str) -> bool:
    """Whether a dispatch mode sees this operator; false for user ranges and for what autograd takes apart first."""
    if name not in _overloads() or name.startswith("profiler::"):
        return False
    key = "CompositeImplicitAutograd"
    return not all(torch._C._dispatch_has_kernel_for_dispatch_key(one, key) for one in _overloads()[name])


@cache
def _overloads() -> dict[str, list[str]]:
    """Full names of each operator's overloads: the profiler does not say which one it was.

    Those that write into what is given and those for named tensors are left out: they are registered otherwise.
    """
    found: dict[str, list[str]] = {}
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.partition(".")
        if not overload.endswith("out") and "name" not in overload.lower():
            found.setdefault(name, []).append(full)
    return found
