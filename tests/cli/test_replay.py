"""`peakmem replay` as people call it: output, files, exit codes, and files that are none."""

from __future__ import annotations

import json
import os
import pickle

import pytest

MIB = 1 << 20


@pytest.fixture
def snapshot(tmp_path):
    """Two large requests, the first freed; as torch writes it. The address of the second may be moved."""

    def write(second=100 * MIB, **more):
        frames = [{"filename": "/home/me/train.py", "line": 7, "name": "main"}]
        events = [
            {"action": "segment_alloc", "addr": 10 * MIB, "size": 40 * MIB, "stream": 0},
            {"action": "alloc", "addr": 10 * MIB, "size": 40 * MIB, "stream": 0, "frames": frames},
            {"action": "segment_alloc", "addr": 100 * MIB, "size": 20 * MIB, "stream": 0},
            {"action": "alloc", "addr": second, "size": 3 * MIB, "stream": 0, "frames": frames},
            {"action": "free_requested", "addr": 10 * MIB, "size": 40 * MIB, "stream": 0},
            {"action": "free_completed", "addr": 10 * MIB, "size": 40 * MIB, "stream": 0},
        ]
        segments = [
            {"device": 0, "address": 10 * MIB, "total_size": 40 * MIB, "segment_type": "large", "stream": 0,
             "blocks": [{"address": 10 * MIB, "size": 40 * MIB, "requested_size": 0, "state": "inactive"}]},
            {"device": 0, "address": 100 * MIB, "total_size": 20 * MIB, "segment_type": "large", "stream": 0,
             "blocks": [
                {"address": 100 * MIB, "size": 3 * MIB, "requested_size": 3 * MIB, "state": "active_allocated"},
                {"address": 103 * MIB, "size": 17 * MIB, "requested_size": 0, "state": "inactive"}]},
        ]  # fmt: skip
        path = tmp_path / "snapshot.pickle"
        path.write_bytes(pickle.dumps({"segments": segments, "device_traces": [events], **more}))
        return str(path)

    return write


def test_a_trace_that_is_equal(run, snapshot):
    code, out, err = run("replay", snapshot())
    assert (code, err) == (0, "")
    assert "record and simulation are equal" in out
    assert "addresses of blocks\t2\t2\n" in out
    assert "reserved, most\t60.00 MiB (62,914,560 B)\t60.00 MiB (62,914,560 B)\n" in out
    assert "allocated, most\tnot in it\t43.00 MiB (45,088,768 B)\n" in out
    assert "train.py:7 main\tother\t43.00 MiB\t2\n" in out
    assert "the file states no settings: torch's own are assumed" in out


def test_a_trace_that_parts_exits_with_1(run, snapshot):
    code, out, _ = run("replay", snapshot(second=101 * MIB))
    assert code == 1
    assert "event 3 of 6, address, at train.py:7 main" in out
    assert "recorded: 3,145,728 B at 0x6500000" in out
    assert "simulated: at 0x6400000" in out


def test_another_size_and_other_settings(run, snapshot):
    code, out, _ = run("replay", snapshot(), "--capacity", "50MiB")
    assert code == 1
    assert "out of memory at event 3, train.py:7 main: tried to allocate 20.00 MiB (20,971,520 B)" in out
    assert "10.00 MiB free, 40.00 MiB allocated, 0 B reserved but unallocated" in out
    code, out, _ = run("replay", snapshot(), "--capacity", "60MiB", "--conf", "expandable_segments:True")
    assert code == 0
    assert "it runs to the end of the trace" in out
    assert "settings: expandable_segments:True; capacity: 60.00 MiB" in out


def test_json_and_files(run, snapshot, tmp_path):
    code, out, _ = run("replay", snapshot(), "--json", "-", "--write", "md=replay.md")
    report = json.loads(out)
    assert code == 0
    assert report["schema"] == "peakmem.replay/1"
    assert report["equal"] is True
    assert report["devices"][0]["simulation"]["reserved_bytes"] == 60 * MIB
    assert report["devices"][0]["first_difference"] is None
    assert (tmp_path / "replay.md").read_text().startswith("# ")
    code, _, err = run("replay", snapshot(), "--write", "md=replay.md")
    assert (code, "not overwritten" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--conf", "size:1"), "no setting of torch's allocator is called 'size'"),
     (("--capacity", "24G"), "is not a size"), (("--capacity", "0"), "--capacity is 0"),
     (("--conf", "backend:cudaMallocAsync"), "an allocator of its own"),
     (("--units", "x"), "--units")],
)  # fmt: skip
def test_options_that_are_off(run, snapshot, arguments, said):
    code, out, err = run("replay", snapshot(), *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_files_that_are_none(run, snapshot, tmp_path):
    for data in (b"", b"not a pickle", pickle.dumps([1, 2]), b"\x80\x04cos\nsystem\n.", b"{}"):
        (tmp_path / "file").write_bytes(data)
        code, out, err = run("replay", "file")
        assert (code, out) == (2, "")
        assert err.startswith("peakmem: error: file")
        assert "internal" not in err
    assert run("replay", "missing")[0] == 2
    code, _, err = run("replay", snapshot(allocator_settings={"max_split_size": "x"}))
    assert (code, "damaged" in err) == (2, True)


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_nothing_in_a_pickle_is_executed(run, tmp_path):
    (tmp_path / "evil.pickle").write_bytes(pickle.dumps({"segments": [], "device_traces": [Evil()]}))
    code, _, err = run("replay", "evil.pickle")
    assert code == 2
    assert "system, and nothing it names is imported or called" in err
    assert not (tmp_path / "executed").exists()
