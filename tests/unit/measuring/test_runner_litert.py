"""The LiteRT runner: its arena by hand arithmetic, what XNNPACK takes, inputs of every kind, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ai_edge_litert")

from tests.unit.frontends import tflite_files as make

from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.inputs import Given, Port
from peakmem.measuring.record import Run

MIB = 1 << 20
ELEMENTS = MIB // 4
# of a float tensor of 1 MiB
ROOM = 64 << 10
# bytes for the interpreter's own tables


def measured(path: Path, *, given: Given | None = None, ports: tuple[Port, ...] = (), **chosen: Any) -> Run:
    return run_process(
        order_for(engine("litert"), str(path), chosen, runs=2, timeout=60, given=given or Given(), ports=ports)
    )


def in_use(run: Run, phase: str) -> int:
    mark = next(mark for mark in run.marks if mark.phase == phase)
    assert mark.heap is not None
    return mark.heap.in_use_bytes


def chain(count: int, elements: int = ELEMENTS, dtype: int = make.FLOAT32, *, free: bool = False) -> bytes:
    """`count` additions, one after the other: x + x -> t0, t0 + t0 -> t1, …"""
    signature = (-1, elements) if free else ()
    tensors = [make.tensor("x", (1, elements), dtype, signature=signature)]
    tensors += [make.tensor(f"t{at}", (1, elements), dtype, signature=signature) for at in range(count)]
    operators = [make.operator(0, (at, at), (at + 1,), 11, {}) for at in range(count)]
    return make.model([make.subgraph(tensors, (0,), (count,), operators, "main")], [make.code(make.ADD)])


@pytest.fixture
def additions(tmp_path: Path) -> Path:
    path = tmp_path / "additions.tflite"
    path.write_bytes(chain(8))
    return path


def test_kept_tensors_are_as_large_as_all_of_them(additions: Path) -> None:
    run = measured(additions, kernels="reference", preserve_all_tensors=True)
    assert run.outcome.status == "ok", run.outcome
    assert [mark.phase for mark in run.marks][2:5] == ["read", "load", "inputs"]
    arena = in_use(run, "load") - in_use(run, "read")
    assert 9 * MIB <= arena < 9 * MIB + ROOM
    # the input and eight results, by hand


def test_tensors_that_are_not_kept_share_memory(additions: Path) -> None:
    run = measured(additions, kernels="reference")
    arena = in_use(run, "load") - in_use(run, "read")
    assert 2 * MIB <= arena < 3 * MIB + ROOM
    # the input stays, a result and the one before it; an addition may write over what it read
    assert run.facts["delegated"] == "0 of 8 operators, in 0 parts"
    assert run.facts["largest tensor 1"].startswith(f"{MIB} B 1x{ELEMENTS} ")


def test_bytes_are_kept_beside_the_network(tmp_path: Path) -> None:
    path = tmp_path / "constant.tflite"
    tensors = [
        make.tensor("x", (1, ELEMENTS)),
        make.tensor("w", (1, ELEMENTS), buffer=1),
        make.tensor("y", (1, ELEMENTS)),
    ]
    graph = make.subgraph(tensors, (0,), (2,), [make.operator(0, (0, 1), (2,), 11, {})], "main")
    path.write_bytes(make.model([graph], [make.code(make.ADD)], [make.f32(ELEMENTS)]))
    mapped = measured(path, kernels="reference")
    read = measured(path, kernels="reference", model_as_bytes=True)
    more = (in_use(read, "read") - in_use(read, "import")) - (in_use(mapped, "read") - in_use(mapped, "import"))
    assert path.stat().st_size <= more < path.stat().st_size + ROOM


def test_what_xnnpack_takes_and_what_it_leaves(tmp_path: Path) -> None:
    tensors = [make.tensor(name, (1, 4)) for name in "xy"] + [make.tensor(name, (1, 4), make.INT64) for name in "ab"]
    operators = [make.operator(0, (0, 0), (1,), 11, {}), make.operator(0, (2, 2), (3,), 11, {})]
    path = tmp_path / "mixed.tflite"
    path.write_bytes(make.model([make.subgraph(tensors, (0, 2), (1, 3), operators, "main")], [make.code(make.ADD)]))
    run = measured(path)
    assert run.outcome.status == "ok", run.outcome
    assert run.facts["delegated"] == "1 of 2 operators, in 1 parts"
    # no kernel of XNNPACK adds 64-bit integers
    assert run.facts["not delegated"] == "ADD"
    assert [(one.name, one.dtype) for one in run.inputs] == [("x", "float32"), ("a", "int64")]


def test_a_shape_that_is_known_ahead_is_planned_at_load(tmp_path: Path) -> None:
    path = tmp_path / "free.tflite"
    path.write_bytes(chain(1, free=True))
    run = measured(path, kernels="reference", given=Given(shapes={"x": (4, ELEMENTS)}))
    assert run.outcome.status == "ok", run.outcome
    assert run.inputs[0].shape == (4, ELEMENTS)
    assert in_use(run, "inputs") - in_use(run, "read") >= 4 * MIB
    ahead = measured(path, kernels="reference", ports=(Port("x", "float32", (4, ELEMENTS)),))
    assert in_use(ahead, "load") - in_use(ahead, "read") >= 4 * MIB
    assert in_use(ahead, "inputs") == pytest.approx(in_use(ahead, "load"), abs=ROOM)


@pytest.mark.parametrize("dtype", [make.BOOL, make.INT8, make.UINT8, make.INT16])
def test_the_compiled_model_says_which_types_it_takes(tmp_path: Path, dtype: int) -> None:
    tensors = [
        make.tensor("x", (1, 3), dtype), make.tensor("to", (2,), make.INT32, 1), make.tensor("y", (3, 1), dtype)
    ]  # fmt: skip
    graph = make.subgraph(tensors, (0,), (2,), [make.operator(0, (0, 1), (2,))], "main")
    path = tmp_path / "reshape.tflite"
    path.write_bytes(make.model([graph], [make.code(make.RESHAPE)], [make.i32(3, 1)]))
    outcome = measured(path, api="compiled_model").outcome
    if dtype == make.INT16:
        assert (outcome.status, outcome.phase) == ("unsupported", "load")
        assert "int16" in outcome.reason
    else:
        assert outcome.status == "ok", outcome


def test_the_weight_cache_is_a_file_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "network.tflite"
    tensors = [make.tensor("x", (1, 256)), make.tensor("w", (256, 256), buffer=1), make.tensor("y", (1, 256))]
    graph = make.subgraph(tensors, (0,), (2,), [make.operator(0, (0, 1, -1), (2,), 8, {})], "main")
    path.write_bytes(make.model([graph], [make.code(make.FULLY_CONNECTED)], [make.f32(256 * 256)]))
    run = measured(path, api="compiled_model", weight_cache=True)
    assert run.outcome.status == "ok", run.outcome
    assert run.facts["fully accelerated"] == "yes"
    assert run.facts["input buffer 0"] == f"{256 * 4} B"
    assert int(run.facts["weight cache"].split()[0]) >= 256 * 256 * 4


def refusals() -> dict[str, tuple[bytes, str]]:
    pair = [make.tensor("x", (1, 3)), make.tensor("y", (1, 3))]
    text = [make.tensor("x", (1,), make.STRING), make.tensor("y", (1,), make.STRING)]

    def one(tensors: list[make.Table], code: make.Table) -> bytes:
        return make.model([make.subgraph(tensors, (0,), (1,), [make.operator(0, (0,), (1,))])], [code])

    return {
        "custom": (one(pair, make.code(make.CUSTOM, "MyOperator")), "MyOperator"),
        "flex": (one(pair, make.code(make.CUSTOM, "FlexErf")), "FlexErf"),
        "text": (one(text, make.code(make.RESHAPE)), "bytes"),
        "half": (chain(2)[:200], "not a valid Flatbuffer"),
        "empty": (b"", ""),
        "words": (b"this is no network " * 20, "not a valid Flatbuffer"),
    }


@pytest.mark.parametrize("name", list(refusals()))
def test_refusals_name_what_is_wrong(tmp_path: Path, name: str) -> None:
    data, said = refusals()[name]
    path = tmp_path / "bad.tflite"
    path.write_bytes(data)
    outcome = measured(path).outcome
    assert outcome.status == "unsupported", outcome
    assert said in outcome.reason
    assert len(outcome.reason) < 300


def test_settings_of_the_other_interface_are_refused(additions: Path) -> None:
    assert "api=compiled_model" in measured(additions, weight_cache=True).outcome.reason
    assert "api=interpreter" in measured(additions, api="compiled_model", preserve_all_tensors=True).outcome.reason
    outcome = measured(additions, signature="nobody").outcome
    assert (outcome.status, outcome.reason) == ("unsupported", "no signature 'nobody'; it has none")
