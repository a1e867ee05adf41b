"""What can be turned on a network: its batch, resolution, width, sequence; and the largest value that still fits.

The graph alone is solved from the formula of its peak where there is one. An arena, whose buffers are rounded and
packed, takes at least its live peak: the formula rules out what lies above, and from there down each value is
evaluated. All else is halved down. Each way both neighbours are evaluated: the value fits, and the next one does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from peakmem import zoo
from peakmem.errors import PeakmemError
from peakmem.fitting.answers import Answers, Stopped
from peakmem.fitting.need import read
from peakmem.fitting.parts import Answer
from peakmem.fitting.question import Question
from peakmem.ir.graph import Graph
from peakmem.report.fit import Largest, Part

OPTIONS = ("resolution", "sequence", "context", "width")
# of built-in networks that are knobs
OF_WEIGHTS = ("width",)
# those that move what is stored
FINEST = {"width": Fraction(1, 20)}
# steps of options that are no whole numbers
RESIDENT = ("weights", "state", "live peak")
# shares that the formula gives
FORMED = ("batch", "sequence", "context", "resolution")
# knobs whose formula is asked: a width is a factor that rounds channels, and nothing is a polynomial in it
MOST_TRIED = 48
# values below the one that the formula gives that are evaluated one by one
SOLVED = "solved from the formula,"
# how the proof begins where a formula was believed
TOO_MANY = "too many to look at each"
# remainders, in a note
BOTH = "; both neighbours evaluated"
STEPS = (1, 2, 4, 8, 16, 32)
# that a network may ask of its resolution
IMAGE = 4
# axes of an image: batch, channels, rows, columns


@dataclass(frozen=True, slots=True)
class Knob:
    """One number of a question, which takes the values least, least + step, … most."""

    name: str
    value: Fraction
    # as it is
    least: Fraction
    step: Fraction
    most: Fraction
    turned: Callable[[Question, Fraction], Question]
    # the question with the knob at a value

    @property
    def count(self) -> int:
        """How many values there are."""
        return int((self.most - self.least) / self.step) + 1

    def place(self, value: Fraction) -> int:
        """The place of a value, or of the one below it, among those that the knob takes."""
        return max(0, min(int((value - self.least) // self.step), self.count - 1))


def knobs(question: Question, *, has_ram: bool = True) -> Iterator[Knob]:
    """The knobs that the model of `question` has, the batch first; without RAM those that move its file."""
    graph = read(question)
    if graph.weights_only:
        return
    if not has_ram:
        yield from (knob for knob in _of_zoo(question, graph) if knob.name in OF_WEIGHTS)
        return
    if graph.batched and not graph.bound:
        given = {shape[0] for _, shape in question.shapes if shape}
        fixed = question.batch or (next(iter(given)) if len(given) == 1 else None)
        now = fixed or graph.defaults.get("batch") or _leading(graph)
        if now is not None:
            made = _whole_batch if question.shapes else _with_batch
            yield Knob("batch", Fraction(now), Fraction(1), Fraction(1), Fraction(zoo.LARGEST_BATCH), made)
    yield from _of_zoo(question, graph)
    if graph.format != "zoo":
        yield from _of_file(question, graph)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Above which place nothing fits, by the formula of the peak."""

    place: int
    # -1: nothing fits at all
    exact: bool
    # whether the formula is of all that has to fit, so that this place itself does
    said: str


def largest(answers: Answers, question: Question, knob: Knob, *, formula: bool = True) -> Largest | None:
    """The largest value of `knob` with which everything fits; None where it cannot be turned.

    Args:
        formula: whether the formula of the peak may be asked; without it, it is halved down.
    """

    def at(place: int) -> Fraction:
        return knob.least + place * knob.step

    def tried(place: int) -> Answer | None:
        if place >= knob.count:
            return None
        try:
            return answers.of(knob.turned(question, at(place)))
        except Stopped:
            raise
        except PeakmemError:
            return None

    ceiling = _solved(answers, question, knob) if formula and not question.engine else None
    found = None if ceiling is None else _below(ceiling, tried, at)
    if found is not None:
        low, proof = found
        high = low + 1
    else:
        proof = "found by halving" + (", as nothing is a polynomial in a width" if knob.name == "width" else "") + BOTH
        guess = _guessed(answers, question, knob) if question.engine else None if ceiling is None else ceiling.place
        low, high = _bracket(tried, knob.place(knob.value) if guess is None else guess, knob.count)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _fits(tried(middle)) else (low, middle)
    here = tried(low) if low >= 0 else None
    after = tried(high) if high < knob.count else None
    if here is None and after is None:
        return None
    if low < 0 and not found:
        proof = "the smallest was evaluated and does not fit"
    if after is None:
        proof = "nothing larger can be asked for" if high == knob.count else "the network refuses the next one"
    decides = _decides(after or here)
    if after is not None and decides.reason and _compared(decides) <= decides.capacity_bytes:
        proof += f"; at the next {decides.reason}"
    return Largest(
        knob.name, _number(at(low)) if here is not None else 0, _of(here, decides.name),
        None if after is None else _number(at(high)), None if after is None else _of(after, decides.name),
        decides.name, proof,
    )  # fmt: skip


