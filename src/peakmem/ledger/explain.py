"""What would make a wrong claim true: other conventions, units, dtypes, widths, resolutions, batches, classes.

One change at a time, then two; the search knows nothing of a network but what its functions give, and its size is
fixed, so that the same claim gets the same answer on any machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby

from peakmem.conventions import CONVENTIONS
from peakmem.errors import PeakmemError
from peakmem.ledger.amount import Amount
from peakmem.ledger.context import Context, is_built_in
from peakmem.ledger.evaluation import evaluate
from peakmem.ledger.expression import Expression, names
from peakmem.ledger.functions import Scope, call
from peakmem.ledger.value import Item, Value, said
from peakmem.ledger.verdict import matches, readings, shown
from peakmem.report.ledger import Explanation
from peakmem.units import Units
from peakmem.zoo import NETWORKS

MOST_SHOWN = 5
NEAR = 8
# an explanation comes this close, as a part of what is printed
LIKELY = 60
# rank of settings that are taken for likely
FAMILY = 5
# letters that the names of one family share
MOST_ALIKE = 2
# explanations that come to the same value
MOST_OPERATORS = 1500
# of networks that are looked at under other settings
EXPENSIVE = ("engine", "file_size")
# functions that are not run again with other settings
WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4, 1.5, 2.0)
RESOLUTIONS = (96, 128, 160, 192, 224, 256, 288, 299, 320, 384, 416, 448, 512, 572, 640)
KNOBS: tuple[tuple[str, int, tuple[object, ...]], ...] = (
    ("dtype", 30, ("float32", "float16", "int8")),
    ("width", 40, WIDTHS),
    ("resolution", 45, RESOLUTIONS),
    ("batch", 50, (1, 2, 4, 8, 16, 32, 64, 128, 256)),
    ("classes", 55, (2, 10, 20, 21, 100, 1000, 1001, 21843)),
    ("context", 57, (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072)),
    ("sequence", 57, (50, 100, 128, 256, 512, 1024)),
    ("dtype", 65, ("int4", "float64")),
)
STEP: tuple[tuple[str, int, tuple[object, ...]], ...] = (
    ("optimizer", 42, ("sgd", "momentum", "adam", "adamw")),
    ("precision", 43, ("float32", "amp-fp16", "bf16")),
    ("recompute", 60, ("", "blocks")),
)
# settings of a training step as well
UNTRAINED = ("dtype", "resolution", "classes")
# and those that no steps are followed for: a step takes long
# setting, rank, values that are tried
_KNOBS = {name for name, _, _ in (*KNOBS, *STEP)}
PARTS: dict[str, tuple[str, ...]] = {
    "parameters": ("trainable", "weight", "with_statistics", "all"),
    "parameter_bytes": ("trainable", "weight", "with_statistics", "all"),
    "train": ("peak", "end", "saved", "gradients", "optimizer", "parameters", "reserved", "allocated"),
    "layer": ("input", "output", "weights", "parameters", "layer_in_out", "layer_in_out_weights"),
    "layers": ("input", "output", "weights", "parameters", "layer_in_out", "layer_in_out_weights"),
}
# functions with a part that may have been another
STORED = ("weights", "weights_only", "parameter_bytes")
UNIFORM = ("uniform_bytes", "all parameters in that dtype, biases and norms too")
FILES = ("pt", "onnx", "tflite", "safetensors", "ncnn")
LAYER = ("layer_output", "layer_input", "layer_weights")
SIZES: tuple[tuple[str, int], ...] = (
    ("B", 1), ("kB", 10**3), ("KiB", 2**10), ("MB", 10**6), ("MiB", 2**20), ("GB", 10**9), ("GiB", 2**30),
)  # fmt: skip
BITS: tuple[tuple[str, int], ...] = (("kbit", 10**3), ("Mbit", 10**6), ("Gbit", 10**9))


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is otherwise."""

    name: str
    # "dtype", "convention"
    said: str
    rank: int
    forced: tuple[tuple[str, object], ...] = ()
    swapped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A change that makes the claim true."""

    change: Change
    item: Item
    how: str
    # the reading of the unit that it takes as well

    def shown(self, search: Search) -> str:
        """The value, and how it is read."""
        return shown(self.item, search.claimed, search.units) + (f", {self.how}" if self.how else "")


@dataclass(frozen=True, slots=True)
class Search:
    """A claim that is not right, and all that is needed to try others."""

    expression: Expression
    claimed: tuple[Amount, ...]
    scope: Scope
    computed: Item
    units: Units | None = None

    def run(self) -> tuple[tuple[Explanation, ...], int]:
        """(explanations, likeliest first; how many changes were tried)."""
        if any(one.sort in ("truth", "shape") for one in self.claimed):
            return (), 0
        units, changes = list(self._units()), list(self._changes())
        tried = len(SIZES) + len(BITS) + len(changes)
        found = self._hits(changes)
        if not found and not units:
            more = [*self._networks(), *(_pairs(changes) if self._is_exact() else ())]
            tried += len(more)
            found = self._hits(more)
        grouped = [*units, *_grouped(found, self)]
        grouped.sort(key=lambda pair: pair[0])
        told: list[Explanation] = []
        for _, one in grouped:
            alike = sum(1 for other in told if other.shown == one.shown)
            if alike < MOST_ALIKE or one.change.partition(" ")[0] in _KNOBS:
                told.append(one)
        return tuple(told[:MOST_SHOWN]), tried

    def _is_exact(self) -> bool:
        """Whether the claim is one number of two digits or more: of others two changes make too many true."""
        one = self.claimed[0]
        return len(self.claimed) == 1 and one.high is None and one.low is not None and one.low.number > 9

    # -- units ---------------------------------------------------------------------------

    def _units(self) -> Iterator[tuple[int, Explanation]]:
        """Other units under which the printed digits are those of the value."""
        one, value = self.claimed[0], self.computed
        if len(self.claimed) > 1 or not isinstance(value, Value) or value.unit != "B" or one.sort != "size":
            return
        for name, worth in SIZES:
            if name not in (known for known, _ in one.readings):
                other = replace(one, readings=((name, Fraction(worth)),), unit=name)
                if matches((other,), value).literal:
                    yield 10, Explanation(f"{name} instead of {one.unit}", said(value, self.units))
        for name, worth in BITS:
            other = replace(one, readings=((name, Fraction(worth, 8)),), unit=name)
            if matches((other,), value).literal:
                yield 12, Explanation(f"{name} (bits) instead of {one.unit}", said(value, self.units))

    # -- one change ----------------------------------------------------------------------

    def _hits(self, changes: Iterable[Change]) -> list[Hit]:
        return [hit for one in changes if (hit := self._hit(one)) is not None]

    def _hit(self, change: Change) -> Hit | None:
        """What is computed with a change, if that is what is claimed."""
        strict = "+" in change.name or change.name in ("network", "classes")
        scope = Scope(self.scope.figures, self.scope.context, change.forced, change.swapped, until=self.scope.until)
        try:
            item = evaluate(self.expression, lambda name, given, words: call(scope, name, given, words))
            match = matches(self.claimed, item)
        except PeakmemError:
            return None  # the network cannot be so
        if isinstance(item, Value) and not self._is_near(item):
            return None
        true = match.literal or (match.true and match.how.endswith("iB") and not strict)
        return Hit(change, item, match.how) if true and item != self.computed else None

    def _is_near(self, item: Value) -> bool:
        """Whether a value is a number that is printed, and not only rounds to its one digit: 0.6 for "about 1"."""
        one = self.claimed[0]
        if len(self.claimed) > 1 or one.low is None or one.high is not None or one.relation not in ("=", "~"):
            return True
        worths = [worth for _, worth in readings(one, item)]
        return any(abs(item.number / worth - one.low.value) * NEAR <= one.low.value for worth in worths)

    def _changes(self) -> Iterator[Change]:
        called = names(self.expression)
        ratio = any(one.sort in ("ratio", "percent") for one in self.claimed)
        # one part for another, or another step, leaves nothing of a ratio
        yield from (one for one in _swaps(called) if not (ratio and one.name == "part"))
        contexts = tuple(self.scope.seen)
        if any(one.dtype for one in contexts) and not ratio:
            for name in sorted(called & set(STORED)):
                yield Change("part", UNIFORM[1], 14, swapped=((name, f"{UNIFORM[0]}:trainable"),))
        if called & set(EXPENSIVE) or not contexts or any(self._is_large(one) for one in contexts):
            return
        if not ratio:
            yield from _files(called)
        if '"trace"' in self.expression.text or "'trace'" in self.expression.text:
            return
        trained = bool(called & {"train", "phase_peak"})
        for name, rank, values in (*KNOBS, *STEP) if trained and not ratio else KNOBS:
            if trained and name in UNTRAINED:
                continue
            now = {_setting(one, name) for one in contexts}
            if len(now) != 1 or now == {None}:
                continue
            for value in values:
                if value not in now:
                    yield Change(name, f"{name} {value}", rank, ((name, value),))

    def _networks(self) -> Iterator[Change]:
        """The same of another network: a number may have slipped a row."""
        contexts, called = tuple(self.scope.seen), names(self.expression)
        networks = {one.network for one in contexts}
        if called & {*EXPENSIVE, *LAYER, "layer", "layers", "live", "measured", "train", "phase_peak"}:
            return
        if len(networks) == 1 and is_built_in(contexts[0].network):
            name = contexts[0].network.partition(":")[0]
            for other in NETWORKS:
                if other != name and other[:FAMILY] == name[:FAMILY]:
                    yield Change("network", f"network {other}", 70, (("network", other),))

    def _is_large(self, context: Context) -> bool:
        try:
            return len(self.scope.figures.study(context).stored.operators) > MOST_OPERATORS
        except PeakmemError:
            return True


def _setting(context: Context, name: str) -> object:
    """The value of a knob; None where the network has no such knob."""
    if name == "dtype":
        return context.dtype or "float32"
    if name in ("optimizer", "precision", "recompute"):
        usual = {"optimizer": "adamw", "precision": "float32", "recompute": ""}[name]
        return getattr(context, name) or usual
    if name == "batch":
        if context.batch is None and not is_built_in(context.network):
            return "as stored" if context.network else None
        return context.batch or 1
    if context.network and not is_built_in(context.network):
        return dict(context.options).get(name) or dict(context.dims).get(name)
    return context.option(name) if context.network else None


def _swaps(called: set[str]) -> Iterator[Change]:
    """Other conventions and parts in the place of those that were computed."""
    conventions = sorted(called & set(CONVENTIONS))
    for name in conventions:
        yield from _conventions(name, called)
        if name in STORED:
            for kind in PARTS["parameter_bytes"][:3]:
                yield Change("part", f"{_KIND[kind]} alone", 15, swapped=((name, f"parameter_bytes:{kind}"),))
    for name in sorted(called & set(PARTS)):
        for part in PARTS[name]:
            shown = _KIND.get(part, part)
            yield Change("part", f"{shown} instead, in {name}", 15, swapped=((name, f"{name}:{part}"),))
        if name == "parameter_bytes":
            yield from _conventions(name, called)
    for name in sorted(called & set(LAYER)):
        for other in LAYER:
            if other != name:
                yield Change("part", f"the layer's {other.removeprefix('layer_')}", 15, swapped=((name, other),))


def _files(called: set[str]) -> Iterator[Change]:
    """What is stored, as a whole file."""
    for name in sorted(called & set(STORED)):
        for form in FILES:
            yield Change("file", f"the size of the {form} file", 25, swapped=((name, f"file_size:{form}"),))


def _conventions(name: str, called: set[str]) -> Iterator[Change]:
    """Conventions of the same family: what is stored, or what is alive."""
    stored = name in STORED
    for other, rule in CONVENTIONS.items():
        if other not in called and ((other in STORED) == stored or other.startswith("resident")):
            yield Change("convention", f"convention {other} ({rule.title})", 20, swapped=((name, other),))


_KIND = {
    "trainable": "trainable parameters (weights, biases, norms)", "weight": "kernels and matrices",
    "with_statistics": "parameters with running statistics", "all": "all that is stored",
}  # fmt: skip


def _pairs(changes: list[Change]) -> Iterator[Change]:
    """Two changes together, one of them the dtype, or a convention with a width."""
    for first in changes:
        for second in changes:
            names = (first.name, second.name)
            if any(one.name == "dtype" and one.rank > LIKELY for one in (first, second)):
                continue
            if (names[0] == "dtype" and names[1] in ("width", "batch")) or (
                names[0] in ("convention", "part") and names[1] == "dtype"
            ):
                yield Change(
                    "+".join(names), f"{first.said} and {second.said}", first.rank + second.rank + 30,
                    first.forced + second.forced, first.swapped + second.swapped,
                )  # fmt: skip


def _grouped(found: list[Hit], search: Search) -> Iterator[tuple[int, Explanation]]:
    """One line for all values of a knob; three of other changes at most."""

    def by_name(hit: Hit) -> str:
        return hit.change.name

    for name, group in groupby(sorted(found, key=lambda hit: (hit.change.rank, hit.change.name)), key=by_name):
        rows = list(group)
        if name not in _KNOBS:
            yield from ((hit.change.rank, Explanation(hit.change.said, hit.shown(search))) for hit in rows[:3])
            continue
        values = [hit.change.said.removeprefix(f"{name} ") for hit in rows]
        listed = values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"
        text = rows[0].shown(search) if len(rows) == 1 else f"{rows[0].shown(search)} … {rows[-1].shown(search)}"
        yield rows[0].change.rank, Explanation(f"{name} {listed}", text)
