"""Functions that need no network: shapes, dtypes, printed sizes, figures that were measured."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from functools import cache
from importlib.resources import files
from typing import Any

from peakmem.dtypes import parse_dtype
from peakmem.errors import UsageError
from peakmem.ledger.amount import amounts
from peakmem.ledger.context import dims, whole
from peakmem.ledger.functions.registry import Scope, function, text, value
from peakmem.ledger.value import Item, Shape, Value, nbytes, number, plain, said

GROUP = "arithmetic"
SHOWN = "words"
MEASURED = ("measured.toml", "measured_engines.toml")


@function('elements("224x224x3")', "elements of a shape", GROUP, scoped=False)
def elements(_: Scope, shape: Item) -> Item:
    """A product of dimensions."""
    count = 1
    for dim in dims(shape):
        count *= dim
    return number(count, "elements")


@function('shape("1x3x224x224")', "a shape, to compare with", GROUP, scoped=False)
def shape(_: Scope, sizes: Item) -> Item:
    """A shape."""
    return Shape(dims(sizes))


@function('dtype_bytes("float16")', "bytes of one element; int4 has half a byte", GROUP, scoped=False)
def dtype_bytes(_: Scope, dtype: Item) -> Item:
    """Bytes of one element."""
    found = parse_dtype(text(dtype, "the dtype"))
    if found.block > 1:
        return number(Fraction(found.block_bytes, found.block), "B", "data")
    if found.bits is None:
        raise UsageError(f"{found} has no fixed width")
    return number(Fraction(found.bits, 8), "B", "data")


@function('tensor_bytes("224x224x3", "float32")', "bytes of a tensor, packed", GROUP, scoped=False)
def tensor_bytes(_: Scope, shape: Item, dtype: Item = "float32") -> Item:
    """Bytes of a tensor."""
    count = 1
    for dim in dims(shape):
        count *= dim
    found = parse_dtype(text(dtype, "the dtype")).nbytes(count)
    if found is None:
        raise UsageError(f"{said(dtype)} has no fixed width")
    return nbytes(found, "arithmetic")


@function(
    'conv_output("200x300", 3, stride=2, padding=1)', "rows and columns of what a convolution makes", GROUP,
    scoped=False,
)  # fmt: skip
def conv_output(_: Scope, size: Item, kernel: Item, stride: Item = None, padding: Item = None) -> Item:  # type: ignore[assignment]
    """floor((size + 2 padding - kernel) / stride) + 1 for each side; padding "same" is ceil(size / stride)."""
    sides, window = dims(size), whole(kernel, "the kernel", least=1)
    step = 1 if stride is None else whole(stride, "the stride", least=1)
    if padding == "same":
        made = tuple(-(-side // step) for side in sides)
    else:
        around = 0 if padding is None else whole(padding, "the padding")
        made = tuple((side + 2 * around - window) // step + 1 for side in sides)
    if min(made) < 1:
        raise UsageError(f"a kernel of {window} is larger than {said(size)}")
    return number(made[0]) if len(made) == 1 else Shape(made)


@function('parse("57.6 MB")', "bytes, or the number, that a text prints; MB is 10^6 bytes", GROUP, scoped=False)
def parse(_: Scope, printed: Item) -> Item:
    """A printed amount as a number, its unit taken as it stands."""
    found = amounts(text(printed, "the text"))
    made: list[Item] = []
    for one in found:
        if one.low is None or not one.readings or one.high is not None:
            raise UsageError(f"{one.text!r} is not one number")
        amount = one.low.value * one.readings[0][1]
        made.append(number(amount, "B" if one.sort in ("size", "open") else "$" if one.sort == "money" else "", "data"))
    return made[0] if len(made) == 1 else tuple(made)


@cache
def _measured() -> dict[str, Any]:
    folder, found = files("peakmem.ledger"), dict[str, Any]()
    for name in MEASURED:
        found |= tomllib.loads(folder.joinpath(name).read_text("utf-8"))
    return found


@function(
    'measured("ncnn-post", "vgg16.defaults.vm_peak")',
    "bytes that this project measured: the median, or which=\"min\", \"max\"", "measured", scoped=False,
)  # fmt: skip
def measured(_: Scope, series: Item, key: Item, which: Item = "median") -> Item:
    """A stored measurement."""
    table = _measured()
    rows = table[text(series, "the series", tuple(table))]
    wanted = text(key, "the key")
    model, _dot, figure = wanted.partition(".")
    row = rows.get(model)
    cells = row if isinstance(row, dict) else {}
    if figure not in cells:
        from difflib import get_close_matches

        known = [f"{name}.{one}" for name, cells in rows.items() if isinstance(cells, dict) for one in cells]
        known += [name for name, one in rows.items() if isinstance(one, int)]
        near = get_close_matches(wanted, known, n=3, cutoff=0.4)
        if wanted in rows and isinstance(rows[wanted], int):
            return number(rows[wanted], "", "measurement")
        raise UsageError(
            f"nothing was measured that is called {wanted[:60]!r}", expected=f"one of {', '.join(near or known[:3])}",
            hint=near[0] if near else "",
        )  # fmt: skip
    cell = cells[figure]
    return nbytes(cell[text(which, "which", ("min", "median", "max", "n"))], "measurement")


# -- numbers in sentences ----------------------------------------------------------------


def _sized(unit: str, factor: int) -> None:
    @function(
        f"{unit}(weights(), 2)", f"a size as text in {unit}, with so many digits behind the point", SHOWN, scoped=False
    )
    def shown(_: Scope, size: Item, places: Item = None) -> Item:  # type: ignore[assignment]
        digits = 2 if places is None else whole(places, "the places")
        if isinstance(size, tuple):
            return " / ".join(str(shown(_, one, places)) for one in size)
        return f"{float(value(size, 'the size').number / factor):,.{min(digits, 12)}f} {unit}"


for _name, _factor in (("kB", 10**3), ("MB", 10**6), ("GB", 10**9), ("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30)):
    _sized(_name, _factor)


@function("bytes(weights())", "a size as text: exact, and in both units", SHOWN, scoped=False, name="bytes")
def as_bytes(_: Scope, size: Item) -> Item:
    """A size in words."""
    if isinstance(size, tuple):
        return " / ".join(str(as_bytes(_, one)) for one in size)
    found = value(size, "the size")
    return said(Value(found.number, "B"))


@function("percent(weights() / resident_fused(), 1)", "a ratio as text in percent", SHOWN, scoped=False)
def percent(_: Scope, ratio: Item, places: Item = None) -> Item:  # type: ignore[assignment]
    """A ratio in percent."""
    digits = 1 if places is None else whole(places, "the places")
    return f"{float(value(ratio, 'the ratio').number * 100):,.{min(digits, 12)}f} %"


@function("times(weights() / live_fused(), 2)", "a ratio as text, such as 2.35x", SHOWN, scoped=False)
def times(_: Scope, ratio: Item, places: Item = None) -> Item:  # type: ignore[assignment]
    """A ratio as a factor."""
    digits = 2 if places is None else whole(places, "the places")
    return f"{float(value(ratio, 'the ratio').number):,.{min(digits, 12)}f}x"


@function(
    "fixed(weights() / live_fused(), 3)", "a number as text with so many digits behind the point", SHOWN, scoped=False
)
def fixed(_: Scope, one: Item, places: Item = None) -> Item:  # type: ignore[assignment]
    """A number with fixed places."""
    if places is None:
        return plain(value(one, "the number").number)
    return f"{float(value(one, 'the number').number):,.{min(whole(places, 'the places'), 12)}f}"
