"""The report of what grew between two states of a network: frozen data, nothing computed here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = "peakmem.growth/1"

Verdict = Literal["new", "gone", "grown", "shrunk", "moved"]
# moved: as many bytes, held elsewhere (weights there, activations here)


@dataclass(frozen=True, slots=True)
class OperatorSnapshot:
    """One operator, as far as a later comparison needs it."""

    name: str
    op_type: str
    kernel: str
    shape: str
    # of its first output
    dtype: str
    output_bytes: int
    weights_bytes: int
    # of all it reads and stores


@dataclass(frozen=True, slots=True)
class AliveSnapshot:
    """One tensor alive at the peak."""

    name: str
    made_by: str
    # the operator, empty for a graph input
    shape: str
    dtype: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """One stored tensor."""

    name: str
    role: str
    shape: str
    dtype: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What of an estimate is kept, so that the next one can be held against it."""

    name: str
    source: str
    format: str
    kind: str
    assume: str
    dtype: str
    inputs: tuple[str, ...]
    # "input 1x3x224x224 float32"
    peak_bytes: int
    peak_at: str
    subgraph_bytes: int
    weights_bytes: int
    state_bytes: int
    parameters: int
    file_bytes: int | None
    operators: tuple[OperatorSnapshot, ...]
    alive: tuple[AliveSnapshot, ...]
    stored: tuple[StoredSnapshot, ...] = ()
    # empty where they were not listed
    peakmem: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two states."""

    name: str
    source: str
    format: str
    kind: str
    assume: str
    dtype: str
    inputs: tuple[str, ...]
    operators: int
    peak_at: str
    peakmem: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of both states; None where it is not known."""

    name: str
    unit: str
    # "bytes" or "elements"
    a: int | None
    b: int | None

    @property
    def added(self) -> int | None:
        """How much B has more; negative where it has less."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True, slots=True)
class GrownOperator:
    """An operator whose bytes changed: what it stores, and what of its output is alive at the peak."""

    verdict: Verdict
    a: str
    b: str
    # names; "" where it is not there
    op_type: str
    shape_a: str
    shape_b: str
    weights_a: int
    weights_b: int
    peak_a: int
    peak_b: int

    @property
    def added_bytes(self) -> int:
        """Weights and bytes at the peak that it has more."""
        return self.weights_b - self.weights_a + self.peak_b - self.peak_a

    @property
    def name(self) -> str:
        """What it is called now, and before where that differs."""
        return self.b if self.a in ("", self.b) else f"{self.b} (was {self.a})" if self.b else self.a


@dataclass(frozen=True, slots=True)
class GrownTensor:
    """A tensor whose bytes changed."""

    verdict: Verdict
    where: Literal["stored", "at the peak"]
    a: str
    b: str
    role: str
    # of a stored tensor; of another the operator that makes it
    shape_a: str
    shape_b: str
    a_bytes: int
    b_bytes: int

    @property
    def added_bytes(self) -> int:
        """How much it has more."""
        return self.b_bytes - self.a_bytes


@dataclass(frozen=True, slots=True)
class Growth:
    """Two states of a network, and which operators and tensors added the bytes, most first."""

    a: Side
    b: Side
    quantities: tuple[Quantity, ...]
    operators: tuple[GrownOperator, ...]
    # those that changed; their weights and bytes at the peak sum to what was added, with `rest`
    rest_weights_bytes: int
    # added to weights that no operator of the table reads, or that several read
    rest_peak_bytes: int
    # added at the peak inside of If, Loop and Scan
    unchanged: int
    # operators with as many bytes as before
    tensors: tuple[GrownTensor, ...]
    notes: tuple[str, ...]
    # what else differs between the two: batch, dtype, assumption, version
    schema: str = SCHEMA
    peakmem: str = ""

    def quantity(self, name: str) -> Quantity:
        """The quantity called `name`; KeyError when there is none."""
        for one in self.quantities:
            if one.name == name:
                return one
        raise KeyError(name)

    def to_json(self) -> str:
        """All of it as indented JSON."""
        from peakmem.report.codec import to_json

        return to_json(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        from peakmem.report.codec import to_dict

        return to_dict(self)