def _below(
    ceiling: Ceiling, tried: Callable[[int], Answer | None], at: Callable[[int], Fraction]
) -> tuple[int, str] | None:
    """(the place of the largest value that fits, its proof) at or below a ceiling; None where it is not soon found."""
    if _fits(tried(ceiling.place + 1)):
        return None
    if ceiling.place < 0:
        return -1, f"{ceiling.said}: nothing fits; the smallest evaluated"
    if _fits(tried(ceiling.place)):
        both = "" if ceiling.exact else ", which leaves nothing above"
        return ceiling.place, ceiling.said + both + BOTH
    for place in range(ceiling.place - 1, max(ceiling.place - MOST_TRIED, 0) - 1, -1):
        if _fits(tried(place)):
            above = f"{ceiling.said}: nothing above {_number(at(ceiling.place)):,} fits"
            return place, f"{above}; each value from there down to this one evaluated{BOTH}"
    return None


def _bracket(tried: Callable[[int], Answer | None], start: int, count: int) -> tuple[int, int]:
    """(fits, does not): places around the edge, as far apart as doubling leaves them; -1 and `count` stand for none."""
    step = 1
    if _fits(tried(start)):
        low = start
        while low + step < count and _fits(tried(low + step)):
            low, step = low + step, step * 2
        return low, min(low + step, count)
    high = start
    while high - step >= 0 and not _fits(tried(high - step)):
        high, step = high - step, step * 2
    return max(high - step, -1), high


def _fits(answer: Answer | None) -> bool:
    return answer is not None and answer.holds


def _compared(part: Part) -> int:
    return part.needed_bytes if part.bound_bytes is None else part.bound_bytes


def _decides(answer: Answer | None) -> Part:
    assert answer is not None
    return max(answer.parts, key=lambda part: (part.outcome != "fits", _compared(part) / part.capacity_bytes))


def _of(answer: Answer | None, name: str) -> int:
    return 0 if answer is None else next(_compared(part) for part in answer.parts if part.name == name)


