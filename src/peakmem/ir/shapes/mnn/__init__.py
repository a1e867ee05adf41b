"""MNN operators: shapes as MNN computes them; images are (batch, channels, height, width) whatever their layout."""

from __future__ import annotations

import peakmem.ir.shapes.mnn.contents
import peakmem.ir.shapes.mnn.elementwise
import peakmem.ir.shapes.mnn.movement
import peakmem.ir.shapes.mnn.windows  # noqa: F401 - importing a family registers its rules
