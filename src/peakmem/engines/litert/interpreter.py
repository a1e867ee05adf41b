"""The interpreter after AllocateTensors: its arena, its own objects, and what its XNNPACK delegate holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from peakmem.engines.litert import compiled
from peakmem.engines.litert.accepted import check
from peakmem.engines.litert.arena import Planned, Temporary, Tensor, plan, requested
from peakmem.engines.litert.define import Defined, define
from peakmem.engines.litert.delegate import Chosen, Subset, choose, partition
from peakmem.engines.litert.model import Model, Part
from peakmem.engines.litert.objects import (
    CPUINFO,
    FIXED,
    SHARED,
    Step,
    added,
    delegate_objects,
    eigen_threads,
    lists,
    model_objects,
    prepared,
    running,
    threads_of,
)
from peakmem.engines.litert.products import products
from peakmem.engines.litert.temporaries import NoRule, nbytes_of, temporaries
from peakmem.engines.prediction import Holding, Processor, Unmodelled
from peakmem.engines.xnnpack import Held, hold

DELEGATE = "DELEGATE"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What it holds."""

    live: tuple[Holding, ...]
    peak: tuple[Holding, ...]
    # while it is loaded
    peak_at: str
    at: str
    # operator at which most of the arena is in use
    unmodelled: tuple[Unmodelled, ...]
    details: Mapping[str, int]
    early: tuple[Holding, ...]
    # when it is made, where the rest comes with the first run
    kept: tuple[Holding, ...] = ()
    # from the first run on
    transient: tuple[Holding, ...] = ()
    # while it runs, at most
    first: tuple[Holding, ...] = ()
    # and while it runs for the first time
    run_at: str = ""
    in_file: int = 0
    # packed weights in a file that is mapped


@dataclass(frozen=True, slots=True)
class _Entry:
    """One of the plan: an operator, or a delegate's part."""

    op_type: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    own: Sequence[Temporary]
    node: int = -1


