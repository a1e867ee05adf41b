"""What is read of a process: against what a child did, step by step, and on texts made up."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakmem.errors import Denied, Ended, FormatError
from peakmem.measuring import probes
from peakmem.measuring.mappings import ARENA, KINDS, Area, Threads, buckets, kinds, parse, split
from peakmem.measuring.record import Bucket
from peakmem.measuring.seams import segments, take_apart

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

PAGE = os.sysconf("SC_PAGESIZE")
MIB = 1 << 20
SLACK = 192 * 1024
# what an interpreter may take for itself between two steps

STEPS = """
import ctypes, mmap, os, sys, threading, time
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
kept, hold = [], threading.Event()
def block(size):
    at = libc.malloc(ctypes.c_size_t(size))
    ctypes.memset(at, 1, size)
def map_file(path, read):
    with open(path, "rb") as file:
        kept.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    sum(kept[-1][at] for at in range(0, read, 4096))
def many(count, size):
    for _ in range(count):
        block(size)
def start(count, stack, then):
    threading.stack_size(stack)
    barrier = threading.Barrier(count + 1)
    def wait():
        then()
        barrier.wait()
        hold.wait()
    for _ in range(count):
        threading.Thread(target=wait, daemon=True).start()
    barrier.wait()
    while any("running" in open(f"/proc/self/task/{number}/syscall").read() for number in os.listdir("/proc/self/task")
              if int(number) != os.getpid()):
        time.sleep(0.001)
def memfd(size):
    number = os.memfd_create("model")
    os.ftruncate(number, size)
    kept.append(mmap.mmap(number, size))
    kept[-1][:] = bytes(size)
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


class Child:
    """A process that does one line of Python at a time."""

    def __init__(self) -> None:
        environment = {"PATH": os.environ["PATH"], "MALLOC_MMAP_THRESHOLD_": "131072", "LC_ALL": "C"}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", STEPS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        self.pid = self.process.pid
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def look(self, *model: Path) -> dict[str, Bucket]:
        threads = probes.threads(self.pid)
        found = buckets(probes.mappings(self.pid, threads), model_files=model, threads=threads)
        empty = Bucket(0, 0, 0, 0)
        return {kind: found.get(kind, empty) for kind in KINDS}

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        assert self._answer() == "done", line

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.end()


def grown(before: dict[str, Bucket], after: dict[str, Bucket]) -> dict[str, tuple[int, int]]:
    """Growth of address space and resident bytes by kind, without what is below SLACK."""
    change = {
        kind: (after[kind].size_bytes - before[kind].size_bytes, after[kind].rss_bytes - before[kind].rss_bytes)
        for kind in KINDS
    }
    return {kind: sizes for kind, sizes in change.items() if max(map(abs, sizes)) > SLACK}


def test_the_buckets_sum_to_the_resident_set(child):
    child.do("start(3, 1 << 20, lambda: many(50, 10000))")
    found = child.look()
    text = Path(f"/proc/{child.pid}/smaps").read_text()
    rss = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Rss:")) * 1024
    anonymous = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Anonymous:")) * 1024
    assert sum(bucket.rss_bytes for bucket in found.values()) == rss
    assert sum(bucket.anonymous_bytes for bucket in found.values()) == anonymous
    status = probes.status(child.pid)
    assert status["Threads"] == 4
    # VmRSS sums counters of every processor, whose batches hold back up to 2 * cpus (at least 32) pages each
    lag = max(32, 2 * os.cpu_count()) * os.cpu_count() * PAGE
    assert abs(status["VmRSS"] - rss) <= lag
    assert status["VmRSS"] == status["RssAnon"] + status["RssFile"] + status["RssShmem"]
    gate = PAGE if "[vsyscall]" in text else 0
    # a page of the kernel that every process shows and none has
    assert sum(bucket.size_bytes for bucket in found.values()) == status["VmSize"] + gate


def test_a_model_is_known_by_path_link_and_number(child, tmp_path):
    model = tmp_path / "a b\nc (deleted).bin"
    model.write_bytes(b"1" * (3 * MIB))
    link = tmp_path / "link"
    link.symlink_to(model)
    before = child.look(link)
    child.do(f"map_file({str(model)!r}, 3 << 20)")
    assert grown(before, child.look(link)) == {"mapped model": (3 * MIB, 3 * MIB)}
    assert grown(before, child.look(tmp_path)) == {"mapped model": (3 * MIB, 3 * MIB)}
    assert grown(before, child.look()) == {"mapped files": (3 * MIB, 3 * MIB)}
    areas = probes.mappings(child.pid)
    assert [area.path for area in areas if area.inode == model.stat().st_ino] == [str(model)]
    model.unlink()
    model.write_bytes(b"another file of the same name")
    assert grown(before, child.look(model)) == {"mapped files": (3 * MIB, 3 * MIB)}


