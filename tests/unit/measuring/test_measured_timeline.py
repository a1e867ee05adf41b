"""Measured timelines. Hand-made event lists first; then networks of PyTorch whose live bytes are worked out by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from peakmem.errors import FormatError, UsageError
from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.inputs import Given, Port
from peakmem.measuring.record import MeasuredTimeline
from peakmem.measuring.timeline import OUTSIDE, read_timeline, timeline_of

BORN, DIED, MAPPED, _UNMAPPED, NOTE = range(1, 6)
# counter.c
ENGINE, PYTHON = 0x1010, 0x9010
MAPS = (
    "1000-2000 r-xp 00000000 00:00 1   /lib/libengine.so\n9000-a000 r-xp 00000000 00:00 2   /lib/libpython3.11.so.1.0\n"
)


class List:
    """An event list that keeps the sums that the counter writes into its notes."""

    def __init__(self):
        self.records, self.names = [], {}
        self.live = self.mapped = 0
        self.sizes = {}

    def born(self, pointer: int, nbytes: int, caller: int = ENGINE) -> None:
        self.live += nbytes
        self.sizes[pointer] = nbytes
        self.records.append((nbytes, pointer, caller, BORN))

    def died(self, pointer: int) -> None:
        nbytes = self.sizes.pop(pointer)
        self.live -= nbytes
        self.records.append((-nbytes, pointer, ENGINE, DIED))

    def map(self, nbytes: int) -> None:
        self.mapped += nbytes
        self.records.append((nbytes, 0x700000, ENGINE, MAPPED))

    def note(self, *fields: object) -> None:
        self.names[len(self.names) + 1] = "\t".join(map(str, fields))
        self.records.append((self.live, len(self.names), self.mapped, NOTE))

    def write(self, path: Path) -> Path:
        head = struct.pack("<8s2I6Q", b"PEAKMEM\0", 1, 32, len(self.records), 0, 0, 1, 4096, 1000)
        rows = (struct.pack("<qQQII", size, pointer, caller, 7, kind) for size, pointer, caller, kind in self.records)
        path.write_bytes(head + b"".join(rows))
        return path

    def timeline(self, folder: Path, phase: str = "") -> MeasuredTimeline:
        return timeline_of(self.write(folder / "events"), MAPS, self.names, phase)


@pytest.fixture
def events() -> List:
    """A process that holds 100 B of its own, a weight of 1000 B, a block of Python and an input of 400 B."""
    made = List()
    made.born(0x10, 100)
    made.note("phase:import")
    made.born(0x20, 1000)
    made.born(0x30, 77, PYTHON)
    made.note("stored", "20", 1000, "w")
    made.note("phase:load")
    made.born(0x40, 401, PYTHON)
    made.note("input", "40", 400, "x", "float32", "100")
    made.note("phase:inputs")
    return made


def test_an_operator_with_workspace_and_a_result(events, tmp_path):
    events.born(0x99, 5000, PYTHON)
    events.note("begin", "aten.conv2d", "block.0")
    events.born(0x50, 2000)
    events.born(0x60, 800)
    events.died(0x50)
    events.note("end")
    events.note("tensor", "60", 800, "float32", "200")
    events.note("begin", "mine.sort", "")
    events.born(0x70, 800)
    events.note("end")
    events.note("tensor", "70", 800, "float32", "200")
    events.died(0x60)
    events.died(0x70)
    events.note("phase:run 1")
    found = events.timeline(tmp_path)
    first, second = found.timeline
    assert (first.operator, first.op_type, first.scope) == ("block/0", "conv2d", "block/0")
    assert (first.before_bytes, first.peak_bytes, first.live_bytes, first.workspace_bytes) == (400, 3200, 1200, 2000)
    assert (second.operator, second.op_type) == ("mine.sort", "mine.sort")
    assert (second.before_bytes, second.peak_bytes, second.live_bytes) == (1200, 2000, 2000)
    peak = found.peak
    assert (peak.activation_bytes, peak.workspace_bytes, peak.other_bytes) == (1200, 2000, 0)
    assert (peak.weights_bytes, peak.standing_bytes, peak.total_bytes) == (1000, 100, 4300)
    assert (peak.step, peak.operator, found.peak_bytes) == (0, "block/0", 3200)
    assert [(one.name, one.nbytes, one.role, one.start, one.stop) for one in peak.alive] == [
        ("block/0", 2000, "workspace", 0, 1), ("block/0", 800, "activation", 0, 2), ("x", 400, "input", 0, 2),
    ]  # fmt: skip
    assert peak.alive[1].shape == "200"
    assert {one.library for one in peak.alive} == {"libengine.so", "libpython3.11.so.1.0"}
    assert (found.python_bytes, found.left_bytes, found.complete, found.notes) == (5000, 0, True, ())


def test_the_parts_of_the_peak_are_the_whole(events, tmp_path):
    events.note("begin", "aten.one", "")
    for number in range(60):
        events.born(0x1000 + number, 10 + number)
    events.note("end")
    events.note("phase:run 1")
    peak = events.timeline(tmp_path).peak
    assert len(peak.alive) == 50
    # an input of 400 and sixty blocks of 10 to 69 bytes: the eleven smallest stand in the rest
    assert (peak.rest_blocks, peak.rest_bytes) == (11, sum(range(10, 21)))
    assert sum(one.nbytes for one in peak.alive) + peak.rest_bytes == 400 + sum(range(10, 70))


def test_blocks_from_before_may_go_in_the_run(events, tmp_path):
    events.died(0x20)
    # the engine repacks its weight
    events.note("begin", "aten.pack", "")
    events.born(0x80, 300)
    events.note("end")
    events.died(0x10)
    events.note("phase:run 1")
    found = events.timeline(tmp_path)
    assert (found.peak.weights_bytes, found.peak.standing_bytes, found.peak.total_bytes) == (1000, 100, 1500)
    # all of it was there before: the run never reached more
    assert found.timeline[0].peak_bytes == 700
    assert found.left_bytes == 300


def test_an_address_is_used_again(events, tmp_path):
    events.note("begin", "aten.a", "")
    events.born(0x50, 600)
    events.note("end")
    events.note("tensor", "50", 600, "float32", "150")
    events.died(0x50)
    events.note("begin", "aten.b", "")
    events.born(0x50, 900)
    events.note("end")
    events.note("tensor", "50", 900, "int8", "900")
    events.note("phase:run 1")
    alive = events.timeline(tmp_path).peak.alive
    assert [(one.name, one.nbytes, one.dtype) for one in alive] == [("b", 900, "int8"), ("x", 400, "float32")]


def test_work_between_operators_is_a_step_when_it_takes_memory(events, tmp_path):
    events.note("begin", "aten.a", "")
    events.note("end")
    events.born(0x50, 100_000)
    events.died(0x50)
    events.note("begin", "aten.a", "")
    events.note("end")
    events.born(0x51, 50)
    events.died(0x51)
    events.note("phase:run 1")
    found = events.timeline(tmp_path)
    assert [one.operator for one in found.timeline] == ["a", OUTSIDE, "a#2"]
    assert found.peak.operator == OUTSIDE
    assert found.timeline[2].peak_bytes == 450


def test_phases_are_kept_apart(events, tmp_path):
    for number, nbytes in ((1, 5000), (2, 700)):
        events.note("begin", "aten.a", "m")
        events.born(0x50, nbytes)
        events.note("end")
        events.died(0x50)
        events.note(f"phase:run {number}")
    assert events.timeline(tmp_path).peak_bytes == 1100
    assert events.timeline(tmp_path).phase == "run 2"
    assert events.timeline(tmp_path, "run 1").peak_bytes == 5400


def test_plain_notes_begin_operators_and_none_make_one_step(events, tmp_path):
    events.note("layer one")
    events.born(0x50, 10)
    events.note("layer two")
    events.born(0x51, 20)
    events.note("phase:run 1")
    found = events.timeline(tmp_path)
    assert [(one.operator, one.live_bytes) for one in found.timeline] == [("layer one", 410), ("layer two", 430)]
    events.born(0x52, 100_000)
    events.map(1 << 20)
    events.note("phase:run 2")
    found = events.timeline(tmp_path)
    assert [one.operator for one in found.timeline] == [OUTSIDE]
    assert found.mapped_bytes == 1 << 20
    assert "no operators" in found.notes[0]


def test_a_run_that_asks_for_nothing(events, tmp_path):
    events.note("phase:run 1")
    found = events.timeline(tmp_path)
    assert (found.timeline, found.peak_bytes, found.peak.total_bytes) == ((), 400, 1500)


def test_what_cannot_be_read(events, tmp_path):
    with pytest.raises(UsageError, match=r"no phase 'run 7'.*import, load, inputs"):
        events.timeline(tmp_path, "run 7")
    with pytest.raises(UsageError, match="no phase 'run'"):
        events.timeline(tmp_path)
    events.note("phase:run 1")
    file = events.write(tmp_path / "kept.events")
    with pytest.raises(FormatError, match="names of an event list"):
        read_timeline(file)
    file.with_suffix(".json").write_text("[]")
    with pytest.raises(FormatError, match="names of an event list"):
        read_timeline(file)
    file.with_suffix(".json").write_text(json.dumps({"names": events.names, "maps": MAPS}))
    assert read_timeline(file).phase == "run 1"
    data = bytearray(file.read_bytes())
    data[64] += 1
    file.write_bytes(data)
    with pytest.raises(FormatError, match="contradicts itself"):
        read_timeline(file)


NETWORKS = """
import torch
from torch import nn

