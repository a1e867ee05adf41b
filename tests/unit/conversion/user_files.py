"""Small ONNX files such as users bring: many operators, operator sets 9 to 21, what converters get wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

F, I64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
make = onnx.helper.make_node
RNG = np.random.default_rng(11)
HALF = float(np.finfo(np.float16).eps)


def floats(*shape: int, by: float = 1.0) -> np.ndarray:
    return (RNG.standard_normal(shape) * by).astype(np.float32)


def longs(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def info(name: str, shape: Sequence[int | str | None] | None, kind: int = F) -> Any:
    return onnx.helper.make_tensor_value_info(name, kind, shape)


@dataclass(frozen=True)
class File:
    """A model and what it is fed."""

    model: Any
    feeds: dict[str, np.ndarray]
    tolerance: float = 1e-4
    # in parts of the largest value
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # of inputs that the file leaves open

    def save(self, path: Path) -> Path:
        path.write_bytes(self.model.SerializeToString())
        return path


def file(
    nodes: Sequence[Any], feeds: dict[str, np.ndarray], outputs: Sequence[str | Any],
    weights: dict[str, np.ndarray] | None = None, *, opset: int, free: dict[str, Sequence[int | str]] | None = None,
    tolerance: float = 1e-4, domains: Sequence[str] = (),
) -> File:  # fmt: skip
    """A File; outputs that are only named have no type in it."""
    given = [
        info(name, (free or {}).get(name, value.shape), onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
        for name, value in feeds.items()
    ]
    results = [onnx.ValueInfoProto(name=one) if isinstance(one, str) else one for one in outputs]
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = onnx.helper.make_graph(list(nodes), "network", given, results, stored)
    opsets = [onnx.helper.make_opsetid("", opset), *(onnx.helper.make_opsetid(name, 1) for name in domains)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=4 if opset < 10 else 10)
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        inferred = model
    for at, one in enumerate(model.graph.output):
        if not one.HasField("type"):
            one.CopyFrom(inferred.graph.output[at])
    shapes = {name: feeds[name].shape for name in free or {}}
    return File(model, feeds, tolerance, shapes)


def gemm() -> File:
    nodes = [make("Gemm", ["x", "a", "b"], ["h"], transB=1, alpha=0.5, beta=2.0), make("Relu", ["h"], ["r"]),
             make("Gemm", ["r", "c", "d"], ["y"])]  # fmt: skip
    weights = {"a": floats(6, 4), "b": floats(6), "c": floats(6, 3), "d": floats(1, 3)}
    return file(nodes, {"x": floats(1, 4)}, ["y"], weights, opset=9)


def lstm_bidirectional() -> File:
    nodes = [make("LSTM", ["x", "w", "r", "b"], ["y", "h", "c"], hidden_size=4, direction="bidirectional")]
    weights = {"w": floats(2, 16, 3), "r": floats(2, 16, 4), "b": floats(2, 32)}
    return file(nodes, {"x": floats(5, 1, 3)}, ["y", "h", "c"], weights, opset=14)


def gru() -> File:
    nodes = [make("GRU", ["x", "w", "r", "b"], ["y", "h"], hidden_size=4, linear_before_reset=1),
             make("Squeeze", ["y", "one"], ["z"])]  # fmt: skip
    weights = {"w": floats(1, 12, 3), "r": floats(1, 12, 4), "b": floats(1, 24), "one": longs(1)}
    return file(nodes, {"x": floats(5, 1, 3)}, ["z"], weights, opset=14)


def conv_transpose() -> File:
    nodes = [
        make("ConvTranspose", ["x", "w", "b"], ["h"], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        make("LeakyRelu", ["h"], ["l"], alpha=0.2),
        make("ConvTranspose", ["l", "v"], ["y"], strides=[2, 2], group=2),
    ]
    weights = {"w": floats(4, 6, 3, 3, by=0.3), "b": floats(6), "v": floats(6, 2, 2, 2, by=0.3)}
    return file(nodes, {"x": floats(1, 4, 5, 6)}, ["y"], weights, opset=11)


def resize(opset: int = 13, **attributes: Any) -> Callable[[], File]:
    def made() -> File:
        nodes = [make("Conv", ["x", "w"], ["h"]), make("Resize", ["h", "", "s"], ["y"], **attributes)]
        weights = {"w": floats(3, 2, 1, 1), "s": np.array([1, 1, 2, 2.5], np.float32)}
        return file(nodes, {"x": floats(1, 2, 5, 6)}, ["y"], weights, opset=opset)

    return made


def resize_to_a_size() -> File:
    nodes = [
        make("Conv", ["x", "w"], ["h"]),
        make("Resize", ["h", "", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="align_corners"),
    ]
    weights = {"w": floats(3, 2, 1, 1), "s": longs(1, 3, 8, 7)}
    return file(nodes, {"x": floats(1, 2, 5, 6)}, ["y"], weights, opset=13)


def upsample() -> File:
    nodes = [make("Conv", ["x", "w"], ["h"]), make("Upsample", ["h", "s"], ["y"], mode="nearest")]
    weights = {"w": floats(3, 2, 1, 1), "s": np.array([1, 1, 2, 2], np.float32)}
    return file(nodes, {"x": floats(1, 2, 5, 6)}, ["y"], weights, opset=9)


def pad(mode: str) -> Callable[[], File]:
    def made() -> File:
        nodes = [make("Conv", ["x", "w"], ["h"]),
                 make("Pad", ["h", "p"] + (["v"] if mode == "constant" else []), ["y"], mode=mode)]  # fmt: skip
        weights = {"w": floats(3, 2, 1, 1), "p": longs(0, 0, 1, 2, 0, 0, 3, 1)}
        if mode == "constant":
            weights["v"] = np.array(0.5, np.float32)
        return file(nodes, {"x": floats(1, 2, 5, 6)}, ["y"], weights, opset=13)

    return made


def split_concat_9() -> File:
    nodes = [make("Conv", ["x", "w"], ["h"]), make("Split", ["h"], ["a", "b", "c"], axis=1, split=[1, 3, 2]),
             make("Sigmoid", ["b"], ["s"]), make("Concat", ["c", "s", "a"], ["y"], axis=1)]  # fmt: skip
    return file(nodes, {"x": floats(1, 2, 5, 6)}, ["y"], {"w": floats(6, 2, 3, 3)}, opset=9)


def split_uneven_18() -> File:
    nodes = [make("Conv", ["x", "w"], ["h"]), make("Split", ["h"], ["a", "b", "c"], axis=1, num_outputs=3),
             make("Concat", ["c", "b", "a"], ["y"], axis=1)]  # fmt: skip
    return file(nodes, {"x": floats(1, 2, 5, 6)}, ["y"], {"w": floats(7, 2, 3, 3)}, opset=18)


def layer_norm() -> File:
    nodes = [make("MatMul", ["x", "w"], ["h"]), make("LayerNormalization", ["h", "s", "b"], ["n"], epsilon=1e-3),
             make("Erf", ["n"], ["e"]), make("Mul", ["n", "e"], ["y"])]  # fmt: skip
    weights = {"w": floats(8, 6), "s": floats(6), "b": floats(6)}
    return file(nodes, {"x": floats(1, 5, 8)}, ["y"], weights, opset=17)


def where_cast_gather() -> File:
    nodes = [
        make("Gather", ["table", "i"], ["g"]),
        make("Greater", ["g", "zero"], ["m"]),
        make("Where", ["m", "g", "low"], ["w"]),
        make("Cast", ["m"], ["n"], to=F),
        make("Add", ["w", "n"], ["y"]),
    ]
    weights = {"table": floats(9, 4), "zero": np.array(0, np.float32), "low": np.array(-3, np.float32)}
    return file(nodes, {"i": longs(1, 8, 3, 0)[None]}, ["y"], weights, opset=13)


def if_() -> File:
    one = onnx.helper.make_graph([make("Relu", ["x"], ["t"])], "then", [], [info("t", [1, 4])])
    two = onnx.helper.make_graph([make("Neg", ["x"], ["e"])], "else", [], [info("e", [1, 4])])
    nodes = [make("ReduceSum", ["x"], ["s"], keepdims=0), make("Greater", ["s", "zero"], ["c"]),
             make("If", ["c"], ["y"], then_branch=one, else_branch=two)]  # fmt: skip
    feeds = {"x": np.array([[1, -2, 3, -9]], np.float32)}
    return file(nodes, feeds, [info("y", [1, 4])], {"zero": np.array(0, np.float32)}, opset=13)


def loop() -> File:
    body = onnx.helper.make_graph(
        [make("Mul", ["h", "two"], ["h_out"]), make("Identity", ["go"], ["go_out"])], "body",
        [info("at", [], I64), info("go", [], onnx.TensorProto.BOOL), info("h", [1, 4])],
        [info("go_out", [], onnx.TensorProto.BOOL), info("h_out", [1, 4])],
    )  # fmt: skip
    weights = {"two": np.array(2, np.float32), "n": np.array(3, np.int64), "yes": np.array(True)}
    nodes = [make("Loop", ["n", "yes", "x"], ["y"], body=body)]
    return file(nodes, {"x": floats(1, 4)}, [info("y", [1, 4])], weights, opset=13)


def non_max_suppression() -> File:
    corner = RNG.uniform(0, 10, (1, 20, 2))
    boxes = np.concatenate([corner, corner + RNG.uniform(1, 4, (1, 20, 2))], -1).astype(np.float32)
    feeds = {"b": boxes, "s": RNG.uniform(0, 1, (1, 2, 20)).astype(np.float32)}
    weights = {"m": longs(5), "i": np.array([0.5], np.float32), "t": np.array([0.2], np.float32)}
    outputs = [info("y", [None, 3], I64)]
    return file([make("NonMaxSuppression", ["b", "s", "m", "i", "t"], ["y"])], feeds, outputs, weights, opset=11)


def qdq() -> File:
    nodes = [
        make("QuantizeLinear", ["x", "sx", "zx"], ["qx"]), make("DequantizeLinear", ["qx", "sx", "zx"], ["dx"]),
        make("DequantizeLinear", ["w", "sw", "zw"], ["dw"], axis=0), make("Conv", ["dx", "dw"], ["h"]),
        make("QuantizeLinear", ["h", "sy", "zy"], ["qy"]), make("DequantizeLinear", ["qy", "sy", "zy"], ["y"]),
    ]  # fmt: skip
    weights = {
        "sx": np.array(0.03125, np.float32), "zx": np.array(5, np.int8), "sy": np.array(0.25, np.float32),
        "zy": np.array(-3, np.int8), "w": RNG.integers(-127, 127, (4, 2, 3, 3)).astype(np.int8),
        "sw": np.array([0.0078125, 0.015625, 0.0078125, 0.00390625], np.float32), "zw": np.zeros(4, np.int8),
    }  # fmt: skip
    return file(nodes, {"x": floats(1, 2, 6, 6)}, ["y"], weights, opset=13)


def custom() -> File:
    nodes = [make("Relu", ["x"], ["h"]), make("Strange", ["h"], ["y"], domain="my.domain")]
    return file(nodes, {"x": floats(1, 4)}, [info("y", [1, 4])], opset=17, domains=["my.domain"])


def dynamic_shapes() -> File:
    nodes = [make("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1]), make("Shape", ["h"], ["s"]),
             make("Gather", ["s", "at"], ["n"]), make("Concat", ["n", "rest"], ["t"], axis=0),
             make("Reshape", ["h", "t"], ["y"])]  # fmt: skip
    weights = {"w": floats(4, 2, 3, 3), "at": longs(0), "rest": longs(-1)}
    return file(nodes, {"x": floats(1, 2, 6, 7)}, [info("y", ["N", "M"])], weights, opset=16,
                free={"x": ["N", 2, "H", "W"]})  # fmt: skip


def half() -> File:
    nodes = [make("Conv", ["x", "w", "b"], ["h"]), make("Relu", ["h"], ["y"])]
    weights = {"w": floats(4, 2, 3, 3).astype(np.float16), "b": floats(4).astype(np.float16)}
    return file(nodes, {"x": floats(1, 2, 6, 6).astype(np.float16)}, ["y"], weights, opset=15, tolerance=4 * HALF)


def old_softmax() -> File:
    """Before operator set 13 all dimensions from `axis` on are one."""
    nodes = [make("Conv", ["x", "w"], ["h"]), make("Softmax", ["h"], ["y"], axis=1)]
    return file(nodes, {"x": floats(1, 2, 4, 4)}, ["y"], {"w": floats(3, 2, 3, 3)}, opset=11)


def norm_and_pools() -> File:
    nodes = [make("BatchNormalization", ["x", "s", "b", "m", "v"], ["n"]),
             make("AveragePool", ["n"], ["a"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
             make("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
             make("GlobalAveragePool", ["p"], ["g"]), make("Flatten", ["g"], ["y"])]  # fmt: skip
    weights = {"s": floats(3), "b": floats(3), "m": floats(3), "v": np.abs(floats(3)) + 0.5}
    return file(nodes, {"x": floats(1, 3, 9, 11)}, ["y"], weights, opset=10)


def average_pool(**attributes: Any) -> Callable[[], File]:
    def made() -> File:
        nodes = [make("Conv", ["x", "w"], ["h"]), make("AveragePool", ["h"], ["y"], **attributes)]
        return file(nodes, {"x": floats(1, 2, 10, 10)}, ["y"], {"w": floats(3, 2, 1, 1)}, opset=19)

    return made


def same_padding() -> File:
    nodes = [make("Conv", ["x", "w"], ["h"], auto_pad="SAME_LOWER", strides=[2, 2], group=2),
             make("PRelu", ["h", "p"], ["r"]), make("InstanceNormalization", ["r", "s", "b"], ["y"])]  # fmt: skip
    weights = {"w": floats(4, 1, 4, 3), "p": floats(4, 1, 1), "s": floats(4), "b": floats(4)}
    return file(nodes, {"x": floats(1, 2, 7, 9)}, ["y"], weights, opset=9)


def top_k() -> File:
    nodes = [make("TopK", ["x", "k"], ["v", "i"], axis=-1), make("ArgMax", ["x"], ["a"], axis=1, keepdims=0)]
    return file(nodes, {"x": floats(1, 4, 9)}, ["v", "i", "a"], {"k": longs(3)}, opset=11)


def slices() -> File:
    nodes = [make("Slice", ["x", "s", "e", "a", "t"], ["h"]), make("CumSum", ["h", "last"], ["c"]),
             make("Expand", ["c", "to"], ["w"]), make("Tile", ["w", "times"], ["y"])]  # fmt: skip
    weights = {"s": longs(-1, 1), "e": longs(-10, 5), "a": longs(2, 1), "t": longs(-2, 1), "last": np.array(2),
               "to": longs(3, 4, 4), "times": longs(1, 1, 2)}  # fmt: skip
    return file(nodes, {"x": floats(1, 6, 8)}, ["y"], weights, opset=14)


def scatter_einsum() -> File:
    nodes = [make("ScatterND", ["x", "i", "u"], ["h"]), make("Einsum", ["h", "w"], ["y"], equation="bij,bkj->bik")]
    weights = {"i": longs(0, 1, 0, 3).reshape(2, 2), "u": floats(2, 5), "w": floats(1, 3, 5)}
    return file(nodes, {"x": floats(1, 4, 5)}, ["y"], weights, opset=16)


def gelu() -> File:
    nodes = [make("MatMul", ["x", "w"], ["h"]), make("Gelu", ["h"], ["g"], approximate="tanh"),
             make("HardSwish", ["g"], ["s"]), make("Mish", ["s"], ["y"])]  # fmt: skip
    return file(nodes, {"x": floats(1, 5, 8)}, ["y"], {"w": floats(8, 6)}, opset=20)


def group_norm() -> File:
    nodes = [make("Conv", ["x", "w"], ["h"]), make("GroupNormalization", ["h", "s", "b"], ["y"], num_groups=2)]
    weights = {"w": floats(4, 2, 3, 3), "s": floats(4), "b": floats(4)}
    return file(nodes, {"x": floats(1, 2, 6, 6)}, ["y"], weights, opset=21)


def reductions() -> File:
    nodes = [make("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=1), make("Sub", ["x", "m"], ["d"]),
             make("ReduceL2", ["d"], ["n"], axes=[1], keepdims=1), make("Div", ["d", "n"], ["q"]),
             make("ReduceMax", ["q"], ["r"], axes=[-1], keepdims=0), make("Clip", ["r", "", "top"], ["y"])]  # fmt: skip
    return file(nodes, {"x": floats(1, 3, 5, 6)}, ["y"], {"top": np.array(0.4, np.float32)}, opset=12)


def depth_to_space() -> File:
    nodes = [make("Conv", ["x", "w"], ["h"]), make("DepthToSpace", ["h"], ["y"], blocksize=2, mode="CRD")]
    return file(nodes, {"x": floats(1, 2, 5, 5)}, ["y"], {"w": floats(8, 2, 2, 2)}, opset=13)


def two_inputs() -> File:
    nodes = [make("Transpose", ["b"], ["t"], perm=[0, 2, 1]), make("MatMul", ["a", "t"], ["h"]),
             make("Softmax", ["h"], ["y"], axis=-1)]  # fmt: skip
    return file(nodes, {"a": floats(1, 4, 6), "b": floats(1, 5, 6)}, ["y"], opset=13)


FILES: dict[str, Callable[[], File]] = {
    "gemm": gemm,
    "lstm_bidirectional": lstm_bidirectional,
    "gru": gru,
    "conv_transpose": conv_transpose,
    "resize_nearest": resize(
        mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    "resize_linear": resize(mode="linear", coordinate_transformation_mode="half_pixel"),
    "resize_pytorch": resize(18, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    "resize_asymmetric": resize(mode="linear", coordinate_transformation_mode="asymmetric"),
    "resize_round": resize(
        mode="nearest", coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil"
    ),
    "resize_cubic": resize(mode="cubic", coordinate_transformation_mode="half_pixel", cubic_coeff_a=-0.75),
    "resize_to_a_size": resize_to_a_size,
    "upsample": upsample,
    "pad_constant": pad("constant"),
    "pad_reflect": pad("reflect"),
    "pad_edge": pad("edge"),
    "split_concat_9": split_concat_9,
    "split_uneven_18": split_uneven_18,
    "layer_norm": layer_norm,
    "where_cast_gather": where_cast_gather,
    "if": if_,
    "loop": loop,
    "non_max_suppression": non_max_suppression,
    "qdq": qdq,
    "custom": custom,
    "dynamic_shapes": dynamic_shapes,
    "half": half,
    "old_softmax": old_softmax,
    "norm_and_pools": norm_and_pools,
    "pool_ceil": average_pool(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "pool_with_pads": average_pool(kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0], count_include_pad=1),
    "same_padding": same_padding,
    "top_k": top_k,
    "slices": slices,
    "scatter_einsum": scatter_einsum,
    "gelu": gelu,
    "group_norm": group_norm,
    "reductions": reductions,
    "depth_to_space": depth_to_space,
    "two_inputs": two_inputs,
}  # fmt: skip
