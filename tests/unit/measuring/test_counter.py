"""The allocation counter against programs whose allocations are known; expected numbers are worked by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from peakmem.measuring.counter.build import find_compiler, find_counter

PROGRAMS = Path(__file__).parent / "programs"

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the counter is written for Linux"),
    pytest.mark.skipif(not find_compiler(), reason="no C compiler for the programs"),
]

Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def library() -> Path:
    found = find_counter()
    if found.path is None:
        pytest.skip(found.reason)
    return found.path


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    plain = ["-O1", "-fno-builtin", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [*find_compiler(), *plain, "-pthread", "-o", folder / "known", PROGRAMS / "known.c", "-ldl"], check=True
    )
    if cxx := shutil.which("c++"):
        source = PROGRAMS / "operators.cc"
        subprocess.run([cxx, *plain, "-std=c++17", "-o", folder / "operators", source, "-ldl"], check=True)
        shared = ["-shared", "-fPIC", "-o", folder / "operators.so"]
        subprocess.run([cxx, *plain, "-std=c++17", *shared, source, "-ldl"], check=True)
    return folder


@pytest.fixture
def counted(library: Path, programs: Path) -> Start:
    def start(*words: str | Path, **environment: str | Path) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LD_", "PEAKMEM_"))}
        wanted = {"LD_PRELOAD": str(library), **{name: str(value) for name, value in environment.items()}}
        done = subprocess.run(
            [programs / words[0] if isinstance(words[0], str) else words[0], *words[1:]],
            capture_output=True, text=True, timeout=300, env=kept | wanted, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done

    return start


def row(**fields: int) -> dict[str, int]:
    return fields


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, int]]:
    """`name live 1 blocks 2` as {name: {live: 1, blocks: 2}}."""
    found = {}
    for line in done.stdout.splitlines():
        name, *rest = line.split()
        if len(rest) % 2:
            continue
        found[name] = {key: int(value) for key, value in zip(rest[::2], rest[1::2], strict=True)}
    return found


def test_every_member_of_the_family_counts_what_was_asked(counted):
    """1000 + 10*33 + 77 + 128 + 5 + 3 + 1 + 7*11 + 0 + len("four") + 1 = 1626, in ten blocks."""
    case = rows(counted("known", "family"))
    assert case["all"] == row(live=1626, peak=1626, blocks=10, calls=10, mapped=0, mapped_peak=0)
    assert case["freed"] == row(live=0, peak=1626, blocks=0, calls=10, mapped=0, mapped_peak=0)


def test_realloc_in_a_chain_refused_and_to_nothing(counted):
    """The old block is exchanged at once, so the peak is 2^20 and not 2^20 + 1000; a refusal changes nothing."""
    case = rows(counted("known", "chain"))
    assert case["shrunk"] == case["refused"] == row(live=50, peak=1 << 20, blocks=1, calls=4, mapped=0, mapped_peak=0)
    assert case["zero"] == row(live=0, peak=1 << 20, blocks=0, calls=4, mapped=0, mapped_peak=0)
    assert case["churn"]["calls"] == 100_004
    assert case["churn"]["live"] == 0


def test_mappings_are_an_account_of_their_own(counted):
    """Ten pages; a hole of two; one byte is a page; five grown to twenty beside two; replaced in place; all gone."""
    case = rows(counted("known", "mappings"))
    pages = {name: each["mapped"] // 4096 for name, each in case.items()}
    assert pages == {"ten": 10, "hole": 8, "two": 7, "grown": 22, "replaced": 2, "gone": 0}
    assert case["gone"]["mapped_peak"] == 22 * 4096
    assert {each["live"] for each in case.values()} == {0}


def test_three_million_live_blocks(counted):
    """Sizes 16 + i % 7. All: 3e6 * 16 + 428571 * 21 + (0 + 1 + 2). Odd i: 1.5e6 * 16 + 214285 * 21 + (1+3+5+0+2)."""
    case = rows(counted("known", "growth", "3000000"))
    assert case["full"]["live"] == 48_000_000 + 428_571 * 21 + 3
    assert case["full"]["blocks"] == 3_000_000
    assert case["half"]["live"] == 24_000_000 + 214_285 * 21 + 11
    assert case["empty"] == row(live=0, peak=56_999_994, blocks=0, calls=3_000_000, mapped=0, mapped_peak=0)


def test_eight_threads_leave_nothing(counted):
    joined = rows(counted("known", "threads"))["joined"]
    assert (joined["live"], joined["blocks"]) == (0, 0)
    assert joined["calls"] > 800_000
    # 8 threads * 200,000 turns, two thirds of which allocate


@pytest.mark.parametrize("how", ["fork", "clone without handlers", "posix_spawn"])
def test_children_of_a_busy_process_never_hang_nor_log(counted, tmp_path, how):
    number = ["fork", "clone without handlers", "posix_spawn"].index(how)
    log = tmp_path / "log"
    done = counted("known", "forks", str(number), PEAKMEM_COUNTER_LOG=log)
    assert done.stdout == "children 40\n"
    from peakmem.measuring.counter.log import read_log

    read = read_log(log, {77: "phase:child"}, "")
    assert read.phases == ()
    assert read.complete


def test_a_signal_handler_that_allocates_does_not_wait_for_itself(counted):
    assert counted("known", "signals").stdout == "handled\n"


def test_usable_bytes_are_what_glibc_handed_out(counted):
    """mallinfo2 counts chunks: 8 bytes of header each, 16 where a block has a mapping of its own. Not one byte else."""
    tunables = "glibc.malloc.tcache_count=0"
    # blocks in a thread's cache would count as in use
    chunks, usable, blocks, mmapped = map(int, counted("known", "glibc", GLIBC_TUNABLES=tunables).stdout.split())
    assert blocks == 20_000
    assert mmapped == 40
    # i % 500 == 0: 200,000 bytes and more, above the threshold of 131,072; as none is freed it does not move
    assert chunks - usable == 8 * blocks + 8 * mmapped


EXCEPTIONS = "exceptions 6"
# the constructor's, bad_alloc of new, of aligned new and after three calls of the handler; two quiet zero pointers


@pytest.mark.parametrize("way", ["program", "library"])
def test_new_and_delete(counted, programs, way):
    """4 + 1001 + 77 + 256 + 512 + 256 + 1 = 2107 in 7 blocks: new of nothing asks malloc for one byte, as libstdc++."""
    if not (programs / "operators").exists():
        pytest.skip("no C++ compiler")
    if way == "program":
        done = counted("operators")
    else:
        code = f"import ctypes; ctypes.CDLL({str(programs / 'operators.so')!r}).all_operators()"
        done = counted(Path(sys.executable), "-I", "-S", "-c", code)
    assert done.stdout.splitlines()[-1] == EXCEPTIONS
    case = rows(done)
    assert case["all"] == row(live=2107, blocks=7)
    assert case["freed"] == row(live=0, blocks=0)
    inside = {key: case["inside"][key] - case["outside"][key] for key in ("live", "blocks")}
    assert inside == row(live=12345 * 8 + 1000, blocks=2)
    assert case["outside"] == case["caught"]


def test_a_program_that_fills_its_memory_and_handles_it(counted, programs):
    """The counter's own table cannot grow there either; what is lost is healed or never booked, and nobody dies."""
    if not (programs / "operators").exists():
        pytest.skip("no C++ compiler")
    done = counted("operators", "until full")
    assert done.stdout == "emptied live 0 blocks 0\nmade 1\n"


