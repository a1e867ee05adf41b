"""The report of an estimate: frozen data that renderers read and JSON carries.

Every number is bytes or a count, exact, with its kind; nothing here is computed. Fields may be
added in a minor version of the schema; readers ignore fields they do not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = "peakmem.estimate/1"

Kind = Literal["estimate", "lower bound"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which network, read from where."""

    name: str
    source: str
    format: str
    operators: int
    # as read
    op_types: dict[str, int]
    file_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A graph input or output."""

    name: str
    shape: tuple[int | str, ...] | None
    dtype: str
    nbytes: int | None


@dataclass(frozen=True, slots=True)
class AliveTensor:
    """A buffer that exists at the peak."""

    name: str
    nbytes: int
    shape: str
    dtype: str
    role: str
    # "input" or "activation"
    made_by: str
    # the operator, empty for a graph input
    start: int
    stop: int
    # live range in steps, half-open


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that must exist at once, its place and its parts."""

    activation_bytes: int
    weights_bytes: int
    workspace_bytes: int
    # operators' own temporary memory, as far as it is known
    workspace_known: bool
    total_bytes: int
    # activation + weights + state + workspace
    step: int
    operator: str
    op_type: str
    subgraph_bytes: int
    # the part of activation_bytes that lives inside If, Loop and Scan
    alive: tuple[AliveTensor, ...]
    # largest first; adds up to activation_bytes - subgraph_bytes
    state_bytes: int = 0
    # kept from run to run: variable tensors, key-value caches
    activations_known: bool = True
    # false where the source holds weights only, so that activation_bytes says nothing


@dataclass(frozen=True, slots=True)
class ParameterReport:
    """Stored constants by role: elements and bytes, and the counts that people publish."""

    weights_only: int
    # kernels, matrices, embeddings
    trainable: int
    # + biases and norm affine: the published kind
    with_statistics: int
    # + running statistics
    elements: dict[str, int]
    nbytes: dict[str, int]
    total_bytes: int


@dataclass(frozen=True, slots=True)
class DtypeShare:
    """The stored constants of one dtype."""

    dtype: str
    tensors: int
    elements: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One stored constant."""

    name: str
    shape: str
    dtype: str
    role: str
    # what it is for: one of the roles of `parameters`
    nbytes: int


@dataclass(frozen=True, slots=True)
class DtypeSize:
    """Bytes of all constants if floating ones were stored in another dtype."""

    dtype: str
    payload_bytes: int
    side_bytes: int
    # quantisation data: one float32 scale per output channel of a weight
    total_bytes: int


@dataclass(frozen=True, slots=True)
class TimelinePoint:
    """Bytes alive while one operator runs."""

    step: int
    operator: str
    op_type: str
    live_bytes: int


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One operator of the layer table."""

    step: int
    name: str
    op_type: str
    kernel: str
    stride: str
    input: str
    output: str
    dtype: str
    input_bytes: int
    output_bytes: int
    weight_bytes: int
    parameter_bytes: int
    parameters: int
    nbytes: int | None
    # under the table's convention; None for rows it does not count
    scope: str = ""
    # module path, parts joined by "/"; empty where the source has none


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """`count` rows from `first` on that stand `times` times one after the other."""

    first: int
    count: int
    times: int


@dataclass(frozen=True, slots=True)
class LayerTable:
    """The layer table under one convention."""

    convention: str
    formula: str
    rows: tuple[LayerRow, ...]
    groups: tuple[LayerGroup, ...]
    sum_bytes: int
    max_bytes: int
    max_at: str


@dataclass(frozen=True, slots=True)
class ConventionValue:
    """One named definition of memory and its value."""

    name: str
    title: str
    nbytes: int
    kind: Kind
    at: str
    # operator at which a maximum is reached
    formula: str
    source: str
    includes: str
    excludes: str


@dataclass(frozen=True, slots=True)
class UnknownItem:
    """Something that could not be told; it makes the answer a lower bound."""

    operator: str
    op_type: str
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Detail:
    """One fact that a front end found in the source, with its number where it has one."""

    name: str
    text: str
    nbytes: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Allowed bytes against what is needed."""

    limit_bytes: int
    needed_bytes: int
    headroom_bytes: int
    # negative: short of that much
    fits: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """How much memory a network needs, computed from its graph; nothing was executed."""

    model: ModelInfo
    kind: Kind
    assume: str
    assume_title: str
    dtype: str
    # "as stored" or the dtype floating tensors were counted in
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    peak: Peak
    parameters: ParameterReport
    sizes: tuple[DtypeSize, ...]
    peaks: dict[str, int]
    # live peak under every execution assumption
    timeline: tuple[TimelinePoint, ...]
    layer_table: LayerTable
    conventions: tuple[ConventionValue, ...]
    assumptions: tuple[str, ...]
    unknowns: tuple[UnknownItem, ...]
    budget: Budget | None = None
    dtypes: tuple[DtypeShare, ...] = ()
    # stored constants by dtype, most bytes first; adds up to the weights as stored
    tensors: tuple[StoredTensor, ...] = ()
    # every stored constant, when asked for
    details: tuple[Detail, ...] = ()
    # what the format tells beyond a graph: quantisation, a key-value cache, offsets planned offline
    schema: str = SCHEMA
    peakmem: str = ""
    # version that computed it

    @property
    def peak_bytes(self) -> int:
        """Live peak: the most activation bytes alive at one step."""
        return self.peak.activation_bytes

    @property
    def weights_bytes(self) -> int:
        """Bytes of everything the model stores."""
        return self.peak.weights_bytes

    @property
    def total_bytes(self) -> int:
        """Weights, live peak and known workspace."""
        return self.peak.total_bytes

    @property
    def layers(self) -> tuple[LayerRow, ...]:
        """Rows of the layer table."""
        return self.layer_table.rows

    def convention(self, name: str) -> ConventionValue:
        """The value of the convention called `name`; KeyError when there is none."""
        for value in self.conventions:
            if value.name == name:
                return value
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers, ready for JSON."""
        from peakmem.report.codec import to_dict

        return to_dict(self)

    def to_json(self) -> str:
        """The report as JSON text."""
        from peakmem.report.codec import to_json

        return to_json(self)
