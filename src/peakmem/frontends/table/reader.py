"""Layer tables as people write them, from CSV, Markdown, YAML or plain lists, as a Graph.

    conv 3x3x3x32 s2 in 224x224x3

One row is one layer and the rows are a chain; `add NAME` and `concat NAME` read earlier rows.
What a table claims beyond its layers (parameters, bytes) is kept beside them for `claims`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from peakmem.dtypes import FLOAT32, DType, parse_dtype
from peakmem.errors import FormatError, GraphError, PeakmemError, UsageError
from peakmem.frontends.table.layout import layout_of
from peakmem.frontends.table.parts import emit
from peakmem.frontends.table.rows import Resolver, Row, Step
from peakmem.frontends.table.said import Columns, Said, columns, is_header_a_row, said, sentences_of
from peakmem.frontends.table.source import MOST_ROWS, Sheet, sheets
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Graph
from peakmem.ir.shapes import Unresolved
from peakmem.ir.validate import validate

LARGEST_NUMBER = 10**8
# of a size in a table


@dataclass(frozen=True, slots=True)
class LayerTable:
    """A table understood: its rows, the layers they stand for, and what was concluded."""

    source: str
    columns: Columns
    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    layout: str
    dtype: DType
    dtype_told: bool
    batch: int
    notes: tuple[str, ...]


def read_layer_table(path: Path) -> Graph:
    """The network that the layer table at `path` describes.

    Raises:
        FormatError: no layer table, or a row that does not say enough.
        MissingLibrary: a YAML file without a YAML parser.
    """
    return graph_of(read_rows(path))


def read_rows(path: Path) -> LayerTable:
    """The layer table at `path`: of several tables the one with the most layers.

    Raises: see `read_layer_table`.
    """
    where = str(path)
    try:
        best: tuple[int, Sheet, Columns, list[Said]] | None = None
        others = 0
        for sheet in sheets(path):
            if len(sheet.columns) > 1 and is_header_a_row(sheet):
                sheet = sentences_of(sheet)
            if len(sheet.lines) > 2 * MOST_ROWS:
                raise FormatError(f"a table of {len(sheet.lines)} rows", where=where, expected=f"{MOST_ROWS} or less")
            found = columns(sheet)
            rows = said(sheet, found)
            layers = sum(1 for row in rows if row.kind == "layer")
            if not layers or (len(found.roles) == 1 and 2 * layers < len(rows)):
                continue  # a table of something else, or a list in prose
            others += 1
            if best is None or layers > best[0]:
                best = (layers, sheet, found, rows)
        if best is None:
            raise FormatError(
                "there is no layer table in this file", where=where,
                expected="rows such as `conv 3x3x3x32 s2 in 224x224x3`, or columns such as layer, kernel, input",
            )  # fmt: skip
        if len(best[3]) > MOST_ROWS:
            raise FormatError(f"a table of {len(best[3])} rows", where=where, expected=f"{MOST_ROWS} or less")
        table = _understood(where, best[1], best[2], best[3])
    except PeakmemError:
        raise
    except (IndexError, KeyError, ValueError, OverflowError, RecursionError, MemoryError, AssertionError) as fault:
        raise FormatError(f"the table cannot be understood ({type(fault).__name__}: {fault})", where=where) from fault
    if others > 1:
        note = f"the file holds {others} layer tables; the one with the most layers was taken"
        return replace(table, notes=(*table.notes, note))
    return table


def _understood(where: str, sheet: Sheet, found: Columns, rows: list[Said]) -> LayerTable:
    settings: dict[str, str] = dict(sheet.settings)
    for row in rows:
        sizes = (*row.phrase.kernel, *row.phrase.input, *row.phrase.output, *row.phrase.numbers)
        if any(number > LARGEST_NUMBER for number in (*sizes, row.phrase.channels or 0)):
            raise FormatError(f"row {row.number} has a size beyond {LARGEST_NUMBER:,}", where=where)
    if "expansion" in found.roles:
        settings["expansion"] = "yes"
    layout, why = layout_of(rows, settings.get("layout", ""), where)
    resolver = Resolver(layout, settings, where)
    resolver.resolve(rows)
    if not resolver.steps:
        raise FormatError("the table has no layer", where=where, expected="a row such as `conv 3x3x3x32 s2`")
    dtype, told = _dtype(rows, settings, where)
    ignored = [header for header, name in zip(found.headers, found.roles, strict=True) if name == "ignored"]
    unread = [header for header, name in zip(found.headers, found.roles, strict=True) if not name and header.strip()]
    notes = [why] if why else []
    notes += resolver.maker.notes
    if not any(part.bias or part.op == "BatchNormalization" for step in resolver.steps for part in step.parts):
        notes.append("the table gives no biases and no norms, so none are counted (a line `bias: yes` adds biases)")
    if not told:
        notes.append("the table gives no dtype: float32 (a line `dtype: int8` gives one)")
    if ignored or unread:
        notes.append(f"columns that were not used: {', '.join((*ignored, *unread))}")
    batch = settings.get("batch", "")
    size = int(batch) if batch.isdecimal() and 0 < len(batch) < 7 else resolver.maker.batch or 1
    return LayerTable(
        where, found, tuple(resolver.rows), tuple(resolver.steps), layout, dtype, told, max(size, 1), tuple(notes)
    )


def _dtype(rows: list[Said], settings: Mapping[str, str], where: str) -> tuple[DType, bool]:
    names = {row.dtype.strip().lower() for row in rows if row.dtype.strip()}
    if len(names) > 1:
        raise FormatError(f"rows of several dtypes ({', '.join(sorted(names))[:80]})", where=where, expected="one")
    name = next(iter(names), settings.get("dtype", ""))
    if not name:
        return FLOAT32, False
    try:
        return parse_dtype(name), True
    except UsageError as fault:
        raise FormatError(fault.what, where=where, expected=fault.expected) from fault


def graph_of(table: LayerTable) -> Graph:
    """The rows of a table as a graph; rows that do not follow from the ones before have inputs of their own.

    Raises:
        FormatError: the rows contradict each other in a way that no input can mend.
    """
    path = Path(table.source)
    b = GraphBuilder(path.stem, dtype=table.dtype)
    batch = Symbol("batch")
    results: list[str] = []
    read: set[str] = set()
    x = ""
    inputs = 0
    try:
        for step in table.steps:
            row = table.rows[step.row]
            first = step.parts[0]
            x = results[step.base] if step.base >= 0 else x
            if step.starts or not x:
                inputs += 1
                x = b.input("input" if inputs == 1 else f"input_{inputs}", (batch, *first.image))
            else:
                read.add(x)
                if step.flatten:
                    x = b.flatten(x)
            entry = x
            for part in step.parts:
                others = [entry] if part.residual else [results[at] for at in step.reads]
                read.update(others)
                x = emit(b, part, x, others, _name(row))
            results.append(x)
        outputs = [name for name in dict.fromkeys(results) if name not in read]
        graph = b.finish(*outputs)
    except GraphError as fault:
        raise FormatError(fault.what, where=fault.where or table.source, expected=fault.expected) from fault
    except Unresolved as fault:
        raise FormatError(str(fault), where=table.source) from fault
    graph = replace(
        graph, source=table.source, format="layer_table", notes=table.notes, defaults={"batch": table.batch}
    )
    validate(graph)
    return graph


def _name(row: Row) -> str:
    words = "".join(char if char.isalnum() or char in "._-" else " " for char in row.name).split()
    return "_".join(words)[:60] or f"row_{row.number}"
