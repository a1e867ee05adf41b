"""The event log as data: a program of known phases, made-up logs, damage. Expected sums are worked by hand."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from peakmem.errors import FormatError
from peakmem.measuring.counter.build import find_counter
from peakmem.measuring.counter.log import Interval, LiveBlock, read_log
from peakmem.measuring.record import LibraryShare

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the counter is written for Linux")

NAMES = {1: "phase:load", 2: "phase:run", 3: "conv", 4: "pool"}
BORN, DIED, MAPPED, UNMAPPED, NOTE, RESET, START = range(1, 8)
MAPS = """\
00001000-00002000 r-xp 00000000 08:01 11 /usr/lib/libone.so
00002000-00003000 rw-p 00000000 00:00 0 
00005000-00006000 r-xp 00000000 08:01 12 /opt/with blank/libtwo.so.1 (deleted)
7ffd1000-7ffd2000 rw-p 00000000 00:00 0 [stack]
"""  # noqa: W291
ONE, TWO, NOWHERE = 0x1234, 0x5678, 0x2345


def head(count: int, *, flags: int = 0, version: int = 1, record: int = 32) -> bytes:
    return b"PEAKMEM\0" + struct.pack("<IIQQQQQQ", version, record, count, flags, 0, 4242, 4096, 1 << 24)


def log_of(path: Path, *records: tuple[int, int, int, int], flags: int = 0) -> Path:
    """A log of (kind, size, pointer, caller)."""
    rows = b"".join(struct.pack("<qQQII", size, pointer, caller, 7, kind) for kind, size, pointer, caller in records)
    path.write_bytes(head(len(records), flags=flags) + rows)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return log_of(
        tmp_path / "log",
        (BORN, 100, 0x10, ONE),
        (START, 150, 4096, 5),
        # five calls so far, of which one is still live; 150 bytes at once
        (MAPPED, 8192, 0x90000, TWO),
        (BORN, 50, 0x20, TWO),
        (NOTE, 150, 1, 8192),
        (RESET, 150, 0, 8192),
        (BORN, 1000, 0x30, TWO),
        (DIED, -50, 0x20, TWO),
        (NOTE, 1100, 3, 8192),
        (BORN, 50, 0x20, NOWHERE),
        (DIED, -1000, 0x30, TWO),
        (UNMAPPED, -4096, 0x91000, TWO),
        (NOTE, 150, 4, 4096),
        (BORN, 30, 0x40, ONE),
        (BORN, 0, 0x50, ONE),
        (NOTE, 180, 2, 4096),
    )


def test_phases_libraries_and_intervals(small):
    log = read_log(small, NAMES, MAPS)
    load, run = log.phases
    assert (load.name, load.live_bytes, load.peak_bytes, load.blocks, load.allocations) == ("load", 150, 150, 2, 6)
    assert (load.mapped_bytes, load.mapped_peak_bytes) == (8192, 8192)
    assert load.libraries == (LibraryShare("libone.so", 100, 100), LibraryShare("libtwo.so.1", 50, 50))
    assert (run.name, run.live_bytes, run.peak_bytes, run.blocks, run.allocations) == ("run", 180, 1150, 4, 10)
    assert (run.mapped_bytes, run.mapped_peak_bytes) == (4096, 8192)
    # 100 + 50 + 1000, or 100 + 1000 + 50: the first of two equal peaks
    assert run.libraries == (
        LibraryShare("libtwo.so.1", 0, 1050), LibraryShare("libone.so", 130, 100), LibraryShare("?", 50, 0),
    )  # fmt: skip
    assert log.intervals == (
        Interval("load", "", 150, 150, 2),
        Interval("run", "", 1100, 1150, 1),
        Interval("run", "conv", 150, 1150, 1),
        Interval("run", "pool", 180, 180, 2),
        Interval("", "", 180, 180, 0),
    )
    assert (log.peak_bytes, log.peak_phase, log.peak_operator) == (1150, "run", "")
    assert log.largest == (
        LiveBlock(1000, "libtwo.so.1", "run", ""),
        LiveBlock(100, "libone.so", "load", ""),
        LiveBlock(50, "libtwo.so.1", "load", ""),
    )
    assert (log.events, log.complete, log.pid) == (16, True, 4242)


def test_a_reset_begins_the_peak_anew(tmp_path):
    path = log_of(
        tmp_path / "log", (BORN, 500, 16, ONE), (DIED, -500, 16, ONE), (RESET, 0, 0, 0), (BORN, 5, 16, ONE),
        (NOTE, 5, 1, 0),
    )  # fmt: skip
    log = read_log(path, NAMES, MAPS)
    assert log.phases[0].peak_bytes == 5
    assert log.peak_bytes == 500
    # of the whole process


def test_notes_without_a_name_and_flags(tmp_path):
    log = read_log(log_of(tmp_path / "log", (NOTE, 0, 9, 0), flags=1), NAMES, "")
    assert [interval.operator for interval in log.intervals] == ["note 9"]
    assert not log.complete
    assert not log.phases
    lost = read_log(log_of(tmp_path / "log", (NOTE, 0, 1, 0), flags=2), NAMES, "")
    assert not lost.phases[0].complete


def test_an_empty_log(tmp_path):
    log = read_log(log_of(tmp_path / "log"), {}, "")
    assert (log.phases, log.intervals, log.largest, log.peak_bytes) == ((), (), (), 0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no event log"),
        (b"PEAKMEM", "no event log"),
        (os.urandom(5000), "no event log"),
        (head(0, version=9), "version 9"),
        (head(0, record=40), "version"),
        (head(1), "cut short"),
        (head(2**64 - 1) + bytes(320), "cut short"),
        (head(10) + bytes(320), "unknown kind"),
        (head(1) + struct.pack("<qQQII", -5, 16, 0, 1, DIED), "contradicts itself"),
        (head(1) + struct.pack("<qQQII", -5, 16, 0, 1, BORN), "contradicts itself"),
        (head(1) + struct.pack("<qQQII", 5, 16, 0, 1, DIED), "contradicts itself"),
        (head(1) + struct.pack("<qQQII", 5, 1, 0, 1, NOTE), "contradicts itself"),
        (head(1) + struct.pack("<qQQII", 0, 1, 2**63, 1, NOTE), "contradicts itself"),
    ],
)
def test_damage_is_an_error_that_names_the_file(tmp_path, content, says):
    path = tmp_path / "events"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=says) as caught:
        read_log(path, NAMES, MAPS)
    assert caught.value.where == str(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FormatError, match="cannot be read"):
        read_log(tmp_path / "none", NAMES, MAPS)


def test_flipped_bytes_never_crash_the_reader(small, tmp_path):
    """Each byte in turn, and every length: an account or a FormatError."""
    good = small.read_bytes()
    path = tmp_path / "events"
    damaged = [good[:at] + bytes([good[at] ^ 0xA5]) + good[at + 1 :] for at in range(0, len(good), 3)]
    outcomes = set()
    for content in (*damaged, *(good[:length] for length in range(0, len(good), 7))):
        path.write_bytes(content)
        try:
            read_log(path, NAMES, MAPS)
            outcomes.add("read")
        except FormatError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def start(tmp_path: Path, *words: str, **environment: str) -> tuple[Path, list[int], str]:
    """A child of this interpreter: its log, the counter's numbers after each phase and its maps."""
    found = find_counter()
    if found.path is None:
        pytest.skip(found.reason)
    log = tmp_path / "log"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LD_", "PEAKMEM_"))}
    done = subprocess.run(
        [sys.executable, "-I", "-S", *words], capture_output=True, text=True, timeout=300, check=True,
        env=kept | {"LD_PRELOAD": str(found.path), "PEAKMEM_COUNTER_LOG": str(log), **environment},
    )  # fmt: skip
    first, _, maps = done.stdout.partition("\n")
    return log, [int(word) for word in first.split()], maps


