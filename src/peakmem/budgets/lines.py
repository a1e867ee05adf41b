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
_ESCAPED = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def lines(text: str) -> dict[Path, int]:
    """The line of every key and table, counted from 1; `text` has to be valid TOML.

    A table in a list has its number as a part of the path, counted from 0.
    """
    found: dict[Path, int] = {}
    lists: Counter[Path] = Counter()
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
            prefix, at = _dotted(tokens, at + 1 + double)
            if double:
                lists[prefix] += 1
                prefix = (*prefix, str(lists[prefix] - 1))
            _note(found, prefix, line)
            at, key = at + double, False
        elif key and kind in ("bare", "string"):
            path, at = _dotted(tokens, at)
            here = (*(open_[-1][1] if open_ else prefix), *path)
            _note(found, here, line)
            key = False
            # what stands at `at` is the sign "="
        elif kind == "mark" and said in "[{":
            open_.append((said, here))
            key = said == "{"
        elif kind == "mark" and said in "]}":
            open_.pop()
            key = False
        elif kind == "mark" and said == "," and open_:
            key, here = open_[-1][0] == "{", open_[-1][1]
        at += 1
    return found


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
