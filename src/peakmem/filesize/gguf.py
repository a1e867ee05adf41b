"""GGUF: header, key-value pairs, one line for each tensor, data with each tensor at a multiple of 32.

Version 3 as in ggml's docs/gguf.md and the writer of gguf-py 0.19. Which pairs a converter writes (the tokeniser
alone can be megabytes) is its own business; here is what `GGUFWriter(path, ARCHITECTURE)` writes with no pair added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from peakmem.dtypes import BLOCK_DTYPES, DType
from peakmem.errors import UsageError
from peakmem.filesize.bits import padding
from peakmem.filesize.content import Stored
from peakmem.filesize.sheet import Sheet

MAGIC = 4 + 4 + 8 + 8
# "GGUF", version, number of tensors, number of pairs
ALIGNMENT = 32
# general.alignment where no pair says otherwise
LONGEST_NAME = 63
NAMES = frozenset({"float32", "float16", "bfloat16", "float64", "int8", "int16", "int32", "int64"})
# dtypes ggml has beside its block formats
ARCHITECTURE = "peakmem"


def sheet(stored: Sequence[Stored], pairs: Mapping[str, str] | None = None) -> Sheet:
    """The file with `stored` and texts as pairs, general.architecture alone by default.

    Raises:
        UsageError: a dtype or a name that the format cannot have.
    """
    texts = {"general.architecture": ARCHITECTURE} if pairs is None else dict(pairs)
    header = MAGIC + sum(8 + len(name.encode()) + 4 + 8 + len(value.encode()) for name, value in texts.items())
    lines = gaps = 0
    for one in stored:
        if not writable(one.dtype):
            raise UsageError(
                f"GGUF has no tensors of {one.dtype}", where=one.name,
                expected=", ".join(sorted({*NAMES, *BLOCK_DTYPES})), hint="--dtype q8_0",
            )  # fmt: skip
        lines += 8 + len(one.name.encode()) + 4 + 8 * max(len(one.shape), 1) + 4 + 8
        gaps += padding(one.nbytes, ALIGNMENT)
    gaps += padding(header + lines, ALIGNMENT)
    long = [one.name for one in stored if len(one.name.encode()) > LONGEST_NAME]
    notes = (f"{len(long)} names are longer than the {LONGEST_NAME} bytes ggml reads",) if long else ()
    around = {"header": header, "names and shapes": lines, "padding": gaps}
    return Sheet("gguf.GGUFWriter", tuple(stored), around, notes=notes)


def writable(dtype: DType) -> bool:
    """Whether tensors can be stored at `dtype`."""
    return dtype.name in NAMES or dtype.name in BLOCK_DTYPES
