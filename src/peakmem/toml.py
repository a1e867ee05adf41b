"""Where each key of a TOML file stands: tomllib tells the line of a mistake in syntax and of nothing else."""

from __future__ import annotations

import re
from collections import Counter

Path = tuple[str, ...]

_TOKEN = re.compile(
    r'''(?P<space>[ \t\r]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<string>"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
      | (?P<mark>[\[\]{}=,.])
      | (?P<bare>[^\s\[\]{}=,."'\#]+)''',
    re.VERBOSE | re.DOTALL,
)
_PART = r"(?:[A-Za-z0-9_-]++|\"[^\"\n]*\"|'[^'\n]*')"
_DEEP = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{32}}")
# a key of more parts than any file has; tomllib takes their square to read them
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def too_deep(text: str) -> int:
    """The line of a key with dots in dots beyond reason, before tomllib reads it; 0 for none."""
    match = _DEEP.search(text)
    return text.count("\n", 0, match.start()) + 1 if match else 0


def lines(text: str) -> dict[Path, int]:
    """The line of every key and table, counted from 1; `text` has to be valid TOML.

    A table in a list, `[[name]]` or `name = [{…}]`, has its number as a part of the path, counted from 0.
    """
    found: dict[Path, int] = {}
    lists: Counter[Path] = Counter()
    # tables so far in each `[[list]]`
    items: Counter[Path] = Counter()
    # commas so far in each list that is written out
    tokens = _tokens(text)
    prefix: Path = ()
    here: Path = ()
    # the key whose value is read
    open_: list[tuple[str, Path]] = []
    # brackets that are open, with the path inside of them
    key = True
    # whether a key may come
    at = 0
    while at < len(tokens):
        kind, said, line = tokens[at]
        if kind == "newline":
            key = key or not open_
        elif key and said == "[" and kind == "mark" and not open_:
            double = tokens[at + 1][1] == "["
            dotted, at = _dotted(tokens, at + 1 + double)
            prefix = _placed(dotted[:-1], lists)
            prefix = _numbered((*prefix, dotted[-1]), lists) if double else _placed(dotted, lists)
            _note(found, prefix, line)
            at, key = at + double, False
        elif key and kind in ("bare", "string"):
            path, at = _dotted(tokens, at)
            here = (*(open_[-1][1] if open_ else prefix), *path)
            _note(found, here, line)
            key = False
            # what stands at `at` is the sign "="
        elif kind == "mark" and said in "[{":
            if open_ and open_[-1][0] == "[":
                here = (*open_[-1][1], str(items[open_[-1][1]]))
                if said == "{":
                    _note(found, here, line)
            open_.append((said, here))
            key = said == "{"
        elif kind == "mark" and said in "]}":
            open_.pop()
            key = False
        elif kind == "mark" and said == "," and open_:
            key, here = open_[-1][0] == "{", open_[-1][1]
            items[here] += not key
        at += 1
    return found


def _numbered(path: Path, lists: Counter[Path]) -> Path:
    """The path of one more table in the list at `path`."""
    lists[path] += 1
    return (*path, str(lists[path] - 1))


def _placed(dotted: Path, lists: Counter[Path]) -> Path:
    """`dotted` with the number of the last table behind each part that is a list."""
    path: Path = ()
    for part in dotted:
        path = (*path, part)
        if lists[path]:
            path = (*path, str(lists[path] - 1))
    return path


def _note(found: dict[Path, int], path: Path, line: int) -> None:
    for depth in range(1, len(path) + 1):
        found.setdefault(path[:depth], line)


def _dotted(tokens: list[tuple[str, str, int]], at: int) -> tuple[Path, int]:
    """A key such as `a."b c".d`, and where the token after it stands."""
    parts = [_plain(tokens[at][1])]
    at += 1
    while at + 1 < len(tokens) and tokens[at][1] == ".":
        parts.append(_plain(tokens[at + 1][1]))
        at += 2
    return tuple(parts), at


def _tokens(text: str) -> list[tuple[str, str, int]]:
    out, line = [], 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "space":
            out.append((str(match.lastgroup), match.group(), line))
        line += match.group().count("\n")
    return out


def _plain(said: str) -> str:
    if said[:1] == '"':
        return re.sub(r"\\(.)", lambda found: _ESCAPED.get(found[1], found[0]), said[1:-1])
    return said[1:-1] if said[:1] == "'" else said
