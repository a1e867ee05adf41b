"""What LiteRT's compiled model holds beside the interpreter in it: tables of the model, buffers of inputs and outputs.

From litert/core/model of LiteRT f674577 (2026-08-21), and measured with ai-edge-litert 2.3.0. The interpreter has the
delegate's parts from the start and the rest from the first run on; inputs and outputs lie in buffers and not in its
arena. Kernels that are named "reference" are the built-in ones there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from peakmem.engines.litert.model import Part
from peakmem.engines.litert.objects import PARSED, SHORT, grown
from peakmem.engines.prediction import Holding
from peakmem.engines.xnnpack import Held

FIXED = 11_500
# the environment's lists, the compiled model, an interpreter
RESOLVER, DELEGATING = 56_000, 7_000
# the list of kernels, until the interpreter is there; what is beside a part while a delegate makes it: measured
TENSOR, OPERATOR, BUFFER = 288, 176, 96
# LiteRtTensorT, LiteRtOpT, and what is noted of constants
HANDLE = 1172
# of a buffer of an input or output, with the caller's objects
ENTRY = 240
# of packed weights in the cache's lists: measured
LATE_TENSOR, LATE_OPERATOR = 80, 300
# what the first run makes for each tensor, and for each operator that no delegate takes: measured


def tables(part: Part) -> int:
    """LiteRtModelT: every tensor and operator with its name, users and options."""
    held = (TENSOR * len(part.tensors)) + grown(len(part.tensors), 8)
    held += OPERATOR * len(part.calls) + grown(len(part.calls), 8)
    held += sum(len(one.name) + 1 for one in part.tensors if len(one.name) > SHORT)
    held += grown(sum(one.stored for one in part.tensors), BUFFER)
    users = Counter(at for one in part.calls for at in one.inputs if at >= 0)
    held += sum(2 * grown(count, 8) for count in users.values())
    for one in part.calls:
        held += grown(len(one.inputs), 8) + grown(len(one.outputs), 8) + PARSED.get(one.op_type, 0)
    return held


def late(part: Part, left: int) -> int:
    """Objects that are there from the first run on; `left`: operators that no delegate takes."""
    return LATE_TENSOR * len(part.tensors) + LATE_OPERATOR * left


def making(created: int, creating: int) -> int:
    """Bytes beside what stays, while the model is made: before the delegate's parts are there, or with the largest."""
    return max(RESOLVER - created, DELEGATING + creating if created else 0)


def uncached(held: Held) -> Held:
    """A part whose packed weights lie in a file."""
    return replace(held, created=tuple(one for one in held.created if one.category != "repacked weights"))


def builder(packs: Collection[tuple[object, ...]]) -> tuple[Holding, ...]:
    """What the cache keeps: room for the largest packed weights, and its list."""
    sizes = [key[-1] for key in packs if isinstance(key[-1], int)]
    if not sizes:
        return ()
    return (
        Holding("workspace", max(sizes), "room in which weights are packed for the cache"),
        Holding("objects", ENTRY * len(sizes), "list of the cache"),
    )


def buffers(sizes: list[int]) -> tuple[Holding, ...]:
    """Of inputs and outputs."""
    return (
        Holding("activations", sum(sizes), "buffers of inputs and outputs"),
        Holding("objects", HANDLE * len(sizes), "handles of buffers"),
    )
