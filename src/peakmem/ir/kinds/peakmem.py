"""Operators that only the front ends of peakmem write down.

`Linear` stores its matrix as output × input, `Conv1D` as input × output. A quantised layer reads
(x, weight, bias, then scales, zeros and the like). Experts read (rows, choices, then for each expert
its weight and `EXPERT_SIDES` tensors of quantisation data, "" where it has fewer).
"""

from __future__ import annotations

from peakmem.ir.kinds.domain import DomainKinds

MOST_EXPERT_INPUTS = 1 << 14
EXPERT_SIDES = 3
_EXPERTS = range(2, MOST_EXPERT_INPUTS)
_QUANTISED = range(2, MOST_EXPERT_INPUTS, 1 + EXPERT_SIDES)
_SIDES = frozenset(_EXPERTS) - frozenset(_QUANTISED)
_AFTER_BIAS = tuple(range(3, 12))

KINDS = DomainKinds(
    "peakmem",
    same={"Linear": "Gemm", "Conv1D": "Gemm"},
    weights={
        "QuantizedLinear": (1,), "Experts": _EXPERTS, "QuantizedExperts": _QUANTISED, "StackedExperts": (2,),
    },
    biases={"QuantizedLinear": (2,), "StackedExperts": (3,), "AddBias": (1,)},
    quantisation={"QuantizedLinear": _AFTER_BIAS, "QuantizedExperts": _SIDES, "StackedExperts": (4,)},
    layouts={
        "Linear": "OI", "Conv1D": "IO", "QuantizedLinear": "OI", "Experts": "OI", "QuantizedExperts": "OI",
        "StackedExperts": "*IO",
    },
    products=frozenset({"QuantizedLinear", "Experts", "QuantizedExperts", "StackedExperts"}),
    unary=frozenset({"Scale", "SoftCap"}),
    binary=frozenset({"AddBias"}),
    views=frozenset(
        {"SplitHeads", "JoinHeads", "ExpandHeads", "Part", "LastToken", "FirstToken", "Tokens", "DropSink"}
    ),
)  # fmt: skip
