"""safetensors: eight bytes, a JSON header padded to eight, the tensors without gaps.

The order is the library's: widest dtype first, then by name (safetensors 0.8.0, `prepare` in tensor.rs); it decides
the digits of the offsets. Metadata is written only where the caller of the library gives some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from peakmem.dtypes import DType
from peakmem.errors import UsageError
from peakmem.filesize.bits import padding
from peakmem.filesize.content import Stored
from peakmem.filesize.sheet import Sheet

LENGTH = 8
# bytes that say how long the header is, and to a multiple of which it is padded
NAMES: Mapping[str, str] = {
    "bool": "BOOL", "float4e2m1": "F4", "float6e2m3": "F6_E2M3", "float6e3m2": "F6_E3M2", "uint8": "U8", "int8": "I8",
    "float8e5m2": "F8_E5M2", "float8e4m3fn": "F8_E4M3", "float8e8m0": "F8_E8M0",
    "float8e4m3fnuz": "F8_E4M3FNUZ", "float8e5m2fnuz": "F8_E5M2FNUZ",
    "int16": "I16", "uint16": "U16", "float16": "F16", "bfloat16": "BF16",
    "int32": "I32", "uint32": "U32", "float32": "F32", "complex64": "C64", "float64": "F64", "int64": "I64",
    "uint64": "U64",
}  # fmt: skip
# as the header spells them, in the order of the library's Dtype
_RANK = {name: position for position, name in enumerate(NAMES)}


def sheet(stored: Sequence[Stored], metadata: Mapping[str, str] | None = None) -> Sheet:
    """The file that `safetensors.serialize` makes of `stored`.

    Raises:
        UsageError: a dtype that the format has no name for.
    """
    kept = [_packed(one) for one in stored]
    for one in kept:
        if one.dtype.name not in NAMES:
            raise UsageError(
                f"safetensors has no tensors of {one.dtype}", where=one.name, expected=", ".join(NAMES),
                hint="--format gguf" if one.dtype.block > 1 else "--dtype int8",
            )  # fmt: skip
    kept.sort(key=lambda one: (-_RANK[one.dtype.name], one.name.encode()))
    header = header_length(kept, metadata)
    gap = padding(header, LENGTH)
    return Sheet("safetensors", tuple(kept), {"names and shapes": header, "header": LENGTH, "padding": gap})


def header_length(kept: Sequence[Stored], metadata: Mapping[str, str] | None) -> int:
    """Bytes of the JSON header before it is padded."""
    entries: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for one in kept:
        entries[one.name] = {
            "dtype": NAMES[one.dtype.name], "shape": list(one.shape), "data_offsets": [at, at + one.nbytes],
        }  # fmt: skip
        at += one.nbytes
    return len(json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode())


def _packed(one: Stored) -> Stored:
    """Four-bit integers as bytes with two in each, which the format has no dtype for."""
    from dataclasses import replace

    from peakmem.dtypes import UINT8

    if one.dtype.kind not in ("int", "uint") or (one.dtype.bits or 8) >= 8:
        return one
    packed = one.nbytes
    shape = (*one.shape[:-1], one.shape[-1] * (one.dtype.bits or 8) // 8) if _whole(one) else (packed,)
    return replace(one, dtype=UINT8, shape=shape, elements=packed)


def _whole(one: Stored) -> bool:
    """Whether the last dimension is whole bytes."""
    return bool(one.shape) and one.shape[-1] * (one.dtype.bits or 8) % 8 == 0


def writable(dtype: DType) -> bool:
    """Whether floating tensors can be stored at `dtype`."""
    return dtype.name in NAMES or (dtype.kind in ("int", "uint") and (dtype.bits or 0) in (2, 4))
