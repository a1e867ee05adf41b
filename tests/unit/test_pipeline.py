"""Binding, dtypes, assumptions and totals of whole estimates."""

import sys

import pytest

import peakmem
from peakmem.dtypes import FLOAT32, INT64
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Graph, Operator, Tensor


def net(*shape, name="x"):
    b = GraphBuilder("t")
    x = b.input(name, shape)
    return b.finish(b.relu(b.conv(x, 4, kernel=3, pad=1)))


def test_parts_sum_to_the_total_and_alive_to_the_peak():
    for name in ("mobilenet_v3_large", "unet_256", "gpt2_small", "shufflenet_v2"):
        report = peakmem.estimate(name, batch=2)
        peak = report.peak
        assert peak.weights_bytes + peak.activation_bytes + peak.workspace_bytes == peak.total_bytes
        assert sum(tensor.nbytes for tensor in peak.alive) == peak.activation_bytes
        assert report.timeline[peak.step].live_bytes == peak.activation_bytes == report.peak_bytes
        assert max(point.live_bytes for point in report.timeline) == report.peak_bytes
        assert report.peaks[report.assume] == report.peak_bytes
        assert report.kind == "estimate"


def test_a_named_batch_is_bound_wherever_it_stands():
    graph = net(Symbol("N"), 3, 8, 8)
    assert peakmem.estimate(graph, batch=5).inputs[0].shape == (5, 3, 8, 8)
    assert peakmem.estimate(graph, dims={"N": 5}).inputs[0].shape == (5, 3, 8, 8)
    assert peakmem.estimate(graph, shapes={"": (5, 3, 8, 8)}).peak_bytes == peakmem.estimate(graph, batch=5).peak_bytes


def test_an_unnamed_leading_symbol_is_the_batch():
    assert peakmem.estimate(net(Symbol("x.0"), 3, 8, 8), batch=3).inputs[0].shape == (3, 3, 8, 8)


def test_a_fixed_batch_is_replaced_and_said():
    report = peakmem.estimate(net(1, 3, 8, 8), batch=3)
    assert report.inputs[0].shape == (3, 3, 8, 8)
    assert any("fixed to 1 in the file" in line for line in report.assumptions)


def test_a_batch_written_into_the_network_is_said():
    b = GraphBuilder("t")
    x = b.reshape(b.input("x", (2, 6)), (3, 4))
    with pytest.raises(peakmem.ShapeError, match=r"the file fixes the sizes .* Try: the sizes in the file"):
        peakmem.estimate(b.finish(x), batch=3)


def test_which_dimension_is_the_batch_must_be_clear():
    b = GraphBuilder("t")
    x, y = b.input("x", (7, 1, 4)), b.input("y", (1, 1, 4))
    with pytest.raises(peakmem.UsageError, match="is the batch cannot be told"):
        peakmem.estimate(b.finish(b.add(x, y)), batch=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"no value for dimension batch, h of x: batchx3xhx8. Try: --batch 1 --dim h=224"),
        ({"batch": 2}, r"no value for dimension h of x: 2x3xhx8. Try: --dim h=224"),
        ({"batch": 0, "dims": {"h": 8}}, r"--batch is 0 \(expected 1 or more\)"),
        ({"batch": 1, "dims": {"h": -8}}, r"--dim h is -8"),
        ({"batch": 1, "dims": {"h": 2**50}}, r"at most 2\^40"),
        ({"batch": 1, "dims": {"h": 8, "w": 8}}, r"no dimension 'w' \(expected one of batch, h\)"),
        ({"shapes": {"y": (1, 2)}}, r"no input 'y' \(expected one of x\)"),
        ({"shapes": {"x": (1, 3, 8)}}, r"rank 4 \(batchx3xhx8\), not 3 \(1x3x8\)"),
        ({"shapes": {"x": (1, 5, 8, 8)}}, r"the kernel takes 3 channels, the input has 5"),
        ({"batch": 1, "dims": {"h": 8}, "dtype": "int3"}, r"no dtype is called 'int3'"),
        ({"batch": 1, "dims": {"h": 8}, "assume": "magic"}, r"no execution assumption is called 'magic'"),
        ({"batch": 1, "dims": {"h": 8}, "convention": "weights"}, r"no convention 'weights' counts layer by layer"),
        ({"batch": 1, "dims": {"h": 8}, "budget": -1}, r"a budget of -1 bytes"),
    ],
)  # fmt: skip
def test_errors_name_the_flag(options, message):
    with pytest.raises(peakmem.PeakmemError, match=message):
        peakmem.estimate(net(Symbol("batch"), 3, Symbol("h"), 8), **options)


def test_int8_counts_activations_weights_biases_and_scales():
    b = GraphBuilder("t")
    x = b.input("x", (1, 3, 8, 8))
    report = peakmem.estimate(b.finish(b.batch_norm(b.conv(x, 4, kernel=1, bias=True))), dtype="int8")
    assert report.peak_bytes == 192 + 256
    # 12 weights, 4 int32 biases, 16 float32 norm values, 4 scales
    assert report.weights_bytes == 12 + 16 + 64 + 16
    assert report.dtype == "int8"
    assert any("16 B of per-channel float32 scales" in line for line in report.assumptions)


def test_integer_inputs_keep_their_dtype():
    report = peakmem.estimate("gpt2_small:context=16,layers=1", dtype="fp16")
    assert report.inputs[0].dtype == "int64"
    assert report.outputs[0].dtype == "float16"


