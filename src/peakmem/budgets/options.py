"""What a table of a budget file says of how a model is looked at: batch, shapes, engine, training step."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast, get_args

from peakmem import devices
from peakmem.budgets.words import OF_THE_GRAPH, TRAIN, unknown
from peakmem.devices import Device as Card
from peakmem.errors import UsageError
from peakmem.toml import Path
from peakmem.training.scenario import Device, Implementation, Lora, Optimizer, Precision, Scenario

_DIMS = re.compile(r"^[0-9]{1,18}([x×,][0-9]{1,18})*$")
LARGEST = 10**18
NO_TRAINING = ("mcu", "accelerator", "phone", "limit")
# kinds of devices that PyTorch trains nothing on
LONGEST = 4000
# characters of a text


@dataclass(frozen=True, slots=True)
class Training:
    """A training step, and the device it is for."""

    scenario: Scenario
    device: str = ""
    # by name; "" for none
    conf: str = ""
    route: str = "auto"


@dataclass(frozen=True, slots=True)
class Options:
    """All that decides the numbers of a model, besides the model itself."""

    batch: int | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    dtype: str = ""
    assume: str = ""
    hold_inputs: bool = False
    form: str = ""
    options: dict[str, str] = field(default_factory=dict)
    engine: str = ""
    settings: tuple[str, ...] = ()
    # NAME=VALUE each
    processor: str = ""
    files: tuple[str, ...] = ()
    file_format: str = ""
    train: Training | None = None

    def configuration(self, source: str) -> dict[str, Any]:
        """As plain data, what is not set left out; equal for two that ask the same."""
        from dataclasses import asdict

        usual = Options()
        said: dict[str, Any] = {"source": source}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name == "train" and self.train is not None:
                scenario, plain = asdict(self.train.scenario), asdict(Scenario())
                value = {key: kept for key, kept in scenario.items() if kept != plain[key]}
                value |= {key: getattr(self.train, key) for key in ("device", "conf", "route")}
            elif value == getattr(usual, one.name):
                continue
            said[one.name] = _plain(value)
        return said


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in sorted(value.items())}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


class Table:
    """One table of the file, with its place; every read of a key names the line where it is wrong."""

    def __init__(self, row: Mapping[str, Any], path: Path, file: str, lines: Mapping[Path, int]) -> None:
        self.row, self.path, self.file, self.lines = row, path, file, lines

    def line(self, *key: str) -> int:
        """The line of a key, or of the nearest table around it."""
        path = (*self.path, *key)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def at(self, *key: str) -> str:
        """File and line of a key."""
        return f"{self.file}, line {self.line(*key)}"

    def known(self, names: Sequence[str], what: str) -> None:
        """Refuse a key that is not one of `names`."""
        for key in self.row:
            if key not in names:
                raise unknown(key, names, where=self.at(key), what=what)

    def table(self, key: str) -> Table:
        """The table under `key`."""
        row = self.row.get(key, {})
        if not isinstance(row, Mapping):
            raise UsageError(f"{key!r} is no table", where=self.at(key), expected=f"{key} = {{ NAME = VALUE }}")
        return Table(row, (*self.path, key), self.file, self.lines)

    def text(self, key: str, usual: str = "") -> str:
        """A text."""
        value = self.row.get(key, usual)
        if not isinstance(value, str) or (key in self.row and not value.strip()):
            raise UsageError(f"{key!r} is no text", where=self.at(key), expected=f'{key} = "…"')
        self._printable(key, value)
        return value.strip()

    def _printable(self, key: str, text: str) -> None:
        if not text.isprintable() or len(text) > LONGEST:
            raise UsageError(
                f"{key!r} is no text that can be typed", where=self.at(key),
                expected=f"printable characters, {LONGEST:,} at most",
            )  # fmt: skip

    def whole(self, key: str) -> int | None:
        """A whole number of 1 or more."""
        value = self.row.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
            raise UsageError(f"{key} = {str(value)[:80]}", where=self.at(key), expected="a whole number of 1 or more")
        return value

    def switch(self, key: str, usual: bool) -> bool:
        """True or false."""
        value = self.row.get(key, usual)
        if not isinstance(value, bool):
            raise UsageError(f"{key!r} is not true or false", where=self.at(key), expected=f"{key} = true")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A text or a list of them."""
        value = self.row.get(key, [])
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list) or not all(isinstance(one, str) and one.strip() for one in listed):
            raise UsageError(f"{key!r} is no list of texts", where=self.at(key), expected=f'{key} = ["…", "…"]')
        for one in listed:
            self._printable(key, one)
        return tuple(dict.fromkeys(one.strip() for one in listed))

    def said(self, key: str) -> dict[str, str]:
        """A table of names and plain values, each as it is typed on the command line."""
        table = self.table(key)
        out = {}
        for name, value in table.row.items():
            if isinstance(value, Mapping | list):
                raise UsageError(f"{key}.{name} is no single value", where=table.at(name), expected=f"{name} = VALUE")
            out[name] = ("on" if value else "off") if isinstance(value, bool) else str(value)
        return out


