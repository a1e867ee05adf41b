"""PyTorch: ATen operator names without overload."""

from __future__ import annotations

from peakmem.ir.kinds.domain import DomainKinds

KINDS = DomainKinds("aten")
