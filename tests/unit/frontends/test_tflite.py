"""TensorFlow Lite files: what is read, and what is said of damaged ones. Expected values are hand arithmetic."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import peakmem
from peakmem.errors import FormatError, GraphError, UsageError
from peakmem.frontends.tflite.flexbuffer import plain_map
from peakmem.frontends.tflite.reader import read_offline_plan, read_tflite
from peakmem.ir.dims import Symbol
from tests.unit.frontends import tflite_files as made
from tests.unit.frontends.tflite_files import Table, code, f32, i32, ints, model, operator, subgraph, tensor


@pytest.fixture
def written(tmp_path):
    def write(data: bytes):
        path = tmp_path / "net.tflite"
        path.write_bytes(data)
        return path

    return write


def add(shapes, *, tensors=(), buffers=(), more=None, inputs=(0, 1)):
    """One ADD of two tensors of `shapes`, and further tensors."""
    listed = [tensor(name, shapes) for name in "abc"]
    return model(
        [subgraph([*listed, *tensors], inputs, (2,), [operator(0, (0, 1), (2,))])], [code(made.ADD)], buffers, more
    )


def test_a_network_with_its_options(written):
    graph = read_tflite(written(made.network()))
    conv, depthwise, reshape, linear = graph.operators
    assert (conv.op_type, conv.domain, conv.inputs, conv.outputs) == (
        "CONV_2D",
        "tflite",
        ("x", "w1", "b1"),
        ("a/b/conv",),
    )
    assert conv.attributes["padding"] == "SAME"
    assert conv.attributes["strides"] == (2, 2)
    assert conv.attributes["dilations"] == (1, 1)
    assert conv.attributes["fused_activation"] == "RELU6"
    assert conv.scope == "a/b"
    assert depthwise.attributes["group"] == 4
    assert reshape.attributes["new_shape"] == (-1, 16)
    assert linear.inputs == ("flat", "w3", "")
    assert graph.tensors["shape"].values == (-1, 16)
    assert graph.tensors["b2"].storage == "b1"
    assert graph.format == "tflite"


def test_its_bytes(written):
    report = peakmem.estimate(written(made.network()))
    # x 768 and conv 256 alive at the first operator; 432 + 16 (shared) + 144 + 8 + 160 stored
    assert report.peaks["naive"] == 768 + 256
    assert report.peak.weights_bytes == 432 + 16 + 144 + 8 + 160
    assert report.kind == "estimate"
    assert not report.unknowns
    (quantised,) = report.details
    assert "1 per channel" in quantised.text
    assert quantised.nbytes == 10 * (4 + 8)


@pytest.mark.parametrize("open_batch", [False, True])
def test_another_batch(written, open_batch):
    path = written(made.network(open_batch=open_batch))
    graph = read_tflite(path)
    assert graph.tensors["x"].shape == ((Symbol("x.0") if open_batch else 1), 8, 8, 3)
    assert graph.defaults == ({"x.0": 1} if open_batch else {})
    assert peakmem.estimate(path).peaks["naive"] == 1024
    report = peakmem.estimate(path, batch=4)
    assert report.peaks["naive"] == 4 * 1024
    assert report.outputs[0].shape == (4, 10)
    assert peakmem.estimate(path, shapes={"": (2, 16, 16, 3)}).outputs[0].shape == (18, 10)


def test_a_reshape_that_fixes_the_batch_refuses_another(written):
    tensors = [tensor("x", (1, 4)), tensor("s", (2,), made.INT32, 1), tensor("y", (2, 2))]
    path = written(
        model([subgraph(tensors, (0,), (2,), [operator(0, (0, 1), (2,))])], [code(made.RESHAPE)], [i32(2, 2)])
    )
    with pytest.raises(peakmem.PeakmemError, match="12 elements do not fit 2x2"):
        peakmem.estimate(path, batch=3)


def test_shape_arithmetic_follows_the_batch(written):
    tensors = [
        tensor("x", (1, 2, 3), signature=(-1, 2, 3)), tensor("shape", (3,), made.INT32),
        tensor("begin", (1,), made.INT32, 1), tensor("end", (1,), made.INT32, 2), tensor("n", (), made.INT32),
        tensor("six", (), made.INT32, 3), tensor("to", (2,), made.INT32), tensor("y", (1, 6), signature=(-1, -1)),
    ]  # fmt: skip
    operators = [
        operator(0, (0,), (1,)), operator(1, (1, 2, 3, 3), (4,), 32, {4: ("i", 1)}),
        operator(2, (4, 5), (6,), 59, {0: ("i", 2)}), operator(3, (0, 6), (7,)),
    ]  # fmt: skip
    codes = [code(made.SHAPE), code(made.STRIDED_SLICE), code(made.PACK), code(made.RESHAPE)]
    path = written(model([subgraph(tensors, (0,), (7,), operators)], codes, [i32(0), i32(1), i32(6)]))
    report = peakmem.estimate(path, batch=5)
    assert report.outputs[0].shape == (5, 6)
    assert not report.unknowns


def test_states_and_intermediates(written):
    listed = [
        tensor("x", (1, 5, 2)),
        tensor("w", (3, 2), buffer=1),
        tensor("r", (3, 3), buffer=2),
        tensor("b", (3,), buffer=3),
    ]
    listed += [tensor("h", (1, 3), variable=True), tensor("c", (1, 3), variable=True), tensor("y", (1, 5, 3))]
    listed += [tensor("intermediate", (0,), made.INT16, scales=1)]
    inputs = (0, 1, 1, 1, 1, 2, 2, 2, 2, -1, -1, -1, 3, 3, 3, 3, -1, -1, 4, 5, -1, -1, -1, -1)
    lstm = operator(0, inputs, (6,), 71, {0: ("b", 4)})
    lstm.fields[8] = ints(7)
    path = written(model([subgraph(listed, (0,), (6,), [lstm])], [code(made.LSTM)], [f32(6), f32(9), f32(3)]))
    graph = read_tflite(path)
    assert graph.tensors["h"].role == "state"
    assert "intermediate" not in graph.tensors
    report = peakmem.estimate(path)
    assert report.peak.state_bytes == 2 * 12
    assert report.peak.total_bytes == 40 + 60 + 24 + 24 + 36 + 12
    with pytest.raises(peakmem.PeakmemError, match="the state has 3 elements, not 2x3"):
        peakmem.estimate(path, batch=2)


def loop() -> bytes:
    """WHILE over a counter and a 1x100 tensor: its body squares the tensor."""
    main = subgraph(
        [tensor("i", (), made.INT32), tensor("x", (1, 100)), tensor("n", (), made.INT32), tensor("y", (1, 100))],
        (0, 1), (3,), [operator(0, (0, 1), (2, 3), 93, {0: ("i", 1), 1: ("i", 2)})], "main",
    )  # fmt: skip
    cond = subgraph(
        [tensor("i", (), made.INT32), tensor("x", (1, 100)), tensor("five", (), made.INT32, 1),
         tensor("go", (), made.BOOL)],
        (0, 1), (3,), [operator(1, (0, 2), (3,))], "cond",
    )  # fmt: skip
    body = subgraph(
        [tensor("i", (), made.INT32), tensor("x", (1, 100)), tensor("one", (), made.INT32, 1),
         tensor("j", (), made.INT32), tensor("square", (1, 100)), tensor("out", (1, 100))],
        (0, 1), (3, 5), [operator(2, (0, 2), (3,)), operator(3, (1, 1), (4,)), operator(3, (4, 4), (5,))], "body",
    )  # fmt: skip
    return model([main, cond, body], [code(made.WHILE), code(made.LESS), code(made.ADD), code(made.MUL)], [i32(5)])


def test_a_loop_and_its_bodies(written):
    path = written(loop())
    graph = read_tflite(path)
    (operator,) = graph.operators
    assert [body.name for body in operator.subgraphs] == ["cond", "body"]
    # Constants of bodies stand once, in the graph itself.
    assert sum(tensor.role == "constant" for tensor in graph.tensors.values()) == 1
    report = peakmem.estimate(path)
    # The operator: its inputs and outputs, 404 each. The body at its last step: j, square and out.
    assert report.peaks["naive"] == 2 * 404 + 4 + 400 + 400
    assert peakmem.estimate(path, batch=3).peaks["naive"] == 2 * 1204 + 4 + 1200 + 1200


def test_branches_write_where_the_caller_reads(written):
    def branch(name, number):
        return subgraph(
            [tensor("a", (10,)), tensor("t", (10,)), tensor("b", (10,))],
            (0,), (2,), [operator(number, (0,), (1,)), operator(number, (1,), (2,))], name,
        )  # fmt: skip

    main = subgraph(
        [tensor("c", (1,), made.BOOL), tensor("x", (10,)), tensor("y", (10,))],
        (0, 1), (2,), [operator(0, (0, 1), (2,), 92, {0: ("i", 1), 1: ("i", 2)})],
    )  # fmt: skip
    path = written(model([main, branch("p", 1), branch("q", 1)], [code(made.IF), code(made.RELU)]))
    # c, x and y outside; t inside.
    assert peakmem.estimate(path).peaks["naive"] == 1 + 40 + 40 + 40


def test_variables_are_states(written):
    first = subgraph(
        [tensor("r", (), made.RESOURCE), tensor("zero", (4, 8), buffer=1)],
        (), (), [operator(1, (), (0,), 111, {1: "count"}), operator(3, (0, 1), ())], "init",
    )  # fmt: skip
    main = subgraph(
        [tensor("x", (4, 8)), tensor("r", (), made.RESOURCE), tensor("v", (4, 8)), tensor("y", (4, 8))],
        (0,), (3,),
        [operator(0, (), (), 103, {0: ("i", 1)}), operator(1, (), (1,), 111, {1: "count"}),
         operator(2, (1,), (2,)), operator(4, (0, 2), (3,)), operator(3, (1, 3), ())],
    )  # fmt: skip
    codes = [code(n) for n in (made.CALL_ONCE, made.VAR_HANDLE, made.READ_VARIABLE, made.ASSIGN_VARIABLE, made.ADD)]
    report = peakmem.estimate(written(model([main, first], codes, [f32(32)])))
    assert report.peak.state_bytes == 128
    assert report.peak.weights_bytes == 128
    assert not report.unknowns


def test_a_hash_table_is_not_told(written):
    main = subgraph([tensor("h", (1,), made.RESOURCE)], (), (0,), [operator(0, (), (0,), 107, {0: ("i", 3)})])
    report = peakmem.estimate(written(model([main], [code(made.HASHTABLE)])))
    assert [unknown.op_type for unknown in report.unknowns] == ["HASHTABLE"]
    assert "outside of tensors" in report.unknowns[0].reason


def test_signatures_and_other_subgraphs(written):
    def one(name, width):
        return subgraph([tensor("x", (1, width)), tensor("y", (1, width))], (0,), (1,), [operator(0, (0,), (1,))], name)

    def signature(key, number):
        names = [Table({0: "in", 1: ("I", 0)})]
        return Table({0: names, 1: [Table({0: "out", 1: ("I", 1)})], 2: key, 4: ("I", number)})

    more = {7: [signature("encode", 0), signature("decode", 1)]}
    path = written(model([one("first", 10), one("second", 1000)], [code(made.RELU)], more=more))
    assert peakmem.estimate(path).peaks["naive"] == 80
    texts = [detail.text for detail in read_tflite(path).details]
    assert any("signature=decode" in text for text in texts)
    for options in ({"signature": "decode"}, {"subgraph": "1"}, {"subgraph": "second"}):
        assert read_tflite(path, **options).tensors["x"].shape == (1, 1000)
    with pytest.raises(UsageError, match=r"no signature 'train'.*encode, decode"):
        read_tflite(path, signature="train")
    with pytest.raises(UsageError, match="no subgraph '7'"):
        read_tflite(path, subgraph="7")


def test_metadata_and_the_plan_of_offsets(written):
    metadata = [Table({0: "min_runtime_version", 1: ("I", 1)}), Table({0: "OfflineMemoryAllocation", 1: ("I", 2)})]
    plan = i32(1, 0, 3, 0, 64, -1)
    path = written(add((1, 4), buffers=[b"1.14.0\0\0", plan], more={6: metadata}))
    assert dict(read_offline_plan(path)) == {"a": 0, "b": 64, "c": -1}
    details = {detail.name: detail for detail in read_tflite(path).details}
    assert details["metadata min_runtime_version"].text == "1.14.0"
    assert details["metadata OfflineMemoryAllocation"].nbytes == 24
    with pytest.raises(FormatError, match="the plan lists 9 offsets"):
        read_offline_plan(written(add((1, 4), buffers=[b"", i32(1, 0, 9, 0)], more={6: metadata})))


def test_packed_int4_and_sparse_constants(written):
    sparsity = Table({
        0: ints(0, 1),
        2: [Table({0: ("b", 0), 1: ("i", 4)}),
            Table({0: ("b", 1), 2: ("B", 1), 3: Table({0: ints(0, 1, 2, 3, 3)}), 4: ("B", 3),
                   5: Table({0: b"\0\1\2"})})],
    })  # fmt: skip
    listed = [
        tensor("x", (1, 4)), tensor("w4", (3, 4), made.INT4, 1, scales=1),
        tensor("ws", (4, 4), made.FLOAT32, 2, more={6: sparsity}), tensor("h", (1, 3)), tensor("y", (1, 4)),
    ]  # fmt: skip
    operators = [operator(0, (0, 1, -1), (3,), 8, {}), operator(0, (0, 2, -1), (4,), 8, {})]
    path = written(model([subgraph(listed, (0,), (3, 4), operators)], [code(made.FULLY_CONNECTED)], [bytes(6), f32(3)]))
    report = peakmem.estimate(path)
    assert report.peak.weights_bytes == 6 + 12
    (detail,) = [detail for detail in report.details if detail.name == "sparse constants"]
    assert detail.nbytes == 5 * 4 + 3


def test_strings_take_what_they_take(written):
    listed = [tensor("s", (2,), made.STRING, 1), tensor("y", (2,), made.STRING)]
    path = written(
        model([subgraph(listed, (), (1,), [operator(0, (0,), (1,))])], [code(made.CUSTOM, "Copy")], [bytes(21)])
    )
    report = peakmem.estimate(path)
    assert report.peak.weights_bytes == 21
    assert report.kind == "lower bound"


def test_custom_operators_and_their_options(written):
    options = _flexbuffer({"max_classes_per_detection": 1, "max_detections": 10})
    listed = [tensor("boxes", (1, 50, 4)), tensor("scores", (1, 50, 3)), tensor("anchors", (50, 4), buffer=1)]
    listed += [tensor(name, ()) for name in ("b", "c", "s", "n")]
    detect = operator(0, (0, 1, 2), (3, 4, 5, 6), custom=options)
    graph = subgraph(listed, (0, 1), (3, 4, 5, 6), [detect])
    path = written(model([graph], [code(made.CUSTOM, "TFLite_Detection_PostProcess")], [f32(200)]))
    report = peakmem.estimate(path)
    assert [output.shape for output in report.outputs] == [(1, 10, 4), (1, 10), (1, 10), (1,)]
    assert not report.unknowns
    (operator_read,) = read_tflite(path).operators
    assert operator_read.domain == "tflite.custom"
    assert operator_read.attributes == {
        "max_detections": 10, "max_classes_per_detection": 1, "custom_options_bytes": len(options)
    }  # fmt: skip


def _flexbuffer(entries: dict[str, int]) -> bytes:
    """A FlexBuffers map of small integers, one byte wide."""
    data, keys = bytearray(), []
    for name in sorted(entries):
        keys.append(len(data))
        data += name.encode() + b"\0"
    data.append(len(keys))
    start = len(data)
    data += bytes((len(data) + at) - key for at, key in enumerate(keys))
    data += bytes((len(data) - start, 1, len(entries)))
    values = len(data)
    data += bytes(entries[name] for name in sorted(entries))
    data += bytes([1 << 2] * len(entries))
    data += bytes((len(data) - values, 9 << 2, 1))
    return bytes(data)


def test_what_a_composite_brings_does_not_pass_for_its_options(written):
    inner = subgraph([tensor("a", (9,)), tensor("t", (9,)), tensor("b", (9,))], (0,), (2,),
                     [operator(1, (0,), (1,)), operator(1, (1,), (2,))])  # fmt: skip
    bag = _flexbuffer({"decomposition_subgraph_index": 77, "groups": 2})
    call = operator(0, (0,), (1,), 21, {0: "odml.norm", 1: ("i", 1), 2: bag, 4: ("i", 1)}, second=True)
    main = subgraph([tensor("x", (9,)), tensor("y", (9,))], (0,), (1,), [call])
    path = written(model([main, inner], [code(made.COMPOSITE), code(made.RELU)]))
    attributes = read_tflite(path).operators[0].attributes
    assert (attributes["groups"], attributes["decomposition_subgraph_index"]) == (2, 1)
    # x, y and inside t
    assert peakmem.estimate(path).peaks["naive"] == 3 * 36


def test_layers_as_papers_write_them(written):
    rows = [(row.kernel, row.stride) for row in peakmem.estimate(written(made.network())).layer_table.rows]
    assert rows == [("3x3x3x4", "2"), ("3x3x4", "1"), ("", ""), ("16x10", "")]


@given(st.binary(max_size=60))
def test_options_that_are_no_map_give_nothing_and_no_fault(data):
    plain_map(data)
    plain_map(data + bytes((4, 36, 1)))


def test_an_unknown_custom_operator_without_a_declared_shape_is_named(written):
    listed = [tensor("x", (1, 4)), tensor("y", ())]
    path = written(model([subgraph(listed, (0,), (1,), [operator(0, (0,), (1,))])], [code(made.CUSTOM, "Mystery")]))
    report = peakmem.estimate(path)
    assert report.kind == "lower bound"
    assert report.unknowns[0].op_type == "Mystery"


def test_names_that_stand_twice_or_not_at_all(written):
    listed = [tensor(name, (4,)) for name in ("t", "t", "")]
    path = written(
        model([subgraph(listed, (0,), (2,), [operator(0, (0,), (1,)), operator(0, (1,), (2,))])], [code(made.RELU)])
    )
    graph = read_tflite(path)
    assert graph.inputs == ("t",)
    assert graph.operators[0].outputs == ("t#1",)
    assert graph.outputs == ("subgraph_0/tensor_2",)


def test_an_input_with_content_is_a_constant(written):
    listed = [tensor("a", (3,)), tensor("b", (3,), buffer=1), tensor("c", (3,))]
    path = written(model([subgraph(listed, (0, 1), (2,), [operator(0, (0, 1), (2,))])], [code(made.ADD)], [f32(3)]))
    report = peakmem.estimate(path)
    assert [port.name for port in report.inputs] == ["a"]
    assert report.peak.weights_bytes == 12


def test_buffers_outside_of_the_tables(tmp_path):
    """A file above 2 GiB, as long as it says and otherwise empty: read in little time and memory."""
    rows = 3 << 18
    big = Table({1: ("Q", 1 << 20), 2: ("Q", rows * 1024 * 4)})
    listed = [tensor("x", (1, 1024)), tensor("w", (rows, 1024), buffer=1), tensor("y", (1, rows))]
    graph = subgraph(listed, (0,), (2,), [operator(0, (0, 1, -1), (2,), 8, {})])
    path = tmp_path / "big.tflite"
    with path.open("wb") as file:
        file.write(model([graph], [code(made.FULLY_CONNECTED)], [big]))
        file.truncate((1 << 20) + rows * 4096)
    start = time.perf_counter()
    report = peakmem.estimate(path)
    assert time.perf_counter() - start < 3
    assert report.peak.weights_bytes == 3 << 30
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    with pytest.raises(FormatError, match=r"buffer 1 has 3221225472 bytes.*the file ends at byte 1073741824"):
        read_tflite(path)


def test_weights_in_another_file(written):
    more = {8: [Table({0: "weights.bin"})], 9: [Table({0: ("I", 7), 1: ("I", 0), 3: ("Q", 48), 4: ""})]}
    listed = [tensor("x", (1, 4)), tensor("w", (3, 4), more={10: ("I", 7)}), tensor("y", (1, 3))]
    graph = subgraph(listed, (0,), (2,), [operator(0, (0, 1, -1), (2,), 8, {})])
    report = peakmem.estimate(written(model([graph], [code(made.FULLY_CONNECTED)], more=more)))
    assert report.peak.weights_bytes == 48
    assert any("another file" in note for note in report.assumptions)


def calls_itself() -> bytes:
    one = [tensor("c", (1,), made.BOOL), tensor("x", (4,)), tensor("y", (4,))]
    run = operator(0, (0, 1), (2,), 92, {0: ("i", 0), 1: ("i", 0)})
    return model([subgraph(one, (0, 1), (2,), [run])], [code(made.IF)])


def doubles(depth: int) -> bytes:
    """Subgraphs that each call the next one twice: 2^depth operators when written out."""
    graphs = []
    for number in range(depth):
        one = [tensor("c", (1,), made.BOOL), tensor("x", (4,)), tensor("t", (4,)), tensor("y", (4,))]
        call = {0: ("i", number + 1), 1: ("i", number + 1)}
        runs = [operator(0, (0, 1), (2,), 92, call), operator(0, (0, 2), (3,), 92, call)]
        graphs.append(subgraph(one, (0, 1), (3,), runs))
    last = [tensor("x", (4,)), tensor("y", (4,))]
    graphs.append(subgraph(last, (0,), (1,), [operator(1, (0,), (1,))]))
    return model(graphs, [code(made.IF), code(made.RELU)])


def test_what_is_said_of_a_file_that_is_not_one(written):
    good = made.network()
    for data, message in (
        (good[:4] + b"TFL2" + good[8:], "not a TensorFlow Lite file"),
        (good[:6], "not a TensorFlow Lite file"),
        (good[: len(good) // 2], "the file ends at byte|runs past the end"),
        (struct.pack("<I", len(good) + 99) + good[4:], "the file ends at byte"),
        (model([], []), "no subgraph"),
        (made.model([subgraph([], (), (), [])], [], version=2), "schema has version 2"),
        (add((1, 4), inputs=(0, 9)), "refers to tensor 9"),
        (add((1, 4), tensors=[tensor("w", (2,), buffer=9)]), "buffer 9 is referred to"),
        (add((1, 4), tensors=[tensor("w", (5,), buffer=1)], buffers=[f32(4)]), r"'w' has 16 bytes .*20 bytes for 5"),
        (add((1,) * 65), "65 dimensions"),
        (calls_itself(), "calls itself"),
        (doubles(31), "call each other so often"),
        (doubles(40), "deep|so often"),
    ):  # fmt: skip
        with pytest.raises(FormatError, match=message) as caught:
            read_tflite(written(data))
        assert "net.tflite" in str(caught.value)


def test_operators_that_make_what_is_made(written):
    listed = [tensor(name, (4,)) for name in "abc"]
    twice = [operator(0, (0,), (1,)), operator(0, (0,), (1,))]
    with pytest.raises(GraphError, match="made twice"):
        read_tflite(written(model([subgraph(listed, (0,), (1,), twice)], [code(made.RELU)])))
    cycle = [operator(0, (1,), (2,)), operator(0, (2,), (1,))]
    with pytest.raises(GraphError, match="cycle"):
        read_tflite(written(model([subgraph(listed, (0,), (2,), cycle)], [code(made.RELU)])))
    late = [operator(0, (1,), (2,)), operator(0, (0,), (1,))]
    graph = read_tflite(written(model([subgraph(listed, (0,), (2,), late)], [code(made.RELU)])))
    assert [one.name for one in graph.operators] == ["RELU_1", "RELU_0"]
    assert any("put in order" in note for note in graph.notes)


def test_an_operator_that_the_schema_does_not_know(written):
    listed = [tensor("x", (1, 4)), tensor("y", (1, 4))]
    data = model([subgraph(listed, (0,), (1,), [operator(0, (0,), (1,))])], [code(999)])
    report = peakmem.estimate(written(data))
    assert report.model.op_types == {"BUILTIN_999": 1}
    assert report.peaks["naive"] == 32


def test_a_type_that_the_schema_does_not_know(written):
    listed = [tensor("x", (1, 4), 99), tensor("y", (1, 4))]
    data = model([subgraph(listed, (0,), (1,), [operator(0, (0,), (1,))])], [code(made.RELU)])
    report = peakmem.estimate(written(data))
    assert report.kind == "lower bound"


def test_lists_that_are_shared_a_million_times_end(written):
    """The same long list under many operators costs no more than a list may."""
    graph = subgraph([tensor("x", (4,)), tensor("y", (4,))], (0,), (1,), [operator(0, (0,) * 4000, (1,))] * 5000)
    started = time.perf_counter()
    with pytest.raises(FormatError, match="entries together"):
        read_tflite(written(model([graph], [code(made.RELU)])))
    assert time.perf_counter() - started < 20
