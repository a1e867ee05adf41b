"""The question "what will a training step need?", answered without running it.

Puts together what stands apart: logs of the step, the simulated allocator, closed forms, what-ifs and the verdict
against a capacity.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from peakmem import devices
from peakmem.errors import UsageError
from peakmem.producing import Made, Producer, Source, producer
from peakmem.report.training import (
    Change,
    ClosedForm,
    FormLine,
    Held,
    Left,
    ModuleShare,
    Moment,
    Share,
    Training,
    Unknown,
)
from peakmem.training.account import Peak, bound, peak, peaks
from peakmem.training.allocator import Settings, simulate
from peakmem.training.log import CATEGORIES, Log, spans
from peakmem.training.scenario import Optimizer, Scenario
from peakmem.training.shares import alike, at_end_of_steps, by_module
from peakmem.verdict import Capacity, judged_cpu, judged_cuda, reserved_of

STEPS_ON_CUDA = 3
# the allocator settles in the third: in the second the optimizer's state is new


def train(
    source: object, *, scenario: Scenario | None = None, inputs: object = None,
    shapes: Mapping[str, Sequence[int]] | None = None, dims: Mapping[str, int] | None = None,
    capacity: int | str | Capacity | None = None, conf: str = "", what_if: Sequence[str] = (), route: str = "auto",
) -> Training:  # fmt: skip
    """What a training step needs: the peak of its tensors with its parts, phases and modules; nothing is run.

    Args:
        source: a built-in network, a folder with a config.json, a model file, 'package.module:factory', a
            torch.nn.Module or a function that runs one step.
        scenario: device, batch, optimizer, precision and the rest; without it two steps on the processor with AdamW,
            or with the step's own optimizer. On CUDA at least three steps are made.
        inputs: what a torch.nn.Module is called with, see `peakmem.load`.
        shapes, dims: of a model file, see `peakmem.estimate`.
        capacity: bytes that it is to fit in, or the name of a device.
        conf: settings of torch's CUDA allocator, as in PYTORCH_CUDA_ALLOC_CONF.
        what_if: changes to try, such as "amp", "recompute", "accumulate=4": each alone, then all together.
        route: "trace" runs the step on tensors without memory and needs torch, "graph" follows the file's graph with
            autograd's rules and needs none, "auto" traces what can be traced.

    Raises:
        UsageError: something that is not there; code that asks for the content of a tensor; a step that raises.
        MissingLibrary: it needs torch, which is not installed, and has no graph.
        PeakmemError: the file cannot be read.
    """
    limit = _capacity(capacity)
    asked = _for_card(checked(scenario or Scenario()), limit)
    on_cuda = asked.device == "cuda"
    settings = Settings.parse(conf)
    if conf and not on_cuda:
        raise UsageError("these are settings of the CUDA allocator", where="--conf", hint="--device cuda")
    maker = producer(Source(source, inputs, shapes or {}, dims or {}), asked, route)
    made = maker.make(maker.scenario)
    if not any(storage.nbytes for storage in made.log.storages):
        raise UsageError(
            f"the step makes no tensor on device {made.log.device}", where=maker.title,
            expected="a step whose tensors live there", hint="--device cpu" if on_cuda else "--device cuda",
        )  # fmt: skip
    report = _report(maker, made, asked, limit)
    if on_cuda:
        found = simulate(made.log, settings)
        report = replace(report, reserved=reserved_of(found, exact=report.bound_bytes is not None))
    if limit is not None and report.reserved is not None:
        report = replace(report, verdict=judged_cuda(made.log, limit, report.reserved, settings))
    elif limit is not None:
        report = replace(report, verdict=judged_cpu(made.log, limit, exact=report.bound_bytes is not None))
    if what_if:
        report = replace(report, changes=_changes(maker, made, what_if, settings if on_cuda else None, report))
    return replace(report, forms=tuple(_forms(maker, made, report)))


def checked(asked: Scenario) -> Scenario:
    """The scenario with as many steps as its device needs.

    Raises:
        UsageError: a size or a count that is less than 1.
    """
    for name in ("batch", "sequence", "resolution"):
        value = getattr(asked, name)
        if value is not None and value < 1:
            raise UsageError(f"a {name} of {value:,}", expected="1 or more", hint=f"--{name} 1")
    if asked.steps < 1 or asked.accumulate < 1:
        raise UsageError(f"{asked.steps} steps of {asked.accumulate} parts", expected="1 or more of each")
    if asked.device == "cuda" and asked.steps < STEPS_ON_CUDA:
        return replace(asked, steps=STEPS_ON_CUDA)
    return asked


def _for_card(asked: Scenario, limit: Capacity | None) -> Scenario:
    """The scenario for the card whose capacity is meant."""
    card = limit.card if limit is not None else None
    if card is None or asked.device != "cuda":
        return asked
    capability, multiprocessors = asked.capability or card.capability, asked.multiprocessors or card.multiprocessors
    return replace(asked, capability=capability, multiprocessors=multiprocessors)


def capacity_of(card: devices.Device) -> Capacity:
    """What a process gets on a device.

    Raises:
        UsageError: only the storage of the device is known.
    """
    if card.capacity_bytes is None:
        raise UsageError(f"{card.title} limits storage, not memory", expected="a device with memory",
                         hint="peakmem devices")  # fmt: skip
    return Capacity(card.capacity_bytes, card.capacity_said, card)


def _capacity(asked: int | str | Capacity | None) -> Capacity | None:
    if asked is None or isinstance(asked, Capacity):
        return asked
    if isinstance(asked, str):
        return capacity_of(devices.find(asked))
    if asked < 1:
        raise UsageError(f"a capacity of {asked:,} B", expected="1 B or more", hint="--capacity 24GiB")
    return Capacity(asked, "as asked")


# -- the report --------------------------------------------------------------------------


def _report(maker: Producer, made: Made, asked: Scenario, limit: Capacity | None) -> Training:
    log = made.log
    top = peak(log)
    found = alike(log, top.moment)
    counts = {name: sum(one.count for one in found if one.storage.category == name) for name in CATEGORIES}
    return Training(
        name=maker.title, kind="estimate", device=log.device, card=limit.card.name if limit and limit.card else "",
        route=maker.route, steps=log.steps, optimizer=_optimizer(made, asked), precision=asked.precision,
        batch=made.samples, peak=_moment(top),
        bound_bytes=bound(log) if maker.route == "trace" and log.device == asked.device else None,
        shares=tuple(
            Share(name, nbytes, counts[name])
            for name, nbytes in sorted(top.categories.items(), key=lambda pair: -pair[1])
            if nbytes
        ),
        phases=tuple(_phases(log)),
        left=tuple(Left(step, sum(held.values()), held) for step, held in at_end_of_steps(log)),
        modules=tuple(ModuleShare(module, sum(held.values()), held) for module, held in by_module(log, top.moment)),
        held=tuple(
            Held(
                one.nbytes, one.count, it.category, it.name, it.operator, it.module, it.dtype, it.shape, it.step,
                it.phase,
            )
            for one in found
            for it in (one.storage,)
            if one.nbytes
        ),
        parameter_bytes=sum(one.nbytes for one in log.storages if one.category == "parameter"),
        unknowns=tuple(unknowns(log)), assumptions=tuple(assumptions(made, asked)),
        notes=(*maker.notes, *_missing(log), *log.notes),
    )  # fmt: skip


def _moment(found: Peak) -> Moment:
    held = {name: nbytes for name, nbytes in found.categories.items() if nbytes}
    return Moment(found.step, found.phase, found.nbytes, found.operator, found.module, held)


def _phases(log: Log) -> Iterator[Moment]:
    """The peak of each phase of each step; of a phase that comes several times in a step the highest.

    Stretches in which nothing comes are none: gradients given back, the end of a step's forward after its backward.
    """
    coming = [storage.start for storage in log.storages]
    lively = {mark.moment for mark, end in spans(log) if bisect_left(coming, end) > bisect_left(coming, mark.moment)}
    starts = [mark.moment for mark in log.marks]
    highest: dict[tuple[int, str], Peak] = {}
    for one in peaks(log):
        if starts[bisect_right(starts, one.moment) - 1] not in lively:
            continue
        known = highest.get((one.step, one.phase))
        if known is None or one.nbytes > known.nbytes:
            highest[one.step, one.phase] = one
    yield from (_moment(one) for one in highest.values())


def unknowns(log: Log) -> Iterator[Unknown]:
    """What operators may take beyond what is in the log, one row for each operator and reason."""
    from peakmem.training.workspaces import rows

    known = {row.name: row for row in rows().values()} if log.doubts else {}
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for doubt in log.doubts:
        calls, most = found.get((doubt.operator, doubt.reason), (0, 0))
        found[doubt.operator, doubt.reason] = (calls + 1, max(most, doubt.nbytes))
    for (operator, reason), (calls, most) in sorted(found.items(), key=lambda pair: -pair[1][1]):
        row = known.get(reason)
        yield Unknown(operator, calls, most, reason if row is None else f"{row.name}: {row.formula} ({row.source})")


def _missing(log: Log) -> Iterator[str]:
    """What a training step has and this one has not."""
    phases = {mark.phase for mark in log.marks}
    if "backward" not in phases:
        yield "no backward ran in any of the steps: nothing is trained"
    elif "optimizer" not in phases:
        yield "no optimizer allocated anything in any of the steps"
    if not any(storage.category == "parameter" for storage in log.storages):
        yield f"no parameter was seen on device {log.device}: what the step trains lives elsewhere, or hides"


def _optimizer(made: Made, asked: Scenario) -> str:
    from peakmem.training.optimizers import settle

    chosen = asked.optimizer or (made.stepped if made.own else Optimizer())
    if chosen is None:
        return "the step's own optimizer"
    settings = settle(chosen, asked.device)
    options = "".join(f", {name}={value:g}" for name, value in chosen.options)
    return f"{settings.name} ({settings.implementation}{options})"


def assumptions(made: Made, asked: Scenario) -> Iterator[str]:
    """What was chosen for the one who asks."""
    yield from made.assumed
    if asked.batch is None and made.samples and not made.own:
        yield f"a batch of {made.samples:,}, since none was asked for (--batch)"
    if asked.optimizer is None and not made.own:
        yield "AdamW, since no optimizer was named (--optimizer)"
    if not made.own:
        yield "gradients are given back before each forward" if asked.set_to_none else "gradients are kept and zeroed"
    if asked.device == "cuda" and asked.capability is None:
        yield "a card like an A100 (--device NAME for another)"
    yield "one process that trains and nothing else: no data loader, no evaluation, no second network on the device"


# -- what if, closed forms ---------------------------------------------------------------


def _changes(
    maker: Producer, made: Made, names: Sequence[str], settings: Settings | None, report: Training
) -> tuple[Change, ...]:  # fmt: skip
    from peakmem.training import whatif

    base = maker.scenario
    if made.own and base.optimizer is None:
        base = replace(base, optimizer=made.stepped)
    before = report.peak.nbytes if report.reserved is None else report.reserved.reserved_bytes
    found = []
    for row in whatif.rows(lambda wanted: maker.make(wanted).whole, base, made.log, names):
        title = "; ".join(whatif.CHOICES[one.strip().partition("=")[0]].what for one in row.name.split("+"))
        if row.log is None:
            found.append(Change(row.name, title, "refused", row.refused, before, before, report.peak.nbytes, None, 0))
            continue
        price, tensors = row.price, peak(row.log).nbytes
        needed = tensors if settings is None else simulate(row.log, settings, bound=False).reserved.nbytes
        found.append(
            Change(
                row.name, title, "predicted", "", before, needed, tensors, price.flops, price.communicated_bytes,
                price.note,
            )
        )  # fmt: skip
    return tuple(found)


def _forms(maker: Producer, made: Made, report: Training) -> Iterator[ClosedForm]:
    """Rules of thumb on the same step, with how far they are from it."""
    from peakmem.training.formulas import FORMULAS, facts_of

    facts = facts_of(made.log, batch=made.samples or 1, ranks=maker.scenario.sharding.ranks, shape=made.shape)
    if not facts.parameters:
        return
    for form in FORMULAS.values():
        if form.missing(facts):
            continue
        found = form.compute(facts)
        lines = tuple(FormLine(name, nbytes, "") for name, nbytes in found.parts)
        yield ClosedForm(
            form.name, form.title, form.formula, found.nbytes, found.nbytes / report.peak.nbytes, form.source, lines,
            form.excludes,
        )  # fmt: skip
    if _is_printed(facts.parameters * facts.parameter_bytes, made.samples, report):
        yield _printed(report)


def _is_printed(parameter_bytes: int, batch: int, report: Training) -> bool:
    """Whether this is the step of the tutorial's table: ResNet-50, batch 32, Adam, float32."""
    from peakmem.training.formulas import Traced

    same = (parameter_bytes, batch, report.precision) == (Traced().resnet50_parameters, 32, "float32")
    return same and report.optimizer.startswith("adam ")


def _printed(report: Training) -> ClosedForm:
    """The table as it was printed, its lines with the share of the card that they are."""
    from peakmem.training.formulas import FORMULAS
    from peakmem.training.formulas.budget import MB, V100, check

    lines = []
    for line in V100:
        found = check(line)
        said = f"{line.printed:,} MB ({line.percent} %)" + (
            "" if found.agrees else f", which is {float(found.share):.2f} %"
        )
        lines.append(FormLine(line.name, line.printed * MB, said))
    total = sum(line.nbytes for line in lines)
    return ClosedForm(
        "budget-table-printed", "The same table as printed", "98 + 196 + 98 + 5,000 + 1,000 MB", total,
        total / report.peak.nbytes, FORMULAS["budget-table"].source, tuple(lines),
        "its activations are about every operator's output, not what the backward needs; lines in MiB stand among MB",
    )  # fmt: skip
