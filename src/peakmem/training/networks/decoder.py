"""The shape of a decoder like Llama, read from the fields of a Hugging Face config.json. Needs no torch.

What a configuration leaves out is what transformers 5.23 puts there (`models/*/configuration_*.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from peakmem.errors import FormatError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "smollm3")
# values of model_type; any other goes to transformers itself


@dataclass(frozen=True, slots=True)
class Decoder:
    """Sizes, and what differs between the families."""

    family: str
    vocabulary: int
    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    head: int
    # features of a head
    rotary: int
    # of them turned by their position
    theta: float = 10_000.0
    eps: float = 1e-6
    query_bias: bool = False
    # of queries, keys and values
    output_bias: bool = False
    inner_bias: bool = False
    tied: bool = False
    activation: str = "silu"
    attention_dropout: float = 0.0
    residual_dropout: float = 0.0
    head_norms: bool = False
    # queries and keys are normalized head by head
    positions: int = 2048
    padding: int | None = None
    window: int | None = None
    # tokens that a token sees; None: all before it
    unrotated: tuple[int, ...] = ()
    # layers without positions
    cached: bool = True
    # use_cache of the configuration

    @property
    def fused(self) -> bool:
        """Whether query, key and value come from one matrix, and gate and up from another."""
        return self.family == "phi3"

    @property
    def gemma(self) -> bool:
        """Whether norms and embedding are Gemma's."""
        return self.family == "gemma"

    def rotates(self, layer: int) -> bool:
        """Whether a layer's queries and keys are turned."""
        return layer not in self.unrotated


def _number(config: Mapping[str, object], field: str, default: int | None = None) -> int:
    value = config.get(field)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise FormatError(f"{field} is {value!r}", where="config.json", expected="a whole number above 0")
    return value


def _rate(config: Mapping[str, object], field: str, default: float = 0.0) -> float:
    value = config.get(field)
    return float(value) if isinstance(value, int | float) else default


def _window(config: Mapping[str, object], family: str, layers: int) -> int | None:
    value = config.get("sliding_window", 4096 if family == "mistral" else None)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    if family in ("qwen2", "qwen3", "smollm3"):
        types = config.get("layer_types")
        if isinstance(types, list):
            return value if "sliding_attention" in types else None
        first = config.get("max_window_layers", 28)
        slides = config.get("use_sliding_window") is True
        return value if slides and (family == "smollm3" or not isinstance(first, int) or first < layers) else None
    return value


def _unrotated(config: Mapping[str, object], family: str, layers: int) -> tuple[int, ...]:
    if family != "smollm3":
        return ()
    given = config.get("no_rope_layers")
    if isinstance(given, list) and len(given) == layers:
        return tuple(at for at, turns in enumerate(given) if not turns)
    every = config.get("no_rope_layer_interval", 4)
    return tuple(at for at in range(layers) if isinstance(every, int) and every and (at + 1) % every == 0)


def decoder(config: Mapping[str, object]) -> Decoder | None:
    """The shape in a configuration; None where its family is not one of those here.

    Raises:
        FormatError: a size that is missing or cannot be.
    """
    family = config.get("model_type")
    if family not in FAMILIES or not isinstance(family, str):
        return None
    hidden, heads = _number(config, "hidden_size"), _number(config, "num_attention_heads")
    layers = _number(config, "num_hidden_layers")
    own_head = {"qwen3": 128, "gemma": 256}.get(family, hidden // heads)
    head = _number(config, "head_dim", own_head)
    key_heads = _number(
        config, "num_key_value_heads", {"mistral": 8, "qwen2": 32, "qwen3": 32, "gemma": 16}.get(family, heads)
    )
    if heads % key_heads:
        raise FormatError(
            f"{heads} heads do not share {key_heads} heads of keys", where="config.json", expected="a divisor"
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    rope = rope if isinstance(rope, Mapping) else {}
    theta = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    part = rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    bias = config.get("attention_bias") is True
    padding = config.get("pad_token_id", {"gemma": 0, "phi3": 32_000}.get(family))
    vocabulary = _number(config, "vocab_size")
    if isinstance(padding, bool) or not isinstance(padding, int) or not 0 <= padding < vocabulary:
        padding = None
    tied = config.get("tie_word_embeddings", family in ("gemma", "smollm3"))
    own_activation = "gelu_pytorch_tanh" if family == "gemma" else "silu"
    activation = config.get("hidden_activation") or config.get("hidden_act") or own_activation
    return Decoder(
        family, vocabulary, hidden, _number(config, "intermediate_size"), layers, heads, key_heads, head,
        int(head * part) if isinstance(part, int | float) and family == "phi3" else head,
        theta=float(theta) if isinstance(theta, int | float) else 10_000.0,
        eps=_rate(config, "rms_norm_eps", 1e-6),
        query_bias=bias or family == "qwen2",
        output_bias=bias and family != "qwen2",
        inner_bias=config.get("mlp_bias") is True,
        tied=tied is True,
        activation=str(activation),
        attention_dropout=_rate(config, "attention_dropout"),
        residual_dropout=_rate(config, "resid_pdrop"),
        head_norms=family == "qwen3",
        positions=_number(config, "max_position_embeddings", 2048),
        padding=padding,
        window=_window(config, family, layers),
        unrotated=_unrotated(config, family, layers),
        cached=config.get("use_cache", True) is not False,
    )  # fmt: skip
