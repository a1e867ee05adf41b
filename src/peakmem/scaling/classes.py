"""Classes of values with the same pieces put together again: what holds for 0, 2, 4 … of 32 holds for even numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from peakmem.scaling.pieces import Hole, Span

Ranges = list[Span | Hole]
Placed = tuple[int, int, Span | Hole]
# (modulus, residue, range)


def coarsest(classes: Mapping[int, Ranges], modulus: int) -> list[Placed]:
    """The ranges of all classes of `modulus`, as few as say the same; a class without values has none.

    A formula that all classes of a coarser modulus share is said once, for as far as each of its values has it.
    """
    groups: dict[object, dict[int, list[Span | Hole]]] = {}
    for residue, ranges in classes.items():
        for item in ranges:
            groups.setdefault(_said(item), {}).setdefault(residue, []).append(item)
    out: list[Placed] = []
    for members in groups.values():
        left = {residue: list(ranges) for residue, ranges in members.items()}
        _singles(left, out)
        for by in (one for one in range(1, modulus + 1) if modulus % one == 0):
            for residue in range(by):
                wanted = [one for one in range(residue, modulus, by) if classes[one]]
                while wanted and all(left.get(one) for one in wanted):
                    merged = _merged({one: left[one][0] for one in wanted}, by, modulus)
                    if merged is None:
                        break
                    out.append((by, residue, merged))
                    for one in wanted:
                        _taken(left[one], merged, modulus)
    return sorted(out, key=lambda one: (one[0], one[1], one[2].low))


def _said(item: Span | Hole) -> object:
    return re.sub(r"\d+", "N", item.reason) if isinstance(item, Hole) else item.formulas


def _singles(left: dict[int, list[Span | Hole]], out: list[Placed]) -> None:
    """Take single values out, those that stand side by side as one range of all values."""
    alone = sorted(
        (item for ranges in left.values() for item in ranges if item.low == item.high), key=lambda one: one.low
    )
    for ranges in left.values():
        ranges[:] = [item for item in ranges if item.low < item.high]
    for item in alone:
        last = out[-1] if out else None
        if last is not None and last[0] == 1 and _said(last[2]) == _said(item) and last[2].high + 1 == item.low:
            out[-1] = (1, 0, _wider(last[2], last[2].low, item.high, [item]))
        else:
            out.append((1, 0, item))


def _merged(members: Mapping[int, Span | Hole], by: int, modulus: int) -> Span | Hole | None:
    """One range of a class of `by` out of ranges of its finer classes, for as far as all of its values have it."""
    inside = max(one.low for one in members.values())
    low = high = inside
    while low - by >= 1 and (low - by) % modulus in members and members[(low - by) % modulus].low <= low - by:
        low -= by
    end = min(one.high for one in members.values())
    if end < inside:
        return None
    high = end
    while (high + by) % modulus in members and members[(high + by) % modulus].high >= high + by:
        high += by
    return _wider(members[inside % modulus], low, high, list(members.values()))


def _taken(ranges: list[Span | Hole], merged: Span | Hole, modulus: int) -> None:
    """Leave of the first range what `merged` does not say."""
    first = ranges.pop(0)
    if first.high > merged.high:
        ranges.insert(0, replace(first, low=first.low + _up(merged.high + 1 - first.low, modulus)))
    if first.low < merged.low:
        ranges.insert(0, replace(first, high=first.high - _up(first.high - merged.low + 1, modulus)))


def _up(number: int, modulus: int) -> int:
    return -(-number // modulus) * modulus


def _wider(item: Span | Hole, low: int, high: int, others: list[Span | Hole]) -> Span | Hole:
    if isinstance(item, Hole):
        return replace(item, low=low, high=high)
    checked = item.checked.union(*(one.checked for one in others if isinstance(one, Span)))
    return replace(item, low=low, high=high, checked=frozenset(x for x in checked if low <= x <= high))