def read_options(table: Table, known: Sequence[Card]) -> Options:
    """What the table says of how the model is looked at.

    Args:
        known: the devices there are.

    Raises:
        UsageError: a value that does not fit, or two that contradict each other, with their line.
    """
    settings = table.said("set")
    made = Options(
        table.whole("batch"), _shapes(table), _dims(table), table.texts("input"), table.text("dtype"),
        table.text("assume"), table.switch("hold_inputs", False), table.text("format"), table.said("option"),
        table.text("engine"), tuple(f"{name}={value}" for name, value in settings.items()), table.text("processor"),
        table.texts("files"), table.text("file_format"), _training(table, known),
    )  # fmt: skip
    _checked(table, made)
    return made


def _checked(table: Table, made: Options) -> None:
    if made.dtype:
        from peakmem.dtypes import parse_dtype

        _placed(table, "dtype", lambda: parse_dtype(made.dtype))
    if made.assume:
        from peakmem.passes.assume import assumption

        _placed(table, "assume", lambda: assumption(made.assume))
    if made.engine:
        from peakmem.engines.registry import PROFILES

        if made.engine not in PROFILES:
            raise unknown(made.engine, tuple(PROFILES), where=table.at("engine"), what="engine that is predicted",
                          key="engine")  # fmt: skip
        for key in OF_THE_GRAPH:
            if key in table.row:
                raise UsageError(
                    f"{key} is for the estimate of the graph, and engine = {made.engine!r} decides for itself",
                    where=table.at(key), expected="one of both", hint=f"leave out {key}, or set = {{ NAME = VALUE }}",
                )  # fmt: skip
    for key in ("set", "processor"):
        if key in table.row and not made.engine:
            raise UsageError(f"{key!r} is for engines", where=table.at(key), hint='engine = "onnxruntime"')
    if made.train is not None and made.engine:
        raise UsageError(
            f"a model is trained or run by engine = {made.engine!r}", where=table.at("train"), expected="one of both",
            hint="a table [model.NAME] for each",
        )  # fmt: skip


def _placed(table: Table, key: str, read: Any) -> None:
    """Call `read` and say where, if it refuses."""
    try:
        read()
    except UsageError as fault:
        fault.locate(table.at(key))
        raise


def _shapes(table: Table) -> dict[str, tuple[int, ...]]:
    given = table.row.get("shape", {})
    if isinstance(given, str | list):
        given = {"": given}
    elif not isinstance(given, Mapping):
        raise UsageError("'shape' is no shape", where=table.at("shape"), expected="shape = { input = [1, 3, 8, 8] }")
    out = {}
    for name, value in given.items():
        parts = re.split("[x×,]", value) if isinstance(value, str) and _DIMS.match(value) else value
        whole = isinstance(parts, list) and all(
            not isinstance(one, bool) and (isinstance(one, int) or isinstance(value, str)) and 0 <= int(one) <= LARGEST
            for one in parts
        )
        if not whole:
            raise UsageError(
                f"the shape of {name or 'the input'!r} is no list of whole numbers", where=table.at("shape", name),
                expected="shape = { input = [1, 3, 224, 224] }",
            )  # fmt: skip
        out[name] = tuple(int(one) for one in parts)
    return out


