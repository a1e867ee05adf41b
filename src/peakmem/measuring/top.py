"""Rows of `top` as people paste them, with sizes in bytes.

`top` prints memory in KiB unless a letter says more (top(1), procps-ng: "m" MiB, "g" GiB, "t" TiB, "p" PiB); read as
kB or as MB such a row says something else. A table may be Markdown or columns of text, among other text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from peakmem.errors import FormatError

SIZES = ("VIRT", "RES", "SHR", "SWAP", "USED", "CODE", "DATA", "RSan", "RSfd", "RSlk", "RSsh")
# columns in KiB
_SCALED = re.compile(r"(\d{1,15}(?:[.,]\d{1,9})?)([kmgtpKMGTP]?)")
_POWERS = {"": 10, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_RULE = re.compile(r"[\s|:-]*-[\s|:-]*")
_COLOUR = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\([A-Z])")
# terminal sequences that come along from the screen


@dataclass(frozen=True, slots=True)
class TopRow:
    """One process in one look of `top`."""

    pid: int
    command: str
    # as far as top shows it; empty without the column
    sizes: dict[str, int]
    # bytes, by top's own names; VIRT is the address space (VmSize), RES the resident set, SHR its shared part
    exact: bool
    # false where a letter scaled a size, so that digits are missing
    above: str
    # the last line of other text before the table
    line: int

    @property
    def virt_bytes(self) -> int | None:
        """The address space, None without the column."""
        return self.sizes.get("VIRT")

    @property
    def res_bytes(self) -> int | None:
        """The resident set, None without the column."""
        return self.sizes.get("RES")


def read_top(text: str) -> tuple[TopRow, ...]:
    """All rows of all tables of `top` in a text; other text and other tables are passed over.

    Raises:
        FormatError: no such table, or a row that does not fit its header; it says the line.
    """
    rows = tuple(_rows(text))
    if not rows:
        raise FormatError("no rows of top", expected="a header with PID and VIRT or RES, and rows below it")
    return rows


def _rows(text: str) -> Iterator[TopRow]:
    header: list[str] | None = None
    above = ""
    for number, line in enumerate(text.splitlines(), 1):
        line = _COLOUR.sub("", line).strip()
        table = line.startswith("|")
        names = _cells(line, table, 0)
        if "PID" in names and ("VIRT" in names or "RES" in names):
            _check_header(names, number)
            header, markdown = names, table
        elif header is None:
            above = line or above
        elif _RULE.fullmatch(line):
            continue
        elif not line or table != markdown:
            if line and not markdown:
                raise FormatError("not a row of this table", where=f"line {number}", expected=" ".join(header))
            header, above = None, line or above
        else:
            yield _row(_cells(line, table, len(header)), header, number, above)


def _cells(line: str, table: bool, columns: int) -> list[str]:
    if table:
        return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
    return line.split(None, max(columns - 1, -1)) if columns else line.split()


def _check_header(names: list[str], number: int) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise FormatError(f"column {min(twice)} stands twice in the header", where=f"line {number}")


def _row(cells: list[str], header: list[str], number: int, above: str) -> TopRow:
    if len(cells) != len(header):
        raise FormatError(
            f"{len(cells)} columns, the header has {len(header)}", where=f"line {number}", expected=" ".join(header)
        )
    values = dict(zip(header, cells, strict=True))
    if not re.fullmatch(r"[0-9]{1,10}", values["PID"]):
        raise FormatError(f"PID is {values['PID'][:40]!r}", where=f"line {number}", expected="a number")
    sizes: dict[str, int] = {}
    exact = True
    for name in SIZES:
        if name in values:
            sizes[name], whole = _size(values[name], name, number)
            exact = exact and whole
    return TopRow(int(values["PID"]), values.get("COMMAND", ""), sizes, exact, above, number)


def _size(text: str, name: str, number: int) -> tuple[int, bool]:
    found = _SCALED.fullmatch(text) if text.isascii() else None
    if found is None or (not found[2] and not found[1].isdigit()):
        raise FormatError(
            f"{name} is {text[:40]!r}",
            where=f"line {number}",
            expected="KiB as a whole number, or a number with m, g, t or p",
        )
    power = _POWERS[found[2].lower()]
    if found[1].isdigit():
        return int(found[1]) << power, power == 10
    return round(float(found[1].replace(",", ".")) * (1 << power)), False
    # some locales print a comma
