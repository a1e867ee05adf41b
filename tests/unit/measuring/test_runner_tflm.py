"""The TFLM runner: its account of the arena, the smallest arena, refusals named by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tflite_micro")

from tflite_micro.python.tflite_micro import runtime

from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.record import Run
from peakmem.measuring.runners import tflm as runner

SINE = Path(runtime.__file__).with_name("sine_float.tflite")
# brought by the package: 1 number in, layers of 16, 16 and 1

SAID = """
[RecordingMicroAllocator] Arena allocation total 85264 bytes
[RecordingMicroAllocator] Arena allocation head 55296 bytes
[RecordingMicroAllocator] Arena allocation tail 29968 bytes
[RecordingMicroAllocator] 'TfLiteEvalTensor data' used 2136 bytes with alignment overhead (requested 2136 bytes for 89 allocations)
"""  # noqa: E501
# print_allocations of tflite-micro 0.dev20261023182759 for person_detect.tflite


def measured(path: Path = SINE, **chosen: Any) -> Run:
    return run_process(order_for(engine("tflm"), str(path), chosen, runs=2, timeout=60))


def works(arena: int) -> bool:
    """Whether the network is set up in an arena of this size, asked of the binding itself."""
    try:
        runtime.Interpreter.from_bytes(SINE.read_bytes(), arena_size=arena)
    except RuntimeError:
        return False
    return True


def test_the_account_adds_up_and_the_smallest_arena_is_found() -> None:
    run = measured(smallest_arena=True)
    assert run.outcome.status == "ok", run
    facts = run.facts
    assert int(facts["total"]) == int(facts["head"]) + int(facts["tail"])
    assert sum(int(value) for name, value in facts.items() if name.startswith("tail: ")) <= int(facts["tail"])
    smallest = int(facts["smallest arena"])
    assert smallest % 16 == 0
    # float32 of 1, 16, 16 and 1 numbers, each padded to 16 bytes; two neighbours live at once
    assert facts["head"] == str(64 + 64)
    assert smallest > int(facts["total"]) - 16
    # the tail is counted from an end that need not be aligned
    assert works(smallest)
    assert not works(smallest - 16)
    assert facts["arena"].startswith(f"{10 * SINE.stat().st_size} B")


def test_tensors_kept_apart_have_no_account() -> None:
    run = measured(interpreter="preserve_all_tensors")
    assert run.outcome.status == "ok"
    assert "head" not in run.facts


def test_an_arena_that_is_too_small_is_said() -> None:
    run = measured(arena=1000)
    assert run.outcome.status == "unsupported"
    assert run.outcome.reason.startswith("an arena of 1000 B is too small: ")
    assert run.outcome.phase == "load"
    assert measured(arena=20_000, reset=True).outcome.status == "ok"


def test_an_operator_that_is_missing_is_named(tmp_path: Path) -> None:
    schema = runtime.schema_fb
    flatbuffers = pytest.importorskip("flatbuffers")
    model = runtime.convert_bytearray_to_object(SINE.read_bytes())
    for code in model.operatorCodes:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.LSTM
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "model.tflite"
    path.write_bytes(bytes(builder.Output()))
    run = measured(path)
    assert run.outcome.status == "unsupported"
    assert run.outcome.reason == "this build has no operator LSTM"


def test_what_is_no_tflite_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x7f" * 400)
    assert measured(path).outcome.reason == "not a .tflite: its identifier is not TFL3"
    path.write_bytes(SINE.read_bytes()[:400])
    assert measured(path).outcome.status in ("crashed", "unsupported", "failed")


def test_words_of_the_engine() -> None:
    assert dict(runner.allocations("noise\n" + SAID.replace("85264", "1") + SAID)) == {
        "total": "85264", "head": "55296", "tail": "29968", "tail: TfLiteEvalTensor data": "2136",
    }  # fmt: skip
    line = "Failed to resize buffer. Requested: 55296, available 30256, missing: 25040"
    assert runner.refusal(line, 60000) == f"an arena of 60000 B is too small: {line}"
    assert runner.refusal("Too many buffers (max is 10)", 5000).startswith("an arena of 5000 B is too small: ")
    assert (
        runner.refusal("Didn't find op for builtin opcode 'CUMSUM'\nFailed", 1) == "this build has no operator CUMSUM"
    )
    assert runner.refusal("", 1) == ""
