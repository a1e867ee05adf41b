"""Tiles of XNNPACK's microkernels, by what the processor can.

From src/configs/gemm-config.c, dwconv-config.c, vmulcaddc-config.c and hardware-config.c of XNNPACK 75db3c0
(2026-08-21), 64-bit x86 and AArch64 without KleidiAI's SME kernels. Each list is in the order in which XNNPACK asks:
the first that the processor has is taken. Measured on AMD Zen 5; AArch64 and other x86 levels are read, not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from peakmem.engines.prediction import Processor

ALIGNMENT: Mapping[str, int] = {"x86_64": 64, "aarch64": 16}
# XNN_ALLOCATION_ALIGNMENT
EXTRA = 16
# XNN_EXTRA_BYTES

LEVELS = (
    "sse", "sse2", "ssse3", "sse4_1", "avx", "f16c", "fma3", "avx2", "avx256skx", "avx512f", "avx512skx", "avx512vbmi",
    "avx512fp16", "avx512bf16", "avxvnni", "avxvnniint8", "avx256vnni", "avx256vnnigfni", "avx512vnni",
    "avx512vnnigfni", "avx512amx",
)  # fmt: skip
# xnn_arch_flags of x86, later better


@dataclass(frozen=True, slots=True)
class Gemm:
    """A kernel for products: a tile of `rows[-1]` by `nr`, weights in groups of kr · sr."""

    level: str
    # what the processor must have; empty for always
    nr: int
    kr: int = 1
    sr: int = 1
    rows: tuple[int, ...] = (1,)
    # heights that indirect products (convolutions) have
    planes: int = 1
    # of weights below a byte
    mr: int = 0
    # height of plain products, where it is another

    @property
    def most(self) -> int:
        return self.rows[-1]

    @property
    def height(self) -> int:
        return self.mr or self.rows[-1]


GEMM: Mapping[str, tuple[Gemm, ...]] = {
    "f32 gemm": (
        Gemm("avx512f", 32, rows=(1, 7)), Gemm("fma3", 16, rows=(1, 2, 6)), Gemm("avx", 16, rows=(1, 5)),
        Gemm("sse2", 8, rows=(1, 4)),
    ),
    "f32 igemm": (
        Gemm("avx512f", 32, rows=(1, 7)), Gemm("fma3", 16, rows=(1, 5)), Gemm("avx", 16, rows=(1, 5)),
        Gemm("sse2", 8, rows=(1, 4)),
    ),
    "f32 nr2": (
        Gemm("avx512f", 16, rows=(1, 7)), Gemm("fma3", 8, rows=(1, 5, 10)), Gemm("avx", 8, rows=(1, 5)),
        Gemm("sse2", 2, 4, rows=(4,)),
    ),
    "f32-qc4w": (
        Gemm("avx512skx", 32, rows=(1, 7)), Gemm("avx2", 16, rows=(1, 3)), Gemm("fma3", 16, rows=(1, 3)),
        Gemm("avx", 16, rows=(1, 3)), Gemm("", 8, rows=(1, 4)),
    ),
    "f32-qc8w": (
        Gemm("avx512skx", 32, rows=(1, 7)), Gemm("avx2", 16, rows=(1, 5)), Gemm("fma3", 16, rows=(1, 5)),
        Gemm("avx", 16, rows=(1, 5)), Gemm("", 8, rows=(1, 4)),
    ),
    "f16": (
        Gemm("avx512fp16", 32, rows=(1, 8)), Gemm("avx512skx", 32, rows=(1, 4)), Gemm("avx2", 16, rows=(1, 4)),
    ),
    "bf16-f32": (Gemm("avx512bf16", 32, 2, rows=(1, 11)),),
    "qs8-qc8w": (
        Gemm("avx512amx", 64, 4, rows=(1, 16)), Gemm("avx512vnni", 16, 8, rows=(1, 7)),
        Gemm("avxvnni", 8, 8, rows=(1, 5)), Gemm("avx512skx", 16, 8, rows=(1, 7)),
        Gemm("avx256skx", 8, 8, rows=(1, 4)), Gemm("avx2", 8, 8, rows=(1, 3)), Gemm("avx", 4, 8, rows=(1, 2)),
        Gemm("", 4, 8, rows=(1, 3)),
    ),
    "qs8-qc4w": (
        Gemm("avx512vnnigfni", 16, 8, rows=(1, 7), planes=2), Gemm("avx512vnni", 16, 8, rows=(1, 8)),
        Gemm("avx256vnni", 8, 8, rows=(1, 7), planes=2), Gemm("avxvnni", 8, 8, rows=(1, 5), planes=2),
        Gemm("avx512skx", 16, 8, rows=(1, 7), planes=2), Gemm("avx256skx", 8, 8, rows=(1, 7), planes=2),
        Gemm("avx2", 8, 8, rows=(1, 7), planes=2), Gemm("avx", 4, 8, rows=(1, 5), planes=2),
        Gemm("ssse3", 4, 8, rows=(1, 5), planes=2), Gemm("", 4, rows=(1, 3)),
    ),
    "qu8": (
        Gemm("avx512skx", 16, 8, rows=(1, 7)), Gemm("avx2", 8, 8, rows=(1, 3)), Gemm("avx", 4, 8, rows=(1, 2)),
        Gemm("", 4, 8, rows=(1, 3)),
    ),
    "qd8-f32-qc8w": (
        Gemm("avx512amx", 64, 4, rows=(1, 16)), Gemm("avx512skx", 16, 8, rows=(1, 8)),
        Gemm("avx256skx", 8, 8, rows=(1, 8)), Gemm("avx2", 8, 8, rows=(1, 4)), Gemm("sse4_1", 4, 8, rows=(1, 4)),
        Gemm("sse2", 4, 8, rows=(1, 4)),
    ),
    "qdu8-f32-qc8w gemm": (Gemm("avx512vnni", 64, 4, rows=(1, 5)), Gemm("avxvnni", 8, 8, rows=(1, 5))),
    "qdu8-f32-qc8w igemm": (Gemm("avx512vnni", 16, 8, rows=(1, 10)), Gemm("avxvnni", 8, 8, rows=(1, 5))),
    "qd8-f32-qc4w": (
        Gemm("avx512amx", 64, 4, rows=(1, 16), planes=2), Gemm("sse2", 4, 8, rows=(1, 4), planes=2),
    ),
    "qdu8-f32-qc4w": (
        Gemm("avx512vnni", 16, 8, rows=(1, 8), planes=2), Gemm("avxvnni", 8, 8, rows=(1, 5), planes=2),
        Gemm("avx512skx", 16, 8, rows=(1, 8), planes=2), Gemm("avx256skx", 8, 8, rows=(1, 8), planes=2),
        Gemm("avx2", 8, 8, rows=(1, 4), planes=2), Gemm("ssse3", 4, 8, rows=(1, 5), planes=2),
    ),
    "qd8-f32-qb4w": (
        Gemm("avx2", 8, 8, rows=(1, 3), planes=2), Gemm("avx", 4, 8, rows=(1, 4)), Gemm("sse4_1", 4, 8, rows=(1, 3)),
        Gemm("", 4, 8, rows=(1, 4)),
    ),
    "qdu8-f32-qb4w": (Gemm("avx512vnni", 16, 8, rows=(1, 8), planes=2),),
    "qd8-f16-qc8w": (
        Gemm("avx512amx", 64, 4, rows=(1, 16)), Gemm("avx256skx", 8, 8, rows=(1, 5)), Gemm("avx2", 8, 8, rows=(1, 3)),
    ),
    "qdu8-f16-qc8w": (Gemm("avx256vnni", 8, 8, rows=(1, 8)), Gemm("avxvnni", 8, 8, rows=(1, 5))),
}  # fmt: skip

ARM: Mapping[str, tuple[Gemm, ...]] = {
    "f32 gemm": (Gemm("", 8, rows=(1, 4, 7)),),
    "f32 igemm": (Gemm("", 8, rows=(1, 4, 6)),),
    "f32 nr2": (Gemm("", 2, rows=(4,)),),
    "f16": (Gemm("asimdhp", 16, rows=(1, 6)),),
    "qs8-qc8w": (
        Gemm("i8mm", 16, 8, rows=(1, 4)), Gemm("asimddp", 16, 4, rows=(1, 4)), Gemm("", 8, 8, rows=(1, 2)),
    ),
    "qu8": (Gemm("", 16, rows=(1, 4)),),
    "qd8-f32-qc8w": (
        Gemm("i8mm", 16, 8, rows=(1, 4)), Gemm("asimddp", 16, 4, rows=(1, 4)), Gemm("", 8, 2, 4, rows=(1, 2)),
    ),
}  # fmt: skip
# cores that XNNPACK does not know by name; those that it knows differ in heights, Cortex-X4 and Oryon take 16 columns

DEPTHWISE: Mapping[str, tuple[tuple[str, tuple[tuple[int, int], ...]], ...]] = {
    "f32": (
        ("avx", ((3, 16), (4, 16), (9, 16), (25, 16))), ("sse", ((3, 8), (4, 8), (9, 8), (25, 8))),
    ),
    "f16": (
        ("avx512fp16", ((3, 32), (4, 32), (9, 32), (25, 32))), ("fma3", ((3, 16), (4, 16), (9, 16), (25, 8))),
    ),
    "qs8-qc8w": (
        ("avx512skx", ((3, 32), (9, 32), (25, 32))), ("avx", ((3, 16), (9, 16), (25, 16))),
        ("", ((3, 8), (9, 8), (25, 8))),
    ),
    "qu8": (("avx512skx", ((9, 32), (25, 32))), ("avx", ((9, 16), (25, 16))), ("", ((9, 8), (25, 8)))),
}  # fmt: skip
# (kernel positions, channels) of each kernel
ARM_DEPTHWISE: Mapping[str, tuple[tuple[str, tuple[tuple[int, int], ...]], ...]] = {
    "f32": (("", ((3, 8), (4, 8), (9, 8), (25, 8))),),
    "f16": (("asimdhp", ((3, 16), (4, 16), (9, 16), (25, 8))),),
    "qs8-qc8w": (("", ((3, 16), (9, 16), (25, 16))),),
    "qu8": (("", ((9, 16), (25, 8))),),
}
MULTIPLY_ADD: Mapping[str, int] = {"f32": 4, "f16": 8}
# channels of vmulcaddc, on both


@cache
def levels(processor: Processor) -> frozenset[str]:
    """xnn_arch_flags (init_hardware_config); of AArch64 the names in /proc/cpuinfo."""
    has = processor.features
    if processor.architecture != "x86_64":
        return has
    skx = {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= has
    vnni = skx and "avx512_vnni" in has
    found = {
        "sse": True, "sse2": True, "ssse3": "ssse3" in has, "sse4_1": "sse4_1" in has, "avx": "avx" in has,
        "f16c": "f16c" in has, "fma3": "fma" in has, "avx2": "avx2" in has, "avx256skx": skx,
        "avx512f": "avx512f" in has,
        "avx512skx": skx, "avx512vbmi": skx and "avx512vbmi" in has, "avx512fp16": "avx512_fp16" in has,
        "avx512bf16": "avx512_bf16" in has, "avxvnni": {"avx2", "avx_vnni", "gfni"} <= has,
        "avxvnniint8": {"avx2", "avx_vnni_int8", "gfni"} <= has, "avx256vnni": vnni,
        "avx256vnnigfni": vnni and "gfni" in has, "avx512vnni": vnni, "avx512vnnigfni": vnni and "gfni" in has,
        "avx512amx": vnni and "gfni" in has and "amx_int8" in has,
    }  # fmt: skip
    return frozenset(name for name, there in found.items() if there)


def gemm(kind: str, processor: Processor) -> Gemm | None:
    """The kernel for `kind` of product; None where there is none."""
    table = GEMM if processor.architecture == "x86_64" else ARM
    has = levels(processor)
    return next((one for one in table.get(kind, ()) if not one.level or one.level in has), None)


def better(one: Gemm, other: Gemm) -> bool:
    """Whether `one` is of a later level than `other` (convert_gemm_to_qduint8)."""
    return _rank(one.level) > _rank(other.level)


def _rank(level: str) -> int:
    return LEVELS.index(level) if level in LEVELS else -1


def depthwise(kind: str, positions: int, processor: Processor) -> tuple[int, int] | None:
    """(positions, channels) of the smallest kernel that holds `positions` (find_dwconv_ukernel)."""
    table = DEPTHWISE if processor.architecture == "x86_64" else ARM_DEPTHWISE
    has = levels(processor)
    tiles = next((tiles for level, tiles in table.get(kind, ()) if not level or level in has), ())
    return min((one for one in tiles if one[0] >= positions), default=None)


def height(kernel: Gemm, rows: int, available: Sequence[int]) -> int:
    """How many rows a tile takes of `rows` (xnn_get_heuristic_mr_igemm)."""
    if not rows:
        return available[-1]
    if rows <= available[-1] and rows in available:
        return rows
    costs = [(-(-rows // mr) * (3 * (mr + kernel.nr) + mr * kernel.nr), -mr) for mr in available]
    return -min(costs)[1]


def few_columns(nr: int, nr2: int, columns: int) -> bool:
    """xnn_use_nr2: whether the narrower kernel wastes less."""
    waste, waste2 = -columns % nr, -columns % nr2
    return nr > columns or (waste2 < waste and waste * 100 > columns)
