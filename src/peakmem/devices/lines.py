"""Where a key of a TOML file stands: tomllib tells the line of a mistake in syntax and of nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

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


def too_deep(text: str) -> int:
    """The line of a key with dots in dots beyond reason, before tomllib reads it; 0 for none."""
    match = _DEEP.search(text)
    return text.count("\n", 0, match.start()) + 1 if match else 0


@dataclass(frozen=True, slots=True)
class Places:
    """Lines of the rows of a file, counted from 1, in the order of the rows, and of the keys in each."""

    rows: tuple[int, ...]
    keys: tuple[dict[str, int], ...]
    top: dict[str, int]
    # keys and tables that stand outside of all rows

    def of(self, row: int, key: str = "") -> int:
        """The line of `key` in the row, or that of the row itself."""
        return self.keys[row].get(key, self.rows[row])


def places(text: str, names: tuple[str, ...]) -> Places:
    """The places of all rows under `names`: as `[[name]]`, or in one list `name = [{…}, …]`.

    `text` has to be valid TOML.
    """
    rows: list[int] = []
    keys: list[dict[str, int]] = []
    top: dict[str, int] = {}
    tokens = list(_tokens(text))
    here, listing, depth, begins = top, False, 0, True
    for index, (kind, said, line) in enumerate(tokens):
        following = tokens[index + 1][1] if index + 1 < len(tokens) else ""
        if kind == "newline":
            begins = begins or depth == 0
            continue
        if depth == 0 and begins and said == "[":
            # a header: [name] or [[name]]
            name = next((_plain(one[1]) for one in tokens[index + 1 :] if one[1] != "["), "")
            if following == "[" and name in names:
                rows.append(line)
                keys.append({})
                here = keys[-1]
            else:
                top.setdefault(name, line)
                here = {}
        elif said in "[{" and kind == "mark":
            if said == "{" and listing and depth == 1:
                rows.append(line)
                keys.append({})
                here = keys[-1]
        elif kind in ("bare", "string") and following in ("=", ".") and (begins or (listing and depth == 2)):
            here.setdefault(_plain(said), line)
            if depth == 0:
                listing = here is top and _plain(said) in names
        depth += (said in "[{") - (said in "]}") if kind == "mark" else 0
        if depth == 0 and kind == "mark" and said == "]" and listing:
            here, listing = top, False
        begins = False
    return Places(tuple(rows), tuple(keys), top)


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    line = 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "space":
            yield str(match.lastgroup), match.group(), line
        line += match.group().count("\n")


def _plain(said: str) -> str:
    return said[1:-1] if said[:1] in "\"'" else said