def interpreter(
    model: Model, kernels: str, processor: Processor, threads: int, *, preserve: bool, clustering: bool, fusion: bool,
    compressed: bool, latest: bool = False, outside: bool = False, cached: bool = False,
) -> Interpreter:  # fmt: skip
    """The first subgraph of `model`, loaded; `outside`: its inputs and outputs lie in a compiled model's buffers.

    `cached`: packed weights lie in a file that is mapped.
    """
    part = model.parts[0]
    check(part)
    if compressed:
        sides = tuple(replace(one, zero_points=min(one.zero_points, 1)) for one in part.sides)
        part = replace(part, sides=sides)
    unmodelled = [
        Unmodelled(f"subgraph {at}", "only the first subgraph is modelled") for at in range(1, len(model.parts))
    ]
    chosen = Chosen(frozenset(), frozenset(), {}, {}, ())
    subsets = [Subset(False, tuple(range(len(part.calls))), (), ())]
    if kernels == "xnnpack":
        chosen = choose(part)
        subsets = partition(part, chosen.nodes, greedy=clustering, apart=preserve or not fusion)
        unmodelled += [
            Unmodelled(f"{part.calls[at].op_type}_{at}", reason, _outputs(part, at)) for at, reason in chosen.unknown
        ]
    own_threads = 1 if outside else threads
    # a compiled model tells its interpreter of none
    entries = _entries(model, part, subsets, kernels, own_threads, unmodelled)
    if own_threads != 1 and kernels != "xnnpack" and any(one.op_type == "ADD_N" for one in entries):
        unmodelled.append(Unmodelled("ADD_N", f"its sums with {threads} threads"))
    tensors = [Tensor(0 if one.stored else nbytes_of(one), one.stored, one.variable) for one in part.tensors]
    ports = sorted({*part.inputs, *part.outputs}) if outside else []
    sizes = [tensors[at].nbytes for at in ports]
    for at in ports:
        tensors[at] = replace(tensors[at], nbytes=0)
    calls = [(one.op_type, one.inputs, one.outputs, one.own) for one in entries]
    found = plan(tensors, calls, part.inputs, part.outputs, preserve=preserve)
    defined = [define(part, subset, chosen) for subset in subsets if subset.delegated]
    packs: set[tuple[object, ...]] = set()
    runtimes = [
        hold(one.subgraph, processor, threads, shared_workspace=True, weights_cache=cached, packed=packs)
        for one in defined
    ]
    in_file = 0
    if cached:
        in_file = sum(one.created_bytes for one in runtimes)
        runtimes = [compiled.uncached(one) for one in runtimes]
        in_file -= sum(one.created_bytes for one in runtimes)
    unmodelled += [missing for one in runtimes for missing in one.unmodelled]
    fixed = compiled.FIXED + compiled.tables(part) if outside else FIXED[kernels]
    if latest and kernels == "xnnpack":
        fixed -= SHARED
    objects = _objects(model, part, entries, subsets, defined, found, kernels, threads, fixed)
    arena = _arena(found, entries)
    packed, workspace = _runtimes(runtimes), _workspace(runtimes)
    unpacked = _named(Holding("weights", sum(chosen.unpacked.values()), "constants that the delegate unpacks"),
                      *compiled.builder(packs))  # fmt: skip
    live = (*arena, *unpacked, *packed, *workspace, *objects)
    peak, peak_at = _peak(live, unpacked, objects, runtimes)
    early: tuple[Holding, ...] = ()
    first: tuple[Holding, ...] = ()
    if outside:
        most = sum(one.nbytes for one in peak) - sum(one.nbytes for one in live)
        first = _named(Holding("workspace", most, "XNNPACK's workspace, a smaller one beside it"))
        left = sum(one.node >= 0 for one in entries)
        early = (
            *unpacked, *_runtimes([replace(one, planned=()) for one in runtimes]),
            replace(objects[0], nbytes=max(objects[0].nbytes - compiled.late(part, left), 0)), *objects[1:],
        )  # fmt: skip
        creating = max((one.creating for one in runtimes), default=0)
        more_room = compiled.making(sum(one.created_bytes for one in runtimes), creating)
        peak = (*early, Holding("objects", more_room, "list of kernels, and parts while they are made"))
        peak_at = "the model's making"
        live = (*live, *compiled.buffers(sizes))
    nodes = [one.node for one in entries if one.node >= 0]
    turned = frozenset(one.node for one in entries if _turned(one))
    made = products(part, nodes, turned, processor, own_threads, reference=kernels == "reference")
    more = [added(part, one.node, len(one.own)) if one.node >= 0 else 0 for one in entries]
    grown = running(part, nodes, more)
    pool = eigen_threads(threads) if turned else 0
    context = made.context if kernels != "xnnpack" else 0
    where = entries[found.fullest].op_type if found.fullest < len(entries) else "the inputs"
    return Interpreter(
        live, peak, peak_at, f"{where}_{found.fullest}" if found.fullest < len(entries) else where, tuple(unmodelled),
        _details(found, runtimes, chosen, subsets),
        kept=_named(Holding("workspace", made.kept, "matrices that ruy packs, and keeps"),
                    Holding("objects", pool, "Eigen's thread pool"),
                    Holding("objects", context + grown, "what the first run adds")),
        transient=_named(Holding("workspace", made.transient, "blocks of matrices, while a product runs")),
        first=(*first, *_named(Holding("workspace", max(made.growing, made.transient), "blocks, while they grow"))),
        run_at=made.at, early=early or live, in_file=in_file,
    )  # fmt: skip


def _entries(
    model: Model, part: Part, subsets: Sequence[Subset], kernels: str, threads: int, unmodelled: list[Unmodelled]
) -> list[_Entry]:
    entries = []
    body = model.census.bodies[0]
    for subset in subsets:
        if subset.delegated:
            entries.append(_Entry(DELEGATE, subset.inputs, subset.outputs, ()))
            continue
        for at in subset.nodes:
            call = part.calls[at]
            own: list[Temporary] = []
            try:
                own = temporaries(call, body, reference=kernels == "reference", threads=threads)
            except NoRule as reason:
                unmodelled.append(Unmodelled(f"{call.op_type}_{at}", str(reason), _outputs(part, at)))
            entries.append(_Entry(call.op_type, call.inputs, call.outputs, own, at))
    return entries


def _outputs(part: Part, at: int) -> int:
    return sum(nbytes_of(part.tensors[one]) for one in part.calls[at].outputs)


def _turned(entry: _Entry) -> bool:
    return entry.op_type == "CONV_2D" and len(entry.own) == 1 and entry.own[0].persistent


