"""Encoders of the BERT line: BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, DistilBERT, ALBERT.

Defaults are those of the configuration classes of transformers (4.57 and 5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from peakmem.frontends.hf.attention import Attention, Setting
from peakmem.frontends.hf.cache import Cache
from peakmem.frontends.hf.config import MOST_LAYERS, Config
from peakmem.frontends.hf.decoder import Block, Layer, Task, one_layer
from peakmem.frontends.hf.design import Design, Family
from peakmem.frontends.hf.llama import activation, plain_mlp
from peakmem.frontends.hf.network import Network

_QUERIES = ("self.query", "self.key", "self.value")


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder and what its heads are called."""

    root: str
    vocabulary: int
    hidden: int
    width: int
    # of the embeddings
    rows: int
    # of the position table
    reserved: int
    # rows of it that no token uses
    types: int
    layers: tuple[str, ...]
    # path of each layer; layers that share their weights have one path
    block: Block
    attention: Attention
    mlp: Layer
    act: str
    tied: bool
    project: str = ""
    # layer from the embeddings' width to the hidden one
    pooler: str = "pooler.dense"
    # empty for families without one
    mlm: tuple[str, str, str, str] = (
        "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder",
        "cls.predictions.bias",
    )  # fmt: skip
    # dense, norm, decoder, bias of the masked language head; an empty bias belongs to the decoder alone
    dense_classifier: tuple[str, str] | None = None
    # layers of a classifier that reads the first token itself


def _writer(e: Encoder) -> Design:
    def build(n: Network, task: Task) -> tuple[tuple[str, ...], Cache]:
        head, labels, cache = task.head, task.labels, Cache(None, 0)
        x, table = _body(n, e, f"{e.root}." if head else "", cache)
        if head in ("mlm", "pretraining"):
            outputs = [_masked(n, e, x, table)]
            if head == "pretraining":
                outputs.append(n.head(_pooled(n, e, x, f"{e.root}."), "cls.seq_relationship", 2, bias=True))
            return tuple(outputs), cache
        if head == "discriminator":
            y = n.activate(n.linear(x, "discriminator_predictions.dense", e.hidden, bias=True), e.act)
            return (n.head(y, "discriminator_predictions.dense_prediction", 1, bias=True),), cache
        if head == "":
            return ((x, _pooled(n, e, x, "")) if e.pooler else (x,)), cache
        if head == "qa":
            return (n.head(x, "qa_outputs", labels, bias=True),), cache
        if head == "nsp":
            return (n.head(_pooled(n, e, x, f"{e.root}."), "cls.seq_relationship", 2, bias=True),), cache
        if head == "class":
            if e.dense_classifier is not None:
                first, last = e.dense_classifier
                y = n.linear(n.own("FirstToken", x), first, e.hidden, bias=True)
                return (n.head(n.b.one("Tanh", y), last, labels, bias=True),), cache
            x = _pooled(n, e, x, f"{e.root}.")
        return (n.head(x, "classifier", labels, bias=True),), cache

    return Design(build, e.rows - e.reserved, generates=False)


def _body(n: Network, e: Encoder, root: str, cache: Cache) -> tuple[str, str]:
    """The hidden states, and the name of the embedding table."""
    ids = n.input_ids()
    path = f"{root}embeddings"
    table = f"{path}.word_embeddings.weight"
    x = n.embedding(ids, f"{path}.word_embeddings", e.vocabulary, e.width)
    if e.types:
        kinds = n.weight(f"{path}.token_type_embeddings.weight", e.types, e.width)
        x = n.b.add(x, n.own("TokenTypes", ids, kinds, name="token_types"))
    rows = n.weight(f"{path}.position_embeddings.weight", e.rows, e.width)
    x = n.b.add(x, n.own("Positions", ids, rows, name="positions", offset=e.reserved, each=int(e.reserved > 0)))
    x = n.layer_norm(x, f"{path}.LayerNorm")
    if e.project:
        x = n.linear(x, f"{root}{e.project}", e.hidden, bias=True)
    setting, embedded = Setting(cache), x
    for number, layer in enumerate(e.layers):
        with n.scope(f"{root}layer.{number}"):
            x = one_layer(n, e.block, e.attention, e.mlp, x, f"{root}{layer}", number, setting)
    n.hold(embedded)
    return x, table


def _pooled(n: Network, e: Encoder, x: str, root: str) -> str:
    return n.b.one("Tanh", n.linear(n.own("FirstToken", x), f"{root}{e.pooler}", e.hidden, bias=True))


def _masked(n: Network, e: Encoder, x: str, table: str) -> str:
    dense, norm, decoder, bias = e.mlm
    y = n.layer_norm(n.activate(n.linear(x, dense, e.width, bias=True), e.act), norm)
    if not bias:
        return n.head(y, decoder, e.vocabulary, bias=True, tied=table if e.tied else "")
    weight = n.weight(f"{decoder}.weight", e.vocabulary, e.width, tied=table if e.tied else "")
    shared = n.weight(bias, e.vocabulary)
    return n.own("Linear", y, weight, shared, name=decoder)


