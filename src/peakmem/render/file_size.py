"""The report on file sizes as titled tables of strings; writers lay them out."""

from __future__ import annotations

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.file_size import FileSize, FileSizes
from peakmem.units import Units, format_bytes, format_exact

TENSORS = ("weights", "biases", "norms", "statistics", "quantisation", "other constants")
AROUND = ("graph", "names and shapes", "header", "padding")


def blocks(report: FileSizes, units: Units = "iec") -> list[Block]:
    """Each file's size, what it is made of, and what was refused or assumed."""
    shown: list[Block] = [
        Lines(report.name, (f"{report.parameters:,} parameters", f"from {report.source or 'a graph'}")),
        _sizes(report, units),
        _parts(report),
    ]
    said = tuple(dict.fromkeys(note for one in report.sizes for note in one.notes))
    if report.refused:
        shown.append(Lines("Not counted", report.refused))
    shown.append(Lines("Assumptions", (*report.notes, *said) or ("none",)))
    return shown


def _sizes(report: FileSizes, units: Units) -> Table:
    rows = tuple(
        (
            one.format, one.dtype, folding(one), format_exact(one.nbytes, units), one.kind, _range(one, units),
            one.writer,
        )
        for one in report.sizes
    )  # fmt: skip
    return Table(
        "File sizes", ("format", "dtype", "batch norms", "size", "kind", "between", "writer"), rows, frozenset({"size"})
    )


def folding(one: FileSize) -> str:
    """What became of the batch norms."""
    if not one.batch_norms:
        return "none"
    return f"{one.batch_norms} folded" if one.folded else "as they are"


def _range(one: FileSize, units: Units) -> str:
    if one.low_bytes == one.high_bytes:
        return ""
    return f"{format_bytes(one.low_bytes, units)} – {format_bytes(one.high_bytes, units)}"


def _parts(report: FileSizes) -> Table:
    used = [name for name in (*TENSORS, *AROUND) if any(one.part(name) for one in report.sizes)]
    rows = tuple(
        (
            one.format, one.dtype, folding(one), *(f"{one.part(name):,}" for name in used), f"{one.nbytes:,}",
        )
        for one in report.sizes
    )  # fmt: skip
    return Table(
        "What they are made of, in bytes", ("format", "dtype", "batch norms", *used, "sum"), rows,
        frozenset((*used, "sum")),
    )  # fmt: skip
