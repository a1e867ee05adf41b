"""The mappings of a process, read from the text of `/proc/PID/smaps`, and what each of them is for.

Nothing here touches a process: text and numbers go in, data come out. Every byte of every mapping is in exactly one
bucket, so the buckets' resident bytes sum to the resident bytes of the text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from peakmem.errors import FormatError
from peakmem.measuring.record import Bucket

Kind = Literal[
    "library text",
    # pages of executables and shared objects as they are in the file, their read-only data too
    "library data",
    # the pages of these that were written to, and the zero-initialised data behind them
    "mapped model",
    # the model's own files
    "mapped files",
    "heap",
    # the C library's main arena, grown by brk
    "allocator arenas",
    # glibc's other arenas, 64 MiB of address space each
    "thread stacks",
    # with their guard pages
    "main stack",
    "anonymous maps",
    # all other anonymous memory: large blocks of malloc, arenas of Python's allocator, generated code
    "shared memory",
    "kernel",
]
KINDS: tuple[str, ...] = get_args(Kind)

ARENA = 64 << 20
# glibc's HEAP_MAX_SIZE on 64-bit systems, twice the largest DEFAULT_MMAP_THRESHOLD_MAX (malloc/arena.c):
# a heap of an arena is aligned to its size
LARGEST_GUARD = 1 << 20
# a forbidden mapping below a stack that is larger is not its guard


@dataclass(frozen=True, slots=True)
class Area:
    """One mapping, as smaps describes it."""

    start: int
    end: int
    permissions: str
    # rwxp; s for shared
    offset: int
    device: str
    # major:minor, hexadecimal
    inode: int
    # 0 for memory without a file
    path: str
    # of the file or in brackets; escapes undone, without the mark of deleted files
    deleted: bool
    rss_bytes: int
    anonymous_bytes: int
    # the part of the resident pages that no file backs
    swap_bytes: int = 0
    flags: frozenset[str] = frozenset()
    # VmFlags, two letters each; empty where the kernel does not tell
    zeroed: bool | None = None
    # whether it is the zero-initialised data of the library before it; None: not looked up, told from the neighbour

    @property
    def size_bytes(self) -> int:
        """Address space it takes."""
        return self.end - self.start

    @property
    def file(self) -> tuple[str, int] | None:
        """What identifies the file behind it, None without one."""
        return (self.device, self.inode) if self.inode else None

    @property
    def plain(self) -> bool:
        """Whether it is private memory without file and without a name of the kernel's."""
        return not self.inode and "s" not in self.permissions and (not self.path or self.path.startswith("[anon:"))

    def at(self, address: int) -> bool:
        """Whether an address is inside."""
        return self.start <= address < self.end


@dataclass(frozen=True, slots=True)
class Threads:
    """What is known of the stacks of a process's threads."""

    pointers: tuple[int, ...] = ()
    # stack pointers of the threads that were found waiting, without the first thread's
    stack_bytes: int = 8 << 20
    # what a thread gets that asks for nothing: the soft limit of the stack


_HEADER = re.compile(r"([0-9a-f]+)-([0-9a-f]+) ([rwxsp-]{4}) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+)(?: +(.*))?")
_FIELD = re.compile(r"(\w+): +(\d+) kB")
_DELETED = " (deleted)"


def parse(text: str) -> tuple[Area, ...]:
    r"""The mappings of a smaps text, in the order of their addresses.

    Paths are as the process sees them: `\012` is a line break again, the only character that the kernel escapes here.

    Raises:
        FormatError: a line that is neither a mapping nor a field of one, or a mapping without a resident size.
    """
    areas: list[Area] = []
    header: re.Match[str] | None = None
    fields: dict[str, int] = {}
    flags: frozenset[str] = frozenset()

    def close() -> None:
        if header is not None:
            areas.append(_area(header, fields, flags))

    for number, line in enumerate(text.split("\n"), 1):
        if found := _FIELD.fullmatch(line):
            fields[found[1]] = int(found[2]) << 10
        elif found := _HEADER.fullmatch(line):
            close()
            header, fields, flags = found, {}, frozenset()
        elif line.startswith("VmFlags:"):
            flags = frozenset(line[8:].split())
        elif line and not re.match(r"\w+:", line):
            raise FormatError(f"line {number} of smaps is not a mapping", where=repr(line[:80]))
    close()
    return tuple(areas)


