"""ExecuTorch programs: what is read, and what is said of damaged ones. Expected values are hand arithmetic."""

from __future__ import annotations

import random
import struct
import time

import pytest

import peakmem
from peakmem import dtypes
from peakmem.errors import FormatError, PeakmemError, UsageError
from peakmem.frontends import recognise
from peakmem.frontends.pte.reader import Planned, read_places, read_pte
from peakmem.liveness import live_bytes, live_ranges
from tests.unit.frontends import pte_files as made
from tests.unit.frontends.pte_files import call, listed, method, move, number, program, tensor, value
from tests.unit.frontends.tflite_files import Table


@pytest.fixture
def written(tmp_path):
    def write(data: bytes):
        path = tmp_path / "net.pte"
        path.write_bytes(data)
        return path

    return write


def one_call(name, values, arguments, inputs, outputs, buffers=(4096,), constants=()):
    """A method with one kernel of `name`, an out variant."""
    return program([method(values, [call(0, *arguments)], inputs, outputs, buffers, [(name, "out")])], constants)


def test_a_network_in_planned_memory(written):
    path = written(made.portable())
    graph = read_pte(path)
    assert [(one.op_type, one.domain, one.inputs, one.outputs) for one in graph.operators] == [
        ("add", "aten", ("input_0", "constant_1"), ("add_0",)),
        ("relu", "aten", ("add_0",), ("relu_1",)),
        ("view", "executorch", ("relu_1",), ("view_5",)),
        ("relu", "aten", ("view_5",), ("relu_2",)),
    ]
    assert graph.operators[2].aliases == ((0, 0),)
    assert (graph.inputs, graph.outputs, graph.format, graph.bound) == (("input_0",), ("relu_2",), "pte", True)
    assert graph.tensors["view_5"].shape == (48,)
    assert graph.tensors["constant_1"].nbytes == 192
    assert max(live_bytes(live_ranges(graph))) == 2 * 192
    told = {one.name: one.nbytes for one in graph.details}
    assert told["planned buffer 1"] == 384
    assert told["constant segment"] == 192
    assert dict(read_places(path)) == {
        "input_0": Planned(1, 0, 192), "add_0": Planned(1, 192, 192), "relu_1": Planned(1, 0, 192),
        "view_5": Planned(1, 0, 192), "relu_2": Planned(1, 192, 192),
    }  # fmt: skip


def test_it_is_known_by_its_bytes_and_read_by_the_public_face(written, tmp_path):
    other = tmp_path / "net.bin"
    other.write_bytes(made.portable())
    assert recognise(other).name == "pte"
    assert peakmem.estimate(written(made.portable()), assume="eager").peak.activation_bytes == 384


def test_delegates_of_xnnpack_have_what_they_compute_as_a_body(written):
    for named in (False, True):
        graph = read_pte(written(made.convolution(named=named)))
        (operator,) = graph.operators
        assert (operator.op_type, operator.domain, operator.outputs) == (
            "XnnpackBackend",
            "executorch",
            (operator.name,),
        )
        weights = [graph.tensors[name] for name in operator.inputs[1:]]
        assert [one.shape for one in weights] == [(8, 3, 3, 3), (8,), (4, 8)]
        assert sum(one.nbytes for one in weights) == 864 + 32 + 128
        (body,) = operator.subgraphs
        assert [one.op_type for one in body.operators] == [
            "Conv2d", "GlobalAvgPooling2d", "StaticReshape", "FullyConnected",
        ]  # fmt: skip
        assert body.operators[0].attributes["strides"] == (2, 2)
        assert body.operators[0].attributes["pads"] == (1, 1, 1, 1)
        assert body.operators[2].attributes["new_shape"] == (1, 8)
        # input 3,072 and output 16 with the convolution's result of 2,048 and its mean of 32, behind it
        assert max(live_bytes(live_ranges(graph))) == 3072 + 16 + 2048 + 32


def test_outputs_stand_among_the_arguments_and_once_more_behind_them(written):
    # max_pool2d_with_indices(x, [3], out=a, indices=b) returns both as a list
    values = [
        tensor((1, 2, 8, 8), (1, 0)), number(3), listed(made.INT_LIST, 1), tensor((1, 2, 4, 4), (1, 512)),
        tensor((1, 2, 4, 4), (1, 1024), dtype=made.LONG), listed(made.TENSOR_LIST, 3, 4), value(made.NULL),
    ]  # fmt: skip
    graph = read_pte(written(one_call("aten::max_pool2d_with_indices", values, (0, 2, 6, 3, 4, 5), (0,), (3,))))
    (operator,) = graph.operators
    assert operator.inputs == ("input_0",)
    assert operator.outputs == ("max_pool2d_with_indices_0.0", "max_pool2d_with_indices_0.1")
    assert operator.attributes["kernel_shape"] == (3,)
    assert graph.tensors[operator.outputs[1]].dtype == dtypes.INT64


