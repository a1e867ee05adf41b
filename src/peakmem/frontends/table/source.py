"""Tables as text: pipe tables of Markdown, separated values, YAML, plain lists; cells and where they stand.

What a cell means is not known here. Sizes are bounded before anything is taken apart.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from peakmem.errors import FormatError

LARGEST_FILE = 4 << 20
# bytes; a layer table of a thousand rows has a fiftieth of that
LARGEST_YAML = 256 << 10
# bytes; its parser is slow
MOST_EVENTS = 40_000
# keys, values, brackets of a YAML file
MOST_LINES = 20_000
MOST_ROWS = 1_000
# of one table
MOST_COLUMNS = 64
LONGEST_CELL = 400
DEEPEST = 8
# lists in lists of a YAML file

SETTINGS = ("layout", "dtype", "padding", "bias", "batch", "input")
_SETTING = re.compile(rf"^[\s#>*\-]*\**({'|'.join(SETTINGS)})\**\s*[:=]\s*\**([\w.\-×]+)\**\s*$", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*+•]|\d{1,4}[.)])\s+(?P<text>.*)$")
_RULE = re.compile(r"^:?-+:?$")
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class Line:
    """The cells of one row and the line of the file it stands on (0: not known)."""

    number: int
    cells: tuple[str, ...]
    times: int = 1
    # how often a surrounding list repeats it
    block: int = 0
    # rows of that list, with the last of them; 0 for rows without one


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table: its headers (a single empty one for a list of sentences) and its rows."""

    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


def sheets(path: Path) -> list[Sheet]:
    """Every table that the file at `path` may hold, the likeliest first.

    Raises:
        FormatError: not text, or larger than any layer table.
    """
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as fault:
        raise FormatError(f"cannot be read ({fault.strerror})", where=where) from fault
    yaml = path.suffix.lower() in (".yaml", ".yml")
    limit = LARGEST_YAML if yaml else LARGEST_FILE
    if len(data) > limit:
        raise FormatError(f"the file is larger than {limit >> 10} KiB", where=where, expected="a layer table")
    try:
        text = data.decode("utf-16") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise FormatError("this is not UTF-8 text", where=where, expected="a layer table") from fault
    if "\0" in text:
        raise FormatError("this is not text", where=where, expected="a layer table")
    if yaml:
        return _yaml(text, where)
    lines = text.splitlines()
    if len(lines) > MOST_LINES:
        raise FormatError(f"the file has more than {MOST_LINES} lines", where=where, expected="a layer table")
    settings = _settings(lines)
    found = list(_pipes(lines, settings))
    if path.suffix.lower() in (".csv", ".tsv") and not found:
        found += _separated(lines, settings, where)
    markdown = path.suffix.lower() == ".md"
    if not found or markdown:
        found += _sentences(lines, settings, all_lines=not markdown)
    return found


def _settings(lines: Sequence[str]) -> dict[str, str]:
    matches = (_SETTING.match(line) for line in lines if len(line) <= LONGEST_CELL)
    return {match.group(1).lower(): match.group(2) for match in matches if match}


# -- Markdown ----------------------------------------------------------------------------


def _pipes(lines: Sequence[str], settings: Mapping[str, str]) -> Iterator[Sheet]:
    at = 0
    while at < len(lines):
        header = _cells(lines[at])
        rule = _cells(lines[at + 1]) if at + 1 < len(lines) and header else ()
        if not rule or not all(_RULE.match(cell) for cell in rule):
            at += 1
            continue
        rows = []
        at += 2
        while at < len(lines) and (cells := _cells(lines[at])):
            rows.append(Line(at + 1, cells))
            at += 1
        yield Sheet(header, tuple(rows), settings)


def _cells(line: str) -> tuple[str, ...]:
    """Cells of a line of a pipe table; none for other lines."""
    text = line.strip()
    if "|" not in text or len(text) > MOST_COLUMNS * LONGEST_CELL:
        return ()
    text = text.removeprefix("|")
    if text.endswith("|") and not text.endswith("\\|"):
        text = text[:-1]
    parts = re.split(r"(?<!\\)\|", text)
    return tuple(part.replace("\\|", "|").strip()[:LONGEST_CELL] for part in parts[:MOST_COLUMNS])


# -- separated values --------------------------------------------------------------------


def _separated(lines: Sequence[str], settings: Mapping[str, str], where: str) -> list[Sheet]:
    kept = [
        (number, line)
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#") and not _SETTING.match(line[:LONGEST_CELL])
    ]
    best: list[Line] = []
    for delimiter in _DELIMITERS:
        try:
            rows = [
                Line(number, tuple(cell.strip()[:LONGEST_CELL] for cell in cells[:MOST_COLUMNS]))
                for number, line in kept
                for cells in csv.reader(io.StringIO(line), delimiter=delimiter, skipinitialspace=True)
            ]
        except csv.Error as fault:
            raise FormatError(f"not separated values: {fault}", where=where) from fault
        width = len(rows[0].cells) if rows else 0
        regular = sum(1 for row in rows if len(row.cells) == width)
        if width > 1 and regular * 2 > len(rows) and (not best or width > len(best[0].cells)):
            best = rows
    return [Sheet(best[0].cells, tuple(best[1:]), settings)] if best else []


