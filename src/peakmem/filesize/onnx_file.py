"""The ONNX file of a graph at a dtype: what this package's export writes, or onnxruntime's quantiser makes of that.

float32 and float16 are exact for networks that this package writes. int8 is `quantize_static` with scales for each
output channel: each weight brings scales and zero points, each bias becomes int32 with its own, each tensor between
operators a scale and a zero point. int4 is MatMulNBits' blocks for matrices, all else as stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from peakmem.dtypes import FLOAT32, INT4, INT8, DType
from peakmem.filesize import onnx
from peakmem.filesize.bits import key, text, varint
from peakmem.filesize.content import Stored, converted, read_names
from peakmem.filesize.kinds import translated
from peakmem.filesize.onnx_quantised import quantised
from peakmem.filesize.sheet import Sheet
from peakmem.ir.graph import Graph
from peakmem.ir.kinds import CONVOLUTIONS
from peakmem.ir.kinds import key as key_of

NODE, OLDEST, NEWEST = 110, 60, 1300
# bytes of an operator whose names are not known: usual, least and most
TRACED_NODE, TRACED_OLDEST, TRACED_NEWEST = 1200, 90, 3000
# of one that torch.onnx.export writes, with the places in the code that it comes from; its older way leaves them out
WRITTEN = frozenset({"zoo"})
# front ends whose graphs this package's export writes
DTYPES = ("float32", "float16", "bfloat16", "float64", "int8", "int4")
# that floating weights can be stored at
WRITERS = {
    "static": "onnxruntime quantize_static", "weights": "onnx.helper, weights quantised before DequantizeLinear",
}  # fmt: skip
UNSURE = 300
# bytes by which descriptions of shapes may be off that are computed while the network runs


def sheet(graph: Graph, stored: Sequence[Stored], dtype: DType | None, *, scheme: str = "static") -> Sheet:
    """The file that holds `graph` with `stored` as its constants at `dtype`.

    `scheme` "static" quantises what flows between operators, too, "weights" does not.
    """
    whole = dtype is not None and dtype.kind in ("int", "uint")
    own = all(not operator.domain or operator.domain in graph.opsets for operator in graph.operators)
    read = read_names(graph)
    kept = [one for one in stored if one.literal or own or one.name in read]
    if whole and dtype is not None:
        return _quantised(graph, kept, dtype, scheme, own=own)
    written = converted(kept, dtype)
    inside = _inside(graph, written, dtype, own=own)
    return _sheet(graph, written, dtype, inside, own=own)


def _sheet(
    graph: Graph, written: Sequence[Stored], dtype: DType | None, inside: int, *, own: bool, writer: str = "",
    slack: int = 0, notes: tuple[str, ...] = (), head: int | None = None,
) -> Sheet:  # fmt: skip
    heads = sum(onnx.initializer(one) for one in written if not one.literal)
    data = sum(one.nbytes for one in written if not one.literal)
    told = f"{graph.name} with random weights ({dtype or FLOAT32})" if graph.format in WRITTEN else ""
    opsets = {domain: version for domain, version in graph.opsets.items() if own} or {"": onnx.OPSET}
    if head is None:
        head = onnx.model_head(told, {"": opsets.get("", onnx.OPSET), **opsets})
    else:
        head += text(6, told) if told else 0
    outer = key(7) + varint(inside + heads + data)
    around = {"graph": inside, "names and shapes": heads, "header": head + outer}
    exact = own and not slack and graph.format in WRITTEN
    traced = graph.format == "torch"
    node, oldest, newest = (TRACED_NODE, TRACED_OLDEST, TRACED_NEWEST) if traced else (NODE, OLDEST, NEWEST)
    below = slack if own else len(graph.operators) * (node - oldest)
    above = slack if own else len(graph.operators) * (newest - node)
    if traced and not writer:
        writer = "torch.onnx.export"
        below += sum(one.nbytes for one in written if one.role == "bias" and one.name in _shifts(graph))
        notes = (*notes, "biases that are zero are left out, as those of folded norms are before anybody trains")
    if head + outer + inside + heads + data > onnx.LARGEST:
        notes = (*notes, "more than a protobuf message holds: the weights go into a file beside it")
    return Sheet(
        writer or ("peakmem zoo export" if graph.format in WRITTEN else "onnx.helper"), tuple(written), around,
        exact=exact, below=below, above=above, notes=notes,
    )  # fmt: skip


def _inside(graph: Graph, written: Sequence[Stored], dtype: DType | None, *, own: bool) -> int:
    if own:
        return onnx.graph_inside(graph, dtype, written)
    literals = sum(1 for one in written if one.literal)
    return (TRACED_NODE if graph.format == "torch" else NODE) * (len(graph.operators) + literals)


def _shifts(graph: Graph) -> frozenset[str]:
    """Biases of convolutions, which may be zero."""
    return frozenset(one.inputs[2] for one in graph.operators if len(one.inputs) > 2 and key_of(one) in CONVOLUTIONS)


# -- whole numbers ---------------------------------------------------------------------------------


def _quantised(graph: Graph, stored: Sequence[Stored], dtype: DType, scheme: str, *, own: bool) -> Sheet:
    made = quantised(graph if own else translated(graph), stored, dtype, activations=scheme == "static")
    inside = _inside(made.graph, made.stored, None, own=own)
    inside += sum(onnx.value_info(13, tensor, tensor.dtype) for tensor in made.described) if own else 0
    written = [replace(one, packed=one.nbytes) if _pointed(one) else one for one in made.stored]
    notes = (f"the sign of {made.open} zero points is known from data alone",) if made.open else ()
    return _sheet(
        graph,
        written,
        None,
        inside,
        own=own,
        writer=WRITERS[scheme],
        slack=5 * made.open + UNSURE * sum(operator.op_type == "Shape" for operator in graph.operators),
        notes=notes,
        head=onnx.quantised_head(graph.opsets),
    )


def _pointed(one: Stored) -> bool:
    """Whether these are zero points of a weight: written as numbers, a byte each, or for two of four bits."""
    return one.role == "quantisation" and one.dtype in (INT8, INT4) and not one.packed
