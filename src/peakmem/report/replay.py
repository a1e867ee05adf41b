"""The report on a recorded trace of torch's allocator: frozen data that renderers read and JSON carries.

Every size is exact; nothing here is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = "peakmem.replay/1"


@dataclass(frozen=True, slots=True)
class Levels:
    """The most of each counter of the allocator, and what it is at the end."""

    requested_bytes: int
    allocated_bytes: int | None
    # null for a record: it tells only where blocks begin
    reserved_bytes: int
    end_requested_bytes: int
    end_allocated_bytes: int
    end_reserved_bytes: int


@dataclass(frozen=True, slots=True)
class Start:
    """What was there when the trace began."""

    blocks: int
    requested_bytes: int
    reserved_bytes: int
    unsure: int
    # blocks whose slack the trace does not tell


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event at which simulation and record part."""

    event: int
    what: str
    # address, segment, release or last state
    recorded: str
    simulated: str
    reason: str
    place: str = ""
    # the line of code that made the request, where the snapshot has frames


@dataclass(frozen=True, slots=True)
class Stop:
    """Where memory runs out."""

    event: int
    # -1: already for what lived when the trace began
    place: str
    requested_bytes: int
    tried_bytes: int
    free_bytes: int
    allocated_bytes: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The same requests under other settings, or on a device of another size."""

    settings: str
    capacity_bytes: int | None
    requested_bytes: int
    allocated_bytes: int
    reserved_bytes: int
    end_allocated_bytes: int
    end_reserved_bytes: int
    segments: int
    retries: int
    # requests met only after cached memory was given back
    rebuilt: bool
    # whether what lived at the start was allocated anew
    stop: Stop | None


@dataclass(frozen=True, slots=True)
class Share:
    """Bytes alive at the peak, by what they are for or by the line that asked for them."""

    kind: str
    place: str
    # empty for the sum of a kind
    requested_bytes: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Device:
    """One device's trace."""

    device: int
    events: int
    allocations: int
    addresses_equal: int
    segments: int
    # that the driver gave in the record; mappings of expandable segments count each
    segments_equal: int
    # asked for by the simulation at the same event with the same size
    simulated_segments: int
    releases: int
    releases_equal: int
    followed: int
    # given back because the record does, under a limit that it does not tell
    blocks: int
    # in the last state
    blocks_equal: int
    ooms: int
    order: str
    # which of several free blocks of one size is taken: address, segment or block
    start: Start
    record: Levels
    simulation: Levels
    first_difference: Difference | None
    peak_event: int
    kinds: tuple[Share, ...]
    sites: tuple[Share, ...]
    what_if: WhatIf | None


@dataclass(frozen=True, slots=True)
class Replay:
    """A snapshot beside its simulation."""

    source: str
    form: str
    settings: str
    equal: bool
    # every address, segment, release and last block of every device
    devices: tuple[Device, ...]
    notes: tuple[str, ...]
    schema: str = SCHEMA
    peakmem: str = ""

    def to_json(self) -> str:
        """The report as indented JSON."""
        import msgspec

        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
