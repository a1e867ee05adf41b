"""Constants of ONNX files: every form, every element type, tied and external, and never their bytes."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import peakmem
from peakmem.dtypes import DTYPES
from peakmem.errors import FormatError, GraphError
from peakmem.frontends.onnx.tensors import ELEMENT_TYPES
from peakmem.parameters import parameters
from tests.unit.frontends.onnx_files import FLOAT, INT64, body, external, load, model, save, value, weight

RELU = helper.make_node("Relu", ["x"], ["y"])
BYTES_OF_100 = {
    1: 400, 2: 100, 3: 100, 4: 200, 5: 200, 6: 400, 7: 800, 8: None, 9: 100, 10: 200, 11: 800, 12: 400, 13: 800,
    14: 800, 15: 1600, 16: 200, 17: 100, 18: 100, 19: 100, 20: 100, 21: 50, 22: 50, 23: 50, 24: 100, 25: 25, 26: 25,
    27: 75, 28: 75,
}  # fmt: skip
# by hand, from the widths in onnx.proto


def constant_of(folder, tensor, name="w"):
    graph = load(folder, model([RELU], weights=[tensor]))
    return graph.tensors[name]


def test_the_table_of_types_is_that_of_onnx():
    codes = {name: code for name, code in TensorProto.DataType.items() if code}
    names = {code: name.lower() for name, code in codes.items()} | {1: "float32", 11: "float64"}
    assert set(names.values()) <= set(DTYPES)
    assert {code: dtype.name for code, dtype in ELEMENT_TYPES.items()} == names
    assert set(BYTES_OF_100) == set(names)


@pytest.mark.parametrize("code", [code for code in BYTES_OF_100 if code != TensorProto.STRING])
def test_every_element_type_is_sized_packed(tmp_path, code):
    tensor = constant_of(tmp_path, weight("w", (10, 10), code))
    assert (tensor.shape, tensor.dtype, tensor.nbytes) == ((10, 10), ELEMENT_TYPES[code], BYTES_OF_100[code])
    assert tensor.role == "constant"
    assert tensor.parameter
    assert not tensor.storage


@pytest.mark.parametrize(("code", "count", "nbytes"), [(22, 3, 2), (21, 1, 1), (25, 5, 2), (27, 5, 4), (23, 0, 0)])
def test_a_last_byte_that_is_not_full_counts_whole(tmp_path, code, count, nbytes):
    assert constant_of(tmp_path, weight("w", (count,), code)).nbytes == nbytes


def test_strings_have_a_count_and_no_bytes(tmp_path):
    tensor = constant_of(tmp_path, helper.make_tensor("w", TensorProto.STRING, [2], ["a", "bc"]))
    assert (tensor.shape, tensor.nbytes, tensor.values) == ((2,), None, None)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int64", [2**62, -1, 0, 3]), ("int32", [-7, 2**31 - 1]), ("int16", [-300]), ("int8", [-128, 127]),
        ("uint8", [255]), ("uint16", [65535]), ("uint32", [2**32 - 1]), ("uint64", [2**64 - 1]),
        ("bool", [True, False]), ("float32", [0.5, -2.0]), ("float64", [1e300]), ("float16", [0.25, -1.5]),
    ],
)  # fmt: skip
def test_small_contents_are_read_in_either_form(tmp_path, dtype, values, raw):
    array = np.array(values, dtype=dtype)
    code = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = numpy_helper.from_array(array, "w") if raw else helper.make_tensor("w", code, array.shape, array.tolist())
    assert tensor.HasField("raw_data") is raw
    found = constant_of(tmp_path, tensor)
    assert found.values == tuple(array.tolist())
    assert found.dtype is not None
    assert found.dtype.name == dtype


def test_a_scalar_has_no_dimensions_and_one_value(tmp_path):
    found = constant_of(tmp_path, helper.make_tensor("w", INT64, [], [-5]))
    assert (found.shape, found.count, found.values) == ((), 1, (-5,))


def test_contents_of_weights_are_not_kept(tmp_path):
    assert constant_of(tmp_path, weight("w", (65,))).values is None
    assert constant_of(tmp_path, weight("w", (4097,), INT64)).values is None
    assert constant_of(tmp_path, weight("w", (4096,), INT64)).values == (0,) * 4096


def test_an_empty_tensor(tmp_path):
    found = constant_of(tmp_path, weight("w", (0, 7)))
    assert (found.shape, found.nbytes, found.values) == ((0, 7), 0, ())


def test_fewer_or_more_bytes_than_the_shape_needs(tmp_path):
    for held in (15, 17):
        tensor = TensorProto(name="w", dims=[4], data_type=FLOAT, raw_data=bytes(held))
        with pytest.raises(FormatError, match=f"constant 'w' holds {held} bytes, its shape 4 of float32 needs 16"):
            load(tmp_path, model([RELU], weights=[tensor]))


def test_constants_without_data_are_sized_and_said(tmp_path):
    graph = load(tmp_path, model([RELU], weights=[TensorProto(name="w", dims=[8], data_type=FLOAT)]))
    assert graph.tensors["w"].nbytes == 32
    assert any("hold no data" in note for note in graph.notes)


def test_sparse_constants_count_dense(tmp_path):
    values = helper.make_tensor("s", FLOAT, [3], [1.0, 2.0, 3.0])
    indices = helper.make_tensor("s_i", INT64, [3], [1, 5, 9])
    content = model([helper.make_node("Add", ["x", "s"], ["y"])], inputs=[value("x", (4, 4))])
    content.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 4]))
    graph = load(tmp_path, content)
    assert (graph.tensors["s"].shape, graph.tensors["s"].nbytes) == ((4, 4), 64)
    assert any("sparse" in note for note in graph.notes)


def test_a_sparse_constant_without_values(tmp_path):
    content = model([RELU])
    content.graph.sparse_initializer.add(dims=[4])
    with pytest.raises(FormatError, match="no values"):
        load(tmp_path, content)


def test_initializers_that_are_also_inputs_are_constants(tmp_path):
    # Up to IR version 3 every initializer had to be listed as an input.
    add = helper.make_node("Add", ["x", "w"], ["y"])
    content = model([add], inputs=[value("x"), value("w")], weights=[weight("w")])
    content.ir_version = 3
    graph = load(tmp_path, content)
    assert graph.inputs == ("x",)
    assert graph.tensors["w"].role == "constant"


def test_one_name_for_two_constants(tmp_path):
    with pytest.raises(GraphError, match="constant 'w' is given twice"):
        load(tmp_path, model([RELU], weights=[weight("w"), weight("w")]))


# -- Constant nodes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "content", "dtype", "shape", "values"),
    [
        ("value_int", 7, "int64", (), (7,)), ("value_ints", [1, 2, 3], "int64", (3,), (1, 2, 3)),
        ("value_float", 0.5, "float32", (), (0.5,)), ("value_floats", [0.5, 1.5], "float32", (2,), (0.5, 1.5)),
        ("value_string", "a", "string", (), ("a",)), ("value_strings", ["a", "b"], "string", (2,), ("a", "b")),
        ("value", numpy_helper.from_array(np.array([[1, 2]], "int32")), "int32", (1, 2), (1, 2)),
    ],
)  # fmt: skip
def test_constant_nodes_in_every_form(tmp_path, attribute, content, dtype, shape, values):
    node = helper.make_node("Constant", [], ["c"], **{attribute: content})
    # Another parameter is stored, so that the literal is none.
    graph = load(tmp_path, model([node, helper.make_node("Identity", ["x"], ["y"])], weights=[weight("w")]))
    constant = graph.tensors["c"]
    assert (constant.dtype.name, constant.shape, constant.values) == (dtype, shape, values)
    assert constant.role == "constant"
    assert not constant.parameter
    assert [operator.op_type for operator in graph.operators] == ["Identity"]


def test_an_empty_list_is_a_constant_too(tmp_path):
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(helper.make_attribute("value_ints", [], attr_type=7))
    assert load(tmp_path, model([node, RELU])).tensors["c"].shape == (0,)


def test_a_sparse_constant_node(tmp_path):
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", FLOAT, [1], [1.0]), helper.make_tensor("i", INT64, [1], [0]), [5]
    )
    node = helper.make_node("Constant", [], ["c"], sparse_value=sparse)
    assert load(tmp_path, model([node, RELU])).tensors["c"].nbytes == 20


def test_a_large_constant_node_is_stepped_over(tmp_path):
    # 8 MB in one node, which is walked in the file rather than held.
    node = helper.make_node("Constant", [], ["c"], value=weight("inner", (2_000_000,)))
    graph = load(tmp_path, model([node, helper.make_node("Identity", ["x"], ["y"])]))
    assert graph.tensors["c"].nbytes == 8_000_000
    assert "inner" not in graph.tensors


def test_a_long_list_in_a_constant_node(tmp_path):
    node = helper.make_node("Constant", [], ["c"], value_ints=range(400_000))
    constant = load(tmp_path, model([node, RELU])).tensors["c"]
    assert (constant.shape, constant.values, constant.nbytes) == ((400_000,), None, 3_200_000)


def test_a_long_text_in_a_constant_node(tmp_path):
    node = helper.make_node("Constant", [], ["c"], value_string="a" * 100_000)
    constant = load(tmp_path, model([node, RELU])).tensors["c"]
    assert (constant.shape, constant.nbytes) == ((), None)


def test_a_constant_node_that_holds_nothing_stays_an_operator(tmp_path):
    graph = load(tmp_path, model([helper.make_node("Constant", [], ["c"]), RELU], outputs=[value("c", None)]))
    assert [operator.op_type for operator in graph.operators] == ["Constant", "Relu"]


def test_tensors_in_other_attributes_are_stored_too(tmp_path):
    tree = helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", nodes_splits=weight("s", (10,)))
    graph = load(tmp_path, model([tree], opsets={"": 18, "ai.onnx.ml": 5}))
    assert graph.tensors["TreeEnsemble_0.nodes_splits"].nbytes == 40


def test_long_lists_in_attributes_are_stored_too(tmp_path):
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], name="tree", domain="ai.onnx.ml",
        nodes_values=[0.5] * 5000, nodes_featureids=range(300_000), few=[1, 2],
    )  # fmt: skip
    graph = load(tmp_path, model([node], opsets={"": 18, "ai.onnx.ml": 3}))
    assert graph.tensors["tree.nodes_values"].nbytes == 20_000
    assert graph.tensors["tree.nodes_featureids"].nbytes == 2_400_000
    attributes = graph.operators[0].attributes
    assert len(attributes["nodes_values"]) == 5000
    assert "nodes_featureids" not in attributes
    assert attributes["few"] == (1, 2)
    assert set(graph.tensors) == {"x", "y", "tree.nodes_values", "tree.nodes_featureids"}


def test_a_long_text_in_an_attribute_is_stored_and_not_read(tmp_path):
    blob = {"ep_cache_context": "b" * 3_000_000}
    node = helper.make_node("EPContext", ["x"], ["y"], name="ep", domain="com.microsoft", **blob)
    graph = load(tmp_path, model([node], opsets={"": 18, "com.microsoft": 1}))
    assert graph.tensors["ep.ep_cache_context"].nbytes == 3_000_000


def test_constant_of_shape_keeps_its_fill_as_an_attribute(tmp_path):
    fill = helper.make_tensor("f", TensorProto.FLOAT16, [1], [2.0])
    node = helper.make_node("ConstantOfShape", ["s"], ["y"], value=fill)
    graph = load(tmp_path, model([node], weights=[helper.make_tensor("s", INT64, [1], [9])]))
    assert dict(graph.operators[0].attributes) == {"value": (2.0,), "value_dtype": "float16"}


# -- external data -----------------------------------------------------------------------


def test_external_data_is_sized_from_the_shape(tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(100))
    graph = load(tmp_path, model([RELU], weights=[external(weight("w", (25,)), offset=None)]))
    assert graph.tensors["w"].nbytes == 100
    assert graph.tensors["w"].values is None


def test_external_data_in_a_folder_below(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "weights.bin").write_bytes(bytes(16))
    assert load(tmp_path, model([RELU], weights=[external(weight("w"), "data/weights.bin")])).tensors["w"].nbytes == 16


def test_tied_weights_share_a_storage_and_count_once(tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    tensors = [
        external(weight("embedding", (4, 2)), offset=16, length=32),
        external(weight("head", (2, 4)), "./weights.bin", offset=16, length=32),
        external(weight("other", (2,)), offset=48),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "embedding"], ["a"]),
        helper.make_node("MatMul", ["a", "head"], ["b"]),
        helper.make_node("Mul", ["a", "other"], ["y"]),
    ]
    path = save(tmp_path, model(nodes, weights=tensors))
    graph = peakmem.load(path)
    assert [graph.tensors[name].storage for name in ("embedding", "head", "other")] == ["", "embedding", ""]
    assert parameters(graph).nbytes() == 32 + 8
    assert peakmem.estimate(path).weights_bytes == 40


def test_tied_constant_nodes(tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    nodes = [helper.make_node("Constant", [], [name], value=external(weight("same"), length=16)) for name in ("a", "b")]
    graph = load(tmp_path, model([*nodes, helper.make_node("Add", ["a", "b"], ["y"])]))
    assert graph.tensors["b"].storage == "a"


def test_both_branches_may_hold_the_same_external_bytes(tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    branches = {
        f"{word}_branch": body(
            [helper.make_node("Add", ["x", f"{word}_w"], [f"{word}_y"])],
            [value(f"{word}_y")],
            weights=[external(weight(f"{word}_w"), length=16)],
        )
        for word in ("then", "else")
    }
    node = helper.make_node("If", ["c"], ["y"], **branches)
    graph = load(tmp_path, model([node], inputs=[value("x"), value("c", (), TensorProto.BOOL)]))
    for inner in graph.operators[0].subgraphs:
        constant = inner.tensors[f"{inner.name.removesuffix('_branch')}_w"]
        assert (constant.nbytes, constant.storage) == (16, "")


def test_a_model_that_is_a_link_finds_the_data_beside_its_target(tmp_path):
    # The layout of the Hugging Face hub's cache.
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "aaaa").write_bytes(bytes(16))
    save(blobs, model([RELU], weights=[external(weight("w"), "model.onnx_data")]), "bbbb")
    (snapshot / "model.onnx").symlink_to("../../blobs/bbbb")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/aaaa")
    assert peakmem.load(snapshot / "model.onnx").tensors["w"].nbytes == 16


def outside(folder):
    (folder / "secret").write_bytes(bytes(64))
    (folder / "in").mkdir()
    (folder / "in" / "link").symlink_to("../secret")
    (folder / "in" / "round").symlink_to("round")
    return folder / "in"


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("../secret", "outside the model's folder"),
        ("sub/../../secret", "outside the model's folder"),
        ("/etc/passwd", "outside the model's folder"),
        ("/dev/zero", "outside the model's folder"),
        ("link", "outside the model's folder"),
        ("nowhere.bin", "is missing"),
        (".", "is missing"),
        ("round", "round"),
        ("a\0b", "null byte"),
        ("a" * 5000, "too long"),
        ("", "but not where"),
    ],
)
def test_external_data_that_is_not_there_or_not_allowed(tmp_path, location, said):
    folder = outside(tmp_path)
    path = save(folder, model([RELU], weights=[external(weight("w"), location)]))
    with pytest.raises(FormatError, match=said) as caught:
        peakmem.load(path)
    assert caught.value.where == str(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("offset", "length", "said"),
    [
        ("60", "16", "needs bytes 60 to 76"),
        (str(2**63), "16", "needs bytes"),
        ("-4", "16", "needs bytes -4"),
        ("many", "16", "not a number"),
        ("9" * 5000, "16", "not a number"),
        ("0", "12", "has 12 external bytes, its shape needs 16"),
    ],
)
def test_external_data_that_does_not_fit_its_file(tmp_path, offset, length, said):
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    tensor = external(weight("w"), "weights.bin", None)
    tensor.external_data.add(key="offset", value=offset)
    tensor.external_data.add(key="length", value=length)
    with pytest.raises(FormatError, match=said):
        load(tmp_path, model([RELU], weights=[tensor]))


# -- weights are not loaded --------------------------------------------------------------

PROBE = """
import resource, sys
import peakmem
peakmem.estimate(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
answer = peakmem.estimate(sys.argv[2])
print(answer.weights_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_the_weights_of_a_file_of_300_mb_cost_no_memory(tmp_path):
    small, large = tmp_path / "small.onnx", tmp_path / "large.onnx"
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
    small.write_bytes(model([matmul], weights=[weight("w", (4, 8))]).SerializeToString())
    # An initializer whose content is a hole in the file.
    columns = 300_000_000 // 16
    head = TensorProto(name="w", dims=[4, columns], data_type=FLOAT).SerializeToString()
    tail = model([matmul]).graph.SerializeToString()
    frame = model([matmul])
    frame.ClearField("graph")

    def varint(size):
        return bytes([size & 127 | 128]) + varint(size >> 7) if size > 127 else bytes([size])

    data = b"\x4a" + varint(16 * columns)
    tensor = b"\x2a" + varint(len(head) + len(data) + 16 * columns) + head + data
    with large.open("wb") as file:
        file.write(frame.SerializeToString() + b"\x3a" + varint(len(tail) + len(tensor) + 16 * columns) + tail + tensor)
        file.seek(16 * columns - 1, os.SEEK_CUR)
        file.write(b"\0")
    done = subprocess.run(
        [sys.executable, "-c", PROBE, small, large], capture_output=True, text=True, check=True, timeout=60
    )
    weights_bytes, new_kib = (int(word) for word in done.stdout.split())
    assert weights_bytes == 16 * columns
    assert new_kib < 4096