def test_a_large_block_has_a_mapping_of_its_own(child):
    before = child.look()
    child.do("block(10_000_000)")
    ((kind, (size, rss)),) = grown(before, child.look()).items()
    assert kind == "anonymous maps"
    assert size == pytest.approx(10_000_000, abs=SLACK)
    assert rss == pytest.approx(10_000_000, abs=SLACK)


def test_small_blocks_are_in_the_heap(child):
    before = child.look()
    child.do("many(400, 10_000)")
    ((kind, (_, rss)),) = grown(before, child.look()).items()
    assert kind == "heap"
    assert rss == pytest.approx(400 * 10_016, abs=SLACK)
    # malloc adds a header of 8 bytes and rounds to 16


def test_stacks_and_arenas_of_threads(child):
    before = child.look()
    child.do("start(2, 3 << 20, lambda: many(100, 10_000))")
    change = grown(before, child.look())
    assert change["thread stacks"][0] == 2 * (3 * MIB + PAGE)
    # a guard page below each
    assert change["allocator arenas"][0] % ARENA == 0
    assert change["allocator arenas"][1] == pytest.approx(2 * 100 * 10_016, abs=SLACK)
    assert set(change) == {"thread stacks", "allocator arenas"}


def test_stacks_of_the_default_size_are_found_without_a_pointer(child):
    child.do("start(2, 0, lambda: None)")
    areas = probes.mappings(child.pid)
    threads = probes.threads(child.pid)
    assert len(threads.pointers) == 2
    blind = Threads((), threads.stack_bytes)
    seen = [kind == "thread stacks" for kind in kinds(areas, threads=threads)]
    assert sum(seen) == 4
    assert [kind == "thread stacks" for kind in kinds(areas, threads=blind)] == seen


def test_shared_memory(child):
    before = child.look()
    child.do("memfd(1 << 20)")
    assert grown(before, child.look()) == {"shared memory": (MIB, MIB)}


def test_arenas_of_pythons_allocator_are_no_library_data(child):
    """They merge with the .bss of the library that was loaded last."""
    before = child.look()
    child.do("kept.append([object() for _ in range(500_000)])")
    ((kind, (_, rss)),) = grown(before, child.look()).items()
    assert kind == "anonymous maps"
    assert rss == pytest.approx(500_000 * (16 + 8), rel=0.2)
    # an object without fields and a place in the list


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_bss_is_taken_apart_from_what_merged_with_it(child, tmp_path):
    source = tmp_path / "zeros.c"
    source.write_text("char zeros[4 << 20]; int start = 1; char *at(void) { return zeros; }")
    library = tmp_path / "zeros.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    before = child.look()
    child.do("room = libc.mmap(None, 64 << 20, 0, 0x22, -1, 0)")
    child.do(
        f"lib = ctypes.CDLL({str(library)!r}); lib.at.restype = ctypes.c_void_p; ctypes.memset(lib.at(), 1, 1 << 20)"
    )
    child.do("libc.munmap(ctypes.c_void_p(room), ctypes.c_size_t(64 << 20))")
    # libraries are placed downwards, so there is room above it
    alone = child.look()
    assert grown(before, alone)["library data"] == (pytest.approx(4 * MIB, abs=PAGE), pytest.approx(MIB, abs=SLACK))
    pairs = pairwise(probes.mappings(child.pid))
    end = next(after.end for area, after in pairs if area.path == str(library) and not after.inode)
    # anonymous, private and fixed, not over anything that is there (MAP_FIXED_NOREPLACE)
    child.do(f"at = libc.mmap({end}, 2 << 20, 3, 0x100022, -1, 0); at == {end} and ctypes.memset(at, 1, 2 << 20)")
    whole = parse(Path(f"/proc/{child.pid}/smaps").read_text())
    if end in {area.start for area in whole}:
        pytest.skip("the kernel did not merge them")
    assert grown(alone, child.look()) == {"anonymous maps": (2 * MIB, 2 * MIB)}


