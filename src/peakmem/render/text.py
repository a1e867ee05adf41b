"""Tables as text: tab-separated for pipes, Markdown for pages, CSV for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from peakmem.render.blocks import Block, Lines, records
from peakmem.report.model import Estimate

_CONTROL = {ord(char): " " for char in "\t\r\n\v\f\x1b"}


def plain(shown: Sequence[Block]) -> str:
    """Uncut, tab-separated; a `#` line opens each block."""
    out: list[str] = []
    for block in shown:
        out.append(f"# {block.title}".translate(_CONTROL))
        if isinstance(block, Lines):
            out += [line.translate(_CONTROL) for line in block.lines]
        else:
            out += ["\t".join(cell.translate(_CONTROL) for cell in row) for row in records(block)]
        out.append("")
    return "\n".join(out)


def markdown(shown: Sequence[Block]) -> str:
    """GitHub-flavoured Markdown."""
    out: list[str] = []
    for level, block in enumerate(shown):
        out += [f"{'#' if level == 0 else '##'} {_cell(block.title)}", ""]
        if isinstance(block, Lines):
            out += [f"- {_cell(line)}" for line in block.lines]
        else:
            marks = ["---:" if name in block.numeric else "---" for name in block.columns]
            header, *rows = records(block)
            out += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in (header, tuple(marks), *rows)]
        out.append("")
    return "\n".join(out)


def _cell(text: str) -> str:
    return text.translate(_CONTROL).replace("|", "\\|")


CSV_COLUMNS = (
    "step", "name", "op_type", "kernel", "stride", "input", "output", "dtype", "input_bytes", "output_bytes",
    "weight_bytes", "parameter_bytes", "parameters", "convention", "convention_bytes", "live_bytes",
)  # fmt: skip


TENSOR_COLUMNS = ("name", "shape", "dtype", "role", "nbytes")


def tensors_csv(report: Estimate) -> str:
    """One line per stored tensor; sizes in exact bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TENSOR_COLUMNS)
    writer.writerows((one.name, one.shape, one.dtype, one.role, one.nbytes) for one in report.tensors)
    return text.getvalue()


def layers_csv(report: Estimate) -> str:
    """One line per operator in schedule order, none folded; sizes in exact bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row, point in zip(report.layer_table.rows, report.timeline, strict=True):
        writer.writerow(
            (
                row.step, row.name, row.op_type, row.kernel, row.stride, row.input, row.output, row.dtype,
                row.input_bytes, row.output_bytes, row.weight_bytes, row.parameter_bytes, row.parameters,
                report.layer_table.convention, "" if row.nbytes is None else row.nbytes, point.live_bytes,
            )
        )  # fmt: skip
    return text.getvalue()
