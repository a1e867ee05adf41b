"""JSON from a file that may be hostile: counted before it is parsed, so that its parts fit into memory."""

from __future__ import annotations

import json
from typing import Any

from peakmem.errors import FormatError

MOST_PARTS, MOST_COMMAS = 400_000, 2_000_000
# brackets and braces, and commas: each list, dictionary and entry takes a hundred bytes once parsed


def parse_json(
    data: bytes, *, what: str, where: str = "", parts: int = MOST_PARTS, commas: int = MOST_COMMAS, once: bool = False
) -> Any:
    """The value that `data` holds.

    Args:
        what: how a message calls it, as in "the index".
        parts, commas: the most brackets and commas it may have.
        once: whether a key that stands twice in one object is an error.

    Raises:
        FormatError: not JSON, nested too deeply, or too much of it.
    """
    if data.count(b"[") + data.count(b"{") > parts or data.count(b",") > commas:
        raise FormatError(f"{what} has more parts than any model", where=where, expected=f"at most {parts:,}")
    try:
        return json.loads(data, object_pairs_hook=unrepeated if once else None)
    except (ValueError, RecursionError) as fault:
        raise FormatError(f"{what} is not JSON ({str(fault)[:200]})", where=where) from fault


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for `object_pairs_hook`; ValueError where a key stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found
