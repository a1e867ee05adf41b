"""Logs of one step at several sizes, told apart by their structure: the same events in the same order, or not.

Where the structure is the same, the storages of two logs correspond one to one and only their bytes differ. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from peakmem.training.log import Log, Storage


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring values whose logs have one structure."""

    logs: Mapping[int, Log]
    # by value, ascending

    @property
    def low(self) -> int:
        """The smallest value that was traced."""
        return min(self.logs)

    @property
    def high(self) -> int:
        """The largest value that was traced."""
        return max(self.logs)


def stretches(logs: Mapping[int, Log]) -> list[Stretch]:
    """The logs, ascending by value, cut where the structure changes."""
    found: list[dict[int, Log]] = []
    for value in sorted(logs):
        if found and alike(next(iter(found[-1].values())), logs[value]):
            found[-1][value] = logs[value]
        else:
            found.append({value: logs[value]})
    return [Stretch(one) for one in found]


def alike(one: Log, other: Log) -> bool:
    """Whether two logs have the same events in the same order; bytes and shapes do not count."""
    return (
        len(one.storages) == len(other.storages)
        and (one.moments, one.marks, one.emptied) == (other.moments, other.marks, other.emptied)
        and all(_place(left) == _place(right) for left, right in zip(one.storages, other.storages, strict=True))
        and [(it.moment, it.operator, it.reason) for it in one.doubts]
        == [(it.moment, it.operator, it.reason) for it in other.doubts]
    )


def difference(one: Log, other: Log) -> str:
    """Where two logs part first, in words."""
    for left, right in zip(one.storages, other.storages, strict=False):
        if _place(left)[:-2] != _place(right)[:-2]:
            return next(_said(left, right))
    longer = one if len(one.storages) > len(other.storages) else other
    at = min(len(one.storages), len(other.storages))
    if at < len(longer.storages):
        return f"{_where(longer.storages[at])} is in one of them alone"
    for left, right in zip(one.storages, other.storages, strict=True):
        if _place(left) != _place(right):
            return f"{_where(left)} gives its result back at another moment"
    return "in what its operators may take"


def _place(item: Storage) -> tuple[object, ...]:
    """What has to be equal for two storages to correspond."""
    return (
        item.operator, item.module, item.category, item.phase, item.step, item.name, item.dtype, item.start, item.stop,
    )  # fmt: skip


def _said(left: Storage, right: Storage) -> Iterator[str]:
    if _where(left) != _where(right):
        yield f"{_where(left)} against {_where(right)}"
    for key in ("category", "dtype", "name"):
        if getattr(left, key) != getattr(right, key):
            yield f"{_where(left)} makes a {getattr(left, key)} or a {getattr(right, key)}"


def _where(item: Storage) -> str:
    of = f" of {item.module}" if item.module else ""
    return f"{item.operator or 'a block'}{of} in the {item.phase} of step {item.step}"
