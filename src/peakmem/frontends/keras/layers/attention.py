"""Attention layers, written out into the operators that hold memory: projections, scores, probabilities.

Scores are counted as a tensor of their own, as the TensorFlow and JAX backends hold them; a layer
that asks for flash attention, or a backend that fuses it, never has them.
"""

from __future__ import annotations

from peakmem.frontends.keras.graph import LayerCall, tensors_in
from peakmem.frontends.keras.layers.dense import project
from peakmem.frontends.keras.layers.registry import layer

_NOTE = "attention scores are counted; a backend with a fused attention kernel never holds them"
_LETTERS = "abcdefghijklmn"


def _operands(call: LayerCall) -> tuple[str, str, str]:
    """Query, value and key of a call; the key is the value unless given."""
    found = []
    for position, name in enumerate(("query", "value", "key")):
        tensors = tensors_in(call.argument(position, name))
        found.append(tensors[0] if tensors else "")
    query, value, key = found
    if not query or not value:
        raise call.settings.error("is called without a query or a value")
    return query, value, key or value


@layer("MultiHeadAttention")
def multi_head(call: LayerCall) -> list[str]:
    query, value, key = _operands(call)
    heads, size = call.settings.whole("num_heads"), call.settings.whole("key_dim")
    value_size = call.settings.whole("value_dim", size)
    biased = call.settings.flag("use_bias", True)
    rank = len(call.shape_of(query))
    if not 3 <= rank <= 6:
        raise call.settings.error(f"its query has rank {rank}", "3 to 6")
    free = _LETTERS[: rank - 1]
    spread = f"{free}x,xyz->{free}yz"

    def projected(name: str, source: str, width: int) -> str:
        return project(
            call, source, spread, (*(None,) * (rank - 2), heads, width), "yz" if biased else None,
            kernel=f"{name}/kernel", bias=f"{name}/bias", part=name,
        )  # fmt: skip

    gate = ""
    if call.settings.flag("use_gate", False):
        gate = call.function(projected("gate", query, value_size), "sigmoid")
    q, k, v = projected("query", query, size), projected("key", key, size), projected("value", value, value_size)
    axes = call.settings.ints("attention_axes", tuple(range(1, rank - 1)))
    attended = sorted({axis % rank for axis in axes})
    if not attended or 0 in attended or attended[-1] > rank - 2:
        raise call.settings.error(f"attention_axes are {axes[:8]}", "axes between the batch and the features")
    out, scores = _attend(call, q, k, v, rank, attended)
    if gate:
        out = call.op("Multiply", [out, gate], part="gated")
    given = call.settings.ints("output_shape") if call.settings.has("output_shape") else None
    last = call.shape_of(query)[-1]
    sizes = given if given is not None else (last if isinstance(last, int) else None,)
    letters = "pqrstu"[: len(sizes)]
    if not letters or len(letters) != len(sizes):
        raise call.settings.error(f"output_shape has {len(sizes)} entries", "1 to 6")
    made = project(
        call, out, f"{free}yz,yz{letters}->{free}{letters}", (*(None,) * (rank - 2), *sizes),
        letters if biased else None, kernel="attention_output/kernel", bias="attention_output/bias",
        part="attention_output",
    )  # fmt: skip
    return _results(call, made, scores)


def _results(call: LayerCall, made: str, scores: str) -> list[str]:
    asked = call.argument(8, "return_attention_scores") is True or call.wanted > 1
    if not asked:
        return [made]
    if not scores:
        raise call.settings.error("returns attention scores that flash attention never has")
    return [made, scores]


def _attend(call: LayerCall, q: str, k: str, v: str, rank: int, attended: list[int]) -> tuple[str, str]:
    """Scores, probabilities and their product with the values; (result, probabilities)."""
    if call.settings.config.get("flash_attention") is True:
        return call.op("DotProductAttention", [q, k, v], part="attention"), ""
    call.draft.note(_NOTE)
    letters = _LETTERS[: rank + 1]
    # of the projected query: batch, what is attended and not, heads, head size
    there = "".join(letters[axis].upper() if axis in attended else letters[axis] for axis in range(rank + 1))
    batch = "".join(letters[axis] for axis in range(rank) if axis not in attended)
    target = "".join(letters[axis] for axis in attended)
    result = f"{batch}{target}{target.upper()}"
    scores = call.op("Einsum", [k, q], part="scores", equation=f"{there},{letters}->{result}")
    scores = call.op("Softmax", [scores], part="softmax")
    inside = f"{there[:-1]}z"
    out = call.op("Einsum", [scores, v], part="context", equation=f"{result},{inside}->{letters[:-1]}z")
    return out, scores


