"""Names and values that a file gives: told apart where they repeat, and quoted in messages within bounds.

Nothing here knows a format. Names that follow a format's own habit (Keras's `dense_1`) are made by its reader.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMED = 5
# names that a note lists before it only counts
LONGEST_SHOWN, LONGEST_VALUE = 120, 60
# characters of a name and of a value in a message


def unique(name: str, taken: dict[str, int]) -> str:
    """`name`, or with a number behind it that was not given before; `taken` holds the next number of each."""
    count = taken.get(name, 0)
    found = name
    while found in taken:
        found = f"{name}#{count}"
        count += 1
    taken[name] = max(count, 1)
    taken.setdefault(found, 1)
    return found


def shown(name: str) -> str:
    """A name as a message shows it: quoted, escaped and of bounded length."""
    return repr(name if len(name) <= LONGEST_SHOWN else name[: LONGEST_SHOWN - 3] + "…")


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(shown(name) for name in names[:MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def shown_value(value: object) -> str:
    """A JSON value as a message shows it: the beginning of it, or what it is where it has parts."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than 30 digits"
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
