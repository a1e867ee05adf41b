"""From rows as written to layers that follow each other, repeats written out.

Rows that contradict each other are kept as written: the later one starts from an input of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from peakmem.errors import FormatError
from peakmem.frontends.table.make import Maker, agree, listed
from peakmem.frontends.table.parts import Image, Part, made, size, written
from peakmem.frontends.table.said import Said
from peakmem.frontends.table.words import Phrase, shape

MOST_LAYERS = 20_000
# after repeated rows are written out
MOST_TIMES = 1_000
LONGEST_BLOCK = 16
# rows that a single `… x5` may repeat

_COLOURS = {"rgb": 3, "colour": 3, "color": 3, "gray": 1, "grey": 1}
# channels of an input that is only described


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table, understood."""

    number: int
    line: int
    kind: str
    # "layer", "sum" or "max"
    name: str
    text: str
    parts: tuple[Part, ...] = ()
    image: Image = ()
    # what it reads
    output: Image = ()
    times: int = 1
    printed_input: Image = ()
    printed_output: Image = ()
    # channels first, without a batch; (height, width) or () where the table says less
    given: Image = ()
    # what the row before gives; () for a first row and one that reads others
    given_by: int = 0
    # the number of that row
    claims: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One layer in the order of computation: a row, or a copy of it."""

    row: int
    # position among the rows
    parts: tuple[Part, ...]
    starts: bool
    # reads an input of its own
    reads: tuple[int, ...] = ()
    # steps it reads besides
    flatten: bool = False
    base: int = -1
    # the step it reads, -1 for the one before


@dataclass(slots=True)
class Resolver:
    """Goes through the rows once; `rows`, `steps` and the notes of `maker` are what it found."""

    layout: str
    settings: Mapping[str, str]
    where: str
    rows: list[Row] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    maker: Maker = field(init=False)
    _image: Image = ()
    _named: dict[str, int] = field(default_factory=dict)
    # names of rows -> step that makes their result
    _from: int = 0
    # number of the row that made the image

    def __post_init__(self) -> None:
        self.maker = Maker(self.layout, self.settings, self.where)

    def resolve(self, said: Sequence[Said]) -> None:
        """Take the rows in order."""
        told = shape(self.settings.get("input", ""))
        if len(told) > 1:
            self._image = self.maker.channels_first(told)
        for at, row in enumerate(said):
            self.maker.notes += [f"row {row.number}: {text}" for text in row.disagreements]
            if row.kind == "repeat":
                self._repeat(self._closed_block(row), row.block_times, row)
            elif row.kind in ("sum", "max"):
                self.rows.append(Row(row.number, row.line, row.kind, row.name, row.text, claims=row.claims))
            elif row.kind == "input":
                self._image, self._from = self._network_input(row), row.number
            elif row.kind == "unknown":
                raise self.maker.fault(row, "is no layer that peakmem reads", "conv, dw, fc, pool, bn, relu, add …")
            elif row.kind == "other":
                self.maker.notes.append(f"row {row.number} ({row.text[:40]}) is no layer and was passed over")
            else:
                self._layer(row, next((later for later in said[at + 1 :] if later.kind == "layer"), None))
            if row.kind == "layer" and row.block and row.block_times > 1:
                block = range(max(len(self.rows) - row.block, 0), len(self.rows))
                self._repeat(block, row.block_times, row)
        self.maker.finish()

    def _network_input(self, row: Said) -> Image:
        shapes = (row.phrase.output, row.phrase.input, row.phrase.kernel, row.phrase.numbers[:1])
        image = self.maker.channels_first(max(shapes, key=len))
        channels = next((many for word, many in _COLOURS.items() if word in row.text.lower()), 0)
        if len(image) == 2 and channels:
            image = (channels, *image)
        return self._full(row, image)

    # -- one layer -----------------------------------------------------------------------

    def _layer(self, row: Said, later: Said | None) -> None:
        spoken = row.phrase
        if spoken.unread:
            raise self.maker.fault(row, f"is a layer that is not read ({spoken.unread})", "layers over images")
        times = spoken.repeat or 1
        if spoken.ops[0] == "upsample":
            times = 1
        if times > MOST_TIMES:
            raise self.maker.fault(row, f"is repeated {times} times", f"{MOST_TIMES} or less")
        if times > 1:
            self.maker.assume("a row with a repeat stands for copies of itself alone (`… x5` repeats a block)", row)
        refs = self._refs(row)
        sums = spoken.ops[0] in ("add", "concat")
        base = refs[0] if refs and (not sums or len(refs) > 1) else -1
        others = tuple(refs if base < 0 else refs[1:]) if sums else ()
        if base >= 0:
            self._image, self._from = made(self.steps[base].parts), self.rows[self.steps[base].row].number
        printed = self.maker.channels_first(spoken.input)
        given, given_by = self._image, self._from
        read, starts, flatten = self._input(row, printed)
        images = tuple(made(self.steps[at].parts) for at in others)
        image, shown = read, None
        for copy in range(times):
            parts = self.maker.parts(row, image, images, later if times == 1 else None, copy)
            result = self.maker.made(row, parts)
            if shown is None:
                starts = starts or parts[0].image != read
                self._append(Step(len(self.rows), parts, starts, others, flatten, base), row)
                shown = Row(
                    row.number, row.line, "layer", row.name, row.text, parts, parts[0].image, result, times, printed,
                    self.maker.channels_first(spoken.output), given, given_by, row.claims,
                )  # fmt: skip
            else:
                flat = len(parts[0].image) < len(image)
                self._append(Step(len(self.rows), parts, parts[0].image != image and not flat, (), flat), row)
            image = result
        assert shown is not None
        self.rows.append(replace(shown, output=image))
        self._image, self._from = image, row.number
        for name in (row.name.lower(), row.text.lower()):
            self._named[name] = len(self.steps) - 1
        for name in (f"l{row.number}", str(row.number)):
            self._named.setdefault(name, len(self.steps) - 1)

    def _append(self, step: Step, row: Said) -> None:
        if len(self.steps) >= MOST_LAYERS:
            raise self.maker.fault(row, f"makes more than {MOST_LAYERS} layers", "fewer repeats")
        self.steps.append(step)

    def _input(self, row: Said, printed: Image) -> tuple[Image, bool, bool]:
        """(what the row reads, whether that is an input of its own, whether the chain is flattened for it)."""
        spoken, linear = row.phrase, row.phrase.ops[0] == "fc"
        image, starts = self._image, not self.steps
        if not image:
            if not printed:
                raise FormatError(
                    f"{self.maker.at(row)} has no input size, and nothing stands before it", where=self.where,
                    expected="`in 224x224x3` in the row, a column `input`, or a line `input: 224x224x3` of its own",
                )  # fmt: skip
            image, starts = self._full(row, printed), True
        elif printed and not agree(image, printed):
            have, said = written(image, self.layout), written(printed, self.layout)
            by = f"row {self._from} gives {have}" if self._from else f"the input is {have}"
            self.maker.contradiction(row, f"reads {said}", by)
            image, starts = self._full(row, printed), True
        if linear and len(image) > 1:
            inside = self._features(spoken)
            total = size(image)
            if inside and total not in inside:
                self.maker.contradiction(row, f"takes {inside[0]} features", f"its input has {total}")
                return (inside[0],), True, False
            return (total,), starts, True
        return image, starts, False

    @staticmethod
    def _features(spoken: Phrase) -> tuple[int, ...]:
        """Features that the kernel of a fully connected layer may take."""
        kernel = spoken.kernel
        return kernel if len(kernel) == 2 else (size(kernel[:-1]),) if len(kernel) > 2 else ()

    # -- repeats -------------------------------------------------------------------------

    def _closed_block(self, row: Said) -> list[int]:
        """The rows before a lone `… x5`: the longest run that gives what it reads."""
        layers = [at for at, have in enumerate(self.rows) if have.kind == "layer"]
        for many in range(min(LONGEST_BLOCK, len(layers)), 0, -1):
            first, last = self.rows[layers[-many]], self.rows[layers[-1]]
            inner = [self.rows[at] for at in layers[-many:]]
            joined = all(agree(before.output, after.image) for before, after in pairwise(inner))
            if first.image == last.output and joined and not _is_repeated(inner):
                numbers = listed([have.number for have in inner])
                self.maker.notes.append(
                    f"row {row.number} ({row.text[:20]!r}): {numbers} stand {row.block_times} times in all"
                )
                return layers[-many:]
        raise self.maker.fault(row, "repeats rows that do not give what they read", "a repeat in the rows themselves")

    def _repeat(self, block: Sequence[int], times: int, row: Said) -> None:
        if times > MOST_TIMES:
            raise self.maker.fault(row, f"is repeated {times} times", f"{MOST_TIMES} or less")
        if not block:
            raise self.maker.fault(row, "repeats nothing", "rows before it")
        inside = set(block)
        steps = [step for step in self.steps if step.row in inside]
        if times > 1 and (any(step.reads for step in steps) or self.rows[block[0]].image != self._image):
            raise self.maker.fault(row, "repeats rows that do not give what they read", "the rows written out")
        for _ in range(times - 1):
            for step in steps:
                self._append(replace(step, starts=False), row)
        for at in block:
            self.rows[at] = replace(self.rows[at], times=self.rows[at].times * max(times, 1))

    # -- small things --------------------------------------------------------------------

    def _full(self, row: Said, printed: Image) -> Image:
        """A whole image of a printed one; the channels of a bare height x width come from the kernel."""
        if len(printed) != 2:
            if not printed or min(printed) < 1:
                raise self.maker.fault(row, "has no input size", "in 224x224x3")
            return printed
        kernel, ops = row.phrase.kernel, row.phrase.ops
        if row.in_channels:
            return (row.in_channels, *printed)
        if ops[:1] == ("dw",) and len(kernel) == 3:
            return (kernel[2], *printed)
        if len(kernel) == 4:
            return (kernel[2] * (row.phrase.group or 1), *printed)
        if self._image and len(self._image) == 3:
            return (self._image[0], *printed)
        raise self.maker.fault(row, "does not say how many channels its input has", "in 224x224x3")

    def _refs(self, row: Said) -> list[int]:
        """Steps that the row names, by name, by number (l3) or counted back (-1)."""
        steps = []
        for name in row.phrase.refs:
            back = name[1:] if name.startswith("-") else ""
            at = len(self.steps) - int(back) if back.isdecimal() and len(back) < 6 else self._named.get(name.lower())
            if at is None or not 0 <= at < len(self.steps):
                raise self.maker.fault(row, f"reads {name[:40]!r}, which no row before it is called", "a name or l3")
            steps.append(at)
        return steps


def _is_repeated(rows: Sequence[Row]) -> bool:
    """Whether rows are a shorter run that stands more than once."""
    signs = [(row.parts, row.image) for row in rows]
    return any(len(signs) % many == 0 and signs[:many] * (len(signs) // many) == signs for many in range(1, len(signs)))
