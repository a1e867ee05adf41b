"""Mixtures of experts: Mixtral, Phi-3.5-MoE, Qwen MoE, gpt-oss, and the layers DeepSeek shares with them.

The rows of all chosen experts are held at once, as grouped matrix products do: tokens × experts per
token rows, whichever experts were chosen. A loop over experts holds between a share and all of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peakmem.dtypes import FLOAT32
from peakmem.frontends.hf.config import MOST_EXPERTS, MOST_EXPERTS_IN_ALL, Config
from peakmem.frontends.hf.decoder import Block, Layer, Place
from peakmem.frontends.hf.design import Design
from peakmem.frontends.hf.llama import GATED, SERIAL, activation, llama_like, qwen_windows, window_of, windows_by_type
from peakmem.frontends.hf.network import DOMAIN, Network

NOTE = "experts: the rows of all chosen experts are held at once (grouped products), tokens × experts per token"


@dataclass(frozen=True, slots=True)
class Experts:
    """A router and its experts; names are those of the layers in the file."""

    path: str
    count: int
    chosen: int
    inside: int
    act: str
    names: tuple[str, str, str] = GATED
    # gate, up, down
    router: str = "gate"
    shared: int = 0
    # inner width of the experts that every token goes through; 0 without them
    shared_name: str = "shared_experts"
    shared_gate: bool = False
    correction: bool = False
    # whether a stored bias, which is no parameter, corrects the choice
    float_router: bool = False


def count_experts(c: Config, layers: int, *names: str, default: int | None = None) -> int:
    """How many experts a layer has, bounded for all layers together."""
    count = c.size(*names, default=default, most=MOST_EXPERTS)
    if count * layers > MOST_EXPERTS_IN_ALL:
        raise c.fault(f"{layers} layers of {count} experts", expected=f"at most {MOST_EXPERTS_IN_ALL} in all")
    return count


def mixture(e: Experts) -> Layer:
    """The feed-forward layer of a mixture."""

    def mlp(n: Network, x: str, at: Place) -> str:
        path = f"{at.path}.{e.path}"
        hidden = n.width(x)
        source = n.float32(x) if e.float_router else x
        logits = n.linear(source, f"{path}.{e.router}", e.count, whole=True)
        inputs = [logits]
        if e.correction:
            inputs.append(n.buffer(f"{path}.{e.router}.e_score_correction_bias", e.count, dtype=FLOAT32))
        weights, chosen = n.b.op("Route", inputs, 2, name="route", domain=DOMAIN, k=e.chosen)
        rows = n.own("Dispatch", x, chosen, name="dispatch")
        gate, up, down = e.names
        ins = [[f"{path}.experts.{i}.{gate}", f"{path}.experts.{i}.{up}"] for i in range(e.count)]
        outs = [[f"{path}.experts.{i}.{down}"] for i in range(e.count)]
        both = n.experts(rows, chosen, ins, 2 * e.inside)
        inner = n.b.mul(n.activate(n.part(both, 0, e.inside), e.act), n.part(both, e.inside, e.inside))
        y = n.own("Combine", n.experts(inner, chosen, outs, hidden), weights, name="combine")
        if not e.shared:
            return y
        common = n.gated(x, f"{path}.{e.shared_name}", GATED, e.shared, e.act)
        if e.shared_gate:
            share = n.b.sigmoid(n.linear(x, f"{path}.{e.shared_name}_gate", 1, whole=True))
            common = n.b.mul(share, common)
        return n.b.add(y, common)

    return mlp


def _sparse(dense: Layer, sparse: Layer, layers: tuple[bool, ...]) -> Layer:
    """A dense or a sparse layer, by its number."""

    def mlp(n: Network, x: str, at: Place) -> str:
        return (sparse if layers[at.layer] else dense)(n, x, at)

    return mlp


def mixtral(c: Config) -> Design:
    return _mixtral(c, vocab=32000, inside=14336, experts=8)


def phimoe(c: Config) -> Design:
    bias = c.flag("attention_bias", default=False)
    return _mixtral(
        c, vocab=32064, inside=6400, experts=16, block=Block("serial", SERIAL.norms, "layer"), bias=bias, out_bias=bias,
        head_bias=c.flag("lm_head_bias", default=False),
    )  # fmt: skip


def _mixtral(c: Config, *, vocab: int, inside: int, experts: int, **more: Any) -> Design:
    layers, window = c.layers("num_hidden_layers", default=32), window_of(c, None)
    e = Experts(
        "block_sparse_moe", count_experts(c, layers, "num_local_experts", default=experts),
        c.size("num_experts_per_tok", default=2, most=MOST_EXPERTS), c.size("intermediate_size", default=inside),
        activation(c, "hidden_act", default="silu"), ("w1", "w3", "w2"),
    )  # fmt: skip
    return llama_like(
        c, shared=8, longest=131072, mlp=mixture(_sound(c, e)), windows=(window,) * layers if window else (), note=NOTE,
        sizes={"vocab": vocab}, **more,
    )  # fmt: skip


def _sound(c: Config, e: Experts) -> Experts:
    if e.chosen > e.count:
        raise c.fault(f"{e.chosen} experts per token", expected=f"at most the {e.count} there are")
    return e


def _qwen(c: Config, layers: int, inside: int, e: Experts) -> Layer:
    """Qwen's choice of layers: every decoder_sparse_step-th is sparse, unless mlp_only_layers lists it."""
    step = c.size("decoder_sparse_step", default=1)
    dense = set(c.numbers("mlp_only_layers") or ())
    sparse = tuple(layer not in dense and e.count > 0 and (layer + 1) % step == 0 for layer in range(layers))

    def mlp(n: Network, x: str, at: Place) -> str:
        return n.gated(x, f"{at.path}.mlp", GATED, inside, e.act)

    return _sparse(mlp, mixture(_sound(c, e)), sparse)


