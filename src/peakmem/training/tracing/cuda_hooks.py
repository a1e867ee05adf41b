"""A PyTorch built without CUDA takes tensors of device `cuda`, as long as nobody computes with them.

Two things stand in the way in such a build, both of the C++ library. The registry of device guards has none for CUDA
(c10/core/impl/DeviceGuardImplInterface.h, `device_guard_impl_registry`); PyTorch brings one that does nothing and
installs it itself (`ensureCUDADeviceGuardSet`) where a guard is registered that sees no device, as in a build with CUDA
on a machine without a GPU. And the accelerator is asked for by `CUDAHooksInterface`, whose default implementation says
that there is none (ATen/detail/CUDAHooksInterface.h): the object is given a copy of its table of virtual functions in
which a few answer otherwise. Which place each function has in that table is read in the headers that are installed with
PyTorch, for exactly this build. No place is guessed: without headers, or with a function missing, it is refused, and a
child process tries it first.

Imports nothing of PyTorch at the top, and nothing else of this package.
"""

# ruff: noqa: ARG005
# PyTorch calls these with arguments of its own

from __future__ import annotations

import ctypes
import os
import platform
import re
import select
import signal
import subprocess
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

CUDA = 1
# c10::DeviceType::CUDA, c10/core/DeviceType.h
DESTRUCTORS = 2
# places that a virtual destructor takes in the table (Itanium C++ ABI 2.5.2)
CUDNN_VERSION = 91501
# 9.15.1, the least that wheels for CUDA 13 bring (so aten/src/ATen/native/transformers/cuda/sdp_utils.cpp); decides
# only whether attention prefers cuDNN on Hopper and Blackwell

# What the hooks answer. A build with CUDA and cuDNN says the same (aten/src/ATen/cuda/detail/CUDAHooks.cpp), but for
# hasPrimaryContext: no context exists, so that the autograd engine leaves streams alone.
ANSWERS: dict[str, int] = {
    "isBuilt": 1,
    "hasPrimaryContext": 0,
    "compiledWithCuDNN": 1,
    "supportsDilatedConvolutionWithCuDNN": 1,
    "supportsDepthwiseConvolutionWithCuDNN": 1,
    "supportsBFloat16ConvolutionWithCuDNNv8": 1,
    "supportsBFloat16RNNWithCuDNN": 1,
    "versionCuDNN": CUDNN_VERSION,
    "versionRuntimeCuDNN": CUDNN_VERSION,
}
REAL = "batchnormMinEpsilonCuDNN"
# answers a double; 0.0 since cuDNN 7.5 (CUDNN_BN_MIN_EPSILON)
OLDER = {"isBuilt": "hasCUDA"}
# what was asked before the function came (PyTorch 2.4 and before)
OPTIONAL = frozenset({"versionRuntimeCuDNN", "supportsBFloat16ConvolutionWithCuDNNv8", "supportsBFloat16RNNWithCuDNN"})
# came with later versions

WORKS = "works"
PATIENCE = 10
# seconds for an attempt in a fork

_kept: list[Any] = []
# what C++ holds addresses of


def places(header: str, inherited: dict[str, int] | None = None) -> dict[str, int]:
    """Place in the table of each virtual function of a class, from the text of its header.

    Args:
        header: of a file with one class that has virtual functions.
        inherited: those of the class it derives from, whose functions it may override.
    """
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"#ifdef USE_ROCM.*?#endif", "", text, flags=re.DOTALL)
    found = dict(inherited or {"~": 0})
    following = max(found.values()) + 1 if inherited else DESTRUCTORS
    for match in re.finditer(r"\bvirtual\b([^;{]*?)([~\w]+)\s*\(", text):
        name = match.group(2)
        if name.startswith("~") or name in found:
            continue
        found[name] = following
        following += 1
    return found


def _headers() -> dict[str, int]:
    """Places of the functions of `CUDAHooksInterface` in this build."""
    import torch

    folder = Path(torch.__file__).parent / "include" / "ATen" / "detail"
    base, derived = folder / "AcceleratorHooksInterface.h", folder / "CUDAHooksInterface.h"
    if not derived.is_file():
        return {}
    return places(derived.read_text(), places(base.read_text()) if base.is_file() else None)


def reason() -> str:
    """Why it cannot be tried here; empty when it can."""
    import torch

    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return f"a PyTorch without CUDA takes tensors of device cuda on Linux only, not on {sys.platform}"
    found = _headers()
    if not found:
        return (
            f"the headers of PyTorch {torch.__version__} are not installed, which say how its device hooks are laid out"
        )
    missing = [name for name in ANSWERS if name not in found and name not in OPTIONAL and OLDER.get(name) not in found]
    if missing:
        return f"PyTorch {torch.__version__} has no device hook {missing[0]}, which this version of peakmem counts on"
    return ""


