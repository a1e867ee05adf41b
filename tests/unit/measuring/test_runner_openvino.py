"""The OpenVINO runner: what it loads and refuses, what it tells, and that its import reports to nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.measuring.standin import Refused, StandIn, chosen

from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.runners import openvino as runner

onnx = pytest.importorskip("onnx")

FLOAT, BFLOAT16, STRING = 1, 16, 8
# onnx.proto, TensorProto.DataType


@pytest.fixture(scope="module", autouse=True)
def openvino():
    """The engine, imported as the runner does it."""
    before = {name: sys.modules.get(name) for name in ("openvino_telemetry",)}
    sys.modules["openvino_telemetry"] = None
    yield pytest.importorskip("openvino")
    for name, module in before.items():
        sys.modules.pop(name)
        if module is not None:
            sys.modules[name] = module


def write(path: Path, nodes, inputs, *, outputs=("y",)) -> str:
    """A model of (operator, inputs, output) without weights."""
    make = onnx.helper
    graph = make.make_graph(
        [make.make_node(kind, ins, [out]) for kind, ins, out in nodes], "g",
        [make.make_tensor_value_info(*one) for one in inputs],
        [make.make_tensor_value_info(name, FLOAT, None) for name in outputs],
    )  # fmt: skip
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), str(path))
    return str(path)


def product(folder: Path, *, wide: int = 512) -> str:
    """x[4, wide] · w[wide, wide]."""
    make = onnx.helper
    weight = make.make_tensor("w", FLOAT, [wide, wide], b"\x00\x00\x80\x3f" * wide**2, raw=True)
    graph = make.make_graph(
        [make.make_node("MatMul", ["x", "w"], ["y"])], "g", [make.make_tensor_value_info("x", FLOAT, [4, wide])],
        [make.make_tensor_value_info("y", FLOAT, [4, wide])], [weight],
    )  # fmt: skip
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), folder / "product.onnx")
    return str(folder / "product.onnx")


def go(tools: StandIn, model: str, **settings):
    """All five methods, two runs; the inputs that the engine asked for."""
    one = runner.Runner(chosen(runner, **settings), tools)
    one.start()
    ports = one.load(model)
    values = []
    for name, dtype, shape in ports:
        dims = tuple(2 if dim < 0 else dim for dim in shape)
        count = {"bfloat16": 2, "float32": 4, "int64": 8}[dtype]
        for dim in dims:
            count *= dim
        values.append((name, dims, dtype, bytearray(count)))
    one.feed(values)
    one.run()
    one.run()
    one.release()
    return ports


IMPORTED = """
import sys
seen = []
def hook(event, args):
    if event.partition(".")[0] in ("socket", "subprocess", "urllib", "http") or event in ("os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "os.spawn"):
        seen.append(event)
sys.addaudithook(hook)
space = {"__name__": "runner"}
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), space)
space["Runner"]({}, None).start()
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__, "openvino_telemetry.main" in sys.modules, seen)
"""  # noqa: E501


def test_the_import_forks_nothing_and_asks_nobody():
    """By the interpreter's own audit events (sys.addaudithook); strace shows one more thread of OpenBLAS at most."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, runner.__file__], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split(maxsplit=2) == ["openvino.tools.ovc.telemetry_stub", "False", "[]\n"]


def test_phases_of_a_process(tmp_path):
    order = order_for(engine("openvino"), product(tmp_path), {"release_memory": True}, runs=2)
    done = run_process(order)
    assert (done.outcome.status, done.outcome.reason) == ("ok", "")
    phases = "interpreter,import,read,load,inputs,run 1,run 2,release_memory,release"
    assert [mark.phase for mark in done.marks] == phases.split(",")
    assert [(one.name, one.shape, one.dtype) for one in done.inputs] == [("x", (4, 512), "float32")]
    assert done.facts["INFERENCE_NUM_THREADS"] == "1"


@pytest.mark.parametrize("precision", ["f32", "default"])
def test_the_precision_is_the_engines_own_word(tmp_path, openvino, precision):
    tools = StandIn(tmp_path)
    go(tools, product(tmp_path), precision=precision, layers=True)
    expected = "f32" if precision == "f32" else openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()  # fmt: skip  # noqa: E501
    assert tools.facts["INFERENCE_PRECISION_HINT"] == {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}.get(expected, expected)  # fmt: skip  # noqa: E501
    layers = json.loads(tools.facts["layers"])
    assert {row["precision"] for row in layers if row["type"] in ("FullyConnected", "MatMul")} == {
        tools.facts["INFERENCE_PRECISION_HINT"]
    }
    assert int(tools.facts["layers executed"]) == len(layers)


