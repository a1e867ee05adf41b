"""The search among changes, on made-up savings that add up, against all sets; prices in their order."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakmem.fitting import training_search
from peakmem.fitting.training_analysis import Analysis, Case
from peakmem.fitting.training_changes import CONF, Change, changed
from peakmem.fitting.training_prices import ORDER, PRICES, order
from peakmem.fitting.training_ranks import _first
from peakmem.fitting.training_search import search
from peakmem.training.account import Peak
from peakmem.training.scenario import Scenario

NEEDED = 1000
KINDS = ("same", "work", "rounding", "training")


@dataclass
class Toy:
    """Analyses in which each change saves so much, whatever else is changed."""

    savings: dict[str, int]
    room: int
    asked: list[str] = field(default_factory=list)
    spent: bool = False
    traces: int = 0
    known: bool = True

    @property
    def capacity(self):
        return SimpleNamespace(nbytes=self.room)

    def has(self, _scenario):
        return self.known

    def of(self, case):
        self.asked.append(case.conf)
        needed = NEEDED - sum(self.savings[name] for name in case.conf.split(",") if name)
        tensors = Peak(needed, 0, 0, "backward", "", "", {})
        outcome = "fits" if needed <= self.room else "does not fit"
        return Analysis(outcome, "", needed, needed, tensors, 0, (("backward", needed),), 100)


def table(monkeypatch, toy, kinds):
    changes = {
        name: Change(name, name, kind, "", lambda _, name=name: (CONF + name,))
        for name, kind in zip(toy.savings, kinds, strict=True)
    }
    monkeypatch.setattr(training_search, "CHANGES", changes)
    here = SimpleNamespace(base=Case(Scenario()), samples=0)
    return search(toy, here)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.lists(st.integers(0, 500), min_size=4, max_size=4), st.permutations(KINDS), st.integers(100, 950))
def test_a_set_is_found_where_there_is_one_and_no_part_of_it_fits(savings, kinds, room):
    toy = Toy(dict(zip("abcd", savings, strict=True)), room)
    with pytest.MonkeyPatch.context() as patch:
        found = table(patch, toy, kinds)
    names = [frozenset(change.name for change in one.changes) for one in found]
    assert len(names) == len(set(names))
    good = [one for one, attempt in zip(names, found, strict=True) if attempt.analysis.outcome == "fits"]
    assert not any(one < other for one in good for other in good)
    sets = [set(one) for size in (1, 2, 3, 4) for one in combinations("abcd", size)]
    fitting = [one for one in sets if NEEDED - sum(toy.savings[name] for name in one) <= room]
    assert bool(good) == bool(fitting)
    if fitting:
        kind = dict(zip("abcd", kinds, strict=True))
        cheapest = min(max(ORDER[kind[name]] for name in one) for one in fitting)
        assert min(max(ORDER[kind[name]] for name in one) for one in good) == cheapest


def test_nothing_more_is_traced_than_may_be(monkeypatch):
    toy = Toy({"a": 10}, 500, spent=True, known=False)
    (found,) = table(monkeypatch, toy, ("same",))
    assert found.analysis is None
    assert found.refused.startswith("not tried")


def test_settings_of_the_allocator_are_joined():
    assert changed(changed(Case(Scenario()), "conf:a:1"), "conf:b:2") == Case(Scenario(), "a:1,b:2")
    assert changed(Case(Scenario()), "batch=7") == Case(Scenario(batch=7))


def test_kinds_come_before_amounts():
    """The dearest kind of a set, then devices, FLOPs and the number of changes; every kind has its reason."""
    assert order(("same", "work"), 1, 1.5, 2) < order(("rounding",), 1, 1.0, 1)
    assert order(("work",), 1, 1.14, 1) < order(("work",), 1, 1.33, 1)
    assert order(("devices",), 2, 1.0, 1) < order(("devices",), 4, 1.0, 1)
    assert all(price.said and price.because for price in PRICES)


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_first_count_that_holds(least, most):
    assert _first(lambda count: count >= least, most) == (least if least <= most else None)
