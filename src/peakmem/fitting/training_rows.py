"""What was found about a training step, as rows of the report of fit. Nothing is analysed here but other readings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from peakmem.devices import Device
from peakmem.fitting.training_analysis import Analyses, Analysis, Case
from peakmem.fitting.training_changes import CONF, Change
from peakmem.fitting.training_largest import STEPS, Found
from peakmem.fitting.training_prices import ORDER, SAID
from peakmem.fitting.training_ranks import Ranks
from peakmem.fitting.training_search import Attempt
from peakmem.producing import Source
from peakmem.report.fit import Largest, Part, Tried, UnitReading
from peakmem.training.scenario import Scenario
from peakmem.units import format_bytes
from peakmem.verdict import Capacity

_PRINTED = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(GB|GiB)\b")
SPLIT = Change(
    "split", "the same batch over several devices", "devices", "each computes its part; gradients are averaged",
    lambda _: (),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, to be written down again."""

    source: Source
    scenario: Scenario
    flags: tuple[str, ...]
    # that name the memory to `peakmem fit`; () for one that only `peakmem train` can be told of
    capacity_bytes: int
    conf: str
    choices: tuple[str, ...]
    # what-ifs that were made already
    route: str


def part(there: Analysis, limit: Capacity, on_cuda: bool) -> Part:
    """The one part that training has: memory of the GPU, or RAM."""
    return Part(
        "GPU memory" if on_cuda else "RAM", there.needed_bytes, limit.nbytes, there.outcome,
        "reserved by torch's allocator + CUDA context" if on_cuda else "tensors + process with torch", "estimate",
        there.bound_bytes, limit.said, there.shares,
    )  # fmt: skip


def readings(analyses: Analyses, base: Case, card: Device | None, part: Part) -> Iterator[UnitReading]:
    """The printed size of the device in both senses of GB, where they disagree."""
    printed = _PRINTED.match(card.memory) if card is not None else None
    if printed is None:
        return
    number = float(printed[1])
    sizes = (("GB", round(number * 10**9)), ("GiB", round(number * 2**30)))
    found = [(unit, nbytes, analyses.of(base, nbytes)) for unit, nbytes in sizes]
    if len({one.outcome for _, _, one in found}) == 1:
        return
    for unit, nbytes, one in found:
        needed = one.needed_bytes / nbytes * number
        yield UnitReading(part.name, f"{needed:.2f} {unit} in {number:g} {unit}: {one.outcome}", one.outcome)


def largest(found: Found, part: str) -> Largest:
    """The largest value of a knob."""
    step = STEPS[found.knob]
    neighbours = "both neighbours" if step == 1 else f"both neighbours in steps of {step}"
    if found.beyond is not None and found.there is not None:
        proof = f"solved from polynomials of the traced step, {neighbours} traced and run through the analysis"
    elif found.beyond is not None:
        proof = "the smallest was traced and does not fit"
    else:
        proof = f"traced and run through the analysis; {found.stopped}"
    if found.sure is not None and found.sure != found.value:
        proof += f"; for sure, its bound included, up to {found.sure:,}"
    return Largest(
        found.knob, found.value, 0 if found.there is None else found.there.needed_bytes, found.next_value,
        None if found.beyond is None else found.beyond.needed_bytes, part, proof,
    )  # fmt: skip


def ranks(found: Ranks | None) -> Iterator[str]:
    """How many devices hold it together, in words."""
    if found is None:
        return
    how = "parameters, gradients and state split (FSDP, ZeRO-3)" if found.sharded else "whole copies of the network"
    each = f", {found.samples:,} samples on each at most" if found.samples else ""
    yield (
        f"{found.count:,} devices hold it: {how}{each}, {format_bytes(found.there.needed_bytes)} on each; with "
        f"{found.count - 1:,} it would be {format_bytes(found.fewer.needed_bytes)}, which does not fit; buffers of the "
        "library through which they talk come on top"
    )


def together(found: Ranks) -> Attempt:
    """The same batch over several devices, as one of the changes; the batch named is that of the fullest device."""
    texts = [f"fsdp={found.count}" if found.sharded else f"devices={found.count}"]
    texts += [f"batch={found.samples}"] if found.samples else []
    return Attempt((SPLIT,), tuple(texts), found.there, "", 1.0, found.count)