def _area(header: re.Match[str], fields: dict[str, int], flags: frozenset[str]) -> Area:
    if "Rss" not in fields:
        raise FormatError("a mapping of smaps has no resident size", where=header[0][:80])
    path = (header[7] or "").replace("\\012", "\n")
    inode = int(header[6])
    deleted = inode != 0 and path.endswith(_DELETED)
    return Area(
        int(header[1], 16), int(header[2], 16), header[3], int(header[4], 16), header[5], inode,
        path.removesuffix(_DELETED) if deleted else path, deleted,
        fields["Rss"], min(fields.get("Anonymous", 0), fields["Rss"]), fields.get("Swap", 0), flags,
    )  # fmt: skip


def split(area: Area, at: int, below: tuple[int, int]) -> tuple[Area, Area]:
    """An anonymous area as the two that the kernel had merged.

    Arguments:
        at: the address where the upper one begins.
        below: resident and swapped bytes of the lower one.
    """
    assert area.start < at < area.end
    rss = max(min(below[0], area.rss_bytes, at - area.start), area.rss_bytes - (area.end - at))
    swap = max(min(below[1], area.swap_bytes, at - area.start), area.swap_bytes - (area.end - at), 0)
    # whatever was counted, no part holds more than it has room for
    anonymous = min(area.anonymous_bytes, rss)
    lower = replace(area, end=at, rss_bytes=rss, anonymous_bytes=anonymous, swap_bytes=swap)
    upper = replace(
        area, start=at, rss_bytes=area.rss_bytes - rss, anonymous_bytes=area.anonymous_bytes - anonymous,
        swap_bytes=area.swap_bytes - swap,
    )  # fmt: skip
    return lower, upper


def buckets(
    areas: Sequence[Area], *, model_files: Iterable[str | os.PathLike[str]] = (), threads: Threads | None = None
) -> dict[str, Bucket]:
    """The areas summed by what they are for; kinds that do not occur are left out.

    The pages of a library are in two buckets: `library text` as they are in the file (with the size of the mapping),
    `library data` where they were written to (with size 0, for the address space is counted once).

    Arguments:
        model_files: the files of the model, or folders of such files; symbolic links are followed.
    """
    sums: dict[str, list[int]] = {}

    def add(kind: str, mappings: int, size: int, rss: int, anonymous: int, swap: int) -> None:
        into = sums.setdefault(kind, [0, 0, 0, 0, 0])
        for position, value in enumerate((mappings, size, rss, anonymous, swap)):
            into[position] += value

    for area, kind in zip(areas, kinds(areas, model_files=model_files, threads=threads), strict=True):
        if kind == "library text":
            written, swap = area.anonymous_bytes, area.swap_bytes
            add(kind, 1, area.size_bytes, area.rss_bytes - written, 0, 0)
            if written or swap:
                add("library data", 0, 0, written, written, swap)
        else:
            add(kind, 1, area.size_bytes, area.rss_bytes, area.anonymous_bytes, area.swap_bytes)
    return {kind: Bucket(*sums[kind]) for kind in KINDS if kind in sums}


def kinds(
    areas: Sequence[Area], *, model_files: Iterable[str | os.PathLike[str]] = (), threads: Threads | None = None
) -> tuple[Kind, ...]:
    """What each area is for; the written pages of a library's file are `library text` here."""
    model = _ModelFiles(model_files)
    code = {area.file for area in areas if area.inode and "x" in area.permissions}
    stacks = _stacks(areas, threads or Threads())
    arenas = _arenas(areas)
    found: list[Kind] = []
    for position, area in enumerate(areas):
        kind: Kind
        if model.holds(area):
            kind = "mapped model"
        elif _shared_memory(area):
            kind = "shared memory"
        elif area.path in _ANONYMOUS_FILES:
            kind = "anonymous maps"
        elif area.inode:
            library = area.file in code or _LIBRARY.search(area.path) is not None
            kind = "library text" if library else "mapped files"
        elif area.path == "[heap]":
            kind = "heap"
        elif area.path == "[stack]":
            kind = "main stack"
        elif position in stacks or area.path.startswith(_STACK_NAMES):
            kind = "thread stacks"
        elif position in arenas or area.path.startswith("[anon: glibc: malloc arena"):
            kind = "allocator arenas"
        elif area.plain:
            before = areas[position - 1] if position else area
            bss = _written(before) and _written(area) and before.end == area.start and found[-1] == "library text"
            if area.zeroed is not None:
                bss = area.zeroed
            kind = "library data" if bss else "anonymous maps"
        elif area.path.startswith("["):
            kind = "kernel"
        else:
            kind = "mapped files"
            # of a driver or another part of the kernel that gives its files no number
        found.append(kind)
    return tuple(found)


