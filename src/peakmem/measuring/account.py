"""Where the anonymous memory of a measured process is, at its highest: each part read from its own source.

Three sources are put side by side: the kernel's account of each mapping (smaps), glibc's account of its blocks
(mallinfo2) and, for a peak that had passed when the phase ended, the allocation counter. Nothing is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.measuring.record import Bucket, Mark, Run
from peakmem.measuring.summary import LAG_BYTES

ARENAS = ("heap", "allocator arenas")
STACKS = ("main stack", "thread stacks")
_NONE = Bucket(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of the resident set that a source tells of."""

    name: str
    nbytes: int
    # below zero: pages that another part counts and that are not resident
    source: str


@dataclass(frozen=True, slots=True)
class Account:
    """The resident set at its highest."""

    phase: str
    transient: bool
    # whether it was higher within the phase than at its end
    anonymous_bytes: int
    # resident and backed by no file
    model_bytes: int
    # of it, blocks asked for since the engine was loaded, as the allocator rounded them
    parts: tuple[Part, ...]
    # all else that a source tells of
    file_bytes: int
    # resident pages of files, beside it
    mapped_model_bytes: int
    # of them, of the model's own files at the phase's end
    passing_file_bytes: int
    # of them, no longer there when the phase ended, as a model file that is unmapped once it has been read
    resident_bytes: int
    virtual_bytes: int
    # the most address space until then

    @property
    def remainder_bytes(self) -> int:
        """Anonymous memory that no source accounts for; below zero where they say more than is there."""
        return self.anonymous_bytes - self.model_bytes - sum(part.nbytes for part in self.parts)


def account(plain: Run, counted: Run | None = None) -> Account | None:
    """The account of a plain run; None where the kernel or the C library did not tell what it needs.

    Args:
        plain: a run without the counter, whose resident set is the process's own.
        counted: one with the counter, for a peak that had passed when its phase ended.
    """
    marks = {mark.phase: mark for mark in plain.marks}
    base = marks.get("import")
    work = [mark for mark in plain.marks if mark.phase not in ("interpreter", "import", "release")]
    if base is None or base.heap is None or not work or any("RssAnon" not in mark.vm for mark in work):
        return None
    top = max(work, key=_resident)
    passed = _counted_peak(counted, top.phase)
    files = top.vm["RssFile"] + top.vm.get("RssShmem", 0) + (max(passed.file_bytes, 0) if passed is not None else 0)
    highest = _resident(top) - files
    if highest > top.vm["RssAnon"] + LAG_BYTES:
        if passed is None:
            return None
        return _made(top, highest, passed.model_bytes, [*_standing(base, top), *passed.parts], transient=True)
    if top.heap is None:
        return None
    parts = [*_standing(base, top), *_moved(base, top)]
    return _made(top, top.vm["RssAnon"], top.heap.in_use_bytes - base.heap.in_use_bytes, parts, transient=False)


def _made(top: Mark, anonymous: int, model: int, parts: list[Part], *, transient: bool) -> Account:
    told = tuple(part for part in parts if part.nbytes)
    mapped = top.buckets.get("mapped model", _NONE)
    files = _resident(top) - anonymous
    return Account(
        top.phase, transient, anonymous, model, told, files, mapped.rss_bytes - mapped.anonymous_bytes,
        max(files - top.vm["RssFile"], 0), _resident(top), top.vm.get("VmPeak", 0),
    )  # fmt: skip


def _resident(mark: Mark) -> int:
    return max(mark.vm.get("VmHWM", 0), mark.vm.get("VmRSS", 0))


@dataclass(frozen=True, slots=True)
class _Passed:
    """The moment of a phase when most was resident, by the counter."""

    model_bytes: int
    # blocks asked for since the engine was loaded
    parts: tuple[Part, ...]
    # what was free then, and what was not written to yet
    file_bytes: int
    # more pages of files than at the phase's end


def _counted_peak(counted: Run | None, phase: str) -> _Passed | None:
    marks = {mark.phase: mark.counted for mark in counted.marks} if counted is not None else {}
    base, top = marks.get("import"), marks.get(phase)
    if base is None or top is None or base.fullest is None or top.fullest is None:
        return None
    room = top.fullest.room_bytes - base.fullest.end_room_bytes
    resident = top.fullest.anonymous_bytes - base.fullest.end_anonymous_bytes
    parts = (
        Part("free in glibc's arena at that moment", top.fullest.free_bytes, "counter"),
        Part("asked for and not resident at that moment", min(resident - room, 0), "statm less the counter's room"),
        Part("mappings that are not glibc's", max(resident - room, 0), "statm less the counter's room"),
    )
    over = top.fullest.file_bytes - top.fullest.end_file_bytes
    return _Passed(top.fullest.block_bytes - base.usable_live_bytes, parts, over)


def _standing(base: Mark, top: Mark) -> list[Part]:
    """What was there before the model, and what is no heap at all."""
    assert base.heap is not None
    maps = base.buckets.get("anonymous maps", _NONE)
    stacks = sum(top.buckets.get(name, _NONE).rss_bytes for name in STACKS)
    files = sum(
        bucket.anonymous_bytes
        for name, bucket in top.buckets.items()
        if name not in (*ARENAS, *STACKS, "anonymous maps", "library data")
    )
    return [
        Part("data of libraries", top.buckets.get("library data", _NONE).anonymous_bytes, "smaps"),
        Part("stacks", stacks, "smaps"),
        Part("heap before the model", base.heap.in_use_bytes, "mallinfo2 at import"),
        Part(
            "mappings before the model: Python's own arenas, generated code",
            maps.rss_bytes - base.heap.mapped_bytes, "smaps less mallinfo2 at import",
        ),
        Part("changed pages of mapped files", files, "smaps"),
    ]  # fmt: skip


def _moved(base: Mark, top: Mark) -> list[Part]:
    """What came since: blocks given back and kept, pages asked for and never touched, mappings beside glibc's."""
    assert base.heap is not None
    assert top.heap is not None
    before, maps = base.buckets.get("anonymous maps", _NONE), top.buckets.get("anonymous maps", _NONE)
    grown = maps.size_bytes - before.size_bytes
    touched = maps.rss_bytes - before.rss_bytes
    of_glibc = top.heap.mapped_bytes - base.heap.mapped_bytes
    arenas = sum(top.buckets.get(name, _NONE).rss_bytes for name in ARENAS)
    return [
        Part("given back to glibc and kept by it", top.heap.held_free_bytes, "mallinfo2"),
        Part("arenas' pages that are not resident", arenas - top.heap.arena_bytes, "smaps less mallinfo2"),
        Part("large blocks' pages that were never touched", touched - grown, "smaps"),
        Part("mappings that are not glibc's", grown - of_glibc, "smaps less mallinfo2"),
    ]
