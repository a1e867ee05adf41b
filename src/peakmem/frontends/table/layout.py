"""In which order a table writes its images: height x width x channels, as papers do, or channels first.

Only what the rows prove counts; where they prove nothing the reader is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from peakmem.errors import FormatError
from peakmem.frontends.table.parts import Image
from peakmem.frontends.table.said import Said

LAYOUTS = ("hwc", "chw")


def layout_of(rows: Sequence[Said], told: str, where: str) -> tuple[str, str]:
    """("hwc" or "chw", a note on why).

    Raises:
        FormatError: a layout of another name, or rows that do not tell.
    """
    chosen = {"nhwc": "hwc", "nchw": "chw"}.get(told.lower(), told.lower())
    if chosen:
        if chosen not in LAYOUTS:
            raise FormatError(f"layout is {told[:40]!r}", where=where, expected="hwc or chw")
        return chosen, f"images are written {_long(chosen)}, as the file says"
    votes = dict.fromkeys(LAYOUTS, 0)
    for vote in _proofs(rows):
        votes[vote] += 1
    if votes["hwc"] == votes["chw"] == 0:
        for vote in _hints(rows):
            votes[vote] += 1
    if votes["hwc"] == votes["chw"]:
        open_shapes = [image for row in rows for image in _images(row) if len(set(image)) > 1]
        if not open_shapes:
            return "hwc", ""
        shown = "x".join(map(str, open_shapes[0]))
        raise FormatError(
            f"whether {shown} is height x width x channels or channels first cannot be told",
            where=where, hint="a line `layout: hwc` or `layout: chw` above the table",
        )  # fmt: skip
    best = max(LAYOUTS, key=votes.__getitem__)
    against = sum(votes.values()) - votes[best]
    doubt = f", {against} the other" if against else ""
    return best, f"images are written {_long(best)} (shown by {votes[best]} of them{doubt})"


def _long(layout: str) -> str:
    return "height x width x channels" if layout == "hwc" else "channels x height x width"


def _images(row: Said) -> Iterator[Image]:
    for printed in (row.phrase.input, row.phrase.output):
        if len(printed) in (3, 4):
            yield printed[-3:]


def _proofs(rows: Sequence[Said]) -> Iterator[str]:
    """One vote for each image whose channels the row tells by its kernel or its columns."""
    for row in rows:
        spoken = row.phrase
        pairs = [(spoken.input, _inside(row)), (spoken.output, _outside(row))]
        for printed, channels in pairs:
            if channels is None or len(printed) not in (3, 4):
                continue
            first, last = printed[-3], printed[-1]
            if first != last and channels in (first, last):
                yield "chw" if channels == first else "hwc"


def _inside(row: Said) -> int | None:
    kernel, ops = row.phrase.kernel, row.phrase.ops
    if row.in_channels is not None:
        return row.in_channels
    if ops[:1] == ("dw",) and len(kernel) == 3:
        return kernel[2]
    if ops[:1] in (("conv",), ("pw",)) and len(kernel) == 4 and not row.phrase.group:
        return kernel[2]
    return None


def _outside(row: Said) -> int | None:
    kernel, ops = row.phrase.kernel, row.phrase.ops
    if ops[:1] in (("conv",), ("pw",)):
        return kernel[3] if len(kernel) == 4 else kernel[2] if len(kernel) == 3 else row.phrase.channels
    return None


def _hints(rows: Sequence[Said]) -> Iterator[str]:
    """One vote for each image of which exactly two neighbouring sizes are equal: those are height and width."""
    for row in rows:
        for first, second, third in _images(row):
            if first == second != third:
                yield "hwc"
            elif second == third != first:
                yield "chw"
