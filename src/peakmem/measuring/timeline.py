"""A measured timeline: what was alive while each operator of one run ran, from the counter's event log.

In the shape of an estimated one: fields that mean the same have the same names. It counts everything that malloc gave
to the engine and to the user's libraries, an operator's scratch memory as well as tensors. Blocks that the Python
interpreter asked for stand apart (`python_bytes`), because following operators makes some itself; only inputs, which
lie in objects of Python, are counted as what they are.

Operators are known from notes in the event list (see `runners/pytorch.py`), fields separated by tabs:

    begin   OPERATOR TYPE  MODULE PATH        an operator begins
    end                                       it has ended; what its caller still holds is alive
    tensor  POINTER  BYTES  DTYPE  SHAPE      a storage that it returned
    input   POINTER  BYTES  NAME  DTYPE  SHAPE
    stored  POINTER  BYTES  NAME              a weight

Any other note begins an operator of that name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peakmem.errors import FormatError, UsageError
from peakmem.measuring.counter.log import BORN, DIED, MAPPED, NOTE, UNMAPPED, libraries_of, open_columns, verify
from peakmem.measuring.record import AliveBlock, MeasuredPeak, MeasuredPoint, MeasuredTimeline, Role

INTERPRETER = re.compile(r"^(lib)?python\d|^_ctypes\.|^libffi[.-]")
# libraries whose blocks are kept apart
OUTSIDE = "(outside operators)"
GAP_BYTES = 4096
# what is allocated between operators is a step of its own from so much on


@dataclass(slots=True)
class _Block:
    """A block of the run, or an input."""

    nbytes: int
    library: str
    born: int
    # event of the run; -1 for before
    segment: int
    # in which it was born
    died: int = -1
    last: int = -1
    # segment in which it died
    name: str = ""
    # of an input
    dtype: str = ""
    shape: str = ""
    tensor: bool = False


@dataclass(slots=True)
class _Segment:
    """From one boundary to the next: an operator, or what lies between two."""

    op_type: str
    scope: str
    operator: bool
    before: int
    live: int
    peak: int
    allocations: int = 0


def timeline_of(
    log: Path, maps: str, names: Mapping[int, str], phase: str = "", *, largest: int = 50
) -> MeasuredTimeline:
    """The timeline of one phase of an event log.

    Args:
        log: the file of the counter.
        maps: /proc/PID/maps of the process near its end.
        names: what the ids of notes stand for.
        phase: "run 2"; the last run where empty.
        largest: how many blocks alive at the peak are listed.

    Raises:
        FormatError: not a log, or a damaged one.
        UsageError: no such phase in it.
    """
    import numpy as np

    table, head = open_columns(log)
    kind = table["kind"].astype(np.int64)
    size = table["size"].astype(np.int64)
    heap = np.where((kind == BORN) | (kind == DIED), size, 0)
    mapping = np.where((kind == MAPPED) | (kind == UNMAPPED), size, 0)
    verify(log, table, kind, size, np.cumsum(heap), np.cumsum(mapping))
    number, libraries = libraries_of(table["caller"], maps)
    texts = {
        int(at): names.get(int(table["pointer"][at]), f"note {int(table['pointer'][at])}")
        for at in np.flatnonzero(kind == NOTE)
    }
    first, last, phase = _window(texts, phase)
    replay = _Replay()
    stored, inputs = _marked(texts, first)
    columns = (table["pointer"], size, number)
    standing = _standing(table, kind, first)
    for at, pointer, nbytes, owner in zip(
        standing.tolist(), *(column[standing].tolist() for column in columns), strict=True
    ):
        replay.stand(pointer, nbytes, libraries[owner], at, stored, inputs)
    pointers, sizes, owners = (column[first:last].tolist() for column in columns)
    replay.begin()
    for at, what in enumerate(kind[first:last].tolist()):
        if what == BORN:
            replay.birth(pointers[at], sizes[at], libraries[owners[at]], at)
        elif what == DIED:
            replay.death(pointers[at], at)
        elif what == NOTE:
            replay.note(texts[first + at])
        elif what in (MAPPED, UNMAPPED):
            replay.map(sizes[at])
    replay.close()
    return _composed(replay, phase, not int(head["flags"]), largest)


def read_timeline(events: Path, phase: str = "") -> MeasuredTimeline:
    """The timeline of a kept event list (`Run.events_file`), which has its names and mappings in a .json beside it.

    Raises:
        FormatError, UsageError: as `timeline_of`; or what stands beside the list is missing or damaged.
    """
    beside = events.with_suffix(".json")
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
        names = {int(number): str(name) for number, name in told["names"].items()}
        maps = str(told["maps"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise FormatError(
            "the names of an event list cannot be read", where=str(beside), expected="a file that was kept with it"
        ) from fault
    return timeline_of(events, maps, names, phase)


class _Replay:
    """What is alive, event by event."""

    def __init__(self) -> None:
        self.alive: dict[int, _Block] = {}
        # of the run, and inputs
        self.blocks: list[_Block] = []
        self.live = 0
        # bytes of `alive`
        self.others: dict[int, tuple[str, int]] = {}
        # "weights", "standing" or "python", and bytes of each other block
        self.held = {"weights": 0, "standing": 0, "python": 0}
        self.segments: list[_Segment] = []
        self.top, self.top_segment, self.top_total = -1, 0, -1
        # event and segment of the peak
        self.top_held = dict(self.held)
        self.python_peak = self.mapped = self.mapped_peak = 0

    def stand(
        self, pointer: int, nbytes: int, library: str, at: int, stored: Mapping[int, int],
        inputs: Mapping[int, tuple[int, list[str]]],
    ) -> None:  # fmt: skip
        """A block from before the run. A note names it that came after its birth, at record `at`."""
        noted, fields = inputs.get(pointer, (-1, []))
        if at < noted:
            nbytes = int(fields[0])
            # without the byte that Python puts behind a bytearray
            block = _Block(nbytes, library, -1, 0, name=fields[1], dtype=fields[2], shape=fields[3])
            self.alive[pointer] = block
            self.blocks.append(block)
            self.live += nbytes
            return
        role = "weights" if at < stored.get(pointer, -1) else "python" if INTERPRETER.match(library) else "standing"
        self.others[pointer] = role, nbytes
        self.held[role] += nbytes

    def begin(self) -> None:
        self.held["python"] = 0
        # from here on, what it holds more
        self._open("", "", operator=False)
        self._look(-1)

    def birth(self, pointer: int, nbytes: int, library: str, at: int) -> None:
        if INTERPRETER.match(library):
            self.others[pointer] = "python", nbytes
            self.held["python"] += nbytes
            self.python_peak = max(self.python_peak, self.held["python"])
            return
        block = self.alive[pointer] = _Block(nbytes, library, at, len(self.segments) - 1)
        self.blocks.append(block)
        self.live += nbytes
        segment = self.segments[-1]
        segment.peak = max(segment.peak, self.live)
        segment.allocations += 1
        self._look(at)

    def _look(self, at: int) -> None:
        """Remember this event if nothing before reached so much."""
        total = self.live + self.held["weights"] + self.held["standing"]
        if total > self.top_total:
            self.top, self.top_segment, self.top_total = at, len(self.segments) - 1, total
            self.top_held = dict(self.held)

    def death(self, pointer: int, at: int) -> None:
        block = self.alive.pop(pointer, None)
        if block is not None:
            block.died, block.last = at, len(self.segments) - 1
            self.live -= block.nbytes
        elif pointer in self.others:
            role, nbytes = self.others.pop(pointer)
            self.held[role] -= nbytes

    def map(self, nbytes: int) -> None:
        self.mapped += nbytes
        self.mapped_peak = max(self.mapped_peak, self.mapped)

    def note(self, text: str) -> None:
        verb, *fields = text.split("\t")
        if verb == "begin" and len(fields) == 2:
            self._open(fields[0].removeprefix("aten."), fields[1].replace(".", "/"), operator=True)
        elif verb == "end" and not fields:
            self._open("", "", operator=False)
        elif verb == "tensor" and len(fields) == 4:
            block = self.alive.get(int(fields[0], 16))
            if block is not None and not block.name and not block.tensor:
                block.tensor, block.dtype, block.shape = True, fields[2], fields[3]
        elif verb not in ("input", "stored"):
            self._open(text, "", operator=True)

    def _open(self, op_type: str, scope: str, *, operator: bool) -> None:
        self.close()
        self.segments.append(_Segment(op_type, scope, operator, self.live, self.live, self.live))

    def close(self) -> None:
        if self.segments:
            self.segments[-1].live = self.live


def _window(texts: Mapping[int, str], phase: str) -> tuple[int, int, str]:
    """The records of a phase, and its name."""
    ends = [(at, text[6:]) for at, text in texts.items() if text.startswith("phase:")]
    wanted = [name for _, name in ends if (name == phase if phase else name.startswith("run "))]
    if not wanted:
        told = ", ".join(name for _, name in ends) or "none at all"
        raise UsageError(f"the event list has no phase {phase or 'run'!r}", expected=f"one of: {told}")
    begins = [0, *(at + 1 for at, _ in ends)]
    position = [name for _, name in ends].index(wanted[-1])
    return begins[position], ends[position][0], wanted[-1]


def _standing(table: Any, kind: Any, first: int) -> Any:
    """Records of the blocks that are alive before record `first`."""
    import numpy as np

    events = np.flatnonzero((kind[:first] == BORN) | (kind[:first] == DIED))[::-1]
    _, latest = np.unique(table["pointer"][events], return_index=True)
    found = np.sort(events[latest])
    return found[kind[found] == BORN]


def _marked(texts: Mapping[int, str], first: int) -> tuple[dict[int, int], dict[int, tuple[int, list[str]]]]:
    """Pointers of weights and of inputs that notes before record `first` name, with the record of the note."""
    stored: dict[int, int] = {}
    inputs: dict[int, tuple[int, list[str]]] = {}
    for at, text in texts.items():
        verb, *fields = text.split("\t")
        if at < first and verb == "stored" and len(fields) == 3:
            stored[int(fields[0], 16)] = at
        elif at < first and verb == "input" and len(fields) == 5:
            inputs[int(fields[0], 16)] = at, fields[1:]
    return stored, inputs


def _composed(replay: _Replay, phase: str, complete: bool, largest: int) -> MeasuredTimeline:
    """The timeline of what was replayed; what lies between operators and allocates nothing falls to the one before."""
    shown: list[_Segment] = []
    step_of: list[int] = []
    for segment in replay.segments:
        if segment.operator or segment.peak - segment.before >= GAP_BYTES:
            shown.append(segment)
        elif shown:
            shown[-1].peak = max(shown[-1].peak, segment.peak)
            shown[-1].allocations += segment.allocations
        step_of.append(max(len(shown) - 1, 0))
    titles = _titles(shown)
    points = tuple(
        MeasuredPoint(
            step, titles[step], one.op_type, one.live, one.scope, one.before, one.peak,
            max(one.peak - max(one.before, one.live), 0), one.allocations,
        )
        for step, one in enumerate(shown)
    )  # fmt: skip
    rows = [
        _row(block, step_of, titles, len(shown))
        for block in replay.blocks
        if block.born <= replay.top and (block.died < 0 or block.died > replay.top)
    ]
    rows.sort(key=lambda row: (-row.nbytes, row.start, row.name))
    sums = Counter[Role]()
    for row in rows:
        sums[row.role] += row.nbytes
    held = replay.top_held
    step = step_of[replay.top_segment]
    peak = MeasuredPeak(
        sums["input"] + sums["activation"], held["weights"], sums["workspace"], sums["other"], held["standing"],
        replay.top_total, step, titles[step] if shown else "", shown[step].op_type if shown else "",
        tuple(rows[:largest]), sum(row.nbytes for row in rows[largest:]), len(rows[largest:]),
    )  # fmt: skip
    left = sum(block.nbytes for block in replay.alive.values() if block.born >= 0)
    notes = () if any(one.operator for one in shown) else ("the engine told of no operators: the run is one step",)
    return MeasuredTimeline(phase, peak, points, left, replay.python_peak, replay.mapped_peak, complete, notes)


def _titles(shown: list[_Segment]) -> list[str]:
    """A name for each step: its module's where it is the only operator there, with type and number otherwise."""
    in_scope = Counter(one.scope for one in shown if one.operator)
    seen = Counter[str]()
    titles = []
    for one in shown:
        if not one.operator:
            titles.append(OUTSIDE)
            continue
        title = (
            one.scope if one.scope and in_scope[one.scope] == 1 else "/".join(filter(None, (one.scope, one.op_type)))
        )
        seen[title] += 1
        titles.append(title if seen[title] == 1 else f"{title}#{seen[title]}")
    return titles


def _row(block: _Block, step_of: list[int], titles: list[str], steps: int) -> AliveBlock:
    start = step_of[block.segment]
    stop = steps if block.died < 0 else step_of[block.last] + 1
    if block.born < 0:
        return AliveBlock(block.name, block.nbytes, block.shape, block.dtype, "input", "", 0, stop, block.library)
    role: Role = "activation" if block.tensor else "workspace" if block.last == block.segment else "other"
    maker = titles[start] if titles else ""
    return AliveBlock(maker, block.nbytes, block.shape, block.dtype, role, maker, start, stop, block.library)
