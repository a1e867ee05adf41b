"""What the tests of budgets share: small models whose bytes are told by hand, and files of budgets beside them."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def model(tmp_path):
    """Write a model of two convolutions, 1x1 then 1x1, on 1x4x8x8: `width` channels, then 4; no bias.

    Weights: 4 * (4 * width + width * 4) = 32 * width bytes. Activations in bytes: input 4 * 4 * 64 = 1,024, middle
    4 * width * 64 = 256 * width, output 1,024. Live peak: input + middle or middle + output, 1,024 + 256 * width.
    """
    pytest.importorskip("onnx")
    from peakmem import GraphBuilder
    from peakmem.zoo.export import export_onnx

    def write(name: str = "net.onnx", width: int = 8, first: str = "first") -> Path:
        made = GraphBuilder("net")
        x = made.input("x", (1, 4, 8, 8))
        x = made.conv(x, width, kernel=1, name=first)
        x = made.conv(x, 4, kernel=1, name="second")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        return export_onnx(made.finish(x), tmp_path / name, force=True)

    return write


@pytest.fixture
def budgets(tmp_path, monkeypatch):
    """Write a file of budgets and go to its folder; the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def write(text: str, name: str = "peakmem.toml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write
