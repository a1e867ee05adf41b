"""Whether a training step fits a device, the largest batch, how many devices it needs, and what would make it fit.

Everything that is told was had by the whole analysis: the step traced, its log run through the allocator, held against
what a process gets on the device. Nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from peakmem import devices, rehearsal
from peakmem.devices import Device
from peakmem.errors import PeakmemError, UsageError
from peakmem.fitting import training_rows as rows
from peakmem.fitting.training_analysis import Analyses, Analysis, Case
from peakmem.fitting.training_changes import Situation
from peakmem.fitting.training_largest import KNOBS, Found, Knob, largest
from peakmem.fitting.training_ranks import Ranks, shards, split
from peakmem.fitting.training_search import Attempt, search
from peakmem.producing import Made, Producer, Source, is_live, producer
from peakmem.report.fit import Fit
from peakmem.training.allocator import Settings
from peakmem.training.log import Log
from peakmem.training.optimizers import settle
from peakmem.training.scenario import Optimizer, Scenario, Sharding
from peakmem.training.whatif import parse
from peakmem.verdict import Capacity

Tries = Literal["auto", "all", "none"]
MOST_TRACES = 48
NO_TRAINING = ("mcu", "accelerator", "phone", "limit")
# kinds of devices that PyTorch trains nothing on


def fit_training(
    source: object, scenario: Scenario | None = None, device: str | Device | None = None, *,
    capacity: int | None = None, inputs: object = None, shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None, conf: str = "", route: str = "auto", changes: Tries = "auto",
    knobs: Sequence[Knob] = KNOBS, most_traces: int = MOST_TRACES, choices: Sequence[str] = (),
    flags: tuple[str, ...] = (),
) -> Fit:  # fmt: skip
    """Whether a training step fits, by how much, what is the largest that does, and which changes make it fit.

    Args:
        source, inputs, shapes, dims, conf, route: as for `peakmem.train`.
        scenario: the step; its device becomes the processor or the card that `device` has.
        device: by name, or a row of the table; None with a `capacity` alone.
        capacity: bytes that a process gets, instead of what the device's row says.
        changes: "auto" tries them where the step does not fit for sure, "all" always, "none" never.
        knobs: of which the largest value is looked for, where the step has them.
        most_traces: after so many traced steps nothing more is tried.
        choices: what-ifs of `peakmem.train` that are made first: the question is asked of the step with them.
        flags: that name the memory to `peakmem fit`, for the commands that show a change.

    Raises:
        UsageError: a device that nothing is trained on, code that asks for the content of a tensor.
        MissingLibrary: it needs torch, which is not installed, and has no graph.
        PeakmemError: the file cannot be read.
    """
    card = devices.find(device) if isinstance(device, str) else device
    limit = _limit(card, capacity)
    asked = _scenario(scenario or Scenario(), card)
    typed = replace(scenario or Scenario(), device=asked.device)
    if conf and asked.device != "cuda":
        raise UsageError("these are settings of the CUDA allocator", where="--conf", hint="a device with a GPU")
    Settings.parse(conf)
    made_first = [parse(text)[1] for text in choices]
    given = Source(source, inputs, shapes or {}, dims or {})
    maker = producer(given, asked, route)
    analyses = Analyses(maker, limit, asked.device == "cuda", most_traces)
    made = analyses.made(maker.scenario)
    base = Case(_said(maker.scenario, made, analyses), conf)
    for choice in made_first:
        base, asked = replace(base, scenario=choice(base.scenario)), choice(asked)
    if made_first:
        made = analyses.made(replace(base.scenario, sharding=Sharding()))
    there = analyses.of(base)
    found, unasked = _largest(analyses, base, made, knobs, live=is_live(source))
    attempts: list[Attempt] = []
    ranks = None
    if changes == "all" or (changes == "auto" and there.outcome != "fits"):
        ranks, attempts = _changes(analyses, base, made, asked, found, there)
    question = rows.Question(
        given, typed, flags or tuple(_place(card, capacity, typed)), limit.nbytes, conf, tuple(choices), route
    )
    part = rows.part(there, limit, analyses.on_cuda)
    return Fit(
        given.title, card.name if card else "", card.title if card else limit.said, "training", "", there.outcome,
        (part,), (part.name,) if there.outcome == "does not fit" else (), part.needed_bytes / max(limit.nbytes, 1),
        tuple(rows.readings(analyses, base, card, part)) if capacity is None else (),
        tuple(rows.largest(one, part.name) for one in found.values()),
        tuple(rows.tried(attempts, question, part.name, better=there.outcome == "may fit")),
        None if ranks is None else ranks.count,
        assumptions=(*_assumed(maker, made, asked, card), *unasked, *rows.ranks(ranks),
                     f"{analyses.traces} training steps were traced for this"),
        unknowns=tuple(_unknown(made.log)),
    )  # fmt: skip


def _limit(card: Device | None, capacity: int | None) -> Capacity:
    if card is not None and card.kind in NO_TRAINING:
        raise UsageError(f"PyTorch trains nothing on {card.title}", expected="a GPU, a computer or a board",
                         hint="--device v100-16gb")  # fmt: skip
    if capacity is not None:
        if capacity < 1:
            raise UsageError(f"a capacity of {capacity:,} B", expected="1 B or more", hint="--capacity 24GiB")
        return Capacity(capacity, "as asked", card)
    if card is None:
        raise UsageError("fits into what?", expected="a device or a capacity", hint="--device v100-16gb")
    return rehearsal.capacity_of(card)


def _scenario(asked: Scenario, card: Device | None) -> Scenario:
    """The scenario on that device."""
    if card is not None:
        asked = replace(
            asked, device=card.processor, capability=asked.capability or card.capability,
            multiprocessors=asked.multiprocessors or card.multiprocessors,
        )  # fmt: skip
    return rehearsal.checked(asked)


def _place(card: Device | None, capacity: int | None, scenario: Scenario) -> Iterator[str]:
    """The flags that name the memory to `peakmem fit`; none for a processor's of which only the size is known."""
    if card is not None:
        yield from ("--device", card.name)
    if capacity is not None and (card is not None or scenario.device == "cuda"):
        yield from ("--ram", f"{capacity}B")


