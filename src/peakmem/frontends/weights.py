"""Graphs of formats that store tensors and no operators, and the bytes such files are made of.

What is computed with the weights is not in the file, so the graph says that activations are
unknown and what would tell them. Nothing is read here but single headers at given places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from peakmem.dtypes import DType
from peakmem.errors import FormatError
from peakmem.frontends.names import shown
from peakmem.ir.graph import Detail, Graph, Tensor, Unknown
from peakmem.ir.validate import validate

MOST_TENSORS = 500_000
# tensors of one model; the largest published checkpoints have about 100,000
MOST_DIMENSIONS = 64
LARGEST_TENSOR = 1 << 62
# bytes; a larger one fits no address space
LONGEST_NAME = 4096
# characters

NO_OPERATORS = "the file holds weights and no operators, so activations and workspace are unknown"


def weights_graph(
    form: str,
    path: Path,
    tensors: Iterable[Tensor],
    *,
    hint: str,
    reason: str = NO_OPERATORS,
    notes: Sequence[str] = (),
    details: Sequence[Detail] = (),
) -> Graph:
    """The graph of a source that holds `tensors` alone; `hint` says what would tell the activations."""
    graph = Graph(
        name=path.name,
        tensors={tensor.name: tensor for tensor in tensors},
        operators=(),
        inputs=(),
        outputs=(),
        source=str(path),
        notes=tuple(notes),
        unknowns=(Unknown("activations", form, reason, hint),),
        format=form,
        details=tuple(details),
        weights_only=True,
    )
    validate(graph)
    return graph


def sized(name: str, shape: tuple[int, ...], dtype: DType) -> int:
    """Bytes of a stored tensor whose shape comes from a file.

    Raises:
        FormatError: a shape that no file can hold.
    """
    if len(shape) > MOST_DIMENSIONS:
        raise FormatError(f"tensor {shown(name)} has {len(shape):,} dimensions", expected=f"at most {MOST_DIMENSIONS}")
    count = 1
    for size in shape:
        count *= size
    nbytes = dtype.nbytes(count) or 0
    if any(size < 0 or size > LARGEST_TENSOR for size in shape) or nbytes > LARGEST_TENSOR:
        size_text = "x".join(map(str, shape[:8]))[:80]
        raise FormatError(f"tensor {shown(name)} of {size_text} {dtype} is larger than any address space")
    return nbytes


def beside(path: Path) -> str:
    """What to type for the activations of weights at `path`, going by whether a config.json lies there."""
    folder = path if path.is_dir() else path.parent
    if (folder / "config.json").is_file():
        return f"peakmem {folder} (a config.json lies there)"
    return "the folder with its config.json, or the network as ONNX or pt2"