def test_a_stack_is_taken_apart_from_what_merged_with_it():
    """As kernels before 6.7 merge them; which pages are resident tells this process's own pagemap."""
    import ctypes

    memory = mmap.mmap(-1, 12 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[8 * MIB - 3 * PAGE : 8 * MIB] = bytes(3 * PAGE)
    memory[8 * MIB :] = bytes(4 * MIB)
    guard = _area(start - PAGE, start, "---p", 0)
    merged = _area(start, start + 12 * MIB, "rw-p", 4 * MIB + 3 * PAGE)
    threads = Threads((start + 8 * MIB - 64,), 8 * MIB)
    lower, upper = take_apart(os.getpid(), [guard, merged], threads)[1:]
    assert (lower.end - lower.start, lower.rss_bytes) == (8 * MIB, 3 * PAGE)
    assert (upper.end - upper.start, upper.rss_bytes) == (4 * MIB, 4 * MIB)
    assert kinds([guard, lower, upper], threads=threads) == ("thread stacks", "thread stacks", "anonymous maps")
    larger = Threads((start + 12 * MIB - 64,), 8 * MIB)
    assert take_apart(os.getpid(), [guard, merged], larger) == (guard, merged)


def test_the_high_water_mark_is_set_back(child):
    child.do("block(20_000_000)")
    child.do("libc.free.argtypes = [ctypes.c_void_p]; big = libc.malloc(30_000_000); ctypes.memset(big, 1, 30_000_000)")
    child.do("libc.free(big)")
    before = probes.status(child.pid)
    assert before["VmHWM"] - before["VmRSS"] > 29_000_000
    if not probes.reset_hwm(child.pid):
        pytest.skip("the system does not set it back")
    after = probes.status(child.pid)
    assert after["VmHWM"] - after["VmRSS"] < SLACK
    assert after["VmPeak"] == before["VmPeak"]


def test_a_process_that_ended(child):
    child.end()
    for probe in (probes.status, probes.mappings, probes.threads):
        with pytest.raises(Ended, match=f"process {child.pid} has ended"):
            probe(child.pid)
    assert probes.reset_hwm(child.pid) is False
    assert probes.cgroup(child.pid) is None


def test_a_process_that_ended_and_was_not_waited_for(child):
    child.process.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    for probe in (probes.status, probes.mappings):
        with pytest.raises(Ended):
            probe(child.pid)
    assert probes.threads(child.pid).pointers == ()


def test_a_process_that_may_not_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "PROC", tmp_path)
    (tmp_path / "7").mkdir()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for probe in (probes.status, probes.mappings):
        with pytest.raises(Denied, match=r"does not let us read .* of process 7"):
            probe(7)
    assert probes.reset_hwm(7) is False
    assert probes.cgroup(7) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_process_of_somebody_else(child):
    code = f"""if True:
        import os, sys
        sys.path[:0] = {sys.path!r}
        from peakmem.errors import Denied
        from peakmem.measuring import probes
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        try:
            print(probes.threads({child.pid}).pointers, probes.reset_hwm({child.pid}))
            probes.mappings({child.pid})
        except Denied as fault:
            print(fault)
    """
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"() False\nthe system does not let us read smaps of process {child.pid}")


CGROUP_FILES = {
    # kind, line of /proc/PID/cgroup, line of mountinfo (its place left open), files
    "version 2": (
        "0::/job/one\n", "31 23 0:28 / {} rw - cgroup2 cgroup2 rw\n",
        {"job/one/memory.current": "4096\n", "job/one/memory.peak": "8192\n", "job/one/memory.max": "max\n",
         "job/memory.max": "1048576\n", "job/one/memory.events": "low 0\noom 1\noom_kill 3\n"},
        {"memory.current": 4096, "memory.peak": 8192, "memory.max": 1048576, "oom_kill": 3},
    ),
    "version 2 without a limit": (
        "0::/\n", "31 23 0:28 / {} rw - cgroup2 cgroup2 rw\n",
        {"memory.current": "4096\n", "memory.max": "max\n"}, {"memory.current": 4096},
    ),
    "version 1 in a container": (
        "5:cpu:/\n4:memory:/docker/a\n0::/\n",
        "35 31 0:32 /docker/a {} rw - cgroup cgroup rw,memory\n36 31 0:33 / /nowhere rw - cgroup2 cgroup2 rw\n",
        {"memory.usage_in_bytes": "10\n", "memory.max_usage_in_bytes": "20\n",
         "memory.limit_in_bytes": "9223372036854771712\n", "memory.oom_control": "oom_kill_disable 0\noom_kill 1\n"},
        {"memory.current": 10, "memory.peak": 20, "oom_kill": 1},
    ),
    "none": ("0::/job\n", "31 23 0:28 / {} rw - cgroup2 cgroup2 rw\n", {}, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CGROUP_FILES)
def test_control_groups(case, tmp_path, monkeypatch):
    entry, mount, files, expected = CGROUP_FILES[case]
    tree, proc = tmp_path / "tree", tmp_path / "proc/7"
    proc.mkdir(parents=True)
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content)
    (proc / "cgroup").write_text(entry)
    (proc / "mountinfo").write_text(mount.format(tree))
    monkeypatch.setattr(probes, "PROC", tmp_path / "proc")
    assert probes.cgroup(7) == expected


