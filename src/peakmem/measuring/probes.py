"""Reads a process from outside, by its number: sizes, mappings, high-water mark, control group.

It takes the right to read the process (its own children, unless they changed identity) and nothing else: no tracing,
no signal, no stop. What a running process shows may be of different moments; the measured process waits meanwhile.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from peakmem.errors import Denied, Ended, PeakmemError
from peakmem.measuring.mappings import Area, Threads, parse
from peakmem.measuring.seams import take_apart

PROC = Path("/proc")

VM = (
    "VmPeak", "VmSize", "VmHWM", "VmRSS", "RssAnon", "RssFile", "RssShmem",
    "VmData", "VmStk", "VmExe", "VmLib", "VmPTE", "VmSwap",
)  # fmt: skip
# the lines of /proc/PID/status that are kept; see proc_pid_status(5)


@contextmanager
def reading(pid: int, what: str) -> Iterator[None]:
    """Turns what the system says into errors of ours.

    Raises:
        Denied: no permission.
        Ended: the process is gone.
    """
    try:
        yield
    except PermissionError:
        raise Denied(
            f"the system does not let us read {what} of process {pid}",
            hint="run as the same user, with /proc mounted without hidepid",
        ) from None
    except (FileNotFoundError, ProcessLookupError):
        raise Ended(f"process {pid} has ended") from None
    except OSError as fault:
        if fault.errno != errno.EINVAL:
            raise
        raise Ended(f"process {pid} has ended") from None
        # what some files of a process say that ends at this moment


def text(pid: int, name: str) -> str:
    """A file of /proc/PID. Names in it may be of any bytes; those that are not UTF-8 are kept as surrogates."""
    with reading(pid, name):
        return (PROC / str(pid) / name).read_bytes().decode("utf-8", "surrogateescape")


def status(pid: int) -> dict[str, int]:
    """Sizes in bytes by the kernel's own names, and the number of `Threads`; what this kernel does not tell is absent.

    The kernel keeps resident pages in counters of each processor and lets each hold back up to max(32, 2 * cpus) pages
    a kind. New kernels add them up for VmRSS (on 6.18 no difference from smaps in 60 processes of 20 threads), older
    ones leave them out. VmHWM lacks them on 6.18 too: it was 212 to 308 KiB below the resident set that was there at
    the peak, with 2 cpus, in 40 processes.

    Raises:
        Denied: no permission.
        Ended: the process is gone, or has no memory any more.
    """
    found: dict[str, int] = {}
    for line in text(pid, "status").splitlines():
        name, _, value = line.partition(":")
        if name == "Threads":
            found[name] = int(value)
        elif name in VM:
            found[name] = int(value.split()[0]) << 10
    if "VmSize" not in found:
        raise Ended(f"process {pid} has ended")
    return found


def mappings(pid: int, threads: Threads | None = None) -> tuple[Area, ...]:
    """All mappings of a process, those taken apart that the kernel merged with a neighbour of another kind.

    Raises:
        Denied: no permission.
        Ended: the process is gone, or has no memory any more.
    """
    areas = parse(text(pid, "smaps"))
    if not areas:
        raise Ended(f"process {pid} has ended")
    return take_apart(pid, areas, threads or Threads())


def threads(pid: int) -> Threads:
    """Where the threads' stacks are, as far as it can be seen; never an error while the process lives.

    A thread that computes at this moment shows no stack pointer.
    """
    pointers: list[int] = []
    with reading(pid, "task"):
        numbers = sorted(int(entry.name) for entry in (PROC / str(pid) / "task").iterdir())
    for number in numbers:
        if number == pid:
            continue
        with suppress(OSError):
            fields = (PROC / str(pid) / "task" / str(number) / "syscall").read_text().split()
            if len(fields) > 2:
                # "running" alone, or the call, its arguments, stack pointer and program counter
                pointers.append(int(fields[-2], 16))
    return Threads(tuple(pointers), _stack_bytes(pid))


def _stack_bytes(pid: int) -> int:
    """Stack of a thread that asks for nothing: glibc takes the soft limit, and 2 MiB where there is none."""
    try:
        soft, _ = resource.prlimit(pid, resource.RLIMIT_STACK)
    except OSError:
        soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    return 2 << 20 if soft == resource.RLIM_INFINITY else soft


def reset_hwm(pid: int) -> bool:
    """Sets VmHWM back to VmRSS; false where the kernel does not do it (before 4.0) or does not let us."""
    try:
        file = os.open(PROC / str(pid) / "clear_refs", os.O_WRONLY)
        try:
            os.write(file, b"5")
        finally:
            os.close(file)
    except OSError:
        return False
    return True


def cgroup(pid: int) -> dict[str, int] | None:
    """The memory account of the process's control group, under the names of version 2; None without one.

    memory.current and memory.peak (bytes, of all processes in the group), memory.max (bytes; absent without a limit,
    the smallest of the group and those above it) and oom_kill (processes killed so far).
    """
    try:
        entries = [line.split(":", 2) for line in text(pid, "cgroup").splitlines()]
        mounts = list(_mounts(text(pid, "mountinfo")))
    except PeakmemError:
        return None
    for _, controllers, path in entries:
        for kind, options, root, point in mounts:
            if controllers == "" and kind == "cgroup2":
                found = _account(point, root, path, _VERSION_2)
            elif kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options.split(","):
                found = _account(point, root, path, _VERSION_1)
            else:
                continue
            if found:
                return found
    return None


_VERSION_2 = ("memory.current", "memory.peak", "memory.max", "memory.events")
_VERSION_1 = ("memory.usage_in_bytes", "memory.max_usage_in_bytes", "memory.limit_in_bytes", "memory.oom_control")
_NO_LIMIT = 1 << 62
# version 1 writes "no limit" as the largest number of whole pages


def _mounts(mountinfo: str) -> Iterator[tuple[str, str, str, Path]]:
    """Kind, options, root and place of each mount of control groups."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            yield kind[0], kind[2], fields[3], Path(fields[4])


def _account(point: Path, root: str, path: str, names: tuple[str, str, str, str]) -> dict[str, int]:
    inside = path.removeprefix(root.rstrip("/")) if path.startswith(root.rstrip("/")) else path
    group = point / inside.lstrip("/")
    found: dict[str, int] = {}
    for name, file in zip(("memory.current", "memory.peak"), names, strict=False):
        if (value := _number(group / file)) is not None:
            found[name] = value
    if not found:
        return {}
    limits = [_number(folder / names[2]) for folder in (group, *group.parents) if folder.is_relative_to(point)]
    if known := [limit for limit in limits if limit is not None and limit < _NO_LIMIT]:
        found["memory.max"] = min(known)
    with suppress(OSError, ValueError):
        for line in (group / names[3]).read_text().splitlines():
            if line.startswith("oom_kill "):
                found["oom_kill"] = int(line.split()[1])
    return found


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None
        # "max" among others
