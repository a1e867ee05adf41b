"""The environment of a measured process: the same variables and the same number of bytes, whatever the cell.

Where the stack begins depends on the bytes of argv and environment, and where the heap is trimmed depends on where it
begins: a variable more moved the resident set by 1.4 MB. So variables that vary have a fixed width, the rest is padded.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from peakmem.measuring.engine import Engine
from peakmem.measuring.record import Value

TOTAL_BYTES = 8192
# of all strings and of the pointers to them; more only where a path needs it
PAD = "PEAKMEM_PAD"
TOKEN = "PEAKMEM_CELL"
# by which a process that escaped its group is found

FIXED: Mapping[str, str] = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "no_proxy": "*",
}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
ALLOCATOR_VARIABLES = {
    "malloc_mmap_threshold": "MALLOC_MMAP_THRESHOLD_",
    "malloc_trim_threshold": "MALLOC_TRIM_THRESHOLD_",
    "malloc_arena_max": "MALLOC_ARENA_MAX",
}
ADDR_NO_RANDOMIZE = 0x0040000
_ASK = 0xFFFFFFFF
# personality(2): the flag, and the argument that changes nothing
KEPT = ("LD_LIBRARY_PATH",)
# of the caller's environment: without it some engines are not found


def environment(
    engine: Engine, settings: Mapping[str, Value], *, scratch: str, token: str, preload: str = "", log: str = "",
    arguments: Sequence[str] = (),
) -> dict[str, str]:  # fmt: skip
    """The variables of one process.

    Args:
        engine: whose own variables are added.
        settings: all of its settings; threads and the allocator's are variables.
        scratch: the process's folder: home, temporary files and caches.
        token: names the process, of fixed length.
        preload: the allocation counter, in instrumented runs.
        log: the file of its event list.
        arguments: the command; its length depends on where things are installed, and is made up for.
    """
    variables = {**FIXED, **{name: os.environ[name] for name in KEPT if os.environ.get(name)}}
    variables |= dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), scratch)
    variables |= dict.fromkeys(THREAD_VARIABLES, f"{settings['threads']:02d}")
    variables |= {variable: f"{settings[name]}" for name, variable in ALLOCATOR_VARIABLES.items() if settings.get(name)}
    variables["PYTHONMALLOC"] = f"{settings['python_malloc']}"
    variables |= engine.environment
    variables[TOKEN] = token
    if preload:
        variables |= {"LD_PRELOAD": preload, "PEAKMEM_COUNTER_LOG": log}
    return pad(variables, arguments)


@contextmanager
def fixed_addresses() -> Iterator[None]:
    """Processes started inside have their memory at the same addresses each time, where the system allows it.

    Engines keep tables by address and allocate in the order of such tables: with addresses drawn anew for each
    process, ONNX Runtime's anonymous pages differed by 10 MB between processes, without by 0. See personality(2).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = libc.personality(_ASK)
    if before != -1:
        libc.personality(before | ADDR_NO_RANDOMIZE)
        # of this thread, and inherited by what it starts
    try:
        yield
    finally:
        if before != -1:
            libc.personality(before)


def pad(variables: Mapping[str, str], arguments: Sequence[str] = ()) -> dict[str, str]:
    """`variables` and one more that brings them, with `arguments`, to TOTAL_BYTES or to the next multiple of it."""
    taken = sum(_taken(name, value) for name, value in variables.items()) + _taken(PAD, "")
    taken += sum(len(os.fsencode(argument)) + 1 for argument in (*arguments, *arguments[:1]))
    # the program's path stands there twice: as an argument, and for the loader (AT_EXECFN)
    return {**variables, PAD: "." * (-taken % TOTAL_BYTES)}


def _taken(name: str, value: str) -> int:
    """Bytes of one variable on the stack: NAME=VALUE, a zero, a pointer."""
    return len(os.fsencode(name)) + len(os.fsencode(value)) + 2 + 8
