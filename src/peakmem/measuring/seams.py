"""Takes apart anonymous mappings that the kernel merged with a neighbour of another kind.

Memory that is asked for next to memory of the same rights becomes one mapping. So the zero-initialised data of a
library (.bss) and an arena of Python's allocator stand in smaps as one, and on kernels before 6.7 the stack of a
thread and a large block of malloc. Where the seam is says the ELF file, or the size of a stack; which pages on each
side are resident says `/proc/PID/pagemap`, whose bits for it need no privilege.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from peakmem.measuring.mappings import Area, Threads, is_guard, split

PAGE = os.sysconf("SC_PAGESIZE")
_PRESENT, _SWAPPED = 1 << 63, 1 << 62
# bits of an entry of pagemap, Documentation/admin-guide/mm/pagemap.rst
_LARGEST_TABLE = 1 << 16
# bytes of program headers that are read at most


@dataclass(frozen=True, slots=True)
class Segment:
    """A writable PT_LOAD of an ELF file, bytes."""

    offset: int
    address: int
    file_bytes: int
    memory_bytes: int


def take_apart(pid: int, areas: Sequence[Area], threads: Threads) -> tuple[Area, ...]:
    """The areas with seams where mappings of two kinds met; `zeroed` says which belong to the library before them.

    What cannot be read (a deleted library, no pagemap) leaves an area whole.
    """
    found: list[Area] = []
    for area in areas:
        before = found[-1] if found else None
        if before is None or before.end != area.start:
            found.append(area)
        elif area.permissions == "rw-p" and _may_hold_bss(before, area):
            found += _without_bss(pid, before, area)
        elif area.permissions == "rw-p" and is_guard(before, area):
            found += _without_stack(pid, area, threads)
        else:
            found.append(area)
    return tuple(found)


def _may_hold_bss(before: Area, area: Area) -> bool:
    named_heap = area.path == "[heap]"
    # without address randomisation the heap begins where the program's .bss ends
    return before.inode != 0 and before.permissions.startswith("rw") and (area.plain or named_heap)


def _without_bss(pid: int, before: Area, area: Area) -> list[Area]:
    end = _bss_end(pid, before)
    if end is None:
        return [area]
    if end <= area.start:
        return [replace(area, zeroed=False)]
    whole = replace(area, path="", zeroed=True) if area.path == "[heap]" else replace(area, zeroed=True)
    if end >= area.end:
        return [whole]
    below = _resident(pid, area.start, end)
    if below is None:
        return [replace(area, zeroed=end - area.start > area.end - end)]
        # one of the two; the larger
    lower, upper = split(area, end, below)
    return [replace(lower, path=whole.path, zeroed=True), replace(upper, zeroed=False)]


def _without_stack(pid: int, area: Area, threads: Threads) -> list[Area]:
    """A stack of the default size at the foot of a larger area. Stacks that are larger hold their pointer above it."""
    end = area.start + threads.stack_bytes
    pointers = [pointer for pointer in threads.pointers if area.at(pointer)]
    if end >= area.end or "nh" in area.flags or not pointers or max(pointers) >= end:
        return [area]
        # nh: since kernel 6.7 stacks are kept apart by it (MAP_STACK)
    below = _resident(pid, area.start, end)
    return [area] if below is None else list(split(area, end, below))


def _resident(pid: int, start: int, end: int) -> tuple[int, int] | None:
    """Resident and swapped bytes of a range; the shared page of zeros counts as resident here, not in smaps."""
    try:
        with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as file:
            file.seek(start // PAGE * 8)
            data = file.read((end - start) // PAGE * 8)
    except OSError:
        return None
    if len(data) < (end - start) // PAGE * 8:
        return None
    resident = swapped = 0
    for (entry,) in struct.iter_unpack("=Q", data):
        resident += bool(entry & _PRESENT)
        swapped += bool(entry & _SWAPPED)
    return resident * PAGE, swapped * PAGE


def _bss_end(pid: int, data: Area) -> int | None:
    """Where the memory of the segment ends whose last mapping from the file is `data`; None if the file is no help."""
    for path in (Path(data.path), Path(f"/proc/{pid}/map_files/{data.start:x}-{data.end:x}")):
        with suppress(OSError):
            stat = path.stat()
            if stat.st_ino == data.inode:
                for segment in segments(str(path), stat.st_ino, stat.st_mtime_ns):
                    if (end := _end(segment, data)) is not None:
                        return end
                return None
    return None


def _end(segment: Segment, data: Area) -> int | None:
    bias = data.start - data.offset + segment.offset - segment.address
    if _up(bias + segment.address + segment.file_bytes) != data.end:
        return None
    if not segment.offset - segment.offset % PAGE <= data.offset <= segment.offset + segment.file_bytes:
        return None
    return _up(bias + segment.address + segment.memory_bytes)


def _up(address: int) -> int:
    return -(-address // PAGE) * PAGE


@lru_cache(maxsize=1024)
def segments(path: str, inode: int, changed: int) -> tuple[Segment, ...]:  # noqa: ARG001
    """Writable segments of an ELF file, 64-bit and little-endian; () for any other file.

    Arguments:
        inode, changed: what tells one content of a path from another.
    """
    with Path(path).open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
            return ()
        (table,) = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        if size < 56 or size * count > _LARGEST_TABLE:
            return ()
        file.seek(table)
        rows = file.read(size * count)
    found = []
    for at in range(0, len(rows) - size + 1, size):
        kind, rights, offset, address, _, file_bytes, memory_bytes, _ = struct.unpack_from("<IIQQQQQQ", rows, at)
        if kind == 1 and rights & 2:
            found.append(Segment(offset, address, file_bytes, memory_bytes))
    return tuple(found)
