"""A formula, or the largest value that fits, as titled tables of strings."""

from __future__ import annotations

from fractions import Fraction

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.formula import Formula, Gap, Largest, PeakFormula, Piece
from peakmem.units import Units, format_bytes, format_exact

_POWERS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
MOST_GAPS = 12


def blocks(report: PeakFormula, units: Units) -> list[Block]:
    """The blocks of `report` in reading order."""
    counted = "" if report.dtype == "as stored" else f", counted as {report.dtype}"
    how = "exact" if report.kind == "exact" else "fitted through evaluations"
    parts = "weights + state + live peak" if any(piece.state.coefficients for piece in report.pieces) else (
        "weights + live peak"
    )  # fmt: skip
    tag = f"[{parts}, {report.assume}{counted}, {report.bytes_kind}, {how}]"
    shown: list[Block] = [
        Lines(
            f"{report.name}: the peak as a formula of {report.knob}",
            tuple(_sentence(report, piece, units) for piece in report.pieces) or ("no formula holds",),
        ),
        Table(
            "Exact bytes",
            (report.knob, "live peak", "weights", *_state(report, "state"), "together", "peak at", "checked at"),
            tuple(
                (
                    _range(report, piece), exact(piece.live, "x"), exact(piece.weights, "x"),
                    *(_state(report, exact(piece.state, "x"))), exact(piece.resident, "x"),
                    f"{piece.operator} ({piece.op_type})" if piece.operator else "the inputs", _checked(piece),
                )
                for piece in report.pieces
            ),
        ),
    ]  # fmt: skip
    if report.gaps:
        shown.append(
            Table(
                "No formula", (report.knob, "reason"),
                (
                    *((_gap(report, gap), gap.reason) for gap in report.gaps[:MOST_GAPS]),
*([(f"and {len(report.gaps) - MOST_GAPS} more ranges", "")] if report.gaps[MOST_GAPS:] else []),
                ),
            )
        )  # fmt: skip
    shown.append(Lines("How", (tag, *_how(report))))
    return shown


def _state(report: PeakFormula, text: str) -> tuple[str, ...]:
    return (text,) if any(piece.state.coefficients for piece in report.pieces) else ()


def _sentence(report: PeakFormula, piece: Piece, units: Units) -> str:
    place = f"at {piece.operator}" if piece.operator else "of the inputs"
    sign = "≥" if report.bytes_kind == "lower bound" else "="
    size = rounded(piece.resident, report.knob, units)
    return f"peak({report.knob}) {sign} {size} for {_range(report, piece)} ({place})"


def _range(report: PeakFormula, piece: Piece) -> str:
    return _values(
        report.knob, piece.low, piece.high, piece.modulus, piece.residue, piece.unbroken and report.high is None
    )


def _gap(report: PeakFormula, gap: Gap) -> str:
    return _values(report.knob, gap.low, gap.high, gap.modulus, gap.residue, False)


def _values(knob: str, low: int, high: int, modulus: int, residue: int, endless: bool) -> str:
    if low == high:
        return f"{knob} = {low:,}"
    span = f"{knob} ≥ {low:,}" if endless else f"{low:,} ≤ {knob} ≤ {high:,}"
    if modulus == 1:
        return span
    return (
        f"{span}, a multiple of {modulus}" if residue == 0 else f"{span}, {residue} more than a multiple of {modulus}"
    )


def rounded(formula: Formula, knob: str, units: Units) -> str:
    """`97.69 MiB + 9.19 MiB·batch`, the constant first."""
    text = ""
    for power in range(len(formula.coefficients)):
        factor = formula.coefficient(power)
        if not factor:
            continue
        sign = "-" if factor < 0 else "+"
        term = _size(abs(factor), units) + ("" if power == 0 else f"·{knob}" + _power(power))
        text = f"{text} {sign} {term}" if text else (f"-{term}" if factor < 0 else term)
    return text or "0 B"


def _size(factor: Fraction, units: Units) -> str:
    if factor.denominator == 1 or factor >= 1024:
        return format_bytes(round(factor), units)
    return f"{float(factor):.4g} B"


