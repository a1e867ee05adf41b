"""Small ncnn networks, one layer each, as text: what the tests and the fuzz seeds are made of.

Nothing here knows an expected shape: ncnn itself says it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One layer on inputs of given shapes."""

    op_type: str
    params: str
    inputs: tuple[Shape, ...]
    tops: int = 1

    @property
    def id(self) -> str:
        shown = ",".join("x".join(map(str, shape)) for shape in self.inputs)
        return f"{self.op_type}[{self.params.replace(' ', '_')}]{shown}"

    def text(self) -> str:
        """The param file: Input layers with their sizes, then the layer."""
        lines = [input_line(f"in{at}", shape) for at, shape in enumerate(self.inputs)]
        bottoms = " ".join(f"in{at}" for at in range(len(self.inputs)))
        tops = " ".join(f"out{at}" for at in range(self.tops))
        lines.append(f"{self.op_type} layer {len(self.inputs)} {self.tops} {bottoms} {tops} {self.params}")
        return param_file(lines, len(self.inputs) + self.tops)


def input_line(name: str, shape: Shape) -> str:
    """An Input layer with the sizes of `shape`, outermost axis first."""
    numbers = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}[len(shape)]
    sizes = " ".join(f"{number}={size}" for number, size in zip(numbers, shape, strict=True))
    return f"Input {name} 0 1 {name} {sizes}"


def param_file(lines: Sequence[str], blobs: int) -> str:
    """A text param file of these layers."""
    return "\n".join(["7767517", f"{len(lines)} {blobs}", *lines, ""])


VECTOR, MATRIX, IMAGE, VOLUME = (24,), (6, 8), (4, 10, 12), (4, 5, 6, 8)


SAME_SHAPE: Mapping[str, tuple[str, ...]] = {
    "AbsVal": ("",), "BNLL": ("",), "CELU": ("0=0.5",), "Clip": ("0=0.0 1=6.0",), "CumulativeSum": ("0=0", "0=-1"),
    "DeepCopy": ("",), "Dropout": ("", "0=0.5"), "ELU": ("",), "Erf": ("",), "Exp": ("",), "GELU": ("0=1",),
    "HardSigmoid": ("",), "HardSwish": ("",), "Log": ("",), "Mish": ("",), "Noop": ("",), "Power": ("0=2.0",),
    "ReLU": ("", "0=0.1"), "SELU": ("",), "Shrink": ("",), "Sigmoid": ("",), "Softmax": ("0=0 1=1", "0=-1 1=1"),
    "Softplus": ("",), "Split": ("",), "Swish": ("",), "TanH": ("",), "Threshold": ("0=0.5",),
    "UnaryOp": ("0=0", "0=7"),
}  # fmt: skip

NAMED: Mapping[str, Shape] = {"V": VECTOR, "M": MATRIX, "I": IMAGE, "D": VOLUME}
TABLE = Path(__file__).with_name("ncnn_layers.txt")


def _shape(word: str) -> Shape:
    return NAMED.get(word) or tuple(int(size) for size in word.split("x"))


def _read(row: str) -> Case:
    op_type, params, shapes, *tops = (cell.strip() for cell in row.split("|"))
    return Case(op_type, params, tuple(_shape(word) for word in shapes.split()), int(tops[0]) if tops else 1)


CASES: list[Case] = [
    *[
        Case(name, params, (shape,))
        for name, forms in SAME_SHAPE.items()
        for params in forms
        for shape in NAMED.values()
    ],
    *[_read(row) for row in TABLE.read_text().splitlines() if row and not row.startswith("#")],
]


def write(folder: Path, text: str, name: str = "net.param") -> Path:
    """A param file in `folder`."""
    path = folder / name
    path.write_text(text)
    return path


def binary(text: str, types: Sequence[str], reals: Collection[tuple[str, int]] = ()) -> bytes:
    """A text param file of this module's cases as ncnn's binary form, written from its description.

    Args:
        types: the layer types by number.
        reals: (layer type, parameter) of numbers that are floating though no point shows it.
    """
    rows = [row for row in text.splitlines()[1:] if row.strip()]
    layers, blobs = (int(word) for word in rows[0].split())
    numbers: dict[str, int] = {}
    out = [7767517, layers, blobs]
    words = bytearray(struct.pack("<3i", *out))

    def blob(name: str) -> int:
        return numbers.setdefault(name, len(numbers))

    for row in rows[1:]:
        op_type, _, bottoms, tops, *rest = row.split()
        many = int(bottoms) + int(tops)
        words += struct.pack(f"<{3 + many}i", types.index(op_type), int(bottoms), int(tops), *map(blob, rest[:many]))
        for param in rest[many:]:
            key, _, value = param.partition("=")
            number = int(key)
            if number <= -23300:
                items = value.split(",")[1:]
                words += struct.pack("<2i", number, len(items))
                words += b"".join(_packed(item, real=(op_type, -23300 - number) in reals) for item in items)
            elif value.startswith('"'):
                data = value.strip('"').encode()
                words += struct.pack("<2i", -23400 - number, len(data)) + data.ljust((len(data) + 3) // 4 * 4, b"\0")
            else:
                words += struct.pack("<i", number) + _packed(value, real=(op_type, number) in reals)
        words += struct.pack("<i", -233)
    return bytes(words)


def _packed(word: str, *, real: bool) -> bytes:
    return struct.pack("<f", float(word)) if real or "." in word or "e" in word else struct.pack("<i", int(word))
