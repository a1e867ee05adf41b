"""GPT-2, a decoder-only language model (Radford et al., 2019, table 2; the 124M release).

The logits of every position are computed, as when training or scoring a prompt; there is no cache
of keys and values. The head reads the embedding table itself (Gemm with transB), so the table is
one tensor with two readers. Rows of the position table and the causal mask follow the length of
`input_ids`, so another length can be bound afterwards. Scopes as in the published code.
"""

from __future__ import annotations

from peakmem.dtypes import INT64
from peakmem.errors import UsageError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim
from peakmem.ir.graph import Graph
from peakmem.zoo.layers import attention, gelu_tanh, size


def _positions(b: GraphBuilder, ids: str) -> tuple[str, str]:
    """0, 1, … for each token, and the mask that hides later tokens from earlier ones."""
    length = b.one("Gather", b.one("Shape", ids), b.literal([1], scalar=True))
    zero, one = b.literal([0], scalar=True), b.literal([1], scalar=True)
    positions = b.one("Range", zero, length, one)
    rows = b.one("Unsqueeze", positions, b.literal([1]))
    return positions, b.one("GreaterOrEqual", rows, positions, name="mask")


def _block(b: GraphBuilder, x: str, heads: int, mask: str) -> str:
    hidden = size(b, x, -1)
    y = b.layer_norm(x, name="ln_1")
    with b.scope("attn"):
        y = attention(b, y, heads, names=("c_attn", "c_proj"), mask=mask)
    x = b.add(y, x)
    y = b.layer_norm(x, name="ln_2")
    with b.scope("mlp"):
        y = gelu_tanh(b, b.dense(y, 4 * hidden, name="c_fc"))
        y = b.dense(y, hidden, name="c_proj")
    return b.add(x, y)


def gpt2_small(
    batch: Dim, *, context: int, positions: int, layers: int, hidden: int, heads: int, vocabulary: int
) -> Graph:
    """The network on `context` tokens; `positions` is the longest context it has a row for."""
    if context > positions:
        raise UsageError(
            f"a context of {context} is longer than the {positions} rows of the position table",
            hint=f"context={context},positions={context}",
        )
    b = GraphBuilder("gpt2_small")
    ids = b.input("input_ids", (batch, context), INT64)
    table = b.parameter("wte/weight", (vocabulary, hidden))
    steps, mask = _positions(b, ids)
    x = b.one("Gather", table, ids, name="wte")
    x = b.add(x, b.one("Gather", b.parameter("wpe/weight", (positions, hidden)), steps, name="wpe"))
    for layer in range(layers):
        with b.scope(f"h.{layer}"):
            x = _block(b, x, heads, mask)
    x = b.layer_norm(x, name="ln_f")
    with b.scope("lm_head"):
        logits = b.one("Gemm", b.flatten(x, axis=2), table, name="lm_head", transB=1)
        shape = b.concat([b.one("Shape", ids), b.literal([vocabulary])], axis=0)
        return b.finish(b.one("Reshape", logits, shape))
