"""Copying a log's events into a recorder, so that some can be left out and others put between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace

from peakmem.training.log import Category, Doubt, Log, events, spans
from peakmem.training.recorder import Recorder


class Copying:
    """A log on its way into a recorder: events are taken in order, but for storages that are left out."""

    def __init__(self, log: Log, *, device: str = "", without: Collection[int] = ()) -> None:
        self.log, self.events, self.spans = log, events(log), list(spans(log))
        self.recorder = Recorder(device=device or log.device, origin=log.origin)
        self.recorder.notes += log.notes
        self.without = frozenset(without)
        self.relabelled: dict[int, Category] = {}
        # storages that are something else in the copy
        self.renamed: dict[int, str] = {}
        self.released_after: dict[int, list[int]] = defaultdict(list)
        # moments after which storages go that went elsewhere in the log
        self.kept: set[int] = set()
        # storages whose release in the log is not one of the copy
        self.numbers: dict[int, int] = {}
        # of the copy, by those of the log
        self._doubts: Mapping[int, list[Doubt]] = defaultdict(list)
        for doubt in log.doubts:
            self._doubts[doubt.moment].append(doubt)

    def take(self, moment: int) -> None:
        """The event of one moment, with what is doubted there, if it belongs to what is copied."""
        event = self.events[moment]
        for _ in range(self.log.emptied.count(moment) if self.log.emptied else 0):
            self.recorder.empty_cache()
        if event.storage not in self.without:
            if event.allocates:
                item = self.log.storages[event.storage]
                self.numbers[event.storage] = self.recorder.allocate(
                    item.nbytes, item.operator, category=self.relabelled.get(event.storage, item.category),
                    dtype=item.dtype, shape=item.shape, name=self.renamed.get(event.storage, item.name),
                    module=item.module, source=item.source,
                )  # fmt: skip
            elif event.storage not in self.kept:
                self.recorder.release(self.numbers[event.storage])
            for doubt in self._doubts[moment]:
                self.recorder.doubt(doubt.nbytes, doubt.operator, doubt.reason)
        for storage in self.released_after.get(moment, ()):
            self.recorder.release(self.numbers[storage])

    def finish(self) -> Log:
        """The copy."""
        return replace(self.recorder.finish(), origin=self.log.origin, work=self.log.work)
