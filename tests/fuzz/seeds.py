"""The files that the fuzz tests damage: ONNX's light models, and small ones that use all of the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, parser

LIGHT = ("bvlc_alexnet", "zfnet512", "vgg19", "squeezenet")
LARGER = ("inception_v1", "shufflenet", "resnet50")
# the light models that are small, and those for long runs only

EXTERNAL_BYTES = 4096
# bytes of weights.bin, which has to lie beside the mutants

CONTROL = """
<ir_version: 9, opset_import: ["" : 18]>
control (float[2, 3, 8] x, bool flag, int64 trips)
=> (float[2, 3, 8] y, float[2, 3, 8] z, s, float[trips, 2, 3, 8] each)
<float[8] w = {1, 2, 3, 4, 5, 6, 7, 8}>
{
    a = Mul (x, w)
    y = If (flag) <
        then_branch = then_graph () => (float[2, 3, 8] t) { u = Relu (a) t = Add (u, w) },
        else_branch = else_graph () => (float[2, 3, 8] e) {
            yes = Constant <value = bool {1}> ()
            e = If (yes) <
                then_branch = inner_then () => (float[2, 3, 8] it) { it = Tanh (a) },
                else_branch = inner_else () => (float[2, 3, 8] ie) { ie = Neg (x) }
            >
        }
    >
    go = Constant <value = bool {1}> ()
    z, each = Loop (trips, go, x) <
        body = body (int64 i, bool c, float[2, 3, 8] state) => (bool again, float[2, 3, 8] next, float[2, 3, 8] seen) {
            again = Identity (c)
            next = Mul (state, a)
            seen = Sigmoid (next)
        }
    >
    first = Constant <value = float[3, 8] {0}> ()
    s, rows = Scan <num_scan_inputs = 1, body = step (float[3, 8] h, float[3, 8] v) => (float[3, 8] h2, float[3, 8] o) {
        h2 = Add (h, v)
        o = Exp (h2)
    }> (first, x)
}
"""

FUNCTIONS = """
<ir_version: 10, opset_import: ["" : 18, "local" : 1]>
functions (float[4, 16] x) => (float[4, 16] y)
<float[16, 16] w, float[16] b>
{
    h = local.dense (x, w, b)
    g = local.twice <slope = 0.2> (h)
    y = local.dense (g, w)
}
<domain: "local", opset_import: ["" : 18]>
dense (a, m, v) => (r)
{
    p = MatMul (a, m)
    r = Add (p, p)
}
<domain: "local", opset_import: ["" : 18, "local" : 1]>
twice <slope: float = 0.1> (a) => (r)
{
    p = local.act <alpha: float = @slope> (a)
    q = local.act <alpha: float = @slope> (p)
    k = Constant <value_ints = [0, -1]> ()
    r = Reshape (q, k)
}
<domain: "local", opset_import: ["" : 18]>
act <alpha> (a) => (r)
{
    r = LeakyRelu <alpha: float = @alpha> (a)
}
"""

SHAPES = """
<ir_version: 9, opset_import: ["" : 18]>
shapes (float[2, 12, 6, 6] x, int64[5] ids) => (y, z, t, v, r, n, q, m, hot)
<int64[2] tail = {4, -1}, int64[1] front = {0}, int64[4] reps = {1, 2, 1, 1}, int64[1] k = {3},
 int64 zero = {0}, int64 unit = {1}, int64 three = {3}, bool[1] yes = {1}, int64[3] big = {2, 3, 5},
 int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float[4] scales = {1, 1, 2, 2}, int64[2] parts = {5, 7},
 int64[2] from = {0, 1}, int64[2] to = {2, 9223372036854775807}, int64[2] axes = {0, 2},
 float[2] onoff = {0, 1}, float[7, 5] table, float[24, 12, 3, 3] w>
{
    sh = Shape (x)
    first = Gather <axis = 0> (sh, zero)
    head = Unsqueeze (first, front)
    target = Concat <axis = 0> (head, tail)
    flat = Reshape (x, target)
    y = Flatten (flat)
    tiled = Tile (x, reps)
    padded = Pad (tiled, pads)
    z = Slice (padded, from, to, axes)
    made = ConstantOfShape <value = float[1] {0.5}> (big)
    t = Expand (made, big)
    count = Range (zero, three, unit)
    v, at = TopK <axis = 1> (x, k)
    r = Resize <mode = "nearest"> (x, , scales)
    n = NonZero (x)
    q = GatherElements (ids, ids)
    looked = Gather (table, ids)
    m = Einsum <equation = "ij,kj->ik"> (looked, table)
    hot = OneHot (ids, three, onoff)
    left, right = Split <axis = 1> (x, parts)
    c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2], dilations = [1, 1], group = 1> (x, w)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (c)
    d = DepthToSpace <blocksize = 2> (p)
    tr = Transpose <perm = [0, 2, 3, 1]> (d)
    mean = ReduceMean <keepdims = 0> (tr, axes)
    w2 = Where (yes, mean, mean)
    cs = CumSum (x, zero)
}
"""

SEQUENCE = """
<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
sequence (int64[1, 8] ids) => (y, r, f)
<float[50, 16] table, float[16] g, float[16] b, float[16, 48] wqkv, float[48] bqkv, float[16, 16] wo,
 float[1, 64, 16] wl, float[1, 64, 16] rl, float[1, 48, 16] wg, float[1, 48, 16] rg>
{
    e = Gather (table, ids)
    n = LayerNormalization <axis = -1> (e, g, b)
    qkv = MatMul (n, wqkv)
    q, k, v = Split <axis = -1, num_outputs = 3> (qkv)
    a = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, v)
    a2 = com.microsoft.Attention <num_heads = 4> (n, wqkv, bqkv)
    o = MatMul (a, wo)
    s = Add (o, a2)
    act = Gelu (s)
    rms = RMSNormalization (act, g)
    l, lh, lc = LSTM <hidden_size = 16> (rms, wl, rl)
    y = Squeeze (l)
    gr, gh = GRU <hidden_size = 16> (rms, wg, rg)
    r = Softmax (gr)
    parts = SplitToSequence <axis = 1> (n)
    f = ConcatFromSequence <axis = 1> (parts)
}
"""


def _parse(text: str, external: tuple[str, ...] = ()) -> Any:
    """A model from ONNX's text form; declared tensors that nothing makes become weights.

    Those in `external` are put into weights.bin, all at its start, so that equal sizes are tied.
    """
    model = parser.parse_model(text)
    graph = model.graph
    made = {name for node in graph.node for name in node.output} | {tensor.name for tensor in graph.initializer}
    for value in [value for value in graph.value_info if value.name not in made]:
        kind = value.type.tensor_type
        tensor = graph.initializer.add(
            name=value.name, data_type=kind.elem_type, dims=[dim.dim_value for dim in kind.shape.dim]
        )
        size = 4
        for dim in tensor.dims:
            size *= dim
        if value.name in external:
            tensor.data_location = TensorProto.EXTERNAL
            for key, entry in (("location", "weights.bin"), ("offset", "0"), ("length", str(size))):
                tensor.external_data.add(key=key, value=entry)
        else:
            tensor.raw_data = bytes(size)
        graph.value_info.remove(value)
    return model


def _quantised() -> Any:
    """x → QuantizeLinear → DequantizeLinear → Conv on a dequantised weight → Q → DQ, and a QLinearConv."""
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.1])
    zero = helper.make_tensor("z", TensorProto.UINT8, [], [128])
    weight = helper.make_tensor("w", TensorProto.INT8, [4, 3, 3, 3], bytes(108), raw=True)
    packed = helper.make_tensor("w4", TensorProto.INT4, [8, 8], bytes(32), raw=True)
    scales = helper.make_tensor("ws", TensorProto.FLOAT, [4], [0.1] * 4)
    zeros = helper.make_tensor("wz", TensorProto.INT8, [4], bytes(4), raw=True)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["xd", "wd"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["y"]),
        helper.make_node("QLinearConv", ["xq", "s", "z", "w", "ws", "wz", "s", "z"], ["u"], pads=[1, 1, 1, 1]),
        helper.make_node("DequantizeLinear", ["w4", "s"], ["w4d"]),
        helper.make_node("MatMul", ["y", "w4d"], ["v"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "v")]
        + [helper.make_tensor_value_info("u", TensorProto.UINT8, None)],
        [scale, zero, weight, packed, scales, zeros],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def built() -> dict[str, bytes]:
    """Small models that hold subgraphs, functions, external data, quantisation, shape arithmetic."""
    tied = FUNCTIONS.replace("dense (g, w)", "dense (g, tied)").replace("] b>", "] b, float[16, 16] tied>")
    models = {
        "control": _parse(CONTROL),
        "functions": _parse(FUNCTIONS),
        "shapes": _parse(SHAPES),
        "sequence": _parse(SEQUENCE),
        "quantised": _quantised(),
        "external": _parse(tied, external=("w", "b", "tied")),
    }
    return {name: model.SerializeToString() for name, model in models.items()}


def light(names: tuple[str, ...]) -> dict[str, bytes]:
    """Models of the onnx package, which carry no weights."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return {name: (folder / f"light_{name}.onnx").read_bytes() for name in names}


def lay_out(folder: Path) -> None:
    """Write what the seeds need beside them."""
    (folder / "weights.bin").write_bytes(bytes(EXTERNAL_BYTES))
