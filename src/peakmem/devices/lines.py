"""Where the rows of a file of devices stand, and the keys in each."""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.toml import lines


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
    rows: dict[tuple[str, ...], tuple[int, dict[str, int]]] = {}
    top: dict[str, int] = {}
    for path, line in lines(text).items():
        if path[0] in names and len(path) > 1 and path[1].isdigit():
            _, keys = rows.setdefault(path[:2], (line, {}))
            if len(path) == 3:
                keys[path[2]] = line
        elif len(path) == 1:
            top[path[0]] = line
    return Places(tuple(line for line, _ in rows.values()), tuple(keys for _, keys in rows.values()), top)