def _number(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


def _guessed(answers: Answers, question: Question, knob: Knob) -> int | None:
    """The place where an engine's need would end if it grew as that of the graph alone does: a start, no answer."""
    ram = answers.place.ram
    if ram is None:
        return None
    alone = Answers(replace(answers.place, storage=None, ram=replace(ram, piece_bytes=None)))
    plain = replace(question, engine="", settings=())
    here = next((part for part in answers.of(question).parts if part.name == ram.name), None)
    try:
        graph = alone.of(plain).parts[0]
    except PeakmemError:
        return None
    if here is None or not graph.needed_bytes:
        return None
    share = Fraction(_compared(here), graph.needed_bytes)
    room = replace(ram, piece_bytes=None, capacity_bytes=max(1, int(ram.capacity_bytes / share)))
    found = largest(Answers(replace(alone.place, ram=room)), plain, knob, formula=knob.name == "batch")
    return None if found is None else knob.place(Fraction(str(found.value)))


def _solved(answers: Answers, question: Question, knob: Knob) -> Ceiling | None:
    """What the formula of the peak gives, where there is one for this knob; it still has to be checked."""
    if knob.name not in FORMED or answers.place.ram is None:
        return None
    now = answers.of(question)
    room = next(part for part in now.parts if part.name == answers.place.ram.name)
    beside_fits = all(part.outcome == "fits" for part in now.parts if part is not room)
    if not now.live_bytes or room.kind == "lower bound" or not beside_fits:
        return None
    whole = not answers.place.weights_in_flash and not question.weights and question.devices == 1
    if answers.place.weights_in_flash:
        # rounding and packing only add to the live peak, and so does a state, which may grow itself
        beside = answers.place.reserve_bytes
    else:
        # the state grows with the batch, and with the weights in RAM it is part of what is solved
        own = sum(nbytes for name, nbytes in room.shares if name in RESIDENT) if whole else now.live_bytes
        beside = _compared(room) - own
    if beside > room.capacity_bytes:
        return None
    from peakmem.scaling import largest as solve

    step = int(knob.step) if knob.least % knob.step == 0 else 1
    try:
        found = solve(
            question.source, knob.name, room.capacity_bytes, fixed_bytes=beside,
            quantity="resident" if whole else "live", multiple_of=step, inputs=question.inputs or None,
            batch=question.batch, shapes=dict(question.shapes), dims=dict(question.dims),
            dtype=question.dtype or None, assume=question.assume, form=question.form, options=dict(question.options),
        )  # fmt: skip
    except PeakmemError:
        return None
    if any(TOO_MANY in note for note in found.notes):
        return None
    formed = found.proof.startswith(SOLVED)
    if answers.place.weights_in_flash and not formed:
        return None  # nothing is ruled out by what was only fitted or looked for
    subject = "the live peak" if answers.place.weights_in_flash else "the peak"
    said = f"solved from the formula of {subject}" if formed else found.proof.partition(",")[0]
    value = Fraction(found.value)
    return Ceiling(knob.place(value) if value >= knob.least else -1, not answers.place.weights_in_flash, said)


# -- what there is to turn ---------------------------------------------------------------


def _with_batch(question: Question, value: Fraction) -> Question:
    return replace(question, batch=int(value))


def _whole_batch(question: Question, value: Fraction) -> Question:
    """With whole shapes: the first size of each is the batch."""
    shapes = tuple((name, (int(value), *shape[1:])) for name, shape in question.shapes)
    return replace(question, shapes=shapes, batch=None)


def _leading(graph: Graph) -> int | None:
    """The batch that a file fixes."""
    sizes = {shape[0] for name in graph.inputs if (shape := graph.tensors[name].shape)}
    only = next(iter(sizes)) if len(sizes) == 1 else None
    return only if isinstance(only, int) else None


def _of_zoo(question: Question, graph: Graph) -> Iterator[Knob]:
    if graph.format != "zoo" or not isinstance(question.source, str):
        return
    name, chosen = zoo.parse_spec(str(question.source))
    for option in zoo.NETWORKS[name].options:
        if option.name not in OPTIONS:
            continue
        now = Fraction(str(chosen.get(option.name, option.default)))
        if option.choices:
            if spaced := _spaced(option.choices):
                yield Knob(option.name, now, spaced[0], spaced[1], spaced[2], _option(option.name))
            continue
        step = FINEST.get(option.name) or _step(name, chosen, option.name, int(option.default))
        low = Fraction(str(option.low))
        least = low + (Fraction(str(option.default)) - low) % step
        yield Knob(option.name, now, least, step, Fraction(str(option.high)), _option(option.name))


def _spaced(choices: Sequence[object]) -> tuple[Fraction, Fraction, Fraction] | None:
    """(first, step, last) of choices at equal distances, such as ShuffleNet's four widths; None for others."""
    if not all(isinstance(one, int | float) for one in choices) or len(choices) < 2:
        return None
    sizes = sorted(Fraction(str(one)) for one in choices)
    step = sizes[1] - sizes[0]
    return (sizes[0], step, sizes[-1]) if all(b - a == step for a, b in pairwise(sizes)) else None


def _step(name: str, chosen: dict[str, int | float], option: str, start: int) -> Fraction:
    """The finest step that the network takes: some resolutions are multiples of 16."""
    for step in STEPS:
        try:
            zoo.build(name, batch=1, **{**chosen, option: start + step})
        except PeakmemError:
            continue
        return Fraction(step)
    return Fraction(1)


def _option(option: str) -> Callable[[Question, Fraction], Question]:
    def turned(question: Question, value: Fraction) -> Question:
        name, chosen = zoo.parse_spec(str(question.source))
        return replace(question, source=zoo.spec(name, {**chosen, option: _number(value)}))

    return turned


def _of_file(question: Question, graph: Graph) -> Iterator[Knob]:
    """The dimensions that were given by name, a cache's room, the rows and columns of a square image."""
    if graph.format == "hf_config" and "context" in dict(question.options):
        now = dict(question.options)["context"]
        if now.isdecimal():
            yield Knob("context", Fraction(now), Fraction(1), Fraction(1), Fraction(2**24), _context)
    for name, size in {**graph.defaults, **dict(question.dims)}.items():
        if name != "batch" and "." not in name:
            yield Knob(name, Fraction(size), Fraction(1), Fraction(1), Fraction(2**24), _dim(name))
    if len(graph.inputs) != 1 or graph.bound or question.dims:
        return
    only = graph.inputs[0]
    shape = dict(question.shapes).get(only) or dict(question.shapes).get("") or graph.tensors[only].shape
    if shape is None or len(shape) != IMAGE:
        return
    for axes in ((2, 3), (1, 2)):
        side = shape[axes[0]]
        if isinstance(side, int) and side == shape[axes[1]] and side > IMAGE:
            batch = question.batch or (shape[0] if isinstance(shape[0], int) else 1)
            yield Knob(
                "resolution", Fraction(side), Fraction(1), Fraction(1), Fraction(16_384),
                _side(only, (batch, *(size for size in shape[1:] if isinstance(size, int))), axes),
            )  # fmt: skip
            return


def _context(question: Question, value: Fraction) -> Question:
    return replace(question, options=tuple({**dict(question.options), "context": str(int(value))}.items()))


def _dim(name: str) -> Callable[[Question, Fraction], Question]:
    def turned(question: Question, value: Fraction) -> Question:
        return replace(question, dims=tuple({**dict(question.dims), name: int(value)}.items()))

    return turned


def _side(name: str, shape: tuple[int, ...], axes: tuple[int, int]) -> Callable[[Question, Fraction], Question]:
    def turned(question: Question, value: Fraction) -> Question:
        whole = dict(question.shapes).get(name, (question.batch or shape[0], *shape[1:]))
        sizes = tuple(int(value) if axis in axes else size for axis, size in enumerate(whole))
        return replace(question, shapes=((name, sizes),), batch=None)

    return turned
