"""What may be wrong with a row: single changes to its layer under which a printed value may come true.

Changes are ordered by how often people make that slip; whether one helps is found out in `claims`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from peakmem.errors import GraphError
from peakmem.frontends.table.parts import WEIGHTED, WINDOWED, Image, Part, made
from peakmem.frontends.table.rows import Row


@dataclass(frozen=True, slots=True)
class Change:
    """Another reading of one row's layer."""

    text: str
    parts: tuple[Part, ...]
    rank: int
    # lower is likelier


def with_first(parts: tuple[Part, ...], first: Part) -> tuple[Part, ...]:
    """`parts` with another first layer; what follows it in the row takes its size. () where that cannot be."""
    changed = [first]
    try:
        for part in parts[1:]:
            if part.op in WEIGHTED or part.residual:
                return ()
            changed.append(replace(part, image=made(tuple(changed))))
        made(tuple(changed))
    except GraphError:
        return ()
    return tuple(changed)


def changes(row: Row, neighbours: Sequence[Row]) -> Iterator[Change]:
    """Everything that is tried on `row`; `neighbours` are the layers just before and after it."""
    if not row.parts:
        return
    first = row.parts[0]
    for text, other, rank in _single(first, neighbours):
        parts = with_first(row.parts, other)
        if parts and parts != row.parts:
            yield Change(text, parts, rank)
    for near in neighbours:
        if near.parts and near.parts != row.parts:
            yield Change(f"the layer of row {near.number} ({near.text[:30]}): the label or the value stands a row off",
                         near.parts, 70)  # fmt: skip


def _single(part: Part, neighbours: Sequence[Row]) -> Iterator[tuple[str, Part, int]]:
    if part.op in WINDOWED:
        for stride in (1, 2, 3, 4):
            if (stride, stride) != part.strides:
                now = part.strides[0] if len(set(part.strides)) == 1 else "x".join(map(str, part.strides))
                yield f"stride {stride} instead of {now}", replace(part, strides=(stride, stride)), 20
        for padding in ("same", "valid"):
            if padding != part.padding:
                yield f"padding {padding}", replace(part, padding=padding), 35
    if part.op == "Conv":
        yield from _kernels(part)
    if len(part.image) == 3:
        yield from _images(part)
    for channels in dict.fromkeys(_near_channels(neighbours)):
        yield from _channels(part, channels)


def _kernels(part: Part) -> Iterator[tuple[str, Part, int]]:
    inside = part.image[0]
    if part.group > 1:
        yield "a full convolution, not a depthwise or grouped one", replace(part, group=1), 30
    elif inside > 1:
        yield "a depthwise convolution, not a full one", replace(part, group=inside, channels=inside), 30
    if part.group == 1 and inside != part.channels:
        turned = replace(part, image=(part.channels, *part.image[1:]), channels=inside)
        yield f"kernel transposed, {part.channels} channels to {inside}", turned, 45
    for size in (1, 3, 5, 7):
        if (size, size) != part.window:
            now = "x".join(map(str, part.window))
            yield f"a {size}x{size} kernel instead of {now}", replace(part, window=(size, size)), 40


def _images(part: Part) -> Iterator[tuple[str, Part, int]]:
    channels, height, width = part.image
    sizes: list[Image] = [(height * 2, width * 2), (-(-height // 2), -(-width // 2)), (height // 2, width // 2)]
    stride = part.strides[0]
    if stride > 2:
        sizes += [(height * stride, width * stride), (-(-height // stride), -(-width // stride))]
    for tall, wide in dict.fromkeys(sizes):
        if tall and wide:
            said = f"input {tall}x{wide} instead of {height}x{width}, off by a stride"
            yield said, replace(part, image=(channels, tall, wide)), 42


def _near_channels(neighbours: Sequence[Row]) -> Iterator[int]:
    for near in neighbours:
        for image in (near.image, near.output):
            if image:
                yield image[0]


def _channels(part: Part, channels: int) -> Iterator[tuple[str, Part, int]]:
    inside = part.image[0]
    if part.op in WEIGHTED and part.group == 1:
        if channels != part.channels:
            yield f"{channels} channels out instead of {part.channels}", replace(part, channels=channels), 50
        if channels != inside and (len(part.image) == 3 or part.op == "Gemm"):
            yield f"{channels} channels in instead of {inside}", replace(part, image=(channels, *part.image[1:])), 50
    elif channels != inside and part.group in (1, inside):
        group = channels if part.group == inside and part.group > 1 else 1
        out = channels if part.channels == inside else part.channels
        if len(part.image) == 3:
            turned = replace(part, image=(channels, *part.image[1:]), group=group, channels=out)
            yield f"{channels} channels instead of {inside}", turned, 50


def slips(printed: str, exact: str) -> str:
    """The slip of the pen between two whole numbers of five digits and more; empty for any other difference."""
    if len(printed) != len(exact) or len(exact) < 5 or printed == exact:
        return ""
    differing = [at for at, (a, b) in enumerate(zip(printed, exact, strict=True)) if a != b]
    if len(differing) == 1:
        return f"one digit is another: {exact}"
    first, second = differing[0], differing[-1]
    if (
        len(differing) == 2
        and second == first + 1
        and printed[first] == exact[second]
        and printed[second] == exact[first]
    ):
        return f"two digits have changed places: {exact}"
    return ""
