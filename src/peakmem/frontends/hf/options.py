"""What the user may choose about a network, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.dtypes import DType, parse_dtype
from peakmem.errors import UsageError
from peakmem.frontends.hf.config import LONGEST
from peakmem.frontends.hf.network import SEQUENCE
from peakmem.ir.dims import Dim


@dataclass(frozen=True, slots=True)
class Options:
    """Choices that shape the graph."""

    eager: bool = False
    # whether attention holds its scores
    library: bool = False
    # whether what the library's Python variables still refer to is held
    logits: str = "last"
    # "all" or "last": the tokens a language model's head is asked for
    context: Dim = SEQUENCE
    kv_dtype: DType | None = None
    # None: no cache is kept


def checked(attention: str, logits: str, context: str | int) -> Options:
    """Options from their texts; the dtype of the cache is decided later, by `kept`.

    Raises:
        UsageError: a text that says nothing known.
    """
    if attention not in ("fused", "sdpa", "eager"):
        raise UsageError(
            f"attention is {attention[:40]!r}", expected="fused, sdpa or eager", hint="--option attention=eager"
        )
    if logits not in ("last", "all"):
        raise UsageError(f"logits is {logits[:40]!r}", expected="last or all", hint="--option logits=all")
    room: Dim = SEQUENCE
    if isinstance(context, int):
        room = context
    elif context:
        plain = context.replace("_", "").replace(",", "")
        if not plain.isdecimal() or len(plain) > 12 or not 1 <= int(plain) <= LONGEST:
            raise UsageError(
                f"context is {context[:40]!r}", expected="a number of tokens", hint="--option context=8192"
            )
        room = int(plain)
    return Options(attention == "eager", attention != "fused", logits, room)


def kept(kv_dtype: str, weights: DType) -> DType:
    """The dtype of the cache: the one named, else that of the weights.

    Raises:
        UsageError: no dtype of that name, or one without a fixed width.
    """
    if not kv_dtype:
        return weights
    dtype = parse_dtype(kv_dtype)
    if dtype.bits is None or dtype.kind in ("bool", "complex", "string"):
        raise UsageError(f"a cache of {kv_dtype}", expected="a number format", hint="--option kv_dtype=float8e4m3fn")
    return dtype
