"""The event log: what a recorder writes, what functions read from it. Small logs whose numbers can be added by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakmem.training import account
from peakmem.training.log import Log, Mark, Storage, alive, events, live_bytes, spans
from peakmem.training.recorder import Recorder


def recorder(device="cpu"):
    return Recorder(device=device, origin="trace")


def small() -> Log:
    """A weight of 100, an input of 10; forward saves 20 and drops 7; backward makes a gradient of 100 beside 30."""
    made = recorder()
    weight = made.allocate(100, category="parameter", name="w")
    made.allocate(10, category="input")
    made.enter("forward", 0)
    dropped = made.allocate(7, "aten::mul")
    saved = made.allocate(20, "aten::mm")
    made.release(dropped)
    made.enter("backward")
    made.workspace(30, "aten::mm")
    gradient = made.allocate(100, "aten::mm")
    made.release(saved)
    made.label(gradient, "gradient", "w")
    made.enter("optimizer")
    made.workspace(5, "aten::add_")
    assert weight == 0
    return made.finish()


def test_each_moment_has_one_event_and_bytes_add_up():
    log = small()
    assert [(event.storage, event.allocates) for event in events(log)] == [
        (0, True), (1, True), (2, True), (3, True), (2, False), (4, True), (4, False), (5, True), (3, False),
        (6, True), (6, False),
    ]  # fmt: skip
    assert live_bytes(log) == [100, 110, 117, 137, 130, 160, 130, 230, 210, 215, 210]
    assert log.steps == 1
    assert alive(log, 4) == [0, 1, 3]


def test_saved_and_temporary_are_told_apart_by_who_outlives_the_forward():
    log = small()
    assert [item.category for item in log.storages] == [
        "parameter", "input", "temporary", "saved activation", "kernel workspace", "gradient", "kernel workspace",
    ]  # fmt: skip


def test_the_peak_says_where_it_is_and_its_categories_sum_to_it():
    peak = account.peak(small())
    assert (peak.nbytes, peak.moment, peak.step, peak.phase, peak.operator) == (230, 7, 0, "backward", "aten::mm")
    assert {name: nbytes for name, nbytes in peak.categories.items() if nbytes} == {
        "parameter": 100, "input": 10, "saved activation": 20, "gradient": 100,
    }  # fmt: skip
    assert account.peak(small(), phase="optimizer").nbytes == 215
    assert [(item.phase, item.nbytes) for item in account.peaks(small())] == [
        ("build", 110), ("forward", 137), ("backward", 230), ("optimizer", 215),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no forward of step 3"):
        account.peak(small(), step=3, phase="forward")


def test_what_is_kept_is_what_the_end_holds():
    kept = account.kept(small())
    assert (kept["parameter"], kept["gradient"], kept["saved activation"]) == (100, 100, 0)


def test_a_doubt_raises_the_bound_and_not_the_peak():
    made = recorder()
    made.enter("forward", 0)
    first = made.allocate(50, "a")
    made.doubt(1000, "a", "no row")
    made.release(first)
    made.allocate(60, "b")
    log = made.finish()
    assert account.peak(log).nbytes == 60
    assert account.bound(log) == 1050


def test_a_result_that_takes_over_the_place_of_its_operand():
    made = recorder()
    made.enter("backward", 0)
    first = made.allocate(40, "aten::mul")
    second = made.allocate(40, "aten::mul")
    both = made.allocate(40, "aten::add")
    made.may_take_over(both, first)
    made.release(second)
    made.release(first)
    made.label(both, "gradient", "w")
    made.release(both)
    log = made.finish()
    assert live_bytes(log) == [40, 80, 40, 0]
    assert (log.storages[0].category, log.storages[0].name, log.moments) == ("gradient", "w", 4)


def test_no_place_is_taken_over_once_something_else_was_allocated():
    made = recorder()
    first = made.allocate(40, "aten::mul")
    both = made.allocate(40, "aten::add")
    made.may_take_over(both, first)
    made.allocate(1, "other")
    made.release(first)
    assert max(live_bytes(made.finish())) == 81


def test_nor_where_the_sizes_differ():
    made = recorder()
    first = made.allocate(20, "aten::mul")
    both = made.allocate(40, "aten::add")
    made.may_take_over(both, first)
    made.release(first)
    assert max(live_bytes(made.finish())) == 60


def test_marks_of_phases_in_which_nothing_happens_are_left_out():
    made = recorder()
    made.allocate(1)
    made.enter("zero_grad", 0)
    made.enter("forward")
    made.allocate(1)
    assert made.finish().marks == (Mark(0, -1, "build"), Mark(1, 0, "forward"))


def test_a_log_with_two_events_at_one_moment_is_refused():
    twice = Log(
        (Storage(1, "temporary", "", "forward", 0, "", 0, 2), Storage(1, "temporary", "", "forward", 0, "", 0, 2)),
        2, (Mark(0, 0, "forward"),), "cpu", "trace",
    )  # fmt: skip
    with pytest.raises(ValueError, match="two events at moment 0"):
        events(twice)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000), st.integers(0, 50)), max_size=200))
def test_any_order_of_events_keeps_its_sums(orders):
    made, held, total, seen = recorder(), [], 0, []
    made.enter("forward", 0)
    for comes, nbytes, which in orders:
        if comes or not held:
            held.append((made.allocate(nbytes, "op"), nbytes))
            total += nbytes
        else:
            number, freed = held.pop(which % len(held))
            made.release(number)
            total -= freed
        seen.append(total)
    log = made.finish()
    assert live_bytes(log) == seen
    assert len(events(log)) == log.moments
    assert all(end > mark.moment for mark, end in spans(log)) or not seen
    if seen:
        assert account.peak(log).nbytes == max(seen)
        assert sum(account.peak(log).categories.values()) == max(seen)
