"""Changes that make a network smaller: what may be tried on a question, each with its price. Nothing is computed here.

Another kind of change is one function under `@offer`: it gets the question and where it is asked, and yields changes of
one family, the mildest first; of a family at most one is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction

from peakmem.dtypes import parse_dtype
from peakmem.engines.registry import LEVERS as ENGINE_LEVERS
from peakmem.engines.registry import PROFILES
from peakmem.errors import UsageError
from peakmem.fitting.engine import EMBEDDED, WITHOUT_SYSTEM
from peakmem.fitting.knobs import Knob
from peakmem.fitting.place import Place
from peakmem.fitting.prices import Price, price, prices
from peakmem.fitting.question import Question
from peakmem.passes.assume import ASSUMPTIONS, DEFAULT_ASSUMPTION, assumption

INTEGER = ("mcu", "accelerator")
# kinds of device whose kernels know no float16 and no integer weights beside floating activations: tflite-micro has
# none, and the compiler of the Edge TPU takes models in 8 bits (coral.ai/docs/edgetpu/models-intro)
SIDES = (1024, 768, 640, 512, 448, 384, 320, 288, 256, 224, 192, 160, 128, 96, 64)
# resolutions that are tried, as far as the network takes them
SHRUNK = (Fraction(3, 4), Fraction(1, 2), Fraction(1, 4))
# of a resolution, where it takes none of those
WIDTHS = ("1", "0.75", "0.5", "0.35", "0.25")
# that MobileNets are published at
MOST_DEVICES = 4096
LONGEST_NUMBER = 20
# characters
TWO = 2
# values of a lever of which one is the other
SEQUENCES = ("sequence", "context")
LEVERS = {
    **ENGINE_LEVERS,
    "ncnn": {
        "pool_allocator": (True, False), **ENGINE_LEVERS["ncnn"], "packing": (True, False),
        "mapped_model": (False, True),
    },
}  # fmt: skip
# options of engines, their default first: besides those that `peakmem estimate --within` tries all combinations of,
# some that are tried one by one here


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is done otherwise."""

    name: str
    # "dtype=int8": what --change takes
    family: str
    title: str
    price: Price
    made: Callable[[Question], Question]
    ordered: bool = True
    # whether a later one of the family needs less
    is_setting: bool = False
    # of an engine


@dataclass(frozen=True, slots=True)
class Site:
    """A question and the place it is asked of, for those who offer changes."""

    question: Question
    place: Place
    knobs: tuple[Knob, ...]
    dtypes: frozenset[str]
    # kinds of the stored tensors: "float", "int" …
    devices_needed: int | None = None


Offer = Callable[[Site], Iterator[Change]]
OFFERS: list[Offer] = []


def offer(function: Offer) -> Offer:
    """Let what `function` yields be tried."""
    OFFERS.append(function)
    return function


def offers(site: Site) -> tuple[tuple[Change, ...], ...]:
    """All changes that may be tried, family by family."""
    families: dict[str, list[Change]] = {}
    for function in OFFERS:
        for change in function(site):
            families.setdefault(change.family, []).append(change)
    return tuple(tuple(found) for found in families.values())


def named(texts: Iterable[str], site: Site) -> tuple[Change, ...]:
    """The changes that `texts` name: those on offer, or a NAME=VALUE of their kind.

    Raises:
        UsageError: a name that is none, or a value that it cannot have.
    """
    known = {change.name: change for family in offers(site) for change in family}
    found: list[Change] = []
    for text in texts:
        name = text.strip()
        change = known.get(name) or _parsed(name, site)
        if any(change.family == other.family for other in found):
            raise UsageError(f"--change {change.family} is given twice", expected="one of a kind at a time")
        found.append(change)
    order = [family[0].family for family in offers(site)]
    return tuple(sorted(found, key=lambda one: order.index(one.family) if one.family in order else len(order)))


def _parsed(text: str, site: Site) -> Change:
    kind, _, value = text.partition("=")
    simple = {"dtype": _dtype, "weights": _weights, "assume": _assume}
    if kind in simple and value:
        return simple[kind](value)
    turned = {knob.name: knob for knob in site.knobs}
    if kind in turned and value:
        knob = turned[kind]
        return _turned(knob, _number(text, value, knob.most, whole=knob.step.denominator == 1))
    if kind == "devices" and value:
        return _devices(int(_number(text, value, Fraction(MOST_DEVICES), whole=True)), site.question.devices)
    if kind == "engine" and value in PROFILES:
        return _engine(value)
    if site.question.engine and value:
        return _setting(site.question.engine, kind, value)
    kinds = [*simple, *turned, "devices", "engine"]
    names = [change.name for family in offers(site) for change in family]
    near = get_close_matches(text, [*names, *kinds], n=1, cutoff=0.4)
    raise UsageError(
        f"no change is called {text[:80]!r}", expected=f"{', '.join(f'{one}=VALUE' for one in kinds)}",
        hint=f"--change {near[0] if near and '=' in near[0] else names[0] if names else 'dtype=int8'}",
    )  # fmt: skip


