"""A file of devices as rows: every key checked, and what is wrong told with its line.

The form is TOML, `[[device]]` for each row or one list `devices = [{…}, …]`; `docs/guides/devices.md` explains it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from peakmem.devices.device import Device
from peakmem.devices.lines import places
from peakmem.devices.row import Row, said, unknown_key
from peakmem.errors import UsageError
from peakmem.toml import too_deep
from peakmem.units import format_bytes

LARGEST_FILE = 1 << 20
# bytes; the built-in tables have less than a tenth of it
LONGEST_NAME = 200
# characters of a path that are shown
ROWS = ("device", "devices")


def read(path: str | Path, *, known: Sequence[Device] | None = None) -> tuple[Device, ...]:
    """The devices of a file.

    Args:
        known: rows that `like = "NAME"` may mean; the built-in table without it.

    Raises:
        UsageError: no such file, a file that is too large, not TOML, or a row that is not understood, with its line.
    """
    where = str(path)[:LONGEST_NAME] or "''"
    try:
        if not Path(path).is_file():
            what = "is a folder" if Path(path).is_dir() else "is no file"
            raise UsageError(f"{where} {what}", expected="a TOML file of devices", hint="peakmem devices")
        with Path(path).open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as fault:
        said = getattr(fault, "strerror", None) or fault
        raise UsageError(f"{where} cannot be read: {said}", expected="a TOML file of devices") from None
    if len(data) > LARGEST_FILE:
        raise UsageError(
            f"{where} has more than {format_bytes(LARGEST_FILE)}", expected="a TOML file of devices",
            hint="several files: --device-file A --device-file B",
        )  # fmt: skip
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data[: fault.start].count(b"\n") + 1
        raise UsageError("not UTF-8", where=f"{where}, line {line}", expected="a TOML file of devices") from None
    if known is None:
        from peakmem.devices.table import listed

        known = listed()
    return tuple(_of_file(row, where) for row in devices_in(text, where, known=known))


def _of_file(row: Device, where: str) -> Device:
    """A row of a user: where it names no source, the file is the source."""
    usable = row.usable_bytes is not None or row.usable_share is not None
    return replace(
        row, origin=where, source=row.source or where, usable_source=row.usable_source or where * usable,
        storage_source=row.storage_source or where * (row.storage_bytes is not None),
    )  # fmt: skip


def devices_in(text: str, where: str, *, known: Sequence[Device] = (), built_in: bool = False) -> tuple[Device, ...]:
    """The rows of a file's text; `where` names it in messages. Built-in rows may not repeat one of `known`.

    Raises:
        UsageError: what is wrong, with its line.
    """
    data = _parsed(text, where)
    found = places(text.replace("\r\n", "\n"), ROWS)
    given = [key for key in ROWS if key in data]
    for key in data:
        if key not in ROWS:
            unknown_key(key, ROWS, f"{where}, line {found.top.get(key, 1)}", "in a file of devices")
    if len(given) != 1:
        raise UsageError(
            f"{where} has {'[[device]] and devices = […]' if given else 'no device'}",
            expected="one [[device]] or more" if not given else "one of them",
            hint='[[device]] name = "my-board" memory = "512 KiB"',
        )  # fmt: skip
    rows = data[given[0]]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(
            f"{given[0]!r} is {said(rows)}", where=f"{where}, line {found.top.get(given[0], 1)}",
            expected="a list of tables", hint="[[device]]",
        )  # fmt: skip
    if not rows:
        raise UsageError(f"{where} has no device", expected="one [[device]] or more")
    out: list[Device] = []
    names: dict[str, int] = {}
    for index, row in enumerate(rows):
        maker = Row(row, where, found, index, (*known, *out))
        device = maker.device()
        for name in (device.name, *device.aliases):
            if name in names or (built_in and any(name in (one.name, *one.aliases) for one in known)):
                first = f" in line {found.of(names[name], 'name')}" if name in names else ""
                raise UsageError(
                    f"device {name!r} is there already{first}", where=maker.at("name"), expected="a name of its own",
                )  # fmt: skip
            names[name] = index
        out.append(device)
    return tuple(out)


def _parsed(text: str, where: str) -> dict[str, Any]:
    deep = too_deep(text)
    if deep:
        raise UsageError("nested too deeply", where=f"{where}, line {deep}", expected="a TOML file of devices")
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as fault:
        what, _, place = str(fault).rpartition(" (")
        line = re.search(r"line (\d+)", place)
        at = f"{where}, line {line[1]}" if line else f"{where}, at its end"
        what = what or str(fault)
        raise UsageError(
            f"not TOML: {what[0].lower()}{what[1:]}", where=at, hint='name = "value", texts in quotation marks'
        ) from None
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply", expected="a TOML file of devices") from None
    except (ValueError, ArithmeticError):
        raise UsageError(f"{where} has a number that is too long", expected="a TOML file of devices") from None
