"""Whether a network fits, as titled tables of strings: the parts, what they are made of, how far it could grow."""

from __future__ import annotations

from collections.abc import Iterator

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.fit import Fit, Largest, Part, Tried
from peakmem.units import Units, format_bytes, format_exact

NONE_OF_THEM = "none"


def blocks(report: Fit, units: Units = "iec") -> list[Block]:
    """The blocks of `report` in reading order."""
    shown: list[Block] = [Lines(_title(report), tuple(_headline(report, units))), _parts(report, units)]
    shown += [_shares(part, units) for part in report.parts if len(part.shares) > 1]
    if report.readings:
        shown.append(Lines("In the other reading of the unit", tuple(_reading(report))))
    if report.largest:
        shown.append(_largest(report))
    if report.changes:
        shown.append(_changes(report))
    if report.searched:
        shown.append(Lines("How changes were looked for", (report.searched,)))
    shown.append(Lines("Capacities", tuple(f"{part.name}: {part.said}" for part in report.parts)))
    shown.append(Lines("Assumptions", report.assumptions or (NONE_OF_THEM,)))
    shown.append(Lines("Unknown", report.unknowns or (NONE_OF_THEM,)))
    return shown


def _title(report: Fit) -> str:
    by = f" with {report.engine}" if report.engine else ""
    return f"{report.name}, {report.mode}{by}, on {report.title}"


def _headline(report: Fit, units: Units) -> Iterator[str]:
    over = [part for part in report.parts if part.name in report.over]
    if over:
        said = ", ".join(f"{part.name} by {format_exact(-part.headroom_bytes, units)}" for part in over)
        yield f"{report.outcome}: over in {said}; {report.gap:.2f} times the capacity"
    else:
        worst = max(report.parts, key=lambda part: part.needed_bytes / part.capacity_bytes)
        room = format_exact(worst.headroom_bytes, units)
        yield f"{report.outcome}: {report.gap:.1%} of {worst.name}, {room} to spare"
    yield from dict.fromkeys(f"{part.name}: {part.reason}" for part in report.parts if part.reason)
    if report.devices_needed is not None:
        split = ", weights split evenly, all else on each" if report.mode == "inference" else ""
        yield f"{report.devices_needed:,} devices hold it together{split}"
    if report.bits_per_weight is not None:
        then = f": {report.bits_dtype} would do" if report.bits_dtype else ", of which no dtype is tried"
        yield f"all else as it is, a weight may have {report.bits_per_weight:.2f} bits{then}"
    ranked = [one for one in report.changes if one.rank]
    if ranked and report.outcome != "fits":
        yield f"cheapest change that fits: {', '.join(ranked[0].names)}"


def _parts(report: Fit, units: Units) -> Table:
    rows = tuple(
        (
            part.name, format_bytes(part.needed_bytes, units), f"{part.needed_bytes:,}",
            "not known" if part.bound_bytes is None else f"{part.bound_bytes:,}", f"{part.capacity_bytes:,}",
            f"{part.headroom_bytes:+,}", f"{part.needed_bytes / part.capacity_bytes:.1%}", part.outcome,
            f"{part.convention} [{part.kind}]",
        )
        for part in report.parts
    )  # fmt: skip
    columns = ("part", "needs", "bytes", "at most", "capacity", "headroom", "of it", "verdict", "what is counted")
    return Table("Parts", columns, rows, frozenset(columns[1:7]))


def _shares(part: Part, units: Units) -> Table:
    rows = tuple(
        (name, format_bytes(nbytes, units), f"{nbytes:,}", f"{nbytes / part.needed_bytes:.1%}")
        for name, nbytes in part.shares
    )
    total = ("total", format_bytes(part.needed_bytes, units), f"{part.needed_bytes:,}", "100.0%")
    columns = ("share", "size", "bytes", "of it")
    return Table(f"What {part.name} holds", columns, rows, frozenset(columns[1:]), total)


def _reading(report: Fit) -> Iterator[str]:
    for one in report.readings:
        yield f"{one.part}: {one.text}"


def _largest(report: Fit) -> Table:
    rows = tuple(_largest_row(one) for one in report.largest)
    columns = ("what", "largest", "bytes there", "next", "bytes there then", "part", "proof")
    return Table("The largest that fits", columns, rows, frozenset(columns[1:5]))


def _largest_row(one: Largest) -> tuple[str, ...]:
    here = (f"{one.value:,}", f"{one.needed_bytes:,}") if one.value else ("none", "")
    after = ("", "") if one.next_value is None else (f"{one.next_value:,}", f"{one.next_needed_bytes or 0:,}")
    return (one.knob, *here, *after, one.part, one.proof)


def _changes(report: Fit) -> Table:
    now = {part.name: part.needed_bytes for part in report.parts}
    names = [part.name for part in report.parts]
    rows = tuple(_change(one, names, now) for one in report.changes)
    columns = ("rank", "change", "verdict", *(f"{name} bytes" for name in names), "what it costs", "what to type")
    numeric = {"rank", *(f"{name} bytes" for name in names)}
    return Table("Changes, each with the whole analysis run again", columns, rows, frozenset(numeric))


def _change(one: Tried, names: list[str], now: dict[str, int]) -> tuple[str, ...]:
    needed = dict(one.needed)
    sizes = tuple(
        f"{needed[name]:,} ({_difference(needed[name], now[name])})" if name in needed else "" for name in names
    )
    verdict = f"refused: {one.reason}" if one.outcome == "refused" else one.outcome
    return (str(one.rank) if one.rank else "", " + ".join(one.names), verdict, *sizes, one.price, one.command)


def _difference(after: int, before: int) -> str:
    return f"{(after - before) / before:+.1%}" if before else f"{after - before:+,} B"
