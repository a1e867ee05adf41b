"""The repeated parts of a module: what a recompute drops and makes again, one by one."""

from __future__ import annotations

from collections import Counter
from typing import Any


def blocks_of(model: Any) -> list[str]:
    """Paths of the outermost modules of which a list holds two or more of one class, each made of several modules.

    A transformer's layers, a residual network's blocks; without such a list, children of one class that are made of
    several modules. Blocks inside of blocks do not count.
    """
    found: list[str] = []

    def look(module: Any, path: str) -> None:
        children = [(name, child) for name, child in module.named_children()]
        kinds = Counter(type(child) for _, child in children if _is_composite(child))
        for name, child in children:
            place = f"{path}.{name}" if path else name
            listed = type(module).__name__ == "ModuleList" or type(child).__name__ not in ("Sequential", "ModuleList")
            if _is_composite(child) and kinds[type(child)] > 1 and listed:
                found.append(place)
            else:
                look(child, place)

    look(model, "")
    return found


def _is_composite(module: Any) -> bool:
    return sum(1 for _ in module.modules()) > 2