def test_an_operator_without_a_known_shape_makes_a_lower_bound():
    tensors = {
        "x": Tensor("x", (4,), FLOAT32, "input"), "y": Tensor("y", None, None), "z": Tensor("z", None, None),
    }  # fmt: skip
    graph = Graph(
        "t", tensors,
        (Operator("f", "Fancy", ("x",), ("y",), domain="mine"), Operator("r", "Relu", ("y",), ("z",))),
        ("x",), ("z",), opsets={"": 17},
    )  # fmt: skip
    report = peakmem.estimate(graph)
    assert report.kind == "lower bound"
    assert [(item.operator, item.op_type) for item in report.unknowns] == [("f", "Fancy")]
    assert report.peak_bytes == 16
    assert all(value.kind == "lower bound" for value in report.conventions)


def test_a_declared_shape_sizes_an_unknown_operator():
    tensors = {
        "x": Tensor("x", (Symbol("n"),), FLOAT32, "input"), "y": Tensor("y", (Symbol("n"), 3), FLOAT32),
    }  # fmt: skip
    graph = Graph("t", tensors, (Operator("f", "Fancy", ("x",), ("y",), domain="mine"),), ("x",), ("y",))
    report = peakmem.estimate(graph, dims={"n": 5})
    assert (report.kind, report.peak_bytes) == ("estimate", 20 + 60)
    assert any("file's own declarations" in line for line in report.assumptions)


def test_a_data_dependent_size_can_be_given():
    tensors = {"x": Tensor("x", (4, 4), FLOAT32, "input"), "y": Tensor("y", None, None)}
    graph = Graph("t", tensors, (Operator("nz", "NonZero", ("x",), ("y",)),), ("x",), ("y",), opsets={"": 17})
    unbound = peakmem.estimate(graph)
    assert (unbound.kind, unbound.unknowns[0].hint) == ("lower bound", "--dim y.1=VALUE")
    bound = peakmem.estimate(graph, dims={"y.1": 10})
    assert (bound.kind, bound.peak_bytes) == ("estimate", 64 + 2 * 10 * 8)
    assert bound.outputs[0].dtype == INT64.name


def test_hold_inputs():
    plain, held = peakmem.estimate("mobilenet_v2"), peakmem.estimate("mobilenet_v2", hold_inputs=True)
    assert held.peak_bytes == plain.peak_bytes + 4 * 3 * 224 * 224


def test_budget():
    report = peakmem.estimate("mobilenet_v2", budget=21_000_000)
    assert report.budget.fits
    assert report.budget.headroom_bytes == 21_000_000 - report.total_bytes
    assert not peakmem.estimate("mobilenet_v2", budget=10).budget.fits


def test_unknown_built_in_network_shows_what_comes_close():
    with pytest.raises(peakmem.UsageError, match="mobilenet_v1"):
        peakmem.load("mobilnet_v1")


@pytest.mark.parametrize(
    ("network", "fused", "eager"),
    [
        # expand output 1x96x112x112 and depthwise output 1x96x56x56; eager: two of 1x96x112x112
        ("mobilenet_v2", 6_021_120, 9_633_792),
        ("resnet50", 9_633_792, 9_633_792),
        ("densenet161", 12_644_352, 12_644_352),
    ],
)
def test_live_peaks_by_hand(network, fused, eager):
    report = peakmem.estimate(network)
    assert (report.peaks["fused"], report.peaks["eager"]) == (fused, eager)


def test_resnet50_with_the_residual_sum_in_place():
    assert peakmem.estimate("resnet50", assume="fused-add").peak_bytes == 7_225_344


@pytest.mark.parametrize("product", ["Gemm", "MatMul"])
def test_a_block_dtype_is_for_matrices_whose_input_channels_it_divides(product):
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 64))
    if product == "Gemm":
        x = builder.op("Gemm", [x, builder.parameter("w", (10, 64))], transB=1)[0]
    else:
        x = builder.op("MatMul", [x, builder.parameter("w", (64, 10))])[0]
    x = builder.op("MatMul", [x, builder.parameter("v", (10, 32))])[0]
    graph = builder.finish(x)
    # 64 inputs are 2 blocks of 32 (34 B each) for each of 10 outputs; 10 inputs are no whole block
    assert peakmem.estimate(graph, dtype="q8_0").weights_bytes == 10 * 2 * 34 + 10 * 32 * 4


def test_options_of_readers_are_refused_for_what_is_no_file():
    with pytest.raises(peakmem.UsageError, match="option 'context' is for files"):
        peakmem.estimate("resnet18", options={"context": "8"})
    with pytest.raises(peakmem.UsageError, match="format 'onnx' is for files"):
        peakmem.load("resnet18", form="onnx")


def test_two_values_for_one_dimension_are_refused():
    with pytest.raises(peakmem.UsageError, match="'batch' is given two values, 2 and 3"):
        peakmem.estimate("resnet18", batch=2, dims={"batch": 3})
    assert peakmem.estimate("resnet18", batch=2, dims={"batch": 2}).inputs[0].shape == (2, 3, 224, 224)


@pytest.mark.parametrize("library", ["torch", "keras"])
def test_a_missing_library_is_one_sentence_with_what_to_install(tmp_path, monkeypatch, library):
    (tmp_path / f"needs_{library}.py").write_text(f"import {library}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(peakmem.MissingLibrary, match=rf"pip install 'peakmem\[{library}\]'"):
        peakmem.load(f"needs_{library}:Thing")
