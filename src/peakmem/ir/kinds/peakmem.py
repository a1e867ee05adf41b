"""Operators that only the front ends of peakmem write down."""

from __future__ import annotations

from peakmem.ir.kinds.domain import DomainKinds

KINDS = DomainKinds("peakmem")
