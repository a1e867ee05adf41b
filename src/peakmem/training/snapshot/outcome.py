"""What a replay finds: how much of record and simulation is equal, and where they part first. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.training.allocator.settings import Settings
from peakmem.training.snapshot.start import Start


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event at which simulation and record part."""

    event: int
    what: str
    # "address", "segment" or "release"
    recorded: str
    simulated: str
    reason: str


@dataclass(frozen=True, slots=True)
class Levels:
    """The most of each counter, and what it is at the end."""

    requested: int
    allocated: int | None
    # None where a record does not say it
    reserved: int
    end_requested: int
    end_allocated: int
    end_reserved: int


@dataclass(frozen=True, slots=True)
class Replay:
    """A record beside its simulation."""

    device: int
    settings: Settings
    events: int
    allocations: int
    addresses_equal: int
    segments: int
    # that the driver gave in the record, mappings counted each
    segments_equal: int
    # asked for by the simulation at the same event with the same size
    simulated_segments: int
    releases: int
    # segments and pages given back in the record
    releases_equal: int
    # that the simulation gives back in the same order
    followed: int
    # given back because the record says so, under a rule whose limit it does not hold
    blocks: int
    # at the end, in the record
    blocks_equal: int
    ooms: int
    start: Start
    record: Levels
    simulation: Levels
    first: Difference | None

    @property
    def equal(self) -> bool:
        """Whether every address, every segment and the last state are the same."""
        return self.first is None and self.blocks == self.blocks_equal
