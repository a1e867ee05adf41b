"""onnxruntime's own operators: what it computes against what our rules say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .runtime import (
    SCALE,
    SIGNED_ZERO,
    ZERO,
    NoKernel,
    actual,
    bytes_,
    floats,
    halves,
    ints,
    longs,
    ours,
)

MS = "com.microsoft"


def signed(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


CASES: list[tuple[str, list[Any], dict[str, Any]]] = [
    # fused layers
    ("FusedConv", [floats(1, 3, 9, 9), floats(4, 3, 3, 3)], {"activation": "Relu", "pads": [1, 1, 1, 1]}),
    (
        "FusedConv",
        [floats(1, 4, 9, 9), floats(4, 1, 3, 3), floats(4)],
        {"group": 4, "strides": [2, 2], "activation": "Relu"},
    ),
    ("FusedGemm", [floats(2, 3), floats(4, 3), floats(4)], {"transB": 1, "activation": "Relu"}),
    ("FusedMatMul", [floats(2, 3, 4), floats(2, 5, 4)], {"transB": 1, "alpha": 0.5}),
    ("FusedMatMul", [floats(2, 3, 4), floats(2, 3, 5)], {"transA": 1}),
    ("FusedMatMul", [floats(3, 2, 4), floats(2, 4, 5)], {"transBatchA": 1}),
    ("FusedMatMul", [floats(3, 2, 4), floats(5, 2, 4)], {"transBatchA": 1, "transBatchB": 1, "transB": 1}),
    ("FusedMatMul", [floats(4), floats(2, 4, 5)], {}),
    ("TransposeMatMul", [floats(2, 4, 3), floats(2, 4, 5)], {"transA": 1}),
    ("Gelu", [floats(2, 3)], {}),
    ("QuickGelu", [floats(2, 3)], {}),
    ("FastGelu", [floats(2, 3), floats(3)], {}),
    ("BiasGelu", [floats(2, 3), floats(3)], {}),
    ("Inverse", [np.eye(3, dtype=np.float32)[None]], {}),
    ("Trilu", [floats(3, 4)], {"upper": 1}),
    ("CDist", [floats(3, 4), floats(5, 4)], {"metric": "euclidean"}),
    ("CropAndResize", [floats(1, 2, 8, 8), floats(3, 4), ints(0, 0, 0), ints(5, 6)], {}),
    ("ExpandDims", [floats(2, 3), np.array(-1, np.int32)], {}),
    ("ExpandDims", [floats(2, 3), np.array(1, np.int32)], {}),
    ("Pad", [floats(2, 3), longs(1, 0, 0, 2), np.array(0, np.float32)], {}),
    ("Range", [np.array(1, np.int64), np.array(8, np.int64), np.array(3, np.int64)], {}),
    ("MurmurHash3", [ints(1, 2, 3)], {"positive": 0}),
    (
        "MaxpoolWithMask",
        [floats(1, 1, 8, 8), np.ones((1, 1, 8, 8), np.int32)],
        {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
    ("GatherND", [floats(2, 3), np.array([[0], [1]], np.int64)], {}),
    ("GridSample", [floats(1, 2, 4, 4), floats(1, 3, 5, 2)], {}),
    ("ConvTransposeWithDynamicPads", [floats(1, 2, 4, 4), floats(2, 3, 3, 3), longs(1, 1, 1, 1)], {"strides": [2, 2]}),
    ("NhwcMaxPool", [signed(1, 8, 9, 3)], {"kernel_shape": [3, 3], "strides": [2, 2]}),
    # normalization
    ("SkipLayerNormalization", [floats(1, 2, 4), floats(1, 2, 4), floats(4), floats(4)], {}),
    ("SkipSimplifiedLayerNormalization", [floats(1, 2, 4), floats(1, 2, 4), floats(4)], {}),
    (
        "EmbedLayerNormalization",
        [
            np.zeros((2, 3), np.int32),
            np.zeros((2, 3), np.int32),
            floats(9, 8),
            floats(5, 8),
            floats(2, 8),
            floats(8),
            floats(8),
            np.ones((2, 3), np.int32),
        ],
        {"outputs": 3},
    ),
    # attention
    ("Attention", [floats(2, 3, 8), floats(8, 24), floats(24)], {"num_heads": 2}),
    (
        "Attention",
        [floats(2, 3, 8), floats(8, 24), floats(24), None, floats(2, 2, 2, 5, 4)],
        {"num_heads": 2, "outputs": 2},
    ),
    ("Attention", [floats(2, 3, 8), floats(8, 20), floats(20)], {"num_heads": 2, "qkv_hidden_sizes": [8, 8, 4]}),
    (
        "QAttention",
        [bytes_(2, 3, 8), bytes_(8, 24), floats(24), SCALE, SCALE, None, ZERO, ZERO, floats(2, 2, 2, 5, 4)],
        {"num_heads": 2, "outputs": 2},
    ),
    ("QAttention", [bytes_(2, 3, 8), bytes_(8, 24), floats(24), SCALE, SCALE, None, ZERO, ZERO], {"num_heads": 2}),
    ("MultiHeadAttention", [floats(2, 3, 8), floats(2, 5, 8), floats(2, 5, 12)], {"num_heads": 2}),
    ("MultiHeadAttention", [floats(2, 3, 8), floats(2, 5, 8), floats(2, 5, 12)], {"num_heads": 2, "outputs": 3}),
    ("MultiHeadAttention", [floats(2, 3, 8), floats(2, 2, 5, 4), floats(2, 2, 5, 4)], {"num_heads": 2}),
    (
        "MultiHeadAttention",
        [floats(2, 1, 8), floats(2, 1, 8), floats(2, 1, 8), None, None, None, floats(2, 2, 6, 4), floats(2, 2, 6, 4)],
        {"num_heads": 2, "outputs": 3},
    ),
    (
        "MultiHeadAttention",
        [floats(2, 1, 8), floats(2, 1, 8), floats(2, 1, 8), None, None, None, floats(2, 2, 6, 4), floats(2, 2, 6, 4)],
        {"num_heads": 2, "outputs": 4, "types": [1, 1, 1, 1]},
    ),
    (
        "DecoderMaskedMultiHeadAttention",
        [
            floats(2, 1, 8),
            floats(2, 1, 8),
            floats(2, 1, 8),
            None,
            None,
            floats(2, 2, 6, 4),
            floats(2, 2, 6, 4),
            ints(3),
        ],
        {"num_heads": 2, "outputs": 3, "past_present_share_buffer": 1},
    ),
    (
        "GroupQueryAttention",
        [floats(1, 3, 16), floats(1, 3, 8), floats(1, 3, 8), None, None, ints(2), np.array(3, np.int32)],
        {"num_heads": 2, "kv_num_heads": 1, "outputs": 3},
    ),
    (
        "GroupQueryAttention",
        [floats(1, 3, 32), None, None, None, None, ints(2), np.array(3, np.int32)],
        {"num_heads": 2, "kv_num_heads": 1, "outputs": 3},
    ),
    (
        "GroupQueryAttention",
        [
            floats(1, 1, 16),
            floats(1, 1, 8),
            floats(1, 1, 8),
            floats(1, 1, 4, 8),
            floats(1, 1, 4, 8),
            ints(4),
            np.array(5, np.int32),
        ],
        {"num_heads": 2, "kv_num_heads": 1, "outputs": 3},
    ),
    (
        "GroupQueryAttention",
        [
            floats(1, 1, 16),
            floats(1, 1, 8),
            floats(1, 1, 8),
            floats(1, 1, 9, 8),
            floats(1, 1, 9, 8),
            ints(4),
            np.array(5, np.int32),
        ],
        {"num_heads": 2, "kv_num_heads": 1, "outputs": 3},
    ),
    ("RotaryEmbedding", [floats(1, 3, 8), np.zeros((1, 3), np.int64), floats(9, 2), floats(9, 2)], {"num_heads": 0}),
    ("RotaryEmbedding", [floats(1, 2, 3, 4), np.zeros((1, 3), np.int64), floats(9, 2), floats(9, 2)], {}),
    ("NGramRepeatBlock", [np.ones((2, 5), np.int64), floats(2, 9)], {"ngram_size": 3}),
    # quantized
    ("QuantizeLinear", [floats(2, 3), SCALE, ZERO], {}),
    ("DequantizeLinear", [bytes_(2, 3), SCALE, ZERO], {}),
    ("QLinearAdd", [bytes_(2, 1), SCALE, ZERO, bytes_(3), SCALE, ZERO, SCALE, ZERO], {}),
    ("QLinearMul", [signed(2, 1), SCALE, SIGNED_ZERO, signed(3), SCALE, SIGNED_ZERO, SCALE, SIGNED_ZERO], {}),
    ("QLinearSigmoid", [bytes_(2, 3), SCALE, ZERO, SCALE, ZERO], {}),
    ("QLinearLeakyRelu", [bytes_(2, 3), SCALE, ZERO, SCALE, ZERO], {"alpha": 0.1}),
    ("QLinearSoftmax", [bytes_(2, 3), SCALE, ZERO, SCALE, ZERO], {"opset": 13, "axis": 1}),
    (
        "QLinearAveragePool",
        [bytes_(1, 3, 9, 9), SCALE, ZERO, SCALE, ZERO],
        {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    ),
    (
        "QLinearAveragePool",
        [bytes_(1, 9, 9, 3), SCALE, ZERO, SCALE, ZERO],
        {"kernel_shape": [2, 2], "channels_last": 1},
    ),
    ("QLinearGlobalAveragePool", [bytes_(1, 3, 9, 9), SCALE, ZERO, SCALE, ZERO], {"channels_last": 0}),
    ("QLinearGlobalAveragePool", [bytes_(1, 9, 9, 3), SCALE, ZERO, SCALE, ZERO], {"channels_last": 1}),
    ("QLinearConcat", [SCALE, ZERO, bytes_(2, 3), SCALE, ZERO, bytes_(2, 4), SCALE, ZERO], {"axis": 1}),
    (
        "QLinearWhere",
        [np.array([True, False]), bytes_(3, 1), SCALE, ZERO, bytes_(2), SCALE, ZERO, SCALE, ZERO],
        {},
    ),
    (
        "QLinearConv",
        [bytes_(1, 9, 8, 3), SCALE, ZERO, bytes_(4, 3, 3, 3), SCALE, ZERO, SCALE, ZERO],
        {"channels_last": 1},
    ),
    (
        "QLinearConv",
        [bytes_(1, 3, 9, 8), SCALE, ZERO, bytes_(4, 3, 3, 3), SCALE, ZERO, SCALE, ZERO],
        {"pads": [1, 1, 1, 1]},
    ),
    ("QGemm", [bytes_(2, 3), SCALE, ZERO, bytes_(4, 3), SCALE, ZERO, None, SCALE, ZERO], {"transB": 1}),
    ("QGemm", [bytes_(2, 3), SCALE, ZERO, bytes_(3, 4), SCALE, ZERO], {}),
    ("DynamicQuantizeMatMul", [floats(2, 3, 4), bytes_(4, 5), SCALE, ZERO], {}),
    ("MatMulIntegerToFloat", [bytes_(2, 3, 4), bytes_(4, 5), SCALE, SCALE, ZERO, ZERO], {}),
    ("MatMulInteger16", [np.ones((2, 3), np.int16), np.ones((3, 4), np.int16)], {}),
    ("MatMulNBits", [floats(2, 3, 32), bytes_(5, 1, 16), floats(5, 1)], {"K": 32, "N": 5, "bits": 4, "block_size": 32}),
    ("MatMulBnb4", [floats(2, 3, 32), bytes_(80), floats(5)], {"K": 32, "N": 5, "block_size": 32, "quant_type": 1}),
    (
        "DynamicQuantizeLSTM",
        [
            floats(5, 2, 3),
            bytes_(1, 3, 16),
            bytes_(1, 4, 16),
            None,
            None,
            None,
            None,
            None,
            floats(1),
            bytes_(1),
            floats(1),
            bytes_(1),
        ],
        {"hidden_size": 4, "outputs": 3},
    ),
    (
        "GatherBlockQuantized",
        [bytes_(6, 16), longs(0, 2, 3), floats(6, 2)],
        {"gather_axis": 0, "quantize_axis": 1, "block_size": 16, "bits": 4},
    ),
    ("MoE", [floats(4, 8), floats(4, 2), floats(2, 16, 8), None, floats(2, 8, 16)], {"k": 1}),
]


TREE: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
}  # fmt: skip
LEAVES: dict[str, Any] = {"class_nodeids": [1, 2], "class_treeids": [0, 0], "class_weights": [1.0, -1.0], "outputs": 2}
VECTORS: dict[str, Any] = {"kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0], "outputs": 2}
CLASSICAL: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Binarizer", [floats(2, 3)], {}),
    ("Imputer", [floats(2, 3)], {"imputed_value_floats": [0.0], "replaced_value_float": 1.0}),
    ("Normalizer", [floats(2, 3)], {"norm": "L2"}),
    ("Scaler", [longs(1, 2)], {"offset": [0.0], "scale": [1.0]}),
    ("OneHotEncoder", [longs(1, 2)], {"cats_int64s": [1, 2, 3]}),
    ("OneHotEncoder", [np.array([[1], [2]], np.int64)], {"cats_int64s": [1, 2, 3]}),
    ("ArrayFeatureExtractor", [floats(2, 5), longs(0, 2)], {}),
    ("ArrayFeatureExtractor", [floats(5), longs(0, 2)], {}),
    ("ArrayFeatureExtractor", [floats(5), np.array([[0, 2], [1, 1], [4, 3]])], {}),
    ("FeatureVectorizer", [floats(2, 3), floats(2, 2)], {"inputdimensions": [3, 2]}),
    ("LinearRegressor", [floats(2, 3)], {"coefficients": [1.0] * 6, "intercepts": [0.0] * 2, "targets": 2}),
    ("LinearRegressor", [floats(3)], {"coefficients": [1.0] * 3, "intercepts": [0.0]}),
    ("LinearClassifier", [floats(2, 3)],
     {"coefficients": [1.0] * 9, "intercepts": [0.0] * 3, "classlabels_ints": [0, 1, 2], "outputs": 2}),
    ("LinearClassifier", [floats(2, 3)],
     {"coefficients": [1.0] * 3, "intercepts": [0.0], "classlabels_ints": [0, 1], "outputs": 2}),
    (
        "SVMRegressor",
        [floats(2, 3)],
        {"coefficients": [1.0], "rho": [0.0], "support_vectors": [1.0] * 3, "n_supports": 1, **VECTORS, "outputs": 1},
    ),
    *[
        (
            "SVMClassifier",
            [floats(2, 3)],
            {"coefficients": [1.0] * (n * n - n), "rho": [0.0] * (n * (n - 1) // 2), "support_vectors": [1.0] * (3 * n),
             "vectors_per_class": [1] * n, "classlabels_ints": list(range(n)), **VECTORS},
        )
        for n in (2, 3, 4)
    ],
    ("SVMClassifier", [floats(2, 3)],
     {"coefficients": [1.0] * 9, "rho": [0.0] * 3, "classlabels_ints": [0, 1, 2], **VECTORS}),
    (
        "TreeEnsembleRegressor",
        [floats(2, 3)],
        {"n_targets": 2, "target_ids": [0, 1], "target_nodeids": [1, 2], "target_treeids": [0, 0],
         "target_weights": [1.0, 2.0], **TREE},
    ),
    ("TreeEnsembleClassifier", [floats(2, 3)], {"class_ids": [0, 0], "classlabels_int64s": [0], **LEAVES, **TREE}),
    ("TreeEnsembleClassifier", [floats(2, 3)], {"class_ids": [0, 0], "classlabels_int64s": [0, 1], **LEAVES, **TREE}),
    ("TreeEnsembleClassifier", [floats(2, 3)],
     {"class_ids": [0, 2], "classlabels_strings": ["a", "b", "c"], **LEAVES, **TREE}),
    ("LabelEncoder", [longs(1, 2)], {"keys_int64s": [1, 2], "values_floats": [1.0, 2.0]}),
    ("LabelEncoder", [longs(1, 2)], {"keys_int64s": [1, 2], "values_strings": ["a", "b"]}),
    ("CategoryMapper", [longs(1, 2)], {"cats_int64s": [1, 2], "cats_strings": ["a", "b"]}),
]  # fmt: skip

# What the operators' documentation says, for those without a kernel on a CPU.
DOCUMENTED: list[tuple[str, list[Any], dict[str, Any], list[tuple[Any, str]]]] = [
    ("BiasAdd", [floats(1, 4, 320), floats(320), floats(1, 4, 320)], {}, [((1, 4, 320), "float32")]),
    ("BiasSplitGelu", [floats(1, 4, 2560), floats(2560)], {}, [((1, 4, 1280), "float32")]),
    ("NhwcFusedConv", [halves(1, 8, 9, 3), halves(4, 3, 3, 3)], {}, [((1, 6, 7, 4), "float16")]),
    ("GroupNorm", [floats(1, 2, 2, 32), floats(32), floats(32)], {"groups": 8}, [((1, 2, 2, 32), "float32")]),
    (
        "SkipGroupNorm", [floats(1, 2, 2, 32), floats(32), floats(32), floats(1, 32)], {"groups": 8, "outputs": 2},
        [((1, 2, 2, 32), "float32")] * 2,
    ),
    ("RelativePositionBias", [floats(6, 4), longs(5), longs(7)], {"max_distance": 8}, [((1, 4, 5, 7), "float32")]),
    ("QLinearReduceMean", [bytes_(2, 3, 4), SCALE, ZERO, SCALE, ZERO],
     {"axes": [1], "keepdims": 0}, [((2, 4), "uint8")]),
    ("ReduceSumInteger", [bytes_(2, 3, 4)], {"axes": [1], "keepdims": 1}, [((2, 1, 4), "uint32")]),
    ("MulInteger", [bytes_(2, 3), ZERO, bytes_(3), ZERO], {}, [((2, 3), "int32")]),
    ("MultiHeadAttention", [floats(2, 3, 2, 3, 4)], {"num_heads": 2}, [((2, 3, 8), "float32")]),
    ("MultiHeadAttention", [floats(2, 3, 8), floats(2, 5, 2, 2, 4)], {"num_heads": 2}, [((2, 3, 8), "float32")]),
    ("PackedAttention", [floats(9, 8), floats(8, 24), floats(24)], {"num_heads": 2}, [((9, 8), "float32")]),
    (
        "RestorePadding", [floats(9, 8), np.zeros((2, 6), np.int32)], {}, [((2, 6, 8), "float32")],
    ),
    ("LongformerAttention", [floats(2, 8, 8)], {"num_heads": 2, "window": 2}, [((2, 8, 8), "float32")]),
    ("QMoE", [floats(2, 4, 8)], {"k": 1}, [((2, 4, 8), "float32")]),
    ("TorchEmbedding", [floats(9, 4), longs(1, 2)], {}, [((2, 4), "float32")]),
    ("GemmFastGelu", [floats(2, 3, 4), floats(4, 5)], {}, [((2, 3, 5), "float32")]),
    ("MatMulNBitsMlp", [floats(2, 3, 32)], {"N": 7, "K": 32}, [((2, 3, 7), "float32")]),
    (
        "QLinearConvTranspose", [bytes_(1, 2, 4, 4), SCALE, ZERO, bytes_(2, 3, 3, 3), SCALE, ZERO, SCALE, ZERO],
        {"strides": [2, 2]}, [((1, 3, 9, 9), "uint8")],
    ),

     ("QEmbedLayerNormalization", [np.zeros((2, 3), np.int32), None, bytes_(9, 8), bytes_(5, 8), None, bytes_(8),
      bytes_(8), None, SCALE],
     {"outputs": 2}, [((2, 3, 8), "float32"), ((2,), "int32")]),
]  # fmt: skip


def check(op_type: str, arrays: list[Any], options: dict[str, Any], domain: str) -> None:
    """Our rule gives what the runtime computes."""
    try:
        want = actual(op_type, arrays, domain=domain, **options)
    except NoKernel as fault:
        pytest.skip(f"no kernel here: {fault}")
    attributes = {key: value for key, value in options.items() if key != "types"}
    assert ours(op_type, arrays, domain=domain, **attributes) == want


def _names(cases: list[Any]) -> list[str]:
    return [f"{case[0]}-{position}" for position, case in enumerate(cases)]


@pytest.mark.parametrize(("op_type", "arrays", "options"), CASES, ids=_names(CASES))
def test_contrib_operators(op_type: str, arrays: list[Any], options: dict[str, Any]) -> None:
    check(op_type, arrays, options, MS)


@pytest.mark.parametrize(("op_type", "arrays", "options"), CLASSICAL, ids=_names(CLASSICAL))
def test_classical_operators(op_type: str, arrays: list[Any], options: dict[str, Any]) -> None:
    check(op_type, arrays, options, "ai.onnx.ml")


@pytest.mark.parametrize(("op_type", "arrays", "options", "want"), DOCUMENTED, ids=_names(DOCUMENTED))
def test_operators_without_a_kernel(op_type: str, arrays: list[Any], options: dict[str, Any], want: Any) -> None:
    assert ours(op_type, arrays, domain=MS, **options) == want
