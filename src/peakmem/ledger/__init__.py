"""Published claims on memory, recomputed: right, wrong, ambiguous, or practice.

A claim is a statement with its context, written as YAML; what it says is computed by the same functions that answer
everything else here. Reading stands in `read` and `file`, the language in `expression` and `functions`, judging in
`amount` and `verdict`, the search for what somebody meant in `explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from peakmem.errors import UsageError

if TYPE_CHECKING:
    from peakmem.report.ledger import Ledger
    from peakmem.units import Units


def check_claims(
    files: str | Path | Iterable[str | Path] = (), *, only: Sequence[str] = (), units: Units | None = None
) -> Ledger:
    """Every claim in `files` with its verdict, the computed value, and what would make a wrong one true.

    Args:
        files: YAML or JSON files of claims; the built-in five when none is named.
        only: ids of the claims to check; "S3-*" is a pattern.
        units: "iec", "si" or "bytes" for the sizes in sentences; both readings of MB without it.

    Raises:
        FormatError: a file that is no list of claims.
        UsageError: a network, function, unit or id that is not there; the message names file and line.
        MissingLibrary: no YAML parser is installed.
    """
    from fnmatch import fnmatchcase

    from peakmem.ledger.check import check
    from peakmem.ledger.file import built_in, claims, unique

    paths = [Path(files)] if isinstance(files, str | Path) else [Path(one) for one in files]
    listed = tuple(claims(path) for path in paths) if paths else built_in()
    unique(listed)
    ids = [claim.id for one in listed for claim in one.claims]
    chosen: list[str] = []
    for wanted in only:
        found = [one for one in ids if fnmatchcase(one, wanted)]
        if not found:
            from difflib import get_close_matches

            near = get_close_matches(wanted, ids, n=3, cutoff=0.5)
            raise UsageError(
                f"no claim is called {wanted[:60]!r}", expected=f"one of {', '.join(near or ids[:6])}",
                hint=f"--only {near[0]}" if near else "",
            )  # fmt: skip
        chosen += found
    return check(listed, only=tuple(chosen), units=units)


__all__ = ["check_claims"]
