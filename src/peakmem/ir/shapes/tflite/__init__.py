"""Shape rules of TensorFlow Lite's operators, as its kernels resize their outputs.

Channels are last. Dtypes are left to the file, which declares them for every tensor.
"""

from __future__ import annotations

from peakmem.ir.shapes.tflite import (
    contents,
    elementwise,
    making,
    movement,
    recurrent,
    reducing,
    slicing,
    stablehlo,
    windows,
)

__all__ = [
    "contents", "elementwise", "making", "movement", "recurrent", "reducing", "slicing", "stablehlo",
    "windows",
]  # fmt: skip