def _bert_like(
    c: Config, root: str, *, reserved: int = 0, width: int = 0, vocab: int = 30522, hidden: int = 768,
    inside: int = 3072, heads: int = 12,
) -> Encoder:  # fmt: skip
    c.only("is_decoder", False, False)
    c.only("add_cross_attention", False, False)
    c.only("position_embedding_type", "absolute", "absolute")
    size = c.size("hidden_size", default=hidden)
    many = c.size("num_attention_heads", default=heads)
    act = activation(c, "hidden_act", default="gelu")
    count = c.layers("num_hidden_layers", default=12)
    return Encoder(
        root, c.size("vocab_size", default=vocab), size, width or size,
        c.size("max_position_embeddings", default=512), reserved, c.size("type_vocab_size", default=2, least=0),
        tuple(f"encoder.layer.{layer}" for layer in range(count)),
        Block("after", ("attention.output.LayerNorm", "output.LayerNorm"), "layer"),
        Attention(
            "attention", many, many, c.head_size(size, many), names=_QUERIES, out="output.dense", bias=True,
            out_bias=True, causal=False, float_softmax=False,
        ),
        plain_mlp(c.size("intermediate_size", default=inside), act, ("intermediate.dense", "output.dense"), path=""),
        act, c.flag("tie_word_embeddings", default=True),
    )  # fmt: skip


def bert(c: Config) -> Design:
    return _writer(_bert_like(c, "bert"))


def _roberta(c: Config, vocab: int) -> Design:
    head = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias")
    pad = c.size("pad_token_id", default=1, least=0)
    c.assumed.pop("pad_token_id", None)
    e = _bert_like(c, "roberta", reserved=pad + 1, vocab=vocab)
    return _writer(replace(e, mlm=head, dense_classifier=("classifier.dense", "classifier.out_proj")))


def roberta(c: Config) -> Design:
    return _roberta(c, 50265)


def xlm_roberta(c: Config) -> Design:
    return _roberta(c, 30522)


def electra(c: Config) -> Design:
    width = c.size("embedding_size", default=128)
    e = _bert_like(c, "electra", width=width, hidden=256, inside=1024, heads=4)
    return _writer(
        replace(
            e, pooler="", project="embeddings_project" if width != e.hidden else "",
            mlm=("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head", ""),
            dense_classifier=("classifier.dense", "classifier.out_proj"),
        )
    )  # fmt: skip


def distilbert(c: Config) -> Design:
    c.only("sinusoidal_pos_embds", False, False)
    hidden, heads = c.size("dim", "hidden_size", default=768), c.size("n_heads", "num_attention_heads", default=12)
    act = activation(c, "activation", default="gelu")
    count = c.layers("n_layers", "num_hidden_layers", default=6)
    return _writer(
        Encoder(
            "distilbert", c.size("vocab_size", default=30522), hidden, hidden,
            c.size("max_position_embeddings", default=512), 0, 0,
            tuple(f"transformer.layer.{layer}" for layer in range(count)),
            Block("after", ("sa_layer_norm", "output_layer_norm"), "layer"),
            Attention(
                "attention", heads, heads, c.head_size(hidden, heads), names=("q_lin", "k_lin", "v_lin"),
                out="out_lin", bias=True, out_bias=True, causal=False, float_softmax=False,
            ),
            plain_mlp(c.size("hidden_dim", default=4 * 768), act, ("ffn.lin1", "ffn.lin2"), path=""),
            act, c.flag("tie_word_embeddings", default=True), pooler="",
            mlm=("vocab_transform", "vocab_layer_norm", "vocab_projector", ""),
            dense_classifier=("pre_classifier", "classifier"),
        )
    )  # fmt: skip


def albert(c: Config) -> Design:
    c.only("position_embedding_type", "absolute", "absolute")
    hidden, heads = c.size("hidden_size", default=4096), c.size("num_attention_heads", default=64)
    act = activation(c, "hidden_act", default="gelu_new")
    layers, groups = c.layers("num_hidden_layers", default=12), c.layers("num_hidden_groups", default=1)
    inner = c.layers("inner_group_num", default=1)
    if groups > layers or layers * inner > 2 * MOST_LAYERS:
        raise c.fault(f"{layers} layers in {groups} groups of {inner}", expected="no more groups than layers")
    paths = tuple(
        f"encoder.albert_layer_groups.{layer * groups // layers}.albert_layers.{number}"
        for layer in range(layers)
        for number in range(inner)
    )
    return _writer(
        Encoder(
            "albert", c.size("vocab_size", default=30000), hidden, c.size("embedding_size", default=128),
            c.size("max_position_embeddings", default=512), 0, c.size("type_vocab_size", default=2), paths,
            Block("after", ("attention.LayerNorm", "full_layer_layer_norm"), "layer"),
            Attention(
                "attention", heads, heads, c.head_size(hidden, heads), names=("query", "key", "value"), out="dense",
                bias=True, out_bias=True, causal=False, float_softmax=False,
            ),
            plain_mlp(c.size("intermediate_size", default=16384), act, ("ffn", "ffn_output"), path=""),
            act, c.flag("tie_word_embeddings", default=True), project="encoder.embedding_hidden_mapping_in",
            pooler="pooler",
            mlm=("predictions.dense", "predictions.LayerNorm", "predictions.decoder", "predictions.bias"),
        )
    )  # fmt: skip


def _family(prefix: str, read: Callable[[Config], Design], **more: str) -> Family:
    heads = {
        f"{prefix}ForMaskedLM": "mlm", f"{prefix}Model": "", f"{prefix}ForSequenceClassification": "class",
        f"{prefix}ForTokenClassification": "token", f"{prefix}ForQuestionAnswering": "qa", **more,
    }  # fmt: skip
    return Family(read, heads, f"{prefix}Model")


FAMILIES = {
    "bert": _family("Bert", bert, BertForPreTraining="pretraining", BertForNextSentencePrediction="nsp"),
    "roberta": _family("Roberta", roberta),
    "xlm-roberta": _family("XLMRoberta", xlm_roberta),
    "camembert": _family("Camembert", xlm_roberta),
    "electra": _family("Electra", electra, ElectraForPreTraining="discriminator"),
    "distilbert": _family("DistilBert", distilbert),
    "albert": _family("Albert", albert),
}
