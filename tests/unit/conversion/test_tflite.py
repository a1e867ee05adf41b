"""PyTorch and Keras to TFLite: float files answer as the module does; int8 files run in LiteRT and in TFLite Micro."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peakmem.conversion import convert
from peakmem.pipeline import load

torch = pytest.importorskip("torch")
pytest.importorskip("litert_torch")

from .test_pte import SMALL, module_of  # noqa: E402

RUN = """
import sys, numpy
from ai_edge_litert.interpreter import Interpreter
reader = Interpreter(sys.argv[1], num_threads=1)
reader.allocate_tensors()
reader.set_tensor(reader.get_input_details()[0]["index"], numpy.load(sys.argv[2]))
reader.invoke()
numpy.save(sys.argv[3], reader.get_tensor(reader.get_output_details()[0]["index"]))
"""
MICRO = """
import sys, numpy
from tflite_micro.python.tflite_micro import runtime
reader = runtime.Interpreter.from_file(sys.argv[1], arena_size=int(sys.argv[4]))
reader.set_input(numpy.load(sys.argv[2]), 0)
reader.invoke()
reader.print_allocations()
numpy.save(sys.argv[3], reader.get_output(0))
"""


def ran(program: str, path: Path, x: Any, folder: Path, *more: str) -> tuple[Any, str]:
    """(result, what was printed) of an engine in a process of its own."""
    np.save(folder / "x.npy", x)
    order = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        program,
        str(path),
        str(folder / "x.npy"),
        str(folder / "y.npy"),
        *more,
    ]
    done = subprocess.run(order, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-600:]
    return np.load(folder / "y.npy"), done.stdout + done.stderr


def head_of(text: str) -> int:
    """Bytes of the arena's head, where activations lie."""
    return int(text.split("Arena allocation head ")[1].split()[0])


def int8(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)


@pytest.mark.slow
def test_int8_file_in_both_engines(tmp_path: Path) -> None:
    path = tmp_path / "small.py"
    path.write_text(SMALL, encoding="utf-8")
    made = convert(path, "tflite", options={"quantise": "int8"}, cache=tmp_path / "cache")
    x = int8((1, 3, 16, 16))
    wanted, _ = ran(RUN, made.path, x, tmp_path)
    assert wanted.dtype == np.int8
    assert len(np.unique(wanted)) > 10
    pytest.importorskip("tflite_micro")
    got, _ = ran(MICRO, made.path, x, tmp_path, "1000000")
    assert np.abs(got.astype(int) - wanted).max() <= 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "layout"), [("mobilenet_v2", "nchw"), ("resnet18", "nhwc")])
def test_float_network_answers_as_its_module(name: str, layout: str, tmp_path: Path) -> None:
    made = convert(name, "tflite", options={"layout": layout}, cache=tmp_path / "cache")
    module, x = module_of(convert(name, "torch", cache=tmp_path / "cache").path)
    with torch.no_grad():
        wanted = module(x).numpy()
    given = x.permute(0, 2, 3, 1).contiguous() if layout == "nhwc" else x
    got, _ = ran(RUN, made.path, given.numpy(), tmp_path)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "head"),
    [
        # the two largest tensors that live together: 64 x 112 x 112 and, padded for the pool, 64 x 114 x 114
        ("resnet18", "int8", 64 * 112 * 112 + 64 * 114 * 114),
        ("resnet18", "none", 4 * (64 * 112 * 112 + 64 * 114 * 114)),
        # 96 x 112 x 112 and, padded for the stride of 2, 96 x 113 x 113 at least
        ("mobilenet_v2", "int8", 96 * 112 * 112 + 96 * 113 * 113),
    ],
)
def test_networks_in_tflite_micro(name: str, kind: str, head: int, tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    made = convert(name, "tflite", options={"quantise": kind}, cache=tmp_path / "cache")
    x = int8((1, 3, 224, 224)) if kind == "int8" else np.zeros((1, 3, 224, 224), np.float32)
    _, printed = ran(MICRO, made.path, x, tmp_path, "40000000")
    # weights that stood behind the flatbuffer would lie in the arena, 3.5 MB and more
    assert head <= head_of(printed) <= 1.05 * head


@pytest.mark.slow
def test_dynamic_int8_keeps_activations(tmp_path: Path) -> None:
    made = convert("squeezenet1_1", "tflite", options={"quantise": "dynamic_int8"}, cache=tmp_path / "cache")
    graph = load(made.path)
    weights = [
        tensor for tensor in graph.tensors.values() if tensor.role == "constant" and len(tensor.shape or ()) == 4
    ]
    assert {str(tensor.dtype) for tensor in weights} == {"int8"}
    assert {str(graph.tensors[name].dtype) for name in (*graph.inputs, *graph.outputs)} == {"float32"}


@pytest.mark.slow
def test_keras_file(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    made = tmp_path / "small.keras"
    program = (
        "import sys, keras\n"
        "from keras import layers as L\n"
        "i = keras.Input((16, 16, 3)); x = L.Conv2D(8, 3, strides=2, padding='same')(i); x = L.ReLU()(x)\n"
        "keras.Model(i, L.Dense(4)(L.GlobalAveragePooling2D()(x))).save(sys.argv[1])\n"
    )
    import os

    order = [sys.executable, "-W", "ignore", "-c", program, str(made)]
    subprocess.run(order, check=True, env={**os.environ, "KERAS_BACKEND": "torch"}, capture_output=True)
    converted = convert(made, "tflite", cache=tmp_path / "cache")
    graph = load(converted.path)
    assert tuple(graph.tensors[graph.inputs[0]].shape or ()) == (1, 16, 16, 3)
    assert ran(RUN, converted.path, np.ones((1, 16, 16, 3), np.float32), tmp_path)[0].shape == (1, 4)
