"""A training step as titled tables of strings: peak and parts, phases, what-ifs, closed forms, the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from peakmem.render.blocks import Block, Lines, Table
from peakmem.report.training import Change, ClosedForm, Held, Moment, Training
from peakmem.training.log import Category
from peakmem.units import Units, format_bytes, format_exact

TOP = 10
# lines of a list, unless more are asked for
WHAT: dict[Category, str] = {
    "parameter": "what the network stores and trains, or not",
    "buffer": "what the network stores beside its parameters: running statistics, masks",
    "input": "the batch and its targets",
    "saved activation": "made in a forward, kept for the backward",
    "temporary": "made and given back within a phase",
    "gradient": "of the loss by each parameter",
    "optimizer state": "what the optimizer keeps from step to step",
    "kernel workspace": "what kernels take inside an operator",
}


@dataclass(frozen=True, slots=True)
class View:
    """What to show."""

    units: Units = "iec"
    top: int | None = TOP
    # lines of the lists of modules and tensors; None for all, and for the sources of closed forms


def blocks(report: Training, view: View) -> list[Block]:
    """The blocks of `report` in reading order."""
    shown: list[Block] = [Lines(_title(report), tuple(_headline(report, view)))]
    shown.append(_parts(report, view))
    shown.append(_phases(report, view))
    if report.reserved is not None:
        shown.append(_allocator(report, view))
    shown.append(_left(report, view))
    shown.append(_modules(report, view))
    shown.append(_held(report, view))
    if report.changes:
        shown.append(_changes(report, view))
    if report.forms:
        shown.append(_forms(report, view))
        shown += [_lines(form, view) for form in report.forms if any(line.said for line in form.lines)]
    if report.verdict is not None:
        shown.append(Lines("Does it fit", tuple(_verdict(report, view))))
    shown.append(Lines("Assumptions", report.assumptions or ("none",)))
    shown.append(Lines("How it came about", report.notes or ("nothing had to be corrected",)))
    shown.append(_unknown(report))
    return shown


def _title(report: Training) -> str:
    batch = f", batch {report.batch}" if report.batch else ""
    return f"{report.name}, training{batch}, {report.optimizer}, {report.precision}, on {report.card or report.device}"


def _headline(report: Training, view: View) -> Iterator[str]:
    at = report.peak
    least = "at least " if report.kind == "lower bound" else ""
    yield (
        f"peak: {least}{format_exact(at.nbytes, view.units)} of tensors, in the {at.phase} of step {at.step}"
        f"{_place(at)} [{report.kind}, {report.route}]"
    )
    if report.bound_bytes is None:
        yield "no upper bound is known: this is no trace by the device's own rules"
    elif report.bound_bytes > at.nbytes:
        yield (
            f"at most {format_exact(report.bound_bytes, view.units)}, if each operator under Unknown takes the most "
            "that it may"
        )
    elif report.unknowns:
        yield "upper bound: the same; what operators under Unknown may add stays below it"
    else:
        yield "upper bound: the same; every operator has its row in the table of workspaces"
    if report.reserved is not None:
        yield (
            f"reserved on the device by the allocator: {format_exact(report.reserved.reserved_bytes, view.units)}"
            f"{_at_most(report.reserved.reserved_bytes, report.reserved.bound_bytes, view)}"
        )
    if report.verdict is not None:
        yield next(_verdict(report, view))


def _at_most(nbytes: int, most: int | None, view: View) -> str:
    return f", at most {format_bytes(most, view.units)}" if most is not None and most > nbytes else ""


def _place(at: Moment) -> str:
    operator = f" at {at.operator}" if at.operator else ""
    return operator + (f" of {at.module}" if at.module else "")


def _size(nbytes: int, view: View) -> tuple[str, str]:
    return format_bytes(nbytes, view.units), f"{nbytes:,}"


def _parts(report: Training, view: View) -> Table:
    total = report.peak.nbytes
    rows = tuple(
        (one.category, *_size(one.nbytes, view), _share(one.nbytes, total), f"{one.storages:,}", WHAT[one.category])
        for one in report.shares
    )
    sums = (
        "total",
        *_size(total, view),
        _share(total, total),
        f"{sum(one.storages for one in report.shares):,}",
        "the peak",
    )
    columns = ("part", "size", "bytes", "share", "storages", "what")
    return Table("Parts of the peak", columns, rows, frozenset(columns[1:5]), sums)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _phases(report: Training, view: View) -> Table:
    rows = tuple(
        ("" if one.step < 0 else str(one.step), one.phase, *_size(one.nbytes, view), one.operator, one.module)
        for one in report.phases
    )
    columns = ("step", "phase", "size", "bytes", "operator", "module")
    return Table("Peak of each phase", columns, rows, frozenset({"step", "size", "bytes"}))


def _allocator(report: Training, view: View) -> Table:
    it = report.reserved
    assert it is not None
    where = f"{it.phase} of step {it.step}" + (f", {it.operator}" if it.operator else "")
    rows = [
        ("requested", *_size(it.requested_bytes, view), "the most bytes of tensors and workspaces at once"),
        (
            "allocated",
            *_size(it.allocated_bytes, view),
            "rounded to 512 B, with what is not split off: max_memory_allocated",
        ),
        (
            "reserved",
            *_size(it.reserved_bytes, view),
            f"taken from the device, first in the {where}: max_memory_reserved",
        ),
        ("fragmentation", *_size(it.fragmentation_bytes, view), "the most reserved less the most allocated"),
    ]
    if it.bound_bytes is not None:
        rows.append(("reserved, at most", *_size(it.bound_bytes, view), "; ".join(it.bound_how)))
    if report.verdict is not None:
        beside = report.verdict.beside_bytes
        size = _size(beside, view) if beside else ("not known", "")
        rows.append(("beyond the allocator", *size, report.verdict.beside_said))
    else:
        rows.append(
            (
                "beyond the allocator",
                "not known",
                "",
                "CUDA context and kernels: --device NAME or --capacity counts them",
            )
        )
    columns = ("figure", "size", "bytes", "what")
    title = f"The CUDA allocator of torch, simulated, {it.settings} settings"
    return Table(title, columns, tuple(rows), frozenset({"size", "bytes"}))


def _left(report: Training, view: View) -> Table:
    names = [name for name in WHAT if any(one.categories.get(name) for one in report.left)]
    rows = tuple(
        (
            "before step 0" if one.step < 0 else f"step {one.step}",
            *_size(one.nbytes, view), _categories(one.categories, names, view),
        )
        for one in report.left
    )  # fmt: skip
    return Table("Alive when a step ends", ("after", "size", "bytes", "of it"), rows, frozenset({"size", "bytes"}))


def _categories(found: Mapping[Category, int], names: list[Category], view: View) -> str:
    return ", ".join(f"{name} {format_bytes(found[name], view.units)}" for name in names if found.get(name))


def _modules(report: Training, view: View) -> Table:
    listed = report.modules[: view.top]
    rows = [
        (one.module or "(no module)", *_size(one.nbytes, view), _categories(one.categories, list(WHAT), view))
        for one in listed
    ]
    rest = sum(one.nbytes for one in report.modules[len(listed) :])
    if rest:
        rows.append((f"{len(report.modules) - len(listed):,} more", *_size(rest, view), ""))
    columns = ("module", "size", "bytes", "of it")
    return Table("Modules at the peak", columns, tuple(rows), frozenset({"size", "bytes"}))


def _held(report: Training, view: View) -> Table:
    listed = report.held[: view.top]
    rows: list[tuple[str, ...]] = [
        (
            *_size(one.nbytes, view), str(one.storages), one.category, _name(one),
            f"{'x'.join(map(str, one.shape))} {one.dtype}".strip(),
            "build" if one.step < 0 else f"{one.phase} {one.step}",
        )
        for one in listed
    ]  # fmt: skip
    rest = sum(one.nbytes for one in report.held[len(listed) :])
    if rest:
        count = sum(one.storages for one in report.held[len(listed) :])
        rows.append((*_size(rest, view), f"{count:,}", "all others", "", "", ""))
    columns = ("size", "bytes", "count", "category", "what", "shape", "since")
    return Table("Largest at the peak", columns, tuple(rows), frozenset(columns[:3]))


def _name(one: Held) -> str:
    if one.name:
        return one.name
    return one.operator + (f" of {one.module}" if one.module else "")


def _changes(report: Training, view: View) -> Table:
    rows = []
    for one in report.changes:
        if one.outcome == "refused":
            rows.append((one.name, "", "", "", "", "", "", f"not told: {one.reason}"))
            continue
        rows.append(
            (
                one.name, *_size(one.after_bytes, view), _difference(one.after_bytes, one.before_bytes),
                format_bytes(one.tensors_bytes, view.units),
                "not counted" if one.operations is None else f"{one.operations - 1:+.1%}",
                _sent(one, view),
                one.title + (f"; {one.note}" if one.note else ""),
            )
        )  # fmt: skip
    needs = "peak" if report.reserved is None else "reserved"
    columns = ("what if", needs, "bytes", "change", "tensors", "operations", "sent a step", "what it is")
    return Table("What if", columns, tuple(rows), frozenset(columns[1:7]))


def _sent(one: Change, view: View) -> str:
    if one.communication_bytes:
        return format_bytes(one.communication_bytes, view.units)
    return "not counted" if "not counted" in one.note else "none"


def _difference(after: int, before: int) -> str:
    return f"{after - before:+,} B ({(after - before) / before:+.1%})" if before else f"{after - before:+,} B"


def _forms(report: Training, view: View) -> Table:
    last = () if view.top is not None else ("source",)
    rows = tuple(
        (
            form.title,
            form.formula,
            *_size(form.nbytes, view),
            f"{form.ratio:.3f}",
            form.note,
            *(form.source for _ in last),
        )
        for form in report.forms
    )
    columns = ("closed form", "formula", "size", "bytes", "of the peak", "what it leaves out", *last)
    return Table("Closed forms beside it", columns, rows, frozenset({"size", "bytes", "of the peak"}))


def _lines(form: ClosedForm, view: View) -> Table:
    rows = tuple((line.title, *_size(line.nbytes, view), line.said) for line in form.lines)
    sums = ("total", *_size(form.nbytes, view), "")
    return Table(form.title, ("line", "size", "bytes", "as printed"), rows, frozenset({"size", "bytes"}), sums)


def _verdict(report: Training, view: View) -> Iterator[str]:
    it = report.verdict
    assert it is not None
    yield (
        f"{it.outcome}: {format_exact(it.capacity_bytes, view.units)} of capacity, "
        f"{format_exact(it.point_bytes, view.units)} predicted, "
        + ("no bound known" if it.bound_bytes is None else f"{format_exact(it.bound_bytes, view.units)} at most")
    )
    yield f"capacity: {it.capacity_said}"
    yield f"beside the tensors: {it.beside_said}"
    if it.reason:
        yield it.reason


def _unknown(report: Training) -> Block:
    if not report.unknowns:
        return Lines("Unknown", ("none",))
    rows = tuple((one.operator, f"{one.calls:,}", f"{one.nbytes:,}", one.reason) for one in report.unknowns)
    columns = ("operator", "calls", "bytes at most", "why")
    return Table("Unknown", columns, rows, frozenset({"calls", "bytes at most"}))
