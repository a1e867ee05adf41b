"""What operators take besides their results, by type.

Files named are of PyTorch's aten/src/ATen/native; allocations were traced in torch 2.13.0+cpu, operator by operator.
Where a kernel needs nothing but its results it stands in PLAIN.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from peakmem.engines.pytorch.convolution import convolve, transposed
from peakmem.engines.pytorch.machine import Machine
from peakmem.engines.pytorch.network import Call
from peakmem.engines.pytorch.recurrent import recur

Rule = Callable[[Call, Machine], None]

PLAIN = frozenset(
    {
        "relu", "relu_", "relu6", "relu6_", "hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "hardtanh",
        "hardtanh_", "silu", "silu_", "sigmoid", "sigmoid_", "tanh", "tanh_", "elu", "elu_", "leaky_relu",
        "leaky_relu_", "prelu", "selu", "softplus", "mish", "celu", "threshold", "exp", "log", "sqrt", "rsqrt", "neg",
        "abs", "erf", "floor", "ceil", "round", "sign", "sin", "cos", "tan", "square", "reciprocal", "pow", "clamp",
        "clamp_", "clamp_min", "clamp_max", "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "rsub",
        "maximum", "minimum", "remainder", "fmod", "atan2", "eq", "ne", "lt", "le", "gt", "ge", "logical_and",
        "logical_or", "logical_not", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_not", "isnan", "isinf",
        "where", "masked_fill", "masked_fill_", "fill_", "zero_", "copy_", "avg_pool1d", "avg_pool2d", "avg_pool3d",
        "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "max_pool1d", "softmax", "log_softmax",
        "_softmax", "_log_softmax", "cat", "concat", "stack", "mean", "sum", "amax", "amin", "max", "min", "argmax",
        "argmin", "prod", "any", "all", "var", "std", "pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d",
        "replication_pad1d", "replication_pad2d", "flatten", "reshape", "view", "contiguous", "clone", "to", "_to_copy",
        "type_as", "float", "double", "half", "bfloat16", "permute", "transpose", "t", "squeeze", "unsqueeze", "expand",
        "expand_as", "slice", "select", "split", "split_with_sizes", "chunk", "unbind", "narrow", "alias", "detach",
        "detach_", "lift_fresh_copy", "dropout", "dropout_", "feature_dropout", "embedding", "index_select", "gather",
        "scatter", "index", "cumsum", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "roll", "flip", "repeat",
        "tile", "repeat_interleave", "zeros", "ones", "full", "arange", "empty", "zeros_like", "ones_like", "full_like",
        "empty_like", "new_zeros", "new_ones", "new_full", "scalar_tensor", "tril", "triu", "norm",
        "linalg_vector_norm", "topk", "sort", "glu", "unfold", "as_strided", "movedim", "view_as", "_unsafe_view",
        "reshape_as", "unflatten", "broadcast_to", "im2col", "col2im", "one_hot", "bucketize", "lerp", "addcmul",
        "addcdiv", "expm1", "log1p", "log_sigmoid", "softshrink", "hardshrink", "tanhshrink", "diagonal", "conj",
        "real", "imag", "identity", "numpy_T",
    }
)  # fmt: skip
NORM_ROWS = 2
# mean and its reciprocal deviation for each row (layer_norm_kernel.cpp)
VECTORISED = 128
# height and width of a result together, up to which enlarging works with channels innermost (UpSampleKernel.cpp,
# _use_vectorized_kernel_cond_2d; the limit measured)
BLOCKS = ((768, 256), (192, 64), (0, 32))
KEYS = 512
# rows of queries and of keys that attention takes at a time (FlashAttentionKernel.cpp)
MATMUL_OBJECTS, MATMUL_KERNEL, MATMUL_BIASED, MATMUL_BESIDE = 535_400, 15_570, 28_170, 22_000
# of a primitive of oneDNN's product in its cache, of each kernel in it, without and with a bias, and while it is
# called; measured with 40 products of bfloat16
MATMUL_BIAS = 9_400
# more of a primitive with a bias; measured with the same
MATMUL_INNER, MATMUL_COLUMNS = 512, 64
# of a block; every rest has kernels of its own
ELTWISE_OBJECTS, ELTWISE_FIRST, ELTWISE_BESIDE = 26_300, 27_500, 9_800
# of a primitive of oneDNN's gelu in its cache, what the first brings besides, and while one is made; measured


def run(call: Call, machine: Machine) -> None:
    """All that happens while `call` works; its results stay."""
    rule = RULES.get(call.kind)
    if rule is not None:
        rule(call, machine)
        return
    machine.results(call)
    if call.kind not in PLAIN:
        machine.lacks(call, "no rule: counted with its weights and its results, without workspace")


def _normalise(call: Call, machine: Machine) -> None:
    """Batch normalisation: a factor and a summand for each channel (batch_norm_kernel.cpp)."""
    machine.results(call)
    if len(call.outputs[0].shape) > 1:
        machine.heap.burst("workspace", 2 * call.outputs[0].shape[1] * 4)


def _layer_norm(call: Call, machine: Machine) -> None:
    machine.results(call)
    x = call.input(0)
    rows = prod(x.shape) // max(prod(call.attributes.get("normalized_shape", x.shape[-1:])), 1)
    machine.heap.burst("workspace", NORM_ROWS * rows * 4 + _copy(call))


def _copy(call: Call) -> int:
    """Bytes of the first operand's copy, where it does not lie row by row."""
    x = call.input(0)
    return 0 if x.dense else x.nbytes