def test_a_precision_the_processor_lacks(tmp_path, openvino):
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "FP16" in able:
        pytest.skip("this processor has it")
    with pytest.raises(Refused, match="no f16 on this processor"):
        go(StandIn(tmp_path), product(tmp_path), precision="f16")


def test_mapped_weights(tmp_path, openvino):
    """An IR's .bin and ONNX's external data are mapped, as the engine's guide says; weights inside ONNX are not."""
    model = product(tmp_path)
    openvino.save_model(openvino.Core().read_model(model), tmp_path / "ir.xml", compress_to_fp16=False)
    onnx.save(onnx.load(model), tmp_path / "out.onnx", save_as_external_data=True, location="w.data", size_threshold=1)
    for name, expected in (("ir.xml", "ir.bin"), ("out.onnx", "w.data"), ("product.onnx", "")):
        for mmap in (True, False):
            tools = StandIn(tmp_path)
            go(tools, str(tmp_path / name), mmap=mmap)
            assert tools.facts["mmap"] == (expected if mmap and expected else "nothing of the model is mapped")


@pytest.mark.parametrize("settings", [
    {"compile": "file"}, {"keep_model": True}, {"cpu_pinning": False}, {"execution_mode": "accuracy"},
    {"performance_hint": "throughput", "threads": 2, "requests": 2}, {"performance_hint": "cumulative_throughput"},
    {"dynamic_quantization": 0}, {"release_memory": True},
])  # fmt: skip
def test_every_setting_runs(tmp_path, settings):
    tools = StandIn(tmp_path)
    go(tools, product(tmp_path, wide=16), **settings)
    assert tools.marks[:1] == ([] if "compile" in settings else ["read"])


def test_streams_are_those_asked_for(tmp_path):
    tools = StandIn(tmp_path)
    go(tools, product(tmp_path, wide=16), streams=2, threads=2, requests=2)
    assert tools.facts["NUM_STREAMS"] == "2"


def test_accuracy_keeps_the_models_type(tmp_path):
    tools = StandIn(tmp_path)
    go(tools, product(tmp_path, wide=16), execution_mode="accuracy")
    assert tools.facts["EXECUTION_MODE_HINT"] == "ACCURACY"
    assert tools.facts["INFERENCE_PRECISION_HINT"] in ("f32", "dynamic")


def test_inputs(tmp_path):
    model = write(tmp_path / "free.onnx", [("Relu", ["x"], "y")], [("x", FLOAT, ["N", 3, None])])
    assert go(StandIn(tmp_path), model) == [("x", "float32", (-1, 3, -1))]
    model = write(tmp_path / "half.onnx", [("Relu", ["x"], "y")], [("x", BFLOAT16, [2, 3])])
    assert go(StandIn(tmp_path), model) == [("x", "bfloat16", (2, 3))]
    model = write(tmp_path / "text.onnx", [("Identity", ["x"], "y")], [("x", STRING, [2])])
    with pytest.raises(Refused, match="string"):
        go(StandIn(tmp_path), model)
    model = write(tmp_path / "any.onnx", [("Relu", ["x"], "y")], [("x", FLOAT, None)])
    with pytest.raises(Refused, match="dynamic rank"):
        go(StandIn(tmp_path), model)


def test_what_the_engine_refuses(tmp_path):
    model = write(tmp_path / "own.onnx", [("Frobnicate", ["x"], "y")], [("x", FLOAT, [2])])
    with pytest.raises(Refused, match="does not know operator Frobnicate"):
        go(StandIn(tmp_path), model)
    for content in (b"", b"\x08\x09", Path(product(tmp_path)).read_bytes()[:5000]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(Refused, match=r"bad\.onnx"):
            go(StandIn(tmp_path), str(tmp_path / "bad.onnx"))


@pytest.mark.parametrize("settings", [{"keep_model": True, "compile": "file"}, {"requests": 0}])
def test_settings_that_say_nothing(tmp_path, settings):
    with pytest.raises(Refused):
        go(StandIn(tmp_path), product(tmp_path, wide=16), **settings)