_LIBRARY = re.compile(r"\.so(\.[\w.]+)?$")
_STACK_NAMES = ("[stack:", "[anon: glibc: pthread", "[anon:stack_and_tls")
# of kernels before 4.5; of glibc since 2.40 when glibc.mem.decorate_maps is set; of Android's bionic
_ANONYMOUS_FILES = ("/anon_hugepage",)
# MAP_HUGETLB without a file; its pages are not part of the resident set (Private_Hugetlb)


def _written(area: Area) -> bool:
    return area.permissions.startswith("rw")


def _shared_memory(area: Area) -> bool:
    """POSIX, System V and anonymous shared memory: files of the kernel's hidden tmpfs, or of /dev/shm."""
    if area.path.startswith(("/memfd:", "/dev/shm/", "/SYSV", "[anon_shmem:")):
        return True
    return "s" in area.permissions and ((area.path == "/dev/zero" and area.deleted) or not (area.inode or area.path))


class _ModelFiles:
    """The model's files, known by path and by device and number."""

    def __init__(self, files: Iterable[str | os.PathLike[str]]) -> None:
        self.paths: set[str] = set()
        self.folders: list[str] = []
        self.identities: set[tuple[str, int]] = set()
        for file in files:
            path = Path(file).resolve()
            if path.is_dir():
                self.folders.append(f"{path}/")
                continue
            self.paths.add(str(path))
            try:
                stat = path.stat()
            except OSError:
                continue
            self.identities.add((f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}", stat.st_ino))

    def holds(self, area: Area) -> bool:
        """Whether an area maps one of them. A file that is gone and has a namesake is not taken for it."""
        if not area.inode:
            return False
        if area.file in self.identities:
            return True
        return not area.deleted and (area.path in self.paths or area.path.startswith(tuple(self.folders)))


def _stacks(areas: Sequence[Area], threads: Threads) -> set[int]:
    """Positions of thread stacks and their guards.

    A stack is where a thread's stack pointer is. Of threads that run, and of threads that ended whose stacks glibc
    keeps, no pointer is known: then it is memory above a guard, of the size that a thread gets by default or that
    another thread was seen to have.
    """
    found = {
        position
        for position, area in enumerate(areas)
        if area.plain and _written(area) and any(area.at(pointer) for pointer in threads.pointers)
    }
    sizes = {threads.stack_bytes} | {areas[position].size_bytes for position in found}
    for position in range(1, len(areas)):
        if (
            _guards(areas, position)
            and areas[position].plain
            and _written(areas[position])
            and areas[position].size_bytes in sizes
        ):
            found.add(position)
    return found | {position - 1 for position in found if _guards(areas, position)}


def _guards(areas: Sequence[Area], position: int) -> bool:
    """Whether the area before is a guard of the one at `position`."""
    if position == 0:
        return False
    return is_guard(areas[position - 1], areas[position])


def is_guard(before: Area, area: Area) -> bool:
    """Whether `before` is forbidden memory that ends where `area` begins, and small."""
    return (
        before.plain
        and before.permissions == "---p"
        and before.size_bytes <= LARGEST_GUARD
        and before.end == area.start
    )


def _arenas(areas: Sequence[Area]) -> set[int]:
    """Positions of glibc's arenas: from a multiple of 64 MiB on what is used, up to the next a forbidden rest."""
    found: set[int] = set()
    for position, area in enumerate(areas):
        if area.start % ARENA or not area.plain or area.permissions != "rw-p":
            continue
        run = [position]
        while (after := run[-1] + 1) < len(areas) and areas[after].start == areas[run[-1]].end:
            following = areas[after]
            if not following.plain or following.permissions not in ("rw-p", "---p"):
                break
            run.append(after)
            if following.permissions == "---p":
                break
        last = areas[run[-1]]
        if last.permissions == "---p":
            written = areas[run[-2]].end
            if last.end == -(-written // ARENA) * ARENA:
                found.update(run)
        elif area.end % ARENA == 0 and "nr" in area.flags:
            found.add(position)
            # full to the end: told from other memory by MAP_NORESERVE, with which glibc asks for arenas
    return found
