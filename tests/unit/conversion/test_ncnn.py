"""ONNX to ncnn by pnnx: the same answers as ONNX Runtime's, and every operator it cannot convert said by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.conversion import convert
from peakmem.conversion.to_ncnn import unconverted
from peakmem.errors import ConversionError, UsageError
from tests.unit.conversion.answers import answers

np = pytest.importorskip("numpy")
pytest.importorskip("pnnx")
pytest.importorskip("ncnn")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A cache for all tests here."""
    return tmp_path_factory.mktemp("cache")


def compare(source, shared, tmp_path, options=None):
    """Convert, run both, give (converted, ncnn's outputs, ONNX Runtime's)."""
    onnx = convert(source, "onnx", cache=shared)
    made = convert(source, "ncnn", cache=shared, options=options)
    rng = np.random.default_rng(3)
    values = {
        name: (rng.integers(0, 20, shape) if "int" in dtype else rng.standard_normal(shape)).astype(dtype)
        for name, (shape, dtype) in onnx.input_shapes.items()
    }
    fed = {
        name: value.reshape(shape).astype(dtype)
        for (name, (shape, dtype)), value in zip(made.input_shapes.items(), values.values(), strict=True)
    }
    return made, answers("ncnn", made.path, fed, tmp_path), answers("onnx", onnx.path, values, tmp_path)


@pytest.mark.parametrize(
    "network",
    [
        pytest.param("squeezenet1_1:resolution=64", marks=pytest.mark.slow),
        "shufflenet_v2:resolution=64,width=0.5",
        "lstm_2layer:sequence=4,hidden=16",
    ],
)
def test_same_answer(network, shared, tmp_path):
    made, found, wanted = compare(network, shared, tmp_path)
    assert [step.tool.split()[0] for step in made.steps] == ["peakmem", "pnnx"]
    assert sorted(path.name for path in Path(made.path).parent.iterdir()) == [
        "model.ncnn.bin", "model.ncnn.param", "route.json"
    ]  # fmt: skip
    assert list(made.input_shapes) == ["in0"]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.reshape(other.shape), other, rtol=1e-3, atol=1e-4 * np.abs(other).max())
    if network.startswith("shufflenet"):
        assert "sizes were written into 13 Split operators, which pnnx loses otherwise" in made.notes


@pytest.mark.slow
def test_half_precision_weights_are_an_option(shared):
    whole = convert("squeezenet1_1:resolution=64", "ncnn", cache=shared)
    half = convert("squeezenet1_1:resolution=64", "ncnn", cache=shared, options={"fp16": "on"})
    assert half.steps[-1].nbytes < 0.55 * whole.steps[-1].nbytes
    # SqueezeNet 1.1 has 1,235,496 parameters (its paper's repository), all but the biases in half precision
    assert whole.steps[-1].nbytes == pytest.approx(4 * 1_235_496, rel=0.01)


def test_what_has_no_batch_dimension_keeps_its_shape(onnx_file, shared, tmp_path):
    """Without a convolution pnnx finds no batch, and the blob has four dimensions."""
    path = onnx_file(
        [("Split", ["x", "s"], ["a", "b"], {"axis": 1}), ("Relu", ["a"], ["c"]), ("Add", ["b", "c"], ["y"])],
        [("x", "FLOAT", [1, 8, 4, 4])], [("y", "FLOAT", [1, 4, 4, 4])], [("s", np.array([4, 4]))],
    )  # fmt: skip
    made, found, wanted = compare(path, shared, tmp_path)
    assert made.input_shapes == {"in0": ((1, 8, 4, 4), "float32")}
    np.testing.assert_array_equal(found[0].reshape(wanted[0].shape), wanted[0])


def test_indices_are_fed_as_int32(onnx_file, shared, tmp_path):
    table = np.random.default_rng(0).standard_normal((30, 16)).astype(np.float32)
    path = onnx_file(
        [("Gather", ["e", "x"], ["y"])], [("x", "INT64", [1, 7])], [("y", "FLOAT", [1, 7, 16])], [("e", table)]
    )
    made, found, wanted = compare(path, shared, tmp_path)
    assert [dtype for _, dtype in made.input_shapes.values()] == ["int32"]
    np.testing.assert_array_equal(found[0].reshape(wanted[0].shape), wanted[0])


def test_two_inputs_stand_in_the_order_of_the_file(onnx_file, shared, tmp_path):
    weight = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    path = onnx_file(
        [("Conv", ["x", "w"], ["a"]), ("Sub", ["a", "z"], ["y"])],
        [("z", "FLOAT", [1, 4, 6, 6]), ("x", "FLOAT", [1, 2, 8, 8])], [("y", "FLOAT", [1, 4, 6, 6])], [("w", weight)],
    )  # fmt: skip
    made, found, wanted = compare(path, shared, tmp_path)
    assert made.input_shapes == {"in0": ((4, 6, 6), "float32"), "in1": ((2, 8, 8), "float32")}
    np.testing.assert_allclose(found[0].reshape(wanted[0].shape), wanted[0], rtol=1e-4, atol=1e-5)


def refused(path, shared):
    with pytest.raises(ConversionError) as caught:
        convert(path, "ncnn", cache=shared)
    return caught.value


def test_operators_that_pnnx_leaves(onnx_file, shared):
    nms = onnx_file(
        [("NonMaxSuppression", ["b", "s", "m"], ["o"])],
        [("b", "FLOAT", [1, 50, 4]), ("s", "FLOAT", [1, 3, 50])], [("o", "INT64", [None, 3])], [("m", np.array([5]))],
    )  # fmt: skip
    assert refused(nms, shared).operators == ("NonMaxSuppression",)
    lstm = onnx_file(
        [("LSTM", ["x", "w", "r"], ["y"], {"hidden_size": 8, "direction": "bidirectional"})],
        [("x", "FLOAT", [5, 1, 4])], [("y", "FLOAT", [5, 2, 1, 8])],
        [("w", np.ones((2, 32, 4), np.float32)), ("r", np.ones((2, 32, 8), np.float32))],
    )  # fmt: skip
    # A layer of ncnn by name, which ncnn then refuses: "layer load_param 3 LSTM_0 failed" (ncnn 1.0.20261020).
    assert refused(lstm, shared).operators == ("LSTM (direction, hidden_size lost)",)
    custom = onnx_file(
        [("Strange", ["x"], ["y"], {"domain": "my.domain"})], [("x", "FLOAT", [1, 4])], [("y", "FLOAT", [1, 4])]
    )
    assert refused(custom, shared).operators == ("my.domain:Strange",)


def test_a_batch_of_several_is_refused(shared):
    with pytest.raises(UsageError, match="ncnn runs one sample at a time"):
        convert("squeezenet1_1:resolution=64", "ncnn", batch=2, cache=shared)


def test_reading_what_pnnx_left():
    head = "7767517\n2 2\nInput in0 0 1 in0\n"
    assert unconverted(head + "ReLU relu_0 1 1 in0 out0\n", "") == []
    assert unconverted(head + "torch.where w 1 1 in0 1\npnnx.Expression e 0 1 2\n", "") == ["torch.where"]
    assert unconverted(head + "pnnx.Expression e 0 1 2\n", "") == ["pnnx.Expression"]
    said = "ignore Slice split_0 param dim=1\nignore Slice split_0 param split_size_or_sections=None\n"
    assert unconverted(head + "Slice split_0 1 2 in0 1 2\n", said) == ["Slice (dim, split_size_or_sections lost)"]