def _objects(
    model: Model, part: Part, entries: Sequence[_Entry], subsets: Sequence[Subset], defined: Sequence[Defined],
    found: Planned, kernels: str, threads: int, fixed: int,
) -> tuple[Holding, ...]:  # fmt: skip
    steps = [Step(one.inputs, one.outputs, len(one.own)) for one in entries]
    more = [added(part, one.node, len(one.own)) if one.node >= 0 else 0 for one in entries]
    made = sum(
        prepared(part, one.node, len(one.own), reference=kernels == "reference", turned=_turned(one))
        for one in entries
        if one.node >= 0
    )
    tables = model_objects(model, part) + made + lists(part, steps, more, found, len(defined))
    asked = CPUINFO if kernels != "xnnpack" and any(one.op_type == "FULLY_CONNECTED" for one in part.calls) else 0
    return _named(
        Holding("objects", tables, "the interpreter's tensors, operators and lists"),
        Holding("objects", fixed + asked, "list of kernels, interpreter, wrapper"),
        Holding("objects", delegate_objects(part, subsets, defined) if defined else 0, "the delegate's parts"),
        Holding("objects", threads_of(threads) if kernels == "xnnpack" else 0, "thread pool"),
    )


def _arena(found: Planned, entries: Sequence[_Entry]) -> tuple[Holding, ...]:
    arena, persistent = requested(found.high_water), requested(found.persistent)
    fullest = entries[found.fullest].op_type if found.fullest < len(entries) else "the inputs"
    alive = min(found.lower_bound, found.high_water)
    return _named(
        Holding("activations", alive - found.workspace, f"tensors alive at {fullest}"),
        Holding("workspace", found.workspace, f"temporary tensors at {fullest}"),
        Holding("workspace", found.heap, "temporary tensors outside of the arena"),
        Holding("pools", found.high_water - alive, "gaps that the planner leaves"),
        Holding("allocator", arena - found.high_water, "alignment of the arena"),
        Holding("state", persistent, "variable and lasting tensors, an arena of their own"),
    )


def _runtimes(runtimes: Sequence[Held]) -> tuple[Holding, ...]:
    """What each part's runtime holds, without the workspace that all share."""
    sums: dict[tuple[str, str], Holding] = {}
    for one in runtimes:
        for holding in (
            *one.created,
            *(later for later in one.planned if later.category not in ("activations", "pools")),
        ):
            key = (holding.category, holding.what)
            before = sums[key].nbytes if key in sums else 0
            sums[key] = replace(holding, nbytes=before + holding.nbytes)
    return tuple(sums.values())


def _workspace(runtimes: Sequence[Held]) -> tuple[Holding, ...]:
    largest = max(runtimes, key=lambda one: one.workspace, default=None)
    if largest is None:
        return ()
    return tuple(one for one in largest.planned if one.category in ("activations", "pools"))


def _peak(
    live: tuple[Holding, ...], unpacked: tuple[Holding, ...], objects: tuple[Holding, ...], runtimes: Sequence[Held]
) -> tuple[tuple[Holding, ...], str]:
    """The highest point of loading: its end, or while a part is made, or has a workspace beside a smaller one."""
    best, peak_at = live, "the end of loading"
    made: list[Held] = []
    for one in runtimes:
        made.append(replace(one, planned=()))
        subgraph = Holding("objects", one.creating, "what XNNPACK needs while it makes a part")
        best, peak_at = _higher(best, peak_at, (*unpacked, *objects, *_runtimes(made), subgraph), "a part for XNNPACK")
    workspace = 0
    for at, one in enumerate(runtimes):
        made[at] = one
        if one.workspace > workspace:
            both = Holding("workspace", workspace + one.workspace, "XNNPACK's workspace, a larger one beside it")
            best, peak_at = _higher(best, peak_at, (*unpacked, *objects, *_runtimes(made), both), "XNNPACK's workspace")
            workspace = one.workspace
    return best, peak_at


def _higher(
    best: tuple[Holding, ...], where: str, other: tuple[Holding, ...], there: str
) -> tuple[tuple[Holding, ...], str]:
    more = sum(one.nbytes for one in other) > sum(one.nbytes for one in best)
    return (_named(*other), there) if more else (best, where)


def _details(found: Planned, runtimes: Sequence[Held], chosen: Chosen, subsets: Sequence[Subset]) -> dict[str, int]:
    details = {
        "arena": requested(found.high_water), "persistent arena": requested(found.persistent),
        "high water": found.high_water, "lower bound": found.lower_bound,
    }  # fmt: skip
    if runtimes:
        details["delegated operators"] = len(chosen.nodes)
        details["delegated parts"] = sum(one.delegated for one in subsets)
        details["XNNPACK workspace"] = max(one.workspace for one in runtimes)
    return details


def _named(*holdings: Holding) -> tuple[Holding, ...]:
    return tuple(one for one in holdings if one.nbytes)