def _group_norm(call: Call, machine: Machine) -> None:
    machine.results(call)
    groups = int(call.attributes.get("num_groups", 1))
    machine.heap.burst("workspace", NORM_ROWS * call.outputs[0].shape[0] * groups * 4)


def _instance_norm(call: Call, machine: Machine) -> None:
    """As a batch normalisation with every channel of every sample by itself (Normalization.cpp)."""
    machine.results(call)
    shape = call.outputs[0].shape
    machine.heap.burst("workspace", 6 * shape[0] * shape[1] * 4)


def _max_pool(call: Call, machine: Machine) -> None:
    """Places of the largest are always made, as int64 (DilatedMaxPool2d.cpp, AdaptiveMaxPooling2d.cpp)."""
    machine.results(call)
    if len(call.outputs) == 1:
        machine.heap.burst("workspace", prod(call.outputs[0].shape) * 8)


def _enlarge(call: Call, machine: Machine) -> None:
    """Small results are made with channels innermost and copied."""
    machine.results(call)
    x, y = call.input(0), call.outputs[0]
    if len(y.shape) == 4 and y.shape[1] > 1 and y.shape[2] + y.shape[3] <= VECTORISED:
        machine.heap.burst("workspace", x.nbytes + y.nbytes)


def _gelu(call: Call, machine: Machine) -> None:
    """By oneDNN, in one pass (Activation.cpp, use_mkldnn)."""
    machine.results(call)
    x = call.input(0)
    if machine.mkldnn and x.dtype in ("float32", "bfloat16") and len(x.shape):
        machine.primitive(("gelu", x.shape, x.dtype), ELTWISE_OBJECTS, ELTWISE_BESIDE, ELTWISE_FIRST)


def _linear(call: Call, machine: Machine) -> None:
    x, w = call.input(0), call.input(1)
    with machine.heap.lent("workspace", _copy(call) if len(x.shape) > 2 else 0):
        machine.results(call)
        columns = w.shape[0] if len(w.shape) > 1 else 1
        _product(call, machine, prod(x.shape[:-1]), w.shape[-1] if w.shape else 1, columns, x.dtype)


