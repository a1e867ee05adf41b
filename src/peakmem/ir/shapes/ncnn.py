"""ncnn layers: shapes as ncnn computes them; a blob has no batch, (w), (h, w), (c, h, w) or (c, d, h, w)."""

from __future__ import annotations
