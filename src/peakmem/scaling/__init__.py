"""The peak as a formula of one size, and the largest value of it that fits: solved from the formula, not searched.

The network runs through the ordinary analysis once for each class of values, with a number that remembers in the
place of the size; see `peakmem.formula.number`. What that gives is held against plain evaluation before it is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from peakmem.dtypes import DType, parse_dtype
from peakmem.errors import UsageError
from peakmem.formula.polynomial import Polynomial
from peakmem.ir.graph import Graph
from peakmem.passes.assume import DEFAULT_ASSUMPTION, assumption
from peakmem.pipeline import paused_collection
from peakmem.report.formula import Formula, Gap, Kind, Largest, PeakFormula, Piece, Quantity
from peakmem.scaling.classes import Ranges, coarsest
from peakmem.scaling.evaluation import Point, Setting
from peakmem.scaling.fitted import fitted
from peakmem.scaling.knobs import Knob, Question, find_knob
from peakmem.scaling.largest import find_largest
from peakmem.scaling.pieces import BEYOND, FEW_CLASSES, LARGEST_VALUE, Explorer, Fault, Finer, Hole, Lost, Span
from peakmem.scaling.reach import Reach, reached

MOST_CLASSES = 512
# more residues than that are not all looked at

Source = str | Path | Graph | object


def peak_formula(
    source: Source,
    knob: str = "batch",
    *,
    inputs: object = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    dtype: str | DType | None = None,
    assume: str = DEFAULT_ASSUMPTION,
    hold_inputs: bool = False,
    limits: tuple[int, int | None] = (1, None),
    at: int | None = None,
    every_residue: bool = False,
    form: str = "",
    options: Mapping[str, str] | None = None,
) -> PeakFormula:
    """The live peak of a network, and what stays resident beside it, as a piecewise formula of one size.

    Args:
        source, inputs, form, options: see `load`.
        knob: what is turned: "batch", an option of a built-in network such as "resolution" or "context", a symbolic
            dimension by name, an axis of an input as "input.3", or "resolution" for both sides of an image.
        batch, shapes, dims: values of what is not turned, see `estimate`.
        dtype, assume, hold_inputs: see `estimate`.
        limits: smallest and largest value that is asked for; None for as far as it goes.
        at: where strides make the formula differ from one remainder to the next, the class of this value is shown;
            what the network has when nobody turns the knob unless told.
        every_residue: look at every class.

    Returns:
        A report. Each formula in it was held against plain evaluation at the ends of its range and inside.

    Raises:
        UsageError: no such knob, or limits that no value lies between.
        PeakmemError: see `load` and `estimate`.
    """
    explorer, title = _explorer(source, knob, inputs, batch, shapes, dims, dtype, assume, hold_inputs, form, options)
    with paused_collection():
        begin = batch if at is None and knob == "batch" else at
        return _report(explorer, title, limits, begin, "all" if every_residue else "one")


def largest(
    source: Source,
    knob: str,
    capacity_bytes: int,
    *,
    fixed_bytes: int = 0,
    quantity: Quantity = "resident",
    multiple_of: int = 1,
    inputs: object = None,
    batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    dtype: str | DType | None = None,
    assume: str = DEFAULT_ASSUMPTION,
    hold_inputs: bool = False,
    limits: tuple[int, int | None] = (1, None),
    form: str = "",
    options: Mapping[str, str] | None = None,
) -> Largest:
    """The largest value of a knob with which a network fits a capacity, solved from its formula and proved.

    Args:
        source, knob, and all that `peak_formula` takes: as there.
        capacity_bytes: room there is.
        fixed_bytes: taken from it before anything of the network.
        quantity: what has to fit, "live" for the live peak or "resident" for weights, state and live peak.
        multiple_of: only values that this divides.

    Raises:
        UsageError: no such knob, a negative capacity.
        PeakmemError: see `load` and `estimate`.
    """
    if capacity_bytes < 0 or fixed_bytes < 0:
        raise UsageError(f"a capacity of {capacity_bytes} bytes less {fixed_bytes}", expected="0 or more")
    if multiple_of < 1:
        raise UsageError(f"multiples of {multiple_of}", expected="1 or more")
    if quantity not in ("live", "resident"):
        raise UsageError(f"no quantity is called {quantity!r}", expected="live or resident")
    explorer, title = _explorer(source, knob, inputs, batch, shapes, dims, dtype, assume, hold_inputs, form, options)
    with paused_collection():
        room = capacity_bytes - fixed_bytes
        found = _report(explorer, title, limits, None, Reach(multiple_of, room, quantity))
        return find_largest(explorer, found, capacity_bytes, fixed_bytes, quantity, multiple_of)


def _explorer(
    source: Source, knob: str, inputs: object, batch: int | None, shapes: Mapping[str, Sequence[int]] | None,
    dims: Mapping[str, int] | None, dtype: str | DType | None, assume: str, hold_inputs: bool, form: str,
    options: Mapping[str, str] | None,
) -> tuple[Explorer, str]:  # fmt: skip
    frame = assumption(assume)
    counted = None if dtype is None else parse_dtype(dtype) if isinstance(dtype, str) else dtype
    asked = Question(source, inputs, None if knob == "batch" else batch, shapes, dims, form, options)
    return Explorer(find_knob(asked, knob), Setting(counted, frame.name, hold_inputs)), frame.title


def _report(
    explorer: Explorer, title: str, limits: tuple[int, int | None], at: int | None,
    which: Literal["all", "one"] | Reach,
) -> PeakFormula:  # fmt: skip
    """The formula over one class, all classes, or as much of each as the largest value needs."""
    knob = explorer.knob
    low, high, notes = _within(knob, limits)
    near = min(max(knob.usual if at is None else at, low), LARGEST_VALUE if high is None else high)
    kind: Kind = "exact"
    modulus, classes, lost = 1, dict[int, Ranges](), not knob.traced
    if knob.traced:
        try:
            modulus, classes = _covered(explorer, low, high, near, which)
        except Lost:
            lost = True
            notes.append(f"the analysis uses {knob.name} in ways that cannot be followed exactly")
        if which != "one" and modulus > MOST_CLASSES and len(classes) == 1:
            notes.append(f"there are {modulus:,} remainders, too many to look at each")
        if explorer.brief:
            notes.append(f"smaller values of all but one of {len(classes)} remainders were not looked at")
        if explorer.guessed:
            kind = "fitted"
            notes.append(f"{knob.name} goes into {explorer.guessed}; its formula rests on evaluations")
    if not any(isinstance(one, Span) for ranges in classes.values() for one in ranges):
        seen = explorer.plain(near)
        if isinstance(seen, Fault) and all(isinstance(explorer.plain(x), Fault) for x in (low, near + 1, near * 2)):
            raise seen.error
    if lost:
        kind = "fitted"
        modulus, ranges = fitted(explorer, low, high, near)
        reason = "no polynomial goes through the evaluations"
        classes = {near % modulus: ranges or [Hole(low, LARGEST_VALUE if high is None else high, reason)]}
    _refuse_fixed(explorer, classes, modulus, low, high)
    every = [one for ranges in classes.values() for one in ranges]
    tops = {residue: _top(ranges) for residue, ranges in classes.items()}
    shown = (
        coarsest(classes, modulus)
        if len(classes) == modulus
        else [(modulus, residue, item) for residue, ranges in classes.items() for item in ranges]
    )
    pieces, gaps = [], []
    for by, residue, item in shown:
        if isinstance(item, Span):
            unbroken = kind == "exact" and tops.get(item.high % modulus) == item.high
            pieces.append(_piece(item, by, residue, kind, unbroken))
        elif item.reason != BEYOND:
            gaps.append(Gap(item.low, item.high, by, residue, item.reason))
    unknown = any(isinstance(one, Span) and one.unknown for one in every)
    setting = explorer.setting
    return PeakFormula(
        name=knob.title, source=knob.source, format=knob.format, knob=knob.name, meaning=knob.meaning,
        usual=knob.usual, settings=knob.others, assume=setting.assume, assume_title=title,
        dtype="as stored" if setting.dtype is None else setting.dtype.name, kind=kind,
        bytes_kind="lower bound" if unknown else "estimate", low=low, high=high, modulus=modulus,
        residues=tuple(sorted(classes)), pieces=tuple(pieces), gaps=tuple(gaps), traces=len(explorer.traced),
        evaluations=len(explorer.seen), notes=tuple(notes),
    )  # fmt: skip


def _refuse_fixed(explorer: Explorer, classes: Mapping[int, Ranges], modulus: int, low: int, high: int | None) -> None:
    """Say that a source runs at one value alone, where that is so."""
    ranges = [one for ranges in classes.values() for one in ranges]
    spans = [one for one in ranges if isinstance(one, Span)]
    holes = [one for one in ranges if isinstance(one, Hole) and one.reason != BEYOND]
    if len(spans) == 1 and spans[0].low == spans[0].high and holes and low != high:
        knob, only = explorer.knob, spans[0].low
        beside = range(max(low, only - modulus), min(only + modulus, LARGEST_VALUE if high is None else high) + 1)
        if any(isinstance(explorer.plain(x), Point) for x in beside if x != only):
            return
        reason = min(holes, key=lambda one: abs(one.low - only)).reason
        raise UsageError(
            f"{knob.name} can only be {only:,}; elsewhere {reason}", where=knob.source or knob.title,
            hint="an export with dynamic axes",
        )  # fmt: skip


def _within(knob: Knob, limits: tuple[int, int | None]) -> tuple[int, int | None, list[str]]:
    """The limits asked for, cut to what the knob takes."""
    low, high = limits
    if low < 1 or (high is not None and high < low):
        raise UsageError(f"no value lies between {low} and {high}", expected="1 or more, the smaller first",
                         hint="--limits 1..256")  # fmt: skip
    if high is not None and high > LARGEST_VALUE:
        raise UsageError(f"a {knob.name} of {high}", expected="at most 2^40")
    notes = []
    if 1 < low < knob.low:
        notes.append(f"{knob.name} begins at {knob.low}")
    if knob.high is not None and high is not None and high > knob.high:
        notes.append(f"{knob.name} ends at {knob.high}")
    low = max(low, knob.low)
    if knob.high is not None:
        high = knob.high if high is None else min(high, knob.high)
        if low > high:
            raise UsageError(f"no {knob.name} lies between {limits[0]} and {limits[1]}",
                             expected=f"{knob.low} to {knob.high}")  # fmt: skip
    return low, high, notes


def _covered(
    explorer: Explorer, low: int, high: int | None, near: int, which: Literal["all", "one"] | Reach
) -> tuple[int, dict[int, Ranges]]:
    """(modulus, ranges by residue) of the classes that are wanted."""
    if isinstance(which, Reach):
        return reached(explorer, low, high, near, which, MOST_CLASSES)
    modulus = explorer.trace(near).modulus
    while True:
        residues = list(range(modulus)) if which == "all" and modulus <= MOST_CLASSES else [near % modulus]
        classes: dict[int, Ranges] = {}
        explorer.lean = len(residues) > FEW_CLASSES
        try:
            for residue in residues:
                classes[residue] = explorer.cover(modulus, residue, low, high, near)
            return modulus, classes
        except Finer as finer:
            modulus = finer.modulus


def _top(ranges: Ranges) -> int:
    """The last value of a class that has a formula or could have one."""
    return max((one.high for one in ranges if not (isinstance(one, Hole) and one.reason == BEYOND)), default=0)


def _piece(span: Span, modulus: int, residue: int, kind: Kind, unbroken: bool) -> Piece:
    return Piece(
        span.low, span.high, modulus, residue, _formula(span.live), _formula(span.weights), _formula(span.state),
        _formula(span.live + span.weights + span.state), span.operator[0], span.operator[1], span.step, kind,
        tuple(sorted(span.checked)), unbroken,
    )  # fmt: skip


def _formula(found: Polynomial) -> Formula:
    return Formula(found.coefficients, found.denominator)


__all__ = ["largest", "peak_formula"]
