"""The folder of a measured process: one's own, gone afterwards, and those of killed measurements swept."""

from __future__ import annotations

import fcntl
import os
import tempfile

import pytest

from peakmem.errors import PeakmemError
from peakmem.measuring import scratch
from peakmem.measuring.scratch import GRACE, scratch_folder


@pytest.fixture
def place(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    scratch._sweep.cache_clear()
    return tmp_path


def old(folder):
    """A folder that was last written to before the grace."""
    folder.mkdir()
    (folder / "input0").write_bytes(b"x")
    (folder / scratch.MARK).touch()
    then = folder.stat().st_mtime - 2 * GRACE
    os.utime(folder, (then, then))
    return folder


def test_it_is_gone_afterwards_whatever_happens(place):
    def interrupted():
        with scratch_folder() as folder:
            (folder / "file").write_text("x")
            assert folder.parent == place
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(place.iterdir()) == []


def test_only_what_nobody_holds_is_swept(place):
    work = place / "peakmem-checkout"
    work.mkdir()
    (work / "thesis.txt").write_text("x")
    os.utime(work, (0, 0))
    # a folder of the user's with such a name
    left, held, other = old(place / "peakmem-abandoned"), old(place / "peakmem-inuse"), old(place / "somebodys")
    (place / "peakmem-link").symlink_to(other)
    fresh = place / "peakmem-fresh"
    fresh.mkdir()
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with scratch_folder():
            assert not left.exists()
            assert held.exists()
            assert other.exists()
            assert fresh.exists()
            assert (work / "thesis.txt").exists()
    finally:
        os.close(lock)


def test_what_a_process_locked_away_is_removed_too(place):
    with scratch_folder() as folder:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "file").touch()
        (folder / "a" / "b").chmod(0)
        (folder / "a").chmod(0)
        folder.chmod(0o500)
    assert list(place.iterdir()) == []


def test_no_place_is_one_sentence(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(PeakmemError, match="no temporary folder"), scratch_folder():
        pass
