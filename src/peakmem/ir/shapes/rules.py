"""Where the rules are: the common families at once, the others when an operator asks for one.

Most networks need the common families alone, and importing the rest takes longer than analysing
such a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from peakmem.ir.shapes.call import RULES, Rule

COMMON = ("elementwise", "indexing", "making", "movement", "neural", "products", "slicing", "windows")
DOMAINS = ("keras", "mnn", "ncnn", "peakmem", "tflite")
# domains of other formats; the rules of each are one family of that name
DECLARED = ("aten", "pnnx")
# domains without rules: what the source declares is exact, and follows the sizes it is made of
RARE = ("attention", "classical", "microsoft", "quantized", "resize", "signal", "strings", "vision")

_loaded: set[str] = set()


def _load(*families: str) -> None:
    for family in families:
        if family not in _loaded:
            import_module(f"peakmem.ir.shapes.{family}")
            _loaded.add(family)


def is_foreign(domain: str) -> bool:
    """Whether a domain belongs to another format, of which ONNX knows nothing."""
    return domain.partition(".")[0] in (*DOMAINS, *DECLARED)


def find_rule(key: str) -> Rule | None:
    """The rule for an operator, `OpType` or `domain:OpType`; None when there is none."""
    domain, mark, _ = key.partition(":")
    if mark and domain in DECLARED:
        return None
    family = domain.partition(".")[0]  # tflite.custom stands with tflite
    if mark and family in DOMAINS:
        _load(family)
        return RULES.get(key)
    found = RULES.get(key)
    if found is None:
        _load(*COMMON)
        found = RULES.get(key)
    if found is None:
        _load(*RARE)
        found = RULES.get(key)
    return found


def all_rules() -> Mapping[str, Rule]:
    """Every rule, by operator."""
    _load(*COMMON, *RARE, *DOMAINS)
    return RULES
