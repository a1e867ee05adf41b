"""Readers of model files, one format a file, found by what the file is rather than its name.

`read` gives an unbound Graph: nothing is executed, no weight is loaded. A front end knows one
format and nothing of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from peakmem.errors import FormatError
from peakmem.ir.graph import Graph

HEAD = 64
# bytes looked at to recognise a format


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """One file format: how to recognise it and how to read it."""

    name: str
    title: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Graph]


def _read_onnx(path: Path) -> Graph:
    from peakmem.frontends.onnx import read_onnx

    return read_onnx(path)


FRONT_ENDS: Mapping[str, FrontEnd] = {
    "onnx": FrontEnd("onnx", "ONNX", (".onnx",), _read_onnx),
}

# Formats that are recognised only to say what they are: bytes at an offset, name, what to do.
_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (
    (4, b"TFL3", "a TensorFlow Lite model", "convert it to ONNX with tf2onnx --tflite"),
    (0, b"7767517", "an ncnn .param file", "give the ONNX file it was made from"),
    (0, b"GGUF", "a GGUF file", "give the ONNX file of the network"),
    (0, b"PK\x03\x04", "a zip archive (a PyTorch, Keras or NumPy file)", "export the model to ONNX first"),
    (0, b"\x89HDF", "an HDF5 file (a Keras model)", "export the model to ONNX first"),
    (0, b"\x80\x02", "a Python pickle", "export the model to ONNX; pickles are never loaded"),
    (0, b"\x80\x04", "a Python pickle", "export the model to ONNX; pickles are never loaded"),
    (0, b"ORTM", "an ONNX Runtime .ort file", "give the .onnx file it was made from"),
    (4, b"ORTM", "an ONNX Runtime .ort file", "give the .onnx file it was made from"),
)


def read(path: Path) -> Graph:
    """The unbound graph of the model file at `path`.

    Raises:
        FormatError: no such file, not a regular file, or no format peakmem reads.
        GraphError: the file describes a network that contradicts itself.
    """
    where = str(path)
    try:
        mode = path.stat().st_mode
        if S_ISDIR(mode):
            raise FormatError("this is a folder", where=where, expected="a model file such as model.onnx")
        if not S_ISREG(mode):
            # A pipe or a device may have no end; it is not even opened.
            raise FormatError("this is not a regular file", where=where, expected="a model file such as model.onnx")
        with path.open("rb") as file:
            head = file.read(HEAD)
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError("there is no such file", where=where, expected="a model file or a built-in network") from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise FormatError(f"cannot be read ({reason})", where=where) from fault
    for offset, magic, title, advice in _FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            raise FormatError(f"this is {title}, which is not read yet", where=where, hint=advice)
    return FRONT_ENDS["onnx"].read(path)
