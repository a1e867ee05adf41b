"""What a device offers: rooms of so many bytes, each with who says so, and how its number may be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from peakmem import devices
from peakmem.devices import Device
from peakmem.errors import UsageError
from peakmem.units import format_bytes, parse_size

Role = Literal["RAM", "storage"]
MEMORY = {"gpu": "GPU memory", "limit": "memory"}
STORE = {"mcu": "flash"}
# what RAM and storage are called on a kind of device
AS_ASKED = "as asked"
# where a size is from that somebody typed
ARENA_ALIGNMENT = 16
# of buffers, where sizes alone are given: MicroArenaBufferAlignment of tflite-micro

_SIZE = re.compile(r"\s*([0-9][0-9_,.]*)\s*([kmgt])(i?)(?:b|bytes?)?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that a model may take in one place."""

    role: Role
    name: str
    # as the report says it: "RAM", "GPU memory", "flash", "storage"
    capacity_bytes: int
    said: str
    printed: str = ""
    # the number as its maker or the user wrote it, where the capacity is that number: "100 MB"
    banks: tuple[tuple[str, int], ...] = ()
    # pieces with addresses of their own, in the order in which they are tried; none for one piece
    piece_bytes: int | None = None
    # the longest piece; None where it is all one
    sure_bytes: int | None = None
    # as much of it as a process gets for sure; None: all of it


@dataclass(frozen=True, slots=True)
class Place:
    """A device, or sizes that somebody typed, as rooms."""

    name: str
    title: str
    kind: str
    # as `devices.Device` has it; "" for sizes alone
    ram: Room | None = None
    storage: Room | None = None
    weights_in_flash: bool = False
    alignment: int = 1
    reserve_bytes: int = 0
    # RAM that something else takes
    runtime_bytes: int = 0
    # storage that something else takes: the program
    card: Device | None = None
    flags: tuple[str, ...] = field(default=())
    # that name it again

    @property
    def rooms(self) -> tuple[Room, ...]:
        """RAM, then storage, as far as they are limited."""
        return tuple(room for room in (self.ram, self.storage) if room is not None)


def place(
    device: str | Device = "", *, ram: int | str | None = None, storage: int | str | None = None,
    reserve: int | str = 0, runtime: int | str = 0, weights_in_flash: bool | None = None, table: tuple[str, ...] = (),
) -> Place:  # fmt: skip
    """The rooms of a device by name, of sizes, or of both: what is typed counts before what the table says.

    Args:
        device: a name of `peakmem devices`, a size such as "24GiB" for RAM, or a row.
        ram, storage: sizes that stand in for the device's own.
        reserve: RAM that something else takes.
        runtime: storage that something else takes.
        weights_in_flash: whether weights are read where they are stored; as the device has it where it is not said.
        table: files with devices of the user's own.

    Raises:
        UsageError: no device and no size, a name that is not there, a size that is none or negative.
    """
    known = None
    if isinstance(device, Device):
        known = device
    elif device and device.strip().isdigit():
        raise UsageError(
            f"--device {device.strip()} has no unit", expected="a name that peakmem devices lists, or a size",
            hint=f"--device {device.strip()}GiB",
        )  # fmt: skip
    elif device and _is_size(device):
        if ram is not None:
            raise UsageError(f"RAM is given twice: --device {device} and --ram {ram}", hint=f"--ram {ram}")
        ram = device
    elif device:
        try:
            known = devices.find(device, devices.using(table)) if table else devices.find(device)
        except UsageError as fault:
            if "--capacity" in fault.hint:
                hint = "--device 24GiB, or --ram SIZE --storage SIZE"
                expected = "a name that peakmem devices lists, or a size"
                raise UsageError(fault.what, expected=expected, hint=hint) from fault
            raise
    if known is None and ram is None and storage is None:
        raise UsageError(
            "no device is named and no size", expected="a name that peakmem devices lists, or a size",
            hint="--device stm32f746, or --ram 320KiB --storage 1MiB",
        )  # fmt: skip
    held, program = _sized(reserve, "--reserve", least=0), _sized(runtime, "--runtime", least=0)
    kind = known.kind if known is not None else ""
    rooms = [_typed(ram, "RAM", kind)] if ram is not None else []
    rooms += [_typed(storage, "storage", kind)] if storage is not None else []
    typed: dict[Role, Room] = {room.role: room for room in rooms}
    found = {**_own(known), **typed} if known is not None else typed
    flags = tuple(_flags(known, device, ram, storage, reserve, runtime, table))
    in_flash = known is not None and known.weights_in_flash
    if weights_in_flash is not None and weights_in_flash != in_flash:
        in_flash, flags = weights_in_flash, (*flags, f"--weights-in-{'flash' if weights_in_flash else 'ram'}")
    alignment = known.alignment if known is not None else ARENA_ALIGNMENT if in_flash else 1
    name = known.name if known is not None else ", ".join(f"{room.name} {room.printed}" for room in rooms)
    if held and "RAM" not in found:
        raise UsageError("--reserve takes RAM, of which no size is known here", hint="--ram SIZE")
    if program and "storage" not in found:
        raise UsageError("--runtime takes storage, of which no size is known here", hint="--storage SIZE")
    return Place(
        name, known.title if known is not None else name, kind, found.get("RAM"), found.get("storage"),
        in_flash, alignment, held, program, known, flags,
    )  # fmt: skip


