"""The .bin file beside an ncnn param file: where each weight lies in it and how it is stored.

Four bytes in front of each weight say how it is stored; nothing else is read. The sizes come from
the layers, so that a file which is not theirs is found out by its length.
Source: `ModelBinFromDataReader::load` in ncnn's `src/modelbin.cpp` (2026-07).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peakmem.dtypes import FLOAT16, FLOAT32, INT8, UINT8, DType
from peakmem.errors import FormatError
from peakmem.frontends.ncnn.weights import Weight

_HALF, _INT8, _RAW = 0x01306B47, 0x000D4B38, 0x0002C056
TABLE_BYTES = 1024
# 256 float32 values that the bytes of a weight point into


@dataclass(frozen=True, slots=True)
class Stored:
    """How one weight lies in the file."""

    dtype: DType
    nbytes: int
    # in the file, with its tag and what fills it up to 4 bytes
    table: bool = False


def expected_bytes(weight: Weight) -> int:
    """Bytes of a weight in a .bin file as ncnn's tools write it."""
    if weight.packed:
        return _aligned(weight.packed)
    return (4 + _aligned(weight.dtype.nbytes(weight.count) or 0)) if weight.tagged else 4 * weight.count


def beside(path: Path) -> Path | None:
    """The .bin file that belongs to the param file at `path`, if it is there."""
    name = path.name
    for suffix in (".param.bin", ".param"):
        if name.lower().endswith(suffix):
            found = path.with_name(name[: -len(suffix)] + ".bin")
            return found if found.is_file() and found != path else None
    return None


def walk(path: Path, layers: Sequence[tuple[str, Sequence[Weight]]]) -> list[list[Stored]]:
    """How the weights of each layer (name, weights) lie in the file at `path`.

    Raises:
        FormatError: the file ends before or after the weights do.
    """
    size = path.stat().st_size
    found: list[list[Stored]] = []
    at = 0
    with path.open("rb") as file:
        for name, weights in layers:
            row = []
            for weight in weights:
                tag = b"\0\0\0\0"
                if weight.tagged and at + 4 <= size:
                    file.seek(at)
                    tag = file.read(4)
                stored = _stored(weight, tag)
                if at + stored.nbytes > size:
                    raise FormatError(
                        f"layer {name!r} needs {stored.nbytes:,} bytes from byte {at:,} for its {weight.name}, "
                        f"the file has {size:,} bytes",
                        where=str(path),
                        expected="the .bin file that belongs to the .param file",
                    )
                at += stored.nbytes
                row.append(stored)
            found.append(row)
    if at != size:
        raise FormatError(
            f"the layers need {at:,} bytes, the file has {size:,}",
            where=str(path),
            expected="the .bin file that belongs to the .param file",
        )
    return found


def _stored(weight: Weight, tag: bytes) -> Stored:
    if not weight.tagged:
        return Stored(FLOAT32, 4 * weight.count)
    number = int.from_bytes(tag, "little")
    if weight.packed:
        # Until the summer of 2026 such a weight had the tag of bytes, since then it has none.
        return Stored(weight.dtype, _aligned(weight.packed) + (4 if number == _INT8 else 0))
    if number == _HALF:
        return Stored(FLOAT16, 4 + _aligned(2 * weight.count))
    if number == _INT8:
        return Stored(INT8, 4 + _aligned(weight.count))
    if number == _RAW or not any(tag):
        return Stored(FLOAT32, 4 + 4 * weight.count)
    return Stored(UINT8, 4 + TABLE_BYTES + _aligned(weight.count), table=True)


def _aligned(size: int) -> int:
    return (size + 3) // 4 * 4