def qwen2_moe(c: Config) -> Design:
    layers = c.layers("num_hidden_layers", default=24)
    e = Experts(
        "mlp", count_experts(c, layers, "num_experts", default=60),
        c.size("num_experts_per_tok", default=4, most=MOST_EXPERTS), c.size("moe_intermediate_size", default=1408),
        activation(c, "hidden_act", default="silu"), shared=c.size("shared_expert_intermediate_size", default=5632),
        shared_name="shared_expert", shared_gate=True,
    )  # fmt: skip
    return llama_like(
        c, bias=c.flag("qkv_bias", default=True), shared=16, longest=32768, note=NOTE, own_size=c.has("head_dim"),
        mlp=_qwen(c, layers, c.size("intermediate_size", default=5632), e), windows=qwen_windows(c, layers),
        sizes={"vocab": 151936, "hidden": 2048, "layers": 24, "heads": 16},
    )  # fmt: skip


def qwen3_moe(c: Config) -> Design:
    layers, bias = c.layers("num_hidden_layers", default=24), c.flag("attention_bias", default=False)
    e = Experts(
        "mlp", count_experts(c, layers, "num_experts", "num_local_experts", default=128),
        c.size("num_experts_per_tok", default=8, most=MOST_EXPERTS), c.size("moe_intermediate_size", default=768),
        activation(c, "hidden_act", default="silu"),
    )  # fmt: skip
    return llama_like(
        c, bias=bias, out_bias=bias, shared=4, longest=32768, norms="head", note=NOTE,
        mlp=_qwen(c, layers, c.size("intermediate_size", default=6144), e), windows=qwen_windows(c, layers),
        sizes={"vocab": 151936, "hidden": 2048, "layers": 24, "heads": 32},
    )  # fmt: skip


def gpt_oss(c: Config) -> Design:
    layers, bias = c.layers("num_hidden_layers", default=36), c.flag("attention_bias", default=True)
    count = count_experts(c, layers, "num_local_experts", "num_experts", default=128)
    chosen = c.size("num_experts_per_tok", "experts_per_token", default=4, most=MOST_EXPERTS)
    inside = c.size("intermediate_size", default=2880)
    if chosen > count:
        raise c.fault(f"{chosen} experts per token", expected=f"at most the {count} there are")

    def mlp(n: Network, x: str, at: Place) -> str:
        path, hidden = f"{at.path}.mlp", n.width(x)
        logits = n.linear(x, f"{path}.router", count, bias=True, whole=True)
        weights, choice = n.b.op("Route", [logits], 2, name="route", domain=DOMAIN, k=chosen)
        rows = n.own("Dispatch", x, choice, name="dispatch")
        both = n.stacked(rows, choice, f"{path}.experts.gate_up_proj", count, 2 * inside)
        gate, up = n.part(both, 0, inside), n.part(both, inside, inside)
        inner = n.b.mul(n.activate(gate, "silu"), up)
        y = n.stacked(inner, choice, f"{path}.experts.down_proj", count, hidden)
        return n.own("Combine", y, weights, name="combine")

    usual = tuple(layer % 2 == 0 for layer in range(layers))
    return llama_like(
        c, bias=bias, out_bias=bias, shared=8, size=64, longest=131072, mlp=mlp, sinks=True, note=NOTE,
        windows=windows_by_type(c, layers, window_of(c, 128), usual),
        sizes={"vocab": 201088, "hidden": 2880, "layers": 36, "heads": 64},
    )  # fmt: skip
