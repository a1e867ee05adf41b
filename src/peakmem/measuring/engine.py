"""Engines as data: what each reads, its settings, whether it is installed; read from the runners' own files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from peakmem.errors import UsageError
from peakmem.measuring.record import Value

BUILT_IN = ("ncnn", "onnxruntime", "litert", "tflm", "openvino", "pytorch", "executorch", "mnn")
# runners/NAME.py each

COMMON: tuple[tuple[str, Value, tuple[Value, ...], str], ...] = (
    ("threads", 1, (), "threads the engine may compute with; each brings a stack and maybe an allocator arena"),
    ("malloc_mmap_threshold", 0, (), "glibc: blocks of this many bytes get a mapping of their own; 0 leaves it alone"),
    ("malloc_trim_threshold", 0, (), "glibc: free bytes at the heap's top before it shrinks; 0 leaves it alone"),
    ("malloc_arena_max", 0, (), "glibc: most arenas, of 64 MiB of address space each; 0 leaves it alone"),
    ("python_malloc", "pymalloc", ("pymalloc", "malloc"), "who serves Python's small objects"),
)
# settings of the process, which every engine has
_ON, _OFF = ("on", "true", "yes", "1"), ("off", "false", "no", "0")


@dataclass(frozen=True, slots=True)
class Setting:
    """One option that moves memory."""

    name: str
    default: Value
    choices: tuple[Value, ...]
    # empty for flags and free numbers
    effect: str

    def parse(self, text: str) -> Value:
        """`text` as a value of this setting.

        Raises:
            UsageError: not a value it can take.
        """
        if isinstance(self.default, bool):
            if text.lower() in (*_ON, *_OFF):
                return text.lower() in _ON
        elif isinstance(self.default, int):
            digits = text.replace("_", "")
            whole = digits.isascii() and digits.removeprefix("-").isdecimal() and len(digits) < 20
            number = int(digits) if whole else self.least - 1
            if number >= self.least and (not self.choices or number in self.choices):
                return number
        elif not self.choices or text in self.choices:
            return text
        raise UsageError(f"{text!r} is not a value of setting {self.name!r}", expected=self.expected)

    @property
    def expected(self) -> str:
        """The values it can take, in words."""
        if isinstance(self.default, bool):
            return "on or off"
        number = f"a number of {self.least} or more" if isinstance(self.default, int) else "a text"
        return ", ".join(map(str, self.choices)) or number

    @property
    def least(self) -> int:
        """The smallest number it can take: 0 or -1 where that is the default, and means that it is left alone."""
        if self.choices:
            return min(int(choice) for choice in self.choices if not isinstance(choice, str))
        return 1 if isinstance(self.default, str) or self.default >= 1 else int(self.default)


def said(value: Value) -> str:
    """A value as it is typed, what `Setting.parse` reads."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine, as its runner describes it."""

    name: str
    extra: str
    distributions: tuple[str, ...]
    reads: tuple[str, ...]
    settings: tuple[Setting, ...]
    # the engine's own first, then those of every process
    environment: Mapping[str, str]
    path: Path
    # of the runner's file
    conversion: tuple[str, ...] = ()
    # settings that say how the model is converted, not how it is run; added by who converts

    def setting(self, name: str) -> Setting:
        """The setting called `name`.

        Raises:
            UsageError: it has none of that name.
        """
        for setting in self.settings:
            if setting.name == name:
                return setting
        raise UsageError(
            f"{self.name} has no setting {name!r}", expected=", ".join(setting.name for setting in self.settings)
        )

    def defaults(self) -> dict[str, Value]:
        """Every setting at its default."""
        return {setting.name: setting.default for setting in self.settings}

    def version(self) -> str:
        """The installed version, empty when the engine is not installed."""
        return installed(self.distributions[0]) if self.distributions else ""


def installed(distribution: str) -> str:
    """The version of an installed distribution, empty when it is not there."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def describe(runner: ModuleType) -> Engine:
    """The engine that a runner's module constants describe."""
    settings = tuple(Setting(*row) for row in (*runner.SETTINGS, *COMMON))
    assert runner.__file__ is not None
    return Engine(
        runner.NAME, runner.EXTRA, tuple(runner.DISTRIBUTIONS), tuple(runner.READS), settings,
        dict(runner.ENVIRONMENT), Path(runner.__file__),
    )  # fmt: skip


def engine(name: str) -> Engine:
    """The engine called `name`.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in BUILT_IN:
        raise UsageError(f"there is no engine {name!r}", expected=", ".join(BUILT_IN), hint="peakmem engines")
    return describe(import_module(f"peakmem.measuring.runners.{name}"))
