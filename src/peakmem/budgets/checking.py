"""Every model of a budget file looked at, every budget judged; a model that cannot be read hides no other.

A budget holds only where the most that is known holds: a lower bound that fits is unanswered, never within.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from peakmem._version import __version__
from peakmem.budgets.answers import ARENAS, Answers, Unanswered, unanswered
from peakmem.budgets.baseline import (
    UPDATE,
    Baseline,
    Stored,
    changes,
    differences,
    read_baseline,
    write_baseline,
)
from peakmem.budgets.config import Budget, Case, Config, FitBudget, GrowthBudget, read_config
from peakmem.budgets.file import find_config
from peakmem.budgets.fits import judged_fit
from peakmem.budgets.selection import selected
from peakmem.budgets.words import QUANTITIES
from peakmem.errors import PeakmemError, UsageError
from peakmem.growth import grown, snapshot, told
from peakmem.report.check import Change, Check, Checked, Finding, Outcome, Value
from peakmem.report.growth import GrownOperator, Snapshot
from peakmem.units import format_bytes, format_exact

SHOWN = 5
# operators that a finding on growth names


def read_by(config: str | Path | None = None) -> tuple[str, ...]:
    """The files that a check reads: the budgets, the baseline, devices, models and what is shipped with them.

    Raises:
        UsageError: no such file, or one that is not understood, with its line.
    """
    read = read_config(find_config() if config is None else Path(config))
    named = [one for case in read.cases for one in (case.source, *case.options.files)]
    kept = () if read.baseline is None else (read.baseline,)
    return tuple(map(str, (read.file, *kept, *read.devices, *(read.folder / one for one in named))))


def check(
    config: str | Path | None = None, *, only: Sequence[str] = (), files: Sequence[str] = (),
    update_baseline: bool = False,
) -> Check:  # fmt: skip
    """Whether every model of a budget file is within its budgets.

    Args:
        config: a peakmem.toml or pyproject.toml; found from the current folder upwards without it.
        only: names of models, or patterns of names.
        files: look only at models that are made of these files; at all if the configuration is one of them.
        update_baseline: store what is computed now as the baseline, instead of holding growth against it.

    Raises:
        UsageError: no such file, or one that is not understood, with its line.
        FormatError: the baseline is damaged.
    """
    path = find_config() if config is None else Path(config)
    read = read_config(path)
    if update_baseline and read.baseline is None:
        raise UsageError("no baseline is named", where=str(path), hint='baseline = "peakmem-baseline.json" at the top')
    cases = selected(read, only, files)
    known = _baseline(read, cases, update_baseline)
    looked = [_looked(case, read, known, update_baseline) for case in cases]
    checked = [one for one, _ in looked]
    updated: tuple[Change, ...] = ()
    notes: list[str] = []
    if update_baseline and read.baseline is not None:
        kept = {case.name for case in read.cases if case.growths}
        new = {case.name: stored for case, (_, stored) in zip(cases, looked, strict=True) if stored is not None}
        old = {name: stored for name, stored in known.models.items() if name in kept}
        after = Baseline(dict(sorted({**old, **new}.items())))
        updated = changes(known, after)
        if after != known or not read.baseline.exists():
            write_baseline(read.baseline, after)
        notes += [
            f"{case.name} could not be answered and keeps what the baseline had" for case in cases
            if case.growths and case.name not in new
        ]  # fmt: skip
    if not cases:
        notes.append("no model is made of these files")
    counts = {name: sum(one.outcome == name for model in checked for one in model.findings) for name in _WORST}
    worst: Outcome = next((name for name in _WORST if counts[name]), "within")
    return Check(
        str(path), str(read.baseline) if read.baseline else "", worst, counts["within"], counts["broken"],
        counts["unanswered"], tuple(checked), tuple(notes), updated, __version__,
    )  # fmt: skip


_WORST: tuple[Outcome, ...] = ("broken", "unanswered", "within")
# what one finding makes of all: a broken budget is an answer, and stays one beside what could not be told


def _baseline(read: Config, cases: Sequence[Case], update: bool) -> Baseline:
    if read.baseline is None or not (update or any(case.growths for case in cases)) or not read.baseline.exists():
        return Baseline()
    return read_baseline(read.baseline)


def _looked(case: Case, read: Config, known: Baseline, update: bool) -> tuple[Checked, Stored | None]:
    """One case with its findings, and what a baseline keeps of it."""
    began = time.monotonic()
    look = _Look(case, read, known.models.get(case.name))
    try:
        findings = tuple(look.findings(update))
        stored = look.stored() if update and case.growths else None
    except Exception as fault:
        if os.environ.get("PEAKMEM_DEBUG"):
            raise
        reason = f"internal error, please report it: {type(fault).__name__}: {fault} (PEAKMEM_DEBUG=1 shows where)"
        findings, stored = tuple(look.all_unanswered(Unanswered(reason))), None
    notes = case.notes if findings or update else (*case.notes, "it has no budget")
    return Checked(
        case.name, case.model, case.device, case.source, case.line, look.configuration, tuple(look.values.values()),
        findings, (*notes, *look.notes), round(time.monotonic() - began, 3),
    ), stored  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A quantity whose growth is judged, and by which budget."""

    quantity: str
    budget: GrowthBudget
    named: bool
    # asked for by its name, so that it has to be known


