"""Damage to Keras models: configurations with absurd settings and calls, HDF5 headers that lead astray."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from typing import Any

from tests.fuzz.mutation import WORDS, number
from tests.unit.frontends.hdf5_files import hdf5
from tests.unit.frontends.keras_files import (
    RESIDUAL,
    TINY,
    TINY_WEIGHTS,
    call,
    entry,
    functional,
    keras_file,
    layer,
    legacy_file,
    ref,
    sequential,
)

SUFFIX = ".keras"
LARGEST = 1 << 20
# bytes of a configuration that is not made larger still


def _various() -> dict[str, Any]:
    """One layer of each family."""
    attention = layer("MultiHeadAttention", "mha", [], num_heads=2, key_dim=4, use_bias=True)
    attention["inbound_nodes"] = [{"args": [ref("lstm"), ref("lstm")], "kwargs": {}}]
    picked = layer("GetItem", "pick", [], module="keras.src.ops.numpy")
    picked["inbound_nodes"] = [
        {"args": [ref("mha"), [{"class_name": "__slice__", "config": {"start": 1}}, 0]], "kwargs": {}}
    ]
    inner = layer("Dense", "inner", units=3)
    return functional(
        [
            entry("ids", None, 6, dtype="int32"),
            layer("Embedding", "table", [["ids"]], input_dim=20, output_dim=8),
            layer("LSTM", "lstm", [["table"]], units=5, return_sequences=True),
            attention,
            picked,
            layer("TimeDistributed", "steps", [["lstm"]], layer=inner),
            layer("Bidirectional", "both", [["steps"]], layer=layer("GRU", "gru", units=4), merge_mode="concat"),
            layer("EinsumDense", "einsum", [["mha"]], equation="abc,cd->abd", output_shape=[None, 3], bias_axes="d"),
            layer("Reshape", "flat", [["einsum"]], target_shape=[-1]),
            layer("Lambda", "code", [["flat"]], function={"class_name": "__lambda__", "config": {}}),
            layer("Concatenate", "join", [["both", ref("flat")]], axis=-1),
        ],
        [["ids", 0, 0]],
        [["join", 0, 0], ["code", 0, 0], ["pick", 0, 0]],
    )


def _images() -> dict[str, Any]:
    block = sequential([layer("DepthwiseConv2D", "dw", kernel_size=3, padding="same"), layer("ReLU", "act")], "block")
    block.update(name="block", inbound_nodes=[call("up"), call(ref("block", 0))])
    return functional(
        [
            entry("image", None, 18, 18, 3),
            layer("ZeroPadding2D", "pad", [["image"]], padding=[[0, 1], [0, 1]]),
            layer("Conv2DTranspose", "up", [["pad"]], filters=3, kernel_size=3, strides=2, padding="same"),
            block,
            layer("MaxPooling2D", "pool", [[ref("block", 1)]], pool_size=2),
            layer("SeparableConv2D", "sep", [["pool"]], filters=4, kernel_size=3),
            layer("Cropping2D", "crop", [["sep"]], cropping=1),
            layer("Resizing", "fixed", [["crop"]], height=4, width=4),
            layer("GroupNormalization", "gn", [["fixed"]], groups=2),
        ],
        ["image", 0, 0],
        ["gn", 0, 0],
    )


def seeds() -> dict[str, bytes]:
    """Small valid files of every kind."""
    return {
        "tiny.keras": keras_file(),
        "packed.keras": keras_file(method=zipfile.ZIP_DEFLATED),
        "residual.json": json.dumps(RESIDUAL).encode(),
        "various.json": json.dumps(_various()).encode(),
        "images.json": json.dumps(_images()).encode(),
        "legacy.h5": legacy_file(),
        "weights.h5": hdf5(TINY_WEIGHTS),
    }


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A mutant that is still of its kind, and what was done to it."""
    if data.startswith(b"\x89HDF"):
        return _damaged_hdf5(data, rng)
    if not data.startswith(b"PK"):
        return _damaged_json(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    what = rng.randrange(4)
    if what == 0:
        name = rng.choice(("../../evil", "/etc/passwd", "config.json/..", "a" * 3000, "assets/x"))
        members[name] = b"x"
        return _packed(members), f"member {name[:40]!r}"
    if what == 1:
        members["model.weights.h5"], done_here = _damaged_hdf5(members["model.weights.h5"], rng)
        return _packed(members), done_here
    if what == 2 and rng.random() < 0.3:
        members["config.json"] = rng.choice((b"[" * 100_000, b'{"a":' * 100_000, b"", b"{}", b"[]", b"NaN", b"{" * 3))
        return _packed(members), "config of brackets"
    members["config.json"], done_here = _damaged_json(members["config.json"], rng)
    return _packed(members), done_here


def _damaged_json(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    done: list[str] = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        config = json.loads(data)
        if len(data) > LARGEST:
            break
        what = _damaged_config(config, rng)
        try:
            data = json.dumps(config).encode()
        except RecursionError:
            continue
        done.append(what)
    return data, "; ".join(done)


def _packed(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        here = waiting.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here))
        for key in keys:
            found.append((here, key))
            if isinstance(here[key], dict | list):
                waiting.append(here[key])
    return found


_CLASSES = ("Conv2D", "Conv3D", "Dense", "LSTM", "Add", "Concatenate", "Reshape", "Flatten", "Functional", "Sequential",
            "TimeDistributed", "Bidirectional", "MultiHeadAttention", "Custom>Thing", "Lambda", "Embedding", "RNN",
            "BatchNormalization", "GlobalAveragePooling2D", "UpSampling2D", "Normalization", "PReLU", "Dot", "Permute",
            "RepeatVector", "Discretization", "ConvLSTM2D", "SpectralNormalization", "StackedRNNCells", "InputLayer",
            "Attention", "GroupQueryAttention", "StringLookup", "STFTSpectrogram")  # fmt: skip


def _damaged_config(config: Any, rng: random.Random) -> str:
    places = _places(config)
    layers = [
        here[key]
        for here, key in places
        if isinstance(here[key], dict) and isinstance(here[key].get("inbound_nodes"), list)
    ]
    what = rng.randrange(9)
    if what == 0:
        named = [place for place in places if place[1] == "class_name"]
        here, key = rng.choice(named or places)
        here[key] = rng.choice(_CLASSES)
        return f"class {here[key]}"
    if what == 1 and layers:
        one, other = rng.choice(layers), rng.choice(layers)
        one["inbound_nodes"] = other["inbound_nodes"] * rng.choice((1, 1, 2, 50))
        return "calls of another layer"
    if what == 2 and layers:
        one = rng.choice(layers)
        one["inbound_nodes"] = [call(ref(rng.choice(layers).get("name", "x"), rng.choice((0, 1, -1, 2**40)), 0))]
        return "a call on any layer"
    if what == 3:
        lists = [place for place in places if isinstance(place[0][place[1]], list) and place[0][place[1]]]
        if lists:
            here, key = rng.choice(lists)
            here[key] = here[key] * rng.choice((2, 3, 100)) if rng.random() < 0.5 else here[key][:-1]
            return f"length of {key!r}"
    if what == 4:
        deep: Any = 1
        for _ in range(rng.choice((3, 60, 400))):
            deep = rng.choice(([deep], {"config": deep}, {"class_name": "Dense", "config": {"layers": [deep]}}))
        here, key = rng.choice(places)
        here[key] = deep
        return f"{key!r} nested"
    here, key = rng.choice(places)
    here[key] = rng.choice(
        (number(rng), number(rng), number(rng), rng.choice(WORDS), None, True, -1, 10**18, 1.5, float("inf"), [], {},
         [number(rng)] * rng.choice((1, 2, 4, 1000)), [None, 2], "same", "channels_first", [[1, 2], [3, 4]])
    )  # fmt: skip
    return f"{key!r} := {str(here[key])[:40]}"


def _damaged_hdf5(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Overwrite a number that looks like an address, a size or a count."""
    out = bytearray(data)
    done = []
    for _ in range(rng.choice((1, 1, 2, 5))):
        mark = rng.choice((b"TREE", b"SNOD", b"HEAP", b"GCOL", b"\x01\x00"))
        found = [at for at in range(0, len(out) - 32, 8) if out[at : at + len(mark)] == mark]
        if not found:
            continue
        start = rng.choice(found)
        at = start + rng.choice((2, 4, 5, 6, 8, 8, 12, 16, 16, 20, 24, 24, 32, 40))
        width = rng.choice((1, 2, 4, 8, 8))
        value = rng.choice(
            (0, 1, start, at, len(out), len(out) - 8, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, number(rng))
        )
        if at + 8 <= len(out):
            out[at : at + width] = struct.pack("<Q", value & (2**64 - 1))[:width]
            done.append(f"{mark!r} at {start}+{at - start}: {width} bytes := {value}")
    return bytes(out), "; ".join(done)


__all__ = ["SUFFIX", "TINY", "damage", "seeds"]
