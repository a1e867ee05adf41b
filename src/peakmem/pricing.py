"""What it costs to store models: bytes × copies × price of a gigabyte and month, per dtype.

Money is Decimal and exact throughout: neither 10^9 nor 2^30 leaves an endless fraction. Prices are always the
caller's, with the unit they are for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

from peakmem.dtypes import DType, parse_dtype
from peakmem.errors import PeakmemError, UsageError
from peakmem.ir.graph import Graph
from peakmem.report.cost import Cost, Row
from peakmem.units import parse_size

DIGITS = 400
# of a result; more than any product of the limits below has
LARGEST_PRICE, SMALLEST_PRICE = Decimal(10) ** 12, Decimal(10) ** -18
LARGEST_COPIES = 10**15
LARGEST_MONTHS = 12_000
LARGEST_BYTES = 10**24
LONGEST_PRICE = 60
# characters
HINT = '--price "0.023 USD/GB-month"'
OTHER: Mapping[str, str] = {
    "MB": "MiB", "GB": "GiB", "TB": "TiB", "PB": "PiB", "MiB": "MB", "GiB": "GB", "TiB": "TB", "PiB": "PB",
}  # fmt: skip
# units that storage is charged by, and what else each may mean
MONTHS = ("month", "months", "mo", "mon")
SIZED = re.compile(r"\s*[0-9][0-9_,]*(\.[0-9]+)?\s*[kmgtp]?i?b?\s*", re.IGNORECASE)
_PRICE = re.compile(
    r"(?P<before>[^0-9+\-.,]*)(?P<number>[+-]?(?:[0-9][0-9,]*)?\.?[0-9]*(?:[eE][+-]?[0-9]{1,3})?)(?P<after>.*)"
)


@dataclass(frozen=True, slots=True)
class Price:
    """A price for storing so many bytes for a month."""

    amount: Decimal
    currency: str
    unit: str
    text: str
    # as it was given


def price_of(given: str | Decimal | int | float, per: str | None = None) -> Price:
    """The price that `given` says: "0.023 USD/GB-month", "$0.023/GB/month"; a number alone needs `per`.

    `per` says what the unit is: a list that prices a "GB" often means 2^30 bytes.

    Raises:
        UsageError: no number, no unit, or a price that cannot be.
    """
    text = given.strip() if isinstance(given, str) else str(given)
    wanted = None if per is None else _unit(per, f"per {per!r}")
    if len(text) > LONGEST_PRICE:
        raise UsageError(f"a price of {len(text)} characters", expected="a number and a unit", hint=HINT)
    match = _PRICE.fullmatch(text)
    number = match["number"].replace(",", "") if match else ""
    if match is None or not any(sign.isdigit() for sign in number):
        raise UsageError(f"{text!r} is no price", expected="a number and a unit", hint=HINT)
    amount = Decimal(number)
    words = [word.strip() for word in re.split(r"/|\bper\b|\*|·", match["after"]) if word.strip()]
    currency, rest = match["before"].strip(), words
    if words and not _charged(words[0]):
        currency, rest = " ".join(part for part in (currency, words[0]) if part), words[1:]
    if any(sign.isdigit() for sign in currency):
        raise UsageError(f"{text!r} is no price", expected="one number and a unit", hint=HINT)
    unit = _period(rest, text) if rest else None
    if unit is None and wanted is None:
        money = f" {currency}" if words and re.fullmatch(r"[^\W\d_]{3}|[^\w\s]", currency) else ""
        raise UsageError(
            f"the price {text!r} does not say what for", expected="a price for a GB or a GiB and month",
            hint=f'--price "{match["before"]}{match["number"]}{money}/GB-month"',
        )  # fmt: skip
    if unit is not None and wanted not in (None, unit) and (wanted != OTHER[unit] or "i" in unit):
        raise UsageError(f"the price is for a {unit} and per says {wanted}", where=text, hint=f"--per {unit}")
    _possible(amount, text)
    return Price(amount, currency, wanted or unit or "GB", text)


def _possible(amount: Decimal, text: str) -> None:
    if amount < 0:
        raise UsageError(f"the price {text!r} is below zero", expected="a price above 0", hint=HINT)
    if amount == 0:
        raise UsageError("a price of 0 makes everything free", expected="a price above 0", hint=HINT)
    if not SMALLEST_PRICE <= amount <= LARGEST_PRICE:
        raise UsageError(
            f"the price {text!r} is out of all proportion",
            expected=f"{SMALLEST_PRICE:E} to {LARGEST_PRICE:E}",
            hint=HINT,
        )


def _charged(word: str) -> bool:
    """Whether a word of a price is the unit it is for."""
    return re.split(r"[-\s]", word, maxsplit=1)[0].lower() in {unit.lower() for unit in OTHER}


def _unit(text: str, where: str) -> str:
    for unit in OTHER:
        if unit.lower() == text.strip().lower():
            return unit
    from difflib import get_close_matches

    close = get_close_matches(text, list(OTHER), 1, 0.3)
    raise UsageError(
        f"{text!r} is no unit that storage is charged by", where=where, expected=", ".join(OTHER),
        hint=f"--per {close[0] if close else 'GB'}",
    )  # fmt: skip


def _period(words: Sequence[str], text: str) -> str:
    """The unit of "GB-month", "GB/month", "GB month"."""
    parts = [part for word in words for part in re.split(r"[-\s]+", word) if part]
    unit = _unit(parts[0], text)
    if len(parts) == 1:
        raise UsageError(f"the price {text!r} does not say for how long", expected="a month", hint=HINT)
    if len(parts) > 2 or parts[1].lower() not in MONTHS:
        raise UsageError(
            f"the price {text!r} is for {' '.join(parts[1:])!r}", expected="a price for a month", hint=HINT
        )
    return unit


def cost(
    source: str | Path | Graph | int | object,
    copies: int,
    price: str | Decimal | int | float,
    *,
    per: str | None = None,
    dtypes: Sequence[str | DType] = (),
    months: int = 12,
    format: str | None = None,
    batch: int | None = None,
    inputs: object = None,
) -> Cost:
    """What it costs to store copies of a model, month by month, at each dtype.

    Args:
        source: what `peakmem.load` takes; or a size, as bytes or as a text such as "98 MB".
        copies: how many.
        price: "0.023 USD/GB-month"; a number needs `per`.
        per: what the price's unit means: "GB" (10^9 bytes) or "GiB" (2^30).
        dtypes: float32 by default. A size is taken to be of the first; others follow by their bits.
        months: for a sum over so many.
        format: count files of this format instead of parameters, see `peakmem.file_size`.
        batch, inputs: see `peakmem.load`.

    Raises:
        UsageError: a price without a unit, a price, copies or months that cannot be, a dtype without a fixed size.
    """
    paid = price_of(price, per)
    _whole(copies, "copies", LARGEST_COPIES, "--copies 1000")
    _whole(months, "months", LARGEST_MONTHS, "--months 12")
    wanted = [parse_dtype(one) if isinstance(one, str) else one for one in dtypes] or [parse_dtype("float32")]
    name, counted, sizes = _sizes(source, wanted, format, batch, inputs)
    unit_bytes, other = parse_size(f"1 {paid.unit}"), OTHER[paid.unit]
    other_bytes = parse_size(f"1 {other}")
    rows: list[Row] = []
    with localcontext() as context:
        context.prec = DIGITS
        for dtype, nbytes in zip(wanted, sizes, strict=True):
            stored = Decimal(nbytes * copies) / unit_bytes
            monthly, turned = stored * paid.amount, Decimal(nbytes * copies) / other_bytes * paid.amount
            first = rows[0].monthly if rows else monthly
            rows.append(
                Row(
                    dtype.name,
                    nbytes,
                    nbytes * copies,
                    stored,
                    monthly,
                    monthly * 12,
                    monthly * months,
                    first - monthly,
                    (first - monthly) * 12,
                    turned,
                    turned * 12,
                )
            )
    return Cost(
        name, copies, paid.text, paid.amount, paid.currency, paid.unit, unit_bytes, other, other_bytes, months, counted,
        tuple(rows), (f"{paid.unit} is read as {unit_bytes:,} bytes",),
    )  # fmt: skip


def _whole(value: object, name: str, largest: int, hint: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{value!r} {name}", expected="a whole number", hint=hint)
    if value < 1:
        raise UsageError(f"{value} {name}", expected="1 or more", hint=hint)
    if value > largest:
        raise UsageError(
            f"{value:.3g} {name}" if value < 10**300 else f"too many {name}", expected=f"at most {largest:,}", hint=hint
        )


def _sizes(
    source: object, wanted: Sequence[DType], format: str | None, batch: int | None, inputs: object
) -> tuple[str, str, list[int]]:
    """The name, what is counted, and the bytes of one copy at each dtype."""
    given = _given_bytes(source)
    if given is not None:
        if format is not None:
            raise UsageError("a size has no format", where=str(source), hint="name a model, or leave --format out")
        if given < 1:
            raise UsageError(f"a size of {given} bytes", expected="1 byte or more", hint="98MB")
        if given > LARGEST_BYTES:
            raise UsageError("a size beyond all storage", expected=f"at most {LARGEST_BYTES:.0e} bytes", hint="98MB")
        return str(source), "size as given", [given * _bits(one) // _bits(wanted[0]) for one in wanted]
    from peakmem.filesize.predict import format_called, of_graph, prepared
    from peakmem.parameters import parameters

    graph = prepared(source, batch=batch, inputs=inputs)
    if format is not None:
        form = format_called(format)
        return graph.name, f"{form.name} file", [of_graph(graph, form, one).nbytes for one in wanted]
    count = parameters(graph).trainable
    sizes = [-(-count * _bits(one) // 8) for one in wanted]
    return graph.name, f"{count:,} parameters × bytes of the dtype", [int(one) for one in sizes]


def _bits(dtype: DType) -> Fraction:
    """Bits of one element, scales of a block included."""
    if dtype.block > 1:
        return Fraction(dtype.block_bytes * 8, dtype.block)
    if dtype.bits is None:
        raise UsageError(f"{dtype} has no fixed size", expected="float32, float16, int8 …", hint="--dtype fp32,int8")
    return Fraction(dtype.bits)


def _given_bytes(source: object) -> int | None:
    """Bytes that `source` says, when it is a size and no model."""
    if isinstance(source, int) and not isinstance(source, bool):
        return source
    if isinstance(source, str) and len(source) > LONGEST_PRICE and source[:LONGEST_PRICE].isdigit():
        raise UsageError(f"a size of {len(source)} characters", expected="a number and a unit", hint="98MB")
    if isinstance(source, str) and SIZED.fullmatch(source) and not Path(source).exists():
        return parse_size(source)
    if isinstance(source, str) and re.fullmatch(r"\s*-\s*[0-9].*", source):
        raise UsageError(f"the size {source!r} is below zero", expected="a size above 0", hint="98MB")
    return None


__all__ = ["Cost", "PeakmemError", "Price", "cost", "price_of"]
