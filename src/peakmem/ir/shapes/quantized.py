"""Shape rules of quantized operators: ONNX's own and onnxruntime's (domain com.microsoft)."""

from __future__ import annotations

from peakmem.dtypes import FLOAT32, INT32, UINT8, UINT32, DType
from peakmem.ir.dims import Dim, Shape
from peakmem.ir.shapes.call import Call, Specs, broadcast, rule
from peakmem.ir.shapes.elementwise import reduced
from peakmem.ir.shapes.movement import concat_shape
from peakmem.ir.shapes.products import gemm_shape, matmul_shape
from peakmem.ir.shapes.windows import conv_shape, pool_shape, transposed_shape

# -- to and from integers ----------------------------------------------------------------


@rule("QuantizeLinear", "com.microsoft:QuantizeLinear")
def quantize(call: Call) -> Specs:
    # The zero point decides the type; without one it is an attribute (opset 21), or uint8.
    dtype = call.dtype(2) if call.has(2) else call.dtype_attr("output_dtype", UINT8)
    return [(call.shape(), dtype)]


@rule("DequantizeLinear", "com.microsoft:DequantizeLinear")
def dequantize(call: Call) -> Specs:
    return [(call.shape(), call.dtype_attr("output_dtype", call.dtype(1) or FLOAT32))]


@rule("DynamicQuantizeLinear")
def dynamic_quantize(call: Call) -> Specs:
    return [(call.shape(), UINT8), ((), FLOAT32), ((), UINT8)]


# -- convolution and pooling -------------------------------------------------------------


@rule("QLinearConv", "com.microsoft:QLinearConv")
def conv(call: Call) -> Specs:
    last = bool(call.attr("channels_last", 0))
    return [(conv_shape(call, call.shape(0), call.shape(3), channels_last=last), call.dtype(7) or call.dtype(0))]


@rule("com.microsoft:QLinearConvTranspose")
def conv_transpose(call: Call) -> Specs:
    return [(transposed_shape(call, call.shape(0), call.shape(3)), call.dtype(7) or call.dtype(0))]


@rule("com.microsoft:QLinearAveragePool")
def average_pool(call: Call) -> Specs:
    return [(pool_shape(call, channels_last=bool(call.attr("channels_last", 0))), call.dtype())]


@rule("com.microsoft:QLinearGlobalAveragePool")
def global_average_pool(call: Call) -> Specs:
    image = call.shape()
    ones = (1,) * (len(image) - 2)
    shape: Shape = (image[0], *ones, image[-1]) if call.attr("channels_last", 0) else (*image[:2], *ones)
    return [(shape, call.dtype())]


# -- products ----------------------------------------------------------------------------


@rule("QLinearMatMul")
def matmul(call: Call) -> Specs:
    return [(matmul_shape(call, call.shape(0), call.shape(3)), call.dtype(7) or call.dtype(0))]


@rule("com.microsoft:MatMulInteger16")
def matmul_integer(call: Call) -> Specs:
    return [(matmul_shape(call, call.shape(0), call.shape(1)), INT32 if call.dtype() != UINT8 else UINT32)]


@rule("com.microsoft:DynamicQuantizeMatMul", "com.microsoft:MatMulIntegerToFloat")
def matmul_to_float(call: Call) -> Specs:
    return [(matmul_shape(call, call.shape(0), call.shape(1)), call.dtype(2) or FLOAT32)]


@rule("com.microsoft:QGemm")
def gemm(call: Call) -> Specs:
    dtype = (call.dtype(8) or call.dtype(0)) if call.has(8) else call.dtype(1) or FLOAT32
    return [(gemm_shape(call, call.shape(0), call.shape(3)), dtype)]


@rule("com.microsoft:GemmFloat8")
def gemm_float8(call: Call) -> Specs:
    return [(gemm_shape(call, call.shape(0), call.shape(1)), call.dtype_attr("dtype", FLOAT32))]


def _features(call: Call, features: Dim) -> Shape:
    return (*call.shape()[:-1], features)


@rule("com.microsoft:MatMulNBits", "com.microsoft:MatMulBnb4")
def matmul_packed(call: Call) -> Specs:
    forward = call.op.op_type == "MatMulNBits" or call.attr("transB", 1)
    return [(_features(call, call.attr("N" if forward else "K")), call.dtype())]


@rule("com.microsoft:MatMulNBitsMlp")
def mlp_packed(call: Call) -> Specs:
    return [(_features(call, call.attr("N")), call.dtype()), (call.shape(), call.dtype())]


@rule("com.microsoft:MatMulNBitsQkv")
def qkv_packed(call: Call) -> Specs:
    query, key = _features(call, call.attr("Nq")), _features(call, call.attr("Nkv"))
    return [(shape, call.dtype()) for shape in (query, key, key, call.shape())]


@rule("com.microsoft:GatherBlockQuantized")
def gather_blocks(call: Call) -> Specs:
    data, indices = call.shape(0), call.shape(1)
    axis = call.axis(call.attr("gather_axis", 0), len(data))
    if call.dtype() is UINT8:
        # Several values to a byte, packed along the last axis.
        data = (*data[:-1], data[-1] * (8 // call.attr("bits", 4)))
    return [((*data[:axis], *indices, *data[axis + 1 :]), call.dtype(2))]


# -- element by element ------------------------------------------------------------------


@rule("com.microsoft:QLinearAdd", "com.microsoft:QLinearMul")
def binary(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(3)), call.dtype() or call.dtype(3))]


@rule("com.microsoft:MulInteger")
def multiply(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(2)), INT32)]


@rule("com.microsoft:QLinearSigmoid", "com.microsoft:QLinearLeakyRelu", "com.microsoft:QLinearSoftmax")
def unary(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("com.microsoft:QLinearWhere")
def where(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(1), call.shape(4)), call.dtype(1))]


@rule("com.microsoft:QLinearConcat")
def concat(call: Call) -> Specs:
    # Scale and zero point of the result, then tensor, scale and zero point of each part.
    parts = [call.shape(position) for position in range(2, len(call.op.inputs), 3)]
    return [(concat_shape(call, parts), call.dtype(1))]


@rule("com.microsoft:QLinearReduceMean")
def reduce_mean(call: Call) -> Specs:
    return [(_reduced(call), call.dtype())]


@rule("com.microsoft:ReduceSumInteger")
def reduce_sum(call: Call) -> Specs:
    return [(_reduced(call), UINT32 if call.dtype() is UINT8 else INT32)]


def _reduced(call: Call) -> Shape:
    return reduced(call, call.ints("axes") or None, keep=bool(call.attr("keepdims", 1)))


# -- recurrence --------------------------------------------------------------------------


@rule("com.microsoft:DynamicQuantizeLSTM")
def lstm(call: Call) -> Specs:
    sequence, recurrence = call.shape(0), call.shape(2)
    directions, hidden = recurrence[0], call.attr("hidden_size") or recurrence[1]
    dtype: DType | None = call.dtype()
    last: Shape = (directions, sequence[1], hidden)
    return [((sequence[0], directions, sequence[1], hidden), dtype), (last, dtype), (last, dtype)]
