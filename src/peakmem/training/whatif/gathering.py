"""Full shard on a log: when the whole parameters of a unit are there, and its whole gradients.

As FSDP2 does it (torch 2.13, torch/distributed/fsdp/_fully_shard/_fsdp_param_group.py), read off its own traces over a
group of ranks that only counts:

- before the forward of a unit its parameters are gathered into a buffer and copied out of it; the buffer of the unit
  before goes once that is done, the parameters when the forward ends. Those of the root, in no unit, stay;
- before the backward of a unit its parameters are copied out of a buffer that was fetched while the unit before ran;
  the next unit's is fetched then;
- after it the parameters go, the gradients are copied into a buffer and go, the rank's part of their sum is kept; the
  buffer goes when the next unit has come so far.

No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from peakmem.training.log import Log, Mark, Storage, spans
from peakmem.training.whatif.lives import Life

ROOT = ""
BEFORE = 0.25
# of a moment: ahead of an operator, and still in its phase, which begins 0.3 before its first moment


@dataclass(frozen=True, slots=True)
class _Unit:
    """A unit in one pass: its first and its last operator."""

    name: str
    first: int
    last: int


class _Gatherer:
    """Writes what one pass adds."""

    def __init__(self, log: Log, lives: Sequence[Life], units: Sequence[str]) -> None:
        self.log, self.lives = log, lives
        self.units = sorted(units, key=len, reverse=True)
        self.sizes: dict[str, int] = {}
        for item in log.storages:
            if item.category == "parameter":
                unit = self.unit_of(item.name)
                self.sizes[unit] = self.sizes.get(unit, 0) + item.nbytes
        self.made: list[Life] = []
        self.root_whole: Life | None = None
        self.whole = {item.start: item.nbytes for item in log.storages if item.category == "gradient"}
        # bytes of gradients that are not split, by their start

    def unit_of(self, path: str) -> str:
        return next((unit for unit in self.units if path == unit or path.startswith(unit + ".")), ROOT)

    def passed(self, mark: Mark, end: int) -> list[_Unit]:
        """Units in the order in which they run between two moments."""
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        for item in self.log.storages:
            if mark.moment <= item.start < end and item.module:
                unit = self.unit_of(item.module)
                first.setdefault(unit, item.start)
                last[unit] = item.start
        return sorted((_Unit(name, first[name], last[name]) for name in first), key=lambda unit: unit.first)

    def add(self, unit: str, what: str, mark: Mark, start: float, stop: float) -> Life:
        nbytes = self.sizes.get(unit, 0)
        life = Life(Storage(nbytes, "temporary", what, mark.phase, mark.step, unit, 0, 0), start, stop)
        if nbytes:
            self.made.append(life)
        return life

    def forward(self, mark: Mark, end: int) -> None:
        """The root is gathered first and stays; buffers outlive their unit until the next is copied out."""
        passed = self.passed(mark, end)
        begun, over = passed[0].first - BEFORE, max(unit.last for unit in passed) + 0.6
        self.root_whole = self.add(ROOT, "all_gather copy out", mark, begun + 0.01, end)
        buffer = self.add(ROOT, "all_gather", mark, begun, end)
        buffer.stop = over
        for unit in filter(lambda unit: unit.name, passed):
            before = unit.first - BEFORE
            following = self.add(unit.name, "all_gather", mark, before, over)
            self.add(unit.name, "all_gather copy out", mark, before + 0.01, unit.last + 0.5)
            buffer.stop = before + 0.02
            buffer = following

    def backward(self, mark: Mark, end: int) -> None:
        """Each unit is fetched while the one before runs; gradients leave unit by unit."""
        passed = self.passed(mark, end)
        inner = [unit for unit in passed if unit.name]
        fetched = self.add(inner[0].name, "all_gather", mark, passed[0].first - BEFORE, end) if inner else None
        reduced: Life | None = None
        for at, unit in enumerate(inner):
            before = unit.first - BEFORE
            self.add(unit.name, "all_gather copy out", mark, before, unit.last + 0.5)
            if fetched is not None:
                fetched.stop = before + 0.01
            following = inner[at + 1].name if at + 1 < len(inner) else None
            fetched = self.add(following, "all_gather", mark, before + 0.02, end) if following else None
            if reduced is not None:
                reduced.stop = unit.last + 0.51
            reduced = self.reduce(unit.name, mark, end, unit.last + 0.52)
        if self.root_whole is not None:
            self.root_whole.stop = end - 0.4
        if reduced is not None:
            reduced.stop = end - 0.39
        self.reduce(ROOT, mark, end, end - 0.38).stop = end - 0.1

    def reduce(self, unit: str, mark: Mark, end: int, moment: float) -> Life:
        """Whole gradients until `moment`, then a buffer, then the rank's parts."""
        buffer = self.add(unit, "reduce_scatter", mark, moment, end - 0.1)
        for life in self.lives:
            item = life.storage
            if item.category != "gradient" or self.unit_of(item.name) != unit or not mark.moment <= item.start < end:
                continue
            whole = replace(item, nbytes=self.whole[item.start], category="temporary")
            self.made.append(Life(whole, item.start, moment + 0.01))
            life.start = moment + 0.02
        return buffer


def gathered(log: Log, lives: Sequence[Life], units: Sequence[str]) -> list[Life]:
    """What full shard adds to a log whose parameters, gradients and states have been split.

    Gradients among `lives` start later: when their parts have been summed.
    """
    gatherer = _Gatherer(log, lives, units)
    for mark, end in spans(log):
        if mark.step >= 0 and mark.phase in ("forward", "backward") and gatherer.passed(mark, end):
            (gatherer.forward if mark.phase == "forward" else gatherer.backward)(mark, end)
    return gatherer.made
