"""The one arena of TensorFlow Lite for Microcontrollers: tensors grow from its head, what lasts from its tail.

From tensorflow/lite/micro/arena_allocator/single_arena_buffer_allocator.cc of tflite-micro 90b983c (2026-08-20).
Addresses count from the arena's beginning, which malloc aligns to 16 bytes.
"""

from __future__ import annotations

from peakmem.engines.tflm.planner import PER_BUFFER

ALIGNMENT = 16
# MicroArenaBufferAlignment (micro_arena_constants.h)


def up(nbytes: int, alignment: int = ALIGNMENT) -> int:
    """Rounded up."""
    return -(-nbytes // alignment) * alignment


class Arena:
    """Takes memory as the engine does, and keeps account of the least arena in which every step finds room."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.tail = nbytes
        self.head = 0
        self.temporary = 0
        self.least = 0
        # bytes below the highest point that head, or temporary memory, and tail reached together
        self.least_at = ""
        self.step = ""
        self.temporary_peak = 0
        # beyond the head
        self.kept: dict[str, int] = {}
        # bytes at the tail by what they are for, rounding included

    @property
    def tail_bytes(self) -> int:
        """Bytes in use at the tail."""
        return self.nbytes - self.tail

    def _need(self, end: int, tail: int) -> None:
        need = end + self.nbytes - tail
        if need > self.least:
            self.least, self.least_at = need, self.step

    def keep(self, nbytes: int, alignment: int, what: str) -> None:
        """AllocatePersistentBuffer: downwards from the tail.

        The engine itself looks at the head only: in an arena a little smaller the tail grows into temporary memory
        that is in use, and what happens then (a crash, with EMBEDDING_LOOKUP) is not what a smallest arena means.
        """
        before = self.tail
        self.tail = (self.tail - nbytes) // alignment * alignment
        self._need(max(self.head, self.temporary), self.tail)
        self.kept[what] = self.kept.get(what, 0) + before - self.tail

    def resize(self, nbytes: int) -> None:
        """ResizeBuffer, ReserveNonPersistentOverlayMemory: the head anew."""
        self._need(nbytes, self.tail)
        self.head = self.temporary = nbytes

    def lend(self, nbytes: int, alignment: int) -> None:
        """AllocateTemp: upwards from the head; nothing is used again before `reset`."""
        self.temporary = up(self.temporary, alignment) + nbytes
        self._need(self.temporary, self.tail)
        self.temporary_peak = max(self.temporary_peak, self.temporary - self.head)

    def reset(self) -> None:
        """ResetTempAllocations."""
        self.temporary = self.head

    def plan(self, buffers: int) -> None:
        """Room in which the greedy planner works: all that is left, of which each buffer takes some."""
        self._need(up(self.temporary) + PER_BUFFER * buffers, self.tail // ALIGNMENT * ALIGNMENT)
