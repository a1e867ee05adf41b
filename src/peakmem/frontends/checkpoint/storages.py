"""Tensors that view storages as constants of a graph: every byte of every storage counted once.

A view that no earlier one covers owns its bytes; others name the one they share with. What no view
owns (the rest of a sliced storage, gaps between views) becomes a constant of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from peakmem import dtypes
from peakmem.frontends.checkpoint.tensors import Storage, View
from peakmem.ir.graph import Tensor


def placed(views: Iterable[View]) -> list[Tensor]:
    """One tensor per view, in their order, and what is left of their storages after them."""
    by_storage: dict[str, list[View]] = {}
    order = []
    for view in views:
        by_storage.setdefault(view.storage.key, []).append(view)
        order.append(view.name)
    taken = set(order)
    made: dict[str, Tensor] = {}
    rests = []
    for together in by_storage.values():
        rest = _share(together[0].storage, together, made, taken)
        if rest is not None:
            rests.append(rest)
    return [made[name] for name in order] + rests


def _share(storage: Storage, views: list[View], made: dict[str, Tensor], taken: set[str]) -> Tensor | None:
    """Fill `made` with the tensors of one storage; what none of them owns."""
    rest_name = f"(rest of storage {storage.key})"
    while rest_name in taken:
        rest_name += "'"
    owners: list[tuple[int, int, str]] = []
    # (start, stop, name) in bytes, ascending
    reached = owned = 0
    sharing: list[tuple[View, int]] = []
    for view in sorted(views, key=lambda view: (_start(view), -_span(view), view.of_optimizer)):
        start, span = _start(view), _span(view)
        if (start >= reached and _distinct(view)) or not span:
            made[view.name] = _tensor(view, "")
            nbytes = made[view.name].nbytes or 0
            owned += nbytes
            if span:
                owners.append((start, start + span, view.name))
                reached = max(reached, start + span)
        else:
            sharing.append((view, start))
    left = storage.nbytes - owned
    rest = Tensor(rest_name, (left,), dtypes.UINT8, "constant", parameter=False) if left > 0 else None
    at = 0
    for view, start in sharing:  # ascending by start, as the owners are
        while at + 1 < len(owners) and owners[at + 1][0] <= start:
            at += 1
        covered = owners and owners[at][0] <= start < owners[at][1]
        owner = owners[at][2] if covered else rest_name if rest is not None else owners[0][2] if owners else ""
        made[view.name] = _tensor(view, owner)
    return rest


def _tensor(view: View, owner: str) -> Tensor:
    return Tensor(view.name, view.shape, view.dtype, "constant", storage=owner, parameter=not view.of_optimizer)


def _start(view: View) -> int:
    return view.offset * (view.dtype.bits or 8) // 8


def _span(view: View) -> int:
    """Bytes from the first to the last element of a view, 0 when it has none."""
    if 0 in view.shape:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    return ((last + 1) * (view.dtype.bits or 8) + 7) // 8


def _distinct(view: View) -> bool:
    """Whether no two elements of a view are the same place (an expanded tensor is not)."""
    reach = 0
    for stride, size in sorted(zip(view.strides, view.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return False
            reach += stride * (size - 1)
    return True
