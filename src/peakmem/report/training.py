"""The report of a training step: frozen data, nothing computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peakmem.training.log import Category, Phase

SCHEMA = "peakmem.training/1"

Route = Literal["trace", "graph"]
Kind = Literal["estimate", "lower bound"]
Outcome = Literal[
    "fits",
    # the upper bound does
    "may fit",
    # the predicted value does; the upper bound does not, or there is none
    "does not fit",
]
Weighed = Literal["predicted", "refused"]


@dataclass(frozen=True, slots=True)
class Moment:
    """The most bytes of tensors alive at once, in one phase or in all, as requested."""

    step: int
    phase: Phase
    nbytes: int
    operator: str
    module: str
    # of the storage that came last
    categories: dict[Category, int]
    # they sum to nbytes


@dataclass(frozen=True, slots=True)
class Share:
    """What one category holds at the peak."""

    category: Category
    nbytes: int
    storages: int


@dataclass(frozen=True, slots=True)
class Held:
    """Storages alive at the peak that are alike."""

    nbytes: int
    # of all of them
    storages: int
    category: Category
    name: str
    # of a parameter or of what belongs to one; empty for others
    operator: str
    module: str
    dtype: str
    shape: tuple[int, ...]
    step: int
    phase: Phase
    # in which they came


@dataclass(frozen=True, slots=True)
class ModuleShare:
    """What a module's own operators hold at the peak; what stands inside of it has a line of its own."""

    module: str
    nbytes: int
    categories: dict[Category, int]


@dataclass(frozen=True, slots=True)
class Left:
    """What is alive when a step ends."""

    step: int
    nbytes: int
    categories: dict[Category, int]


@dataclass(frozen=True, slots=True)
class Reserved:
    """The log in torch's CUDA caching allocator, simulated, with as much memory as it asks for."""

    settings: str
    # as in PYTORCH_CUDA_ALLOC_CONF
    requested_bytes: int
    allocated_bytes: int
    # torch.cuda.max_memory_allocated: rounded to 512 B, blocks that are not split whole
    reserved_bytes: int
    # torch.cuda.max_memory_reserved
    fragmentation_bytes: int
    # the most reserved less the most allocated
    step: int
    phase: Phase
    operator: str
    module: str
    # whose request made it reserve the most
    bound_bytes: int | None
    # what reserved does not exceed; None where nothing is known
    bound_how: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A what-if: the same step with something else, and what that costs."""

    name: str
    title: str
    outcome: Weighed
    reason: str
    # of a refusal
    before_bytes: int
    after_bytes: int
    # what is needed now and then: reserved on a CUDA device, tensors elsewhere
    tensors_bytes: int
    # peak of tensors then
    operations: float | None
    # floating-point operations of a step as a share of those now: 1.33 is a third more; None: not counted
    communication_bytes: int
    # sent by each rank in each step beyond what it sends now
    note: str = ""


@dataclass(frozen=True, slots=True)
class FormLine:
    """One line of a closed form."""

    title: str
    nbytes: int
    said: str
    # what the source prints for it


@dataclass(frozen=True, slots=True)
class ClosedForm:
    """What a rule of thumb says of the same step."""

    name: str
    title: str
    formula: str
    nbytes: int
    ratio: float
    # of the predicted peak
    source: str
    lines: tuple[FormLine, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """An operator whose kernels may take memory that no table tells."""

    operator: str
    calls: int
    nbytes: int
    # that one call may take at most
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it fits in so much memory."""

    outcome: Outcome
    capacity_bytes: int
    capacity_said: str
    # where the capacity is from
    point_bytes: int
    bound_bytes: int | None
    # what the process needs, as predicted and at most, both with `beside`; None where no bound is known
    beside_bytes: int
    # held by the process beyond the tensors, counted in the point value
    beside_bound_bytes: int
    # counted in the bound
    beside_said: str
    reason: str = ""
    # where it runs out of memory


@dataclass(frozen=True, slots=True)
class Training:
    """What a training step needs."""

    name: str
    kind: Kind
    device: str
    # whose rules the log follows: "cpu" or "cuda"
    card: str
    # the device that was asked for by name
    route: Route
    steps: int
    optimizer: str
    precision: str
    batch: int
    # samples of one forward; 0 where only the step itself knows
    peak: Moment
    bound_bytes: int | None
    # tensors as requested, if each operator without a row took the most it may; None where the log is no trace by the
    # device's rules
    shares: tuple[Share, ...]
    # of the peak, the largest first; they sum to it
    phases: tuple[Moment, ...]
    left: tuple[Left, ...]
    modules: tuple[ModuleShare, ...]
    held: tuple[Held, ...]
    # the largest first; they sum to the peak
    parameter_bytes: int
    reserved: Reserved | None = None
    changes: tuple[Change, ...] = ()
    forms: tuple[ClosedForm, ...] = ()
    verdict: Verdict | None = None
    unknowns: tuple[Unknown, ...] = ()
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    # how it came about, and what was corrected
    schema: str = SCHEMA

    @property
    def peak_bytes(self) -> int:
        """The most bytes of tensors alive at once, as requested."""
        return self.peak.nbytes

    @property
    def fits(self) -> bool | None:
        """Whether it fits for sure; None where no capacity was given."""
        return None if self.verdict is None else self.verdict.outcome == "fits"

    def to_json(self) -> str:
        """All of it as indented JSON."""
        from peakmem.report.codec import to_json

        return to_json(self)
