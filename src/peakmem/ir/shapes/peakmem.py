"""Operators that only peakmem's own front ends write down."""

from __future__ import annotations
