"""The most that a session holds while it is made, step by step over the weights.

What happens to a weight of n bytes, from the event lists of 1.31.1 (ResNet18, MobileNetV2, VGG16; one thread):

1. protobuf reads it into a string of n + 1. More than 50,000,000 bytes are not believed: the string starts with
   50,000,001 and doubles (protobuf, ParseContext::ReadStringFallback and kSafeStringSize), the old one freed after
   the copy. The reader has a buffer of 4 MiB meanwhile (onnxruntime/core/graph/model.cc, FileInputStream).
2. In the file's order each becomes a tensor of n, then its string is freed.
3. A weight that a fusion changes: a copy, a string and the new tensor; the originals go at the level's end.
4. A weight reordered into blocks: a copy, the reordered one, a string and the new tensor; the originals likewise.
5. A packed weight, then its original is freed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peakmem.engines.onnxruntime.arena import Arena
from peakmem.engines.onnxruntime.network import Growth
from peakmem.engines.onnxruntime.prepack import Packed

BELIEVED = 50_000_000
# kSafeStringSize: bytes of a string that are reserved before any of them was read
READ_BUFFER = 4 << 20
# DEFAULT_PROTOBUF_BLOCK_SIZE
LIST_HEADER = 8
# bytes of a RepeatedField before its elements


@dataclass(frozen=True, slots=True)
class Top:
    """The highest point of making a session."""

    nbytes: int
    # all of it
    standing: int
    # weights as they stand, strings or tensors
    where: str
    objects: int = 0
    # structures at that time


def string_steps(nbytes: int) -> list[int]:
    """Sizes that a string of a field takes, one after the other."""
    if nbytes <= BELIEVED:
        return [nbytes + 1]
    steps = [BELIEVED + 1]
    while steps[-1] - 1 < nbytes:
        steps.append((steps[-1] - 1) * 2 + 1)
    return steps


def list_steps(begin: int, end: int, width: int = 1) -> list[int]:
    """Sizes that a list of numbers takes, read block by block: at least doubled where a block ends within it.

    protobuf, ParseContext::ReadPackedFixed and RepeatedField::Grow; blocks are those of the reader.

    Args:
        begin: where its numbers begin in the file.
        end: where they end.
        width: bytes in memory for one in the file: numbers of 32 and 64 bits are written shorter.
    """
    steps: list[int] = []
    place = begin
    while place < end:
        place = min(end, (place // READ_BUFFER + 1) * READ_BUFFER)
        needed = (place - begin) * width + LIST_HEADER
        if not steps or needed > steps[-1]:
            steps.append(max(needed, 2 * steps[-1]) if steps else needed)
    return steps or [LIST_HEADER]


def top(
    stored: Sequence[tuple[int, Sequence[int]]],
    grown: Sequence[Growth],
    kept: int,
    packed: Sequence[Packed],
    planned: int,
    whole: int = 0,
    buffer: int = READ_BUFFER,
    early: int = 0,
    objects: int = 0,
    made: Sequence[tuple[int, int]] = (),
    arena: Arena | None = None,
    unmade: int = 0,
) -> Top:
    """The highest point.

    Args:
        stored: of each weight in the file, in its order and without those in other files: bytes, and the sizes that
            its content takes one after the other while it is read.
        grown: copies made while the graph is rewritten.
        kept: bytes of all weights on the heap after it.
        packed: what the kernels pack.
        planned: bytes of a block that all weights are copied into, 0 for none.
        whole: bytes of the file where it is handed over as bytes; it is copied once for the time of parsing, and no
            string is doubled, since all of its bytes are there.
        buffer: of the reader, the whole file where it is smaller than READ_BUFFER.
        early: structures while the file is parsed.
        objects: structures from then on.
        made: (bytes of the inputs, of the results) of nodes that are computed; inputs are copied, results stay until
            the level ends.
        arena: takes the packed weights that ask it, and stays as they leave it.
        unmade: of the structures, what kernels bring after the weights became tensors.
    """
    tops: list[Top] = []
    live = 2 * whole
    if whole:
        buffer = 0
    sizes = []
    for nbytes, growing in stored:
        steps = [nbytes + 1] if whole else list(growing)
        for before, after in zip([0, *steps], steps, strict=False):
            tops.append(Top(live + before + after + buffer + early, live, "parsing", early))
        live += steps[-1]
        sizes.append(steps[-1])
    live -= whole
    for (nbytes, _), string in zip(stored, sizes, strict=True):
        tops.append(Top(live + nbytes + objects - unmade, live, "weights become tensors", objects - unmade))
        live += nbytes - string
    computed = live
    for inputs, results in made:
        tops.append(Top(computed + inputs + 2 * results + objects, live, "computing constants", objects))
        computed += results
    for level, copies in (("basic", 3), ("layout", 4)):
        for growth in (growth for growth in grown if growth.level == level):
            among = growth.before_bytes + (copies - 1) * growth.after_bytes + 1
            where = f"{'fusing' if level == 'basic' else 'blocks of'} {growth.what}"
            tops.append(Top(live + among + objects, live, where, objects))
            live += growth.after_bytes
        if level == "basic" and any(growth.level == "basic" for growth in grown):
            live -= sum(growth.before_bytes for growth in grown if growth.level == "basic" and not growth.outside)
    live = whole + kept
    if planned:
        tops.append(Top(live + planned + objects, live, "weights into one block", objects))
        live += planned
    for weight in packed:
        scratch = weight.scratch
        own = weight.after_bytes
        if arena is not None:
            if weight.in_arena:
                arena.request(weight.after_bytes)
                own = 0
            if weight.scratch_in_arena:
                arena.free(arena.request(scratch))
                scratch = 0
        pooled = arena.extended_bytes + arena.handle_bytes if arena is not None else 0
        tops.append(Top(live + own + scratch + pooled + objects, live, f"packing {weight.name}", objects))
        live += own - (weight.before_bytes if weight.freed else 0)
    return max(tops, key=lambda one: one.nbytes, default=Top(buffer + objects, 0, "parsing", objects))
