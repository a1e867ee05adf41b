"""Damage to ExecuTorch programs, which are FlatBuffers as TensorFlow Lite's files are, and to delegates in them."""

from __future__ import annotations

import random
import struct

from tests.fuzz.formats import tflite
from tests.unit.frontends import pte_files as made

SUFFIX = ".pte"


def seeds() -> dict[str, bytes]:
    """Small valid files."""
    return {
        "portable": made.portable(), "delegate": made.convolution(), "named": made.convolution(named=True),
    }  # fmt: skip


def _header(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Other sizes in the extended header."""
    place = rng.choice((12, 16, 24, 32))
    value = rng.choice((0, 1, 31, 64, len(data) // 2, len(data), len(data) + 1, 2**32 - 1))
    return data[:place] + struct.pack("<I", value) + data[place + 4 :], f"header at {place} := {value}"


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A file like `data` with a few things wrong, and what they are."""
    return tflite.several(data, rng, lambda: _header if rng.random() < 0.03 else rng.choice(tflite.MUTATIONS))