def _area(start: int, end: int, permissions: str, rss: int, path: str = "", inode: int = 0, flags: str = "") -> Area:
    anonymous = 0 if inode else rss
    return Area(
        start, end, permissions, 0, "fe:00" if inode else "00:00", inode, path, False, rss, anonymous,
        flags=frozenset(flags.split()),
    )  # fmt: skip


def test_kinds_of_made_up_areas():
    """Each row: size in pages, rights, path, number, VmFlags, kind; rows adjoin unless an address stands before."""
    default = 8 * MIB // PAGE
    heap = ARENA // PAGE
    rows = [
        (0x10_0000, 1, "r-xp", "/bin/x", 5, "", "library text"),
        (None, 1, "rw-p", "/bin/x", 5, "", "library text"),
        (None, 2, "rw-p", "", 0, "", "library data"),
        (None, 9, "rw-p", "[heap]", 0, "", "heap"),
        (ARENA * 8, heap - 1, "rw-p", "", 0, "nr", "allocator arenas"),
        (None, 1, "---p", "", 0, "nr", "allocator arenas"),
        (None, heap, "rw-p", "", 0, "nr", "allocator arenas"),
        # full
        (None, 2, "rw-p", "", 0, "", "anonymous maps"),
        (ARENA * 16, heap, "rw-p", "", 0, "", "anonymous maps"),
        # a buffer that happens to be aligned
        (ARENA * 20, 16, "rw-p", "", 0, "nr", "anonymous maps"),
        (None, 3 * heap - 16, "---p", "", 0, "nr", "anonymous maps"),
        # a reservation of another allocator, larger than an arena
        (ARENA * 32 + 4 * PAGE, 1, "---p", "", 0, "", "thread stacks"),
        (None, default, "rw-p", "", 0, "", "thread stacks"),
        (ARENA * 36, 1, "r--p", "/usr/lib/libdata.so.7.2", 6, "", "library text"),
        (None, 1, "r--s", "/usr/lib/gconv-modules.cache", 7, "", "mapped files"),
        (None, 1, "rw-s", "/memfd:pool (deleted)", 8, "", "shared memory"),
        (None, 1, "rw-s", "/dev/shm/sem.x", 9, "", "shared memory"),
        (None, 1, "rw-s", "/dev/zero (deleted)", 10, "", "shared memory"),
        (None, 512, "rw-p", "/anon_hugepage (deleted)", 11, "", "anonymous maps"),
        (None, 1, "rw-p", "[anon:pool of x]", 0, "", "anonymous maps"),
        (None, 1, "rw-p", "[anon: glibc: pthread stack: 12]", 0, "", "thread stacks"),
        (None, 1, "rw-s", "anon_inode:[io_uring]", 12, "", "mapped files"),
        (0x7FFF_0000_0000, 33, "rw-p", "[stack]", 0, "", "main stack"),
        (None, 4, "r--p", "[vvar]", 0, "", "kernel"),
        (None, 1, "r-xp", "[vdso]", 0, "", "kernel"),
    ]
    text, at = [], 0
    for start, pages, rights, path, inode, flags, _ in rows:
        start = at if start is None else start
        at = start + pages * PAGE
        text.append(f"{start:08x}-{at:08x} {rights} 00000000 fe:00 {inode} {path}".rstrip())
        text.append(f"Rss: {0 if '-p' in rights and 'r' not in rights else 4} kB\nAnonymous: 0 kB")
        if flags:
            text.append(f"VmFlags: {flags}")
    areas = parse("\n".join(text) + "\n")
    assert kinds(areas, threads=Threads((), 8 * MIB)) == tuple(row[-1] for row in rows)


PATHS = st.one_of(
    st.sampled_from(
        ["", "[heap]", "[stack]", "[vdso]", "[anon:x y]", "/lib/a.so.1", "/memfd:a", "/a b", "/a\nb", "/ü"]
    ),
    st.text("ab /\n.so\\0", min_size=1, max_size=12).map(lambda text: f"/{text}".rstrip(" \n") or "/"),
)


