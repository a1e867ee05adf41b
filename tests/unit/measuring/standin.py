"""What a runner gets in the tests' own process instead of `child.Tools`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from peakmem.measuring.engine import COMMON
from peakmem.measuring.record import Value


class Refused(Exception):
    """Stands for `child.Unsupported`."""


class StandIn:
    """Keeps facts and marks."""

    Unsupported = Refused
    Missing = ModuleNotFoundError

    def __init__(self, scratch: Path, *, timeline: bool = False) -> None:
        self.scratch = str(scratch)
        self.instrumented = timeline
        self.timeline = timeline
        self.folder = str(scratch)
        self.ports: list[tuple[str, str, tuple[int, ...]]] = []
        self.facts: dict[str, str] = {}
        self.marks: list[str] = []

    def fact(self, name: str, value: object) -> None:
        """Keep it as text, as the wire does."""
        self.facts[name] = str(value)

    def mark(self, phase: str) -> None:
        """Keep it."""
        self.marks.append(phase)

    def note(self, operator: str) -> None:
        """Nobody counts."""

    def output(self) -> str:
        """Nothing is kept."""
        return ""


def chosen(runner: ModuleType, **settings: Value) -> dict[str, Value]:
    """All settings of a runner, at their defaults unless said."""
    defaults = {name: default for name, default, _, _ in (*runner.SETTINGS, *COMMON)}
    assert set(settings) <= set(defaults)
    return {**defaults, **settings}
