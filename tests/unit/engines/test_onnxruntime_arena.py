"""The arena against the engine's own log, and by hand.

Extents: onnxruntime 1.31.1, `peakmem measure NAME.onnx --engine onnxruntime --set log=on --set …`, facts
"arena extents, run N" (lines "Extended allocation by" of bfc_arena.cc). Requests of a run of SqueezeNet 1.1: the
counter's event list with `arena=off mem_pattern=off`, blocks of at least 1,000 bytes.
"""

from __future__ import annotations

import pytest

from peakmem.engines.onnxruntime.arena import Arena, bin_of, rounded
from peakmem.errors import UsageError

SQUEEZENET = (
    "+3154176 0 +774400 1 -0 +193600 2 +774400 3 +1548800 4 -2 -3 -1 +373248 5 -4 +93312 6 +373248 7 +746496 8 -6 -7 "
    "-5 +173056 9 -8 +32448 10 +129792 11 +129792 12 +259584 13 -10 -12 -11 +43264 14 -13 +173056 15 +346112 16 -14 "
    "-15 -9 +681408 17 -16 +676032 18 -17 +4032 19 -18 +4032 20 -19 -20"
)
PATTERN = 3_928_576
# bytes of the block of later runs, from the extents of same_as_requested
LOGGED: tuple[tuple[dict[str, int | str], list[int], list[int]], ...] = (
    ({}, [4194304, 4194304], []),
    ({"strategy": "same_as_requested"}, [3154176, 774400], [3928576]),
    ({"initial_chunk": 300_000}, [4800512, 4800512], []),
    ({"initial_chunk": 100_000}, [3203072, 3203072], [6406144]),
    ({"initial_chunk": 100_000, "max_extend": 2_097_152}, [3203072, 3203072], [4194304]),
)


def replay(arena: Arena, text: str) -> None:
    handles: dict[str, int] = {}
    words = iter(text.split())
    for word in words:
        if word.startswith("+"):
            handles[next(words)] = arena.request(int(word[1:]))
        else:
            arena.free(handles.pop(word[1:]))
    assert not handles


@pytest.mark.parametrize(("habits", "first", "second"), LOGGED)
def test_extents_are_those_of_the_engines_log(
    habits: dict[str, int | str], first: list[int], second: list[int]
) -> None:
    arena = Arena(**habits)  # type: ignore[arg-type]
    replay(arena, SQUEEZENET)
    assert arena.grown == first
    for _ in range(2):
        block, result = arena.request(PATTERN), arena.request(4032)
        arena.free(block)
        arena.free(result)
    assert arena.grown == first + second
    assert arena.used_bytes == 0


def test_a_request_takes_the_smallest_chunk_that_fits() -> None:
    arena = Arena("same_as_requested")
    held = [arena.request(size) for size in (2048, 256, 1024, 256, 512)]
    assert arena.grown == [2048, 256, 1024, 256, 512]
    for handle in (held[0], held[2], held[4]):
        arena.free(handle)
    assert arena.request(600) == held[2]
    # 768 rounded; 1024 is not twice that, so it is given whole
    assert arena.request(600) == held[0]
    # 2048 is: split, 1280 remain
    assert arena.request(1280) == held[0] + 768
    assert sum(arena.grown) == 4096


def test_neighbours_that_are_free_become_one() -> None:
    arena = Arena()
    one, two, three = (arena.request(256 << 10) for _ in range(3))
    assert arena.grown == [1 << 20]
    arena.free(one)
    arena.free(three)
    arena.free(two)
    assert arena.request(1 << 20) == one
    assert arena.grown == [1 << 20]


def test_an_extent_that_fits_at_once_doubles_the_next() -> None:
    arena = Arena()
    for _ in range(7):
        arena.request(1 << 20)
    # by hand: 1 MiB, then 2 MiB split in two, then 4 MiB
    assert arena.grown == [1 << 20, 2 << 20, 4 << 20]
    assert arena.handle_bytes == (7 << 20) // 32


def test_shrinking_keeps_the_first_extent_and_those_in_use() -> None:
    arena = Arena()
    first, second, third = arena.request(1 << 20), arena.request(2 << 20), arena.request(4 << 20)
    assert arena.grown == [1 << 20, 2 << 20, 4 << 20]
    arena.free(first)
    arena.free(third)
    assert arena.shrink() == 4 << 20
    assert arena.extended_bytes == 3 << 20
    arena.free(second)
    assert arena.shrink() == 2 << 20
    arena.request(3 << 20)
    # grows from 2 MiB again, doubled until it fits
    assert arena.grown[-1] == 4 << 20
    same = Arena("same_as_requested")
    same.free(same.request(1000))
    assert same.shrink() == 1024
    assert same.extended_bytes == 0


def test_reserved_bytes_stand_beside_the_bins() -> None:
    arena = Arena()
    handle = arena.reserve(5_160_960)
    assert sum(arena.reserved.values()) == 5_160_960
    assert arena.extended_bytes == 0
    arena.free(handle)
    assert not arena.reserved
    assert arena.request(0) == 0
    arena.free(0)


def test_bins_hold_chunks_up_to_twice_their_size() -> None:
    # BinNumToSize: 256 << number, 21 of them
    assert [bin_of(size) for size in (1, 256, 511, 512, 1023, 1024, 256 << 20, 1 << 40)] == [0, 0, 0, 1, 1, 2, 20, 20]
    assert [rounded(size) for size in (1, 256, 257)] == [256, 256, 512]


def test_what_no_arena_is() -> None:
    with pytest.raises(UsageError, match="doubling"):
        Arena("doubling")
    with pytest.raises(UsageError, match="negative"):
        Arena(initial_chunk=-1)
    with pytest.raises(UsageError, match="makes the engine fail"):
        # 1.31.1 throws after taking the extent, and takes another one in every run
        Arena(max_extend=1_500_000)
