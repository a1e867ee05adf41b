"""Where converted models are kept: one folder each, named after what it was made from and how.

    ROOT/conversions/KEY/route.json and the files      ROOT: $PEAKMEM_CACHE, $XDG_CACHE_HOME/peakmem, ~/.cache/peakmem
    ROOT/locks/00 … ff                                 one conversion at a time for keys that begin so
    ROOT/scratch/PID.…                                 of a conversion that runs now

A folder appears whole or not at all: it is made in scratch, on the same file system, and renamed. Scratch folders are
locked while they are used; what a killed process left is swept away by the next conversion. Nothing is ever changed in
a kept folder, and one whose files have not the sizes that its route.json tells is made again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peakmem.conversion.step import Port
from peakmem.errors import UsageError
from peakmem.measuring.counter.build import cache_folder

ROUTE = "route.json"
SCHEMA = "peakmem.conversion/1"
VARIABLE = "PEAKMEM_CACHE"
_PAUSE = 0.1
# seconds between two looks at a lock


@dataclass(frozen=True, slots=True)
class Kept:
    """One conversion that is kept."""

    path: Path
    # the file to hand on
    inputs: tuple[Port, ...]
    # of that file; empty where they are not known
    notes: tuple[str, ...]
    tool: str
    # with its version
    content: str
    # hash of the files, as `content_hash` tells it
    nbytes: int
    # of all its files


def root(cache: str | Path | None = None) -> Path:
    """The folder that everything is kept under: `cache`, or what the environment says."""
    if cache is not None:
        return Path(cache).expanduser().absolute()
    try:
        return cache_folder()
    except RuntimeError as fault:
        raise UsageError("there is no home folder to keep converted models in", hint=f"{VARIABLE}=FOLDER") from fault


class Cache:
    """Converted models below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def find(self, key: str) -> Kept | None:
        """What is kept under `key`; None when there is nothing, or it is not whole."""
        home = self.folder / "conversions" / key
        try:
            told = json.loads((home / ROUTE).read_text(encoding="utf-8"))
            if told["schema"] != SCHEMA:
                return None
            sizes: dict[str, int] = told["files"]
            if any((home / name).stat().st_size != size for name, size in sizes.items()):
                return None
            inputs = tuple(Port(port["name"], port["dtype"], tuple(port["shape"])) for port in told["inputs"])
            return Kept(
                home / told["path"], inputs, tuple(told["notes"]), told["tool"], told["content"], sum(sizes.values())
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, key: str, made: Path, told: dict[str, Any], inputs: tuple[Port, ...]) -> Kept:
        """Move the folder `made` into the cache under `key`, with `told` in its route.json.

        Raises:
            UsageError: the system refuses.
        """
        home = self.folder / "conversions" / key
        with self.refusals():
            sizes = {
                str(path.relative_to(made)): path.stat().st_size for path in sorted(made.rglob("*")) if path.is_file()
            }
            route = {"schema": SCHEMA, **told, "inputs": [asdict(port) for port in inputs], "files": sizes}
            (made / ROUTE).write_text(json.dumps(route, indent=1) + "\n", encoding="utf-8")
            home.parent.mkdir(parents=True, exist_ok=True)
            if self.find(key) is None:
                shutil.rmtree(home, ignore_errors=True)
                made.rename(home)
        kept = self.find(key)
        if kept is None:
            raise UsageError("what was converted cannot be read back", where=str(home), hint=f"{VARIABLE}=FOLDER")
        return kept

    @contextmanager
    def refusals(self) -> Iterator[None]:
        """Say in one sentence that the system does not let us write, and why."""
        try:
            yield
        except OSError as fault:
            raise UsageError(
                f"converted models cannot be kept here ({fault.strerror or fault})", where=str(self.folder),
                hint=f"{VARIABLE}=FOLDER, a folder with room",
            ) from fault  # fmt: skip

    @contextmanager
    def alone(self, key: str, seconds: float) -> Iterator[None]:
        """Let no other process convert to `key` meanwhile.

        Raises:
            UsageError: another one holds it for more than `seconds`, or the folder cannot be written.
        """
        with self.refusals():
            locks = self.folder / "locks"
            locks.mkdir(parents=True, exist_ok=True)
            file = os.open(locks / key[:2], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            until = time.monotonic() + seconds
            while not _locked(file, without=True):
                if time.monotonic() > until:
                    raise UsageError(
                        f"another process has been converting for more than {seconds:.0f} s", where=str(self.folder)
                    )
                time.sleep(_PAUSE)
            yield
        finally:
            os.close(file)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder on the cache's file system, removed afterwards whatever happens.

        Raises:
            UsageError: it cannot be made.
        """
        with self.refusals():
            base = self.folder / "scratch"
            base.mkdir(parents=True, exist_ok=True)
            self._sweep(base)
            home = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}.", dir=base))
        file = -1
        try:
            with self.refusals():
                file = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield home
        finally:
            shutil.rmtree(home, ignore_errors=True)
            if file >= 0:
                os.close(file)

    def _sweep(self, base: Path) -> None:
        """Remove scratch folders of processes that are no more."""
        for left in base.iterdir():
            try:
                if time.time() - left.stat().st_mtime < 60:
                    continue
                # its owner may not have locked it yet
                file = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                if _locked(file, without=False):
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(file)


def _locked(file: int, *, without: bool) -> bool:
    """Whether the lock could be taken; `without` where the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return without
    return True
