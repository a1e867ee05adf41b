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
MARK = ".peakmem-measurement"
# an empty file in every such folder: other folders may have names that begin so, and are somebody's work
GRACE = 60.0
# seconds in which a new folder may not be locked yet


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder with a name of fixed length.

    Raises:
        PeakmemError: there is no place for it.
    """
    folder = None
    try:
        _sweep(tempfile.gettempdir())
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        (folder / MARK).touch()
    except OSError as fault:
        if folder is not None:
            _remove(folder)
        hint = "TMPDIR=/a/folder peakmem measure …"
        raise PeakmemError(f"no temporary folder: {fault.strerror}", hint=hint) from fault
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        os.close(lock)
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder, whatever the rights of what a process left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    with suppress(OSError):
        folder.chmod(0o700)
        for place, inner, _ in os.walk(folder):
            # from the top: a folder is opened before it is walked
            for name in inner:
                path = Path(place, name)
                if not path.is_symlink():
                    path.chmod(0o700)
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
                if not (folder / MARK).is_file():
                    continue
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(folder)
                finally:
                    os.close(lock)