@st.composite
def smaps(draw: st.DrawFn) -> tuple[str, list[Area]]:
    """A smaps text and the areas in it."""
    at = draw(st.integers(0, 2**20)) * PAGE
    lines, areas = [], []
    for _ in range(draw(st.integers(1, 12))):
        at += draw(st.sampled_from([0, 0, 1, 2048])) * PAGE
        pages = draw(st.one_of(st.integers(1, 40), st.sampled_from([2048, ARENA // PAGE])))
        rss = draw(st.integers(0, pages)) * PAGE
        anonymous = draw(st.integers(0, rss // PAGE)) * PAGE
        swap = draw(st.integers(0, 3)) * PAGE
        rights = draw(st.sampled_from(["rw-p", "r-xp", "r--p", "---p", "rw-s", "r--s"]))
        path = draw(PATHS)
        inode = draw(st.integers(1, 3)) if path.startswith("/") else 0
        deleted = bool(inode) and draw(st.booleans())
        flags = frozenset(draw(st.lists(st.sampled_from(["rd", "wr", "nr", "nh"]), max_size=3)))
        written = path.replace("\n", "\\012") + (" (deleted)" if deleted else "")
        lines.append(f"{at:x}-{at + pages * PAGE:x} {rights} 00000000 08:01 {inode}{'':20}{written}".rstrip(" "))
        lines.append(
            f"Size: {pages * PAGE // 1024:10} kB\nRss: {rss // 1024:10} kB\nAnonymous: {anonymous // 1024:8} kB"
        )
        lines.append(f"Swap: {swap // 1024:10} kB\nTHPeligible:    0\nVmFlags: {' '.join(flags)}")
        # a path that itself ends in the mark, or holds the escape, cannot be told from one that was marked
        path = path.replace("\\012", "\n")
        areas.append(Area(at, at + pages * PAGE, rights, 0, "08:01", inode, path, deleted, rss, anonymous, swap, flags))
        at += pages * PAGE
    return "\n".join(lines) + "\n", areas


@settings(max_examples=50, deadline=None)
@given(smaps(), st.lists(st.integers(0, 2**33), max_size=3))
def test_every_byte_is_in_one_bucket(made, pointers):
    text, areas = made
    assert list(parse(text)) == areas
    found = buckets(areas, threads=Threads(tuple(pointers)), model_files=["/a b"])
    assert set(found) <= set(KINDS)
    assert sum(bucket.rss_bytes for bucket in found.values()) == sum(area.rss_bytes for area in areas)
    assert sum(bucket.size_bytes for bucket in found.values()) == sum(area.size_bytes for area in areas)
    assert sum(bucket.swap_bytes for bucket in found.values()) == sum(area.swap_bytes for area in areas)
    assert sum(bucket.anonymous_bytes for bucket in found.values()) == sum(area.anonymous_bytes for area in areas)
    assert sum(bucket.mappings for bucket in found.values()) == len(areas)


@given(st.data())
def test_parts_of_an_area_sum_to_it_and_have_room(data):
    pages = data.draw(st.integers(2, 30))
    rss, swap = (data.draw(st.integers(0, pages)) * PAGE for _ in range(2))
    area = Area(PAGE, PAGE * (pages + 1), "rw-p", 0, "00:00", 0, "", False, rss, rss, swap)
    at = data.draw(st.integers(1, pages - 1))
    counted = data.draw(st.integers(0, pages)) * PAGE, data.draw(st.integers(0, pages)) * PAGE
    parts = split(area, PAGE * (1 + at), counted)
    assert sum(part.rss_bytes for part in parts) == rss
    assert sum(part.swap_bytes for part in parts) == swap
    assert all(0 <= part.rss_bytes <= part.size_bytes for part in parts)
    assert all(0 <= part.swap_bytes <= part.size_bytes for part in parts)
    assert all(0 <= part.anonymous_bytes <= part.rss_bytes for part in parts)


@pytest.mark.parametrize(
    "text", ["no mapping at all\n", "1000-2000 rw-p 0 00:00 0\nSize: 4 kB\n", "1000-2000 rw-p 0 00:00 0\nRss 4\n"]
)
def test_a_text_that_is_no_smaps(text):
    with pytest.raises(FormatError, match="smaps"):
        parse(text)


def test_segments_of_files_that_are_no_elf(tmp_path):
    for content in (b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(58), b"\x7fELF\x02\x01" + b"\xff" * 58):
        file = tmp_path / "x"
        file.write_bytes(content)
        assert segments(str(file), len(content), hash(content)) == ()
