"""Bytes against a room, and an arena in memory that is in pieces."""

from __future__ import annotations

import pytest

from peakmem.engines.tflm.planner import Buffer
from peakmem.fitting.need import packed, rounded, spread
from peakmem.fitting.parts import arena, judged, part
from peakmem.fitting.place import Room

BANKS = (("CCM", 64), ("SRAM", 128))


def room(capacity=192, piece=None, banks=()):
    return Room("RAM", "RAM", capacity, "told", "", banks, piece)


@pytest.mark.parametrize(
    ("needed", "bound", "sure", "outcome"),
    [
        (10, 10, True, "fits"),
        (10, 11, True, "may fit"),
        (10, None, True, "may fit"),
        (11, 11, True, "does not fit"),
        (11, None, False, "does not fit"),
        (10, 10, False, "cannot tell"),
        (0, 0, True, "fits"),
    ],
)
def test_fits_is_said_only_where_the_bound_fits(needed, bound, sure, outcome):
    assert judged(needed, bound, 10, sure=sure) == outcome


def test_a_lower_bound_has_no_upper_one():
    found = part(room(), 100, "what", [("live peak", 100)], sure=False)
    assert (found.kind, found.bound_bytes, found.outcome) == ("lower bound", None, "cannot tell")


def test_shares_without_bytes_are_left_out_and_the_rest_adds_up():
    found = part(room(), 30, "what", [("a", 10), ("b", 0), ("c", 20)], sure=True)
    assert found.shares == (("a", 10), ("c", 20))
    assert found.needed_bytes == 30


def one(nbytes, first=0, last=0, name="t"):
    return Buffer(nbytes, first, last, what=name)


def test_an_arena_lies_in_the_first_bank_that_holds_it():
    found = arena(room(192, 128, BANKS), 100, "arena", [("live peak", 100)], [one(100)], sure=True)
    assert (found.outcome, found.reason) == ("fits", "the arena lies in SRAM")
    found = arena(room(192, 128, BANKS), 60, "arena", [("live peak", 60)], [one(60)], sure=True)
    assert found.reason == "the arena lies in CCM"


def test_buffers_that_no_bank_holds_together_go_into_several_arenas():
    """100 and 60 live at once: 160 in 64 + 128 only if they are apart."""
    buffers = [one(100, name="a"), one(60, name="b")]
    found = arena(room(192, 128, BANKS), 160, "arena", [("live peak", 160)], buffers, sure=True)
    assert found.outcome == "may fit"
    assert found.reason.endswith("with several arenas it fits: 60 B in CCM, 100 B in SRAM")


def test_a_buffer_larger_than_any_bank_does_not_fit_even_if_the_sum_does():
    found = arena(room(192, 128, BANKS), 150, "arena", [("live peak", 150)], [one(150, name="big")], sure=True)
    assert (found.outcome, found.needed_bytes <= 192) == ("does not fit", True)
    assert "buffer big (150 B)" in found.reason
    assert found.capacity_bytes == 128


def test_an_arena_of_an_engine_is_one_block():
    found = arena(room(192, 128, BANKS), 150, "arena", [("head", 100), ("tail", 50)], [], sure=True)
    assert found.outcome == "does not fit"


def test_spread_takes_the_first_bank_with_room_at_that_time():
    """Two of 60 that live one after the other share one place; two that live together do not."""
    apart = [one(60, 0, 0, "a"), one(60, 1, 1, "b")]
    together = [one(60, 0, 1, "a"), one(60, 1, 1, "b")]
    assert spread(apart, BANKS) == {"CCM": 60, "SRAM": 0}
    assert spread(together, BANKS) == {"CCM": 60, "SRAM": 60}
    assert spread([one(129, name="big")], BANKS) == "big"


def test_rounding_and_packing_by_hand():
    buffers = rounded([one(10, 0, 1), one(17, 1, 2), one(16, 2, 2)], 16)
    assert [each.nbytes for each in buffers] == [16, 32, 16]
    assert packed(buffers) == 48


def test_what_fits_only_if_the_system_leaves_all_may_fit():
    room = Room("RAM", "RAM", 1000, "a board", sure_bytes=980)
    assert part(room, 980, "live", [("live peak", 980)], sure=True).outcome == "fits"
    tight = part(room, 981, "live", [("live peak", 900)], sure=True)
    assert tight.outcome == "may fit"
    assert "980 B" in tight.reason
