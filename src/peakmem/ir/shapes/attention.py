"""Shape rules of attention: ONNX's operators and those of onnxruntime's transformer exports.

Letters: batch, heads, sequence (of queries), keys, past, hidden = heads times head size. A cache is
laid out (batch, heads, length, head size).
"""

from __future__ import annotations

from peakmem.dtypes import FLOAT32, DType
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.shapes.call import Call, Specs, rule


@rule("Attention")
def attention(call: Call) -> Specs:
    query, key, value = call.shape(0), call.shape(1), call.shape(2)
    if len(query) == 3:
        heads, shared = call.attr("q_num_heads"), call.attr("kv_num_heads")
        query = (query[0], heads, query[1], query[2] // heads)
        key = (key[0], shared, key[1], key[2] // shared)
        value = (value[0], shared, value[1], value[2] // shared)
        out: Shape = (query[0], query[2], heads * value[3])
    else:
        out = (*query[:3], value[3])
    total = key[2] + call.shape(4)[2] if call.has(4) else key[2]
    dtype = call.dtype()
    return [
        (out, dtype),
        ((*key[:2], total, key[3]), call.dtype(1)),
        ((*value[:2], total, value[3]), call.dtype(2)),
        ((*query[:3], total), dtype),
    ]


@rule("ai.onnx.preview:FlexAttention")
def flex_attention(call: Call) -> Specs:
    return [((*call.shape(0)[:3], call.shape(2)[3]), call.dtype())]


@rule("LinearAttention", "com.microsoft:LinearAttention")
def linear_attention(call: Call) -> Specs:
    query, key, value = call.shape(0), call.shape(1), call.shape(2)
    heads, shared = call.attr("q_num_heads"), call.attr("kv_num_heads")
    width = value[2] // shared
    out: Shape = (*query[:2], max(heads, shared) * width)
    if call.has(3):
        return [(out, call.dtype()), (call.shape(3), call.dtype(3))]
    state: Shape = (query[0], shared, key[2] // shared, width)
    window = call.attr("state_window", 0)
    return [(out, call.dtype()), ((window, *state) if window else state, call.dtype())]


@rule("CausalConvWithState", "com.microsoft:CausalConvWithState")
def causal_conv(call: Call) -> Specs:
    image, weight = call.shape(0), call.shape(1)
    if call.has(3):
        return [(image, call.dtype()), (call.shape(3), call.dtype(3))]
    length = (weight[-1] - 1) * call.attr("dilation", 1)
    last = call.attr("channels_last", 0)
    state: Shape = (image[0], length, *image[2:]) if last else (*image[:-1], length)
    window = call.attr("state_window", 0)
    return [(image, call.dtype()), ((window, *state) if window else state, call.dtype())]


@rule("RotaryEmbedding", "com.microsoft:RotaryEmbedding")
def rotary_embedding(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("com.microsoft:GemmaRotaryEmbedding")
def gemma_rotary_embedding(call: Call) -> Specs:
    return [(call.shape(1), call.dtype(1)), (call.shape(3), call.dtype(3))]


# -- input projection included -----------------------------------------------------------


@rule("com.microsoft:Attention", "com.microsoft:DecoderMaskedSelfAttention")
def fused_attention(call: Call) -> Specs:
    return _projected(call, past=4)


@rule("com.microsoft:QAttention")
def quantized_attention(call: Call) -> Specs:
    return _projected(call, past=8, dtype_of=3)


def _projected(call: Call, *, past: int, dtype_of: int = 0) -> Specs:
    """Attention on (batch, sequence, inputs) with the weights of Q, K and V side by side."""
    batch, sequence, _ = call.shape()
    sizes = call.attr("qkv_hidden_sizes")
    third = call.shape(1)[1] // 3
    hidden, values = (sizes[0], sizes[2]) if sizes else (third, third)
    dtype, heads = call.dtype(dtype_of), call.attr("num_heads")
    out: Shape = (batch, sequence, values)
    if len(call.op.outputs) < 2:
        return [(out, dtype)]
    if call.has(past):
        cache = call.shape(past)
        if not call.attr("past_present_share_buffer", 0):
            cache = (*cache[:3], cache[3] + sequence, cache[4])
    else:
        cache = (2, batch, heads, sequence, hidden // heads)
    return [(out, dtype), (cache, dtype)]


@rule("com.microsoft:LongformerAttention")
def longformer_attention(call: Call) -> Specs:
    return [(call.shape(), call.dtype())]


@rule("com.microsoft:PackedAttention")
def packed_attention(call: Call) -> Specs:
    sizes = call.attr("qkv_hidden_sizes")
    return [((call.shape()[0], sizes[2] if sizes else call.shape(1)[1] // 3), call.dtype())]


# -- on projected queries, keys and values -----------------------------------------------


@rule("com.microsoft:MultiHeadAttention")
def multi_head_attention(call: Call) -> Specs:
    return _heads(call, past=6, shared_buffer=call.has(6) and call.has(8))


@rule("com.microsoft:DecoderMaskedMultiHeadAttention")
def decoder_masked_attention(call: Call) -> Specs:
    return _heads(call, past=5, shared_buffer=bool(call.attr("past_present_share_buffer", 0)))


def _heads(call: Call, *, past: int, shared_buffer: bool) -> Specs:
    query, heads, dtype = call.shape(), call.attr("num_heads"), call.dtype()
    batch, sequence = query[0], query[1]
    length: Dim = sequence
    if len(query) == 5:  # Q, K and V packed: (batch, sequence, heads, 3, head size)
        width = values = query[4]
    elif not call.has(1):  # packed along the last axis
        width = values = query[2] // (3 * heads)
    else:
        key = call.shape(1)
        width = query[2] // heads
        if len(key) == 5:  # K and V packed: (batch, keys, heads, 2, head size)
            length, values = key[1], key[4]
        else:
            value = call.shape(2)
            length = value[2] if len(value) == 4 else value[1]
            values = value[3] if len(value) == 4 else value[2] // heads
    out: Shape = (batch, sequence, values * heads)
    if len(call.op.outputs) == 1:
        return [(out, dtype)]
    if call.has(past) and shared_buffer:
        caches = [call.shape(past), call.shape(past + 1)]
        total = caches[0][2]
    else:
        total = length + call.shape(past)[2] if call.has(past) else length
        caches = [(batch, heads, total, width), (batch, heads, total, values)]
    scores: Shape = (batch, heads, sequence, total)
    return [(out, dtype), *((cache, dtype) for cache in caches), (scores, dtype)]


@rule("com.microsoft:GroupQueryAttention")
def group_query_attention(call: Call) -> Specs:
    query, heads, shared = call.shape(), call.attr("num_heads"), call.attr("kv_num_heads")
    packed = not call.has(1)
    width = query[2] // (heads + 2 * shared) if packed else query[2] // heads
    out: Shape = (*query[:2], heads * width)
    if len(call.op.outputs) == 1:
        return [(out, call.dtype())]
    total = _total_length(call)
    length: Dim
    if call.has(3):
        cache = call.shape(3)
        length = cache[2] if call.attr("sliding_window_cache", 0) else _longer(call, total, cache[2])
        caches = [(*cache[:2], length, cache[3]), (*call.shape(4)[:2], length, call.shape(4)[3])]
        dtypes = [call.dtype(3), call.dtype(4)]
    else:
        length = total if total is not None else (query[1] if packed else call.shape(1)[1])
        caches = [(query[0], shared, length, width)] * 2
        dtypes = [call.dtype(), call.dtype()]
    scores: Shape = (query[0], heads, query[1], total if total is not None else call.unknown_dim(3, 3))
    return [(out, call.dtype()), *zip(caches, dtypes, strict=True), (scores, call.dtype())]


def _total_length(call: Call) -> Dim | None:
    """The longest of the batch, tokens of the cache included, where it can be told."""
    value = call.value(6)
    return value[0] if value else None


def _longer(call: Call, total: Dim | None, past: Dim) -> Dim:
    """Length of the new cache: it grows to `total` unless its buffer is larger already."""
    if isinstance(total, int) and isinstance(past, int):
        return max(total, past)
    if total is not None and (past == 0 or isinstance(past, Symbol)):
        return total
    return call.unknown_dim(2, 1)


@rule("com.microsoft:SparseAttention")
def sparse_attention(call: Call) -> Specs:
    query, heads, shared = call.shape(), call.attr("num_heads"), call.attr("kv_num_heads")
    hidden = query[2] if call.has(1) else query[2] // (heads + 2 * shared) * heads
    return [((*query[:2], hidden), call.dtype()), *((call.shape(i), call.dtype(i)) for i in (3, 4))]


@rule("com.microsoft:PackedMultiHeadAttention")
def packed_multi_head_attention(call: Call) -> Specs:
    query = call.shape()
    hidden = query[1] * query[3] if len(query) == 4 else call.shape(2)[1]
    return [((query[0], hidden), call.dtype())]


# -- around attention --------------------------------------------------------------------


@rule("com.microsoft:RelativePositionBias")
def relative_position_bias(call: Call) -> Specs:
    sizes: list[Dim] = []
    for position in (1, 2):
        value = call.value(position)
        sizes.append(value[0] if value else call.unknown_dim(position + 1))
    return [((1, call.shape()[1], *sizes), call.dtype())]


@rule("com.microsoft:GatedRelativePositionBias")
def gated_relative_position_bias(call: Call) -> Specs:
    query, heads = call.shape(), call.attr("num_heads")
    batch, sequence = call.shape(6) if call.has(6) else query[:2]
    return [((batch, heads, sequence, sequence), call.dtype())]


@rule("com.microsoft:RemovePadding")
def remove_padding(call: Call) -> Specs:
    batch, sequence, hidden = call.shape()
    index = call.dtype(1)
    tokens = call.unknown_dim(0)
    return [((tokens, hidden), call.dtype()), ((batch, sequence), index), ((batch + 1,), index), ((1,), index)]


@rule("com.microsoft:RestorePadding")
def restore_padding(call: Call) -> Specs:
    return [((*call.shape(1), call.shape()[1]), call.dtype())]


@rule("com.microsoft:EmbedLayerNormalization")
def embed_layer_norm(call: Call) -> Specs:
    return _embedded(call, call.dtype(2))


@rule("com.microsoft:QEmbedLayerNormalization")
def quantized_embed_layer_norm(call: Call) -> Specs:
    return _embedded(call, call.dtype(8) or FLOAT32)


def _embedded(call: Call, dtype: DType | None) -> Specs:
    tokens = call.shape()
    out: Shape = (*tokens, call.shape(2)[1])
    return [(out, dtype), ((tokens[0],), call.dtype()), (out, dtype)]
