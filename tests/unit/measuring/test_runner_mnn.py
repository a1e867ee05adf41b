"""The MNN runner: its own account against the counter, settings that move memory, shapes, refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("MNN")
pytest.importorskip("onnx")

import numpy as np
import onnx

from peakmem.conversion import convert
from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.inputs import Given, Port
from peakmem.measuring.record import Run

CHANNELS, SIDE = 64, 28
WEIGHTS = CHANNELS * CHANNELS * 9 * 4
# bytes of one convolution


def measured(
    path: str, *, instrumented: bool = False, shapes: dict[str, tuple[int, ...]] | None = None, **chosen: Any
) -> Run:
    given = Given(shapes=shapes or {})
    return run_process(
        order_for(engine("mnn"), path, chosen, runs=2, timeout=60, given=given, instrumented=instrumented)
    )


def fact(run: Run, name: str) -> int:
    assert run.outcome.status == "ok", run.outcome
    return int(run.facts[name].split()[0])


def save(path: Path, nodes: list[Any], shape: list[Any], dtype: int, weights: dict[str, Any]) -> Path:
    """One input x, one output y, of one type."""
    helper = onnx.helper
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def to_mnn(path: Path) -> str:
    return convert(path, "mnn", cache=path.parent / "cache").path


@pytest.fixture(scope="module")
def convolution(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One 3x3 convolution, 64 to 64 channels at 28x28."""
    folder = tmp_path_factory.mktemp("mnn")
    weights = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="only", pads=[1, 1, 1, 1])
    return to_mnn(save(folder / "conv.onnx", [node], [1, CHANNELS, SIDE, SIDE], onnx.TensorProto.FLOAT, {"w": weights}))


def test_the_session_and_the_counter_agree(convolution: str) -> None:
    run = measured(convolution, instrumented=True)
    if run.outcome.status == "missing":
        pytest.skip(run.outcome.reason)
    said = fact(run, "session memory")
    live = {mark.phase: mark.counted.live_bytes for mark in run.marks if mark.counted is not None}
    assert live["load"] - live["read"] == pytest.approx(said, abs=64 << 10)
    # the rest is tables of the session
    assert live["read"] - live["import"] == pytest.approx(Path(convolution).stat().st_size, abs=64 << 10)
    # the file in memory, whole


def test_winograd_keeps_transformed_weights(convolution: str) -> None:
    """Tiles of n x n keep (n + 2)**2 numbers for each nine of a 3x3 filter (Lavin and Gray, arXiv:1509.09308)."""
    none, all_of_them = (fact(measured(convolution, winograd_level=level), "session memory") for level in (0, 3))
    assert all_of_them - none >= WEIGHTS * 16 / 9 - WEIGHTS
    # at the least tiles of 2x2


def test_the_module_plans_when_it_first_runs(convolution: str) -> None:
    def grown(run: Run, phase: str) -> int:
        assert run.outcome.status == "ok", run.outcome
        heap = {mark.phase: mark.heap.in_use_bytes for mark in run.marks if mark.heap is not None}
        return heap[phase] - heap["import"]

    late, early = measured(convolution, api="module"), measured(convolution, api="module", shape_mutable=False)
    assert grown(late, "run 1") > grown(late, "inputs") + WEIGHTS
    assert grown(early, "load") > grown(late, "load") + WEIGHTS


def test_a_free_shape_is_settled_by_the_user(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"], name="twice")
    path = to_mnn_free(save(tmp_path / "free.onnx", [node], [1, "n"], onnx.TensorProto.FLOAT, {}), tmp_path)
    for chosen in ({}, {"resize": "defer"}, {"api": "module"}):
        run = measured(path, shapes={"x": (1, 7)}, **chosen)
        assert run.outcome.status == "ok", run.outcome
        assert [(one.shape, one.dtype) for one in run.inputs] == [((1, 7), "float32")]


def to_mnn_free(path: Path, folder: Path) -> str:
    """Without sizes: our conversion binds them, the converter itself leaves them open."""
    target = folder / "free.mnn"
    code = "import MNN, _tools, sys; _tools.mnnconvert(['mnnconvert', '-f', 'ONNX', '--modelFile', sys.argv[1], '--MNNModel', sys.argv[2], '--bizCode', 'x'])"  # noqa: E501
    subprocess.run([sys.executable, "-c", code, str(path), str(target)], check=True, capture_output=True)
    return str(target)


def test_64_bit_integers_are_32_in_mnn(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"], name="twice")
    run = measured(to_mnn(save(tmp_path / "ints.onnx", [node], [1, 4], onnx.TensorProto.INT64, {})))
    assert run.outcome.status == "ok", run.outcome
    assert [one.dtype for one in run.inputs] == ["int32"]


@pytest.mark.parametrize("api", ["session", "module"])
@pytest.mark.parametrize("kind", ["half", "words", "empty", "missing"])
def test_refusals(convolution: str, tmp_path: Path, api: str, kind: str) -> None:
    path = tmp_path / "bad.mnn"
    whole = Path(convolution).read_bytes()
    data = {"half": whole[: len(whole) // 2], "words": b"this is no network " * 20, "empty": b""}.get(kind)
    if data is not None:
        path.write_bytes(data)
    outcome = measured(str(path), api=api).outcome
    assert (outcome.status, outcome.phase) == ("unsupported", "load")
    assert outcome.reason.startswith("MNN cannot read the model: ")
    assert "console" not in outcome.reason
    # the reason itself, not where to look for it


def test_settings_of_the_other_interface_are_refused(convolution: str) -> None:
    assert "api=module" in measured(convolution, rearrange=True).outcome.reason
    assert "api=session" in measured(convolution, api="module", callbacks=False).outcome.reason


def test_operators_are_noted(convolution: str) -> None:
    from peakmem.measuring.runners.mnn import Runner

    class Tools:
        instrumented = timeline = True
        ports: tuple[Port, ...] = ()
        Unsupported = RuntimeError

        def __init__(self) -> None:
            self.notes: list[str] = []
            self.facts: dict[str, str] = {}

        def fact(self, name: str, value: str) -> None:
            self.facts[name] = value

        def mark(self, phase: str) -> None:
            pass

        def note(self, operator: str) -> None:
            self.notes.append(operator)

        def output(self) -> str:
            return ""

    tools = Tools()
    runner = Runner(engine("mnn").defaults(), tools)
    runner.start()
    ports = runner.load(convolution)
    assert ports == [("x", "float32", (1, CHANNELS, SIDE, SIDE))]
    runner.feed([("x", (1, CHANNELS, SIDE, SIDE), "float32", bytearray(CHANNELS * SIDE * SIDE * 4))])
    runner.run()
    runner.release()
    assert any("y" in note for note in tools.notes)
    assert float(tools.facts["operations"].split()[0]) == pytest.approx(CHANNELS**2 * 9 * SIDE**2 / 1e6, rel=0.05)
    # multiplications of the convolution, by hand
