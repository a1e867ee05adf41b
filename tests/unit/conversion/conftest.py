"""Small ONNX files, a cache of its own for each test, and steps that need no tool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peakmem.conversion import route


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A folder for converted models."""
    return tmp_path / "cache"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the steps of fake_steps."""
    from tests.unit.conversion import fake_steps

    monkeypatch.setattr(route, "steps", lambda: fake_steps.STEPS)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Callable[..., str]:
    """onnx_file(nodes, inputs, outputs, weights) writes a file and gives its path."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper

    def write(nodes: list[tuple[Any, ...]], inputs: Any, outputs: Any, weights: Any = (), opset: int = 17) -> str:
        made = [helper.make_node(*node[:3], **dict(*node[3:])) for node in nodes]
        infos = [
            [helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape) for name, kind, shape in side]
            for side in (inputs, outputs)
        ]
        stored = [numpy_helper.from_array(value, name) for name, value in weights]
        graph = helper.make_graph(made, "network", infos[0], infos[1], stored)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("my.domain", 1)]
        path = tmp_path / f"network{len(list(tmp_path.glob('network*')))}.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return str(path)

    return write


@pytest.fixture
def relu(onnx_file: Callable[..., str]) -> str:
    """The smallest network."""
    return onnx_file([("Relu", ["x"], ["y"])], [("x", "FLOAT", [1, 4])], [("y", "FLOAT", [1, 4])])
