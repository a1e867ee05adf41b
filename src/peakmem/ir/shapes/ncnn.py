"""ncnn layers: shapes as ncnn computes them; a blob has no batch, (w), (h, w), (c, h, w) or (c, d, h, w)."""

from __future__ import annotations

import peakmem.ir.shapes.ncnn_elementwise
import peakmem.ir.shapes.ncnn_movement
import peakmem.ir.shapes.ncnn_sequences
import peakmem.ir.shapes.ncnn_vision
import peakmem.ir.shapes.ncnn_windows  # noqa: F401 - importing a family registers its rules
