"""The ONNX Runtime runner. Expected bytes are worked out by hand from shapes; arena rules from bfc_arena.cc (1.31)."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from tests.unit.measuring.standin import Refused, StandIn, chosen

from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.runners import onnxruntime as runner

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FLOAT, BFLOAT16, STRING = 1, 16, 8
# onnx.proto, TensorProto.DataType


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    for name, value in runner.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def write(path: Path, nodes, inputs, outputs, weights=(), *, opset=17, ir=9, **how) -> str:
    """A model of (operator, inputs, output, attributes) and (name, type, dims)."""
    make = onnx.helper
    initializers = [
        make.make_tensor(name, FLOAT, dims, struct.pack("f", 0.5) * size(dims), raw=True) for name, dims in weights
    ]
    graph = make.make_graph(
        [make.make_node(kind, ins, [out], **attributes) for kind, ins, out, attributes in nodes],
        "g",
        [make.make_tensor_value_info(*one) for one in inputs],
        [make.make_tensor_value_info(*one) for one in outputs],
        initializers,
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", opset)], ir_version=ir)
    onnx.save(model, str(path), **how)
    return str(path)


def size(dims) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count


def convolutions(folder: Path) -> str:
    """x[1,8,16,16] → Conv 32 → Relu → Conv 4."""
    return write(
        folder / "conv.onnx",
        [
            ("Conv", ["x", "w1", "b1"], "a", {"pads": [1, 1, 1, 1]}),
            ("Relu", ["a"], "b", {}),
            ("Conv", ["b", "w2"], "y", {}),
        ],
        [("x", FLOAT, [1, 8, 16, 16])],
        [("y", FLOAT, [1, 4, 16, 16])],
        [("w1", [32, 8, 3, 3]), ("b1", [32]), ("w2", [4, 32, 1, 1])],
    )


def relu(path: Path, kind=FLOAT, dims=(2, 3), **how) -> str:
    return write(path, [("Relu", ["x"], "y", {})], [("x", kind, dims)], [("y", kind, None)], **how)


def go(tools: StandIn, model: str, runs: int = 2, **settings):
    """All five methods; the inputs that the engine asked for."""
    one = runner.Runner(chosen(runner, **settings), tools)
    one.start()
    ports = one.load(model)
    values = []
    for name, dtype, shape in ports:
        dims = tuple(2 if dim < 0 else dim for dim in shape or ())
        width = {"bfloat16": 2, "float32": 4}[dtype]
        values.append((name, dims, dtype, bytearray(size(dims) * width)))
    one.feed(values)
    for _ in range(runs):
        one.run()
    one.release()
    return ports


def test_phases_of_a_process(tmp_path):
    done = run_process(order_for(engine("onnxruntime"), convolutions(tmp_path), {"model_as_bytes": True}, runs=2))
    assert (done.outcome.status, done.outcome.reason) == ("ok", "")
    phases = "interpreter,import,read,load,inputs,run 1,run 2,release"
    assert [mark.phase for mark in done.marks] == phases.split(",")
    assert [(one.name, one.shape, one.dtype) for one in done.inputs] == [("x", (1, 8, 16, 16), "float32")]
    assert done.facts["providers"] == "CPUExecutionProvider"


@pytest.mark.parametrize("settings", [{}, {"arena_extend": "same_as_requested"}, {"arena_initial_chunk": 4_194_304}])
def test_extents_of_the_arena(tmp_path, settings):
    """Requests go up to multiples of 256 B; the first extent has 1 MiB, or what was asked for, and holds all of them.

    The graph as it stands asks for a (32,768 B), b takes its place or follows it, y is 4,096 B; the weights are
    reserved.
    """
    order = order_for(
        engine("onnxruntime"), convolutions(tmp_path), {"log": True, "optimisation": "disable", **settings}, runs=3
    )
    facts = run_process(order).facts
    extents = [int(text) for name, value in facts.items() if name.startswith("arena extents") for text in value.split()]
    assert int(facts["arena extended"]) == sum(extents)
    if "arena_extend" in settings:
        assert extents
        assert all(extent % 256 == 0 for extent in extents)
        assert sum(extents) < 2**20
    else:
        assert extents == [settings.get("arena_initial_chunk", 2**20)]


def test_sizes_of_operators_from_the_profile(tmp_path):
    tools = StandIn(tmp_path)
    go(tools, convolutions(tmp_path), profile=True, optimisation="disable")
    rows = json.loads(tools.facts["operators"])
    sizes = ("operator", "activation_size", "output_size", "parameter_size")
    assert {row["run"] for row in rows} == {1, 2}
    assert [tuple(row[size] for size in sizes) for row in rows if row["run"] == 2] == [
        ("Conv", 8 * 256 * 4, 32 * 256 * 4, (32 * 8 * 9 + 32) * 4),
        ("Relu", 32 * 256 * 4, 32 * 256 * 4, 0),
        ("Conv", 32 * 256 * 4, 4 * 256 * 4, 4 * 32 * 4),
    ]  # fmt: skip
    assert tools.facts["largest input+output"] == str(2 * 32 * 256 * 4)
    assert tools.facts["largest input+output at"].endswith("(Relu)")
    assert tools.facts["operators on CPUExecutionProvider"] == "3"
    assert tools.facts["arena, blobs at most, run 1"] == str((32 + 4) * 256 * 4)
    # Relu writes where it read, so b and y are the most; the input is ours
    assert list(tmp_path.glob("profile*")) == []


def test_a_timeline_is_told_by_the_profile(tmp_path):
    tools = StandIn(tmp_path, timeline=True)
    go(tools, convolutions(tmp_path))
    assert json.loads(tools.facts["operators"])


@pytest.mark.parametrize("binding", ["numpy", "ortvalue", "io"])
def test_every_way_to_bind(tmp_path, binding):
    model = write(tmp_path / "cast.onnx", [("Cast", ["x"], "y", {"to": FLOAT})], [("x", BFLOAT16, [2, 3])], [("y", FLOAT, [2, 3])])  # fmt: skip  # noqa: E501
    assert go(StandIn(tmp_path), model, binding=binding) == [("x", "bfloat16", (2, 3))]
    assert go(StandIn(tmp_path), convolutions(tmp_path), binding=binding)


@pytest.mark.parametrize("settings", [
    {"arena": False, "mem_pattern": False, "mem_reuse": False}, {"arena_shrinkage": True}, {"prepacking": False},
    {"initializers_allocator": "device"}, {"execution_mode": "parallel", "inter_threads": 2}, {"allow_spinning": False},
    *({"optimisation": level} for level in ("disable", "basic", "extended", "layout")),
])  # fmt: skip
def test_every_setting_runs(tmp_path, settings):
    go(StandIn(tmp_path), convolutions(tmp_path), **settings)


def test_free_dimensions_and_ranks(tmp_path):
    model = write(
        tmp_path / "free.onnx",
        [("Relu", [name], out, {}) for name, out in (("x", "a"), ("scalar", "b"), ("any", "c"))],
        [("x", FLOAT, ["N", 3, None]), ("scalar", FLOAT, []), ("any", FLOAT, None)],
        [(name, FLOAT, None) for name in "abc"],
    )
    one = runner.Runner(chosen(runner), StandIn(tmp_path))
    one.start()
    assert one.load(model) == [("x", "float32", (-1, 3, -1)), ("scalar", "float32", ()), ("any", "float32", None)]


def test_external_data_is_said_and_found(tmp_path):
    model = convolutions(tmp_path)
    how = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 200}
    onnx.save(onnx.load(model), str(tmp_path / "beside.onnx"), **how)
    for settings in ({}, {"model_as_bytes": True}):
        tools = StandIn(tmp_path)
        go(tools, str(tmp_path / "beside.onnx"), **settings)
        # w1 and w2 have 9,216 and 512 B, b1 128
        assert tools.facts["external data"] == "2 tensors"
    (tmp_path / "weights.data").unlink()
    with pytest.raises(Refused, match=r"weights\.data"):
        go(StandIn(tmp_path), str(tmp_path / "beside.onnx"))


def test_ort_files_are_mapped(tmp_path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "conv.ort")
    onnxruntime.InferenceSession(convolutions(tmp_path), options, providers=["CPUExecutionProvider"])
    done = run_process(order_for(engine("onnxruntime"), str(tmp_path / "conv.ort"), {"mmap": True}, runs=1))
    assert done.outcome.status == "ok"
    marks = {mark.phase: mark for mark in done.marks}
    assert any("model" in kind for kind in marks["load"].buckets)


REFUSALS = {
    "an operator without a kernel": ({"kind": BFLOAT16}, "no kernel for operator Relu"),
    "an opset to come": ({"opset": 999}, "Opset 999"),
    "an IR version to come": ({"ir": 99}, "refuses model.onnx: .*Unsupported model IR version: 99"),
    "strings": ({"kind": STRING}, "operator Relu|tensor.string"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_engine_refuses(tmp_path, case):
    how, words = REFUSALS[case]
    with pytest.raises(Refused, match=words):
        go(StandIn(tmp_path), relu(tmp_path / "model.onnx", **how))


def test_operators_that_nobody_knows(tmp_path):
    model = write(tmp_path / "m.onnx", [("Frobnicate", ["x"], "y", {})], [("x", FLOAT, [2])], [("y", FLOAT, [2])])
    with pytest.raises(Refused, match="does not know operator Frobnicate"):
        go(StandIn(tmp_path), model)
    own = onnx.load(model)
    own.graph.node[0].domain = "my.own"
    own.opset_import.append(onnx.helper.make_opsetid("my.own", 1))
    onnx.save(own, model)
    with pytest.raises(Refused, match=r"does not know operator my\.own:Frobnicate"):
        go(StandIn(tmp_path), model)


@pytest.mark.parametrize("content", [b"", b"no model at all, only words", b"\x08\x09"])
def test_files_that_are_no_models(tmp_path, content):
    model = tmp_path / "m.onnx"
    model.write_bytes(content)
    with pytest.raises(Refused, match=r"m\.onnx"):
        go(StandIn(tmp_path), str(model))


def test_a_file_that_ends_too_early(tmp_path):
    data = Path(convolutions(tmp_path)).read_bytes()
    for share in (0.3, 0.6, 0.9):
        (tmp_path / "short.onnx").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(Refused, match=r"short\.onnx is no ONNX file or is damaged"):
            go(StandIn(tmp_path), str(tmp_path / "short.onnx"))


def test_inputs_that_are_no_tensors(tmp_path):
    make = onnx.helper
    graph = make.make_graph(
        [make.make_node("SequenceLength", ["x"], ["y"])], "g", [make.make_tensor_sequence_value_info("x", FLOAT, None)],
        [make.make_tensor_value_info("y", 7, [])],
    )  # fmt: skip
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), tmp_path / "s.onnx")
    with pytest.raises(Refused, match=r"'x' is a seq\(tensor\(float\)\)"):
        go(StandIn(tmp_path), str(tmp_path / "s.onnx"))


@pytest.mark.parametrize("settings", [
    {"arena": False, "arena_shrinkage": True}, {"arena": False, "arena_extend": "same_as_requested"}, {"mmap": True},
])  # fmt: skip
def test_settings_that_contradict_each_other(tmp_path, settings):
    with pytest.raises(Refused, match=r"arena is off|acts on \.ort"):
        go(StandIn(tmp_path), convolutions(tmp_path), **settings)


def test_the_log_is_cut_into_phases():
    """Lines as 1.31 writes them; 5,160,960 and 64 B are MobileNetV2's weights that are not prepacked."""
    load = "x Reserving memory in BFCArena for Cpu size: 64\nx Reserving memory in BFCArena for Cpu size: 5160960\n"
    first = "y Extended allocation by 2097152 bytes.\ny Total allocated bytes: 7258176\n"
    facts = {}
    runner.tell_arena(load + first, [0, len(load), len(load + first)], facts.__setitem__)
    assert facts == {
        "arena reserved, load": "5161024 in 2", "arena extents, run 1": "2097152", "arena extended": 2097152,
        "arena total": "7258176",
    }  # fmt: skip


def test_a_profile_too_long_for_the_wire(tmp_path):
    node = {"activation_size": "4", "output_size": "8", "parameter_size": "0", "op_name": "Relu"}
    event = {"cat": "Node", "ts": 1, "dur": 1, "args": node, "name": "n" * 3000 + "_kernel_time"}
    end = {"cat": "Session", "name": "model_run", "ts": 2, "dur": 1}
    for count, words in ((200, '[{"run":2'), (2000, "left out, 2000 of them")):
        path = tmp_path / "p.json"
        path.write_text(json.dumps([*[event] * count, end] * 2))
        facts = {}
        runner.tell_profile(str(path), 0, facts.__setitem__)
        assert facts["operators"].startswith(words)
        assert facts["largest input+output"] == 12
        assert len(facts["operators"]) < 2**20