PHASES = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
out = [(ctypes.c_longlong * 8)() for _ in range(2)]
note, read, reset = libc.peakmem_counter_note, libc.peakmem_counter_read, libc.peakmem_counter_reset
with open("/proc/self/maps") as file:
    maps = file.read()
note(1), read(out[0])
reset()
a, b = libc.malloc(5 << 20), libc.malloc(7 << 20)
note(3)
libc.free(a)
c = libc.malloc(6 << 20)
note(2), read(out[1])
print(*out[0], *out[1])
print(maps)
"""


def test_the_log_and_the_counter_tell_the_same(tmp_path):
    path, numbers, maps = start(tmp_path, "-c", PHASES)
    log = read_log(path, NAMES, maps)
    for phase, told in zip(log.phases, (numbers[:8], numbers[8:]), strict=True):
        live, peak, _, _, blocks, allocations, mapped, mapped_peak = told
        assert (phase.live_bytes, phase.peak_bytes) == (live, peak)
        assert (phase.blocks, phase.allocations) == (blocks, allocations)
        assert (phase.mapped_bytes, phase.mapped_peak_bytes) == (mapped, mapped_peak)
        assert sum(share.live_bytes for share in phase.libraries) == live
        assert sum(share.at_peak_bytes for share in phase.libraries) == peak
    run = log.phases[1]
    by_name = {share.library: share for share in run.libraries}
    caller = next(name for name in by_name if "libffi" in name)
    # ctypes calls through it
    assert by_name[caller].at_peak_bytes >= 13 << 20
    assert [block.nbytes for block in log.largest[:2]] == [7 << 20, 6 << 20]
    assert [block.operator for block in log.largest[:2]] == ["", "conv"]
    assert all(block.library == caller for block in log.largest[:2])


def test_a_child_process_leaves_the_log_alone(tmp_path):
    """A program that it starts inherits the environment, and so the name of the log."""
    code = "import subprocess, sys; subprocess.run([sys.executable, '-ISc', 'x = bytes(1 << 22)'], check=True)"
    path, _, _ = start(tmp_path, "-c", code + "\nprint(0)")
    log = read_log(path, {}, "")
    assert log.complete
    assert max(block.nbytes for block in log.largest) < 1 << 22


FILL = "import ctypes; f = ctypes.CDLL(None).peakmem_counter_note; [f(3) for _ in range(50000)]; f(2); print(0)"


def test_a_full_log_ends_and_says_so(tmp_path):
    path, _, _ = start(tmp_path, "-c", FILL, PEAKMEM_COUNTER_LOG_MAX="100000")
    log = read_log(path, NAMES, "")
    assert log.events == (100_000 - 64) // 32
    assert path.stat().st_size <= 100_000
    assert not log.complete
    assert log.phases == ()
    # the note at the end of phase "run" no longer fitted


def test_a_limit_on_the_size_of_files_is_kept(tmp_path):
    """Beyond it the system would end the process by SIGXFSZ."""
    code = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000))\n"
        f"os.execv(sys.executable, [sys.executable, '-ISc', {FILL!r}])"
    )
    # a launcher that becomes the program: the log begins anew
    path, _, _ = start(tmp_path, "-c", code)
    log = read_log(path, NAMES, "")
    assert log.events == (200_000 - 64) // 32
    assert not log.complete


def test_two_hundred_thousand_events(tmp_path):
    """Blocks of 1000 B from two libraries in turn; every second one given back at once."""
    count = 50_000
    row = np.dtype([("size", "<i8"), ("pointer", "<u8"), ("caller", "<u8"), ("thread", "<u4"), ("kind", "<u4")])
    table = np.zeros((count, 4), row)
    table["kind"] = [BORN, BORN, DIED, NOTE]
    table["size"][:, :3] = [1000, 24, -24]
    table["size"][:, 3] = np.arange(1, count + 1) * 1000
    table["pointer"][:, 0] = np.arange(count) * 4096
    table["pointer"][:, 1:3] = (np.arange(count) * 4096 + 1024)[:, None]
    table["pointer"][:, 3] = 3
    table["pointer"][-1, 3] = 1
    table["caller"][:, :3] = [ONE, TWO, TWO]
    path = tmp_path / "log"
    path.write_bytes(head(4 * count) + table.tobytes())
    log = read_log(path, NAMES, MAPS)
    assert log.phases[0].libraries == (
        LibraryShare("libone.so", 1000 * count, 1000 * count), LibraryShare("libtwo.so.1", 0, 24),
    )  # fmt: skip
    assert len(log.intervals) == count + 1
