"""How a log is written: allocations and releases in the order in which they happen.

A producer keeps `step`, `phase` and `module` up to date and calls `allocate` and `release`; moments, categories that
only the end tells (saved or temporary) and storages that take over another's place are seen to here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from peakmem.training.log import Category, Doubt, Log, Mark, Phase, Storage, Work

LIVING = -1
# the stop of a storage that has not been released


class Recorder:
    """Collects the events of one log."""

    def __init__(self, *, device: str, origin: str) -> None:
        self.device, self.origin = device, origin
        self.step = -1
        self.phase: Phase = "build"
        self.module = ""
        self.notes: list[str] = []
        self._made: list[dict[str, object]] = []
        self._events: list[tuple[int, bool] | None] = []
        self._marks: list[tuple[int, int, Phase]] = [(0, -1, "build")]
        self._doubts: list[tuple[int, int, str, str]] = []
        self._emptied: list[int] = []
        self._work: dict[tuple[int, Phase], int] = {}
        self._place: dict[int, int] = {}
        # a storage that took over another's place: whose
        self._may_reuse: tuple[int, int, int] | None = None
        self.reused = 0

    def enter(self, phase: Phase, step: int | None = None) -> None:
        """From now on it is `phase` (of `step`, the present one without it)."""
        step = self.step if step is None else step
        if (step, phase) != (self.step, self.phase):
            self.step, self.phase = step, phase
            self._marks.append((len(self._events), step, phase))

    def allocate(
        self,
        nbytes: int,
        operator: str = "",
        *,
        category: Category | None = None,
        dtype: str = "",
        shape: tuple[int, ...] = (),
        name: str = "",
        module: str | None = None,
        source: str = "",
    ) -> int:
        """A storage comes; its number, for `release` and `label`.

        Without a category it is a saved activation when it is made in a forward and outlives it, else temporary.
        """
        number = len(self._made)
        self._made.append(
            {
                "nbytes": nbytes, "category": category, "operator": operator, "phase": self.phase, "step": self.step,
                "module": self.module if module is None else module, "dtype": dtype, "shape": shape, "name": name,
                "source": source,
            }
        )  # fmt: skip
        self._may_reuse = None
        self._events.append((number, True))
        return number

    def release(self, number: int) -> None:
        """A storage goes."""
        number = self._root(number)
        if self._may_reuse is not None and self._may_reuse[1] == number:
            new, old, at = self._may_reuse
            self._may_reuse = None
            self._events[at] = None
            self._place[new] = old
            self.reused += 1
            return
        self._events.append((number, False))

    def workspace(
        self, nbytes: int | Sequence[int], operator: str, *, module: str | None = None, source: str = ""
    ) -> None:
        """One storage, or several that come one after the other, all gone within one operator."""
        made = [
            self.allocate(size, operator, category="kernel workspace", module=module, source=source)
            for size in ([nbytes] if isinstance(nbytes, int) else nbytes)
            if size > 0
        ]
        for number in reversed(made):
            self.release(number)

    def may_take_over(self, new: int, old: int) -> None:
        """`new`, just allocated, is `old` written in place if `old` is released before anything is allocated."""
        old = self._root(old)
        if self._made[new]["nbytes"] == self._made[old]["nbytes"] and self._events[-1:] == [(new, True)]:
            self._may_reuse = (new, old, len(self._events) - 1)

    def label(self, number: int, category: Category, name: str = "") -> None:
        """What a storage turns out to be."""
        made = self._made[self._root(number)]
        made["category"] = category
        if name:
            made["name"] = name

    def label_open(self, number: int, category: Category) -> None:
        """What a storage is that no module made, unless that is known already."""
        made = self._made[self._root(number)]
        if made["category"] is None and not made["module"]:
            made["category"] = category

    def settle(self, category: Category) -> None:
        """Call all that is alive and open by this name."""
        gone = {event[0] for event in self._events if event is not None and not event[1]}
        for number, made in enumerate(self._made):
            if made["category"] is None and number not in gone and number not in self._place:
                made["category"] = category

    def category(self, number: int) -> object:
        """What a storage is so far; None when that is open."""
        return self._made[self._root(number)]["category"]

    def doubt(self, nbytes: int, operator: str, reason: str) -> None:
        """Bytes that the operator that just ran may have taken and no table tells."""
        self._doubts.append((max(len(self._events) - 1, 0), nbytes, operator, reason))

    def empty_cache(self) -> None:
        """The allocator is asked to give back what it only caches."""
        self._emptied.append(len(self._events))

    def work(self, flops: int) -> None:
        """Floating-point operations done in this phase."""
        key = (self.step, self.phase)
        self._work[key] = self._work.get(key, 0) + flops

    def _root(self, number: int) -> int:
        while number in self._place:
            number = self._place[number]
        return number

    def finish(self) -> Log:
        """The log of everything so far."""
        moment_of, moment = [], 0
        for event in self._events:
            moment_of.append(moment)
            moment += event is not None
        moment_of.append(moment)
        start: dict[int, int] = {}
        stop: dict[int, int] = {}
        for at, event in enumerate(self._events):
            if event is not None:
                (start if event[1] else stop)[event[0]] = moment_of[at]
        marks: list[Mark] = []
        for at, step, phase in self._marks:
            mark = Mark(moment_of[at], step, phase)
            if marks and marks[-1].moment == mark.moment:
                marks.pop()  # of a phase in which nothing came or went
            marks.append(mark)
        storages = []
        for number, begun in sorted(start.items(), key=lambda pair: pair[1]):
            made = {**self._made[number], "category": self._made[number]["category"] or "temporary"}
            storages.append(Storage(**made, start=begun, stop=stop.get(number, moment)))  # type: ignore[arg-type]
        open_ones = {start[number] for number in start if self._made[number]["category"] is None}
        storages = _told_apart(storages, marks, moment, open_ones)
        return Log(
            tuple(storages), moment, tuple(marks), self.device, self.origin,
            tuple(Doubt(min(moment_of[item[0]], max(moment - 1, 0)), *item[1:]) for item in self._doubts),
            tuple(Work(step, phase, flops) for (step, phase), flops in self._work.items()),
            tuple(moment_of[at] for at in self._emptied),
            tuple(self.notes),
        )  # fmt: skip


def _told_apart(storages: list[Storage], marks: list[Mark], moments: int, open_ones: set[int]) -> list[Storage]:
    """Saved or temporary: made in a forward and alive when it ends, or not."""
    ends = [*(mark.moment for mark in marks[1:]), moments]
    found, at = [], 0
    for storage in storages:
        while storage.start >= ends[at]:
            at += 1
        if storage.start in open_ones and storage.phase == "forward" and storage.stop > ends[at]:
            storage = replace(storage, category="saved activation")
        found.append(storage)
    return found
