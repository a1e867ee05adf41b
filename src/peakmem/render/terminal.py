"""The report on a terminal, with rich; rich is imported here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Sequence

from peakmem.render.blocks import Block, Lines


def show(shown: Sequence[Block]) -> None:
    """Print `shown` to standard output in the terminal's width; NO_COLOR is honoured by rich."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    # rich keeps bold type under NO_COLOR; without a colour system it writes no escape code at all.
    console = Console(highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    for position, block in enumerate(shown):
        if position:
            console.print()
        console.print(Text(block.title, style="bold cyan" if position else "bold green"))
        if isinstance(block, Lines):
            for line in block.lines:
                console.print(Text(f"  {line}", style="bold" if line.startswith("peak:") else ""))
            continue
        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_footer=False)
        for name in block.columns:
            # Numbers must never be cut; long names fold onto a second line.
            numeric = name in block.numeric
            table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
        for row in block.rows:
            table.add_row(*(Text(cell) for cell in row))
        if block.total:
            table.add_section()
            table.add_row(*(Text(cell, style="bold") for cell in block.total))
        console.print(table)
