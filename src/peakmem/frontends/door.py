"""The door of a reader: whatever a damaged or hostile file makes of reading it leaves as an error that names the file.

Nothing is read or recognised here. A reader names on top what its own code lets damage raise;
what stands in no list is a defect of the reader and passes as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peakmem.errors import FormatError, PeakmemError

_DAMAGE: tuple[type[Exception], ...] = (RecursionError, MemoryError, OverflowError, struct.error)


@contextmanager
def door(path: Path, *more: type[Exception], what: str = "the file") -> Iterator[None]:
    """Run the body; its errors name the file at `path` unless they say more closely where.

    Args:
        more: kinds of errors that damage raises in this reader, besides those of any reader.
        what: how a message calls the file.

    Raises:
        FormatError: the body met damage, or the file cannot be read.
    """
    try:
        yield
    except PeakmemError as fault:
        fault.locate(str(path))
        raise
    except _DAMAGE + more as fault:
        raise FormatError(f"{what} is damaged or hostile ({type(fault).__name__})", where=str(path)) from fault
    except OSError as fault:
        raise FormatError(f"cannot be read ({fault.strerror or fault})", where=str(path)) from fault
