"""What each change of a training step costs, as data with the reasons, and the order that follows. Nothing is computed.

A change may be dearer than another in kind (it gives another result) or in amount (more work). Kinds are compared
first; what stands further down this list is dearer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["same", "work", "rounding", "devices", "training", "less", "data"]


@dataclass(frozen=True, slots=True)
class Price:
    """One kind of price."""

    kind: Kind
    said: str
    # in the report
    because: str
    # why it is cheaper than the next


PRICES: tuple[Price, ...] = (
    Price("same", "same numbers, same work", "the same sums with memory laid out otherwise: nothing to check"),
    Price("work", "same numbers, more work", "the result stays; the step takes longer"),
    Price(
        "rounding", "numbers differ by rounding or by the statistics of a norm",
        "the recipe stays and as a rule trains as well; whether it does has to be looked at once",
    ),
    Price(
        "devices", "same numbers, more devices",
        "the recipe stays, but the hardware has to be there, and the ranks wait for each other",
    ),
    Price(
        "training", "another recipe: its learning rate has to be found again",
        "every parameter is still trained on the same data, by other steps",
    ),
    Price("less", "trains fewer parameters", "another question: what adapters or frozen layers cannot learn is lost"),
    Price("data", "other data", "the samples themselves are cut or scaled, so that results are not comparable"),
)  # fmt: skip

ORDER: dict[Kind, int] = {price.kind: at for at, price in enumerate(PRICES)}
SAID: dict[Kind, str] = {price.kind: price.said for price in PRICES}


def order(kinds: tuple[Kind, ...], devices: int, work: float, names: int) -> tuple[float, ...]:
    """What sets of changes are sorted by, the cheapest first.

    The dearest kind of the set, then how many devices, FLOPs as a share of those before (to the percent), how many
    changes.
    """
    return (max(ORDER[kind] for kind in kinds), devices, round(work, 2), names)
