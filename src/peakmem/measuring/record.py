"""What a measurement leaves behind: frozen data, nothing computed; JSON holds all of it.

Sizes are bytes as the kernel or the allocator told them. Fields may be added in a minor version of the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SCHEMA = "peakmem.measurement/1"

Status = Literal[
    "ok",
    "unsupported",
    # the engine refuses the model or a setting
    "not converted",
    # the model did not reach the engine's format
    "missing",
    # a library is not installed
    "failed",
    # an error inside the engine's Python face
    "crashed",
    # ended by a signal or an exit code of its own
    "timeout",
    "out of memory",
    "denied",
    # the system does not let us look
    "interrupted",
]

Value = bool | int | str
# of a setting


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended."""

    status: Status
    reason: str = ""
    # one sentence; empty when ok
    phase: str = ""
    # the phase in which it ended, empty when ok


@dataclass(frozen=True, slots=True)
class Bucket:
    """Mappings of one kind, summed."""

    mappings: int
    size_bytes: int
    # address space
    rss_bytes: int
    # resident
    anonymous_bytes: int
    # the part of the resident pages that no file backs
    swap_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Heap:
    """glibc's own account (mallinfo2)."""

    in_use_bytes: int
    # handed out, in arenas and as mappings of their own: uordblks + hblkhd
    mapped_bytes: int
    # the part of in_use that has a mapping of its own: hblkhd
    held_free_bytes: int
    # given back by the program and not to the system: fordblks
    arena_bytes: int
    # taken from the system for arenas: arena


@dataclass(frozen=True, slots=True)
class LibraryShare:
    """Bytes that one library asked for."""

    library: str
    live_bytes: int
    # at the end of the phase
    at_peak_bytes: int
    # at the phase's peak


@dataclass(frozen=True, slots=True)
class Fullest:
    """The moment of a phase with the most pages resident, as the counter found it when large blocks moved."""

    anonymous_bytes: int
    # without the counter's own table
    file_bytes: int
    # pages of files, without the counter's own log
    room_bytes: int
    # glibc's main arena and the blocks beside it
    free_bytes: int
    # of it, free in the arena
    block_bytes: int
    # of it, handed out, as the allocator rounded it
    end_anonymous_bytes: int
    # at the phase's end
    end_file_bytes: int
    end_room_bytes: int


@dataclass(frozen=True, slots=True)
class Counted:
    """The allocation counter's account of one phase; bytes as they were asked for."""

    live_bytes: int
    # at the end of the phase
    peak_bytes: int
    # the most at once during the phase
    usable_live_bytes: int
    # as the allocator rounded them
    usable_peak_bytes: int
    blocks: int
    # live at the end
    allocations: int
    # calls since the process began
    mapped_bytes: int
    # anonymous mappings made outside the C library, live
    mapped_peak_bytes: int
    libraries: tuple[LibraryShare, ...] = ()
    # largest at the peak first; empty where no event list was kept
    complete: bool = True
    # false where the event list was full before the phase ended
    fullest: Fullest | None = None
    # None where the kernel did not tell what was resident


@dataclass(frozen=True, slots=True)
class Mark:
    """What was read when a phase had ended."""

    phase: str
    seconds: float
    # how long the phase took; noisy, for ratios within one run at most
    vm: dict[str, int]
    # /proc/PID/status by its own names: VmPeak, VmSize, VmHWM (of this phase where hwm_reset), VmRSS, RssAnon, …
    buckets: dict[str, Bucket]
    # smaps by kind; sums to the resident set
    heap: Heap | None
    counted: Counted | None = None
    # in instrumented runs only
    cgroup: dict[str, int] | None = None
    # memory.current and memory.peak, when there is one
    hwm_reset: bool = True
    # whether VmHWM was set back when the phase began


Role = Literal["input", "activation", "workspace", "other"]
# workspace: died in the step it was born in and was returned by no operator; other: outlived its step unnamed


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """One operator as it ran."""

    step: int
    operator: str
    # path of its module, with its type where the module has several; `(outside operators)` for what runs between them
    op_type: str
    live_bytes: int
    # inputs and what the run has made so far, alive when the operator ended
    scope: str
    # module path, parts joined by "/"
    before_bytes: int
    # alive when it began
    peak_bytes: int
    # the most alive while it ran
    workspace_bytes: int
    # of the peak, what was there neither before nor afterwards: peak - max(before, live)
    allocations: int


@dataclass(frozen=True, slots=True)
class AliveBlock:
    """A block of memory that was alive at the peak."""

    name: str
    # of an input; of anything else the operator that made it
    nbytes: int
    # as asked for
    shape: str
    dtype: str
    role: Role
    made_by: str
    # the operator, empty for an input
    start: int
    stop: int
    # steps in which it was alive, half-open
    library: str
    # that asked for it


