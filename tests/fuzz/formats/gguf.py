"""Damage to GGUF: counts, lengths, types, sizes and offsets replaced where they stand."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from tests.fuzz.mutation import WORDS, number

SUFFIX = ".gguf"
_STRING, _ARRAY = 8, 9
_LAYOUTS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144), 14: (256, 210), 30: (1, 2)}


class Writer:
    """Writes GGUF and remembers where each number stands, as (place, layout)."""

    def __init__(self, version: int = 3, order: str = "<") -> None:
        self.data = bytearray(b"GGUF")
        self.order = order
        self.wide = "I" if version == 1 else "Q"
        self.places: list[tuple[int, str]] = []
        self.put("I", version)

    def put(self, layout: str, value: float) -> None:
        self.places.append((len(self.data), self.order + layout))
        self.data += struct.pack(self.order + layout, value)

    def text(self, value: str) -> None:
        data = value.encode()
        self.put(self.wide, len(data))
        self.data += data

    def key(self, name: str, kind: int, value: object) -> None:
        self.text(name)
        self.put("I", kind)
        self.value(kind, value)

    def value(self, kind: int, value: object) -> None:
        if kind == _STRING:
            self.text(str(value))
        elif kind == _ARRAY:
            assert isinstance(value, tuple)
            inner, items = value
            self.put("I", inner)
            self.put(self.wide, len(items))
            for item in items:
                self.value(inner, item)
        else:
            assert isinstance(value, int | float)
            self.put(_LAYOUTS[kind], value)

    def tensors(self, listed: dict[str, tuple[int, tuple[int, ...]]], alignment: int = 32) -> None:
        offset = 0
        for name, (kind, sizes) in listed.items():
            self.text(name)
            self.put("I", len(sizes))
            count = 1
            for size in sizes:
                self.put(self.wide, size)
                count *= size
            self.put("I", kind)
            self.put("Q", offset)
            block, nbytes = _BLOCKS[kind]
            offset += -(-(count // block * nbytes) // alignment) * alignment
        self.data += bytes(-len(self.data) % alignment + offset)


TENSORS = {
    "token_embd.weight": (14, (256, 8)), "blk.0.attn_q.weight": (12, (256, 4)), "blk.0.attn_norm.weight": (0, (256,)),
    "blk.0.ffn_up.weight": (2, (32, 3)), "output.weight": (8, (64, 2)), "output_norm.weight": (30, (5,)),
}  # fmt: skip
KEYS: tuple[tuple[str, int, object], ...] = (
    ("general.architecture", 8, "llama"), ("general.alignment", 4, 32), ("general.file_type", 4, 15),
    ("llama.block_count", 4, 2), ("llama.context_length", 4, 2048), ("llama.embedding_length", 4, 256),
    ("llama.attention.head_count", 4, 8), ("llama.attention.head_count_kv", 9, (5, (4, 2))),
    ("llama.attention.sliding_window", 4, 64), ("llama.attention.sliding_window_pattern", 9, (7, (True, False))),
    ("tokenizer.ggml.tokens", 9, (8, ("a", "b", "", "dd"))), ("nested", 9, (9, ((4, (1, 2)), (9, ((8, ("x",)),))))),
    ("real", 12, 0.5), ("small", 1, -3), ("wide", 11, -(2**40)),
)  # fmt: skip


def build(version: int = 3, order: str = "<", keys: tuple[tuple[str, int, object], ...] = KEYS) -> Writer:
    writer = Writer(version, order)
    writer.put(writer.wide, len(TENSORS))
    writer.put(writer.wide, len(keys))
    for key in keys:
        writer.key(*key)
    writer.tensors(TENSORS)
    return writer


def _variants() -> Iterator[tuple[str, Writer]]:
    yield "version3", build()
    yield "version2", build(2)
    yield "version1", build(1)
    yield "big-endian", build(3, ">")
    yield "no metadata", build(3, "<", ())


def seeds() -> dict[str, bytes]:
    return {name: bytes(writer.data) for name, writer in _variants()}


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    found = next((writer for _, writer in _variants() if writer.data == data), None)
    if found is None:
        return data[: rng.randrange(len(data))], "cut short"
    out = bytearray(data)
    done = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, layout = rng.choice(found.places)
        width = struct.calcsize(layout)
        value = rng.choice((number(rng), rng.randrange(50), len(data), len(data) - at))
        out[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little" if layout[0] == "<" else "big")
        done.append(f"{layout} at {at} := {value}")
    if rng.random() < 0.1:
        word = rng.choice(WORDS).encode()
        at = rng.randrange(24, len(out))
        out[at : at + len(word)] = word
        done.append("a word")
    return bytes(out), "; ".join(done)
