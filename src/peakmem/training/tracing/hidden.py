"""The networks of a step that hides them: met when their forward is called, put under recompute while the step runs.

Imported with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules import module as module_hooks

from peakmem.errors import UsageError

Wrap = Callable[[Any], list[Any]]
# puts the blocks of one network under recompute; the modules whose forward it replaced


@contextmanager
def recomputed(wrap: Wrap) -> Iterator[None]:
    """Every network whose forward is called inside has its blocks under recompute; afterwards they are as before.

    Raises:
        UsageError: what `wrap` raised for the last network, where it found blocks in none.
    """
    depth, seen = 0, set[int]()
    changed: list[Any] = []
    refused: list[UsageError] = []

    def before(part: Any, _given: Any) -> None:
        nonlocal depth
        if depth == 0 and id(part) not in seen and torch._C._current_autograd_node() is None:
            seen.add(id(part))
            try:
                changed.extend(wrap(part))
            except UsageError as fault:
                refused.append(fault)
        depth += 1

    def after(_part: Any, _given: Any, _result: Any) -> None:
        nonlocal depth
        depth -= 1

    handles = [
        module_hooks.register_module_forward_pre_hook(before),
        module_hooks.register_module_forward_hook(after, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for part in changed:
            del part.forward
    if not changed:
        raise refused[-1] if refused else UsageError("the step calls no torch.nn.Module", expected="one to recompute")
