"""What is known of a device: each figure with who says so; what no source tells is None. Nothing is estimated here."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, get_args

from peakmem.units import format_bytes

Kind = Literal["gpu", "accelerator", "computer", "board", "phone", "mcu", "limit"]
KINDS: tuple[Kind, ...] = get_args(Kind)
UNVERIFIED = "not verified"
# the source of a figure that is told from memory

IN_PLACE = "TensorFlow Lite Micro and generated C read weights where they are stored"
# source of weights in flash, where a row does not name one

ALIGNMENTS: dict[Kind, tuple[int, str]] = {
    "gpu": (512, "kMinBlockSize of torch's CUDACachingAllocator"),
    "accelerator": (16, "buffer alignment of TensorFlow Lite Micro"),
    "computer": (64, "kDefaultTensorAlignment of TensorFlow Lite; NCNN_MALLOC_ALIGN of ncnn"),
    "board": (64, "kDefaultTensorAlignment of TensorFlow Lite; NCNN_MALLOC_ALIGN of ncnn"),
    "phone": (64, "kDefaultTensorAlignment of TensorFlow Lite; NCNN_MALLOC_ALIGN of ncnn"),
    "mcu": (16, "MicroArenaBufferAlignment of TensorFlow Lite Micro"),
    "limit": (1, "a limit says nothing of alignment"),
}
# of tensors in an arena, where a row does not say another: what software rounds to on such a device

OVERRIDES: dict[Kind, str] = {
    "gpu": "who runs the process: --capacity SIZE, torch.cuda.set_per_process_memory_fraction",
    "accelerator": "nobody: the memory is on the chip",
    "computer": "who runs the process: --capacity SIZE, a limit of the system (ulimit, cgroup)",
    "board": "who runs the process: --capacity SIZE; who builds the system: what it keeps for its graphics",
    "phone": "the maker of the system; an app asks for more where the system has an entitlement for it",
    "mcu": "who writes the firmware: its linker script says what is left for an arena",
    "limit": "who set the limit",
}
# who may change what a process gets, where a row does not say it


@dataclass(frozen=True, slots=True)
class Device:
    """One row of the table."""

    name: str
    title: str
    kind: Kind
    memory: str
    # RAM, or memory of the graphics card, as its maker prints it; "" where only storage is limited
    memory_bytes: int | None
    # the same in bytes, exact where a source tells; else the unit as it stands: a lower bound where GB means GiB
    source: str
    # of `memory`
    aliases: tuple[str, ...] = ()
    usable_bytes: int | None = None
    # what a process gets, as the driver or the system told it
    usable_source: str = ""
    total_bytes: int | None = None
    # that nvidia-smi shows
    total_source: str = ""
    capability: tuple[int, int] | None = None
    # compute capability of an NVIDIA GPU
    multiprocessors: int | None = None
    context_bytes: int | None = None
    # held by a process on the device beyond what torch's allocator reserved
    context_source: str = ""
    memory_source: str = ""
    # of `memory_bytes`, where another page than `source` tells the exact count
    storage: str = ""
    # flash or disk that a model file may take, as its maker prints it; "" where there is none or nobody says
    storage_bytes: int | None = None
    storage_source: str = ""
    unified: bool = False
    # one memory for processor and graphics: a tensor for both is there once
    weights_in_flash: bool = False
    # weights are read where they are stored; RAM holds the arena alone
    weights_source: str = ""
    usable_share: Fraction | None = None
    # of `memory_bytes`, where the system gives a share
    alignment: int = 1
    # bytes, of tensors in an arena
    alignment_source: str = ""
    memories: tuple[tuple[str, int], ...] = ()
    # banks that RAM is made of
    contiguous_bytes: int | None = None
    # the longest run of addresses in them: no arena is longer. None: nobody says that it is in pieces
    override: str = ""
    # who may change what a process gets, and how
    note: str = ""
    origin: str = ""
    # the file of a user that the row is from; "" for the built-in table

    @property
    def capacity_bytes(self) -> int | None:
        """What a process gets of `memory_bytes`; None where only storage is limited.

        As the driver or the system told it; else the share the system gives; else the least that drivers leave of
        the total they show; else all of it.
        """
        if self.usable_bytes is not None:
            return self.usable_bytes
        if self.memory_bytes is not None and self.usable_share is not None:
            return int(self.memory_bytes * self.usable_share)
        if self.total_bytes is not None:
            from peakmem.devices.table import least_left

            return int(self.total_bytes * least_left())
        return self.memory_bytes

    @property
    def capacity_known(self) -> bool:
        """Whether somebody says what a process gets; else `capacity_bytes` is all that is printed.

        On a microcontroller nothing but the program takes memory.
        """
        told = (self.usable_bytes, self.usable_share, self.total_bytes)
        return self.kind in ("mcu", "accelerator", "limit") or any(one is not None for one in told)

    @property
    def sure_bytes(self) -> int | None:
        """What a process gets for sure: `capacity_bytes` where somebody tells it.

        Where nobody does, the least share of its RAM that is told of a device of the same kind.
        """
        if self.capacity_known or self.memory_bytes is None:
            return self.capacity_bytes
        from peakmem.devices.table import least_share

        return int(self.memory_bytes * least_share(self.kind))

    @property
    def arena_bytes(self) -> int | None:
        """The longest arena there is room for: `capacity_bytes`, or less where RAM is in pieces."""
        if self.capacity_bytes is None or self.contiguous_bytes is None:
            return self.capacity_bytes
        return min(self.capacity_bytes, self.contiguous_bytes)

    @property
    def capacity_said(self) -> str:
        """Where `capacity_bytes` is from, in words."""
        if self.usable_bytes is not None:
            return f"{self.title}: a process gets {format_bytes(self.usable_bytes)} ({self.usable_source})"
        if self.usable_share is not None and self.memory_bytes is not None:
            share = f"{float(self.usable_share):.1%} of {format_bytes(self.memory_bytes)}"
            return f"{self.title}: a process gets {share} ({self.usable_source})"
        if self.total_bytes is not None:
            from peakmem.devices.table import least_left

            return (
                f"{self.title}: {least_left():.1%} of the {format_bytes(self.total_bytes)} that nvidia-smi shows "
                f"({self.total_source}), the least a process gets on cards of which both are known"
            )
        if self.memory_bytes is None:
            return f"{self.title}: only storage is limited"
        if self.memory_source:
            exact = f"{self.memory_bytes:,} B"
            return f"{self.title}: all of its {self.memory}, {exact} ({self.memory_source})"
        return f"{self.title}: {self.memory} as printed by its maker, the unit as it stands ({self.source})"

    @property
    def processor(self) -> Literal["cuda", "cpu"]:
        """What torch calls the device that a step runs on; "cpu" where only a model of the processor's memory fits."""
        return "cuda" if self.kind == "gpu" or self.capability is not None else "cpu"