class Chain(nn.Module):
    def forward(self, x):
        a = torch.cat([x, x])
        b = torch.cat([a, a])
        del a
        c = b[:250_000].clone()
        del b
        return c * 2

class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.RNNCell(250, 250)

    def forward(self, x, steps):
        states = [x]
        for _ in range(int(steps.sum())):
            states.append(self.cell(x, states[-1]))
        return states[-1]

@torch.library.custom_op("demo::work", mutates_args=())
def work(x: torch.Tensor) -> torch.Tensor:
    room = torch.empty(3 * x.numel())
    return x + room[:1].zero_()

class Scratch(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))

    def forward(self, x):
        return work(self.body(x))
"""
NEAR = 8192
# bytes: tensor headers and other small objects of C++ that stand beside the data


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Timeline of the second run of a network of NETWORKS, and the run."""
    pytest.importorskip("torch")
    (tmp_path / "networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)

    def measure(name: str, *ports: Port, given: Given | None = None, **settings):
        run = run_process(
            order_for(
                engine("pytorch"), f"networks:{name}", settings, ports=ports, given=given or Given(), runs=2,
                instrumented=True, timeline=True, events=tmp_path / "kept",
            )
        )  # fmt: skip
        assert run.outcome.status == "ok", run.outcome
        return run.timeline, run

    return measure


def test_a_chain_of_known_tensors(measured):
    found, _ = measured("Chain", Port("x", "float32", (250_000,)))
    mb = 1_000_000
    expected = [("cat", 3), ("cat#2", 7), ("slice", 5), ("clone", 6), ("mul", 3)]
    # x 1 MB stays with the caller; a 2 MB, b 4 MB, then a is gone, c 1 MB, then b is gone, the product 1 MB
    assert [one.operator for one in found.timeline] == [name for name, _ in expected]
    for one, (_, live) in zip(found.timeline, expected, strict=True):
        assert live * mb <= one.live_bytes < live * mb + NEAR
        assert one.peak_bytes < live * mb + NEAR
    large = [one for one in found.peak.alive if one.nbytes >= mb]
    assert [(one.name, one.nbytes, one.role, one.start, one.stop) for one in large] == [
        ("cat#2", 4 * mb, "activation", 1, 4), ("cat", 2 * mb, "activation", 0, 2), ("x", mb, "input", 0, 5),
    ]  # fmt: skip
    assert found.peak.activation_bytes == 7 * mb
    assert found.left_bytes < NEAR


@pytest.mark.slow
def test_a_loop_whose_length_stands_in_the_data(measured, tmp_path):
    np.savez(tmp_path / "in.npz", x=np.zeros((1000, 250), np.float32), steps=np.ones(4, np.int64))
    found, run = measured(
        "Cell", Port("x", "float32", (1000, 250)), Port("steps", "int64", (4,)), given=Given(tmp_path / "in.npz")
    )
    mb = 1_000_000
    cells = [one for one in found.timeline if one.scope == "cell"]
    # a state is 1000 x 250 floats = 1 MB; all are kept, beside x. W x and W h are 1 MB each until tanh has read them
    for number, one in enumerate(cells):
        assert (number + 2) * mb <= one.live_bytes < (number + 2) * mb + NEAR
        assert 2 * mb <= one.workspace_bytes < 2 * mb + NEAR
    assert len(cells) == 4
    assert found.peak.operator == cells[-1].operator == "cell/rnn_tanh_cell#4"
    states = [one for one in found.peak.alive if one.role == "activation" and one.nbytes == mb]
    assert [one.made_by for one in sorted(states, key=lambda one: one.start)] == [one.operator for one in cells]
    assert run.facts["parameter bytes"] == str(4 * (2 * 250 * 250 + 2 * 250))


@pytest.mark.slow
def test_scratch_memory_and_custom_operators(measured):
    found, run = measured("Scratch", Port("x", "float32", (1, 64, 56, 56)), mkldnn=False)
    image = 64 * 56 * 56 * 4
    convolution, custom = found.timeline
    assert (convolution.operator, convolution.op_type) == ("body/0", "conv2d")
    # without oneDNN a convolution unfolds its input: 9 columns of the image's size
    assert 9 * image <= convolution.workspace_bytes < 9 * image + NEAR
    assert (custom.operator, custom.op_type) == ("demo.work", "demo.work")
    assert 3 * image <= custom.workspace_bytes < 3 * image + NEAR
    assert found.peak.operator == "body/0"
    assert found.peak.weights_bytes == 4 * (64 * 64 * 9 + 64)
    assert found.peak.alive[0].library == "libc10.so"
    assert read_timeline(Path(run.events_file)) == found