def _product(call: Call, machine: Machine, rows: int, inner: int, columns: int, dtype: str) -> None:
    """One product: MKL for float32, oneDNN for bfloat16 (LinearAlgebra.cpp, use_mkldnn_matmul)."""
    if dtype == "float32":
        machine.mkl.gemm(rows, inner, columns)
    elif dtype == "bfloat16" and machine.mkldnn and machine.bfloat16 and rows * inner * columns > 16 * 16 * 16:
        kernels = 1 if inner <= MATMUL_INNER else 4 if inner % MATMUL_INNER else 2
        kernels *= 2 if columns % MATMUL_COLUMNS else 1
        biased = call.kind in ("linear", "addmm") and call.has(2)
        nbytes = MATMUL_OBJECTS + kernels * (MATMUL_BIASED if biased else MATMUL_KERNEL)
        nbytes += MATMUL_BIAS if biased else 0
        machine.primitive(("matmul", rows, inner, columns, biased), nbytes)
        block = 2 * MATMUL_COLUMNS * min(inner, MATMUL_INNER)
        machine.heap.burst("workspace", MATMUL_BESIDE + machine.threads * block * (2 if rows > 1 else 1))


def _addmm(call: Call, machine: Machine) -> None:
    at = 1 if call.kind in ("addmm", "baddbmm") else 0
    a, b = call.input(at), call.input(at + 1)
    machine.results(call)
    _product(call, machine, a.shape[-2] if len(a.shape) > 1 else 1, a.shape[-1], b.shape[-1], a.dtype)


def _matmul(call: Call, machine: Machine) -> None:
    a, b = call.input(0), call.input(1)
    machine.results(call)
    columns = b.shape[-1] if len(b.shape) > 1 else 1
    rows = a.shape[-2] if len(a.shape) > 1 else 1
    if len(b.shape) <= 2:
        rows = prod(a.shape[:-1])
        # folded into one product
    _product(call, machine, rows, a.shape[-1], columns, a.dtype)


def _attention(call: Call, machine: Machine) -> None:
    """Flash attention for the CPU: a sum for each row, and for each thread a block of products."""
    q, k = call.input(0), call.input(1)
    v = call.input(2)
    machine.results(call)
    if len(q.shape) != 4 or q.shape[-1] != v.shape[-1]:
        machine.lacks(call, "attention that is not done block by block: its products are left out")
        return
    batch, heads, rows, width = q.shape
    block = min(next(size for least, size in BLOCKS if rows >= least), rows)
    keys = min(KEYS, k.shape[2])
    each = block * (keys + 2 + width) * 4
    if q.itemsize == 2:
        each += block * keys * 2
        machine.lacks(call, "attention in half precision: the buffers of its products are estimated", q.nbytes)
    machine.mkl.gemm(block, width, keys)
    machine.heap.burst("workspace", batch * heads * rows * 4 + machine.threads * each)


RULES: dict[str, Rule] = {
    "conv1d": convolve, "conv2d": convolve, "conv3d": convolve, "convolution": convolve, "_convolution": convolve,
    "conv_transpose1d": transposed, "conv_transpose2d": transposed, "conv_transpose3d": transposed,
    "lstm": recur, "gru": recur, "rnn_tanh": recur, "rnn_relu": recur,
    "batch_norm": _normalise, "_native_batch_norm_legit_no_training": _normalise,
    "layer_norm": _layer_norm, "native_layer_norm": _layer_norm, "group_norm": _group_norm,
    "instance_norm": _instance_norm, "max_pool2d": _max_pool, "max_pool3d": _max_pool,
    "adaptive_max_pool2d": _max_pool, "max_pool2d_with_indices": _max_pool,
    "upsample_nearest2d": _enlarge, "upsample_bilinear2d": _enlarge, "upsample_bicubic2d": _enlarge,
    "gelu": _gelu, "linear": _linear, "addmm": _addmm, "mm": _addmm, "bmm": _addmm, "baddbmm": _addmm,
    "matmul": _matmul, "scaled_dot_product_attention": _attention,
}  # fmt: skip
