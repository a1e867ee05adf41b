"""ONNX to OpenVINO's IR: the same answers as ONNX Runtime's, sizes fixed, unknown operators by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.conversion import convert
from peakmem.conversion.to_openvino import unconverted
from peakmem.errors import ConversionError
from tests.unit.conversion.answers import answers

np = pytest.importorskip("numpy")
pytest.importorskip("onnxruntime")
if __import__("importlib.util").util.find_spec("openvino") is None:
    # importing it here would let its telemetry fork
    pytest.skip("openvino is not installed", allow_module_level=True)


def test_same_answer_and_input_names(cache, tmp_path):
    network = "mobilenet_v2:resolution=64,width=0.5"
    made, onnx = convert(network, "openvino", cache=cache), convert(network, "onnx", cache=cache)
    assert sorted(path.name for path in Path(made.path).parent.iterdir()) == ["model.bin", "model.xml", "route.json"]
    assert made.input_shapes == onnx.input_shapes == {"input": ((1, 3, 64, 64), "float32")}
    values = {"input": np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)}
    found, wanted = (answers(one.kind, one.path, values, tmp_path)[0] for one in (made, onnx))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())
    # The IR by itself tells the same inputs.
    assert convert(made.path, "openvino").input_shapes == onnx.input_shapes


@pytest.mark.slow
def test_weights_keep_their_precision_unless_asked(cache):
    network = "squeezenet1_1:resolution=64"
    sizes = {}
    for choice in ("off", "on"):
        made = convert(network, "openvino", options={"fp16": choice}, cache=cache)
        sizes[choice] = Path(made.path).with_suffix(".bin").stat().st_size
    # 1,235,496 parameters of four bytes, or of two; shapes and the like beside them
    assert 4 * 1_235_496 <= sizes["off"] < 4 * 1_235_496 + 4096
    assert 2 * 1_235_496 <= sizes["on"] < 2 * 1_235_496 + 4096


def test_free_dimensions_are_fixed(onnx_file, cache):
    path = onnx_file([("Relu", ["x"], ["y"])], [("x", "FLOAT", ["N", 3, "W"])], [("y", "FLOAT", ["N", 3, "W"])])
    made = convert(path, "openvino", batch=2, dims={"W": 5}, cache=cache)
    assert made.input_shapes == {"x": ((2, 3, 5), "float32")}
    assert convert(made.path, "openvino").input_shapes == made.input_shapes


def test_operators_without_a_rule(onnx_file, cache):
    path = onnx_file(
        [("Det", ["x"], ["a"]), ("Strange", ["a"], ["y"], {"domain": "my.domain"})],
        [("x", "FLOAT", [1, 4, 4])], [("y", "FLOAT", [1])],
    )  # fmt: skip
    with pytest.raises(ConversionError, match="OpenVINO cannot convert") as caught:
        convert(path, "openvino", cache=cache)
    assert sorted(caught.value.operators) == ["Det", "my.domain.Strange"]


def test_reading_its_list():
    text = (
        "Model wasn't fully converted.\nSummary:\n-- No conversion rule found for operations: Det-17, my.domain.Odd\n"
    )
    assert unconverted(text) == ("Det", "my.domain.Odd")
    assert unconverted("something else") == ()