def test_a_python_program(counted):
    """PYTHONMALLOC=malloc: bytes(1000) is one block of 1033, 33 being the object's head and the zero at its end."""
    code = """
import ctypes, sys
n = [(ctypes.c_longlong * 8)() for _ in range(2)]
read = ctypes.CDLL(None).peakmem_counter_read
kept = [None] * 1000
read(n[0])
for i in range(1000):
    kept[i] = bytes(1000)
read(n[1])
print(n[1][0] - n[0][0], n[1][4] - n[0][4])
"""
    done = counted(Path(sys.executable), "-I", "-S", "-c", code, PYTHONMALLOC="malloc")
    live, blocks = map(int, done.stdout.split())
    assert live == pytest.approx(1000 * 1033, abs=32 * 1024)
    # numbers above 256 live in blocks of their own, and the interpreter may drop something
    assert blocks == pytest.approx(1000, abs=20)


def test_the_fullest_moment(counted):
    """Half of 400 blocks of 40,000 B are given back: glibc says itself what is free in its arena.

    Blocks of 40,000 B are below glibc's threshold of 128 KiB for a mapping of their own, and too large for its caches
    of blocks per thread. Of 8,000,000 B asked for at once, 5,000,000 are written to; then they are given back.
    """
    code = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena a b c mapped d e in_use free f".split()]
libc.mallinfo2.restype = Info
seen = (ctypes.c_longlong * 8)()
blocks = [libc.malloc(40000) for _ in range(400)]
for block in blocks:
    ctypes.memset(block, 1, 40000)
for block in blocks[::2]:
    libc.free(block)
libc.peakmem_counter_reset()
libc.peakmem_counter_fullest(seen)
info = libc.mallinfo2()
print(*seen, info.arena, info.mapped, info.free, info.in_use)
large = libc.malloc(8000000)
ctypes.memset(large, 1, 5000000)
libc.free(large)
libc.peakmem_counter_fullest(seen)
print(*seen)
"""
    done = counted(Path(sys.executable), "-I", "-S", "-c", code)
    first, second = ([int(text) for text in line.split()] for line in done.stdout.splitlines())
    resident, _, room, free, blocks, *_, arena, mapped, kept, in_use = first
    assert kept >= 200 * 40_000
    assert free == pytest.approx(kept, abs=300_000)
    # what glibc's caches per thread hold is in use for it; and a header of 8 B a block stands in neither
    assert room == pytest.approx(arena + mapped, abs=8192)
    assert blocks == pytest.approx(in_use + mapped, abs=300_000)
    again, files, room_then, _, blocks_then, now, files_now, room_now = second
    assert blocks_then - blocks == pytest.approx(8_000_000, abs=8192)
    assert room_then - room == pytest.approx(8_000_000, abs=8192)
    assert again - resident == pytest.approx(5_000_000, abs=400_000)
    # the kernel books pages in batches
    assert now == pytest.approx(resident, abs=400_000)
    assert room_now == pytest.approx(room, abs=8192)
    assert files == pytest.approx(files_now, abs=400_000)
