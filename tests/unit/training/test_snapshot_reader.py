"""Snapshots read from pickles and JSON; damaged and hostile ones refused with a sentence, and nothing executed."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
import random
import struct

import pytest

from peakmem.errors import FormatError
from peakmem.training.snapshot.pickled import load_plain
from peakmem.training.snapshot.reader import read_snapshot

FRAMES = [{"filename": "/home/me/model.py", "line": 41, "name": "forward"}, {"filename": "??", "line": 0, "name": "x"}]


def snapshot():
    """Two devices; as torch.cuda.memory._snapshot() gives it."""
    block = {"address": 4096, "size": 2 << 20, "requested_size": 700, "state": "active_allocated", "frames": FRAMES}
    rest = {"address": 4096 + (2 << 20), "size": 18 << 20, "requested_size": 0, "state": "inactive", "frames": []}
    return {
        "segments": [
            {
                "device": 1, "address": 4096, "total_size": 20 << 20, "allocated_size": 2 << 20, "active_size": 2 << 20,
                "requested_size": 700, "stream": 0, "segment_type": "large", "segment_pool_id": (0, 0),
                "is_expandable": False, "frames": [], "blocks": [block, rest],
            }
        ],
        "device_traces": [
            [],
            [
                {"action": "segment_alloc", "addr": 4096, "size": 20 << 20, "stream": 0, "frames": FRAMES},
                {"action": "alloc", "addr": 4096, "size": 2 << 20, "stream": 0, "pool_id": (0, 0), "frames": FRAMES},
                {"action": "oom", "device_free": 77, "size": 5, "stream": 0, "time_us": 3},
                {"action": "snapshot", "addr": 0, "size": 9, "stream": 0},
                {"action": "sung", "addr": 0, "size": 9, "stream": 0},
            ],
        ],
        "allocator_settings": {"expandable_segments": False, "max_split_size": -1},
        "external_annotations": [],
    }  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_any_protocol(tmp_path, protocol):
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps(snapshot(), protocol))
    found = read_snapshot(path)
    assert (found.form, [record.device for record in found.records]) == ("pickle", [1])
    record = found.records[0]
    assert [(event.action, event.address, event.nbytes) for event in record.events] == [
        ("segment_alloc", 4096, 20 << 20), ("alloc", 4096, 2 << 20), ("oom", 77, 5), ("snapshot", 0, 9),
    ]  # fmt: skip
    assert record.events[1].owner == (0, 0)
    assert record.events[0].owner is None
    assert record.events[1].frames == FRAMES
    assert [(piece.address, piece.size, piece.allocated) for piece in record.segments[0].pieces] == [
        (4096, 2 << 20, True), (4096 + (2 << 20), 18 << 20, False),
    ]  # fmt: skip
    assert found.notes == ("1 events of the kind 'sung' left out",)
    assert found.stated["max_split_size"] == -1


@pytest.mark.parametrize("zipped", [False, True])
def test_json_of_the_same_and_of_the_short_form(tmp_path, zipped):
    path = tmp_path / "snapshot.json"
    pack = gzip.compress if zipped else bytes
    path.write_bytes(pack(json.dumps(snapshot()).encode()))
    assert len(read_snapshot(path).records[0].events) == 4
    short = {
        "segments": [{"address": 0, "total_size": 512, "segment_type": "small",
                      "blocks": [{"address": 0, "size": 512, "requested_size": 4, "state": "inactive"}]}],
        "trace": [["alloc", 0, 4, 0], ["free_completed", 0, 4]], "allocator_settings": None,
    }  # fmt: skip
    path.write_bytes(pack(json.dumps(short).encode()))
    found = read_snapshot(path)
    assert [event.nbytes for event in found.records[0].events] == [4, 4]
    path.write_bytes(pack(json.dumps(short["segments"]).encode()))
    assert read_snapshot(path).records[0].events == ()


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_nothing_that_a_pickle_names_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for protocol in range(6):
        path = tmp_path / "evil.pickle"
        path.write_bytes(pickle.dumps({"segments": [], "device_traces": [[Evil()]]}, protocol))
        with pytest.raises(FormatError, match=r"names (posix|nt|os)\.system, and nothing it names is imported"):
            read_snapshot(path)
    assert not (tmp_path / "executed").exists()
    calls = (
        b"cos\nsystem\n(S'x'\ntR.", b"(S'x'\nios\nsystem\n.", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
        b"\x80\x02\x82\x01.", b"Px\n.", b"\x80\x02K\x01Q.", b"\x80\x02}b.", b"\x80\x02)\x81.",
    )  # fmt: skip
    for code in calls:
        with pytest.raises(FormatError):
            load_plain(code)


def test_values_are_those_of_pickle():
    value = {"a": [1, -1, 255, 256, 65535, 65536, -(1 << 31), 1 << 40, -(1 << 70), 1.5, None, True, False, "é\n", ()],
             "b": ({"c": [[], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]}, "x" * 300, b"yz".decode(), 3),
             7: "whole numbers as keys", "d": "y" * 70_000}  # fmt: skip
    for protocol in range(6):
        assert load_plain(pickle.dumps(value, protocol)) == value
    shared = [1]
    again = load_plain(pickle.dumps([shared, shared], 2))
    assert again[0] is again[1]


@pytest.mark.parametrize(
    "code",
    [b"", b".", b"\x80\x02", b"\x80\x02}", b"\x80\x02(.", b"\x80\x02u.", b"\x80\x02e.", b"\x80\x02a.", b"\x80\x02s.",
     b"\x80\x02}K\x01s.", b"\x80\x02](K\x01u.", b"\x80\x02h\x05.", b"\x80\x02K\x01\x85\x86.", b"\xff.", b"K\x01K\x02.",
     b"\x80\x02}]K\x01s.", b"\x80\x02})K\x01s.", b"\x8a\xff" + b"\x01" * 255 + b".", b"X\xff\xff\xff\xffx.",
     b"\x8d" + b"\xff" * 8 + b".", b"I" + b"9" * 5000 + b"\n.", b"Ix\n.", b"T\xff\xff\xff\xff.",
     b"\x80\x02r\xff\xff\xff\xff."],
)  # fmt: skip
def test_damaged_pickles(code):
    with pytest.raises(FormatError):
        load_plain(code)


def test_pickles_that_try_to_grow_take_no_memory(monkeypatch):
    doubled = b"\x80\x02]" + b"2\x86" * 50_000 + b"."  # (((x, x), (x, x)), …): 2 to the power of 50,000 if walked
    assert isinstance(load_plain(doubled), tuple)
    far = b"\x80\x02K\x01r\xff\xff\xff\x7f."  # a memo of two thousand million places
    assert load_plain(far) == 1
    monkeypatch.setattr("peakmem.training.snapshot.pickled.MOST_STEPS", 1000)
    with pytest.raises(FormatError, match="opcodes"):
        load_plain(b"\x80\x02" + b"N0" * 1000 + b"N.")


def changed(**values):
    found = snapshot()
    for place, value in values.items():
        target, path = found, place.split("__")
        for key in path[:-1]:
            target = target[int(key) if key.isdigit() else key]
        target[int(path[-1]) if path[-1].isdigit() else path[-1]] = value
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"segments": 7}, "no allocator's segments"),
        ({"device_traces": {}}, "no list of events"),
        ({"device_traces__1": 3}, "no list of events"),
        ({"device_traces": [[]] * 300}, "300 devices"),
        ({"allocator_settings": [1]}, "no dictionary"),
        ({"device_traces__1__1__size": -5}, "device 1, event 1: the size is '-5'"),
        ({"device_traces__1__1__size": 1.5}, "the size is '1.5'"),
        ({"device_traces__1__1__size": 1 << 60}, "the size is"),
        ({"device_traces__1__1__addr": "x"}, "the address is 'x'"),
        ({"device_traces__1__1__addr": None}, "the address is 'NoneType'"),
        ({"device_traces__1__1__addr": True}, "the address is 'True'"),
        ({"device_traces__1__1__stream": "x"}, "the stream is no whole number"),
        ({"device_traces__1__1__action": 4}, "the action is no text"),
        ({"device_traces__1__1__pool_id": (1,)}, "no pair"),
        ({"device_traces__1__1": 4}, "neither a dictionary nor a list"),
        ({"segments__0": 4}, "segment 0 is no dictionary"),
        ({"segments__0__blocks": [4]}, "segment 0, block 0 is no dictionary"),
        ({"segments__0__total_size": -1}, "total_size is '-1'"),
        ({"segments__0__total_size": 3}, "the blocks sum to 20,971,520 bytes"),
        ({"segments__0__segment_type": "huge"}, "neither small nor large"),
        ({"segments__0__device": 10_000}, "the device is 10000"),
        ({"segments__0__blocks__0__size": 0}, "do not fill it"),
        ({"segments__0__blocks__1__address": 5}, "do not fill it"),
        ({"segments": [snapshot()["segments"][0]] * 2}, "overlap"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, said):
    path = tmp_path / "snapshot.pickle"
    path.write_bytes(pickle.dumps(changed(**change)))
    with pytest.raises(FormatError, match=said) as fault:
        read_snapshot(path)
    assert str(path) in str(fault.value)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "file"
    for data, said in ((b"", "empty"), (b"PK\x03\x04abc", "zip archive"), (b"{", "JSON"), (b"[1,2", "JSON"),
                       (b"\x1f\x8b\x08\x00broken", "damaged"), (gzip.compress(b"{}" * 9)[:-9], "damaged"),
                       (b"hello world", "no opcode|damaged|names"), (b"{}", "no allocator's segments")):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(FormatError, match=said):
            read_snapshot(path)
    with pytest.raises(FormatError, match=r"folder|cannot be read"):
        read_snapshot(tmp_path)
    with pytest.raises(FormatError, match="cannot be read"):
        read_snapshot(tmp_path / "none")


def test_too_many_events_are_refused_before_they_are_parsed(tmp_path, monkeypatch):
    path = tmp_path / "many.json"
    monkeypatch.setattr("peakmem.training.snapshot.reader.MOST_PARTS", 60_000)
    path.write_bytes(b'{"segments": [], "trace": [' + b'["alloc",1,1,0],' * 60_001 + b"[]]}")
    with pytest.raises(FormatError, match="more parts"):
        read_snapshot(path)
    monkeypatch.setattr("peakmem.training.snapshot.reader.MOST_EVENTS", 20_000)
    head = b"\x80\x02}(X\x08\x00\x00\x00segments]X\x0d\x00\x00\x00device_traces]("
    path.write_bytes(head + b"](" + b"N" * 20_001 + b"eeu.")
    with pytest.raises(FormatError, match="20,001 events"):
        read_snapshot(path)
    monkeypatch.setattr("peakmem.training.snapshot.reader.LARGEST_FILE", 1000)
    path.write_bytes(gzip.compress(b"{" + b" " * 100_000))
    with pytest.raises(FormatError, match="too large"):
        read_snapshot(path)


def test_bytes_changed_at_random_never_raise_anything_else(tmp_path):
    rng = random.Random(5)
    path = tmp_path / "snapshot.pickle"
    whole = [pickle.dumps(snapshot(), protocol) for protocol in (0, 2, 4)]
    for _ in range(300):
        data = bytearray(rng.choice(whole))
        for _ in range(rng.randrange(1, 4)):
            action, at = rng.random(), rng.randrange(len(data))
            if action < 0.6:
                data[at] = rng.randrange(256)
            elif action < 0.8:
                del data[at : at + rng.randrange(1, 20)]
            else:
                data[at:at] = struct.pack("<I", rng.randrange(1 << 32))
        path.write_bytes(bytes(data))
        with contextlib.suppress(FormatError):
            read_snapshot(path)
