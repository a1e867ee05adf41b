"""Element types and how many bits each takes in memory.

Sub-byte types are packed per tensor: a tensor of 3 int4 elements takes 2 bytes.
Nothing here reads data; a dtype is a name, a width and a kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from peakmem.errors import UsageError

Kind = Literal["float", "int", "uint", "bool", "complex", "string"]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type."""

    name: str
    bits: int | None
    # width of one element; None when elements have no fixed width (strings, blocks)
    kind: Kind
    block: int = 1
    # elements that are stored together, with scales of their own
    block_bytes: int = 0

    def fits(self, row: int) -> bool:
        """Whether a row of a matrix is whole blocks; 0 stands for what is no matrix. Anything fits without blocks."""
        return self.block == 1 or (row > 0 and row % self.block == 0)

    def nbytes(self, count: int) -> int | None:
        """Bytes of `count` packed elements, rounded up to whole bytes or blocks; None for strings."""
        if self.block > 1:
            return -(-count // self.block) * self.block_bytes
        return None if self.bits is None else (count * self.bits + 7) // 8

    def __str__(self) -> str:
        return self.name


FLOAT64 = DType("float64", 64, "float")
FLOAT32 = DType("float32", 32, "float")
FLOAT16 = DType("float16", 16, "float")
BFLOAT16 = DType("bfloat16", 16, "float")
FLOAT8E4M3FN = DType("float8e4m3fn", 8, "float")
FLOAT8E4M3FNUZ = DType("float8e4m3fnuz", 8, "float")
FLOAT8E5M2 = DType("float8e5m2", 8, "float")
FLOAT8E5M2FNUZ = DType("float8e5m2fnuz", 8, "float")
FLOAT8E8M0 = DType("float8e8m0", 8, "float")
FLOAT4E2M1 = DType("float4e2m1", 4, "float")
FLOAT6E2M3 = DType("float6e2m3", 6, "float")
FLOAT6E3M2 = DType("float6e3m2", 6, "float")
INT64 = DType("int64", 64, "int")
INT32 = DType("int32", 32, "int")
INT16 = DType("int16", 16, "int")
INT8 = DType("int8", 8, "int")
INT4 = DType("int4", 4, "int")
INT2 = DType("int2", 2, "int")
UINT64 = DType("uint64", 64, "uint")
UINT32 = DType("uint32", 32, "uint")
UINT16 = DType("uint16", 16, "uint")
UINT8 = DType("uint8", 8, "uint")
UINT4 = DType("uint4", 4, "uint")
UINT2 = DType("uint2", 2, "uint")
BOOL = DType("bool", 8, "bool")
COMPLEX64 = DType("complex64", 64, "complex")
COMPLEX128 = DType("complex128", 128, "complex")
STRING = DType("string", None, "string")

DTYPES: Mapping[str, DType] = {
    dtype.name: dtype
    for dtype in (
        FLOAT64, FLOAT32, FLOAT16, BFLOAT16,
        FLOAT8E4M3FN, FLOAT8E4M3FNUZ, FLOAT8E5M2, FLOAT8E5M2FNUZ, FLOAT8E8M0, FLOAT4E2M1,
        FLOAT6E2M3, FLOAT6E3M2,
        INT64, INT32, INT16, INT8, INT4, INT2,
        UINT64, UINT32, UINT16, UINT8, UINT4, UINT2,
        BOOL, COMPLEX64, COMPLEX128, STRING,
    )
}  # fmt: skip

BLOCK_DTYPES: Mapping[str, DType] = {
    name: DType(name, None, "float", block, block_bytes)
    for name, block, block_bytes in (
        ("q1_0", 128, 18), ("q2_0", 64, 18),
        ("q4_0", 32, 18), ("q4_1", 32, 20), ("q5_0", 32, 22), ("q5_1", 32, 24), ("q8_0", 32, 34), ("q8_1", 32, 36),
        ("q2_k", 256, 84), ("q3_k", 256, 110), ("q4_k", 256, 144), ("q5_k", 256, 176), ("q6_k", 256, 210),
        ("q8_k", 256, 292),
        ("iq1_s", 256, 50), ("iq1_m", 256, 56), ("iq2_xxs", 256, 66), ("iq2_xs", 256, 74), ("iq2_s", 256, 82),
        ("iq3_xxs", 256, 98), ("iq3_s", 256, 110), ("iq4_xs", 256, 136), ("iq4_nl", 32, 18),
        ("tq1_0", 256, 54), ("tq2_0", 256, 66),
        ("mxfp4", 32, 17), ("nvfp4", 64, 36),
    )
}  # fmt: skip
# ggml's block formats: elements of a row and the bytes they take together, scales included
# (the structs of ggml-common.h, held there by static_assert; revision d99724f2)

ALIASES: Mapping[str, DType] = {
    "fp64": FLOAT64, "f64": FLOAT64, "double": FLOAT64,
    "fp32": FLOAT32, "f32": FLOAT32, "float": FLOAT32, "tf32": FLOAT32,
    "fp16": FLOAT16, "f16": FLOAT16, "half": FLOAT16,
    "bf16": BFLOAT16,
    "fp8": FLOAT8E4M3FN, "fp8_e4m3": FLOAT8E4M3FN, "fp8_e5m2": FLOAT8E5M2,
    "fp4": FLOAT4E2M1,
    "i64": INT64, "i32": INT32, "i16": INT16, "i8": INT8, "i4": INT4,
    "u64": UINT64, "u32": UINT32, "u16": UINT16, "u8": UINT8, "u4": UINT4,
}  # fmt: skip


def parse_dtype(text: str) -> DType:
    """The dtype called `text` ("float32", "fp32", "int4", "q4_k", …).

    Raises:
        UsageError: no dtype has that name.
    """
    key = text.strip().lower()
    found = DTYPES.get(key) or ALIASES.get(key) or BLOCK_DTYPES.get(key)
    if found is None:
        known = ", ".join((*DTYPES, *BLOCK_DTYPES))
        raise UsageError(f"no dtype is called {text!r}", expected=f"one of {known}", hint="--dtype int8")
    return found
