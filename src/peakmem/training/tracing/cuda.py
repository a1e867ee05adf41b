"""Device `cuda` on a machine without a GPU, for as long as a training step is traced.

`available` says whether it works here, `faked` is the stretch of code during which it does: tensors without memory take
device `cuda`, operators run as on a GPU of the capability asked for, and `torch.cuda` answers as if there were one.
Imported with torch at hand.
"""

# ruff: noqa: ARG001, ARG002, ARG004, ARG005
# PyTorch calls these with arguments of its own

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import comm

from peakmem.errors import UsageError
from peakmem.training.tracing import cuda_hooks, cuda_operators, patches

AMPERE = (8, 0)
NAME = "no device (traced by peakmem)"


def available() -> str:
    """Why device `cuda` cannot be traced here; empty when it can.

    The first call in a process that has no CUDA tries it in a process of its own.
    """
    if torch.cuda.is_available() or torch.version.cuda is not None:
        return ""
    if torch.version.hip is not None:
        return "this PyTorch is built for ROCm, whose kernels allocate otherwise"
    return cuda_hooks.reason() or cuda_hooks.trial()


@contextmanager
def faked(capability: tuple[int, int] = AMPERE, memory_bytes: int = 80 * 2**30) -> Iterator[None]:
    """Trace for device `cuda` inside; as before afterwards.

    Args:
        capability: of the GPU that is meant: decides kernels of attention and what `torch.cuda` answers.
        memory_bytes: of that GPU, as `torch.cuda` answers; nothing is held to it.

    Raises:
        UsageError: it cannot be traced here.
    """
    if torch.cuda.is_available():
        yield  # there is a GPU: PyTorch knows it better
        return
    fault = available()
    if not fault and torch.version.cuda is None:
        fault = cuda_hooks.install()
    if fault:
        raise UsageError(
            f"device cuda cannot be traced here: {fault}", where="--device cuda",
            expected="a PyTorch with CUDA (a GPU is not needed), or a version that is known",
            hint="--device cpu, whose rules differ: masks of dropout, attention kernels, autocast lists",
        )  # fmt: skip
    with (
        patches.replaced(_answers(capability, memory_bytes)),
        cuda_operators.corrected(capability),
        # The engine makes its threads for devices at its first backward, which may be long past: none is needed.
        torch.autograd.set_multithreading_enabled(False),
    ):
        yield


class _Nothing:
    """A stream or an event: whatever is asked of it is done, and takes no time."""

    cuda_stream = 0
    stream_id = 0
    priority = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.device = torch.device("cuda", 0)

    def record_event(self, event: Any = None) -> Any:
        return event if event is not None else _Nothing()

    def elapsed_time(self, other: Any) -> float:
        return 1.0

    def query(self) -> bool:
        return True

    def _done(self, *args: Any, **kwargs: Any) -> None:
        return None

    synchronize = wait = wait_stream = wait_event = record = _done

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(self, *args: Any) -> None:
        return None


def _answers(capability: tuple[int, int], memory_bytes: int) -> list[patches.Patch]:
    """What `torch.cuda` is to say, by name."""
    major, minor = capability
    device = SimpleNamespace(
        name=NAME, major=major, minor=minor, total_memory=memory_bytes, multi_processor_count=108, warp_size=32,
        regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048, shared_memory_per_block=49152,
        shared_memory_per_block_optin=166912, shared_memory_per_multiprocessor=167936, L2_cache_size=40 * 2**20,
        is_integrated=0, is_multi_gpu_board=0, gcnArchName="", uuid="",
    )  # fmt: skip
    by_value: dict[str, Any] = {
        "is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0,
        "get_device_properties": device, "get_device_capability": capability, "get_device_name": NAME,
        "get_arch_list": [f"sm_{major}{minor}"], "is_current_stream_capturing": False,
        "mem_get_info": (memory_bytes, memory_bytes),
        "_exchange_device": 0, "_maybe_exchange_device": 0, "initial_seed": 0,
    }  # fmt: skip
    none = (
        "set_device", "synchronize", "empty_cache", "init", "_lazy_init", "_lazy_call", "ipc_collect", "manual_seed",
        "manual_seed_all", "seed", "seed_all", "set_rng_state", "set_rng_state_all", "set_stream",
        "reset_peak_memory_stats", "reset_accumulated_memory_stats", "reset_max_memory_allocated",
        "reset_max_memory_cached", "set_per_process_memory_fraction",
    )  # fmt: skip
    zero = (
        "memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "memory_cached",
        "max_memory_cached", "utilization",
    )  # fmt: skip
    by_value.update(dict.fromkeys(none))
    by_value.update(dict.fromkeys(zero, 0))
    found: list[patches.Patch] = []
    for name, value in by_value.items():
        found += [
            (owner, name, _saying(value))
            for owner in (torch.cuda, torch.cuda.memory, torch.cuda.random)
            if hasattr(owner, name)
        ]
    state = _rng_state
    stats: Any = lambda *args, **kwargs: defaultdict(int)  # noqa: E731
    for owner in (torch.cuda, torch.cuda.random):
        found += [(owner, "get_rng_state", state), (owner, "get_rng_state_all", lambda: [state()])]
    for owner in (torch.cuda, torch.cuda.memory):
        found += [(owner, "memory_stats", stats), (owner, "memory_summary", _saying(""))]
    found += [(torch.cuda, name, _Nothing) for name in ("Stream", "Event", "ExternalStream")]
    found += [(torch.cuda, name, lambda *args: _Nothing()) for name in ("current_stream", "default_stream")]
    found.append((torch.cuda, "stream", lambda stream: nullcontext()))
    found.append(
        (torch.cuda, "is_bf16_supported", lambda including_emulation=True: major >= 8 or bool(including_emulation))
    )
    # Without a device PyTorch lifts what `torch.tensor` holds from the processor (fake_tensor.py, avoid_device_init).
    found.append((FakeTensorMode, "avoid_device_init", property(lambda self: True)))
    found.append((torch, "Generator", _generator(torch.Generator)))
    found.append(
        (comm, "scatter", lambda tensor, *args, **kwargs: (tensor.to("cuda"),))
    )  # DataParallel over one device
    for name in ("range_push", "range_pop", "mark"):
        found.append((torch.cuda.nvtx, name, _saying(0)))
    return found


def _generator(original: Any) -> Any:
    """`torch.Generator` that gives one of the processor for any device: nothing is drawn from it."""

    class Kind(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, original)

    class Generator(metaclass=Kind):
        def __new__(cls, device: Any = "cpu") -> Any:
            return original()

    return Generator


def _saying(value: Any) -> Any:
    return lambda *args, **kwargs: value


def _rng_state(device: Any = None) -> Any:
    """The generator's seed and offset; on the processor, as torch.cuda gives it."""
    return torch.zeros(16, dtype=torch.uint8, device="cpu")
