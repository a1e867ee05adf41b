"""ncnn: layer type names; inputs are the bottoms, then the weights in the order of the .bin file."""

from __future__ import annotations

from peakmem.ir.kinds.domain import DomainKinds

KINDS = DomainKinds("ncnn")
