"""TensorFlow Lite: BuiltinOperator names."""

from __future__ import annotations

from peakmem.ir.kinds.domain import DomainKinds

KINDS = DomainKinds("tflite")
