"""The shape of the table that a format brings when its operators are not ONNX's."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

Positions = Mapping[str, Collection[int]]


@dataclass(frozen=True, slots=True)
class DomainKinds:
    """What the operators of one domain are; keys are op types without the domain."""

    domain: str
    same: Mapping[str, str] = field(default_factory=dict)
    # op type here -> the op type of ONNX that reads the same inputs in the same places and means
    # the same for memory; nothing else is needed for it, but a layout where its kernel has another
    weights: Positions = field(default_factory=dict)
    biases: Positions = field(default_factory=dict)
    norm_affine: Positions = field(default_factory=dict)
    statistics: Positions = field(default_factory=dict)
    quantisation: Positions = field(default_factory=dict)
    # positions of inputs, for op types that are not in `same`
    layouts: Mapping[str, str] = field(default_factory=dict)
    # order of a kernel's axes: O output and I input channels (of one group), * the window,
    # M outputs per channel, 1 an axis that is always 1; see `kinds.kernel`
    convolutions: frozenset[str] = frozenset()
    products: frozenset[str] = frozenset()
    recurrent: frozenset[str] = frozenset()
    activations: frozenset[str] = frozenset()
    unary: frozenset[str] = frozenset()
    binary: frozenset[str] = frozenset()
    views: frozenset[str] = frozenset()
    # op types whose first output shares the bytes of the first input
    settings: frozenset[str] = frozenset()
    # op types whose inputs after the first only say how to work
    random: frozenset[str] = frozenset()
    loops: frozenset[str] = frozenset()
    # op types whose bodies run again and again on a state