class _Look:
    """One case, looked at."""

    def __init__(self, case: Case, read: Config, before: Stored | None) -> None:
        self.case, self.read, self.before = case, read, before
        self.answers = Answers(case.source, case.options, folder=read.folder, own=read.known)
        self.values: dict[str, Value] = {}
        self.notes: list[str] = []
        self.configuration = _configuration(case)

    def findings(self, update: bool) -> Iterator[Finding]:
        """Every budget of the case, judged."""
        if self.case.fault:
            yield from self.all_unanswered(Unanswered(self.case.fault))
            return
        for budget in self.case.budgets:
            yield self.budget(budget)
        yield from self.unstored() if update else self.growths()
        for place in self.case.fits:
            yield self.fits(place)

    def unstored(self) -> Iterator[Finding]:
        """Growths that a new baseline has nothing for."""
        for budget in self.case.growths:
            made = []
            for wanted in self.wanted():
                found = self.value(wanted.quantity) if wanted.budget is budget else None
                if isinstance(found, Unanswered) and (wanted.named or not self.values):
                    made.append(self.open(wanted.quantity, "growth", budget.growth.written, budget.line, found))
            yield from self.joined(budget, made)

    def all_unanswered(self, reason: Unanswered) -> Iterator[Finding]:
        """Every budget of the case, none of them answered."""
        for budget in self.case.budgets:
            yield self.open(budget.quantity, "budget", budget.written, budget.line, reason)
        for growth in self.case.growths:
            yield self.open(growth.quantity or "growth", "growth", growth.growth.written, growth.line, reason)
        for place in self.case.fits:
            yield self.open("fits", "fits", place.device, place.line, reason)

    def value(self, quantity: str) -> Value | Unanswered:
        """The quantity, kept for the report."""
        found = self.answers.value(quantity)
        if isinstance(found, Value):
            self.values[quantity] = found
        return found

    def open(self, quantity: str, rule: Any, written: str, line: int, reason: Unanswered) -> Finding:
        """A budget that is not answered."""
        said = f"{_title(quantity)} cannot be told: {reason.reason}"
        unit = QUANTITIES[quantity].unit if quantity in QUANTITIES else "bytes"
        return Finding(self.case.name, quantity, rule, "unanswered", said, written, line, unit, hint=reason.hint)

    # -- budgets -------------------------------------------------------------------------

    def budget(self, budget: Budget) -> Finding:
        """One quantity against what it may need."""
        found = self.value(budget.quantity)
        if isinstance(found, Unanswered):
            return self.open(budget.quantity, "budget", budget.written, budget.line, found)
        outcome, why_open = _judged(found, budget.allowed)
        needs = f"{_title(budget.quantity)} {_exact(found.value, found.unit)} [{found.convention}; {found.kind}]"
        allowed = _exact(budget.allowed, found.unit)
        gap = _size(abs(budget.allowed - found.value), found.unit)
        if outcome == "broken":
            share = found.value / budget.allowed - 1
            said = f"{needs}, {allowed} allowed: over by {gap} ({share:+.1%})"
        elif outcome == "within":
            said = f"{needs}, {allowed} allowed: headroom {gap}"
        else:
            said = f"{needs} is within {allowed}, but {why_open}"
        why = self.answers.why(budget.quantity) if outcome != "within" else ()
        return Finding(
            self.case.name, budget.quantity, "budget", outcome, said, budget.written, budget.line, found.unit,
            found.value, budget.allowed, None, found.kind, found.convention, why,
        )  # fmt: skip

    # -- growth --------------------------------------------------------------------------

    def wanted(self) -> Iterator[_Wanted]:
        """Quantities whose growth is judged; one that is named has its own budget."""
        named = {one.quantity for one in self.case.growths}
        for one in self.case.growths:
            if one.quantity:
                yield _Wanted(one.quantity, one, True)
                continue
            for quantity in self.usual():
                counts = QUANTITIES[quantity].unit == "elements" and one.growth.share is None
                if quantity not in named and not counts:
                    yield _Wanted(quantity, one, False)

    def usual(self) -> Iterator[str]:
        """Quantities that a growth without a name is about."""
        options, source = self.case.options, self.read.folder / self.case.source
        budgets = [one.quantity for one in self.case.budgets]
        if options.train is not None:
            yield from dict.fromkeys(
                (*budgets, "step_peak", *(("reserved",) if options.train.scenario.device == "cuda" else ()))
            )
            return
        running = ("arena",) if options.engine in ARENAS else ("peak", "resident")
        file = ("file_size",) if options.file_format or source.is_file() else ()
        yield from dict.fromkeys((*budgets, *running, "weights", "parameters", *file))

    def growths(self) -> Iterator[Finding]:
        """Every growth judged; those of one budget that nothing can be said of, for one reason, as one."""
        for budget in self.case.growths:
            found = [self.growth(one) for one in self.wanted() if one.budget is budget]
            yield from self.joined(budget, [one for one in found if one is not None])

    def joined(self, budget: GrowthBudget, made: Sequence[Finding]) -> Sequence[Finding]:
        """The findings of one budget; as one where nothing can be said of any, for one reason."""
        reasons = {(one.said.partition(" cannot be told: ")[2], one.hint) for one in made}
        if len(made) < 2 or len(reasons) > 1 or any(one.outcome != "unanswered" for one in made):
            return made
        reason, hint = reasons.pop()
        return [self.open("growth", "growth", budget.growth.written, budget.line, Unanswered(reason, hint))]

    def growth(self, wanted: _Wanted) -> Finding | None:
        """One quantity against the baseline; None where neither now nor then anything is known of it."""
        quantity, budget = wanted.quantity, wanted.budget
        now = self.value(quantity)
        before = self.before.values.get(quantity) if self.before else None
        if isinstance(now, Unanswered) and before is None and not wanted.named and self.before is not None:
            return None
        reason = self.incomparable(now, before)
        if reason is not None or isinstance(now, Unanswered) or before is None:
            return self.open(quantity, "growth", budget.growth.written, budget.line, reason or Unanswered("not known"))
        allowed = budget.growth.allowed(before.value)
        broken = now.value > allowed
        grew = f"{now.value / before.value - 1:+.2%}" if before.value else "from nothing"
        if now.value == before.value:
            moved = "as before"
        else:
            sign = "+" if now.value > before.value else "-"
            moved = f"{sign}{_size(abs(now.value - before.value), now.unit)}, {grew}"
        said = (
            f"{_title(quantity)} {_exact(now.value, now.unit)} [{now.convention}; {now.kind}], "
            f"{_exact(before.value, now.unit)} in the baseline: {moved}, {budget.growth.written} allowed"
        )
        return Finding(
            self.case.name, quantity, "growth", "broken" if broken else "within", said, budget.growth.written,
            budget.line, now.unit, now.value, allowed, before.value, now.kind, now.convention,
            self.grown(quantity) if broken else (), UPDATE if broken else "",
        )  # fmt: skip

    def incomparable(self, now: Value | Unanswered, before: Value | None) -> Unanswered | None:
        """Why now and then cannot be compared; None where they can."""
        if isinstance(now, Unanswered):
            return now
        if self.before is None:
            there = self.read.baseline is not None and self.read.baseline.exists()
            name = self.read.baseline.name if self.read.baseline else ""
            return Unanswered(f"{self.case.name!r} is not in {name}" if there else f"there is no {name} yet", UPDATE)
        found = tuple(differences(self.before.configuration, self.configuration))
        if found:
            return Unanswered(f"the baseline is of another configuration ({'; '.join(found)})", UPDATE)
        if before is None:
            return Unanswered("the baseline has no value of it", UPDATE)
        for when, one in (("now", now), ("in the baseline", before)):
            if one.kind == "lower bound":
                return Unanswered(f"it is a lower bound {when}, and what it leaves out may have grown")
        if before.convention != now.convention:
            return Unanswered(
                f"the baseline counted another quantity ({before.convention} then, {now.convention} now)", UPDATE
            )
        if self.before.peakmem != __version__:
            said = (
                f"the baseline was made by peakmem {self.before.peakmem}, this is {__version__}: a change may come "
                "from the estimator (CHANGELOG, Accuracy)"
            )
            self.notes += [said] if said not in self.notes else []
        return None

    def snapshot(self) -> Snapshot | None:
        """The network as it is now, so far as it has a graph."""
        try:
            return replace(snapshot(self.answers.estimate), source=self.case.source)
        except PeakmemError:
            return None

    def grown(self, quantity: str) -> tuple[str, ...]:
        """The operators that added most to it."""
        before, now = self.before.snapshot if self.before else None, self.snapshot()
        if before is None or now is None:
            return ()
        rows = [(told(row), _added(row, quantity)) for row in grown(before, now).operators]
        found = sorted(((said, added) for said, added in rows if added > 0), key=lambda one: -one[1])
        said = [one for one, _ in found[:SHOWN]]
        left = found[SHOWN:]
        if left:
            said.append(f"and {len(left):,} more: +{format_bytes(sum(added for _, added in left))}")
        return tuple(said)

    def stored(self) -> Stored | None:
        """What a baseline keeps; None where a quantity that has to be known is not."""
        for wanted in self.wanted():
            if isinstance(self.value(wanted.quantity), Unanswered) and wanted.named:
                return None
        names = {wanted.quantity for wanted in self.wanted()}
        values = {name: value for name, value in self.values.items() if name in names}
        if not values:
            return None
        return Stored(self.configuration, __version__, values, self.snapshot())

    # -- devices -------------------------------------------------------------------------

    def fits(self, place: FitBudget) -> Finding:
        """Whether the model fits a device."""
        try:
            return replace(judged_fit(self.answers.fit(place.device), place, self.case.source), model=self.case.name)
        except PeakmemError as fault:
            return self.open("fits", "fits", place.device, place.line, unanswered(fault))