def _said(scenario: Scenario, made: Made, analyses: Analyses) -> Scenario:
    """The scenario with the batch that the network brings, where none was asked for."""
    if scenario.batch is not None or made.own or not made.samples or analyses.maker.route == "graph":
        return scenario
    said = replace(scenario, batch=made.samples)
    analyses.know(said, made)
    return said


def _largest(
    analyses: Analyses, base: Case, made: Made, knobs: Sequence[Knob], *, live: bool
) -> tuple[dict[Knob, Found], list[str]]:  # fmt: skip
    """The largest value of each knob that the step has, and why it has not the others."""
    found: dict[Knob, Found] = {}
    unasked = []
    for knob, start in _knobs(base.scenario, made):
        if knob not in knobs:
            continue
        if knob != "batch" and getattr(base.scenario, knob) is None:
            if live:
                continue  # its sizes are in its own code
            analyses.know(replace(base.scenario, **{knob: start}), made)  # type: ignore[arg-type]
        try:
            found[knob] = largest(analyses, base, knob, start)
        except PeakmemError as fault:
            unasked.append(f"the largest {knob} was not looked for: {fault}")
    return found, unasked


def _knobs(scenario: Scenario, made: Made) -> Iterator[tuple[Knob, int]]:
    """Knobs with the values that the step has."""
    yield "batch", scenario.batch or made.samples or 1
    inputs = [item.shape for item in made.log.storages if item.category == "input" and len(item.shape) > 1]
    first = inputs[0] if inputs else ()
    if len(first) == 4:
        yield "resolution", scenario.resolution or first[-1]
    elif len(first) in (2, 3):
        yield "sequence", scenario.sequence or first[1]


def _changes(
    analyses: Analyses, base: Case, made: Made, asked: Scenario, found: dict[Knob, Found], there: Analysis
) -> tuple[Ranks | None, list[Attempt]]:  # fmt: skip
    batch = found.get("batch")
    samples = (base.scenario.batch or made.samples) if batch is not None else 0
    ranks, needed = None, None
    if there.outcome == "does not fit":
        ranks = split(analyses, base, samples, batch.series if batch else None)
        needed = shards(analyses, base)
    chosen = asked.optimizer or (made.stepped if made.own else Optimizer())
    settings = settle(chosen, asked.device) if chosen is not None else None
    here = Situation(
        base, made, analyses.on_cuda, settings.name if settings else "", settings.implementation if settings else "",
        found, there.needed_bytes, needed,
    )  # fmt: skip
    attempts = search(analyses, here)
    if ranks is not None:
        attempts.append(rows.together(ranks))
    return ranks, attempts


def _assumed(maker: Producer, made: Made, asked: Scenario, card: Device | None) -> Iterator[str]:
    yield from rehearsal.assumptions(made, asked)
    yield from maker.notes
    if card is not None and card.processor == "cuda" and card.capability is None:
        yield f"{card.title} is taken for an NVIDIA card: its kernels and the allocator of its own PyTorch may differ"


def _unknown(log: Log) -> Iterator[str]:
    for one in rehearsal.unknowns(log):
        yield f"{one.operator}: {one.calls:,} calls, each at most {one.nbytes:,} B: {one.reason}"
