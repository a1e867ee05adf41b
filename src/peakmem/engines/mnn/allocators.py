"""MNN's two allocators, source/core/BufferAllocator.cpp of 3.6.1.

`Eager` gives static memory: each request is a block of its own unless a freed one fits. `Defer` plans: it keeps a row
of chunks that are split, joined and widened while the session is gone through; their sum is one block in the end.
"""

from __future__ import annotations

from bisect import bisect_left, insort_right
from dataclasses import dataclass, field
from typing import Any, Protocol

from peakmem.engines.mnn.kernels import ALIGNMENT, HEADER, up


class Planner(Protocol):
    """What places the tensors of a session."""

    tiles: int

    @property
    def total(self) -> int:
        """Bytes of the block that is asked for in the end."""
        ...

    def alloc(self, size: int, *, separate: bool = False) -> Any:
        """A part of at least `size` bytes; a separate one takes no place that was given back."""
        ...

    def free(self, part: Any) -> None:
        """Give a part back."""
        ...

    def begin(self) -> None:
        """barrierBegin: what is freed from now on is not given out again before the end."""
        ...

    def end(self) -> None:
        """barrierEnd."""
        ...


@dataclass(slots=True)
class Node:
    """A block from the system, or a part of one."""

    size: int
    parent: Node | None = None
    uses: int = 0


class _Eager:
    """EagerBufferAllocator: freed blocks are split and joined again, and go back when told to."""

    def __init__(self) -> None:
        self.free_nodes: list[Node] = []
        # by size, then by when they came back

    def alloc(self, size: int, *, separate: bool = False) -> Node:
        at = len(self.free_nodes) if separate else bisect_left(self.free_nodes, size, key=_size)
        if at == len(self.free_nodes):
            return self.ask(size)
        node = self.free_nodes.pop(at)
        if node.parent is not None:
            node.parent.uses += 1
        aligned = up(size, ALIGNMENT)
        if aligned >= node.size:
            return node
        node.uses += 1
        insort_right(self.free_nodes, Node(node.size - aligned, node), key=_size)
        return Node(aligned, node)

    def ask(self, size: int) -> Node:
        """A block of its own."""
        return Node(size)

    def free(self, node: Node) -> None:
        insort_right(self.free_nodes, node, key=_size)
        parent = node.parent
        while parent is not None:
            parent.uses -= 1
            if parent.uses:
                return
            inside = parent
            self.free_nodes = [one for one in self.free_nodes if one.parent is not inside]
            insort_right(self.free_nodes, parent, key=_size)
            parent = parent.parent


class Eager(_Eager):
    """Static memory: weights and constants, each block from malloc."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        # bytes asked of malloc
        self.peak = 0
        self.total = 0
        # bytes as getSessionInfo counts them
        self.outside = 0
        # bytes of others that are alive at the same time

    def beside(self, nbytes: int) -> None:
        """Bytes that somebody else takes (positive) or gives back."""
        self.outside += nbytes
        self.peak = max(self.peak, self.live + self.outside)

    def ask(self, size: int) -> Node:
        self.live += size + HEADER
        self.total += size
        self.peak = max(self.peak, self.live + self.outside)
        return Node(size)

    def collect(self) -> None:
        """release(false): whole blocks that nobody uses go back to the system."""
        for node in self.free_nodes:
            if node.parent is None:
                self.live -= node.size + HEADER
                self.total -= node.size
        self.free_nodes = [node for node in self.free_nodes if node.parent is not None]


@dataclass(slots=True)
class Chunk:
    """A part of what will be one block; neighbours are linked."""

    size: int
    used: bool = True
    left: Chunk | None = field(default=None, repr=False)
    right: Chunk | None = field(default=None, repr=False)


class Defer:
    """DeferBufferAllocator."""

    def __init__(self) -> None:
        self.free_chunks: list[Chunk] = []
        self.head: Chunk | None = None
        self.tail: Chunk | None = None
        self.barrier: list[Chunk] | None = None
        self.tiles = 0
        # products that asked for a tile

    def alloc(self, size: int, *, separate: bool = False) -> Chunk:
        size = up(size, ALIGNMENT)
        if not self.free_chunks or separate:
            chunk = Chunk(size)
            if self.tail is None:
                self.head = chunk
            else:
                self.tail.right, chunk.left = chunk, self.tail
            self.tail = chunk
            return chunk
        at = bisect_left(self.free_chunks, size, key=_chunk_size)
        chunk = self.free_chunks.pop(min(at, len(self.free_chunks) - 1))
        chunk.used = True
        if chunk.size > size:
            rest = Chunk(chunk.size - size, used=False, left=chunk, right=chunk.right)
            if chunk.right is not None:
                chunk.right.left = rest
            chunk.right = rest
            if self.tail is chunk:
                self.tail = rest
            insort_right(self.free_chunks, rest, key=_chunk_size)
        chunk.size = size
        # the largest free chunk is widened where none is large enough
        return chunk

    def free(self, chunk: Chunk) -> None:
        if self.barrier is not None:
            self.barrier.append(chunk)
            return
        left, right = chunk.left, chunk.right
        if left is not None and not left.used:
            self._take(left)
            self._join(left, chunk)
            chunk = left
        if right is not None and not right.used:
            self._take(right)
            self._join(chunk, right)
        chunk.used = False
        insort_right(self.free_chunks, chunk, key=_chunk_size)

    def begin(self) -> None:
        self.barrier = []

    def end(self) -> None:
        waiting, self.barrier = self.barrier or [], None
        for chunk in waiting:
            self.free(chunk)

    @property
    def total(self) -> int:
        total, chunk = 0, self.head
        while chunk is not None:
            total += chunk.size
            chunk = chunk.right
        return total

    def _take(self, chunk: Chunk) -> None:
        at = bisect_left(self.free_chunks, chunk.size, key=_chunk_size)
        while self.free_chunks[at] is not chunk:
            at += 1
        del self.free_chunks[at]

    def _join(self, left: Chunk, right: Chunk) -> None:
        left.size += right.size
        left.right = right.right
        if right.right is not None:
            right.right.left = left
        if self.tail is right:
            self.tail = left


class Recursive(_Eager):
    """The planner of allocator=eager: its blocks come from static memory and stay there."""

    def __init__(self, parent: Eager) -> None:
        super().__init__()
        self.parent = parent
        self.waiting: list[Node] | None = None
        self.tiles = 0

    @property
    def total(self) -> int:
        """Nothing beside the static memory."""
        return 0

    def ask(self, size: int) -> Node:
        self.parent.alloc(size)
        return Node(size)

    def free(self, node: Node) -> None:
        if self.waiting is None:
            super().free(node)
        else:
            self.waiting.append(node)

    def begin(self) -> None:
        self.waiting = []

    def end(self) -> None:
        waiting, self.waiting = self.waiting or [], None
        for node in waiting:
            self.free(node)


def _size(node: Node) -> int:
    return node.size


def _chunk_size(chunk: Chunk) -> int:
    return chunk.size
