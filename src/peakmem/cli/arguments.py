"""What people type for shapes, dimensions and files, read and checked."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from peakmem.errors import UsageError

LONGEST_NUMBER = 1000
# digits; Python converts no text of more than 4300
_DIMS = re.compile(r"^[0-9]+([x×,][0-9]+)*$")


def parse_shapes(texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """`input=8x3x224x224` → {"input": (8, 3, 224, 224)}; without a name the key is ""."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, dims = text.rpartition("=")
        if dims in ("", "scalar"):
            shape: tuple[int, ...] = ()
        elif _DIMS.match(dims) is None or max(map(len, re.split("[x×,]", dims))) >= LONGEST_NUMBER:
            raise UsageError(
                f"--shape {text[:200]!r} is not a shape", expected="NAME=DIMxDIMx…", hint="--shape input=1x3x224x224"
            )
        else:
            shape = tuple(int(dim) for dim in re.split("[x×,]", dims))
        if name in shapes:
            raise UsageError(f"--shape is given twice for {name or 'the input'!r}")
        shapes[name] = shape
    return shapes


def parse_dims(texts: tuple[str, ...]) -> dict[str, int]:
    """`height=224` → {"height": 224}.

    Raises:
        UsageError: not NAME=NUMBER, or two values for one name.
    """
    dims: dict[str, int] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if not name or not (value.isascii() and value.isdigit() and len(value) < LONGEST_NUMBER):
            raise UsageError(f"--dim {text!r} is not a dimension", expected="NAME=NUMBER", hint="--dim height=224")
        if dims.get(name, int(value)) != int(value):
            raise UsageError(f"--dim gives {name!r} two values, {dims[name]} and {value}")
        dims[name] = int(value)
    return dims


def parse_options(texts: tuple[str, ...], **named: str | int | None) -> dict[str, str]:
    """`attention=eager` → {"attention": "eager"}; `named` holds those that have a flag of their own.

    Raises:
        UsageError: not NAME=VALUE, or two values for one name.
    """
    options = {name: str(value) for name, value in named.items() if value is not None}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise UsageError(f"--option {text!r} is not an option", expected="NAME=VALUE", hint="peakmem formats")
        if options.get(name, value) != value:
            raise UsageError(f"option {name!r} is given two values, {options[name]} and {value}")
        options[name] = value
    return options


def parse_writes(texts: tuple[str, ...], formats: tuple[str, ...]) -> list[tuple[str, Path]]:
    """`csv=layers.csv` → [("csv", Path("layers.csv"))].

    Raises:
        UsageError: not FORMAT=FILE, or a format that is none of `formats`.
    """
    writes = []
    for text in texts:
        form, _, target = text.partition("=")
        if form not in formats or not target:
            raise UsageError(
                f"--write {text!r} is not understood", expected=f"FORMAT=FILE with {', '.join(formats)}",
                hint="--write csv=layers.csv",
            )  # fmt: skip
        writes.append((form, Path(target)))
    return writes


def parse_targets(
    json_target: str | None, texts: tuple[str, ...], formats: tuple[str, ...], *, force: bool,
    source: str | Sequence[str],
) -> list[tuple[str, Path]]:  # fmt: skip
    """(format, file) of --write and --json, checked before anything is computed; `--json -` is no file.

    Args:
        source: what is read, one or several: never written over, whatever `force` says.

    Raises:
        UsageError: a target that `check_target` refuses, or one that is named twice.
    """
    targets = parse_writes(texts, formats)
    if json_target is not None and json_target != "-":
        targets.append(("json", Path(json_target)))
    once(targets)
    for _, target in targets:
        check_target(target, force=force, source=source)
    return targets


def once(targets: Sequence[tuple[str, Path]]) -> None:
    """Refuse two reports for one file.

    Raises:
        UsageError: a file is named twice.
    """
    if len({target.resolve() for _, target in targets}) < len(targets):
        raise UsageError("the same file is to be written twice")


def check_target(target: Path, *, force: bool, source: str | Sequence[str] = "") -> None:
    """Refuse a file that exists, unless `force`; the model itself is never written over.

    Raises:
        UsageError: the file must not or cannot be written.
    """
    for one in (source,) if isinstance(source, str) else source:
        if one and target.exists() and Path(one).exists() and target.samefile(one):
            raise UsageError("this is the model itself and is never written over", where=str(target))
    if target.is_dir():
        raise UsageError("this is a folder", where=str(target), expected="a file name")
    if target.is_file() and not force:
        raise UsageError("the file exists and is not overwritten", where=str(target), hint="--force")
    if not target.parent.exists():
        raise UsageError(f"there is no folder {str(target.parent)!r}", where=str(target))


def write_text(target: Path, text: str) -> None:
    """Write the whole file or nothing; what is no file (a pipe, a device) is written into and never replaced.

    Raises:
        UsageError: the system refuses.
    """
    if target.exists() and not target.is_file():
        try:
            # of a pipe: waiting for a reader that never comes would wait for ever
            handle = os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
            if hasattr(os, "set_blocking"):
                os.set_blocking(handle, True)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as fault:
            if fault.errno == errno.ENXIO:
                raise UsageError(
                    "this is a pipe that nobody reads", where=str(target), expected="a file name, or a reader first"
                ) from fault
            raise UsageError(f"cannot be written ({fault.strerror})", where=str(target)) from fault
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    except OSError as fault:
        part.unlink(missing_ok=True)
        raise UsageError(f"cannot be written ({fault.strerror})", where=str(target)) from fault
