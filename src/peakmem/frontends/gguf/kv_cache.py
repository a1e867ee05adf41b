"""The key-value cache that the metadata of a GGUF file allows to compute: bytes a token, and at the full context.

The rule is llama.cpp's: for every layer that has one, `head_count_kv` heads of `key_length` and of
`value_length` elements for each token, in float16 unless told otherwise. Layers with a recurrent
state (Mamba, RWKV, short convolutions) hold something else, which is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from peakmem.ir.graph import Detail

ELEMENT_BYTES = 2
# float16, the default of llama.cpp (--cache-type-k, --cache-type-v)
MOST_LAYERS = 10_000
MOST_NUMBER = 1 << 40
RECURRENT = ("ssm.", "wkv.", "shortconv.", "token_shift_count")
WITHOUT = ("clip", "bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "t5encoder", "neo-bert", "modern-bert")
# architectures of llama.cpp that keep no cache
CROSSED = ("t5",)
# attend to a second sequence as well, whose length the file does not tell


@dataclass(frozen=True, slots=True)
class _Layers:
    """Elements that one token takes in each layer, keys and values together, and which layers have a window."""

    elements: tuple[int, ...]
    windowed: tuple[bool, ...]


class _Keys:
    """Metadata of one architecture, its numbers checked for sense."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        architecture = metadata.get("general.architecture")
        self.architecture = architecture if isinstance(architecture, str) else ""

    def number(self, key: str) -> int:
        """A whole number, 0 where there is none that makes sense."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if type(value) is int and 0 <= value < MOST_NUMBER else 0

    def each(self, key: str, layers: int) -> tuple[int, ...]:
        """A number for each layer, from one number or an array of them; empty where there is none."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple):
            numbers = tuple(int(item) for item in value[:layers] if isinstance(item, int) and 0 <= item < MOST_NUMBER)
            return numbers if len(numbers) == layers else ()
        return (self.number(key),) * layers if type(value) is int else ()

    def has(self, *starts: str) -> bool:
        return any(key.startswith(tuple(f"{self.architecture}.{start}" for start in starts)) for key in self.metadata)


def kv_cache(metadata: Mapping[str, Any]) -> Iterator[Detail]:
    """Details on the key-value cache; none for files that are no language model."""
    keys = _Keys(metadata)
    blocks, context = keys.number("block_count"), keys.number("context_length")
    if not blocks or blocks > MOST_LAYERS or keys.architecture in WITHOUT or metadata.get("general.type") == "adapter":
        return
    if metadata.get(f"{keys.architecture}.attention.causal") is False:
        return
    recurrent = keys.has(*RECURRENT)
    if recurrent:
        yield Detail(
            "recurrent state", "some layers keep a state of their own (not a key-value cache), which is not counted"
        )
    if keys.architecture in CROSSED:
        yield Detail("KV cache", "unknown: this architecture keeps the keys and values of a second sequence")
        return
    layers = _layers(keys, blocks)
    if layers is None or not any(layers.elements):
        if not recurrent:
            yield Detail("KV cache", "unknown: the metadata do not tell the heads and their sizes")
        return
    token = ELEMENT_BYTES * sum(layers.elements)
    held = sum(1 for elements in layers.elements if elements)
    yield Detail("KV cache per token", f"float16, {held} layers that have one", token)
    if not context:
        return
    yield Detail("KV cache", f"float16, one sequence at the full context of {context:,} tokens", token * context)
    window = keys.number("attention.sliding_window")
    if window and window < context:
        if any(layers.windowed):
            short = ELEMENT_BYTES * sum(n for n, cut in zip(layers.elements, layers.windowed, strict=True) if cut)
            text = f"the same where {sum(layers.windowed)} layers keep only their window of {window:,} tokens"
            yield Detail("KV cache with windows", text, (token - short) * context + short * window)
        else:
            text = (
                f"some layers see {window:,} tokens only; which ones is not in the file, so that the cache is a bound"
            )
            yield Detail("sliding window", text)


def _layers(keys: _Keys, blocks: int) -> _Layers | None:
    heads = keys.each("attention.head_count", blocks)
    shared = keys.each("attention.head_count_kv", blocks) or heads
    width = keys.number("embedding_length")
    key_sizes = keys.each("attention.key_length", blocks)
    value_sizes = keys.each("attention.value_length", blocks)
    if not shared:
        return None
    if not key_sizes or not value_sizes:
        most = max(heads, default=0)
        if not width or not most:
            return None
        # As llama.cpp: the width divided by the heads of a layer, the first that has any.
        size = width // next(count for count in heads if count)
        key_sizes, value_sizes = key_sizes or (size,) * blocks, value_sizes or (size,) * blocks
    windowed = _windows(keys, blocks)
    narrow_keys = keys.each("attention.key_length_swa", blocks) or key_sizes
    narrow_values = keys.each("attention.value_length_swa", blocks) or value_sizes
    # Multi-head latent attention keeps one compressed key, from which the values are made again.
    latent = bool(keys.number("attention.key_length_mla") and keys.number("attention.value_length_mla"))
    elements = []
    for layer, count in enumerate(shared):
        of_keys = narrow_keys[layer] if windowed[layer] else key_sizes[layer]
        of_values = narrow_values[layer] if windowed[layer] else value_sizes[layer]
        elements.append(count * (of_keys + (0 if latent else of_values)))
    kept = blocks - min(blocks, keys.number("attention.shared_kv_layers") + keys.number("nextn_predict_layers"))
    return _Layers(tuple(elements[:kept]) + (0,) * (blocks - kept), windowed)


def _windows(keys: _Keys, blocks: int) -> tuple[bool, ...]:
    """Which layers have a sliding window, where the file lists them layer by layer."""
    value = keys.metadata.get(f"{keys.architecture}.attention.sliding_window_pattern")
    if isinstance(value, tuple) and len(value) >= blocks and keys.number("attention.sliding_window"):
        return tuple(bool(item) for item in value[:blocks])
    return (False,) * blocks
