"""The profile of ONNX Runtime beyond convolutional networks: transformers, recurrent, quantised, files, bodies.

Counted and written figures: onnxruntime 1.31.1 on x86-64 with AVX-512 VNNI, as in test_onnxruntime.py. Quantised files:
onnxruntime.quantization.quantize_static of ResNet18 and MobileNetV2 after quant_pre_process (u8 and s8, QDQ).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from peakmem import dtypes
from peakmem.binding import bound
from peakmem.engines.onnxruntime import bodies, fold, parse, predict, prepack, quantised, workspace
from peakmem.engines.onnxruntime.file import File, read
from peakmem.engines.onnxruntime.network import Network, Value
from peakmem.engines.onnxruntime.optimise import optimise
from peakmem.engines.onnxruntime.plan import plan
from peakmem.engines.prediction import Processor
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.pipeline import load

AVX512 = Processor(features=frozenset({"avx", "avx2", "fma", "avx512f"}))
GPT = "gpt2_small:layers=2,hidden=256,heads=4,vocabulary=5000,context=128"


def rewritten(graph: Graph, level: str = "all") -> Network:
    made = Network(graph if level == "disable" else fold.folded(graph).graph)
    optimise(made, level, 16)
    return made


COUNTED: tuple[tuple[str, dict[str, bool | int | str], tuple[int, ...]], ...] = (
    (GPT, {}, (18308196, 19358446, 34533557, 34546885, 34533557, 34547289)),
    (GPT, {"optimisation": "disable", "arena": False},
     (19157357, 19161938, 19161086, 24297622, 19161086, 25688302)),
    ("lstm_2layer", {}, (4935752, 7392964, 6071577, 6073272, 8234345, 8236125)),
    ("lstm_2layer", {"arena": False}, (4933984, 7392964, 4987233, 5613949, 4987233, 5665981)),
    ("vit_s16:resolution=64", {"arena": False}, (91072205, 95589301, 91124078, 91733498, 91124078, 91758170)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "counted"), COUNTED)
def test_heap_is_near_the_counters(name: str, settings: dict[str, bool | int | str], counted: tuple[int, ...]) -> None:
    found = predict(bound(load(name)), settings, AVX512)
    assert not found.unmodelled
    for number, moment in enumerate(found.moments):
        assert moment.live_bytes == pytest.approx(counted[2 * number], rel=0.005), moment.phase
        assert moment.peak_bytes == pytest.approx(counted[2 * number + 1], rel=0.015), moment.phase


def test_transformers_are_rewritten_as_the_engine_writes_them() -> None:
    # optimized_model_filepath at ORT_ENABLE_EXTENDED, weights and initializers with it
    found = rewritten(bound(load(GPT)), "extended")
    operators = Counter(node.op_type for node in found.nodes.values())
    assert operators == {
        "Reshape": 23, "Gemm": 9, "Transpose": 8, "Add": 4, "LayerNormalization": 4, "Split": 2, "FusedMatMul": 2,
        "Where": 2, "Softmax": 2, "MatMul": 2, "FastGelu": 2, "Gather": 1, "SkipLayerNormalization": 1, "Flatten": 1,
    }  # fmt: skip
    assert sum(value.nbytes for value in found.weights()) == pytest.approx(11_587_988, rel=1e-4)
    vit = Counter(node.op_type for node in rewritten(bound(load("vit_s16:resolution=64")), "extended").nodes.values())
    assert (vit["Gelu"], vit["FusedMatMul"], vit["LayerNormalization"], vit["SkipLayerNormalization"]) == (
        12,
        12,
        24,
        1,
    )
    assert (vit["Gemm"], vit["Reshape"]) == (49, 133)


def test_a_matrix_of_whole_numbers_is_packed_with_its_sums() -> None:
    # event lists: ResNet18's last matrix 512 x 1000, its first filter of 147 x 64
    assert prepack.whole_matrix(512, 1000, "x86_64") == 520_128
    assert prepack.whole_matrix(147, 64, "x86_64") == 9_728
    # by hand, ARM with dot products: 152 rows of 64, and 64 sums
    assert prepack.whole_matrix(147, 64, "aarch64") == 152 * 64 + 256


INT8, UINT8, INT32, FLOAT32 = dtypes.INT8, dtypes.UINT8, dtypes.INT32, dtypes.FLOAT32


def pair(name: str, shape: tuple[int, ...], tensors: dict[str, Tensor], dtype: dtypes.DType = UINT8) -> list[Operator]:
    """QuantizeLinear and DequantizeLinear of `name`."""
    tensors[f"{name}_s"] = Tensor(f"{name}_s", (), FLOAT32, "constant", values=(0.5,))
    tensors[f"{name}_z"] = Tensor(f"{name}_z", (), dtype, "constant", values=(3,))
    tensors[f"{name}_q"] = Tensor(f"{name}_q", shape, dtype)
    tensors[f"{name}_d"] = Tensor(f"{name}_d", shape, FLOAT32)
    scale = (f"{name}_s", f"{name}_z")
    return [
        Operator(f"{name}/q", "QuantizeLinear", (name, *scale), (f"{name}_q",)),
        Operator(f"{name}/d", "DequantizeLinear", (f"{name}_q", *scale), (f"{name}_d",)),
    ]


def quantised_convolution(dtype: dtypes.DType = UINT8) -> Graph:
    tensors = {
        "x": Tensor("x", (1, 64, 28, 28), FLOAT32, "input"),
        "y": Tensor("y", (1, 128, 28, 28), FLOAT32),
        "w": Tensor("w", (128, 64, 3, 3), INT8, "constant"),
        "w_s": Tensor("w_s", (), FLOAT32, "constant", values=(0.1,)),
        "w_z": Tensor("w_z", (), INT8, "constant", values=(0,)),
        "w_d": Tensor("w_d", (128, 64, 3, 3), FLOAT32),
    }
    operators = pair("x", (1, 64, 28, 28), tensors, dtype)
    operators.append(Operator("w/d", "DequantizeLinear", ("w", "w_s", "w_z"), ("w_d",)))
    operators.append(Operator("conv", "Conv", ("x_d", "w_d"), ("y",), {"pads": (1, 1, 1, 1), "strides": (1, 1)}))
    operators += pair("y", (1, 128, 28, 28), tensors, dtype)
    return Graph("q", tensors, tuple(operators), ("x",), ("y_d",), {"": 17}, format="onnx")


@pytest.mark.parametrize("dtype", [UINT8, INT8])
def test_what_stands_between_quantisers_runs_on_whole_numbers(dtype: dtypes.DType) -> None:
    made = rewritten(quantised_convolution(dtype))
    assert Counter(node.op_type for node in made.nodes.values()) == {
        "QuantizeLinear": 1, "QLinearConv": 1, "DequantizeLinear": 1, "Transpose": 2,
    }  # fmt: skip
    (conv,) = (node for node in made.nodes.values() if node.op_type == "QLinearConv")
    # int8 became uint8, so the direct kernel takes it: 128 filters of 64 x 3 x 3, in the arena
    (packed,) = prepack.pack(made)
    assert (packed.after_bytes, packed.in_arena, packed.scratch) == (128 * 64 * 9, True, 0)
    # nine pointers for each place, no sums, no columns (event list: 225,792 of 56 x 56 places)
    assert workspace.of(made, 1)[conv.number] == (8 * 9 * 28 * 28,)
    assert quantised.kept(made, "x86_64") == 0


def test_at_the_lowest_level_quantised_networks_run_as_floats() -> None:
    made = rewritten(quantised_convolution(), "disable")
    assert Counter(node.op_type for node in made.nodes.values())["Conv"] == 1
    # DequantizeLinear of weights is not computed at load at any level
    assert len(rewritten(quantised_convolution(), "basic").nodes) == 6


def test_a_convolution_with_channels_first_turns_both_sides() -> None:
    made = rewritten(quantised_convolution(), "extended")
    (conv,) = (node for node in made.nodes.values() if node.op_type == "QLinearConv")
    places = 28 * 28
    assert workspace.of(made, 1)[conv.number] == (64 * places, 128 * places, 8 * 9 * places)
    unpacked = workspace.of(made, 1, packed=False)[conv.number]
    # the filter reordered in every run, sums of 32 bits, both sides, columns
    assert unpacked == (128 * 64 * 9, 4 * 128 * places, 64 * places, 128 * places, 64 * 9 * places)


def test_a_gru_packs_its_recurrence_in_two() -> None:
    # event list of torch.nn.GRU(64, 96): 73,728 twice and 36,864
    tensors = {
        "x": Tensor("x", (50, 1, 64), FLOAT32, "input"),
        "w": Tensor("w", (1, 288, 64), FLOAT32, "constant"),
        "r": Tensor("r", (1, 288, 96), FLOAT32, "constant"),
        "y": Tensor("y", (50, 1, 1, 96), FLOAT32),
    }
    gru = Operator("gru", "GRU", ("x", "w", "r"), ("y",), {"hidden_size": 96})
    made = Network(Graph("gru", tensors, (gru,), ("x",), ("y",), {"": 17}, format="onnx"))
    assert [one.after_bytes for one in prepack.pack(made)] == [73_728, 73_728 + 36_864]
    # gates of all steps: 57,600
    assert 57_600 in workspace.of(made, 1)[0]


def test_one_weight_that_equal_operators_read_is_packed_once() -> None:
    tensors = {
        "x": Tensor("x", (4, 64), FLOAT32, "input"),
        "w": Tensor("w", (64, 64), FLOAT32, "constant"),
        "a": Tensor("a", (4, 64), FLOAT32),
        "b": Tensor("b", (4, 64), FLOAT32),
    }
    steps = (Operator("1", "MatMul", ("x", "w"), ("a",)), Operator("2", "MatMul", ("a", "w"), ("b",)))
    packed = prepack.pack(Network(Graph("shared", tensors, steps, ("x",), ("b",), {"": 17}, format="onnx")))
    assert [(one.after_bytes, one.freed) for one in packed] == [(64 * 64 * 4, False), (0, True)]


def conditional() -> Graph:
    """An If of two matrix products, as counted: 512 x 1024 and 1024 x 256, or 512 in between."""

    def branch(name: str, middle: int) -> Graph:
        tensors = {
            f"{name}w": Tensor(f"{name}w", (512, middle), FLOAT32, "constant"),
            f"{name}v": Tensor(f"{name}v", (middle, 256), FLOAT32, "constant"),
            f"{name}a": Tensor(f"{name}a", (64, middle), FLOAT32),
            f"{name}o": Tensor(f"{name}o", (64, 256), FLOAT32),
        }
        steps = (
            Operator(f"{name}1", "MatMul", ("x", f"{name}w"), (f"{name}a",)),
            Operator(f"{name}2", "MatMul", (f"{name}a", f"{name}v"), (f"{name}o",)),
        )
        return Graph(name, tensors, steps, (), (f"{name}o",))

    tensors = {
        "x": Tensor("x", (64, 512), FLOAT32, "input"),
        "c": Tensor("c", (), dtypes.BOOL, "input"),
        "o": Tensor("o", (64, 256), FLOAT32),
    }
    node = Operator("if", "If", ("c",), ("o",), subgraphs=(branch("t", 1024), branch("e", 512)))
    return Graph("if", tensors, (node,), ("x", "c"), ("o",), {"": 17}, format="onnx")


def test_bodies_hold_their_weights_three_times() -> None:
    made = Network(conditional())
    inside = 4 * (512 * 1024 + 1024 * 256 + 512 * 512 + 512 * 256)
    assert bodies.weights(made, packing=True, architecture="x86_64") == (2 * inside + 4, inside)
    # the larger branch's value between its products
    assert bodies.working(made.nodes[0], 1, "x86_64") == 64 * 1024 * 4
    found = predict(conditional(), {"arena": False}, AVX512)
    assert not found.unmodelled
    # counted with a comparison before and a Relu behind it: 15,426,622 live after load
    assert found.moments[0].live_bytes == pytest.approx(15_426_622, rel=0.01)


def test_sizes_left_open_keep_what_needs_them() -> None:
    graph = bound(load(GPT))
    shape = next(operator for operator in graph.operators if operator.op_type == "Shape")
    kept = fold.folded(graph, frozenset({shape.inputs[0]})).graph
    assert any(operator.op_type == "Shape" for operator in kept.operators)
    assert not any(operator.op_type == "Shape" for operator in fold.folded(graph).graph.operators)
    one, other = Value("a", (1, 8), 32, named=("N", 8)), Value("b", (1, 8), 32, named=("N", 8))
    assert one.is_alike(other)
    assert not one.is_alike(Value("c", (1, 8), 32))
    assert not Value("d", (1, 8), 32, named=("", 8)).is_alike(Value("e", (1, 8), 32, named=("", 8)))


def test_lists_of_numbers_grow_where_a_block_of_the_reader_ends() -> None:
    block = parse.READ_BUFFER
    assert parse.list_steps(100, 1100) == [1008]
    # event list of MobileNetV2 with float_data: 970,464 then 1,940,928, to within 16 bytes
    assert parse.list_steps(block - 970_456, block + 258_344) == [970_464, 1_940_928]


def test_an_empty_value_asks_for_nothing() -> None:
    tensors = {
        "x": Tensor("x", (4, 0), FLOAT32, "input"),
        "a": Tensor("a", (4, 0), FLOAT32),
        "b": Tensor("b", (4, 0), FLOAT32),
    }
    steps = (Operator("1", "Neg", ("x",), ("a",)), Operator("2", "Neg", ("a",), ("b",)))
    assert not plan(Network(Graph("empty", tensors, steps, ("x",), ("b",), {"": 17}, format="onnx")), {}).events


def test_what_the_file_says_beside_the_graph(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    node = helper.make_node("MatMul", ["x", "w"], ["a"])
    node.metadata_props.add(key="scope", value="layer")
    add = helper.make_node("Add", ["a", "b"], ["y"])
    weights = [
        helper.make_tensor("w", 1, (64, 32), bytes(64 * 32 * 4), raw=True),
        helper.make_tensor("b", 1, (32,), [0.0] * 32),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph([node, add], "g", [info("x", 1, ("N", 64))], [info("y", 1, ("N", 32))], weights)
    path = tmp_path / "m.onnx"
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=1024)
    found = read(load(str(path)))
    assert found.external == {"w"}
    assert set(found.numbers) == {"b"}
    assert found.metadata_entries == 1
    assert found.shapes["x"] == ("N", 64)
    assert found.shapes["y"] == ("N", 32)
    prediction = predict(bound(load(str(path)), batch=2), {"prepacking": False, "mem_pattern": False}, AVX512)
    # unpacked, the matrix is read where it is mapped
    assert [one.nbytes for one in prediction.moments[0].outside] == [64 * 32 * 4]
    assert "other files" in prediction.notes[0]
    assert "leaves sizes open" in prediction.notes[1]
    assert not predict(bound(load(str(path)), batch=2), {}, AVX512).moments[0].outside
    assert read(bound(load("squeezenet1_1"))) == File()
