"""A question answered by the profile of an engine: the arena of a microcontroller, or a process of a system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peakmem.engines.prediction import Processor
from peakmem.errors import UsageError
from peakmem.fitting.parts import Answer, arena, part
from peakmem.fitting.place import Place, Room
from peakmem.fitting.question import Question
from peakmem.fitting.stored import delivered, file_part
from peakmem.prediction import predict
from peakmem.report.fit import Part

if TYPE_CHECKING:
    from peakmem.report.prediction import Candidate

EMBEDDED = ("tflm",)
# engines without a system under them: RAM is the arena, weights are read where they are stored
OWN = "peakmem "
# a step of a conversion that is this package's and takes no time
ON_64_BITS = "pointers of 8 bytes, as the profile was measured with: a microcontroller's tail is smaller"
ARM = Processor("aarch64")
# of phones, boards and computers of the table, where nobody says another
WITHOUT_SYSTEM = ("mcu",)
WITH_SYSTEM = ("computer", "board", "phone")


def answered(
    question: Question, place: Place, processor: Processor | None, cache: Path | None, timeout: float
) -> Answer:
    """The answer to a question that names an engine.

    Raises:
        UsageError: an engine that does not run there, or a model that it refuses.
        PeakmemError: see `peakmem.predict`.
    """
    _goes(question, place)
    usual = processor is None and place.kind in WITH_SYSTEM
    processor = ARM if usual else processor
    report = predict(
        str(question.source), engines=(question.engine,), settings=question.settings, batch=question.batch,
        shapes=dict(question.shapes), dims=dict(question.dims), inputs=question.inputs, processor=processor,
        cache=cache, timeout=timeout,
    )  # fmt: skip
    if len(report.candidates) != 1:
        many = f"--set gives {len(report.candidates)} choices, and one is asked about"
        raise UsageError(many, hint="--set NAME=VALUE")
    found = report.candidates[0]
    if found.outcome != "predicted":
        raise UsageError(f"{question.engine}: {found.reason}", where=str(question.source)[:200])
    parts = []
    if place.ram is not None:
        parts.append((_arena if question.engine in EMBEDDED else _process)(place, place.ram, found))
    if place.storage is not None:
        stored = delivered(found.model, found.engine, report.weights_bytes)
        parts.append(file_part(place.storage, stored, 1, place.runtime_bytes))
    chosen = ", ".join(f"{name}={value}" for name, value in found.settings.items())
    said = [f"engine: {found.engine}" + (f" with {chosen}" if chosen else "")]
    said.append(
        f"the profile's rules were verified with {found.engine} {found.verified}" if found.verified
        else f"the profile of {found.engine} was never measured: no bound is known"
    )  # fmt: skip
    if usual:
        said.append(f"processor: {ARM.architecture} without extensions, as such devices have one (--processor)")
    missing = tuple(f"{one.what}: {one.reason}" for one in found.unmodelled)
    converted = any(not step.tool.startswith(OWN) for step in found.steps)
    return Answer(report.name, tuple(parts), 0, 0, 0, (*said, *found.notes, *report.notes), missing, converted)


def _goes(question: Question, place: Place) -> None:
    """Refuse an engine that does not run on this kind of device."""
    embedded = question.engine in EMBEDDED
    if place.kind == "gpu":
        what = "engines are predicted on processors, and this is a graphics card"
        raise UsageError(what, where=place.name, hint="without --engine")
    if place.kind in WITHOUT_SYSTEM and not embedded:
        what = f"{question.engine} is predicted as a process of a system, and {place.title} has none"
        raise UsageError(what, expected=" or ".join(EMBEDDED), hint=f"--engine {EMBEDDED[0]}")
    if place.kind in WITH_SYSTEM and embedded:
        what = f"{question.engine} is for microcontrollers, and {place.title} is none"
        raise UsageError(what, hint="--engine litert")
    if not question.is_written:
        what = "an engine is predicted for a file or a name, not for a model in memory"
        raise UsageError(what, hint="package.module:factory")
    if question.devices > 1:
        raise UsageError("weights are split over devices for the graph alone", hint="--devices 1")


def _arena(place: Place, room: Room, found: Candidate) -> Part:
    details = found.details or {}
    size, tail = found.process_bytes or 0, details.get("tail", 0)
    shares = (
        ("head: tensors and scratch", size - tail), ("tail: the interpreter", tail), ("reserve", place.reserve_bytes),
    )  # fmt: skip
    extra = sum(one.nbytes for one in found.unmodelled)
    bound = size + place.reserve_bytes + extra if found.verified else None
    convention = f"smallest arena of {found.engine}, as its profile predicts it"
    return arena(room, bound, convention, shares, (), sure=found.kind == "estimate", said=ON_64_BITS)


def _process(place: Place, room: Room, found: Candidate) -> Part:
    top = max(found.moments, key=lambda moment: moment.peak_bytes)
    base = found.baseline.anonymous_bytes if found.baseline is not None else 0
    sums: dict[str, int] = {}
    for one in top.peak:
        sums[one.category] = sums.get(one.category, 0) + one.nbytes
    shares = (("process without a model", base), *sums.items(), ("reserve", place.reserve_bytes))
    known = found.high_bytes is not None and found.baseline is not None
    bound = base + (found.high_bytes or 0) + place.reserve_bytes if known else None
    convention = f"anonymous memory of a process with {found.engine}, at its most in {top.phase}"
    said = "bound: the widest that its profile was off on networks it was not made with" if known else ""
    return part(room, bound, convention, shares, sure=found.kind == "estimate", said=said)
