"""ONNX files as users bring them, to every kind: the same answer as ONNX Runtime's, or a refusal that says why.

Kinds that keep the weights are held against ONNX Runtime; a PyTorch source gets the file's weights; ExecuTorch and
TFLite files are held against the source they were made from, with the weights that both draw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peakmem.conversion import convert
from peakmem.errors import ConversionError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from .answers import answers
from .user_files import FILES, File

NEEDS = {"ncnn": "pnnx", "openvino": "openvino", "mnn": "MNN", "torch": "torch", "pte": "executorch",
         "tflite": "litert_torch"}  # fmt: skip
REFUSED = {
    "ncnn": {
        "gemm", "lstm_bidirectional", "resize_asymmetric", "resize_round", "split_uneven_18", "where_cast_gather",
        "if", "loop", "non_max_suppression", "qdq", "custom", "half", "old_softmax", "pool_with_pads", "same_padding",
        "top_k", "slices", "scatter_einsum",
    },
    "openvino": {"custom", "old_softmax"},
    "mnn": {
        "resize_round", "resize_cubic", "split_uneven_18", "custom", "pool_with_pads", "same_padding",
        "scatter_einsum", "gelu", "group_norm", "qdq",
    },
    "torch": {"resize_asymmetric", "if", "loop", "non_max_suppression", "qdq", "custom"},
}  # fmt: skip
# what the tools of today do not convert, or convert wrongly; all else has to be right
FROM_TORCH = ("pte", "tflite")


def ported(values: dict[str, np.ndarray], ports: dict[str, Any]) -> dict[str, np.ndarray]:
    """`values` by the names, shapes and dtypes of the converted file."""
    rows = zip(ports.items(), values.values(), strict=True)
    return {name: value.reshape(shape).astype(dtype) for (name, (shape, dtype)), value in rows}


def check(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.size == other.size
        expected = other.astype(np.float64)
        scale = max(float(np.abs(expected).max()), 1e-9) if other.size else 1.0
        np.testing.assert_allclose(
            one.reshape(other.shape).astype(np.float64), expected, rtol=0, atol=tolerance * scale
        )


def held_against_its_origin(kind: str, path: Path, made: Any, given: File, folder: Path) -> None:
    """Answers of the converted file are those of what it was made from."""
    if kind in FROM_TORCH:
        source = convert(path, "torch", cache=folder / "cache", shapes=given.shapes or None)
        wanted = answers("torch", source.path, given.feeds, folder)
    else:
        wanted = answers("onnx", str(path), given.feeds, folder)
    if kind == "torch":
        found = answers("torch_source", str(path), given.feeds, folder)
    else:
        engine = "mnn_module" if kind == "mnn" and made.notes else kind
        found = answers(engine, made.path, ported(given.feeds, made.input_shapes) or given.feeds, folder)
    if kind == "mnn":
        names = [one.name for one in given.model.graph.output]
        wanted = [array for _, array in sorted(zip(names, wanted, strict=True), key=lambda row: row[0])]
    check(found, wanted, given.tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", NEEDS)
def test_right_or_refused(kind: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS[kind])
    given = FILES[name]()
    path = given.save(tmp_path / f"{name}.onnx")
    try:
        made = convert(path, kind, cache=tmp_path / "cache", shapes=given.shapes or None)
    except ConversionError as fault:
        named = bool(fault.operators)
        assert named
        assert name in REFUSED["torch" if kind in FROM_TORCH else kind]
        return
    held_against_its_origin(kind, path, made, given, tmp_path)
    assert name not in REFUSED.get(kind, ())
