"""A file of budgets, read and checked: which models, looked at how, and what each may need. Nothing is computed here.

`peakmem.toml`, or `[tool.peakmem]` of a pyproject.toml; docs/guides/ci.md explains it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peakmem import devices
from peakmem.budgets.contradictions import refuse_contradictions
from peakmem.budgets.file import HINT, SHARED, parsed, shown, text_of, tool_of
from peakmem.budgets.options import Options, Table, find_card, read_options
from peakmem.budgets.sizes import Growth, read_count, read_growth, read_size
from peakmem.budgets.words import NOT_ON_A_DEVICE, OPTIONS, QUANTITIES, TOP, unknown
from peakmem.devices import Device
from peakmem.errors import UsageError
from peakmem.toml import lines

_PATTERN = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Budget:
    """What one quantity may need at most."""

    quantity: str
    allowed: int
    written: str
    line: int


@dataclass(frozen=True, slots=True)
class GrowthBudget:
    """How much more than before a quantity may need."""

    quantity: str
    # "" for every quantity that is known
    growth: Growth
    line: int


@dataclass(frozen=True, slots=True)
class FitBudget:
    """A device that is to be fitted."""

    device: str
    line: int


@dataclass(frozen=True, slots=True)
class Case:
    """One model, or one model on one device, looked at in one way."""

    name: str
    # NAME, NAME/file where a pattern found it, NAME@device
    model: str
    device: str
    source: str
    # as shown and stored: relative to the folder of the configuration
    options: Options
    line: int
    budgets: tuple[Budget, ...] = ()
    growths: tuple[GrowthBudget, ...] = ()
    fits: tuple[FitBudget, ...] = ()
    fault: str = ""
    # why it cannot be looked at; "" otherwise
    notes: tuple[str, ...] = ()

    @property
    def configuration(self) -> dict[str, Any]:
        """All that decides its numbers."""
        return self.options.configuration(self.source)


@dataclass(frozen=True, slots=True)
class Config:
    """All that a file says."""

    file: Path
    cases: tuple[Case, ...]
    baseline: Path | None = None
    devices: tuple[Path, ...] = ()
    # files
    known: tuple[Device, ...] = ()
    # devices there are, with those of the files

    @property
    def folder(self) -> Path:
        """What paths in it are relative to."""
        return self.file.parent


def read_config(path: Path) -> Config:
    """The file at `path`.

    Raises:
        UsageError: no such file, not TOML, a key or value that is not understood, budgets that contradict each other;
            each with its line.
    """
    text = text_of(path)
    data: Mapping[str, Any] = parsed(text, path)
    prefix: tuple[str, ...] = ()
    if path.name == SHARED:
        data, prefix = tool_of(data).get("peakmem", {}), ("tool", "peakmem")
        if not data:
            raise UsageError("there is no [tool.peakmem]", where=str(path), expected="budgets to check", hint=HINT)
    top = Table(data, prefix, shown(path), lines(text.replace("\r\n", "\n")))
    top.known(tuple(TOP), "key of a budget file")
    baseline = top.text("baseline")
    if isinstance(data.get("model"), list):
        raise UsageError("models are tables with a name", where=top.at("model"), expected="[model.NAME]",
                         hint='[model.small] source = "small.onnx"')  # fmt: skip
    models, defaults = top.table("model"), top.table("defaults")
    if not models.row:
        raise UsageError("no model is named", where=top.at("model"), expected="[model.NAME]", hint=HINT)
    folder = path.parent
    files = tuple(folder / one for one in top.texts("devices"))
    known = devices.using([str(one) for one in files]) if files else devices.listed()
    reader = _Reader(path, top, defaults, bool(baseline), known)
    cases = tuple(case for name in models.row for case in reader.model(models.table(name), name))
    refuse_contradictions(cases, top.file)
    return Config(path, reader.without_exceptions(cases), folder / baseline if baseline else None, files, known)


class _Reader:
    """Tables of models on their way to cases."""

    def __init__(self, path: Path, top: Table, defaults: Table, baseline: bool, known: Sequence[Device]) -> None:
        self.path, self.top, self.defaults, self.baseline, self.known = path, top, defaults, baseline, known
        self.words = (*OPTIONS, *QUANTITIES)
        for key in NOT_ON_A_DEVICE:
            if key in defaults.row:
                raise UsageError(f"{key!r} is no default", where=defaults.at(key), expected="a key of [model.NAME]")
        defaults.known(self.words, "option and no budget of a model")

    def model(self, table: Table, name: str) -> Iterator[Case]:
        """The cases of one table: the model itself, and one for each of its tables of devices."""
        if not re.fullmatch(r"[^\s@/\x00-\x1f\x7f](?:[^@/\x00-\x1f\x7f]*[^\s@/\x00-\x1f\x7f])?", name):
            raise UsageError(f"a model cannot be called {name[:80]!r}", where=table.at(), expected="no @, no /")
        table.known(self.words, "option and no budget of a model")
        if "source" not in table.row:
            raise UsageError(f"model {name!r} has no source", where=table.at(), hint='source = "model.onnx"')
        merged = self.merged(table, (self.defaults, table))
        devices = table.table("device")
        for source, suffix, fault in self.sources(table):
            whole = f"{name}{suffix}"
            options = read_options(merged, self.known)
            case = self.case(merged, whole, "", source, options, fault)
            if case.budgets or case.growths or case.fits or not devices.row:
                yield case
            for device in devices.row:
                own = devices.table(device)
                for key in NOT_ON_A_DEVICE:
                    if key in own.row:
                        raise UsageError(f"{key!r} is of the model", where=own.at(key), expected=f"in [model.{name}]")
                own.known(self.words, "option and no budget of a device")
                yield self.on_device(table, own, whole, device, source, fault)

    def on_device(self, table: Table, own: Table, name: str, device: str, source: str, fault: str) -> Case:
        """The case of a table of a device: options of the model and its own, budgets of its own."""
        options = {key: value for key, value in {**self.defaults.row, **table.row}.items() if key in OPTIONS}
        row = {key: value for key, value in options.items() if key not in ("fits", "growth", "device")} | dict(own.row)
        if "engine" in own.row:
            row = {key: value for key, value in row.items() if key in own.row or key not in ("dtype", "assume")}
        merged = _Merged(row, own, (own, table, self.defaults))
        fits = own.row.get("fits", True)
        if not isinstance(fits, bool):
            raise UsageError("a device fits or need not", where=own.at("fits"), expected="fits = false")
        if fits:
            find_card(own, "", device, self.known)
        merged.row = {key: value for key, value in row.items() if key != "fits"}
        case = self.case(merged, f"{name}@{device}", device, source, read_options(merged, self.known), fault)
        return _with(case, fits=(FitBudget(device, own.line()),) if fits else ())

    def merged(self, table: Table, order: Sequence[Table]) -> _Merged:
        """The defaults, with what the table says over them."""
        row: dict[str, Any] = {}
        for one in order:
            row |= one.row
        if "engine" in table.row:
            row = {key: value for key, value in row.items() if key in table.row or key not in ("dtype", "assume")}
        return _Merged(row, table, tuple(reversed(order)))

    def case(self, table: Table, name: str, device: str, source: str, options: Options, fault: str) -> Case:
        """One case with its budgets."""
        budgets = tuple(
            Budget(key, _allowed(table, key), str(table.row[key]), table.line(key)) for key in QUANTITIES
            if key in table.row
        )  # fmt: skip
        named = () if device else table.texts("fits")
        if "fits" in table.row and not device and not named:
            raise UsageError("fits names no device", where=table.at("fits"), hint='fits = "stm32f746"')
        for one in named:
            find_card(table, "fits", one, self.known)
        fits = tuple(FitBudget(one, table.line("fits")) for one in named)
        return Case(
            name, name.partition("@")[0], device, source, options, table.line(), budgets, tuple(self.growths(table)),
            fits, fault,
        )  # fmt: skip

    def growths(self, table: Table) -> Iterator[GrowthBudget]:
        """What the table says of growth."""
        if "growth" not in table.row:
            return
        if not self.baseline:
            raise UsageError(
                "growth without a baseline", where=table.at("growth"), expected="a file of stored values",
                hint='baseline = "peakmem-baseline.json" at the top of the file',
            )  # fmt: skip
        value = table.row["growth"]
        if not isinstance(value, Mapping):
            yield GrowthBudget("", read_growth(value, table.at("growth")), table.line("growth"))
            return
        for key, one in value.items():
            if key not in QUANTITIES:
                raise unknown(key, tuple(QUANTITIES), where=table.at("growth", key), what="quantity")
            counted = QUANTITIES[key].unit == "elements"
            found = read_growth(one, table.at("growth", key), elements=counted)
            yield GrowthBudget(key, found, table.line("growth", key))

    def sources(self, table: Table) -> Iterator[tuple[str, str, str]]:
        """(source, what it adds to the name, why it is not there) of the model, or of each file of a pattern."""
        source, folder = table.text("source"), self.path.parent
        try:
            there = (folder / source).exists()
        except OSError as fault:
            yield source, "", f"{source[:80]!r} is no name of a file ({fault.strerror})"
            return
        if there or not _PATTERN.search(source):
            yield source, "", ""
            return
        pattern = Path(source)
        if pattern.is_absolute():
            raise UsageError("a pattern from the root", where=table.at("source"), expected="one below this folder")
        try:
            found = sorted(one for one in folder.glob(source) if not one.name.startswith("."))
        except (ValueError, NotImplementedError, OSError) as wrong:
            raise UsageError(f"{source!r} is no pattern: {wrong}", where=table.at("source")) from None
        if not found:
            yield source, "", f"no file is like {source!r} in {folder}"
        for one in found:
            path = one.relative_to(folder).as_posix()
            yield path, f"/{path}", ""

    def without_exceptions(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """The cases, but files of a pattern that have a table of their own only there."""
        own = {case.source: case.model for case in cases if "/" not in case.model}
        out: list[Case] = []
        for case in cases:
            if "/" in case.model and case.source in own:
                continue
            left = [
                other.source for other in cases
                if other.model.startswith(f"{case.model}/") and other.source in own
            ]  # fmt: skip
            out.append(_with(case, notes=tuple(f"{one} has a table of its own" for one in left)) if left else case)
        return tuple(out)


class _Merged(Table):
    """A table with what it takes over from others; a key's line is that of the table it is from."""

    def __init__(self, row: Mapping[str, Any], table: Table, order: Sequence[Table]) -> None:
        super().__init__(row, table.path, table.file, table.lines)
        self.order = order

    def line(self, *key: str) -> int:
        for one in self.order:
            if key and key[0] in one.row:
                return one.line(*key)
        return super().line(*key)

    def table(self, key: str) -> Table:
        for one in self.order:
            if key in one.row:
                return one.table(key)
        return super().table(key)


def _with(case: Case, **changes: Any) -> Case:
    from dataclasses import replace

    return replace(case, **changes)


def _allowed(table: Table, key: str) -> int:
    read = read_count if QUANTITIES[key].unit == "elements" else read_size
    return read(table.row[key], table.at(key))
