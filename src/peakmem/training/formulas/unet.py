"""The feature maps of the first U-Net (Ronneberger et al. 2015, 572 pixels, unpadded 3×3 convolutions), by hand."""

from __future__ import annotations

from dataclasses import dataclass

VALUE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Levels:
    """Bytes of one image's maps."""

    encoder: tuple[int, ...]
    # the last map of each level on the way down, the bottleneck last: what the skips keep
    decoder: tuple[int, ...]
    # the last map of each level on the way up
    peak_bytes: int
    # at the last concatenation: the map that comes up, the skip and both joined
    without_skips_bytes: int
    # two successive maps, the most expensive


def levels(pixels: int = 572, channels: int = 64, depth: int = 5) -> Levels:
    """Two convolutions a level, each of which takes two pixels; halved between levels, doubled on the way up."""
    size, down, pairs = pixels, [], []
    for level in range(depth):
        first, second = _map(size - 2, channels << level), _map(size - 4, channels << level)
        down.append(second)
        pairs.append(first + second)
        size = (size - 4) // 2
    up, size = [], 2 * size
    peak = 0
    for level in reversed(range(depth - 1)):
        size *= 2
        joined = _map(size, 2 * channels << level)
        peak = max(peak, joined // 2 + down[level] + joined)
        size -= 4
        up.append(_map(size, channels << level))
    return Levels(tuple(down), tuple(up), peak, max(pairs))


def _map(pixels: int, channels: int) -> int:
    return pixels * pixels * channels * VALUE_BYTES
