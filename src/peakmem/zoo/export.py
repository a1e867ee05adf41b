"""Write a graph as an ONNX file that runs, with random weights.

The file is for measuring an engine, not for using the network: weights are drawn so that values
stay finite (He et al., 2015, arXiv:1502.01852). It is written front to back and weights are made a
few megabytes at a time, so that a file of any size needs little memory. Literals become Constant
nodes, parameters become initializers; a node is called what its operator is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from peakmem.dtypes import FLOAT16, FLOAT32, DType
from peakmem.errors import GraphError, MissingLibrary, UsageError
from peakmem.ir.builder import OPSET
from peakmem.ir.graph import Graph, Operator, Tensor

IR_VERSION = 8
# ONNX's file format version that goes with operator set 17
LARGEST_FILE = 2**31 - 1
# bytes; a protobuf message cannot be longer
CHUNK = 2**22
# elements of a weight made at once

WRITABLE = (FLOAT32, FLOAT16)
# what engines compute convolutions in
GRAPH_FIELD, INITIALIZER_FIELD, RAW_DATA_FIELD = 7, 5, 9
# field numbers in ModelProto, GraphProto and TensorProto (onnx.proto)


def export_onnx(graph: Graph, path: str | Path, *, seed: int = 0, dtype: DType = FLOAT32, force: bool = False) -> Path:
    """Write `graph` to `path`; the path.

    Args:
        graph: a graph of ONNX operators without subgraphs, such as those of the zoo.
        path: where to; an existing file is kept unless `force`.
        seed: the same seed gives the same bytes.
        dtype: what float32 tensors become: float32 or float16.
        force: replace an existing file.

    Raises:
        UsageError: the file exists, cannot be written there, or would be over 2 GiB.
        MissingLibrary: onnx is not installed.
    """
    try:
        import onnx
    except ImportError:
        raise MissingLibrary("onnx", extra="onnx", purpose="writing ONNX files") from None
    if dtype not in WRITABLE:
        raise UsageError(f"weights cannot be written as {dtype}", expected=", ".join(map(str, WRITABLE)))
    target = Path(path)
    head, tail = _model(onnx, graph, dtype), _graph(onnx, graph, dtype)
    weights = [_weight(onnx, tensor, dtype) for tensor in _parameters(graph)]
    size = len(tail) + sum(len(front) + nbytes for front, nbytes in weights)
    if len(head) + size + 16 > LARGEST_FILE:
        raise UsageError(
            f"an ONNX file of {size} bytes is more than the format holds",
            where=graph.name,
            expected=f"at most {LARGEST_FILE} bytes",
            hint="fewer layers, or dtype=float16",
        )
    try:
        file = target.open("wb" if force else "xb")
    except FileExistsError:
        raise UsageError("the file exists already", where=str(target), hint="--force, or another path") from None
    except OSError as fault:
        raise _unwritable(target, fault) from fault
    with _all_or_nothing(target), file:
        file.write(head + _tag(GRAPH_FIELD) + _varint(size) + tail)
        _write_weights(file, graph, weights, seed, dtype)
    return target


@contextmanager
def _all_or_nothing(target: Path) -> Iterator[None]:
    """Remove the file when it cannot be finished."""
    try:
        yield
    except BaseException as fault:
        if target.is_file():
            target.unlink()
        if isinstance(fault, OSError):
            raise _unwritable(target, fault) from fault
        raise


def _unwritable(target: Path, fault: OSError) -> UsageError:
    return UsageError(f"the file cannot be written ({fault.strerror})", where=str(target))


# -- the message, piece by piece: protobuf fields may be written one after the other ---------------


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _tag(field: int) -> bytes:
    """The key of a length-delimited field."""
    return _varint(field << 3 | 2)


def _model(onnx: Any, graph: Graph, dtype: DType) -> bytes:
    """ModelProto without its graph."""
    opset = onnx.helper.make_opsetid("", graph.opsets.get("", OPSET))
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="peakmem", opset_import=[opset])
    model.doc_string = f"{graph.name} with random weights ({dtype})"
    return bytes(model.SerializeToString())


def _graph(onnx: Any, graph: Graph, dtype: DType) -> bytes:
    """GraphProto without its initializers."""
    message = onnx.GraphProto(name=graph.name)
    message.input.extend(_value_info(onnx, graph.tensors[name], dtype) for name in graph.inputs)
    message.output.extend(_value_info(onnx, graph.tensors[name], dtype) for name in graph.outputs)
    for tensor in graph.tensors.values():
        if tensor.role == "constant" and not tensor.parameter:
            message.node.append(_literal(onnx, tensor, dtype))
    for op in graph.operators:
        if op.subgraphs or op.fused:
            raise GraphError("operators with subgraphs, or merged by a pass, cannot be written", where=op.name)
        attributes = {key: list(value) if isinstance(value, tuple) else value for key, value in op.attributes.items()}
        node = onnx.helper.make_node(op.op_type, op.inputs, op.outputs, name=op.name, domain=op.domain, **attributes)
        message.node.append(node)
    return bytes(message.SerializeToString())


def _value_info(onnx: Any, tensor: Tensor, dtype: DType) -> Any:
    shape = None if tensor.shape is None else [dim if isinstance(dim, int) else str(dim) for dim in tensor.shape]
    return onnx.helper.make_tensor_value_info(tensor.name, _code(onnx, tensor, dtype), shape)


def _literal(onnx: Any, tensor: Tensor, dtype: DType) -> Any:
    value = onnx.helper.make_tensor("", _code(onnx, tensor, dtype), tensor.shape, tensor.values)
    return onnx.helper.make_node("Constant", [], [tensor.name], name=tensor.name, value=value)


def _written(tensor: Tensor, dtype: DType) -> DType:
    if tensor.dtype is None:
        raise GraphError("its dtype is not known", where=tensor.name)
    return dtype if tensor.dtype == FLOAT32 else tensor.dtype


def _code(onnx: Any, tensor: Tensor, dtype: DType) -> int:
    """The number ONNX gives the dtype that `tensor` is written in."""
    name = _written(tensor, dtype).name.upper()
    return int(onnx.TensorProto.DataType.Value("FLOAT" if name == "FLOAT32" else name))


def _weight(onnx: Any, tensor: Tensor, dtype: DType) -> tuple[bytes, int]:
    """An initializer up to its data, and how many bytes of data follow."""
    count = tensor.count
    nbytes = None if count is None else _written(tensor, dtype).nbytes(count)
    if nbytes is None:
        raise GraphError("its size is not known", where=tensor.name)
    message = onnx.TensorProto(name=tensor.name, dims=tensor.shape, data_type=_code(onnx, tensor, dtype))
    front = bytes(message.SerializeToString()) + _tag(RAW_DATA_FIELD) + _varint(nbytes)
    return _tag(INITIALIZER_FIELD) + _varint(len(front) + nbytes) + front, nbytes


# -- contents --------------------------------------------------------------------------------------


def _parameters(graph: Graph) -> list[Tensor]:
    return [tensor for tensor in graph.tensors.values() if tensor.role == "constant" and tensor.parameter]


def _write_weights(file: BinaryIO, graph: Graph, weights: list[tuple[bytes, int]], seed: int, dtype: DType) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    means_and_spreads = _distributions(graph)
    for tensor, (front, _) in zip(_parameters(graph), weights, strict=True):
        file.write(front)
        mean, spread = means_and_spreads[tensor.name]
        wanted = np.dtype(_written(tensor, dtype).name)
        for count in _chunks(tensor.count or 0):
            values = rng.standard_normal(count, dtype=np.float32)
            values *= spread
            values += mean
            # Nothing beyond four spreads, so that a variance cannot become negative.
            np.clip(values, mean - 4 * spread, mean + 4 * spread, out=values)
            file.write(values.astype(wanted, copy=False).data)


def _chunks(count: int) -> Iterator[int]:
    for start in range(0, count, CHUNK):
        yield min(CHUNK, count - start)


def _distributions(graph: Graph) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of each parameter, from the first operator that reads it."""
    found: dict[str, tuple[float, float]] = {tensor.name: (0.0, 0.02) for tensor in _parameters(graph)}
    seen: set[str] = set()
    for operator in graph.operators:
        for position, name in enumerate(operator.inputs):
            if name in found and name not in seen:
                seen.add(name)
                found[name] = _distribution(operator, position, graph.tensors[name])
    return found


def _distribution(operator: Operator, position: int, tensor: Tensor) -> tuple[float, float]:
    dims = [dim for dim in tensor.shape or () if isinstance(dim, int)]
    kind = operator.op_type
    if kind.endswith("Normalization"):
        # Scale and variance are near 1; shift and mean near 0.
        return (1.0, 0.02) if position in (1, 4) else (0.0, 0.02)
    if kind in ("LSTM", "GRU", "RNN"):
        return 0.0, dims[-1] ** -0.5
    if position != 1 or kind not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0.0, 0.02
    if kind == "ConvTranspose" or (kind != "Conv" and not operator.attributes.get("transB")):
        fan_in = dims[0]
    else:
        fan_in = tensor.count // dims[0] if tensor.count else 1
    return 0.0, (2.0 / max(1, fan_in)) ** 0.5


__all__ = ["export_onnx"]