@dataclass(frozen=True, slots=True)
class MeasuredPeak:
    """The most that was alive at once in the run, its place and its parts."""

    activation_bytes: int
    # inputs and tensors that operators returned
    weights_bytes: int
    # weights on the heap
    workspace_bytes: int
    other_bytes: int
    # made in the run, unnamed, not temporary
    standing_bytes: int
    # alive since before the run, neither weight nor input: the libraries' own
    total_bytes: int
    # all of these
    step: int
    operator: str
    op_type: str
    alive: tuple[AliveBlock, ...]
    # largest first; with the smaller ones in `rest_bytes` they add up to activations, workspace and other
    rest_bytes: int = 0
    rest_blocks: int = 0


@dataclass(frozen=True, slots=True)
class MeasuredTimeline:
    """One run, operator by operator."""

    phase: str
    peak: MeasuredPeak
    timeline: tuple[MeasuredPoint, ...]
    left_bytes: int
    # made in the run and still alive at its end
    python_bytes: int
    # the most that the interpreter held more than at the run's start; in no other figure
    mapped_bytes: int
    # the most that anonymous mappings made outside the C library grew; in no other figure
    complete: bool
    # false where the event list was full
    notes: tuple[str, ...] = ()

    @property
    def peak_bytes(self) -> int:
        """The most bytes of inputs and of what the run made, at the peak."""
        return self.peak.activation_bytes + self.peak.workspace_bytes + self.peak.other_bytes


@dataclass(frozen=True, slots=True)
class Run:
    """One process."""

    instrumented: bool
    # with the allocation counter: take no resident figures from it
    outcome: Outcome
    marks: tuple[Mark, ...]
    # as far as it came
    facts: dict[str, str]
    # what the engine says of itself: planned buffers, chosen precision, node statistics
    output: str = ""
    # the end of what it wrote on stdout and stderr
    events_file: str = ""
    # where its event list is kept, when asked for
    inputs: tuple[InputUsed, ...] = ()
    timeline: MeasuredTimeline | None = None
    # of the last run, when asked for


@dataclass(frozen=True, slots=True)
class InputUsed:
    """What the network was fed."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    source: str
    # "random" or the user's file


@dataclass(frozen=True, slots=True)
class Step:
    """One conversion on the way from the model to the engine."""

    tool: str
    # with its version
    target: str
    # the file it made
    nbytes: int
    kept: bool
    # taken from an earlier conversion of the same content


@dataclass(frozen=True, slots=True)
class Cell:
    """One engine with one choice of settings: all its processes."""

    engine: str
    version: str
    settings: dict[str, Value]
    # all of them, defaults too
    chosen: dict[str, Value]
    # those that differ from cell to cell or were asked for
    model: str
    # the file the engine loaded
    steps: tuple[Step, ...]
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over several processes, in bytes."""

    n: int
    # processes
    min: int
    median: int
    max: int

    @property
    def half_range(self) -> int:
        """Half of what lies between the smallest and the largest."""
        return (self.max - self.min + 1) // 2


@dataclass(frozen=True, slots=True)
class Row:
    """One cell, summed up; a figure that was not measured is missing from `figures`."""

    engine: str
    version: str
    chosen: dict[str, Value]
    status: str
    reason: str
    phase: str
    # where it ended, unless ok
    figures: dict[str, Spread]
    # by the names of summary.FIGURES
    peak_phase: str
    # of the highest resident mark
    heap_peak_phase: str
    # of the highest heap mark


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    processor: str
    features: tuple[str, ...]
    cpus: int
    caches: dict[str, int]
    memory_bytes: int
    page_bytes: int
    kernel: str
    libc: str
    python: str
    huge_pages: str
    # of transparent huge pages
    address_randomisation: str
    # of the system; a measured process asks for none, and its facts say whether it was heard
    cores: int = 0
    # physical ones among the processors; 0 where the system does not tell


@dataclass(frozen=True, slots=True)
class Measurement:
    """Every cell of a matrix, raw."""

    name: str
    # of the model, as it was asked for
    machine: Machine
    environment: dict[str, str]
    # the fixed variables of every process; the model's own are in Cell.settings
    repeat: int
    # plain processes a cell
    cells: tuple[Cell, ...]
    rows: tuple[Row, ...]
    # one for each cell, in their order
    notes: tuple[str, ...] = ()
    # what could not be done, and why
    schema: str = SCHEMA

    def to_json(self) -> str:
        """All of it as indented JSON."""
        import msgspec

        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
