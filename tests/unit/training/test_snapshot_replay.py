"""Recorded traces replayed: real ones, and ones that a second allocator wrote."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import pytest
from tests.unit.training.simple_allocator import MIB, NoMemory, SimpleAllocator

from peakmem.errors import FormatError
from peakmem.replaying import compose
from peakmem.training.allocator import Settings
from peakmem.training.snapshot.ranges import Ranges
from peakmem.training.snapshot.reader import read_snapshot
from peakmem.training.snapshot.replay import replay

TRACES = Path(__file__).resolve().parents[4] / "shared" / "reference" / "cuda_traces"


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("name", "allocations", "segments", "reserved"),
    # counted in the files: entries "alloc" and "segment_alloc"; the sizes of the segments at the end
    [("eor", 1935, 7, 134217728), ("other_ctx128_fullstep", 6771, 783, 61111009280),
     ("small_with_grad", 12, 7, 4439670784), ("transformer423m_ctx128_train_fp32", 6526, 0, 7235174400),
     ("transformer423m_ctx256_inference", 1280, 0, 1864368128),
     ("transformer423m_ctx512_train_bf16", 7591, 1, 12660506624)],
)  # fmt: skip
def test_real_traces_are_equal_to_the_last_address(name, allocations, segments, reserved):
    path = TRACES / f"{name}.json.gz"
    if not path.is_file():
        pytest.skip("../shared/reference is not here")
    found = compose(read_snapshot(path))
    device = found.devices[0]
    assert found.equal
    assert device.first_difference is None
    assert (device.allocations, device.addresses_equal) == (allocations, allocations)
    assert (device.segments, device.segments_equal, device.simulated_segments) == (segments, segments, segments)
    assert device.blocks_equal == device.blocks
    assert (device.record.end_reserved_bytes, device.simulation.reserved_bytes) == (reserved, reserved)
    assert device.record.requested_bytes == device.simulation.requested_bytes


def recorded(seed, steps=300, **simple):
    """A trace of random requests, written by the second allocator: (its events, its last state)."""
    rng = random.Random(seed)
    other = SimpleAllocator(**simple, record=True)
    live, waiting = [], []
    for step in range(steps):
        action = rng.random()
        if action < 0.02:
            other.empty_cache()
            other.note("snapshot", 0, 0, 0)
        elif waiting and action < 0.12:
            other.done(waiting.pop(rng.randrange(len(waiting))))
        elif live and action < 0.4 + 0.3 * (step % 70 > 40):
            address = live.pop(rng.randrange(len(live)))
            waits = rng.random() < 0.2
            other.free(address, waits=waits)
            if waits:
                waiting.append(address)
        else:
            nbytes = rng.choice((3, 700, 200_000, MIB + 1, 3 * MIB, 11 * MIB, rng.randrange(1, 30 * MIB)))
            with contextlib.suppress(NoMemory):
                live.append(other.malloc(nbytes, rng.choice((0, 0, 5))))
    return other.events, other.snapshot()


CASES = {
    "default": {},
    "limit": {"capacity": 160 * MIB},
    "expandable": {"expandable": True},
    "expandable limit": {"expandable": True, "capacity": 170 * MIB},
    "rounded": {"divisions": 2, "capacity": 300 * MIB},
    "max split": {"max_split": 24 * MIB, "capacity": 200 * MIB},
    "collected": {"collect": 0.5, "fraction": 0.75, "capacity": 400 * MIB},
}


def stated(case):
    return {
        "expandable_segments": case.get("expandable", False), "max_split_size": case.get("max_split", -1),
        "garbage_collection_threshold": case.get("collect", 0.0),
        "roundup_power2_divisions": {str(1 << at): case.get("divisions", 0) for at in range(16)},
    }  # fmt: skip


def read(tmp_path, events, segments, settings):
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"segments": segments, "trace": events, "allocator_settings": settings}))
    return read_snapshot(path)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", CASES)
def test_traces_of_a_second_allocator_are_equal(tmp_path, name, seed):
    events, segments = recorded(seed, **CASES[name])
    snapshot = read(tmp_path, events, segments, stated(CASES[name]))
    found = replay(snapshot.records[0], Settings.of_record(snapshot.stated))
    assert found.first is None
    assert found.equal
    assert found.settings.order == "address"
    assert found.addresses_equal == found.allocations == sum(event[0] == "alloc" for event in events)
    assert found.segments_equal == found.segments == found.simulated_segments
    assert found.releases_equal + found.followed == found.releases
    if "collect" not in CASES[name]:
        assert found.followed == 0
    assert found.ooms == sum(event[0] == "oom" for event in events)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_ties_is_found(tmp_path, seed):
    events, segments = recorded(seed, first_made=True)
    found = replay(read(tmp_path, events, segments, None).records[0], Settings())
    assert found.equal
    assert found.settings.order == "segment"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", CASES)
def test_traces_that_begin_in_the_middle(tmp_path, name, seed):
    events, segments = recorded(seed, **CASES[name])
    cut = random.Random(seed).randrange(20, len(events) - 20)
    snapshot = read(tmp_path, events[cut:], segments, stated(CASES[name]))
    found = replay(snapshot.records[0], Settings.of_record(snapshot.stated))
    if found.start.unsure == 0:
        assert found.equal
    elif found.first is not None:
        assert "slack that it does not tell" in found.first.reason
    if CASES[name].get("expandable"):
        assert found.start.unsure == 0


def test_slack_of_blocks_older_than_the_trace_follows_from_what_comes_next(tmp_path):
    # 11 MiB lie in a segment of 12 MiB: the 1 MiB behind is slack, and the block is taken whole again.
    other = SimpleAllocator(record=True)
    first = other.malloc(11 * MIB)
    cut = len(other.events)
    other.free(first)
    other.malloc(12 * MIB)
    snapshot = read(tmp_path, other.events[cut:], other.snapshot(), None)
    found = replay(snapshot.records[0], Settings())
    assert found.equal
    assert [(block.size, block.sure) for block in found.start.held] == [(12 * MIB, True)]


def test_a_wrong_address_is_the_first_difference(tmp_path):
    events, segments = recorded(1)
    at = next(number for number, event in enumerate(events) if number > 100 and event[0] == "alloc")
    events = [list(event) for event in events]
    wrong = events[at][1] + 512
    for event in events[at:]:
        if event[1] == events[at][1] and event is not events[at]:
            break
    events[at][1] = wrong
    snapshot = read(tmp_path, events, segments, None)
    report = compose(snapshot)
    first = report.devices[0].first_difference
    assert not report.equal
    assert (first.event, first.what) == (at, "address")
    assert f"at {wrong:#x}" in first.recorded
    assert "the record contradicts itself" in first.reason


def test_other_settings_are_seen_as_a_difference(tmp_path):
    events, segments = recorded(2, expandable=True)
    snapshot = read(tmp_path, events, segments, {"expandable_segments": False})
    first = compose(snapshot).devices[0].first_difference
    assert first.what == "segment"
    assert first.event < 5


def test_what_other_settings_and_sizes_give(tmp_path):
    events, segments = recorded(3)
    snapshot = read(tmp_path, events, segments, None)
    own = compose(snapshot, "expandable_segments:False").devices[0]
    assert own.what_if.reserved_bytes == own.simulation.reserved_bytes
    assert own.what_if.allocated_bytes == own.simulation.allocated_bytes
    grown = compose(snapshot, "expandable_segments:True").devices[0].what_if
    assert grown.settings == "expandable_segments:True"
    assert grown.allocated_bytes <= own.simulation.allocated_bytes
    assert grown.stop is None
    small = compose(snapshot, None, 40 * MIB).devices[0].what_if
    assert small.stop is not None
    assert small.stop.reserved_bytes <= 40 * MIB
    assert small.stop.tried_bytes >= small.stop.requested_bytes
    assert small.stop.free_bytes == 40 * MIB - small.stop.reserved_bytes
    # the same requests on a device of that size, by the second allocator
    other, blocks, stopped = SimpleAllocator(40 * MIB), {}, None
    for number, (action, address, nbytes, stream) in enumerate(events):
        if action == "snapshot":
            other.empty_cache()
        elif action == "alloc":
            try:
                blocks[address] = other.malloc(nbytes, stream)
            except NoMemory:
                stopped = number
                break
        elif action == "free_requested":
            done = events[number + 1][:2] == ["free_completed", address]
            other.free(blocks[address], waits=True)
            if done:
                other.done(blocks[address])
        elif action == "free_completed" and events[number - 1][:2] != ["free_requested", address]:
            other.done(blocks[address])
    assert small.stop.event == stopped
    assert small.stop.allocated_bytes == other.allocated


def test_frames_tell_what_holds_the_peak(tmp_path):
    def frames(*pairs):
        return [{"filename": file, "line": line, "name": name} for file, line, name in pairs]

    torch = "/opt/lib/python3.12/site-packages/torch/"
    made = frames((torch + "nn/modules/linear.py", 99, "__init__"), (torch + "nn/modules/module.py", 1, "__init__"),
                  ("/home/me/model.py", 12, "build"))  # fmt: skip
    forward = frames((torch + "nn/modules/linear.py", 125, "forward"), ("/home/me/model.py", 41, "forward"))
    step = frames((torch + "optim/adamw.py", 300, "step"), ("/home/me/train.py", 9, "main"))
    events = [
        {"action": "segment_alloc", "addr": 0, "size": 2 * MIB, "stream": 0},
        {"action": "alloc", "addr": 0, "size": 1000, "stream": 0, "frames": made},
        {"action": "alloc", "addr": 1024, "size": 5000, "stream": 0, "frames": forward},
        {"action": "alloc", "addr": 6144, "size": 400, "stream": 0, "frames": step},
        {"action": "alloc", "addr": 6656, "size": 4, "stream": 0},
        {"action": "free_requested", "addr": 1024, "size": 5000, "stream": 0},
        {"action": "free_completed", "addr": 1024, "size": 5000, "stream": 0},
    ]
    blocks = [(0, 1024, 1000, "active_allocated"), (1024, 5120, 0, "inactive"), (6144, 512, 400, "active_allocated"),
              (6656, 512, 4, "active_allocated"), (7168, 2 * MIB - 7168, 0, "inactive")]  # fmt: skip
    segment = {"address": 0, "total_size": 2 * MIB, "segment_type": "small", "stream": 0, "blocks": [
        {"address": address, "size": size, "requested_size": asked, "state": state}
        for address, size, asked, state in blocks
    ]}  # fmt: skip
    path = tmp_path / "frames.json"
    path.write_text(json.dumps({"segments": [segment], "device_traces": [events]}))
    device = compose(read_snapshot(path)).devices[0]
    assert device.first_difference is None
    assert device.peak_event == 4
    assert [(share.kind, share.requested_bytes, share.blocks) for share in device.kinds] == [
        ("forward", 5000, 1), ("network", 1000, 1), ("optimizer", 400, 1), ("no frames", 4, 1),
    ]  # fmt: skip
    assert [share.place for share in device.sites] == ["model.py:41 forward", "model.py:12 build", "train.py:9 main"]


def test_requests_of_a_private_pool_stay_in_it(tmp_path):
    events = [
        ["segment_alloc", 0, 2 * MIB, 0], ["alloc", 0, 512, 0], ["free_requested", 0, 512, 0],
        ["free_completed", 0, 512, 0], ["segment_alloc", 8 * MIB, 2 * MIB, 0], ["alloc", 8 * MIB, 512, 0],
        ["alloc", 0, 512, 0],
    ]  # fmt: skip
    segments = [
        {
            "address": address, "total_size": 2 * MIB, "segment_type": "small", "stream": 0, "segment_pool_id": pool,
            "blocks": [
                {"address": address, "size": 512, "requested_size": 512, "state": "active_allocated"},
                {"address": address + 512, "size": 2 * MIB - 512, "requested_size": 0, "state": "inactive"},
            ],
        }
        for address, pool in ((0, [0, 0]), (8 * MIB, [0, 1]))
    ]  # fmt: skip
    assert compose(read(tmp_path, events, segments, None)).equal


def test_traces_that_contradict_themselves_end_in_a_difference(tmp_path):
    rng = random.Random(9)
    for seed in range(60):
        events, segments = recorded(seed % 5, 120, expandable=seed % 2 == 1)
        events = [list(event) for event in events]
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(events))
            action = rng.random()
            if action < 0.3:
                del events[at]
            elif action < 0.5:
                events[at][1] = events[rng.randrange(len(events))][1]
            elif action < 0.7:
                events[at][2] = rng.choice((0, 1, 1 << 51, 20 * MIB, 2 * MIB))
            elif action < 0.9:
                events[at][0] = rng.choice(events)[0]
            else:
                events.insert(at, list(rng.choice(events)))
        with contextlib.suppress(FormatError):  # a segment of 0 bytes
            settings = rng.choice((None, {"max_split_size": 24 * MIB}, {"garbage_collection_threshold": 0.5}))
            compose(read(tmp_path, events, segments, settings), "expandable_segments:True", 64 * MIB)


def test_ranges():
    found = Ranges([(0, 2), (4, 6)])
    found.add(2, 4)
    assert list(found) == [(0, 6)]
    found.remove(1, 3)
    assert list(found) == [(0, 1), (3, 6)]
    found.remove(0, 9)
    assert not found
    found.remove(3, 4)
    found.add(5, 5)
    found.add(3, 4)
    found.add(8, 9)
    found.remove(4, 8)
    assert list(found) == [(3, 4), (8, 9)]
    rng, simple, ranges = random.Random(2), set(), Ranges()
    for _ in range(500):
        start = rng.randrange(60)
        stop = start + rng.randrange(12)
        if rng.random() < 0.5:
            ranges.add(start, stop)
            simple |= set(range(start, stop))
        else:
            ranges.remove(start, stop)
            simple -= set(range(start, stop))
        assert {at for low, high in ranges for at in range(low, high)} == simple
        assert all(low < high for low, high in ranges)


def test_a_private_pool_with_segments_that_do_not_grow(tmp_path):
    # torch.cuda.MemPool with an allocator of its own: no expandable segments in it (malloc in CUDACachingAllocator.cpp)
    events = [["segment_alloc", 0, 12 * MIB, 0], ["alloc", 0, 11 * MIB, 0], ["segment_map", 64 * MIB, 20 * MIB, 0],
              ["alloc", 64 * MIB, 11 * MIB, 0]]  # fmt: skip
    own = {"address": 0, "total_size": 12 * MIB, "segment_type": "large", "segment_pool_id": [1, 0], "blocks": [
        {"address": 0, "size": 12 * MIB, "requested_size": 11 * MIB, "state": "active_allocated"}]}  # fmt: skip
    other = {"address": 64 * MIB, "total_size": 20 * MIB, "segment_type": "large", "is_expandable": True, "blocks": [
        {"address": 64 * MIB, "size": 11 * MIB, "requested_size": 11 * MIB, "state": "active_allocated"},
        {"address": 75 * MIB, "size": 9 * MIB, "requested_size": 0, "state": "inactive"}]}  # fmt: skip
    assert compose(read(tmp_path, events, [own, other], {"expandable_segments": True})).equal


def test_what_lived_at_the_start_is_allocated_anew_on_its_stream(tmp_path):
    other = SimpleAllocator(expandable=True, record=True)
    first, second = other.malloc(11 * MIB, 5), other.malloc(3 * MIB, 0)
    cut = len(other.events)
    other.free(first)
    third = other.malloc(11 * MIB, 5)
    snapshot = read(tmp_path, other.events[cut:], other.snapshot(), {"expandable_segments": True})
    tried = compose(snapshot, "expandable_segments:False").devices[0].what_if
    # 12 MiB for stream 5, taken again, and 20 MiB for stream 0
    assert (first, tried.rebuilt, tried.reserved_bytes) == (third, True, 32 * MIB)
    assert second
