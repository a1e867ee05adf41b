"""The profile of ONNX Runtime against the engine here: its log of the arena, and the counter.

Only on x86-64 with AVX-512 and in the version that the rules were read for are the figures bound to agree closely.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytestmark = pytest.mark.slow

from peakmem.binding import bound  # noqa: E402
from peakmem.conversion.route import convert  # noqa: E402
from peakmem.engines.onnxruntime import VERIFIED, predict  # noqa: E402
from peakmem.engines.prediction import Processor  # noqa: E402
from peakmem.measuring.engine import engine  # noqa: E402
from peakmem.measuring.harness import order_for, run_process  # noqa: E402
from peakmem.pipeline import load  # noqa: E402

FLAGS = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
PROCESSOR = Processor(features=frozenset(FLAGS))


@pytest.fixture(autouse=True)
def same_engine() -> None:
    if engine("onnxruntime").version() != VERIFIED:
        pytest.skip(f"the rules are of onnxruntime {VERIFIED}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(convert("squeezenet1_1", "onnx", cache=tmp_path_factory.mktemp("cache")).path)


@pytest.mark.parametrize(
    "settings",
    [{}, {"arena": False}, {"optimisation": "disable"}, {"optimisation": "extended", "mem_pattern": False}],
)
def test_heap(model: str, settings: dict[str, bool | str]) -> None:
    run = run_process(order_for(engine("onnxruntime"), model, settings, instrumented=True))
    assert run.outcome.status == "ok", run.outcome.reason
    counted = {mark.phase: mark.counted for mark in run.marks if mark.counted is not None}
    base = counted["import"].live_bytes
    found = predict(bound(load(model)), settings, PROCESSOR)
    for moment, phase in zip(found.moments, ("load", "run 1", "run 3"), strict=True):
        assert moment.live_bytes == pytest.approx(counted[phase].live_bytes - base, rel=0.02), phase
        assert moment.peak_bytes == pytest.approx(counted[phase].peak_bytes - base, rel=0.05), phase


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"arena_extend": "same_as_requested"},
        {"arena_initial_chunk": 100_000, "arena_max_extend": 1 << 21},
        {"mem_pattern": False, "mem_reuse": False},
    ],
)
def test_extents(model: str, settings: dict[str, bool | int | str]) -> None:
    run = run_process(order_for(engine("onnxruntime"), model, {**settings, "log": True}))
    assert run.outcome.status == "ok", run.outcome.reason
    logged = [
        int(size) for phase in ("load", "run 1", "run 2", "run 3")
        for size in run.facts.get(f"arena extents, {phase}", "").split()
    ]  # fmt: skip
    details = predict(bound(load(model)), settings, PROCESSOR).details
    assert details is not None
    assert [size for name, size in details.items() if name.startswith("arena extent ")] == logged
