"""A prediction of one engine: bytes by category at load, during the first run and in steady state.

All bytes are heap above the mark "import" of a measurement (the engine loaded, no model) unless a category says
otherwise, so that they stand beside the allocation counter's. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from peakmem.ir.graph import Graph

Category = Literal[
    "file",
    # the model file, read into memory or mapped
    "weights",
    # as stored, held by the engine
    "repacked weights",
    # transformed, tiled, converted or padded copies
    "inputs and outputs",
    "activations",
    # as the engine's own planner places them
    "workspace",
    # what an operator needs only while it runs
    "pools",
    # taken from the system and not in use: arenas, pools that keep what comes back
    "state",
    # variable tensors
    "objects",
    # the engine's own structures: operators, tensors, lists
    "allocator",
    # rounding and headers
]
CATEGORIES: tuple[Category, ...] = get_args(Category)
Kind = Literal["estimate", "lower bound"]
# lower bound: what is known to be held; the engine holds more, by the band measured for it
Phase = Literal["load", "run 1", "steady"]
PHASES: tuple[Phase, ...] = ("load", "run 1", "steady")
Value = bool | int | str


@dataclass(frozen=True, slots=True)
class Holding:
    """Bytes of one category."""

    category: Category
    nbytes: int
    what: str = ""
    # one line: which weights, which rule


@dataclass(frozen=True, slots=True)
class Moment:
    """What is held at the end of a phase, and at its worst."""

    phase: Phase
    live: tuple[Holding, ...]
    # at its end
    peak: tuple[Holding, ...]
    # at the phase's highest point; sums to peak_bytes
    peak_at: str = ""
    # the operator, or the step of loading, of the highest point
    outside: tuple[Holding, ...] = ()
    # resident at its end and not on the heap: a mapped model file, mappings that the engine makes itself

    @property
    def live_bytes(self) -> int:
        """All that is held at the end."""
        return sum(one.nbytes for one in self.live)

    @property
    def peak_bytes(self) -> int:
        """All that is held at the highest point."""
        return sum(one.nbytes for one in self.peak)


@dataclass(frozen=True, slots=True)
class Unmodelled:
    """Something the profile has no rule for; it widens the band."""

    what: str
    # an operator with its type, a setting with its value
    reason: str
    nbytes: int = 0
    # what the prediction may lack for it, at most as far as one can tell: its weights and outputs; 0 where nobody knows


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one engine will hold with one choice of settings."""

    engine: str
    verified: str
    # the versions whose rules were read and measured: "1.0.20261020"
    settings: Mapping[str, Value]
    moments: tuple[Moment, ...]
    # one for each of PHASES, in their order
    unmodelled: tuple[Unmodelled, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, int] | None = None
    # the engine's own figures that an oracle gives, too: "head", "tail", "planned bytes", "arena extents"
    kind: Kind = "estimate"


@dataclass(frozen=True, slots=True)
class Processor:
    """What engines look at; settable, so that a laptop can predict a phone."""

    architecture: str = "x86_64"
    # or aarch64
    features: frozenset[str] = frozenset()
    # as /proc/cpuinfo names them: avx2, fma, f16c, avx512f, avx512_bf16, asimdhp …
    l1_data_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024
    l3_bytes: int = 0
    cores: int = 1
    # physical


class Profile(Protocol):
    """How one engine allocates."""

    name: str
    # of the engine, as in `peakmem.measuring`
    reads: tuple[str, ...]
    # kinds of file whose graph it understands, the first preferred, as in `peakmem.conversion`: "onnx", "ncnn"

    def predict(self, graph: Graph, settings: Mapping[str, Value], processor: Processor) -> Prediction:
        """What the engine holds with `graph`, all dimensions bound.

        Raises:
            UsageError: a setting with a value that the profile does not model.
            GraphError: a graph that the engine would reject, with its reason.
        """
        ...
