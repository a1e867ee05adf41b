"""Damage to safetensors: headers that are well formed JSON and say something absurd."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from tests.fuzz.mutation import WORDS, number

SUFFIX = ".safetensors"
_WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "C64": 8}
_CODES = (*_WIDTHS, "F4", "F6_E2M3", "F8_E8M0", "f32", "", "F64 ", "X" * 300)


def written(tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str] | None = None) -> bytes:
    """A file with tensors of zeros, written by hand."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    offset = 0
    for name, (code, shape) in tensors.items():
        size = _WIDTHS[code]
        for dim in shape:
            size *= dim
        header[name] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    return packed(json.dumps(header).encode(), bytes(offset))


def packed(header: bytes, data: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def seeds() -> dict[str, bytes]:
    plain = {"a.weight": ("F32", (4, 3)), "a.bias": ("F32", (4,)), "n.weight": ("BF16", (8,)), "s": ("I64", ())}
    gptq = {
        "q.qweight": ("I32", (4, 8)), "q.qzeros": ("I32", (1, 1)), "q.scales": ("F16", (1, 8)),
        "q.g_idx": ("I32", (32,)),
        "c.weight_packed": ("I32", (8, 2)), "c.weight_shape": ("I64", (2,)), "c.weight_scale": ("F16", (8, 1)),
        "e_blocks": ("U8", (2, 4, 2, 16)), "e_scales": ("U8", (2, 4, 2)), "b.weight": ("U8", (32, 1)),
        "b.weight.absmax": ("F32", (1,)), "f.weight": ("F8_E4M3", (4, 4)), "f.weight_scale_inv": ("F32", (1, 1)),
    }  # fmt: skip
    return {
        "plain": written(plain, {"format": "pt"}), "quantised": written(gptq), "empty": written({}),
        "bits": written({"z": ("C64", (2, 0)), "b": ("BOOL", (3,))}, {}),
    }  # fmt: skip


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    length = int.from_bytes(data[:8], "little")
    body = data[8 + length :]
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    what = rng.randrange(12)
    if not names:
        what = rng.choice((6, 7, 8, 9))
    name = rng.choice(names) if names else ""
    if what == 0:
        header[name]["shape"] = [number(rng) for _ in range(rng.choice((0, 1, 2, 4, 70, 3000)))]
    elif what == 1:
        header[name]["dtype"] = rng.choice(_CODES)
    elif what == 2:
        header[name]["data_offsets"][rng.randrange(2)] = number(rng)
    elif what == 3:
        header[rng.choice(WORDS)] = header.pop(name)
    elif what == 4:
        header[name][rng.choice(("dtype", "shape", "data_offsets", "more"))] = rng.choice(
            (None, 1.5, "x", {}, [], [[1]], [1, 2, 3], True, 10**400)
        )
    elif what == 5:
        del header[name][rng.choice(("dtype", "shape", "data_offsets"))]
    elif what == 6:
        many = {str(at): "" for at in range(9999)}
        header["__metadata__"] = rng.choice(({"a": 1}, [], None, "x", {"a": "b" * 100_000}, many))
    elif what == 7:
        text = json.dumps(header).encode()
        again = text[:-1] + b"," * bool(names) + text[1:]
        return packed(again, body), "every tensor twice"
    elif what == 8:
        text = json.dumps(header).encode()
        said = rng.choice((number(rng) % 2**64, len(text) + 1, len(text) - 1, len(data), 100_000_001))
        return packed(text, body, said), f"a header of {said} bytes"
    elif what == 9:
        depth = rng.choice((10, 2000, 200_000))
        return packed(b'{"a":' + rng.choice((b"[", b'{"a":')) * depth, body), f"nested {depth} deep"
    elif what == 10:
        text = b"{" + b",".join(
            b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % at for at in range(rng.choice((1000, 20_000)))
        ) + b"}"  # fmt: skip
        return packed(text, b""), "thousands of empty tensors"
    else:
        return packed(json.dumps(header).encode(), body[: rng.randrange(len(body) + 1)]), "data cut short"
    return packed(json.dumps(header).encode(), body), f"header {what} at {name[:40]!r}"
