"""Claims against what is computed: one verdict for each, with its readings and what would make it true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from peakmem.errors import MissingLibrary, PeakmemError
from peakmem.ledger.amount import Amount, amounts
from peakmem.ledger.claim import Claim, Claims
from peakmem.ledger.context import described, is_built_in
from peakmem.ledger.evaluation import evaluate
from peakmem.ledger.explain import Search
from peakmem.ledger.expression import Expression, names, parse
from peakmem.ledger.figures import Figures
from peakmem.ledger.file import embedded
from peakmem.ledger.functions import FUNCTIONS, Scope, call
from peakmem.ledger.value import Item, Shape, Value, said
from peakmem.ledger.verdict import Match, matches, shown
from peakmem.report import ledger as report
from peakmem.units import Units


def check(files: Iterable[Claims], *, only: Sequence[str] = (), units: Units | None = None) -> report.Ledger:
    """Every claim of `files` with its verdict.

    Args:
        only: ids of those that are checked; empty for all.
        units: sizes are shown in these; without it in both readings of MB.

    Raises:
        PeakmemError: a claim that cannot be computed as it is written, with file and line.
    """
    figures, sources, statements = Figures(), list[report.Source](), list[report.Statement]()
    for one in files:
        found = tuple(
            _Check(claim, one.source, figures, units).statement()
            for claim in one.claims
            if not only or claim.id in only
        )
        if found or not only:
            sources.append(report.Source(one.file, one.source, one.title, len(found), *_counts(found)))
        statements += found
    return report.Ledger(tuple(sources), tuple(statements), *_counts(statements))


def _counts(found: Sequence[report.Statement]) -> tuple[int, int, int, int, int]:
    right, wrong, ambiguous, practice, missing = (
        sum(1 for one in found if one.verdict == verdict) for verdict in report.VERDICTS
    )
    return right, wrong, ambiguous, practice, missing


class _Check:
    """One claim on its way to a verdict."""

    def __init__(self, claim: Claim, source: str, figures: Figures, units: Units | None) -> None:
        self.claim, self.source, self.figures, self.units = claim, source, figures, units

    def statement(self) -> report.Statement:
        claim = self.claim
        blank = report.Statement(
            claim.id, self.source, claim.line, claim.says, claim.kind, claim.claim, described(claim.context),
            "practice", self._sentence(claim.practice or claim.because), answer=claim.answer,
            disagrees=claim.disagrees, file=claim.file, file_line=dict(claim.lines).get("", 0),
        )  # fmt: skip
        if claim.practice:
            if claim.because:
                blank = replace(blank, why=f"{claim.practice.rstrip('.')}. {self._sentence(claim.because)}")
            return blank
        claimed = tuple(replace(one, digits=claim.digits) for one in amounts(claim.claim))
        scope = Scope(self.figures, claim.context)
        expression = parse(claim.compute, tuple(FUNCTIONS))
        main, item, match = self._computed("", expression, claimed, scope, claim.where("compute"))
        readings = []
        for reading in claim.readings:
            where = f"{claim.file}:{reading.line}: {claim.id}"
            other = parse(reading.compute, tuple(FUNCTIONS))
            found_there = self._computed(reading.meaning, other, claimed, Scope(self.figures, claim.context), where)
            if not reading.loose or (found_there[0].true and not main.true):
                readings.append(found_there)
        every = (main, *(one for one, _, _ in readings))
        missing = next((one.reason for one in every if one.true is None), "")
        if missing or match is None or item is None:
            return replace(blank, verdict="not computed", why=missing, computed=every)
        verdict = _verdict(match, [one for _, _, one in readings if one is not None])
        if verdict == "wrong" and claim.open:
            why = f"the text does not tell {claim.open}; here it is {main.shown}. {blank.why}".rstrip()
            return replace(blank, verdict="ambiguous", why=why, computed=every)
        found: tuple[report.Explanation, ...] = ()
        tried = 0
        if verdict != "right" and not match.how and not any(one.true for one in every):
            found, tried = Search(expression, claimed, scope, item, self.units).run()
        return replace(
            blank, verdict=verdict, why=self._why(blank.why, verdict, match, item, every, found), computed=every,
            explanations=found, searched=tried,
        )  # fmt: skip

    def _computed(
        self, meaning: str, expression: Expression, claimed: tuple[Amount, ...], scope: Scope, where: str
    ) -> tuple[report.Computed, Item | None, Match | None]:
        try:
            item = evaluate(expression, lambda name, given, words: call(scope, name, given, words))
            match = matches(claimed, item)
        except MissingLibrary as fault:
            blank = report.Computed(meaning, expression.text, "", (), "", "estimate", None, "", str(fault))
            return blank, None, None
        except PeakmemError as fault:
            if fault.where and not fault.where.startswith(where):
                fault.where = f"{where}: {fault.where}"
                fault.args = (str(fault),)
            fault.locate(where)
            raise
        unit, kind = _sort(item, expression)
        true = match.true
        computed = report.Computed(
            meaning, expression.text, shown(item, claimed, self.units), tuple(_plain(item)), unit, kind, true,
            "" if true and not match.how else match.off or match.how,
        )  # fmt: skip
        return computed, item, match

    def _sentence(self, text: str) -> str:
        """A sentence of the claim with its expressions computed."""
        for part in embedded(text):
            expression = parse(part, tuple(FUNCTIONS))
            scope = Scope(self.figures, self.claim.context)
            try:
                found = said(
                    evaluate(expression, lambda name, given, words, at=scope: call(at, name, given, words)),  # type: ignore[misc]
                    self.units,
                )
            except MissingLibrary as fault:
                found = f"({fault.hint})"
            except PeakmemError as fault:
                fault.locate(self.claim.where("because"))
                raise
            text = text.replace(f"{{{part}}}", found, 1)
        return text

    def _why(
        self, told: str, verdict: report.Verdict, match: Match, item: Item, every: Sequence[report.Computed],
        found: Sequence[report.Explanation],
    ) -> str:  # fmt: skip
        """What was told of the claim, after what the comparison tells."""
        if verdict == "right":
            return told
        if verdict == "wrong":
            says = f"off by {match.off}" if isinstance(item, Value) else match.off
            if not found and isinstance(item, Value | tuple) and not isinstance(item, bool):
                counted = isinstance(item, Value) and item.unit == "B" and item.kind in ("estimate", "lower bound")
                dtype = self.claim.context.dtype or ("float32" if is_built_in(self.claim.context.network) else "")
                dtype = dtype if counted and not self.claim.context.precision else ""
                says = f"no reading gives it: {f'{dtype} ' if dtype else ''}{every[0].shown}; {says}"
        elif match.how and match.true:
            says = f"true with {match.how}"
        elif match.partly:
            says = match.off
        else:
            good = [one.reading or "the claim as it stands" for one in every if one.true]
            bad = [one.reading or "the claim as it stands" for one in every if not one.true]
            says = f"true: {'; '.join(good)}. Not true: {'; '.join(bad)}" if good else match.off
        return f"{says}. {told}" if told else says


def _verdict(main: Match, readings: Sequence[Match]) -> report.Verdict:
    if main.literal and all(one.true for one in readings):
        return "right"
    if not main.true and not main.partly and not any(one.true or one.partly for one in readings):
        return "wrong"
    return "ambiguous"


def _sort(item: Item, expression: Expression) -> tuple[str, report.Kind]:
    """Unit and kind; of truths and texts by the functions that were asked."""
    while isinstance(item, tuple) and item:
        item = item[0]
    if isinstance(item, Value):
        return item.unit, item.kind
    called = names(expression)
    if "measured" in called:
        return "", "measurement"
    groups = {FUNCTIONS[name].scoped for name in called & set(FUNCTIONS)}
    return "", "estimate" if True in groups else "data" if "device" in called else "arithmetic"


def _plain(item: Item) -> Iterable[float | str | bool]:
    """Values as JSON has them; whole numbers stay whole."""
    if isinstance(item, tuple):
        for one in item:
            yield from _plain(one)
    elif isinstance(item, Value):
        whole = item.number.denominator == 1 and abs(item.number) < 2**53
        yield int(item.number) if whole else float(item.number)
    elif isinstance(item, Shape):
        yield str(item)
    else:
        yield item