def _power(power: int) -> str:
    return "" if power == 1 else str(power).translate(_POWERS)


def exact(formula: Formula, knob: str) -> str:
    """`102,440,608 + 9,633,792·x`, in bytes, the constant first."""
    text = ""
    for power, factor in enumerate(formula.coefficients):
        if not factor:
            continue
        number = f"{abs(factor):,}" if power == 0 or abs(factor) != 1 else ""
        term = number + ("" if power == 0 else f"{'·' if number else ''}{knob}{_power(power)}")
        text = f"{text} {'-' if factor < 0 else '+'} {term}" if text else (f"-{term}" if factor < 0 else term)
    if formula.denominator != 1:
        return f"({text}) / {formula.denominator:,}"
    return text or "0"


def _checked(piece: Piece) -> str:
    few = piece.checked if len(piece.checked) < 6 else (*piece.checked[:3], *piece.checked[-2:])
    shown = [f"{x:,}" for x in few]
    if len(piece.checked) >= 6:
        shown.insert(3, "…")
    return f"{_counted(len(piece.checked), 'value')}: {'; '.join(shown)}"


def _how(report: PeakFormula) -> list[str]:
    beside = f"; beside it {', '.join(report.settings)}" if report.settings else ""
    lines = [f"{report.knob}: {report.meaning}{beside}"]
    lines.append(f"execution: {report.assume} ({report.assume_title})")
    if report.kind == "exact":
        held = sum(len(piece.checked) for piece in report.pieces)
        lines.append(
            f"read off {_counted(report.traces, 'run')} of the analysis on numbers that remember; "
            f"plain evaluation gives the same at {_counted(held, 'value')}"
        )
    else:
        lines.append(f"fitted through evaluations and held against others: {report.evaluations} in all")
    if not report.complete:
        classes = f"{', '.join(map(str, report.residues))} "
        lines.append(
            f"strides make the formula differ with {report.knob} modulo {report.modulus}: shown is remainder {classes}"
            + ("(--every-residue shows all)" if report.kind == "exact" else "")
        )
    if report.high is None and report.pieces:
        lines.append(f"looked at up to {report.knob} = {max(piece.high for piece in report.pieces):,}")
    return [*lines, *report.notes]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def largest_blocks(report: Largest, units: Units) -> list[Block]:
    """The largest value that fits, and both neighbours."""
    what = "live peak" if report.quantity == "live" else "weights + state + live peak"
    room = format_exact(report.capacity_bytes, units)
    step = f" that is a multiple of {report.multiple_of}" if report.multiple_of > 1 else ""
    if report.value:
        sure = report.bytes_kind == "estimate"
        head = f"largest {report.knob}{step} within {room}: {'' if sure else 'at most '}{report.value:,}"
    else:
        head = f"no {report.knob}{step} fits within {room}"
    verdict = "fits" if report.bytes_kind == "estimate" else "may fit"
    rows = []
    if report.value:
        rows.append((f"{report.value:,}", format_bytes(report.nbytes, units), f"{report.nbytes:,}", verdict))
    if report.next_value is not None and report.next_nbytes is not None:
        over = report.next_nbytes - report.capacity_bytes
        rows.append(
            (f"{report.next_value:,}", format_bytes(report.next_nbytes, units), f"{report.next_nbytes:,}",
             f"{format_bytes(over, units)} too much")
        )  # fmt: skip
    lines = [f"{report.knob}: {report.meaning}", f"counted: {what} [{report.bytes_kind}]"]
    if report.fixed_bytes:
        lines[-1] += f" + {format_exact(report.fixed_bytes, units)} that is fixed"
    if report.operator:
        lines.append(f"the peak stands at {report.operator}")
    return [
        Lines(f"{report.name}: {head}", (report.proof, *report.notes)),
        Table("Neighbours", (report.knob, "size", "bytes", "verdict"), tuple(rows), frozenset({"size", "bytes"})),
        Lines("How", tuple(lines)),
    ]
