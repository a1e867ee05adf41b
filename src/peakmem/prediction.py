"""The question "how much will this engine hold?", answered from the model file and the settings; nothing is run.

Puts together what stands apart: the conversion of a model into an engine's format, the readers, the profiles of
`peakmem.engines` and what is known of their accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from peakmem.binding import bound
from peakmem.delivery import Delivery, checked, choose, convertible, listed
from peakmem.engines.bands import Band, bands, baseline
from peakmem.engines.prediction import Prediction, Processor, Value
from peakmem.engines.registry import LEVERS, PROFILES, profile, reader
from peakmem.errors import PeakmemError, UsageError
from peakmem.ir.graph import Graph
from peakmem.measuring.engine import Engine
from peakmem.measuring.machine import machine
from peakmem.measuring.matrix import Plan, choices, parse_settings
from peakmem.pipeline import estimate, load
from peakmem.report.prediction import Candidate, Outcome, Predictions

FAULTS: dict[str, Outcome] = {"missing": "missing", "not converted": "not converted"}
EMBEDDED = {"tflm": "smallest arena"}
# engines that run without a system: the process is the arena, by the name of the detail that tells it
MEASURED_ON = "x86_64"
# the architecture that bands come from


def predict(
    model: str, *, engines: Sequence[str] = ("onnxruntime",), settings: Iterable[str] = (), batch: int | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None,
    inputs: Sequence[str] = (), processor: Processor | None = None, within: int | None = None,
    cache: Path | None = None, timeout: float = 600.0,
) -> Predictions:  # fmt: skip
    """What each of `engines` will hold with `model`: at load, in the first run and in steady state.

    Args:
        model: a model file, a built-in network, or 'package.module:factory'.
        engines: names of `peakmem engines`; "all" for every one that has a profile. They need not be installed.
        settings: "[ENGINE.]NAME=VALUE,…" each; several values make a matrix.
        batch, shapes, dims, inputs: see `peakmem.measure`.
        processor: what the engine will look at; this machine's where it is not given.
        within: bytes that the process may take; tries the settings that move memory most, too.
        cache, timeout: of the conversion, see `peakmem.measure`.

    Returns:
        One candidate for each engine and choice; those that were refused say why.

    Raises:
        UsageError: an engine or a setting that is not there, or the only candidate is refused for what was asked.
        PeakmemError: the model cannot be read.
    """
    if within is not None and within < 1:
        raise UsageError(f"a limit of {within:,} B", expected="1 B or more")
    checked(model, inputs, timeout)
    model, engines, settings = str(model), listed(engines), listed(settings)
    chip = processor or this_processor()
    delivery = Delivery(model, batch, shapes, dims, inputs, cache, timeout, installed=False)
    chosen = [reading(one, delivery.kind) for one in choose(engines, known=tuple(PROFILES))]
    axes = parse_settings(settings, chosen)
    graphs: dict[str, Graph | PeakmemError] = {}
    found: list[Candidate] = []
    for one in chosen:
        wanted = axes[one.name] if within is None else {**_levers(one), **axes[one.name]}
        for choice in choices(one, wanted):
            found.append(_candidate(one, choice, delivery, graphs, chip))
    if len(found) == 1 and found[0].outcome == "refused":
        raise UsageError(found[0].reason)
    if delivery.refused and {one.reason for one in found} == {str(delivery.refused[0])}:
        raise delivery.refused[0]
        # one reason for all, and the user can do something about it
    weights, live = by_hand(model, batch, shapes, dims, inputs)
    return Predictions(model, chip, weights, live, tuple(found), within, tuple(delivery.notes))


def this_processor() -> Processor:
    """What engines see of the machine this runs on."""
    import platform

    at, usual = machine(), Processor()
    caches = at.caches
    return Processor(
        architecture={"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine()),
        features=frozenset(at.features), l1_data_bytes=caches.get("L1d", usual.l1_data_bytes),
        l2_bytes=caches.get("L2", usual.l2_bytes), l3_bytes=caches.get("L3", 0), cores=at.cores or at.cpus or 1,
    )  # fmt: skip


def delivered(plan: Plan, inputs: Sequence[str] = ()) -> Graph:
    """The graph of the file that a plan brought, all dimensions bound.

    Raises:
        PeakmemError: it cannot be read, or a dimension has no value.
    """
    own = {port.name: port.shape for port in plan.ports if port.shape is not None}
    own_reader = reader(plan.engine.name)
    given = own_reader(plan.model, inputs=inputs or None) if own_reader else load(plan.model)
    return bound(given, shapes={name: shape for name, shape in own.items() if name in given.inputs})


def candidate(one: Engine, choice: Mapping[str, Value], plan: Plan, graph: Graph, chip: Processor) -> Candidate:
    """What the profile says of one engine with one choice of settings.

    Raises:
        PeakmemError: see `Profile.predict`.
    """
    reader = profile(one.name)
    settings = {**one.defaults(), **choice}
    own = {name: value for name, value in settings.items() if name not in one.conversion}
    told = reader.predict(graph, own, chip)
    return _filled(_empty(one, choice, plan), told, chip)


def reading(one: Engine, kind: str) -> Engine:
    """The engine, with the kinds of file its profile understands and the conversions that lead there."""
    return convertible(replace(one, reads=profile(one.name).reads), kind)


def _levers(one: Engine) -> dict[str, tuple[Value, ...]]:
    there = {setting.name for setting in one.settings}
    return {name: values for name, values in LEVERS.get(one.name, {}).items() if name in there}


def _candidate(
    one: Engine, choice: dict[str, Value], delivery: Delivery, graphs: dict[str, Graph | PeakmemError], chip: Processor
) -> Candidate:
    plan = delivery.plan(one, choice)
    blank = _empty(one, choice, plan)
    if plan.fault is not None:
        return replace(blank, outcome=FAULTS[plan.fault.status], reason=plan.fault.reason)
    if plan.model not in graphs:
        try:
            graphs[plan.model] = delivered(plan, delivery.inputs)
        except PeakmemError as fault:
            graphs[plan.model] = fault
    graph = graphs[plan.model]
    if not isinstance(graph, Graph):
        return replace(blank, outcome="refused", reason=str(graph))
    try:
        return candidate(one, choice, plan, graph, chip)
    except PeakmemError as fault:
        return replace(blank, outcome="refused", reason=str(fault))


def _empty(one: Engine, choice: Mapping[str, Value], plan: Plan) -> Candidate:
    return Candidate(
        one.name, one.version(), "", "refused", "", "estimate", {**one.defaults(), **choice}, dict(choice), plan.model,
        plan.steps,
    )  # fmt: skip


def _filled(blank: Candidate, told: Prediction, chip: Processor) -> Candidate:
    top = max(told.moments, key=lambda moment: moment.peak_bytes)
    # the first of equals
    known = bands(told.engine, blank.settings) if told.verified and chip.architecture == MEASURED_ON else ()
    base = baseline(told.engine)
    missing = sum(one.nbytes for one in told.unmodelled)
    low, high = _range(known, top.phase, top.peak_bytes, missing)
    details = dict(told.details or {})
    process = base.anonymous_bytes + top.peak_bytes if base else None
    if told.engine in EMBEDDED:
        process = details.get(EMBEDDED[told.engine])
    return replace(
        blank, verified=told.verified, outcome="predicted", kind=told.kind, moments=told.moments,
        unmodelled=told.unmodelled, notes=(*told.notes, *_beyond(blank, told)), details=details,
        heap_peak_bytes=top.peak_bytes, peak_phase=top.phase, low_bytes=low, high_bytes=high, bands=known,
        baseline=base, process_bytes=process,
    )  # fmt: skip


def _range(known: Iterable[Band], phase: str, nbytes: int, missing: int) -> tuple[int | None, int | None]:
    """Where the measured peak lies if this network is like those of the band."""
    for band in known:
        if (band.phase, band.figure, band.group) == (phase, "peak", "untouched"):
            return int(nbytes / band.max), int((nbytes + missing) / band.min)
    return None, None


def _beyond(blank: Candidate, told: Prediction) -> Iterator[str]:
    """What makes this prediction less sure than its band."""
    if blank.installed and told.verified and not verified(blank.installed, told.verified):
        yield (
            f"version {blank.installed} is installed, the rules were verified with {told.verified}: "
            "the band may not hold"
        )
    if told.unmodelled:
        nbytes = sum(one.nbytes for one in told.unmodelled)
        yield f"{len(told.unmodelled)} things have no rule: up to {nbytes:,} B may be missing, as far as can be told"


def verified(version: str, known: str) -> bool:
    """Whether `version` is one of those in `known`, "1.4.1, 1.5.1"; builds of one version count as one."""
    return version.partition("+")[0] in (text.strip().partition("+")[0] for text in known.split(","))


def by_hand(
    model: str, batch: int | None, shapes: Mapping[str, Sequence[int]] | None, dims: Mapping[str, int] | None,
    inputs: Sequence[str] = (),
) -> tuple[int | None, int | None]:  # fmt: skip
    """(weights, live peak) of the model as it was given, which one adds by hand; nothing where it cannot be read."""
    try:
        report = estimate(model, batch=batch, shapes=shapes, dims=dims, inputs=inputs or None)
    except PeakmemError:
        return None, None
    return report.weights_bytes, report.peak_bytes if report.kind == "estimate" else None