def _number(text: str, value: str, most: Fraction, *, whole: bool) -> Fraction:
    kind = "a whole number" if whole else "a number"
    try:
        number = Fraction(value[:LONGEST_NUMBER])
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"--change {text[:80]!r}: {value[:40]!r} is no number", hint="--change batch=1") from None
    if not 0 < number <= most or (whole and number.denominator != 1) or len(value) > LONGEST_NUMBER:
        expected = f"{kind}, more than 0 and at most {float(most):,g}"
        raise UsageError(f"--change {text[:80]!r}", expected=expected, hint="--change batch=1")
    return number


# -- what there is -----------------------------------------------------------------------


@offer
def of_assumptions(site: Site) -> Iterator[Change]:
    """Another way of running the same operators."""
    if site.question.engine:
        return
    now = assumption(site.question.assume).name
    better = {"naive": ("inplace", "fused", "fused_add"), "eager": ("inplace", "fused", "fused_add"),
              "inplace": ("fused_add",), DEFAULT_ASSUMPTION: ("fused_add",)}  # fmt: skip
    for name in better.get(now, ()):
        yield _assume(name)


@offer
def of_batches(site: Site) -> Iterator[Change]:
    """Half of the batch, half of that, down to one sample."""
    for knob in site.knobs:
        size = int(knob.value) if knob.name == "batch" else 1
        while size > 1:
            size //= 2
            yield _turned(knob, Fraction(size))


@offer
def of_dtypes(site: Site) -> Iterator[Change]:
    """Everything that is floating in half precision, or in 8 bits."""
    if site.question.engine or "float" not in site.dtypes:
        return
    bits = parse_dtype(site.question.dtype).bits if site.question.dtype else 32
    narrower = (("int8", 8),) if site.place.kind in INTEGER else (("float16", 16), ("int8", 8))
    yield from (_dtype(name) for name, width in narrower if width < (bits or 0))
    if site.place.kind == "mcu" and not site.question.weights:
        yield _four_bits()


@offer
def of_weights(site: Site) -> Iterator[Change]:
    """The stored weights alone in 8 or 4 bits; microcontrollers do not mix them with floating activations.

    "Hybrid models are not supported on TFLite Micro": conv.cc and fully_connected.cc of tflite-micro.
    """
    if site.question.engine or "float" not in site.dtypes or site.place.kind in INTEGER:
        return
    said = site.question.weights or site.question.dtype
    bits = parse_dtype(said).bits if said else 32
    yield from (_weights(name) for name, width in (("int8", 8), ("int4", 4)) if width < (bits or 0))


@offer
def of_settings(site: Site) -> Iterator[Change]:
    """Options of the engine that move memory most."""
    chosen = {text.partition("=")[0] for text in _listed(site.question.settings)}
    for name, values in LEVERS.get(site.question.engine, {}).items():
        for value in values[1:]:
            if name not in chosen:
                said = ("on" if value else "off") if isinstance(value, bool) else str(value)
                yield _setting(site.question.engine, name, said)


@offer
def of_engines(site: Site) -> Iterator[Change]:
    """Another engine with its defaults."""
    if site.question.engine in ("", *EMBEDDED) or site.place.kind in WITHOUT_SYSTEM:
        return
    for name in PROFILES:
        if name != site.question.engine and name not in EMBEDDED:
            yield _engine(name)


@offer
def of_resolutions(site: Site) -> Iterator[Change]:
    """Smaller images."""
    for knob in site.knobs:
        if knob.name == "resolution":
            sides = [side for side in map(Fraction, SIDES) if side < knob.value and _takes(knob, side)]
            yield from (_turned(knob, size) for size in sides or _smaller(knob, SHRUNK))


@offer
def of_sequences(site: Site) -> Iterator[Change]:
    """Half of the tokens or steps, down to an eighth."""
    for knob in site.knobs:
        if knob.name in SEQUENCES:
            yield from (_turned(knob, size) for size in _smaller(knob, [Fraction(1, 2**n) for n in (1, 2, 3)]))


