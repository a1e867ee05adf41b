"""What each row of a sheet says, its cells put together; nothing is concluded from its neighbours here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from peakmem.frontends.table.source import Line, Sheet
from peakmem.frontends.table.words import TOTALS, Phrase, count, phrase, plain, role, shape

Kind = Literal["layer", "repeat", "sum", "max", "input", "other", "unknown"]
CLAIMED = ("parameters", "memory")
# roles of columns with numbers that can be recomputed

_REPEAT = re.compile(r"[…\.\s:|]*\(?(?:x\s*(\d{1,6})|(\d{1,6})\s*x|repeat(?:ed)?\s*(\d{1,6})(?:\s*times)?)\)?[…\.\s]*")


@dataclass(frozen=True, slots=True)
class Said:
    """One row as it stands in the table."""

    number: int
    line: int
    kind: Kind
    name: str
    text: str
    phrase: Phrase
    expansion: int | None = None
    in_channels: int | None = None
    dtype: str = ""
    claims: tuple[tuple[int, str], ...] = ()
    # (column, text of the cell)
    block: int = 0
    # rows before and with this one that are repeated together; 0 for none
    block_times: int = 1
    disagreements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a sheet by role."""

    roles: tuple[str, ...]
    headers: tuple[str, ...]

    def first(self, *names: str) -> int | None:
        return next((at for name in names for at, have in enumerate(self.roles) if have == name), None)


def columns(sheet: Sheet) -> Columns:
    """Roles of the columns of `sheet`; of several columns for one thing the first has it."""
    roles = [role(header) for header in sheet.columns]
    if "type" in roles and "layer" in roles and sheet.columns[roles.index("layer")].strip():
        roles[roles.index("layer")] = "name"
    if "kernel" not in roles:
        at = next((at for at, name in enumerate(roles) if not name and _holds_kernels(sheet, at)), None)
        if at is not None:
            roles[at] = "kernel"
    if "output" not in roles and "kernel" in roles and _holds_images(sheet, roles.index("kernel")):
        roles[roles.index("kernel")] = "output"
    if not {"type", "layer"} & set(roles):
        at = next((at for at, name in enumerate(roles) if name in ("name", "")), None)
        if at is not None:
            roles[at] = "layer"
    single = {"layer", "type", "name", "kernel", "input", "output", "stride", "channels", "repeat"}
    for at, name in enumerate(roles):
        if name in single and name in roles[:at]:
            roles[at] = ""
    return Columns(tuple(roles), sheet.columns)


def _holds_kernels(sheet: Sheet, column: int) -> bool:
    """Whether a column of another name holds kernels, as "18-layer" does in a table of ResNets."""
    cells = [text for line in sheet.lines if column < len(line.cells) and (text := line.cells[column].strip())]
    return bool(cells) and 2 * sum(1 for text in cells if phrase(text).kernel) > len(cells)


def _holds_images(sheet: Sheet, column: int) -> bool:
    """Whether a column called just "size" holds images rather than kernels."""
    if sheet.columns[column].strip().lower() != "size":
        return False
    shapes = [shape(line.cells[column]) for line in sheet.lines if column < len(line.cells)]
    return sum(1 for one in shapes if len(one) == 3 and max(one) > 11) * 2 > len([one for one in shapes if one])


def said(sheet: Sheet, found: Columns) -> list[Said]:
    """The rows of `sheet`, empty ones left out."""
    rows = []
    for number, line in enumerate(sheet.lines, start=1):
        row = _row(number, line, found)
        if row is not None:
            rows.append(row)
    return rows


def is_header_a_row(sheet: Sheet) -> bool:
    """Whether the first line of separated values is a layer itself, so that there is no header."""
    sized = any(re.search(r"\dx\d", plain(header)) for header in sheet.columns)
    return sized and bool(phrase(" ".join(sheet.columns)).ops)


def sentences_of(sheet: Sheet) -> Sheet:
    """A sheet without a header as a list of sentences."""
    lines = (Line(0, sheet.columns), *sheet.lines)
    return replace(sheet, columns=("",), lines=tuple(replace(line, cells=(" ".join(line.cells),)) for line in lines))


def _row(number: int, line: Line, found: Columns) -> Said | None:
    cells: dict[str, str] = {}
    for name, text in zip(found.roles, line.cells, strict=False):
        if name and text.strip() and text.strip() not in ("-", "—", "–", "\\-"):
            cells.setdefault(name, text.strip())
    if not any(cell.strip() for cell in line.cells):
        return None
    main = cells.get("type") or cells.get("layer") or ""
    name = cells.get("name", "") or (cells.get("layer", "") if "type" in cells else "")
    spoken = phrase(main)
    if not spoken.ops and name and phrase(name).ops:
        spoken = replace(phrase(name), text=main or name)
    if not spoken.ops and "kernel" in cells and phrase(cells["kernel"]).ops:
        spoken = replace(phrase(cells["kernel"]), text=main or name)
    claims = tuple(
        (at, text.strip())
        for at, (have, text) in enumerate(zip(found.roles, line.cells, strict=False))
        if have in CLAIMED and text.strip()
    )
    said_text = plain(f"{main} {name}".strip())
    kind = _kind(spoken, said_text, main)
    if kind == "other" and (claims or spoken.kernel or {"kernel", "input", "output", "channels"} & set(cells)):
        kind = "unknown"
    shown = " ".join((main or name).split())
    row = Said(
        number, line.number, kind, name or shown, shown, spoken, claims=claims, dtype=cells.get("dtype", ""),
        block=line.block, block_times=line.times,
    )  # fmt: skip
    if kind == "repeat":
        times = next(int(part) for part in _repeat(said_text) if part)
        return replace(row, block=-1, block_times=times)
    if kind in ("layer", "input"):
        row = _completed(row, cells)
    return row


