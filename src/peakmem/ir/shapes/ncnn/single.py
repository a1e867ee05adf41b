"""A size times a scale as ncnn multiplies: in single precision, then cut to a whole number."""

from __future__ import annotations

import math
import struct

from peakmem.ir.dims import Dim
from peakmem.ir.shapes.call import Call
from peakmem.ir.shapes.ncnn.blob import number


def single(value: float) -> float:
    """`value` rounded to float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def scaled(call: Call, size: Dim, scale: float) -> Dim:
    """int(size × scale)."""
    if scale == int(scale) if math.isfinite(scale) else False:
        return size * int(scale)
    try:
        return int(single(float(number(size)) * single(scale)))
    except (OverflowError, ValueError, struct.error) as fault:
        raise call.error(f"a scale of {scale}") from fault
