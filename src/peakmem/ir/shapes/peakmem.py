"""Operators that only peakmem's own front ends write down: transformers as their configurations name them.

Tensors are (batch, tokens, width) between layers and (batch, heads, tokens, head size) in attention.
"""

from __future__ import annotations

from peakmem.dtypes import INT64, DType
from peakmem.ir.dims import Dim, Shape
from peakmem.ir.shapes.call import Call, Specs, broadcast, rule
from peakmem.ir.shapes.products import same


@rule("peakmem:Linear", "peakmem:QuantizedLinear")
def linear(call: Call) -> Specs:
    rows, weight = call.shape(0), call.shape(1)
    same(call, rows[-1], weight[1])
    return [((*rows[:-1], weight[0]), call.dtype())]


@rule("peakmem:Conv1D")
def conv1d(call: Call) -> Specs:
    rows, weight = call.shape(0), call.shape(1)
    same(call, rows[-1], weight[0])
    return [((*rows[:-1], weight[1]), call.dtype())]


@rule("peakmem:Scale", "peakmem:SoftCap", "peakmem:AddBias")
def same_as_input(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


# -- positions and masks -----------------------------------------------------------------


@rule("peakmem:Positions")
def positions(call: Call) -> Specs:
    """Rows of a table for (batch, tokens): once for the whole batch, or for each sequence where they may differ."""
    batch, tokens = call.shape(0)
    table, skipped = call.shape(1), call.attr("offset", 0)
    _fits(call, tokens, table[0] - skipped, "rows of the position table")
    return [((batch if call.attr("each", 0) else 1, tokens, table[1]), call.dtype(1))]


@rule("peakmem:TokenTypes")
def token_types(call: Call) -> Specs:
    """A row of a small table for each token."""
    return [((*call.shape(0), call.shape(1)[1]), call.dtype(1))]


@rule("peakmem:RotaryTable")
def rotary_table(call: Call) -> Specs:
    spec = ((1, call.shape(0)[1], call.attr("width")), call.dtype_attr("dtype"))
    return [spec, spec]


@rule("peakmem:CausalMask", "peakmem:Alibi")
def mask(call: Call) -> Specs:
    batch, tokens = call.shape(0)[:2]
    if call.op.op_type == "Alibi":
        return [((batch, call.attr("heads"), 1, tokens), call.dtype_attr("dtype"))]
    return [((batch, 1, tokens, tokens), call.dtype_attr("dtype"))]


@rule("peakmem:RelativeBias")
def relative_bias(call: Call) -> Specs:
    """(1, heads, queries, keys) from a table of buckets × heads."""
    queries, table = call.shape(0)[1], call.shape(1)
    return [((1, table[1], queries, queries), call.dtype(1))]


def _fits(call: Call, have: Dim, room: Dim, what: str) -> None:
    if isinstance(have, int) and isinstance(room, int) and have > room:
        raise call.error(f"{have} tokens are more than the {room} {what}")


# -- heads -------------------------------------------------------------------------------


@rule("peakmem:SplitHeads")
def split_heads(call: Call) -> Specs:
    batch, tokens, width = call.shape(0)
    heads = call.attr("heads")
    if isinstance(width, int) and width % heads:
        raise call.error(f"a width of {width} does not split into {heads} heads")
    return [((batch, heads, tokens, width // heads), call.dtype())]


@rule("peakmem:JoinHeads", "peakmem:MergeHeads")
def join_heads(call: Call) -> Specs:
    batch, heads, tokens, width = call.shape(0)
    return [((batch, tokens, heads * width), call.dtype())]


@rule("peakmem:ExpandHeads", "peakmem:RepeatHeads")
def repeat_heads(call: Call) -> Specs:
    batch, heads, tokens, width = call.shape(0)
    return [((batch, heads * call.attr("times"), tokens, width), call.dtype())]


@rule("peakmem:Scores")
def scores(call: Call) -> Specs:
    queries, keys = call.shape(0), call.shape(1)
    same(call, queries[-1], keys[-1])
    return [((*broadcast(call, queries[:-2], keys[:-2]), queries[-2], keys[-2]), call.dtype())]


@rule("peakmem:SinkAttention")
def sink_attention(call: Call) -> Specs:
    return [((*call.shape(0)[:3], call.shape(2)[3]), call.dtype())]


@rule("peakmem:FloatSoftmax")
def float_softmax(call: Call) -> Specs:
    return [(call.shape(), call.dtype_attr("dtype"))]


@rule("peakmem:AppendSink")
def append_sink(call: Call) -> Specs:
    dims = call.shape(0)
    return [((*dims[:-1], dims[-1] + 1), call.dtype())]


@rule("peakmem:DropSink")
def drop_sink(call: Call) -> Specs:
    dims = call.shape(0)
    return [((*dims[:-1], dims[-1] - 1), call.dtype())]


@rule("peakmem:CacheWrite")
def cache_write(call: Call) -> Specs:
    """What was written, as a view of the cache; with a window older tokens fall out of it."""
    new, cache = call.shape(0), call.shape(1)
    if call.attr("window"):
        return [(cache, call.dtype(1))]
    _fits(call, new[-2], cache[-2], "tokens the key-value cache has room for")
    return [(new, call.dtype(1))]


# -- slices ------------------------------------------------------------------------------


@rule("peakmem:Part")
def part(call: Call) -> Specs:
    dims = call.shape(0)
    start, size = call.attr("start", 0), call.attr("size")
    _fits(call, start + size, dims[-1], "of the last axis")
    return [((*dims[:-1], size), call.dtype())]


@rule("peakmem:LastToken")
def last_token(call: Call) -> Specs:
    dims = call.shape(0)
    return [((dims[0], 1, *dims[2:]), call.dtype())]


@rule("peakmem:FirstToken")
def first_token(call: Call) -> Specs:
    dims = call.shape(0)
    return [((dims[0], *dims[2:]), call.dtype())]


@rule("peakmem:Prepend")
def prepend(call: Call) -> Specs:
    """Stored tokens in front of those computed, the same for the whole batch."""
    dims: Shape = call.shape(0)
    tokens = dims[1]
    for position in range(1, len(call.op.inputs)):
        tokens = tokens + call.shape(position)[1]
    return [((dims[0], tokens, dims[2]), call.dtype())]


@rule("peakmem:Tokens")
def patch_tokens(call: Call) -> Specs:
    batch, channels, height, width = call.shape(0)
    return [((batch, height * width, channels), call.dtype())]


# -- mixtures of experts -----------------------------------------------------------------


@rule("peakmem:Route")
def route(call: Call) -> Specs:
    """Weights and numbers of the experts chosen for each token."""
    dims = call.shape(0)
    chosen: Shape = (*dims[:-1], call.attr("k"))
    weights: DType | None = call.dtype_attr("dtype", call.dtype())
    return [(chosen, weights), (chosen, INT64)]


@rule("peakmem:Dispatch")
def dispatch(call: Call) -> Specs:
    rows, chosen = call.shape(0), call.shape(1)
    return [((*chosen, rows[-1]), call.dtype())]


@rule("peakmem:Experts", "peakmem:QuantizedExperts", "peakmem:StackedExperts")
def experts(call: Call) -> Specs:
    return [((*call.shape(0)[:-1], call.attr("features")), call.dtype())]


@rule("peakmem:Combine")
def combine(call: Call) -> Specs:
    rows = call.shape(0)
    return [((*rows[:-2], rows[-1]), call.dtype())]
