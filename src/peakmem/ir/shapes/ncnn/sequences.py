"""ncnn layers of language and sequences: products, attention with its caches, recurrence, embeddings."""

from __future__ import annotations

from peakmem.dtypes import FLOAT32, DType
from peakmem.ir.dims import Dim
from peakmem.ir.shapes.call import Call, Spec, Specs, rule
from peakmem.ir.shapes.ncnn.blob import Blob, blob, larger, made, of, whole_shape


@rule("ncnn:InnerProduct")
def inner_product(call: Call) -> Specs:
    source, weight = blob(call), call.shape(1)
    outputs, takes = call.attr("num_output"), weight[1]
    dtype = FLOAT32 if call.attr("int8_scale_term") else None
    if source.dims == 2 and source.w == takes:
        return made(call, Blob(2, outputs, source.h), dtype)
    count: Dim = 1
    for dim in source.shape:
        count = count * dim
    if isinstance(count, int) and isinstance(takes, int) and count != takes:
        raise call.error(f"the weight takes {takes} inputs, the tensor has {count}")
    return made(call, Blob(1, outputs), dtype)


@rule("ncnn:Embed")
def embed(call: Call) -> Specs:
    return made(call, Blob(2, call.attr("num_output"), blob(call).w), FLOAT32)


def _agree(call: Call, one: Dim, other: Dim) -> None:
    if isinstance(one, int) and isinstance(other, int) and one != other:
        raise call.error(f"inner sizes {one} and {other} do not go together")


@rule("ncnn:MatMul")
def matmul(call: Call) -> Specs:
    left, right = blob(call), blob(call, 1)
    columns, inner = (right.h, right.w) if call.attr("transB") else (right.w, right.h)
    if right.dims == 1:
        _agree(call, left.w, right.w)
        return made(call, Blob(1) if left.dims == 1 else of(left.shape[:-1]))
    _agree(call, left.w, inner)
    if left.dims == 1:
        return made(call, of((*right.shape[:-2], columns)))
    if left.dims == right.dims == 2:
        return made(call, Blob(2, columns, left.h))
    if max(left.dims, right.dims) == 3:
        return made(call, Blob(3, columns, left.h, 1, larger(left.c, right.c)))
    # The channels of a blob of three dimensions are the depth of one of four.
    left, right = (Blob(4, one.w, one.h, one.c) if one.dims == 3 else one for one in (left, right))
    return made(call, Blob(4, columns, left.h, larger(left.d, right.d), larger(left.c, right.c)))


def _sides(source: Blob, *, transposed: bool) -> tuple[Dim, Dim]:
    """Rows and columns of a matrix; the rows of three dimensions are the channels."""
    rows = source.c if source.dims == 3 else source.h
    return (source.w, rows) if transposed else (rows, source.w)


@rule("ncnn:Gemm")
def gemm(call: Call) -> Specs:
    if call.attr("constantA"):
        rows, depth = call.attr("constantM"), call.attr("constantK")
    else:
        rows, depth = _sides(blob(call), transposed=bool(call.attr("transA")))
    if call.attr("constantB"):
        inner, columns = call.attr("constantK"), call.attr("constantN")
    else:
        inner, columns = _sides(blob(call, 1), transposed=bool(call.attr("transB")))
    _agree(call, depth, inner)
    if call.attr("output_transpose"):
        rows, columns = columns, rows
    dtype = FLOAT32 if call.attr("quantize_term") else _first_dtype(call)
    return made(call, Blob(3, columns, 1, 1, rows) if call.attr("output_N1M") else Blob(2, columns, rows), dtype)


def _first_dtype(call: Call) -> DType | None:
    """The dtype of the first blob among the inputs; weights of two bytes are float32 once loaded."""
    for position, constant in enumerate(("constantA", "constantB")):
        if not call.attr(constant):
            return call.dtype(position)
    return FLOAT32


@rule("ncnn:Einsum")
def einsum(call: Call) -> Specs:
    text = "".join(chr(code) for code in call.attr("equation") if 0 < code < 128)
    if text == "ii":
        return made(call, Blob(1))
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != len(call.op.inputs) or not 0 < len(right) <= 4:
        raise call.error(f"the equation {text[:60]!r} does not fit {len(call.op.inputs)} tensors")
    sizes: dict[str, Dim] = {}
    for position, term in enumerate(terms):
        shape = blob(call, position).shape
        if len(term) != len(shape):
            raise call.error(f"{term[:20]!r} does not name {len(shape)} axes")
        sizes.update(zip(term, shape, strict=True))
    # The axes of the result are i, j, k, l, in this order, whatever the equation says.
    return made(call, of(tuple(sizes.get(letter, 1) for letter in "ijkl"[: len(right)])))