def install() -> str:
    """Let this process take tensors of device `cuda`; what went wrong, or an empty text.

    Stays for the life of the process: without tensors of device `cuda` nothing asks for it.
    """
    import torch

    folder = Path(torch.__file__).parent / "lib"
    try:
        core, library = ctypes.CDLL(str(folder / "libc10.so")), ctypes.CDLL(str(folder / "libtorch_cpu.so"))
        registry = (ctypes.c_void_p * (CUDA + 1)).in_dll(core, "_ZN3c104impl26device_guard_impl_registryE")
        hooks_of = library["_ZN2at6detail12getCUDAHooksEv"]
    except (OSError, ValueError, AttributeError) as fault:
        return f"PyTorch {torch.__version__} lacks what device cuda would need: {fault}"
    if not registry[CUDA] and not _guard(torch, registry):
        return f"PyTorch {torch.__version__} did not install its device guard for cuda"
    if str(torch._C._accelerator_getAccelerator()) == "cuda":
        return ""
    hooks_of.restype = ctypes.c_void_p
    undo = _answering(hooks_of(), _headers())
    if str(torch._C._accelerator_getAccelerator()) != "cuda":
        undo()
        return f"PyTorch {torch.__version__} does not take cuda for its accelerator"
    return ""


def _guard(torch: Any, registry: Any) -> bool:
    """Have PyTorch install its own guard that does nothing; whether it did."""
    none = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(lambda this: 0)
    address = ctypes.cast(none, ctypes.c_void_p).value
    table = (ctypes.c_void_p * 64)(*[address] * 64)
    guard = (ctypes.c_void_p * 1)(ctypes.addressof(table))
    _kept.extend((none, table, guard))
    registry[CUDA] = ctypes.addressof(guard)
    torch._C._ensureCUDADeviceGuardSet()  # asks deviceCount alone
    if registry[CUDA] == ctypes.addressof(guard):
        registry[CUDA] = None
        return False
    return True


def _answering(hooks: int, found: dict[str, int]) -> Any:
    """Give the hooks a table with other answers; a function that takes it back."""
    table = ctypes.cast(hooks, ctypes.POINTER(ctypes.c_void_p))
    before = table[0]
    words = max(found.values()) + 1
    head = 2  # the offset to the top and the type's description stand before the first function
    old = ctypes.cast(before - head * ctypes.sizeof(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p))
    new = (ctypes.c_void_p * (words + head))(*[old[at] for at in range(words + head)])
    for name, value in ANSWERS.items():
        name = name if name in found else OLDER.get(name, name)
        if name in found:
            function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(lambda this, value=value: value)
            new[head + found[name]] = ctypes.cast(function, ctypes.c_void_p).value
            _kept.append(function)
    if REAL in found:
        real = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p)(lambda this: 0.0)
        new[head + found[REAL]] = ctypes.cast(real, ctypes.c_void_p).value
        _kept.append(real)
    _kept.append(new)
    table[0] = ctypes.addressof(new) + head * ctypes.sizeof(ctypes.c_void_p)

    def undo() -> None:
        table[0] = before

    return undo


def attempt() -> str:
    """Install it here and take one gradient: what went wrong, or an empty text. May end the process."""
    fault = install()
    if fault:
        return fault
    return "" if _gradient("cuda") == "cuda" else "a gradient is not on cuda"


def _gradient(device: str) -> str:
    """The device of a gradient taken on tensors without memory."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.device(device), torch.autograd.set_multithreading_enabled(False):
        layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        layers(torch.empty(2, 3, 8, 8)).sum().backward()
        return str(layers[0].weight.grad.device.type)


@lru_cache(maxsize=1)
def trial() -> str:
    """Whether it works, tried in a process of its own: why not, or an empty text.

    A fork of this one is quick, for PyTorch is imported; where a fork does not tell, a new process does.
    """
    import torch

    said = _forked()
    if said is None:
        said = _spawned()
    if said:
        return f"PyTorch {torch.__version__} without CUDA cannot trace device cuda here: a trial of it {said}"
    return ""


def _forked() -> str | None:
    """What an attempt in a fork says; None where that tells nothing."""
    if not hasattr(os, "fork"):
        return None
    _gradient("cpu")  # imports what a trace needs, once and not in the fork
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other threads do not come along: none of them is needed
        process = os.fork()
    if process == 0:
        try:
            os.close(reader)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(writer, (attempt() or WORKS).encode())
        except BaseException:  # whatever happens: the parent asks another way
            pass
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], PATIENCE)
        said = os.read(reader, 4096).decode() if ready else ""
    finally:
        os.close(reader)
        if not said:
            os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    return None if not said else "" if said == WORKS else f"said: {said}"


def _spawned() -> str:
    """What an attempt in a new process says."""
    folder = str(Path(__file__).parents[3])
    code = (
        f"import sys; sys.path.insert(0, {folder!r})\nfrom {__name__} import attempt, WORKS\nprint(attempt() or WORKS)"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=10 * PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        return f"failed: {fault}"
    if done.returncode == 0 and done.stdout.strip() == WORKS:
        return ""
    if done.returncode < 0:
        return f"ended with signal {-done.returncode}"
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return f"said: {lines[-1]}" if lines else "said nothing"
