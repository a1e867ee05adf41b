"""Damage to MNN files, which are FlatBuffers as TensorFlow Lite's files are."""

from __future__ import annotations

import random

from tests.fuzz.formats import tflite
from tests.unit.frontends import mnn_files as made

SUFFIX = ".mnn"


def seeds() -> dict[str, bytes]:
    """Small valid files."""
    chained = [
        made.given("x", 0, (6, 4)), made.const("rest", 1, (1,), (2,)), made.const("left", 2, (2,), (3, 4)),
        made.op(made.CONCAT, "wanted", (2, 1), (3,), made.AXIS, made.Table({0: ("i", 0)})),
        made.op(made.RESHAPE, "reshaped", (0, 3), (4,), made.RESHAPE_KIND, made.Table({1: ("b", 0)})),
    ]  # fmt: skip
    return {
        "network": made.network(8), "branches": made.branches(8),
        "computed shape": made.file(chained, ["x", "r", "l", "w", "y"], ["y"]),
    }  # fmt: skip


def damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A file like `data` with a few things wrong, and what they are."""
    return tflite.several(data, rng, lambda: rng.choice(tflite.MUTATIONS))