@layer("GroupedQueryAttention", "GroupQueryAttention")
def grouped(call: LayerCall) -> list[str]:
    query, value, key = _operands(call)
    size = call.settings.whole("head_dim")
    heads, few = call.settings.whole("num_query_heads"), call.settings.whole("num_key_value_heads")
    if heads % few:
        raise call.settings.error(f"{heads} query heads do not split over {few}")
    biased = "yz" if call.settings.flag("use_bias", True) else None

    def projected(name: str, source: str, many: int) -> str:
        return project(call, source, "abx,xyz->abyz", (None, many, size), biased,
                       kernel=f"{name}/kernel", bias=f"{name}/bias", part=name)  # fmt: skip

    gate = ""
    if call.settings.flag("use_gate", False):
        gate = call.function(projected("gate", query, heads), "sigmoid")
    q, k, v = projected("query", query, heads), projected("key", key, few), projected("value", value, few)
    if heads != few:
        k = call.op("Repeat", [k], part="repeat_key", repeats=heads // few, axis=2)
        v = call.op("Repeat", [v], part="repeat_value", repeats=heads // few, axis=2)
    out, scores = _attend(call, q, k, v, 3, [1])
    if gate:
        out = call.op("Multiply", [out, gate], part="gated")
    last = call.shape_of(query)[-1]
    made = project(
        call, out, "abyz,yzp->abp", (None, last if isinstance(last, int) else None), "p" if biased else None,
        kernel="attention_output/kernel", bias="attention_output/bias", part="attention_output",
    )  # fmt: skip
    return _results(call, made, scores)


@layer("Attention", "AdditiveAttention")
def plain_attention(call: LayerCall) -> list[str]:
    given = tensors_in(call.args[0]) if call.args else call.inputs
    if not 2 <= len(given) <= 3:
        raise call.settings.error(f"is called with {len(given)} tensors", "query, value and perhaps key")
    query, value, key = call.cast(given[0]), call.cast(given[1]), call.cast(given[-1] if len(given) > 2 else given[1])
    call.draft.note(_NOTE)
    additive = call.op_type == "AdditiveAttention" or call.settings.word("score_mode", "dot") == "concat"
    scale = ""
    if call.op_type == "AdditiveAttention":
        if call.settings.flag("use_scale", True):
            scale = call.weight("scale", (call.shape_of(query)[-1],))
    else:
        scale = call.weight("scale", ()) if call.settings.flag("use_scale", False) else ""
    if additive:
        # Every query beside every key: a tensor of rank 4 before the sum over features.
        q = call.op("ExpandDims", [query], part="query", axis=-2)
        k = call.op("ExpandDims", [key], part="key", axis=-3)
        both = call.op("Add", [q, k], part="sum")
        if call.op_type == "Attention" and scale:
            both = call.op("Multiply", [both, scale], part="scaled")
        both = call.op("Tanh", [both], part="tanh")
        if call.op_type == "AdditiveAttention" and scale:
            both = call.op("Multiply", [both, scale], part="scaled")
        scores = call.op("Sum", [both], part="scores", axis=(-1,))
        if call.op_type == "Attention":
            scores = call.op("Multiply", [scores, call.weight("concat_score_weight", ())], part="weighted")
    else:
        scores = call.op("Matmul", [query, key], part="scores", transB=1)
        if scale:
            scores = call.op("Multiply", [scores, scale], part="scaled")
    scores = call.op("Softmax", [scores], part="softmax")
    out = call.op("Matmul", [scores, value], part="context")
    if call.given.get("return_attention_scores") is True or call.wanted > 1:
        return [out, scores]
    return [out]