@offer
def of_widths(site: Site) -> Iterator[Change]:
    """Fewer channels in every layer."""
    for knob in site.knobs:
        if knob.name == "width":
            widths = [width for width in map(Fraction, WIDTHS) if width < knob.value and _takes(knob, width)]
            yield from (_turned(knob, width) for width in widths)


@offer
def of_devices(site: Site) -> Iterator[Change]:
    """Weights split evenly over as many devices as hold them."""
    wanted = site.devices_needed
    if not site.question.engine and wanted is not None and 1 < wanted <= MOST_DEVICES:
        yield _devices(wanted, site.question.devices)


def _takes(knob: Knob, value: Fraction) -> bool:
    return knob.least <= value <= knob.most and (value - knob.least) % knob.step == 0


def _smaller(knob: Knob, shares: Iterable[Fraction]) -> Iterator[Fraction]:
    """Values that the knob takes, at or below those shares of what it is now."""
    before = knob.value
    for share in shares:
        size = knob.least + knob.place(knob.value * share) * knob.step
        if size < before and size <= knob.value * share:
            yield size
            before = size


# -- each kind ---------------------------------------------------------------------------


def _dtype(name: str) -> Change:
    known = parse_dtype(name).name
    title = f"floating weights and activations in {known}"
    return Change(f"dtype={known}", "dtype", title, _priced("dtype", known), lambda q: replace(q, dtype=known))


def _weights(name: str) -> Change:
    known = parse_dtype(name).name
    title = f"stored weights in {known}, activations as they are"
    return Change(f"weights={known}", "weights", title, _priced("weights", known), lambda q: replace(q, weights=known))


def _four_bits() -> Change:
    both = prices()["dtype=int8"], prices()["weights=int4"]
    cost = Price("w4a8", both[0].cost + both[1].cost, both[1].said, both[1].reason)
    return Change(
        "w4a8", "dtype", "weights in int4, activations in int8", cost,
        lambda q: replace(q, dtype="int8", weights="int4"),
    )  # fmt: skip


def _priced(kind: str, dtype: str) -> Price:
    """The row of a dtype; another of the same width costs the same, wider than 8 bits what float16 does."""
    bits = parse_dtype(dtype).bits or 4
    usual = "dtype=float16" if bits > 8 else f"{kind}=int8" if bits == 8 else "weights=int4"
    return prices().get(f"{kind}={dtype}", prices()[usual])


def _assume(name: str) -> Change:
    frame = assumption(name)
    row = prices().get(f"assume={frame.name}", prices()["assume=fused"])
    return Change(
        f"assume={frame.name}", "assume", ASSUMPTIONS[frame.name].title, row,
        lambda q: replace(q, assume=frame.name),
    )  # fmt: skip


def _turned(knob: Knob, value: Fraction) -> Change:
    shown = str(int(value)) if value.denominator == 1 else f"{float(value):g}"
    kind = "sequence" if knob.name not in ("batch", "resolution", "width") else knob.name
    known = price(kind, before=float(knob.value), after=float(value))
    now = f"{float(knob.value):g}"
    return Change(
        f"{knob.name}={shown}", knob.name, f"{knob.name} {shown} for {now}", known, lambda q: knob.turned(q, value)
    )


def _devices(count: int, now: int) -> Change:
    return Change(
        f"devices={count}", "devices", f"weights split evenly over {count} devices",
        price("devices", before=float(now), after=float(count)), lambda q: replace(q, devices=count),
    )  # fmt: skip


def _engine(name: str) -> Change:
    return Change(
        f"engine={name}", "engine", f"{name} with its defaults", price("engine"),
        lambda q: replace(q, engine=name, settings=()), ordered=False,
    )  # fmt: skip


def _setting(engine: str, name: str, value: str) -> Change:
    row = {"quantise=int8": "dtype=int8", "bf16_storage=on": "dtype=float16"}.get(f"{name}={value}", "setting")

    alone = len(LEVERS.get(engine, {}).get(name, ())) == TWO

    def made(question: Question) -> Question:
        kept = tuple(text for text in _listed(question.settings) if text.partition("=")[0].split(".")[-1] != name)
        return replace(question, settings=(*kept, f"{name}={value}"))

    return Change(f"{name}={value}", name, f"{name} of the engine: {value}", prices()[row], made, alone, True)


def _listed(settings: Iterable[str]) -> tuple[str, ...]:
    return tuple(part for text in settings for part in text.split(",") if part)