def _added(row: GrownOperator, quantity: str) -> int:
    """What an operator added to a quantity."""
    if quantity in ("peak", "arena"):
        return row.peak_b - row.peak_a
    if quantity in ("weights", "parameters", "file_size"):
        return row.weights_b - row.weights_a
    return row.added_bytes


def _configuration(case: Case) -> dict[str, Any]:
    """All that decides the numbers; for an engine the processor that it will see, too."""
    said = case.configuration
    options = case.options
    if options.engine and options.engine not in ARENAS and not options.processor:
        from peakmem.prediction import this_processor

        chip = asdict(this_processor())
        said["processor"] = {**chip, "features": sorted(chip["features"])}
    return said


def _judged(found: Value, allowed: int) -> tuple[Outcome, str]:
    """What becomes of a budget, and why it stays open."""
    if found.value > allowed:
        return "broken", ""
    if found.kind == "lower bound":
        return "unanswered", "it is a lower bound: something has no known size"
    if found.most is None:
        return "unanswered", "no upper bound is known"
    if found.most > allowed:
        return "unanswered", f"it may be up to {_exact(found.most, found.unit)}: something has no rule"
    return "within", ""


def _title(quantity: str) -> str:
    return QUANTITIES[quantity].title if quantity in QUANTITIES else quantity


def _exact(value: int, unit: str) -> str:
    return format_exact(value) if unit == "bytes" else f"{value:,}"


def _size(value: int, unit: str) -> str:
    return format_bytes(value) if unit == "bytes" else f"{value:,}"
