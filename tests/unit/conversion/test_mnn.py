"""ONNX to MNN: the same answers as ONNX Runtime's, unknown operators by name, nothing reported to anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.conversion import convert
from peakmem.conversion.to_mnn import unconverted
from peakmem.errors import ConversionError
from tests.unit.conversion.answers import answers

np = pytest.importorskip("numpy")
pytest.importorskip("onnxruntime")
pytest.importorskip("MNN")


@pytest.mark.parametrize("network", ["mobilenet_v2:resolution=64,width=0.5", "lstm_2layer:sequence=4,hidden=16"])
def test_same_answer(network, cache, tmp_path):
    made, onnx = convert(network, "mnn", cache=cache), convert(network, "onnx", cache=cache)
    assert sorted(path.name for path in Path(made.path).parent.iterdir()) == ["model.mnn", "route.json"]
    assert made.input_shapes == onnx.input_shapes
    shape, _ = onnx.input_shapes["input"]
    values = {"input": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    found, wanted = (answers(one.kind, one.path, values, tmp_path)[0] for one in (made, onnx))
    np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=1e-3 * np.abs(wanted).max())


@pytest.mark.slow
def test_half_precision_is_an_option(cache):
    network = "squeezenet1_1:resolution=64"
    whole, half = (convert(network, "mnn", options={"fp16": choice}, cache=cache) for choice in (False, True))
    # 1,235,496 parameters of four bytes, or of two
    assert whole.steps[-1].nbytes == pytest.approx(4 * 1_235_496, rel=0.01)
    assert half.steps[-1].nbytes == pytest.approx(2 * 1_235_496, rel=0.02)


def test_operators_it_does_not_have(onnx_file, cache):
    path = onnx_file(
        [("Relu", ["x"], ["a"]), ("Strange", ["a"], ["y"], {"domain": "my.domain"})],
        [("x", "FLOAT", [1, 4])], [("y", "FLOAT", [1, 4])],
    )  # fmt: skip
    with pytest.raises(ConversionError, match="MNN cannot convert Strange") as caught:
        convert(path, "mnn", cache=cache)
    assert caught.value.operators == ("Strange",)


def test_reading_what_it_prints():
    said = "[14:11:22] :220: These Op Not Support: ONNX::Strange ONNX::Odd \nConverted Failed!\n"
    assert unconverted(said) == ("Strange", "Odd")
    assert unconverted("Converted Success!") == ()
