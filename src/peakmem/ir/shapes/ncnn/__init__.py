"""ncnn layers: shapes as ncnn computes them; a blob has no batch, (w), (h, w), (c, h, w) or (c, d, h, w)."""

from __future__ import annotations

import peakmem.ir.shapes.ncnn.elementwise
import peakmem.ir.shapes.ncnn.movement
import peakmem.ir.shapes.ncnn.sequences
import peakmem.ir.shapes.ncnn.vision
import peakmem.ir.shapes.ncnn.windows  # noqa: F401 - importing a family registers its rules