def test_what_works_in_place_gives_a_new_tensor_on_the_same_bytes(written):
    values = [tensor((4,), (1, 16), name="cache"), tensor((4,), (1, 0))]
    run = [call(0, 0, 1, 0), call(1, 0, 1, 1)]
    graph = read_pte(
        written(program([method(values, run, (1,), (1,), (64,), [("aten::copy_", ""), ("aten::relu", "out")])]))
    )
    assert graph.tensors["cache"].role == "state"
    copy, relu = graph.operators
    assert (copy.inputs, copy.outputs, copy.aliases) == (("cache", "input_0"), ("copy__0",), ((0, 0),))
    assert relu.inputs == ("copy__0",)
    assert graph.outputs == relu.outputs


def test_constants_with_the_same_bytes_count_once(written):
    values = [tensor((4,), (1, 0)), tensor((4,), None, 1), tensor((2, 2), None, 1), tensor((4,), (1, 16))]
    graph = read_pte(written(one_call("aten::lerp", values, (0, 1, 2, 3, 3), (0,), (3,), constants=[bytes(16)])))
    stored = [one for one in graph.tensors.values() if one.role == "constant"]
    assert [bool(one.storage) for one in stored] == [False, True]


def test_the_empty_tensor_that_stands_for_none_is_no_input(written):
    empty = tensor((0,), dtype=made.BYTE)
    values = [tensor((4,), (1, 0)), empty, tensor((4,), (1, 16))]
    graph = read_pte(written(one_call("aten::thing", values, (0, 1, 2, 2), (0,), (2,))))
    assert graph.operators[0].inputs == ("input_0",)


def test_a_transposed_convolution_is_called_so(written):
    values = [
        tensor((1, 4, 8, 8), (1, 0)), tensor((4, 2, 2, 2), None, 1), value(made.NULL), number(2),
        listed(made.INT_LIST, 3, 3), value(made.BOOL, Table({0: ("?", True)})), number(1),
        tensor((1, 2, 16, 16), (1, 1024)),
    ]  # fmt: skip
    graph = read_pte(
        written(
            one_call("aten::convolution", values, (0, 1, 2, 4, 4, 4, 5, 4, 6, 7, 7), (0,), (7,), constants=[bytes(128)])
        )
    )
    (operator,) = graph.operators
    assert operator.op_type == "conv_transpose2d"
    assert (operator.attributes["strides"], operator.attributes["group"]) == ((2, 2), 1)
    assert operator.attributes["kernel_shape"] == (2, 2)


def test_branches_are_laid_out_one_after_the_other(written):
    values = [tensor((4,), (1, 0)), tensor((4,), (1, 16)), tensor((4,), (1, 32)), tensor((), (1, 48), dtype=11)]
    jump = Table({0: ("B", made.JUMP), 1: Table({0: ("i", 3), 1: ("i", 4)})})
    run = [jump, call(0, 0, 1, 1), move(1, 2), call(0, 0, 1, 1), move(1, 2)]
    graph = read_pte(written(program([method(values, run, (0, 3), (2,), (64,), [("aten::relu", "out")])])))
    assert [one.op_type for one in graph.operators] == ["relu", "move", "relu", "move"]
    assert graph.outputs == (graph.operators[-1].outputs[0],)
    assert any("jumps" in note for note in graph.notes)


def test_other_backends_are_told_as_unknown(written):
    values = [tensor((4,), (1, 0)), tensor((8,), (1, 16))]
    made_here = method(
        values, [call(0, 0, 1, kind=made.DELEGATE)], (0,), (1,), (64,), delegates=[made.delegate(0, "OtherBackend")]
    )
    graph = read_pte(written(program([made_here], segments=[bytes(100)])))
    (operator,) = graph.operators
    assert (operator.op_type, operator.attributes["blob_bytes"], operator.outputs) == (
        "OtherBackend", 100, ("OtherBackend_0",),
    )  # fmt: skip
    assert graph.unknowns[0].operator == "OtherBackend_0"


def test_methods_are_chosen_by_name(written):
    values = [tensor((4,), (1, 0)), tensor((4,), (1, 16))]
    first = method(values, [call(0, 0, 1, 1)], (0,), (1,), (32,), [("aten::relu", "out")], name="encode")
    second = method(values, [call(0, 0, 1, 1)], (0,), (1,), (64,), [("aten::neg", "out")], name="decode")
    path = written(program([first, second]))
    assert read_pte(path).operators[0].op_type == "relu"
    graph = read_pte(path, method="decode")
    assert graph.operators[0].op_type == "neg"
    assert {one.name: one.nbytes for one in graph.details}["method encode"] == 32
    with pytest.raises(UsageError, match="no method 'forward'"):
        read_pte(path, method="forward")


def test_dynamic_shapes_are_the_largest_and_said(written):
    values = [tensor((16, 4), (1, 0), dynamism=1), tensor((16, 4), (1, 256), dynamism=1)]
    graph = read_pte(written(one_call("aten::relu", values, (0, 1, 1), (0,), (1,), (512,))))
    assert graph.tensors["input_0"].shape == (16, 4)
    assert any("largest" in note for note in graph.notes)


