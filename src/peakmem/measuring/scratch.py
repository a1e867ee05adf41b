"""The folder of one measured process: gone afterwards, or at the next start if the measuring process was killed.

A folder in use is locked by the process that made it; a lock ends with its process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from peakmem.errors import PeakmemError

PREFIX = "peakmem-"
GRACE = 60.0
# seconds in which a new folder may not be locked yet


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder with a name of fixed length.

    Raises:
        PeakmemError: there is no place for it.
    """
    _sweep(tempfile.gettempdir())
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    except OSError as fault:
        hint = "TMPDIR=/a/folder peakmem measure …"
        raise PeakmemError(f"no temporary folder: {fault.strerror}", hint=hint) from fault
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _sweep(place: str) -> None:
    """Remove the folders of measurements that were killed; once in each process."""
    with suppress(OSError):
        for folder in Path(place).glob(f"{PREFIX}*"):
            with suppress(OSError):
                state = folder.lstat()
                if folder.is_symlink() or state.st_uid != os.geteuid() or time.time() - state.st_mtime < GRACE:
                    continue
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(lock)
