"""Where the counter's library comes from: a part of the wheel, or compiled on first need into the cache folder.

It is used only when a process has shown that it loads and counts exactly. Imports nothing but the standard library:
the build hook of the wheel executes this file too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("counter.c")
SHIPPED = Path(__file__).with_name("_counter.so")
# made by the build hook, missing in a checkout and in a wheel built without a compiler
FLAGS = (
    "-std=gnu11", "-O2", "-g0", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-builtin", "-fexceptions",
    "-ftls-model=initial-exec", "-pthread", "-Wl,-z,now",
)  # fmt: skip
_SECONDS = 120
# for one run of the compiler or of the check

_CHECK = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
numbers = [(ctypes.c_longlong * 8)() for _ in range(3)]
libc.peakmem_counter_read(numbers[0])
block = libc.malloc(12345677)
libc.peakmem_counter_read(numbers[1])
libc.free(block)
libc.peakmem_counter_read(numbers[2])
a, b, c = ([int(n) for n in line] for line in numbers)
good = b[0] - a[0] == 12345677 and b[4] - a[4] == 1 and b[5] - a[5] == 1 and c[0] == a[0] and c[1] >= b[0]
print("counts" if good else f"counts wrongly: {a} {b} {c}")
"""


@dataclass(frozen=True, slots=True)
class Counter:
    """The library, or why there is none."""

    path: Path | None
    reason: str = ""
    # one sentence; empty when there is a path


@cache
def find_counter() -> Counter:
    """The counter's library for this machine, shown to work; compiled when the package brings none that does."""
    if not sys.platform.startswith("linux"):
        return Counter(None, f"the allocation counter is written for Linux, this is {sys.platform}")
    reason = ""
    if SHIPPED.exists():
        reason = check(SHIPPED)
        if not reason:
            return Counter(SHIPPED)
    found = compiled()
    if found.path is None and reason:
        return Counter(None, f"{reason}, and {found.reason}")
    return found


def compiled() -> Counter:
    """The library in the cache folder, compiled if it is not there; checked once for each content."""
    compiler = find_compiler()
    if not compiler:
        return Counter(None, "the allocation counter needs a C compiler: install cc, or set CC")
    try:
        target = _said(compiler, "-dumpmachine") + _said(compiler, "--version")
        name = hashlib.sha256(SOURCE.read_bytes() + " ".join((*compiler, *FLAGS, target)).encode()).hexdigest()[:20]
        folder = cache_folder()
        library = folder / f"counter-{name}.so"
        if library.exists():
            if library.stat().st_uid != os.getuid():
                return Counter(None, f"{library} belongs to another user and is not loaded")
            if _shown(library) or not check(library):
                return Counter(library)
            # damaged, or made for another system: once more
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as scratch:
            made = Path(scratch) / "counter.so"
            fault = compile_to(made, compiler) or check(made)
            if fault:
                return Counter(None, fault)
            made.replace(library)
        library.with_suffix(".shown").write_text(_content(library))
        return Counter(library)
    except (OSError, RuntimeError, subprocess.SubprocessError) as fault:
        return Counter(None, f"the allocation counter cannot be compiled: {_sentence(str(fault))}")


def find_compiler() -> tuple[str, ...]:
    """The command of a C compiler, empty when there is none: $CC, else cc, gcc or clang."""
    asked = os.environ.get("CC", "").split()
    if asked:
        return tuple(asked) if shutil.which(asked[0]) else ()
    return next(((found,) for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), ())


def compile_to(library: Path, compiler: tuple[str, ...]) -> str:
    """Compile the counter; empty when it went well, else why not."""
    done = _run([*compiler, *FLAGS, "-o", str(library), str(SOURCE), "-ldl"])
    if done.returncode == 0:
        return ""
    lines = done.stderr.splitlines() or ["it says nothing"]
    first = next((line for line in lines if "error" in line), lines[0])
    return f"{compiler[0]} does not compile the allocation counter: {_sentence(first)}"


def check(library: Path) -> str:
    """Whether the library loads before a program and counts one known block exactly; empty, or why not."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LD_", "PEAKMEM_"))}
    environment["LD_PRELOAD"] = str(library)
    if set(str(library)) & set(" :"):
        return f"the path {library} holds a space or a colon, which LD_PRELOAD cannot name; set PEAKMEM_CACHE"
    try:
        done = _run([sys.executable, "-I", "-S", "-c", _CHECK], environment)
    except (OSError, subprocess.SubprocessError) as fault:
        return f"the allocation counter at {library} cannot be tried: {_sentence(str(fault))}"
    if done.returncode == 0 and done.stdout.strip() == "counts":
        return ""
    said = done.stderr.strip().splitlines() or done.stdout.strip().splitlines() or [f"exit code {done.returncode}"]
    return f"the allocation counter at {library} does not work here: {_sentence(said[0])}"


def cache_folder() -> Path:
    """$PEAKMEM_CACHE, else a folder of ours in $XDG_CACHE_HOME or ~/.cache.

    Raises:
        RuntimeError: there is no home folder.
    """
    if own := os.environ.get("PEAKMEM_CACHE"):
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # a relative path there is to be ignored (XDG base directory specification)
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "peakmem"


def _shown(library: Path) -> bool:
    try:
        return library.with_suffix(".shown").read_text() == _content(library)
    except OSError:
        return False


def _content(library: Path) -> str:
    """What the check was made with: this file, this kernel, this interpreter."""
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    return f"{digest} {os.uname().release} {sys.executable} {sys.version}\n"


def _said(compiler: tuple[str, ...], question: str) -> str:
    return _run([*compiler, question]).stdout


def _run(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False, env=environment,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _sentence(text: str) -> str:
    return " ".join(text.split())[:300]
