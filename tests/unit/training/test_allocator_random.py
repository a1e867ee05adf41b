"""The allocator against a second one, written with plain lists, on random requests; and what always holds."""

from __future__ import annotations

import random

import pytest
from tests.unit.training.simple_allocator import MIB, NoMemory, SimpleAllocator

from peakmem.training.allocator import Allocator, OutOfMemory, Settings
from peakmem.training.allocator.blocks import Driver

CASES = {
    "default": ({}, {}),
    "capacity": ({}, {"capacity": 150 * MIB}),
    "roundup": ({"roundup_power2": (4,) * 16}, {"divisions": 4, "capacity": 300 * MIB}),
    "max split": ({"max_split_bytes": 24 * MIB}, {"max_split": 24 * MIB, "capacity": 200 * MIB}),
    "expandable": ({"expandable": True}, {"expandable": True}),
    "expandable capacity": ({"expandable": True}, {"expandable": True, "capacity": 130 * MIB}),
    "collected": (
        {"collect_above": 0.5, "fraction": 0.75}, {"collect": 0.5, "fraction": 0.75, "capacity": 400 * MIB},
    ),
}  # fmt: skip


def sizes(rng):
    return rng.choice(
        (1, 512, 513, 4096, 300_000, MIB, MIB + 1, 3 * MIB, 10 * MIB - 1, 10 * MIB, 23 * MIB, 25 * MIB,
         rng.randrange(1, 2 * MIB), rng.randrange(1, 40 * MIB))
    )  # fmt: skip


def check(allocator):
    """Blocks tile their segments, free neighbours are merged, pools hold what is free, counters add up."""
    allocated = active = requested = reserved = 0
    free, unmapped = set(), set()
    for first in allocator.segments.values():
        assert first.prev is None
        block = first
        while block is not None:
            if block.mapped:
                reserved += block.size
            else:
                unmapped.add(block)
                assert not block.busy
            if block.allocated:
                allocated += block.size
            if block.busy:
                active += block.size
                requested += block.requested
            elif block.mapped:
                free.add(block)
            after = block.next
            if after is not None:
                assert after.prev is block
                assert after.address == block.address + block.size
                assert block.busy or after.busy or block.mapped != after.mapped
            assert block.size > 0
            block = after
    pools = [pool for family in allocator.families.values() for pool in family.pools.values()]
    kept = [entry for pool in pools for entry in pool.free]
    assert {entry[4] for entry in kept} == free
    assert len(kept) == len(free)
    assert all(entry[:4] == (entry[4].size, entry[4].key, entry[4].address, entry[4].serial) for entry in kept)
    assert {entry[2] for pool in pools for entry in pool.unmapped} == unmapped
    for pool in pools:
        assert [entry[:4] for entry in pool.free] == sorted(entry[:4] for entry in pool.free)
    assert (allocator.allocated, allocator.active) == (allocated, active)
    assert (allocator.requested, allocator.reserved) == (requested, reserved)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", CASES)
def test_addresses_and_counters_are_those_of_a_second_allocator(name, seed):
    settings, simple = CASES[name]
    rng = random.Random(f"{name} {seed}")
    other = SimpleAllocator(**simple)
    allocator = Allocator(Settings(**settings), driver=Driver(simple.get("capacity")))
    live, waiting = {}, {}
    for step in range(260):
        action = rng.random()
        if action < 0.03:
            allocator.empty_cache()
            other.empty_cache()
        elif waiting and action < 0.15:
            address = rng.choice(list(waiting))
            allocator.complete(waiting.pop(address))
            other.done(address)
        elif live and action < 0.15 + 0.4 * (step % 60 > 30) + 0.2:
            address = rng.choice(list(live))
            block = live.pop(address)
            waits = rng.random() < 0.2
            if waits:
                allocator.record_stream(block)
                waiting[address] = block
            allocator.free(block)
            other.free(address, waits=waits)
        else:
            nbytes, stream = sizes(rng), rng.choice((0, 0, 0, 7))
            try:
                expected = other.malloc(nbytes, stream)
            except NoMemory:
                expected = None
            try:
                block = allocator.malloc(nbytes, stream)
                found = block.address
                live[found] = block
            except OutOfMemory:
                found = None
            assert found == expected
        assert allocator.asked == other.asked_of_device
        assert allocator.allocated == other.allocated
        assert allocator.active == other.active
        assert allocator.requested == other.requested
        assert allocator.reserved == other.reserved
        if step % 13 == 0:
            check(allocator)
    check(allocator)
    for block in live.values():
        allocator.free(block)
    for block in waiting.values():
        allocator.complete(block)
    allocator.empty_cache()
    assert (allocator.allocated, allocator.reserved, allocator.segments) == (0, 0, {})


@pytest.mark.parametrize("order", ["address", "segment", "block"])
def test_many_free_blocks_keep_their_order(order):
    rng = random.Random(1)
    allocator = Allocator(Settings(order=order))
    blocks = [allocator.malloc(rng.randrange(1, 60_000)) for _ in range(6000)]
    rng.shuffle(blocks)
    for block in blocks[:5000]:
        allocator.free(block)
    check(allocator)
    for _ in range(500):
        blocks.append(allocator.malloc(rng.randrange(1, 60_000)))
    for block in blocks[5000:]:
        allocator.free(block)
    check(allocator)
    allocator.empty_cache()
    assert allocator.reserved == 0
