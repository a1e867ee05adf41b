"""What the tests of the command line share."""

from __future__ import annotations

import pytest

from peakmem.cli import main


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Call the command line in a scratch folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as done:
            main(list(arguments))
        captured = capsys.readouterr()
        return int(done.value.code or 0), captured.out, captured.err

    return call
