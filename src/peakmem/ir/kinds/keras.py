"""Keras 3: layer class names; inputs are the layer's, then its weights."""

from __future__ import annotations

from peakmem.ir.kinds.domain import DomainKinds

KINDS = DomainKinds("keras")
