"""What a change costs: the table of `prices.toml`, by the name of a change. Ranks are made of it, no bytes."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Price:
    """What one change costs."""

    change: str
    # "dtype=int8", or the part before the "=" for any value
    cost: float
    said: str
    reason: str
    halving: float = 0.0
    # on top for each halving of the number


@cache
def prices() -> dict[str, Price]:
    """The table, by the name of the change."""
    data = tomllib.loads(files("peakmem.fitting").joinpath("prices.toml").read_text("utf-8"))
    return {row["change"]: Price(**row) for row in data["price"]}


def price(name: str, *, before: float = 0.0, after: float = 0.0) -> Price:
    """The price of a change; a number that goes from `before` to `after` costs more the further it goes.

    A name without a row of its own costs what its kind does: the part before the "=".
    """
    table = prices()
    found = table.get(name) or table[name.partition("=")[0]]
    if not (found.halving and before and after):
        return found
    return Price(
        name, round(found.cost + found.halving * abs(math.log2(before / after)), 2), found.said, found.reason,
    )  # fmt: skip