def _repeat(text: str) -> Sequence[str]:
    match = _REPEAT.fullmatch(text.replace("...", "…"))
    return match.groups() if match else ()


def _kind(spoken: Phrase, text: str, main: str) -> Kind:
    if spoken.ops:
        return "input" if spoken.ops[0] == "input" else "layer"
    if _repeat(text):
        return "repeat"
    words = re.findall(r"[^\W\d_]+|∑", plain(main)) or re.findall(r"[^\W\d_]+|∑", text)
    if words and words[0] in TOTALS:
        return TOTALS[words[0]]
    if spoken.unread:
        return "layer"
    return "other"


def _completed(row: Said, cells: Mapping[str, str]) -> Said:
    """`row` with what its other cells say; a cell of its own outweighs the words of the layer cell."""
    spoken = row.phrase
    wrong: list[str] = []
    if "kernel" in cells:
        spoken = _with_kernel(spoken, phrase(cells["kernel"]))
    if "channels" in cells:
        value = shape(cells["channels"])
        if len(value) == 1:
            spoken = replace(spoken, channels=value[0])
        elif len(value) > 1 and not spoken.kernel:
            spoken = replace(spoken, kernel=value)
    for name in ("input", "output"):
        value = shape(cells[name]) if name in cells else ()
        if value:
            spoken = replace(spoken, input=value) if name == "input" else replace(spoken, output=value)
    for name in ("stride", "padding", "dilation", "group"):
        if name in cells and not _is_told(name, cells[name]):
            wrong.append(f"the {name} {cells[name][:40]!r} is not understood and was passed over")
            cells = {have: text for have, text in cells.items() if have != name}
    if "stride" in cells and (value := shape(cells["stride"])):
        stride = (value[0], value[-1])
        if spoken.stride is not None and spoken.stride != stride:
            wrong.append(
                f"{row.text!r} says stride {spoken.stride[0]}, its stride column {stride[0]}; the column was taken"
            )
        spoken = replace(spoken, stride=stride)
    if "padding" in cells:
        spoken = _with_padding(spoken, plain(cells["padding"]))
    told = {name: count(cells[name]) for name in ("dilation", "group", "repeat") if name in cells}
    spoken = replace(
        spoken,
        dilation=told.get("dilation") or spoken.dilation,
        group=told.get("group") or spoken.group,
        repeat=told.get("repeat") or spoken.repeat,
    )
    if "bias" in cells:
        spoken = replace(spoken, bias=plain(cells["bias"]) in ("1", "yes", "true", "y", "with", "x"))
    if "from" in cells:
        names = tuple(part for part in re.split(r"[,;\s]+", plain(cells["from"])) if part)
        spoken = replace(spoken, refs=names)
    return replace(
        row,
        phrase=spoken,
        expansion=count(cells.get("expansion", "")),
        in_channels=count(cells.get("in_channels", "")),
        disagreements=tuple(wrong),
    )


def _is_told(name: str, text: str) -> bool:
    """Whether a cell says a whole number that its column can have: neither -2 nor 2.5 is a stride."""
    if re.search(r"(?:^|[\s(=])-\s*\d|\d\.\d", text):
        return False
    if name == "padding":
        return plain(text) in ("same", "valid") or bool(shape(text))
    return bool(shape(text)) if name == "stride" else count(text) is not None


def _with_kernel(spoken: Phrase, cell: Phrase) -> Phrase:
    ops = spoken.ops
    if "dw" in cell.ops and ops[:1] == ("conv",):
        ops = ("dw", *ops[1:])
    elif cell.ops and (cell.ops[0] == ops[0] or (ops[0] == "pool" and cell.ops[0] in ("max", "avg"))):
        ops = (*cell.ops, *(op for op in ops[1:] if op not in cell.ops))
    if cell.kernel and cell.input and ops[0] != "input":
        return replace(spoken, unread="a block of several kernels in one cell")
    kernel, numbers = cell.kernel, cell.numbers
    if not kernel and not spoken.kernel and len(numbers) == 1 and ops[:1] != ("fc",):
        kernel, numbers = (numbers[0],) * 2, ()
    return replace(
        spoken,
        ops=ops,
        kernel=kernel if len(kernel) >= len(spoken.kernel) else spoken.kernel,
        numbers=numbers or spoken.numbers,
        channels=cell.channels or spoken.channels,
        stride=cell.stride or spoken.stride,
        padding=cell.padding or spoken.padding,
        refs=spoken.refs or cell.refs,
    )


def _with_padding(spoken: Phrase, text: str) -> Phrase:
    if text in ("same", "valid"):
        return replace(spoken, padding=text)
    value = shape(text)
    return replace(spoken, padding=(value[0], value[-1])) if value and len(value) <= 2 else spoken
