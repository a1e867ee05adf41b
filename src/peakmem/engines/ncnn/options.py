"""What the rules look at: ncnn's options, and the processor as ncnn sees it.

Sources: `src/option.h`, `src/option.cpp`, `src/cpu.cpp` (get_cpu_level2_cache_size) and `create_layer_cpu` in
`src/layer.cpp`, commit a4d2ea1d (2026-07-22).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peakmem.engines.prediction import Processor, Value
from peakmem.errors import UsageError

DEFAULTS: Mapping[str, Value] = {
    "lightmode": True, "fp16_packed": True, "fp16_storage": True, "fp16_arithmetic": True, "bf16_packed": False,
    "bf16_storage": False, "int8_inference": True, "int8_packed": True, "int8_storage": True, "int8_arithmetic": True,
    "winograd": True, "winograd23": True, "winograd43": True, "winograd63": True, "sgemm": True, "packing": True,
    "pool_allocator": True, "mapped_model": False, "threads": 1,
}  # fmt: skip
FIXED: Mapping[str, Value] = {"record_allocators": "off", "batch_axis": "drop"}
# settings of the runner of which one value alone is modelled
PROCESS = ("malloc_mmap_threshold", "malloc_trim_threshold", "malloc_arena_max", "python_malloc")
# they move pages, not what is asked of malloc
AVX512 = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
# what ncnn wants together before it takes that build of a layer
VNNI = frozenset({"avx512_vnni", "avx_vnni"})


@dataclass(frozen=True, slots=True)
class Options:
    """One choice of settings on one processor."""

    light: bool
    fp16_storage: bool
    bf16_storage: bool
    # whether blobs have 2 bytes: bf16, or on Arm fp16
    winograd: bool
    winograd23: bool
    winograd43: bool
    winograd63: bool
    sgemm: bool
    packing: bool
    pools: bool
    mapped: bool
    int8: bool
    threads: int
    lanes: int
    # floats of the widest register that is used: 16, 8 or 4
    avx2: bool
    vnni: bool
    shifted: bool
    # whether int8 weights have sums behind them: VNNI that multiplies unsigned by signed (avx512_vnni, avx_vnni)
    half: bool
    # whether the processor converts fp16 (f16c)
    l2_bytes: int
    cores: int
    # physical
    widest: int
    # elements side by side in a packed blob, at most
    arm: bool = False
    fp16: bool = False
    # whether blobs are fp16 (Arm with asimdhp)
    arithmetic: bool = False
    # whether it computes in fp16, too

    def shift(self, m: int, k: int) -> int:
        """Bytes that stand behind each row of a tile of int8 weights, as many rows as there may be at once."""
        if not self.shifted or k < 4:
            return 0
        return 4 * next(step for step in (16, 8, 4, 2, 1) if m >= step)

    def pack(self, channels: int) -> int:
        """How many of `channels` stand side by side in a packed blob."""
        if not self.packing:
            return 1
        return next(pack for pack in (16, 8, 4, 1) if pack <= self.widest and channels % pack == 0)


def options_of(settings: Mapping[str, Value], processor: Processor) -> Options:
    """The settings and the processor as the rules want them.

    Raises:
        UsageError: a setting or a processor for which there are no rules.
    """
    unknown = sorted(set(settings) - set(DEFAULTS) - set(FIXED) - set(PROCESS))
    if unknown:
        raise UsageError(f"the profile of ncnn knows no setting {unknown[0]!r}", expected=", ".join(DEFAULTS))
    for name, value in FIXED.items():
        if settings.get(name, value) != value:
            raise UsageError(f"the profile of ncnn does not model {name}={settings[name]}", expected=f"{name}={value}")
    arm = processor.architecture in ("aarch64", "arm64")
    if not arm and processor.architecture not in ("x86_64", "amd64"):
        raise UsageError(
            f"the profile of ncnn has no rules for {processor.architecture}",
            expected="a processor of x86_64 or aarch64",
        )
    chosen = {**DEFAULTS, **settings}
    threads = int(chosen["threads"])
    if threads < 1:
        raise UsageError(f"{threads} threads", expected="1 or more")
    features = processor.features
    fp16 = arm and "asimdhp" in features and bool(chosen["fp16_storage"])
    arithmetic = fp16 and bool(chosen["fp16_arithmetic"])
    lanes = 4 if arm else 16 if features >= AVX512 else 8 if "avx" in features else 4
    return Options(
        light=bool(chosen["lightmode"]),
        fp16_storage=bool(chosen["fp16_storage"]),
        bf16_storage=bool(chosen["bf16_storage"]) or fp16,
        winograd=bool(chosen["winograd"]),
        winograd23=bool(chosen["winograd23"]),
        winograd43=bool(chosen["winograd43"]),
        winograd63=bool(chosen["winograd63"]),
        sgemm=bool(chosen["sgemm"]),
        packing=bool(chosen["packing"]),
        pools=bool(chosen["pool_allocator"]),
        mapped=bool(chosen["mapped_model"]),
        int8=bool(chosen["int8_inference"]),
        threads=threads,
        lanes=lanes,
        avx2="avx2" in features,
        vnni=bool(features & VNNI),
        shifted=bool(features & VNNI) and "avx_vnni_int8" not in features,
        half=arm or ("f16c" in features and lanes > 4),
        l2_bytes=processor.l2_bytes,
        cores=max(1, processor.cores),
        widest=8 if arithmetic else lanes,
        arm=arm,
        fp16=fp16,
        arithmetic=arithmetic,
    )