def _dims(table: Table) -> dict[str, int]:
    inner = table.table("dim")
    return {name: inner.whole(name) or 1 for name in inner.row}


def _training(table: Table, known: Sequence[Card]) -> Training | None:
    if "train" not in table.row:
        return None
    if isinstance(table.row["train"], bool):
        return Training(Scenario()) if table.row["train"] else None
    inner = table.table("train")
    inner.known(tuple(TRAIN), "key of a training step")
    kind, name = _device(inner, known)
    precision = inner.text("precision", "float32")
    if precision not in get_args(Precision):
        raise unknown(precision, get_args(Precision), where=inner.at("precision"), what="precision",
                      key="precision")  # fmt: skip
    route = inner.text("route", "auto")
    if route not in ("auto", "trace", "graph"):
        raise unknown(route, ("auto", "trace", "graph"), where=inner.at("route"), what="route", key="route")
    scenario = Scenario(
        device=kind, batch=inner.whole("batch"), sequence=inner.whole("sequence"),
        resolution=inner.whole("resolution"), optimizer=_optimizer(inner), precision=cast(Precision, precision),
        recompute=inner.text("recompute"), accumulate=inner.whole("accumulate") or 1,
        set_to_none=inner.switch("set_to_none", True), freeze=inner.texts("freeze"), lora=_lora(inner),
        steps=inner.whole("steps") or 2,
    )  # fmt: skip
    return Training(scenario, name, inner.text("conf"), route)


def _device(table: Table, known: Sequence[Card]) -> tuple[Device, str]:
    """What torch calls the device, and its name where one is meant."""
    text = table.text("device", "cpu")
    if text.lower() in get_args(Device):
        return cast(Device, text.lower()), ""
    card = find_card(table, "device", text, known)
    if card.kind in NO_TRAINING:
        raise UsageError(
            f"PyTorch trains nothing on {card.title}", where=table.at("device"), expected="a GPU or a computer",
            hint='device = "v100-16gb"',
        )  # fmt: skip
    return card.processor, card.name


def find_card(table: Table, key: str, name: str, known: Sequence[Card]) -> Card:
    """The device called `name`.

    Raises:
        UsageError: there is none, with the line of the key.
    """
    try:
        return devices.find(name, known)
    except UsageError as fault:
        hint, expected = fault.hint.removeprefix("--device "), fault.expected
        if "--capacity" in hint:
            hint, expected = "peakmem devices", "a name that peakmem devices lists"
        raise UsageError(fault.what, where=table.at(key), expected=expected, hint=hint) from None


def _optimizer(table: Table) -> Optimizer | None:
    if "optimizer" not in table.row:
        return None
    options: tuple[tuple[str, float | bool], ...] = ()
    if isinstance(table.row["optimizer"], Mapping):
        inner = table.table("optimizer")
        name, how = inner.text("name"), inner.text("implementation")
        left = [(key, value) for key, value in inner.row.items() if key not in ("name", "implementation")]
        for key, value in left:
            if not isinstance(value, int | float):
                raise UsageError(f"optimizer.{key} is no number", where=inner.at(key), expected=f"{key} = 0.9")
        options = tuple(left)
    else:
        name, _, how = table.text("optimizer").lower().partition(":")
    from peakmem.training.optimizers import KNOWN

    if name not in KNOWN:
        raise unknown(name, tuple(KNOWN), where=table.at("optimizer"), what="optimizer", key="optimizer")
    if how and how not in get_args(Implementation):
        raise unknown(how, get_args(Implementation), where=table.at("optimizer"), what="implementation",
                      key="implementation")  # fmt: skip
    return Optimizer(name, cast(Implementation, how) if how else None, options)


def _lora(table: Table) -> Lora | None:
    if "lora" not in table.row:
        return None
    if not isinstance(table.row["lora"], Mapping):
        return Lora(table.whole("lora") or 8)
    inner = table.table("lora")
    inner.known(("rank", "targets", "quantised"), "key of lora")
    return Lora(inner.whole("rank") or 8, inner.texts("targets"), inner.switch("quantised", False))
