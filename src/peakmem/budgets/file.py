"""The file of budgets as text and as TOML: where it is found, and what is wrong with its syntax, with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peakmem.errors import UsageError
from peakmem.toml import too_deep

OWN, SHARED = "peakmem.toml", "pyproject.toml"
LARGEST_FILE = 1 << 22
HINT = """a file peakmem.toml with [model.NAME], source = "model.onnx", peak = "2 MiB" (docs/guides/ci.md)"""


def find_config(start: Path | None = None) -> Path:
    """peakmem.toml, or a pyproject.toml with [tool.peakmem], in the folder or the nearest one around it.

    Raises:
        UsageError: there is none.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / OWN).is_file():
            return Path(shown(folder / OWN))
        shared = folder / SHARED
        if shared.is_file() and "peakmem" in text_of(shared) and "peakmem" in tool_of(parsed(text_of(shared), shared)):
            return Path(shown(shared))
    raise UsageError(
        f"there is no {OWN} and no {SHARED} with [tool.peakmem] in {here} or above", expected="budgets to check",
        hint=HINT,
    )  # fmt: skip


def shown(path: Path) -> str:
    try:
        return path.resolve().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def text_of(path: Path) -> str:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is no file"
        raise UsageError(f"{path} {what}", expected="a file of budgets", hint=HINT)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as fault:
        raise UsageError(f"cannot be read ({fault.strerror})", where=str(path)) from None
    if len(data) > LARGEST_FILE:
        raise UsageError("the file is too large for one of budgets", where=str(path), expected="4 MiB at most")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data[: fault.start].count(b"\n") + 1
        raise UsageError("not UTF-8", where=f"{shown(path)}, line {line}", expected="a TOML file") from None


def parsed(text: str, path: Path) -> Mapping[str, Any]:
    line = too_deep(text)
    if line:
        raise UsageError("nested too deeply", where=f"{shown(path)}, line {line}", expected="a file of budgets")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        what, _, place = str(fault).rpartition(" (")
        found = re.search(r"line (\d+)", place)
        where = f"{shown(path)}, line {found[1] if found else len(text.splitlines()) or 1}"
        what = what or str(fault)
        if what == "Cannot overwrite a value":
            raise UsageError("a key stands twice, with two values", where=where, expected="one of them") from None
        table = re.search(r"Cannot declare \('(?:tool', 'peakmem', ')?model', '(.*?)'\) twice", what)
        if table:
            raise UsageError(
                f"two models are called {table[1]!r}", where=where, expected="a name for each",
                hint=f"[model.{table[1]}-2]",
            ) from None  # fmt: skip
        raise UsageError(f"not TOML: {what[0].lower()}{what[1:]}", where=where, hint='peak = "2 MiB"') from None
    except RecursionError:
        raise UsageError("nested too deeply", where=shown(path), expected="a file of budgets") from None
    except ValueError:
        raise UsageError("a number is too long", where=shown(path), expected="a file of budgets") from None


def tool_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = data.get("tool", {})
    return tool if isinstance(tool, Mapping) and isinstance(tool.get("peakmem", {}), Mapping) else {}
