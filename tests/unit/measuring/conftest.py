"""What the tests of the instrument share: an engine of known behaviour, and what a process may leave behind."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from pathlib import Path

import pytest

from peakmem.measuring.engine import Engine, describe
from peakmem.measuring.environment import TOKEN


@pytest.fixture(scope="session")
def faulty() -> Engine:
    """The engine of faulty.py."""
    path = Path(__file__).with_name("faulty.py")
    spec = importlib.util.spec_from_file_location("faulty", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return describe(module)


def processes(folder: Path) -> set[str]:
    """Processes that a measurement with its temporary files in `folder` started and that still run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                running = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
                variables = (entry / "environ").read_bytes()
                if running and f"{TOKEN}=".encode() in variables and f"TMPDIR={folder}/".encode() in variables:
                    found.add(entry.name)
            except OSError:
                continue
    return found


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """Fails the test when a process or a folder is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    deadline = time.monotonic() + 10
    while processes(tmp_path) and time.monotonic() < deadline:
        # what was killed takes a moment to go, on a busy machine
        time.sleep(0.05)
    assert processes(tmp_path) == set()
    assert [path.name for path in tmp_path.glob("peakmem-*")] == []
