"""What is missing where a network does not fit: devices, bits of a weight, and the unit read in its other sense."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from peakmem.dtypes import parse_dtype
from peakmem.errors import PeakmemError
from peakmem.fitting.answers import Answers
from peakmem.fitting.parts import Answer, judged
from peakmem.fitting.place import Place, readings
from peakmem.fitting.question import Question
from peakmem.report.fit import Part, UnitReading
from peakmem.units import format_bytes

NARROWER = ("float16", "int8", "int4", "int2")
# dtypes of weights that are tried when bits per weight are told


def _weights_in(part: Part) -> int:
    """Bytes of a part that are weights, or a file of them."""
    return sum(nbytes for name, nbytes in part.shares if name.startswith("weights"))


def devices_needed(found: Answer, where: Place, devices: int) -> int | None:
    """How many devices hold the weights together, each with all the rest; None where no number does."""
    part = next((one for one in found.parts if where.ram is not None and one.name == where.ram.name), None)
    weights = 0 if part is None else _weights_in(part)
    if part is None or part.outcome != "does not fit" or not weights:
        return None
    most = part.needed_bytes if part.bound_bytes is None else part.bound_bytes
    room = part.capacity_bytes - (most - weights)
    return -(-weights * devices // room) if room > 0 else None


def bits_per_weight(found: Answer, devices: int) -> Fraction | None:
    """Bits that a weight may have, everything else as it is: the least of the parts that hold weights."""
    least: Fraction | None = None
    for part in found.parts:
        weights = _weights_in(part)
        if not weights and part.outcome == "does not fit":
            return None
        if weights and found.matrix_elements:
            most = part.needed_bytes if part.bound_bytes is None else part.bound_bytes
            room = part.capacity_bytes - (most - Fraction(found.matrix_bytes, devices))
            bits = room * 8 * devices / found.matrix_elements
            least = bits if least is None else min(least, bits)
    return None if least is None or least <= 0 else least


def dtype_of(bits: Fraction, answers: Answers, question: Question) -> str:
    """The widest dtype of no more than `bits` with which the parts that hold weights do."""
    for name in NARROWER:
        if (parse_dtype(name).bits or 0) > bits:
            continue
        try:
            found = answers.of(replace(question, weights=name))
        except PeakmemError:
            continue  # the file cannot hold it
        held = [part for part in found.parts if _weights_in(part)]
        if all(part.outcome == "fits" or (part.outcome == "may fit" and part.bound_bytes is None) for part in held):
            return name
    return ""


def other_readings(where: Place, found: Answer) -> Iterator[UnitReading]:
    """Where the unit of a capacity, read in its other sense, turns the verdict."""
    rooms = {room.name: room for room in where.rooms}
    for part in found.parts:
        room = rooms[part.name]
        known = readings(room)
        usual = next((text for text, nbytes in known if nbytes == room.capacity_bytes), room.printed)
        # the unit in which the capacity is that number: a maker may print kB and mean KiB
        for text, nbytes in known:
            outcome = judged(part.needed_bytes, part.bound_bytes, nbytes, sure=part.kind != "lower bound")
            if outcome != part.outcome and part.capacity_bytes == room.capacity_bytes:
                here = f"{_in_unit(part.needed_bytes, usual)} in {usual}: {part.outcome}"
                other = f"{_in_unit(part.needed_bytes, text)} in {text}: {outcome}"
                yield UnitReading(part.name, f"{here}; {other}", outcome)


def _in_unit(nbytes: int, text: str) -> str:
    return format_bytes(nbytes, "iec" if "ib" in text.lower() else "si")
