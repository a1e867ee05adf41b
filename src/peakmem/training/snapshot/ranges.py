"""Disjoint ranges of addresses that grow, shrink and merge."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """A set of addresses as sorted half-open ranges that do not touch."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._stops, strict=True))

    def __bool__(self) -> bool:
        return bool(self._starts)

    def add(self, start: int, stop: int) -> None:
        """Take in [start, stop)."""
        if start >= stop:
            return
        first, last = bisect_left(self._stops, start), bisect_right(self._starts, stop)
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
        self._starts[first:last], self._stops[first:last] = [start], [stop]

    def remove(self, start: int, stop: int) -> None:
        """Leave out [start, stop)."""
        if start >= stop:
            return
        first, last = bisect_right(self._stops, start), bisect_left(self._starts, stop)
        if first >= last:
            return
        left, right = self._starts[first], self._stops[last - 1]
        kept = [pair for pair in ((left, start), (stop, right)) if pair[0] < pair[1]]
        self._starts[first:last] = [pair[0] for pair in kept]
        self._stops[first:last] = [pair[1] for pair in kept]
