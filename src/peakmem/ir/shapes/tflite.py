"""TensorFlow Lite operators, channels last."""

from __future__ import annotations
