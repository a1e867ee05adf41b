"""Bytes of the model file that has to lie on the device: as it is, as it would be written, or its weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peakmem.errors import PeakmemError, UsageError
from peakmem.filesize.predict import file_size, format_called
from peakmem.fitting.need import Need
from peakmem.fitting.parts import part
from peakmem.fitting.place import Room
from peakmem.fitting.question import Question
from peakmem.report.fit import Part

WEIGHTS = "weights"
# as a format: the stored tensors and nothing around them
USUAL = {"mcu": "tflite", "accelerator": "tflite"}
# format of the file on a kind of device, where nobody says another; elsewhere onnx
OF_WEIGHTS = "safetensors"
# for sources that hold weights and no operators


@dataclass(frozen=True, slots=True)
class Stored:
    """A model file in bytes."""

    nbytes: int
    convention: str
    shares: tuple[tuple[str, int], ...]
    # adds up to nbytes
    sure: bool = True
    # false where something has no known size
    bound_bytes: int | None = None
    # that are not exceeded; None for nbytes itself
    kind: str = "exact"


def file_of(question: Question, need: Need, kind: str) -> Stored:
    """The file that `question` is about, on a device of that kind.

    Raises:
        UsageError: a format that is not known, or that cannot hold the dtype.
    """
    dtype = question.weights or question.dtype
    if question.file == WEIGHTS:
        return _weights(need, dtype)
    if not question.file and need.file_bytes is not None and need.file_bytes >= need.weights_bytes:
        rest = need.file_bytes - need.weights_bytes
        shares: tuple[tuple[str, int], ...] = (("weights", need.weights_bytes), ("around them", rest))
        return Stored(need.file_bytes, "the model file as it is", shares)
    usual = USUAL.get(kind, "onnx") if need.activations_known else OF_WEIGHTS
    try:
        found = file_size(
            need.graph, question.file or usual, dtype or None, batch=None if need.graph.bound else question.batch,
            shapes=dict(question.shapes), dims=dict(question.dims),
        )  # fmt: skip
    except PeakmemError:
        if question.file:
            raise
        return _weights(need, dtype)
    title = format_called(found.format).title
    norms = ", batch norms folded" if found.folded and found.batch_norms else ""
    shares = tuple((one.name, one.nbytes) for one in found.parts)
    said = f"{title} file{f' in {dtype}' if dtype else ''}{norms}, as it would be written"
    return Stored(found.nbytes, said, shares, not _unsized(need), found.high_bytes, found.kind)


def known_format(name: str) -> None:
    """Refuse a format of which no size is known.

    Raises:
        UsageError: it is none.
    """
    if name and name != WEIGHTS:
        try:
            format_called(name)
        except UsageError as fault:
            hint = fault.hint.replace("--format", "--file")
            raise UsageError(fault.what, expected=f"{fault.expected}, {WEIGHTS}", hint=hint) from fault


def file_part(room: Room, stored: Stored, devices: int, program_bytes: int) -> Part:
    """Storage that holds the file, or its share of one that is split over `devices`, beside the program."""
    shares = stored.shares
    convention = stored.convention
    bound = stored.nbytes if stored.bound_bytes is None else stored.bound_bytes
    if devices > 1:
        convention = f"{convention}, split over {devices} devices"
        shares, bound = ((f"a share of 1/{devices}", -(-stored.nbytes // devices)),), -(-bound // devices)
    if program_bytes:
        convention += " + program"
        shares = (*shares, ("program", program_bytes))
    return part(room, bound + program_bytes, convention, shares, sure=stored.sure, kind=stored.kind)


def delivered(model: str, engine: str, weights_bytes: int | None) -> Stored:
    """The file that an engine is given, with the one of its weights beside it."""
    path = Path(model)
    names = [path, path.with_suffix(".bin")] if path.suffix in (".param", ".xml") else [path]
    if path.suffix == ".py" or not all(one.is_file() for one in names):
        nbytes = weights_bytes or 0
        return Stored(nbytes, "weights as stored", (("weights", nbytes),), weights_bytes is not None)
    shares = tuple((f"{one.suffix[1:]} file", one.stat().st_size) for one in names)
    return Stored(sum(nbytes for _, nbytes in shares), f"model file that {engine} reads", shares)


def _weights(need: Need, dtype: str) -> Stored:
    convention = f"weights counted in {dtype}, with their scales" if dtype else "weights as stored"
    return Stored(need.weights_bytes, convention, (("weights", need.weights_bytes),), not _unsized(need))


def _unsized(need: Need) -> bool:
    return any("no fixed width" in text for text in need.unknowns)
