"""What goes to the process that trains and what comes back: plain data, written as JSON by msgspec."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from peakmem.training.scenario import Scenario

if TYPE_CHECKING:
    from peakmem.training.tracing.step import Workload

NAMED = "peakmem.training.verify.targets:workload"
# what makes a workload of a name, unless the user of `verify` says otherwise


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is to train."""

    target: str
    scenario: Scenario
    resolve: str = NAMED
    # module:function that makes a workload of target, scenario and inputs
    kind: Literal["events", "resident"] = "events"
    # under the profiler, or clean and looked at from outside
    inputs: tuple[str, ...] = ()
    # of a live module, as the user wrote them
    threads: int = 0
    # of torch; 0 leaves its own choice


@dataclass(frozen=True, slots=True)
class Recording:
    """Allocator events of a run in the order of time, and what the process said between them."""

    events: list[tuple[int, ...]] = field(default_factory=list)
    # (address, bytes, operator, call, node): bytes below 0 for a release, the operator by its place in `operators` (-1
    # outside of any), the call that it belongs to (0 outside), the sequence number of the autograd node that runs (-1
    # outside, -2 where it has none); or (note,), a place in `notes`
    operators: list[str] = field(default_factory=list)
    notes: list[list[Any]] = field(default_factory=list)
    # ["phase", phase, step], ["module", path, depth, sequence number], ["label", address, category, name],
    # ["open", address, category], ["settle", category], ["end"]
    device: str = "cpu"
    facts: dict[str, str] = field(default_factory=dict)
    # versions, threads
    counters: dict[str, int] = field(default_factory=dict)
    # what the allocator says itself, in bytes
    said: list[str] = field(default_factory=list)
    # notes of the workload and doubts about the recording
    fault: list[str] = field(default_factory=list)
    # why it ended early: a kind of error, its words and its hint


def made(resolve: str, target: str, scenario: Scenario, inputs: tuple[str, ...]) -> Workload:
    """The workload that `resolve` makes."""
    module, _, function = resolve.partition(":")
    found: Workload = getattr(import_module(module), function)(target, scenario, inputs)
    return found


def write(path: Path, item: Order | Recording) -> None:
    """Put an order or a recording into a file."""
    import msgspec

    path.write_bytes(msgspec.json.encode(item))


def read_order(path: Path) -> Order:
    """The order in a file."""
    import msgspec

    return msgspec.json.decode(path.read_bytes(), type=Order)


def read_recording(path: Path) -> Recording:
    """The recording in a file."""
    import msgspec

    return msgspec.json.decode(path.read_bytes(), type=Recording)