# -- sentences ---------------------------------------------------------------------------


def _sentences(lines: Sequence[str], settings: Mapping[str, str], *, all_lines: bool) -> Iterator[Sheet]:
    """Lists as rows of one column: bullets and code blocks of Markdown, all lines of other files together."""
    rows: list[Line] = []
    fenced = False
    for number, line in enumerate(lines, start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        bullet = _BULLET.match(line[:LONGEST_CELL])
        text = bullet.group("text") if bullet else line.strip()
        if not text or _SETTING.match(line[:LONGEST_CELL]) or (text.startswith("#") and not bullet):
            continue
        if bullet or fenced or all_lines:
            rows.append(Line(number, (text[:LONGEST_CELL],)))
        elif rows:  # prose ends a list
            yield Sheet(("",), tuple(rows), settings)
            rows = []
    if rows:
        yield Sheet(("",), tuple(rows), settings)


# -- YAML --------------------------------------------------------------------------------


def _yaml(text: str, where: str) -> list[Sheet]:
    content = _parsed(text, where)
    settings: dict[str, str] = {}
    if isinstance(content, dict):
        settings = {name.lower(): _flat(content[name], where) for name in content if name.lower() in SETTINGS}
        content = next((content[name] for name in ("layers", "rows", "table", "network") if name in content), None)
    if not isinstance(content, list):
        raise FormatError("there is no list of layers", where=where, expected="a list, or `layers:` with a list")
    rows: list[tuple[dict[str, str], int, int]] = []
    _gather(content, 0, 1, rows, where)
    names = list(dict.fromkeys(name for row, _, _ in rows for name in row))
    if len(names) > MOST_COLUMNS:
        raise FormatError(f"the rows have {len(names)} different keys", where=where, expected=f"{MOST_COLUMNS} or less")
    lines = tuple(
        Line(0, tuple(row.get(name, "")[:LONGEST_CELL] for name in names), times, block) for row, times, block in rows
    )
    return [Sheet(tuple(names), lines, settings)]


def _gather(items: list[Any], depth: int, times: int, rows: list[tuple[dict[str, str], int, int]], where: str) -> None:
    if depth > DEEPEST:
        raise FormatError("lists stand in lists too deep", where=where, expected=f"{DEEPEST} or less")
    for item in items:
        if len(rows) >= MOST_ROWS:
            raise FormatError(f"more than {MOST_ROWS} rows", where=where)
        if isinstance(item, str):
            rows.append(({"": item}, 1, 0))
        elif isinstance(item, dict):
            inner = item.get("rows", item.get("layers"))
            if isinstance(inner, list):
                start = len(rows)
                _gather(inner, depth + 1, times, rows, where)
                count = str(item.get("repeat", "1")).strip("x× ")
                if not count.isdecimal() or len(count) > 6:
                    raise FormatError(f"repeat is {count[:40]!r}", where=where, expected="a number")
                if len(rows) > start and int(count) != 1:
                    last, many, nested = rows[-1]
                    if nested:
                        raise FormatError("a repeated list ends in a repeated list", where=where)
                    rows[-1] = (last, int(count) if many == 1 else many, len(rows) - start)
            else:
                rows.append(({str(name): _flat(value, where) for name, value in item.items()}, 1, 0))
        else:
            raise FormatError("a row is neither a sentence nor a mapping", where=where)


def _flat(value: object, where: str) -> str:
    """A cell of a YAML row: a scalar, or a list such as [224, 224, 3] as a shape."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and len(value) <= 8 and all(isinstance(part, str) for part in value):
        return "x".join(value)
    raise FormatError("a cell is neither a scalar nor a shape", where=where, expected="224x224x3 or [224, 224, 3]")


def _parsed(text: str, where: str) -> Any:
    """The YAML document as dicts, lists and strings; nothing is constructed, aliases and tags are refused."""
    yaml = import_module("yaml")
    try:
        depth = 0
        for events, event in enumerate(yaml.parse(text, Loader=yaml.BaseLoader)):
            if isinstance(event, yaml.AliasEvent):
                raise FormatError("aliases are not read", where=where, expected="the rows written out")
            if getattr(event, "tag", None):
                what = f"the tag {str(event.tag)[:60]!r} is not read: nothing is constructed"
                raise FormatError(what, where=where, expected="plain lists, keys and texts")
            if events > MOST_EVENTS:
                raise FormatError(f"more than {MOST_EVENTS} keys and values", where=where, expected="a layer table")
            if isinstance(event, yaml.CollectionStartEvent | yaml.CollectionEndEvent):
                depth += 1 if isinstance(event, yaml.CollectionStartEvent) else -1
            if depth > 2 * DEEPEST + 4:  # a mapping and a list for each level
                raise FormatError("lists stand in lists too deep", where=where, expected=f"{DEEPEST} or less")
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as fault:
        said = str(fault).replace('in "<unicode string>", ', "at ")
        raise FormatError(f"not YAML: {' '.join(said.split())[:200]}", where=where) from fault
