"""What stands in a log at one moment, sorted for people: storages that are alike, modules, what steps leave."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from peakmem.training.log import Category, Log, Storage


@dataclass(frozen=True, slots=True)
class Alike:
    """Storages of one kind: same category, operator, module, shape and phase."""

    storage: Storage
    # the first of them
    count: int
    nbytes: int


def alike(log: Log, moment: int) -> tuple[Alike, ...]:
    """What is alive after a moment, what is alike as one entry, the largest first."""
    found: dict[tuple[object, ...], list[Storage]] = defaultdict(list)
    for one in log.storages:
        if one.start <= moment < one.stop:
            key = (
                one.category,
                one.operator,
                one.module,
                one.name,
                one.dtype,
                one.shape,
                one.nbytes,
                one.phase,
                one.step,
            )
            found[key].append(one)
    entries = (Alike(items[0], len(items), sum(item.nbytes for item in items)) for items in found.values())
    return tuple(sorted(entries, key=lambda entry: -entry.nbytes))


def by_module(log: Log, moment: int) -> tuple[tuple[str, dict[Category, int]], ...]:
    """Bytes alive after a moment by the module that they belong to, the largest first.

    A parameter, its gradient and its optimizer state belong to the module that the parameter is in.
    """
    found: dict[str, dict[Category, int]] = defaultdict(lambda: defaultdict(int))
    for one in log.storages:
        if one.start <= moment < one.stop and one.nbytes:
            found[_home(one)][one.category] += one.nbytes
    totals = sorted(found.items(), key=lambda pair: -sum(pair[1].values()))
    return tuple((module, dict(categories)) for module, categories in totals)


def _home(one: Storage) -> str:
    if one.name and one.category in ("parameter", "buffer", "gradient", "optimizer state"):
        return one.name.rpartition(".")[0]
    return one.module


def at_end_of_steps(log: Log) -> tuple[tuple[int, dict[Category, int]], ...]:
    """What is alive when each step ends, by category."""
    ends: dict[int, int] = {}
    for at, mark in enumerate(log.marks):
        ends[mark.step] = (log.marks[at + 1].moment if at + 1 < len(log.marks) else log.moments) - 1
    found = []
    for step, moment in sorted(ends.items()):
        totals: dict[Category, int] = defaultdict(int)
        for one in log.storages:
            if one.start <= moment < one.stop:
                totals[one.category] += one.nbytes
        found.append((step, dict(totals)))
    return tuple(found)