def _directions(call: Call) -> int:
    return 2 if call.attr("direction") == 2 else 1


@rule("ncnn:LSTM")
def lstm(call: Call) -> Specs:
    outputs, many = call.attr("num_output"), _directions(call)
    specs = made(call, Blob(2, outputs * many, blob(call).h), FLOAT32)
    if len(call.op.outputs) > 1:
        specs += [((many, outputs), FLOAT32), ((many, call.attr("hidden_size")), FLOAT32)]
    return specs


@rule("ncnn:GRU", "ncnn:RNN")
def gru(call: Call) -> Specs:
    outputs, many = call.attr("num_output"), _directions(call)
    specs = made(call, Blob(2, outputs * many, blob(call).h), FLOAT32)
    return [*specs, ((many, outputs), FLOAT32)] if len(call.op.outputs) > 1 else specs


@rule("ncnn:MultiHeadAttention")
def multi_head_attention(call: Call) -> Specs:
    query = blob(call)
    key = blob(call, 1) if call.has(1) else query
    embed, heads = call.attr("embed_dim"), call.attr("num_heads")
    if heads < 1:
        raise call.error(f"{heads} heads")
    specs: list[Spec] = made(call, Blob(2, call.shape(6)[1], query.h), FLOAT32)
    if len(call.op.outputs) == 1:
        return specs
    if call.has(4) and call.shapes[4] is None:
        return [*specs, *[(None, FLOAT32)] * (len(call.op.outputs) - 1)]
    cache = blob(call, 4) if call.has(4) else Blob(3, h=0)
    # Until the summer of 2026 a cache was (embedding, positions), since then (heads, positions, size of a head).
    past = cache.w if cache.dims == 2 else cache.h
    # A cache of another sequence's keys is complete once it is there.
    total = past + key.h if not call.has(1) or past == 0 else past
    shape = (embed, total) if cache.dims == 2 else (heads, total, embed // heads)
    return [*specs, *[(whole_shape(call, *shape), FLOAT32)] * 2]


@rule("ncnn:ShortConv")
def short_convolution(call: Call) -> Specs:
    """Weight, sequence and the rows before it; the last rows are handed on."""
    weight, source = blob(call), blob(call, 1)
    rows = 1 if source.dims == 1 else source.h
    specs: list[Spec] = made(call, Blob(2, source.w, rows), FLOAT32)
    return [*specs, ((weight.w, source.w), FLOAT32)][: len(call.op.outputs)]


@rule("ncnn:GatedDeltaRule")
def gated_delta_rule(call: Call) -> Specs:
    """Linear attention: two vectors, two gates, query, key and value (tokens, heads, size), and the state."""
    query, value = blob(call, 4), blob(call, 6)
    specs: list[Spec] = made(call, Blob(3, query.w, query.h, 1, query.c), FLOAT32)
    return [*specs, ((query.h, query.w, value.w), FLOAT32)][: len(call.op.outputs)]


@rule("ncnn:SDPA")
def scaled_dot_product_attention(call: Call) -> Specs:
    query, key, value = (blob(call, position) for position in range(3))
    _agree(call, query.w, key.w)
    _agree(call, key.h, value.h)
    specs: list[Spec] = made(call, Blob(3, value.w, query.h, 1, query.c), FLOAT32)
    if call.has(4) and call.shapes[4] is None:
        return [*specs, *[(None, FLOAT32)] * (len(call.op.outputs) - 1)]
    total = (blob(call, 4).h if call.has(4) else 0) + key.h
    if call.has(3) and call.shapes[3] is not None:
        mask = blob(call, 3).w
        if isinstance(mask, int) and isinstance(total, int) and mask != total:
            raise call.error(f"the mask is for {mask} positions, the keys are {total} with those of the cache")
    if len(call.op.outputs) > 1:
        specs += [((key.c, total, key.w), FLOAT32), ((key.c, total, value.w), FLOAT32)]
    return specs
