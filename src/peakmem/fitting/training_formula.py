"""The peak of a training step as a formula of its batch, sequence or resolution, as a report.

Traces at a few values give polynomials that are exact there; between and beyond them they hold where the step has the
same structure, which is said and not proved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import pairwise

from peakmem import rehearsal
from peakmem.errors import UsageError
from peakmem.fitting.training_largest import KNOBS, STEPS, Knob
from peakmem.formula.polynomial import Polynomial
from peakmem.producing import Source, producer
from peakmem.report.formula import Formula, Gap, PeakFormula, Piece
from peakmem.training.account import peak
from peakmem.training.envelope import Reign, Sample, Series, Stretch, difference, live, reigns, sample, series
from peakmem.training.log import Category, Log
from peakmem.training.scenario import Scenario

MEANING: dict[Knob, str] = {
    "batch": "samples of one forward", "sequence": "tokens of one sample", "resolution": "side of an image, in pixels",
}  # fmt: skip
LADDER: dict[Knob, tuple[int, ...]] = {
    "batch": (1, 2, 3, 16, 128, 512), "sequence": (64, 128, 256, 512, 1024, 2048),
    "resolution": (64, 128, 160, 224, 320, 448),
}  # fmt: skip
# values to begin with, where nobody says a range
MOST_TRACES = 16
CHECKED = 3
# traces of one structure from which on a line is checked by one
WEIGHTS: frozenset[Category] = frozenset(("parameter", "buffer"))
STATE: frozenset[Category] = frozenset(("gradient", "optimizer state"))


def peak_of_step(
    source: object, scenario: Scenario | None = None, knob: str = "batch", *,
    limits: tuple[int, int | None] = (1, None), inputs: object = None,
    shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None, route: str = "auto",
    most_traces: int = MOST_TRACES,
) -> PeakFormula:  # fmt: skip
    """The most bytes of tensors alive at once in a training step, as a piecewise formula of one size.

    Args:
        source, scenario, inputs, shapes, dims, route: as for `peakmem.train`.
        knob: "batch", "sequence" or "resolution".
        limits: values that are asked for, both included; None for as far as is traced.
        most_traces: how many steps may be traced.

    Raises:
        UsageError: no such knob, or the step has none.
        PeakmemError: the step cannot be traced.
    """
    turned = next((name for name in KNOBS if name == knob), None)
    if turned is None:
        near = get_close_matches(knob, KNOBS, n=1)
        raise UsageError(f"there is no knob {knob!r} of a training step", expected=f"one of {', '.join(KNOBS)}",
                         hint=f"--symbolic {near[0] if near else 'batch'}")  # fmt: skip
    low, high = limits
    if low < 1 or (high is not None and high < low):
        raise UsageError(f"limits of {low:,} to {high:,}", expected="a range from 1 on", hint="--limits 1..256")
    asked = rehearsal.checked(scenario or Scenario())
    given = Source(source, inputs, shapes or {}, dims or {})
    maker = producer(given, asked, route)

    def log(value: int) -> Log:
        return maker.make(replace(maker.scenario, **{turned: value})).log  # type: ignore[arg-type]

    stride = STEPS[turned]
    found = sample(log, _values(turned, low, high), stride=stride, most=most_traces)
    last = max(found.logs) if high is None else min(high, max(found.logs))
    described = [_described(one, found, last) for one in found.stretches]
    return PeakFormula(
        given.title, given.title, maker.route, turned, MEANING[turned], getattr(asked, turned) or 0,
        _beside(asked, turned), "training step", _step(asked), "as stored", "fitted", "estimate", low, high, 1,
        (0,), tuple(piece for pieces, _ in described for piece in pieces), tuple(_gaps(found)), 0, len(found.logs),
        (*([f"looked at in steps of {stride}, between which strides and tiles round"] if stride > 1 else []),
         *(note for _, notes in described for note in notes), *maker.notes),
    )  # fmt: skip


def _values(knob: Knob, low: int, high: int | None) -> list[int]:
    """Where the step is traced first."""
    stride = STEPS[knob]
    first = -(-low // stride) * stride
    if high is None:
        above = [value for value in LADDER[knob] if value >= first]
        return above if len(above) > 3 else [first, first + stride, first + 2 * stride, 2 * first, 4 * first]
    last = high // stride * stride
    if last < first:
        raise UsageError(f"no multiple of {stride} from {low:,} to {high:,}", where=f"--symbolic {knob}",
                         hint=f"--limits {first}..{max(high, 4 * first)}")  # fmt: skip
    steps = (last - first) // stride
    return [first + stride * at for at in sorted({0, 1, 2, steps // 4, steps // 2, steps}) if at <= steps]


def _described(stretch: Stretch, found: Sample, last: int) -> tuple[list[Piece], list[str]]:
    """The formulas of a stretch; of one with too few traces to check a line, the bytes at each of these."""
    ends = stretch.high == max(found.logs)
    if len(stretch.logs) < CHECKED:
        alone = [series(Stretch({value: log}), checks=0) for value, log in stretch.logs.items()]
        pieces = [piece for one in alone for piece in _pieces(one, reigns(one, *one.traced * 2), stretch, found.stride)]
        return pieces, []
    whole = series(stretch)
    highest = reigns(whole, stretch.low, last if ends else stretch.high)
    pieces = list(_pieces(whole, highest, stretch, found.stride))
    if ends and pieces:
        pieces[-1] = replace(pieces[-1], unbroken=True)
    return pieces, list(_notes(whole, stretch, highest, found.stride))


def _pieces(whole: Series, highest: Sequence[Reign], stretch: Stretch, stride: int) -> Iterator[Piece]:
    storages = list(enumerate(whole.form.storages))
    weights = live(whole, only=frozenset(number for number, item in storages if item.category in WEIGHTS))
    state = live(whole, only=frozenset(number for number, item in storages if item.category in STATE))
    for reign in highest:
        low, high = -(-reign.low // stride) * stride, (reign.high or stretch.high) // stride * stride
        if low > high:
            continue
        held, added = weights[reign.moment], state[reign.moment]
        module = f" of {reign.module}" if reign.module else ""
        yield Piece(
            low, high, stride, 0, _formula(reign.nbytes - held - added), _formula(held), _formula(added),
            _formula(reign.nbytes), f"the {reign.phase} of step {reign.step}{module}", reign.operator, reign.step,
            "fitted",
            tuple(at for at in stretch.logs if low <= at <= high and peak(stretch.logs[at]).nbytes == reign.nbytes(at)),
        )  # fmt: skip


def _formula(curve: Polynomial) -> Formula:
    return Formula(curve.coefficients, curve.denominator)


def _notes(whole: Series, stretch: Stretch, highest: Sequence[Reign], stride: int) -> Iterator[str]:
    values = ", ".join(f"{value:,}" for value in stretch.logs)
    yield (
        f"exact at the traced structure: {len(whole.storages):,} storages as polynomials of degree {whole.degree} at "
        f"most, put through {whole.degree + 1} traces and held against {whole.checks} more to the byte (traced at "
        f"{values})"
    )
    if whole.irregular:
        named = sorted({whole.form.storages[number].operator for number in whole.irregular})
        doubtful = [reign for reign in highest if reign.irregular.coefficients]
        where = ", ".join(f"from {-(-reign.low // stride) * stride:,} on" for reign in doubtful)
        yield f"{len(whole.irregular):,} storages follow no polynomial ({', '.join(named)}): " + (
            f"a line that no trace exceeds stands for them, so that the peak {where} is at most this"
            if doubtful
            else "none of them is there at the peak, even if each took the most that was traced"
        )


def _gaps(found: Sample) -> Iterator[Gap]:
    for one, other in pairwise(found.stretches):
        reason = f"the structure of the step changes: {difference(one.logs[one.high], other.logs[other.low])}"
        if other.low - one.high > found.stride:
            yield Gap(one.high + found.stride, other.low - found.stride, found.stride, 0, reason)
    for value, reason in sorted(found.refused.items()):
        yield Gap(value, value, found.stride, 0, reason)
    for stretch in found.stretches:
        if len(stretch.logs) < CHECKED:
            for low, high in pairwise(stretch.logs):
                if high - low > found.stride:
                    reason = "too few traces of its structure"
                    yield Gap(low + found.stride, high - found.stride, found.stride, 0, reason)


def _beside(asked: Scenario, knob: str) -> tuple[str, ...]:
    sizes = ((name, getattr(asked, name)) for name in KNOBS if name != knob)
    return tuple(f"{name} = {value:,}" for name, value in sizes if value is not None)


def _step(asked: Scenario) -> str:
    """The step in a few words."""
    optimizer = asked.optimizer.name if asked.optimizer else "its own optimizer, adamw where it has none"
    said = [optimizer, asked.precision, f"on device {asked.device}"]
    said += [f"recompute {asked.recompute}"] if asked.recompute else []
    said += [f"in {asked.accumulate} parts"] if asked.accumulate != 1 else []
    return ", ".join(said)
