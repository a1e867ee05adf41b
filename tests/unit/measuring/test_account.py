"""Where anonymous memory is: marks made by hand, the parts by hand arithmetic."""

from __future__ import annotations

from peakmem.measuring.account import account
from peakmem.measuring.record import Bucket, Counted, Fullest, Heap, Mark, Outcome, Run

K = 1000


def mark(
    phase, *, anon, high=0, arena, mapped, free, maps_size, maps_rss, arena_rss=None, files=0, model=0, counted=None
):
    resident = anon + files + model
    buckets = {
        "library data": Bucket(1, 50 * K, 40 * K, 40 * K),
        "heap": Bucket(1, arena, arena if arena_rss is None else arena_rss, arena if arena_rss is None else arena_rss),
        "anonymous maps": Bucket(3, maps_size, maps_rss, maps_rss),
        "main stack": Bucket(1, 100 * K, 10 * K, 10 * K),
        "library text": Bucket(9, 999 * K, files, 0),
        "mapped model": Bucket(1, model, model, 0),
    }
    vm = {"RssAnon": anon, "RssFile": files + model, "VmRSS": resident, "VmHWM": high or resident, "VmPeak": 9999 * K}
    return Mark(phase, 0.1, vm, buckets, Heap(arena - free + mapped, mapped, free, arena), counted)


BASE = {"arena": 500 * K, "mapped": 100 * K, "free": 20 * K, "maps_size": 700 * K, "maps_rss": 400 * K}
# 500 + 40 + 400 + 10 = 950 kB of anonymous memory before the model


def run(*marks):
    return Run(False, Outcome("ok"), tuple(marks), {})


def test_a_peak_at_the_end_of_a_phase():
    """Arena 500 → 2500 (of it 300 free, 50 never touched), own mappings 100 → 1100 (200 never touched), 64 mapped
    beside glibc's; in use 580 → 3300."""
    top = mark(
        "run 1", anon=2450 * K + 40 * K + 1264 * K + 10 * K, arena=2500 * K, arena_rss=2450 * K, mapped=1100 * K,
        free=300 * K,
        maps_size=(700 + 1000 + 64) * K, maps_rss=(400 + 800 + 64) * K, files=5000 * K, model=700 * K,
    )  # fmt: skip
    found = account(run(mark("import", anon=950 * K, **BASE), top))
    assert found is not None
    assert (found.phase, found.transient) == ("run 1", False)
    assert found.model_bytes == (3300 - 580) * K
    assert {part.name: part.nbytes for part in found.parts} == {
        "data of libraries": 40 * K,
        "stacks": 10 * K,
        "heap before the model": 580 * K,
        "mappings before the model: Python's own arenas, generated code": 300 * K,
        "given back to glibc and kept by it": 300 * K,
        "arenas' pages that are not resident": -50 * K,
        "large blocks' pages that were never touched": -200 * K,
        "mappings that are not glibc's": 64 * K,
    }
    assert found.remainder_bytes == 0
    assert (found.file_bytes, found.mapped_model_bytes) == (5700 * K, 700 * K)
    assert found.resident_bytes == found.anonymous_bytes + 5700 * K


def test_a_peak_that_had_passed_when_the_phase_ended():
    """7,000 kB within loading. Room 600 → 7,400 kB: 6,000 of the model's blocks and 600 free; resident 950 → 7,450.

    The room grew by 6,800 and the resident set by 6,500: 300 were not written to. 6000 + 600 - 300 + libraries 40 +
    stack 10 + heap before 580 + mappings before 300 = 7,230: 230 too many.
    """
    base = mark("import", anon=950 * K, **BASE)
    load = mark("load", anon=1950 * K, high=7000 * K, **{**BASE, "arena": 1500 * K})
    begin = Counted(0, 0, 570 * K, 0, 0, 0, 0, 0, fullest=Fullest(990 * K, 1, 650 * K, 9, 9, 950 * K, 1, 600 * K))
    full = Fullest(7450 * K, 5 * K, 7400 * K, 600 * K, 6570 * K, 1, 5 * K, 1)
    counts = run(
        mark("import", anon=0, **BASE, counted=begin),
        mark("load", anon=0, **BASE, counted=Counted(0, 0, 0, 0, 0, 0, 0, 0, fullest=full)),
    )
    found = account(run(base, load), counts)
    assert found is not None
    assert (found.phase, found.transient, found.anonymous_bytes) == ("load", True, 7000 * K)
    assert found.model_bytes == 6000 * K
    parts = {part.name: part.nbytes for part in found.parts}
    assert parts["free in glibc's arena at that moment"] == 600 * K
    assert parts["asked for and not resident at that moment"] == -300 * K
    assert found.remainder_bytes == -230 * K


def test_pages_of_files_that_had_been_resident_are_not_anonymous():
    """7,000 kB within loading, 950 kB at its end: the counter saw 6,050 kB of a file that is no longer mapped."""
    base, load = mark("import", anon=950 * K, **BASE), mark("load", anon=950 * K, high=7000 * K, **BASE)
    begin = Counted(0, 0, 570 * K, 0, 0, 0, 0, 0, fullest=Fullest(950 * K, 1, 600 * K, 9, 9, 950 * K, 1, 600 * K))
    full = Fullest(950 * K, 6055 * K, 600 * K, 20 * K, 570 * K, 950 * K, 5 * K, 600 * K)
    counts = run(
        mark("import", anon=0, **BASE, counted=begin),
        mark("load", anon=0, **BASE, counted=Counted(0, 0, 0, 0, 0, 0, 0, 0, fullest=full)),
    )
    found = account(run(base, load), counts)
    assert found is not None
    assert (found.transient, found.anonymous_bytes, found.file_bytes) == (False, 950 * K, 6050 * K)


def test_without_a_counter_a_passed_peak_has_no_account():
    base, load = mark("import", anon=950 * K, **BASE), mark("load", anon=950 * K, high=8000 * K, **BASE)
    assert account(run(base, load)) is None


def test_a_system_that_does_not_tell():
    base = mark("import", anon=950 * K, **BASE)
    silent = Mark("load", 0.1, {"VmRSS": 5}, {}, None)
    assert account(run(base, silent)) is None
    assert account(run(base)) is None
    assert account(run(silent)) is None
