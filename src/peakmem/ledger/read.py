"""YAML and JSON as trees that know the line of every key; nothing is constructed, nothing is run.

Aliases, tags, keys that stand twice and files larger than any list of claims are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from peakmem.errors import FormatError

LARGEST = 1 << 20
# bytes
MOST_EVENTS = 60_000
# keys, values and brackets
DEEPEST = 12
LONGEST_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Node:
    """A text, a list or a mapping, and the line it begins on."""

    line: int
    text: str | None = None
    items: tuple[Node, ...] | None = None
    pairs: tuple[tuple[Node, Node], ...] | None = None
    quoted: bool = False

    def get(self, key: str) -> Node | None:
        """The value of a key of a mapping."""
        return next((value for name, value in self.pairs or () if name.text == key), None)

    @property
    def shown(self) -> str:
        """What it is, for an error."""
        if self.text is not None:
            return f"{self.text[:60]!r}"
        return "a list" if self.items is not None else "a mapping"


def read(path: Path, shown: str = "") -> Node:
    """The tree in a file.

    Raises:
        FormatError: it cannot be read, is too large, or is no YAML.
    """
    where = shown or str(path)
    try:
        if path.exists() and not path.is_file():  # a pipe without a writer would hold us for ever
            raise FormatError("this is no file", where=where, expected="a file of claims")
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as fault:
        raise FormatError(f"cannot be read ({fault.strerror})", where=where, expected="a file of claims") from fault
    if len(data) > LARGEST:
        raise FormatError(f"the file is larger than {LARGEST >> 20} MiB", where=where, expected="a file of claims")
    try:
        text = data.decode("utf-16") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise FormatError("this is not UTF-8 text", where=where, expected="a file of claims") from fault
    return tree(text, where)


def tree(text: str, where: str) -> Node:
    """The tree in a text.

    Raises:
        FormatError: it is no YAML, or holds what is not read here.
    """
    yaml = import_module("yaml")
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    if text.lstrip()[:1] in ("{", "["):
        text = text.replace(
            "\t", " "
        )  # JSON may be indented with tabs, which YAML refuses; in its texts there are none
    try:
        events = _guarded(yaml, yaml.parse(text, Loader=loader), where)
        roots = list(_documents(yaml, events, where))
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as fault:
        if isinstance(fault, FormatError):
            raise
        mark = getattr(fault, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        said = getattr(fault, "problem", "") or str(fault).partition("\n")[0]
        raise FormatError(f"not YAML: {' '.join(said.split())[:200]}", where=f"{where}{line}") from fault
    if len(roots) != 1:
        raise FormatError(f"the file holds {len(roots)} documents", where=where, expected="one, with `claims:`")
    return roots[0]


def _guarded(yaml: Any, events: Iterator[Any], where: str) -> Iterator[Any]:
    depth = 0
    for count, event in enumerate(events):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise FormatError("anchors and aliases are not read", where=f"{where}:{line}", expected="it written out")
        if getattr(event, "tag", None):
            what = f"the tag {str(event.tag)[:60]!r} is not read: nothing is constructed"
            raise FormatError(what, where=f"{where}:{line}", expected="plain lists, keys and texts")
        if count > MOST_EVENTS:
            raise FormatError(f"more than {MOST_EVENTS:,} keys and values", where=where)
        if isinstance(event, yaml.CollectionStartEvent | yaml.CollectionEndEvent):
            depth += 1 if isinstance(event, yaml.CollectionStartEvent) else -1
        if depth > DEEPEST:
            raise FormatError("lists stand in lists too deep", where=f"{where}:{line}", expected=f"{DEEPEST} or less")
        yield event


def _documents(yaml: Any, events: Iterator[Any], where: str) -> Iterator[Node]:
    for event in events:
        if isinstance(event, yaml.NodeEvent):
            yield _node(yaml, event, events, where)


def _node(yaml: Any, event: Any, events: Iterator[Any], where: str) -> Node:
    line = event.start_mark.line + 1
    if isinstance(event, yaml.ScalarEvent):
        if len(event.value) > LONGEST_TEXT:
            raise FormatError(f"a text of {len(event.value):,} characters", where=f"{where}:{line}")
        return Node(line, event.value, quoted=event.style is not None)
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        for inner in events:
            if isinstance(inner, yaml.SequenceEndEvent):
                break
            items.append(_node(yaml, inner, events, where))
        return Node(line, items=tuple(items))
    pairs: list[tuple[Node, Node]] = []
    known: dict[str, int] = {}
    for inner in events:
        if isinstance(inner, yaml.MappingEndEvent):
            break
        key = _node(yaml, inner, events, where)
        if key.text is None:
            raise FormatError("a key is a list", where=f"{where}:{key.line}", expected="a name")
        if key.text in known:
            first = known[key.text]
            raise FormatError(
                f"the key {key.text[:60]!r} stands twice",
                where=f"{where}:{key.line}",
                expected=f"once, as on line {first}",
            )
        known[key.text] = key.line
        pairs.append((key, _node(yaml, next(events), events, where)))
    return Node(line, pairs=tuple(pairs))
