"""Vision transformers: ViT and DeiT, with the names of their published files."""

from __future__ import annotations

from peakmem.frontends.hf.attention import Attention, Setting
from peakmem.frontends.hf.cache import Cache
from peakmem.frontends.hf.config import Config
from peakmem.frontends.hf.decoder import Block, Task, one_layer
from peakmem.frontends.hf.design import Design, Family
from peakmem.frontends.hf.llama import activation, plain_mlp
from peakmem.frontends.hf.network import BATCH, Network


def _pair(c: Config, name: str, default: int) -> tuple[int, int]:
    value = c.fields.get(name)
    if not isinstance(value, list):
        side = c.size(name, default=default, most=1 << 16)
        return side, side
    sides = c.numbers(name) or ()
    if len(sides) != 2 or not all(1 <= side <= 1 << 16 for side in sides):
        raise c.fault(f"{name!r} has {len(sides)} entries", expected="a side, or height and width")
    return sides[0], sides[1]


def vit(c: Config) -> Design:
    return _design(c, "vit", distilled=False)


def deit(c: Config) -> Design:
    return _design(c, "deit", distilled=True)


def _design(c: Config, root: str, *, distilled: bool) -> Design:
    hidden, heads = c.size("hidden_size", default=768), c.size("num_attention_heads", default=12)
    height, width = _pair(c, "image_size", 224)
    high, wide = _pair(c, "patch_size", 16)
    if height < high or width < wide:
        raise c.fault(f"patches of {high}x{wide} in an image of {height}x{width}", expected="patches that fit")
    patches = (height // high) * (width // wide)
    channels = c.size("num_channels", default=3)
    act = activation(c, "hidden_act", default="gelu")
    layers = c.layers("num_hidden_layers", default=12)
    bias = c.flag("qkv_bias", default=True)
    inside = c.size("intermediate_size", default=3072)
    pooled = c.optional("pooler_output_size") or hidden
    pooled_act = activation(c, "pooler_act", default="tanh")
    for name in ("qkv_bias", "pooler_act"):
        c.assumed.pop(name, None)
    attention = Attention(
        "attention", heads, heads, c.head_size(hidden, heads),
        names=("attention.query", "attention.key", "attention.value"), out="output.dense", bias=bias, out_bias=True,
        causal=False, float_softmax=False,
    )  # fmt: skip
    block = Block("serial", ("layernorm_before", "layernorm_after"), "layer")
    mlp = plain_mlp(inside, act, ("intermediate.dense", "output.dense"), path="")

    def build(n: Network, task: Task) -> tuple[tuple[str, ...], Cache]:
        head, labels = task.head, task.labels
        at = f"{root}." if head else ""
        path = f"{at}embeddings"
        image = n.b.input("pixel_values", (BATCH, channels, height, width))
        kernel = n.weight(f"{path}.patch_embeddings.projection.weight", hidden, channels, high, wide)
        added = n.weight(f"{path}.patch_embeddings.projection.bias", hidden)
        x = n.b.one(
            "Conv", image, kernel, added, name="projection", kernel_shape=(high, wide), strides=(high, wide),
            pads=(0, 0, 0, 0), dilations=(1, 1), group=1,
        )  # fmt: skip
        tokens = ["cls_token", "distillation_token"] if distilled else ["cls_token"]
        stored = [n.weight(f"{path}.{token}", 1, 1, hidden) for token in tokens]
        x = n.own("Prepend", n.own("Tokens", x), *stored, name="prepend")
        table = n.weight(f"{path}.position_embeddings", 1, patches + len(tokens), hidden)
        x = n.b.add(x, table)
        setting, embedded = Setting(Cache(None, 0)), x
        for layer in range(layers):
            where = f"{at}encoder.layer.{layer}"
            with n.scope(where):
                x = one_layer(n, block, attention, mlp, x, where, layer, setting)
        n.hold(embedded)
        x = n.layer_norm(x, f"{at}layernorm")
        if head == "":
            first = n.linear(n.own("FirstToken", x), "pooler.dense", pooled, bias=True)
            return (x, n.activate(first, pooled_act)), setting.cache
        first = n.own("FirstToken", x)
        if head == "teacher":
            outputs = [n.head(first, f"{name}_classifier", labels, bias=True) for name in ("cls", "distillation")]
            return tuple(outputs), setting.cache
        return (n.head(first, "classifier", labels, bias=True),), setting.cache

    return Design(build, None, generates=False)


FAMILIES = {
    "vit": Family(vit, {"ViTForImageClassification": "class", "ViTModel": ""}, "ViTModel"),
    "deit": Family(
        deit,
        {"DeiTForImageClassification": "class", "DeiTForImageClassificationWithTeacher": "teacher", "DeiTModel": ""},
        "DeiTModel",
    ),
}
