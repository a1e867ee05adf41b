"""The cells of a table that claim a number: what is printed, and everything the column may mean.

A meaning is a quantity (which bytes or elements of a layer), a dtype and a unit. Which one holds is
decided in `claims`; nothing is judged here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from peakmem.conventions import CONVENTIONS
from peakmem.dtypes import FLOAT16, FLOAT32, INT8, DType
from peakmem.errors import GraphError
from peakmem.frontends.table.parts import WEIGHTED, Part, trial
from peakmem.frontends.table.words import plain
from peakmem.layers import Layer, layers
from peakmem.units import readings

DTYPES: tuple[DType, ...] = (FLOAT32, FLOAT16, INT8)
# those that tables are counted in
SIZES: tuple[tuple[str, int], ...] = tuple(
    reading for unit in ("B", "kB", "KiB", "MB", "MiB", "GB", "GiB") for reading in readings(unit)
)
COUNTS: tuple[tuple[str, int], ...] = (("", 1), ("K", 10**3), ("M", 10**6), ("G", 10**9))
# units of things that are counted, as parameters are


@dataclass(frozen=True, slots=True)
class Cell:
    """A printed number, held exactly: `number` in steps of its last digit."""

    row: int
    # position among the rows
    column: int
    text: str
    number: int
    places: int
    # behind the point
    unit: str
    # as printed in the cell, empty for none
    step: int = 1
    # what the last digit that counts is worth, in last digits

    @property
    def digits(self) -> int:
        """Significant digits."""
        return max(len(str(self.number // self.step)), 1)

    def bytes_printed(self, factor: int) -> Fraction:
        """The number in bytes or elements, in units of `factor`."""
        return Fraction(self.number * factor, 10**self.places)

    def rounding(self, factor: int) -> Fraction:
        """Half a step of the last digit, in bytes or elements."""
        return Fraction(self.step * factor, 2 * 10**self.places)


_NUMBER = re.compile(r"(?P<number>\d[\d,_ ']*(?:\.\d+)?)\s*(?P<unit>[a-z][a-z ]*)?$")
_ABOUT = re.compile(r"^(about|around|approx\.?|roughly|ca\.?|circa|~|≈|\u223c|=|\s)+")
_NOUNS = re.compile(r"\b(params?|parameters?|elements?|weights|values|floats|of|illion)\b")


def cell(row: int, column: int, text: str) -> Cell | None:
    """The number that a cell prints; None when it is not one number."""
    said = _ABOUT.sub("", plain(text).rpartition("=")[2].strip())
    said = said.replace("million", "m").replace("thousand", "k").replace("billion", "g")
    match = _NUMBER.fullmatch(_NOUNS.sub("", said).strip())
    if match is None:
        return None
    number = re.sub(r"[,_' ]", "", match.group("number"))
    if len(number) > 30:
        return None
    places = len(number.partition(".")[2])
    unit = " ".join((match.group("unit") or "").split())
    if unit and not readings(unit):
        return None
    return Cell(row, column, text, int(number.replace(".", "")), places, unit)


def is_true(printed: Cell, value: int, factor: int) -> bool:
    """Whether `value`, in units of `factor`, rounds to the printed digits; a tie may round either way."""
    scale: int = 10**printed.places
    return 2 * abs(value * scale - printed.number * factor) <= printed.step * factor


def is_cut(printed: Cell, value: int, factor: int) -> bool:
    """Whether the printed digits are those of `value` with the rest cut off."""
    scale: int = 10**printed.places
    return 0 <= value * scale - printed.number * factor < printed.step * factor


def filled(printed: Cell) -> Cell | None:
    """The number with the zeros at its end taken for padding, as in 800K for 802,816; None where it has none."""
    digits = str(printed.number)
    zeros = len(digits) - len(digits.rstrip("0"))
    return replace(printed, step=10**zeros) if zeros and printed.number and not printed.places else None


# -- quantities --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quantity:
    """Which elements of a layer a number counts."""

    name: str
    # of the convention in the registry, or a name of its own
    title: str
    terms: frozenset[str]
    counted: bool = False
    # elements rather than bytes
    factor: int = 1


def _registry() -> dict[str, Quantity]:
    """The conventions that count layer by layer, each rule once."""
    found: dict[str, Quantity] = {}
    seen = set()
    for rule in CONVENTIONS.values():
        if rule.per_layer is not None and rule.per_layer not in seen:
            seen.add(rule.per_layer)
            found[rule.name] = Quantity(rule.name, rule.row_formula, frozenset(rule.row_formula.split(" + ")))
    return found


_OWN = (
    Quantity("input", "input", frozenset({"input"})),
    Quantity("kernel", "kernel", frozenset({"kernel"})),
    Quantity("kernel_bias", "kernel + bias", frozenset({"kernel", "bias"})),
    Quantity("kernel_norm", "kernel + batch norm's scale and shift", frozenset({"kernel", "norm"})),
    Quantity(
        "kernel_norm_statistics", "kernel + batch norm with statistics", frozenset({"kernel", "norm", "statistics"})
    ),
    Quantity("kernel_bias_norm", "kernel + bias + batch norm's scale and shift", frozenset({"kernel", "bias", "norm"})),
    Quantity("kernel_trained", "kernel; of norms scale and shift", frozenset({"kernel", "trained"})),
    Quantity(
        "kernel_bias_trained", "kernel + bias; of norms scale and shift", frozenset({"kernel", "bias", "trained"})
    ),
    Quantity("in_out_kernel_bias", "input + output + kernel + bias", frozenset({"input", "output", "kernel", "bias"})),
    Quantity("output_kernel", "output + kernel", frozenset({"output", "kernel"})),
    Quantity("output_kernel_bias", "output + kernel + bias", frozenset({"output", "kernel", "bias"})),
    Quantity("input_kernel", "input + kernel", frozenset({"input", "kernel"})),
    Quantity("output_twice", "output counted twice, as torchsummary does", frozenset({"output"}), factor=2),
)
_RANKED = ("layer_in_out_weights", "layer_in_out", "sum_outputs")
MEMORY: tuple[Quantity, ...] = (
    *sorted(_registry().values(), key=lambda item: _RANKED.index(item.name) if item.name in _RANKED else len(_RANKED)),
    *_OWN,
)
STORED = tuple(item for item in MEMORY if not item.terms & {"input", "output"})
PARAMETERS = tuple(replace(item, counted=True) for item in STORED)


@lru_cache(maxsize=50_000)
def facts(parts: tuple[Part, ...], dtype: DType) -> Layer | None:
    """A row as one layer: its first input, its last output, all that it stores; None when it cannot be."""
    try:
        rows = layers(trial(parts, dtype))
    except GraphError:
        return None
    weighted = next((row.weighted for row in rows if row.weighted), "")
    return replace(
        rows[-1],
        input_bytes=rows[0].input_bytes,
        weight_bytes=sum(row.weight_bytes for row in rows),
        parameter_bytes=sum(row.parameter_bytes for row in rows),
        parameters=sum(row.parameters for row in rows),
        weighted=weighted,
    )


def amount(quantity: Quantity, parts: tuple[Part, ...], dtype: DType, batch: int = 1) -> int | None:
    """The exact bytes or elements of a row; images times `batch`. Rows a convention leaves out count like others."""
    layer = facts(parts, INT8 if quantity.counted else dtype)
    if layer is None:
        return None
    if batch > 1:
        layer = replace(layer, input_bytes=layer.input_bytes * batch, output_bytes=layer.output_bytes * batch)
    rule = CONVENTIONS.get(quantity.name)
    if rule is not None and rule.per_layer is not None:
        return rule.per_layer(replace(layer, weighted=layer.weighted or "conv"))
    counted = INT8 if quantity.counted else dtype  # at int8 a byte is an element
    total = sum(
        nbytes
        for term, nbytes in (
            ("input", layer.input_bytes), ("output", layer.output_bytes), ("kernel", layer.weight_bytes),
        )
        if term in quantity.terms
    )  # fmt: skip
    if "kernel" in quantity.terms:
        own = sum(part.image[0] for part in parts if part.op == "BatchNormalization")
        total += counted.nbytes((2 if "trained" in quantity.terms else 4) * own) or 0
    if "bias" in quantity.terms:
        total += counted.nbytes(sum(part.channels for part in parts if part.op in WEIGHTED)) or 0
    convolved = sum(part.channels for part in parts if part.op in ("Conv", "ConvTranspose"))
    for term in ("norm", "statistics"):
        if term in quantity.terms:
            total += counted.nbytes(2 * convolved) or 0
    return total * quantity.factor


# -- what a header says ------------------------------------------------------------------

_UNIT = re.compile(r"(?<![a-z])(bytes?|[kmg]i?b(?:ytes?)?|[kmg](?: ?bytes?)?)(?![a-z])")
_TERMS: tuple[tuple[str, str], ...] = (
    (r"\b(in|input|inputs|ifm)\b", "input"),
    (r"\b(out|output|outputs|ofm)\b", "output"),
    (r"\b(weights?|params?|parameters?|kernels?|filters?)\b", "kernel"),
    (r"\bbias(es)?\b", "bias"),
)


def header_unit(header: str) -> str:
    """The unit that a header names; empty without one."""
    found = _UNIT.search(plain(header))
    return found.group(1) if found else ""


def stated(header: str, role: str) -> tuple[Quantity, ...]:
    """The quantities a column may be after its header; all of its kind where the header does not tell."""
    text = plain(header)
    terms = {name for pattern, name in _TERMS if re.search(pattern, text)}
    unit = header_unit(header)
    if role == "parameters":
        return STORED if unit and "b" in unit else PARAMETERS
    if terms:
        exact = tuple(
            item for item in MEMORY if item.terms - {"bias", "norm", "statistics", "trained"} == terms - {"bias"}
        )
        exact = tuple(item for item in exact if "bias" not in terms or "bias" in item.terms)
        return exact or MEMORY
    if re.search(r"activation|feature.?map", text):
        return tuple(item for item in MEMORY if item.terms <= {"input", "output"})
    return MEMORY


def units(unit: str, *, counted: bool) -> tuple[tuple[str, int], ...]:
    """What a printed unit may mean, the literal meaning first; () where it is no unit of that kind."""
    if counted:
        found = {"": COUNTS[0], "k": COUNTS[1], "m": COUNTS[2], "b": COUNTS[3], "g": COUNTS[3]}.get(unit.lower())
        return (found,) if found else ()
    return readings(unit) if unit else ()
