"""The key-value cache: states that a prefill fills and later tokens read.

A cache has room for `context` tokens, in a layer with a sliding window for no more than the window.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from peakmem.dtypes import DType
from peakmem.frontends.hf.network import BATCH, DOMAIN, Network
from peakmem.ir.dims import Dim, least
from peakmem.ir.graph import Detail, Tensor


@dataclass(slots=True)
class Cache:
    """What is kept of the tokens seen so far; `dtype` None keeps nothing."""

    dtype: DType | None
    context: Dim
    entries: list[tuple[int, int, Dim]] = field(default_factory=list)
    # (heads, width, tokens) of each state
    expanded: int = 0
    # elements per token that the library itself would keep, where that differs

    def keep(self, n: Network, layer: int, name: str, new: str, window: int | None = None) -> str:
        """Write (batch, heads, tokens, width) into the cache; what attention reads from then on."""
        if self.dtype is None:
            return new
        _, heads, _, width = n.b.shape(new)
        assert isinstance(heads, int)
        assert isinstance(width, int)
        room = self.context if window is None else least(self.context, window)
        self.entries.append((heads, width, room))
        state = n.b.tensor(
            Tensor(f"cache.{layer}.{name}", (BATCH, heads, room, width), self.dtype, role="state")
        )  # fmt: skip
        written = n.b.op(
            "CacheWrite", [new, state], name=f"cache.{layer}.{name}", domain=DOMAIN, aliases=((0, 1),), window=window
        )[0]  # fmt: skip
        # With a window, or in another dtype, a prefill attends to the keys and values it has just made.
        return new if window is not None or self.dtype is not n.dtype else written

    def details(self) -> tuple[Detail, ...]:
        """The cache in figures: bytes per token, its parts, and the whole where the context is a number."""
        if self.dtype is None or not self.entries:
            return ()
        size = self.dtype
        groups: dict[tuple[int, int, Dim], int] = {}
        for entry in self.entries:
            groups[entry] = groups.get(entry, 0) + 1
        parts = [
            f"{count} tensors × {tokens} tokens × {heads} heads × {width} × {_width(size)} B"
            for (heads, width, tokens), count in groups.items()
        ]
        per_token = sum(size.nbytes(heads * width) or 0 for heads, width, _ in self.entries)
        found = [
            Detail("key-value cache", " + ".join(parts) + " for each sequence of the batch"),
            Detail("key-value cache per token", f"all layers, {size}, before any window is full", per_token),
        ]
        sized = [(heads * width, tokens) for heads, width, tokens in self.entries if isinstance(tokens, int)]
        if len(sized) == len(self.entries):
            total = sum(size.nbytes(elements * tokens) or 0 for elements, tokens in sized)
            found.append(Detail("key-value cache per sequence", f"at a context of {self.context} tokens", total))
        if self.expanded:
            text = "as transformers itself keeps it: keys and values of all heads; engines keep the latent"
            found.append(Detail("expanded cache per token", text, size.nbytes(self.expanded)))
        return tuple(found)


def _width(dtype: DType) -> str:
    bits = dtype.bits or 0
    return str(bits // 8) if bits % 8 == 0 else f"{bits / 8:g}"