def readings(room: Room) -> tuple[tuple[str, int], ...]:
    """What the printed number means in the units that it may be in: ("100 MB", 100000000), ("100 MiB", 104857600).

    Makers print kB and MB for both 1000 and 1024; a number that nobody printed has no reading.
    """
    match = _SIZE.match(room.printed)
    if match is None:
        return ()
    number, letter = match.group(1), match.group(2).upper()
    units = (f"{'k' if letter == 'K' else letter}B", f"{letter}iB")
    return tuple((f"{number} {unit}", parse_size(f"{number} {unit}")) for unit in units)


def _own(device: Device) -> dict[Role, Room]:
    """The rooms that the table knows of."""
    found: dict[Role, Room] = {}
    if device.capacity_bytes is not None:
        # where a share or a driver says what is left, the printed number is not the capacity any more
        literal = device.capacity_bytes == device.memory_bytes
        piece = device.contiguous_bytes
        found["RAM"] = Room(
            "RAM", MEMORY.get(device.kind, "RAM"), device.capacity_bytes, device.capacity_said,
            device.memory if literal else "", device.memories if piece is not None else (), piece, device.sure_bytes,
        )  # fmt: skip
    if device.storage_bytes is not None:
        said = f"{device.title}: {device.storage} ({device.storage_source or device.source})"
        found["storage"] = Room(
            "storage", STORE.get(device.kind, "storage"), device.storage_bytes, said, device.storage
        )
    return found


def _typed(text: int | str, role: Role, kind: str) -> Room:
    flag = "--ram" if role == "RAM" else "--storage"
    nbytes = _sized(text, flag, least=1)
    names = MEMORY if role == "RAM" else STORE
    printed = text.strip() if isinstance(text, str) else format_bytes(nbytes, "bytes")
    usual = "RAM" if role == "RAM" else "storage"
    return Room(role, names.get(kind, usual), nbytes, f"{AS_ASKED}: {printed}", printed)


def _sized(text: int | str, flag: str, *, least: int) -> int:
    if isinstance(text, str) and text.strip().startswith("-"):
        raise UsageError(f"{flag} is {text.strip()}", expected=f"{least} or more", hint=f"{flag} 64KiB")
    nbytes = parse_size(text) if isinstance(text, str) else text
    if nbytes < least:
        raise UsageError(f"{flag} is {nbytes:,} B", expected=f"{least} B or more", hint=f"{flag} 64KiB")
    return nbytes


def _flags(
    known: Device | None, device: str | Device, ram: int | str | None, storage: int | str | None,
    reserve: int | str, runtime: int | str, table: tuple[str, ...],
) -> Iterator[str]:  # fmt: skip
    if known is not None:
        yield from ("--device", known.name)
        for path in table:
            yield from ("--device-file", path)
    elif device:
        ram = None
        yield from ("--device", str(device))
    for flag, text in {"--ram": ram, "--storage": storage, "--reserve": reserve, "--runtime": runtime}.items():
        if text is not None and (flag in ("--ram", "--storage") or _sized(text, flag, least=0)):
            yield from (flag, str(text))


def _is_size(name: str) -> bool:
    text = name.strip()
    try:
        return parse_size(text) > 0
    except UsageError:
        return False
