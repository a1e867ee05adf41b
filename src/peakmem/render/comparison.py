"""A comparison as titled tables of strings."""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.comparison import Comparison, Item, Pair


def blocks(report: Comparison, *, every: bool = False) -> list[Block]:
    """The blocks of `report` in reading order; `every` lists the tensors that are the same, too."""
    count = {title: len(pairs) for title, pairs in (("stored", report.stored), ("activations", report.activations))}
    same = {
        title: sum(1 for pair in pairs if pair.verdict == "same")
        for title, pairs in (("stored", report.stored), ("activations", report.activations))
    }
    ran = bool(report.activations)
    # none where one side holds weights only
    alike = f"{same['activations']} of {count['activations']} alike" if ran else "not compared"
    verdict = ("the same network for memory" if ran else "the same weights") if report.same else "they differ"
    shown: list[Block] = [
        Lines(
            verdict,
            (
                f"A: {report.a.source} [{report.a.format}], {report.a.operators:,} operators [{report.a.kind}]",
                f"B: {report.b.source} [{report.b.format}], {report.b.operators:,} operators [{report.b.kind}]",
                f"activations: {alike}, stored tensors: {same['stored']} of {count['stored']} [{report.assume}]",
            ),
        ),
        Table(
            "Quantities",
            ("quantity", "unit", "A", "B", "B - A"),
            tuple(
                (one.name, one.unit, f"{one.a:,}", f"{one.b:,}", "" if one.same else f"{one.b - one.a:+,}")
                for one in report.quantities
            ),
            frozenset({"A", "B", "B - A"}),
        ),
    ]
    for title, pairs in (("Activations", report.activations), ("Stored tensors", report.stored)):
        listed = [pair for pair in pairs if every or pair.verdict != "same"]
        if listed:
            shown.append(_table(title if every else f"{title} that differ", listed))
    shown.append(Lines("Differences", report.differences or ("none",)))
    return shown


def _table(title: str, pairs: Sequence[Pair]) -> Table:
    def cells(item: Item | None) -> tuple[str, ...]:
        if item is None:
            return ("", "", "", "")
        return (item.made_by, item.shape, item.dtype, "" if item.nbytes is None else f"{item.nbytes:,}")

    return Table(
        title,
        ("verdict", "A", "shape of A", "dtype of A", "bytes of A", "B", "shape of B", "dtype of B", "bytes of B"),
        tuple((pair.verdict, *cells(pair.a), *cells(pair.b)) for pair in pairs),
        frozenset({"bytes of A", "bytes of B"}),
    )
