"""Profile of TensorFlow Lite for Microcontrollers: what its arena holds, and what the process holds beside it."""

from __future__ import annotations

