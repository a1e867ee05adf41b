"""Shape rules of what works element by element, and of what keeps the shape of an input."""

from __future__ import annotations

from peakmem.ir.shapes.call import Call, Specs, broadcast, rule


def names(*op_types: str) -> tuple[str, ...]:
    """Op types with TensorFlow Lite's domain, as rules are registered."""
    return tuple(f"tflite:{name}" for op_type in op_types for name in op_type.split())


@rule(
    *names(
        "ABS CAST CEIL COS DEQUANTIZE ELU EXP FAKE_QUANT FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGICAL_NOT LOGISTIC",
        "NEG QUANTIZE RELU RELU6 RELU_0_TO_1 RELU_N1_TO_1 ROUND RSQRT SIGN SIN SQRT SQUARE TANH ZEROS_LIKE",
        "SOFTMAX LOG_SOFTMAX L2_NORMALIZATION LOCAL_RESPONSE_NORMALIZATION CUMSUM REVERSE_V2 REVERSE_SEQUENCE",
        "MATRIX_SET_DIAG DENSIFY DYNAMIC_UPDATE_SLICE BUCKETIZE IMAG REAL COMPLEX_ABS ADD_N",
    )
)
def same(call: Call) -> Specs:
    return [(call.shape(), None)]


@rule(
    *names(
        "DIV FLOOR_DIV FLOOR_MOD MAXIMUM MINIMUM POW SQUARED_DIFFERENCE ATAN2 PRELU BITWISE_XOR",
        "RIGHT_SHIFT EQUAL NOT_EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR",
    )
)
def binary(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(1)), None)]


@rule(*names("ADD SUB MUL"))
def arithmetic(call: Call) -> Specs:
    """These set the dtype of their result, whatever the file declares."""
    return [(broadcast(call, call.shape(0), call.shape(1)), call.dtype(1))]


@rule("tflite:SELECT")
def select(call: Call) -> Specs:
    return [(call.shape(1), None)]


@rule("tflite:SELECT_V2")
def select_broadcast(call: Call) -> Specs:
    return [(broadcast(call, call.shape(0), call.shape(1), call.shape(2)), None)]


@rule("tflite:HASHTABLE_FIND")
def found(call: Call) -> Specs:
    return [(call.shape(1), None)]


@rule("tflite:READ_VARIABLE")
def read_variable(call: Call) -> Specs:
    """The front end gives the state that holds the variable as a second input."""
    return [(call.shape(1), None)]


@rule("tflite:VAR_HANDLE")
def variable(call: Call) -> Specs:
    """The front end notes the shape that the file declares: nothing else tells it."""
    return [(tuple(call.attr("shape", (1,))), None)]


@rule("tflite:HASHTABLE", "tflite:HASHTABLE_SIZE")
def handle(_: Call) -> Specs:
    return [((1,), None)]
