"""Free blocks in order, found by size; fast for a few hundred of them and for a million."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peakmem.training.allocator.blocks import Block

MOST = 1024
# entries of one part; a part that grows beyond is cut in two

Entry = tuple[int, int, int, int, "Block"]
# size, rank, address, serial (which no two blocks share), block


class Ordered:
    """Entries in ascending order, kept as parts that are in order themselves."""

    __slots__ = ("_lasts", "_parts")

    def __init__(self) -> None:
        self._parts: list[list[Entry]] = []
        self._lasts: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        for part in self._parts:
            yield from part

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def add(self, entry: Entry) -> None:
        """Put an entry into its place."""
        lasts = self._lasts
        if not lasts:
            self._parts.append([entry])
            lasts.append(entry)
            return
        at = bisect_left(lasts, entry)
        if at == len(lasts):
            at -= 1
            part = self._parts[at]
            part.append(entry)
            lasts[at] = entry
        else:
            part = self._parts[at]
            insort(part, entry)
        if len(part) > MOST:
            half = len(part) // 2
            self._parts[at : at + 1] = [part[:half], part[half:]]
            lasts.insert(at, part[half - 1])

    def remove(self, key: tuple[int, int, int, int]) -> None:
        """Take the entry of that size, rank, address and serial out."""
        at = bisect_left(self._lasts, key)
        part = self._parts[at]
        del part[bisect_left(part, key)]
        if part:
            self._lasts[at] = part[-1]
        else:
            del self._parts[at], self._lasts[at]

    def first(self, size: int) -> Block | None:
        """The first block of at least `size`."""
        key = (size,)
        at = bisect_left(self._lasts, key)
        if at == len(self._lasts):
            return None
        part = self._parts[at]
        return part[bisect_left(part, key)][4]

    def rising(self, size: int) -> Iterator[Block]:
        """Blocks of at least `size`, smallest first."""
        at = bisect_left(self._lasts, (size,))
        for number in range(at, len(self._parts)):
            part = self._parts[number]
            start = bisect_left(part, (size,)) if number == at else 0
            for entry in part[start:]:
                yield entry[4]

    def falling(self, size: int) -> Iterator[Block]:
        """Blocks of less than `size`, largest first."""
        for part in reversed(self._parts[: bisect_left(self._lasts, (size,)) + 1]):
            for entry in reversed(part[: bisect_left(part, (size,))]):
                yield entry[4]
