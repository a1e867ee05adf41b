"""What a measurement depends on that is not the model: processor, caches, kernel, C library.

Nothing personal: no name of the machine or of a user, no path.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path

from peakmem.measuring.record import Machine

FEATURES = {
    "flags": re.compile(r"sse4_2|avx|avx2|fma|f16c|avx_vnni\w*|avx_ifma|avx_ne_convert|avx512\w*|avx10\w*|amx_\w+"),
    # x86
    "Features": re.compile(r"asimd|fphp|asimdhp|asimddp|asimdfhm|sve\w*|i8mm|bf16|sme\w*"),
    # Arm
    "isa": re.compile(r"rv\w+|zv\w+|zfh\w*"),
    # RISC-V
}
# whole names of flags, by the field of /proc/cpuinfo that lists them

_NAMES = ("model name", "cpu model", "uarch", "cpu", "Processor", "Hardware")
# of the processor, in the order in which they say most; each kind of processor has its own in /proc/cpuinfo


def machine() -> Machine:
    """This machine. What the system does not tell is empty or 0."""
    info = cpu_info(_text("/proc/cpuinfo"))
    memory = re.search(r"^MemTotal: +(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    return Machine(
        processor=_processor(info),
        features=features(info),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        caches=caches(Path("/sys/devices/system/cpu/cpu0/cache")),
        memory_bytes=int(memory[1]) << 10 if memory else 0,
        page_bytes=os.sysconf("SC_PAGESIZE"),
        kernel=f"{platform.system()} {_release()}",
        libc=_libc(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        huge_pages=chosen(_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        address_randomisation=_text("/proc/sys/kernel/randomize_va_space").strip(),
        cores=cores(Path("/sys/devices/system/cpu")),
    )


def cores(folder: Path) -> int:
    """Physical cores: processors that share one, as threads do, count once; 0 where nothing tells."""
    siblings = {_text(file).strip() for file in folder.glob("cpu[0-9]*/topology/thread_siblings_list")}
    return len(siblings - {""})


def cpu_info(text: str) -> dict[str, str]:
    """The fields of the first processor of /proc/cpuinfo; the first value of each counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and value.strip():
            found.setdefault(name.strip(), value.strip())
    return found


def features(info: dict[str, str]) -> tuple[str, ...]:
    """The instruction sets among a processor's flags that engines choose their kernels by, sorted."""
    found = {
        flag
        for field, wanted in FEATURES.items()
        for flag in re.split(r"[\s_]+" if field == "isa" else r"\s+", info.get(field, ""))
        if wanted.fullmatch(flag)
    }
    return tuple(sorted(found))


def caches(folder: Path) -> dict[str, int]:
    """Bytes of the caches that the first processor sees: L1d, L1i, L2, L3; instructions and data apart."""
    found: dict[str, int] = {}
    for index in sorted(folder.glob("index*")):
        level, kind = _text(index / "level").strip(), _text(index / "type").strip()
        size = re.fullmatch(r"(\d+)([KMG]?)", _text(index / "size").strip())
        if level and size:
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            found[f"L{level}{suffix}"] = int(size[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[size[2]]
    return found


def chosen(text: str) -> str:
    """The setting in brackets: "always [madvise] never" → "madvise"."""
    match = re.search(r"\[(\w+)\]", text)
    return match[1] if match else ""


def _processor(info: dict[str, str]) -> str:
    for name in _NAMES:
        if value := info.get(name):
            return " ".join(value.split())
    implementer, part = info.get("CPU implementer", ""), info.get("CPU part", "")
    if part:
        return f"{platform.machine()}, implementer {implementer} part {part}"
        # Arm's kernels tell numbers only
    return platform.machine()


def _release() -> str:
    """Version of the kernel without what a builder added: a name of a person or a machine may be in it."""
    match = re.match(r"\d+(\.\d+)*", platform.release())
    return match[0] if match else ""


def _libc() -> str:
    try:
        version = ctypes.CDLL(None).gnu_get_libc_version
    except (OSError, AttributeError):
        return " ".join(part for part in platform.libc_ver() if part)
    version.restype = ctypes.c_char_p
    return f"glibc {version().decode()}"


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