def tried(attempts: Sequence[Attempt], question: Question, part: str, *, better: bool) -> list[Tried]:
    """The attempts, those that make it fit first and the cheapest first among them.

    Args:
        better: whether it may fit already, so that only what fits for sure is ranked.
    """
    wanted = ("fits",) if better else ("fits", "may fit")
    fitting = [one for one in attempts if one.analysis is not None and one.analysis.outcome in wanted]
    fitting.sort(key=lambda one: (one.analysis is None or one.analysis.outcome != "fits", one.price))
    others = [one for one in attempts if one not in fitting]
    others.sort(key=lambda one: (one.analysis is None, one.analysis.needed_bytes if one.analysis else 0))
    found = [_row(one, rank, question, part) for rank, one in enumerate(fitting, 1)]
    return found + [_row(one, 0, question, part) for one in others]


def _row(one: Attempt, rank: int, question: Question, part: str) -> Tried:
    names = tuple(text.removeprefix(CONF) for text in one.texts)
    title = "; ".join(change.title for change in one.changes)
    if one.analysis is None:
        return Tried(names, title, "refused", one.refused, (), 0, _price(one), _command(one, question))
    needed = ((part, one.analysis.needed_bytes),)
    return Tried(names, title, one.analysis.outcome, "", needed, rank, _price(one), _command(one, question))


def _price(one: Attempt) -> str:
    """The dearest kind with its reason, FLOPs, devices."""
    dearest = max(one.changes, key=lambda change: ORDER[change.kind])
    said = [f"{SAID[dearest.kind]} ({dearest.because})"]
    if abs(one.work - 1) >= 0.005:
        said.append(f"{one.work - 1:+.0%} FLOPs")
    if one.devices > 1:
        said.append(f"{one.devices:,} devices")
    return "; ".join(said)


def _command(one: Attempt, question: Question) -> str:
    """What shows these bytes; "" for an object, which cannot be typed.

    `peakmem train` holds its rows against no limit, so that only `peakmem fit` shows what a step takes at it. A batch
    in parts on several devices with whole copies is what one of them holds.
    """
    if not isinstance(question.source.what, str | Path):
        return ""
    confs = [text.removeprefix(CONF) for text in one.texts if text.startswith(CONF)]
    made = [text for text in one.texts if not text.startswith((CONF, "devices="))]
    what_if = "+".join([*question.choices, *made])
    verb, flag, where = "fit", "--with", [*question.flags]
    if not question.flags:
        verb, flag = "train", "--what-if"
        where = ["--device", question.scenario.device, "--capacity", f"{question.capacity_bytes}B"]
    words = ["peakmem", verb, question.source.title, *(["--train"] if verb == "fit" else []), *_flags(question)]
    conf = ",".join([question.conf, *confs] if question.conf else confs)
    words += [*where, *(["--conf", conf] if conf else []), *([flag, what_if] if what_if else [])]
    return shlex.join(words)


def _flags(question: Question) -> Iterator[str]:
    asked, source = question.scenario, question.source
    inputs = [source.inputs] if isinstance(source.inputs, str) else source.inputs
    for text in inputs if isinstance(inputs, list | tuple) else ():
        yield from ("--input", str(text))
    for name, shape in source.shapes.items():
        yield from ("--shape", f"{name}{'=' if name else ''}{'x'.join(map(str, shape))}")
    for name, size in source.dims.items():
        yield from ("--dim", f"{name}={size}")
    if question.route != "auto":
        yield from ("--route", question.route)
    for name in ("batch", "sequence", "resolution"):
        value = getattr(asked, name)
        if value is not None:
            yield from (f"--{name}", str(value))
    if asked.optimizer is not None:
        chosen = asked.optimizer
        how = f":{chosen.implementation}" if chosen.implementation else ""
        yield from ("--optimizer", ",".join([chosen.name + how, *(f"{key}={value}" for key, value in chosen.options)]))
    if asked.precision != "float32":
        yield from ("--precision", asked.precision)
    if asked.recompute:
        yield from ("--recompute", asked.recompute)
    if asked.lora is not None:
        targets = [",".join(asked.lora.targets)] if asked.lora.targets else []
        yield from ("--lora", ":".join([str(asked.lora.rank), *targets, *(["nf4"] if asked.lora.quantised else [])]))
    if asked.accumulate != 1:
        yield from ("--accumulate", str(asked.accumulate))
    if not asked.set_to_none:
        yield "--no-set-to-none"
    for pattern in asked.freeze:
        yield from ("--freeze", pattern)
    if asked.steps != Scenario().steps:
        yield from ("--steps", str(asked.steps))
    for place, found in asked.values:
        yield from ("--value", f"{place}={','.join(map(str, found if isinstance(found, tuple) else (found,)))}")