def test_a_file_without_the_extended_header_has_its_constants_inside(written):
    values = [tensor((4,), (1, 0)), tensor((4,), (1, 16))]
    data = program([method(values, [call(0, 0, 1, 1)], (0,), (1,), (32,), [("aten::relu", "out")])], header=False)
    assert read_pte(written(data)).operators[0].op_type == "relu"


# -- damage ------------------------------------------------------------------------------


RELU = [tensor((4,), (1, 0)), tensor((4,), (1, 16))]


def damaged(**changes):
    base = {
        "values": RELU, "instructions": [call(0, 0, 1, 1)], "inputs": (0,), "outputs": (1,), "buffers": (32,),
        "operators": [("aten::relu", "out")],
    }  # fmt: skip
    return program([method(**{**base, **changes})])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04" + bytes(60), "not an ExecuTorch program"),
        (made.portable()[:6] + b"13" + made.portable()[8:], "mark ET13"),
        (made.portable()[:-1], "its header tells of"),
        (damaged(inputs=(2,)), "refers to value 2"),
        (damaged(instructions=[call(1, 0, 1, 1)]), "operator 1 is called"),
        (damaged(instructions=[call(0, 0, 7, 7)]), "refers to value 7"),
        (damaged(instructions=[call(0, 0, 1, kind=made.DELEGATE)]), "delegate 0 is called"),
        (damaged(instructions=[call(0, 0, 1, kind=9)]), "of kind 9"),
        (damaged(values=[tensor((4,), (1, 20)), RELU[1]]), "ends at byte 36 of planned buffer 1"),
        (damaged(values=[tensor((4,), (3, 0)), RELU[1]]), "planned buffer 3"),
        (damaged(values=[tensor((-4,), (1, 0)), RELU[1]]), "has the shape"),
        (damaged(values=[tensor((1,) * 99, (1, 0)), RELU[1]]), "99 dimensions"),
        (damaged(values=[listed(made.INT_LIST, 44), *RELU]), "refers to value 44"),
        (damaged(values=[value(77, Table({0: ("q", 1)})), *RELU]), "of kind 77"),
        (damaged(values=[tensor((4,), None, 5), RELU[1]], inputs=()), "constant 5 is referred to"),
        (damaged(buffers=(-32,)), "less than nothing"),
        (program([]), "no method"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(data, said, written):
    with pytest.raises(FormatError, match=said):
        read_pte(written(data))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (bytes(80), "another mark"),
        (made.blob([made.xvalue(0, (4,), 0, 1)], [made.xnode(18, 0, 9, 0)], 1, (0,), (), ()), "refers to value 9"),
        (made.blob([made.xvalue(0, (4,), constant=3)], [], 0, (), (), ()), "constant 3"),
        (made.blob([made.xvalue(0, (40,), constant=1)], [], 0, (), (), (bytes(8),)), "has 8 bytes"),
        (made.blob([made.xvalue(0, (4,), datatype=99)], [], 0, (), (), ()), "datatype 99"),
        (made.blob([], [made.xnode(99, 0, 0)], 0, (), (), ()), "kind 99"),
        (made.blob([], [], 5000, (), (), ()), "5000 external values"),
    ],
)
def test_what_is_wrong_with_a_delegate_is_said(data, said, written):
    listed_here = method(RELU, [call(0, 0, 1, kind=made.DELEGATE)], (0,), (1,), (32,), delegates=[made.delegate(0)])
    with pytest.raises(FormatError, match=said):
        read_pte(written(program([listed_here], segments=[data])))


@pytest.mark.parametrize("data", [made.portable(), made.convolution(named=True)])
def test_cut_or_flipped_bytes_end_in_a_message(data, written):
    chance = random.Random(7)
    for _ in range(150):
        hurt = bytearray(data)
        if chance.random() < 0.2:
            del hurt[chance.randrange(len(hurt)) :]
        for _ in range(chance.choice((1, 1, 3))):
            if hurt:
                hurt[chance.randrange(len(hurt))] = chance.choice((0, 1, 127, 128, 255))
        try:
            read_pte(written(bytes(hurt)))
        except PeakmemError:
            continue


def test_calls_that_share_a_list_do_not_hold_up_the_reader(written):
    count = 30_000
    values = [*RELU, made.listed(made.TENSOR_LIST, *([0] * count))]
    data = damaged(values=values, instructions=[call(0, 2, 1, 1)] * 1000)
    began = time.monotonic()
    with pytest.raises(FormatError, match="arguments together"):
        read_pte(written(data))
    assert time.monotonic() - began < 10


def test_a_list_that_is_longer_than_the_file_is_refused(written):
    data = bytearray(made.portable())
    at = data.index(struct.pack("<II", 2, 6))  # the shape (6, 8)
    struct.pack_into("<I", data, at, 0x7FFFFFFF)
    with pytest.raises(FormatError):
        read_pte(written(bytes(data)))
