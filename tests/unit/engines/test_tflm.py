"""The arena of TensorFlow Lite for Microcontrollers: planner, tail, smallest arena; against the engine's account."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from peakmem.engines.prediction import Prediction, Processor, Value
from peakmem.engines.tflm import Tflm
from peakmem.engines.tflm.planner import Buffer, extent, greedy, linear, lower_bound
from peakmem.errors import GraphError, UsageError
from peakmem.measuring.engine import engine
from peakmem.pipeline import load
from tests.unit.engines.tflite_random import network
from tests.unit.frontends import tflite_files as made
from tests.unit.frontends.tflite_files import Table

RECORDED = """
0 2176 1632 3808; 1 2112 2000 4112; 2 3328 1536 4864; 3 336 1600 2400; 4 2176 2848 5024; 5 11680 3664 15344;
6 2304 2288 4592; 7 912 3456 5024; 8 480 1728 2432; 9 720 1760 2480; 10 480 2400 3744; 11 8768 3056 11824;
12 8720 1664 10384; 13 2352 2960 5312; 14 1968 1760 3728; 15 112 1616 2304; 17 2304 2128 4432; 19 1552 2576 4128;
20 12960 1744 14704; 22 512 1488 2208; 23 2256 1472 3728; 24 2256 1808 4064; 25 576 2192 2944; 26 2240 1968 4208;
27 4256 1904 6160; 29 624 1824 2544; 30 736 3200 4704; 31 192 1552 2096; 32 2096 1888 3984; 33 6208 2320 8528;
34 544 2000 2960; 35 2112 1760 3872; 36 192 1664 2352; 37 2256 3248 5504; 38 992 1296 2288; 39 1120 1728 2848
"""
# seed of tflite_random.network, then head, tail and smallest arena as tflite-micro 0.dev20261023182759 says: the first
# two from print_allocations in an arena of 1 MiB, the last by bisection over arenas in steps of 16 bytes
RECORDS = [tuple(int(word) for word in row.split()) for row in RECORDED.split(";")]


def predicted(path: Path, processor: Processor | None = None, **settings: Value) -> Prediction:
    chosen = {**engine("tflm").defaults(), **settings}
    return Tflm().predict(load(path), chosen, processor or Processor())


@pytest.fixture
def file(tmp_path):
    def write(data: bytes) -> Path:
        path = tmp_path / "net.tflite"
        path.write_bytes(data)
        return path

    return write


# -- the planner -------------------------------------------------------------------------


def test_of_equal_buffers_the_last_is_placed_first():
    # Two of 32 bytes at the same time: the later one gets offset 0 (the ids are collected from the tail).
    assert greedy([Buffer(32, 0, 1), Buffer(32, 0, 1), Buffer(48, 0, 1)]) == [80, 48, 0]


def test_a_gap_between_buffers_of_the_same_time_is_used():
    # 64 at 0 in steps 0-3; 48 behind it in 0-1; 32 in 2-3 fits at 64 again; 16 in 1-2 must clear both.
    buffers = [Buffer(64, 0, 3), Buffer(48, 0, 1), Buffer(32, 2, 3), Buffer(16, 1, 2)]
    assert greedy(buffers) == [0, 64, 64, 112]
    assert extent(buffers, greedy(buffers)) == 128
    assert lower_bound(buffers) == (128, 1)
    assert linear(buffers) == [0, 64, 112, 144]


def test_what_is_planned_ahead_is_placed_first_and_where_it_was_planned():
    buffers = [Buffer(64, 0, 1), Buffer(16, 0, 1, 32), Buffer(16, 0, 1)]
    assert greedy(buffers) == [48, 32, 0]


@pytest.mark.parametrize("seed", range(40))
def test_no_two_buffers_of_the_same_time_overlap_and_no_plan_is_below_the_bound(seed):
    chance = random.Random(seed)
    buffers = []
    for _ in range(chance.randint(1, 30)):
        first = chance.randint(0, 9)
        buffers.append(Buffer(16 * chance.randint(1, 9), first, first + chance.randint(0, 4)))
    offsets = greedy(buffers)
    for at, one in enumerate(buffers):
        for other in range(at):
            two = buffers[other]
            if one.first <= two.last and two.first <= one.last:
                low, high = (at, other) if offsets[at] < offsets[other] else (other, at)
                assert offsets[low] + buffers[low].nbytes <= offsets[high]
    alive = [sum(one.nbytes for one in buffers if one.first <= time <= one.last) for time in range(15)]
    assert lower_bound(buffers) == (max(alive), alive.index(max(alive)))
    assert extent(buffers, offsets) >= max(alive)


# -- whole files -------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "head", "tail", "smallest"), RECORDS)
def test_head_tail_and_smallest_arena_are_the_engines(seed, head, tail, smallest, file):
    prediction = predicted(file(network(seed)), arena=1 << 20)
    found = prediction.details
    assert (found["head"], found["tail"], found["smallest arena"]) == (head, tail, smallest)
    assert found["total"] == head + tail
    overlapping = [note for note in prediction.notes if "overlap" in note]
    assert bool(overlapping) == (found["lower bound"] > head) == (seed in (14, 20))
    # whose random plans put tensors that live at the same time on the same bytes
    assert all(one.nbytes > 0 for moment in prediction.moments for one in moment.peak)


def test_a_process_holds_the_whole_arena_and_the_file(file):
    data = network(0)
    found = predicted(file(data))
    assert [one.phase for one in found.moments] == ["load", "run 1", "steady"]
    load_live = found.moments[0].live_bytes
    # the binding asks for ten times the file; beside it stand the file and its own 14 KiB
    assert load_live - 11 * len(data) == 14048 + 33
    in_arena = sum(one.nbytes for one in found.moments[0].live if one.category not in ("file",)) - 14048
    assert in_arena == 10 * len(data)
    assert found.unmodelled == ()
    assert "smallest arena is 3,808 B" in found.notes[1]


def test_an_arena_too_small_is_refused_with_the_smallest(file):
    path = file(network(3))
    assert predicted(path, arena=2400).details["smallest arena"] == 2400
    with pytest.raises(UsageError, match=r"--set arena=2400"):
        predicted(path, arena=2384)


def test_all_tensors_preserved_stand_one_behind_the_other(file):
    # x of 4 numbers, y = x + x, z = y + y: three times 16 bytes, of which two live at once
    tensors = [made.tensor(name, (1, 4)) for name in "xyz"]
    calls = [made.operator(0, (at, at), (at + 1,), 11) for at in (0, 1)]
    path = file(made.model([made.subgraph(tensors, (0,), (2,), calls)], [made.code(made.ADD)]))
    assert predicted(path, arena=1 << 16, interpreter="preserve_all_tensors").details["head"] == 48
    assert predicted(path, arena=1 << 16).details["head"] == 32
    with pytest.raises(GraphError, match="planned ahead"):
        predicted(file(network(0)), interpreter="preserve_all_tensors")


def test_other_pointers_and_other_files_are_refused(file, tmp_path):
    path = file(network(0))
    with pytest.raises(UsageError, match="armv7"):
        predicted(path, Processor(architecture="armv7"))
    graph = load(path)
    with pytest.raises(UsageError, match=r"\.tflite"):
        Tflm().predict(replace(graph, source=str(tmp_path / "gone.tflite")), {}, Processor())
    name = graph.inputs[0]
    other = replace(graph.tensors[name], shape=(2, *graph.tensors[name].shape[1:]))
    with pytest.raises(UsageError, match="shapes of the file"):
        Tflm().predict(replace(graph, tensors={**graph.tensors, name: other}), {}, Processor())


def test_operators_the_build_lacks_are_refused_and_custom_ones_without_rule_named(file):
    tensors = [made.tensor("x", (1, 4)), made.tensor("y", (1, 4))]

    def one(code: Table, kind: int = 0) -> bytes:
        return made.model([made.subgraph(tensors, (0,), (1,), [made.operator(0, (0,), (1,), kind)])], [code])

    with pytest.raises(GraphError, match="no operator GELU"):
        predicted(file(one(made.code(150))))  # GELU
    with pytest.raises(GraphError, match="no operator Mine"):
        predicted(file(one(made.code(made.CUSTOM, "Mine"))))
    found = predicted(file(one(made.code(made.CUSTOM, "SignalWindow"))), arena=1 << 16)
    assert [row.what for row in found.unmodelled] == ["SignalWindow_0"]


def test_weights_of_another_type_and_too_many_inputs_are_refused_as_the_engine_does(file):
    # "Input type: FLOAT32 with filter type: INT8 not supported." of fully_connected.cc
    with pytest.raises(GraphError, match=r"FULLY_CONNECTED_3.*float32 activations with int8 weights"):
        predicted(file(made.network()))
    tensors = [made.tensor(f"t{at}", (1, 2 if at < 11 else 22)) for at in range(12)]
    join = made.operator(0, tuple(range(11)), (11,), 10, {0: ("i", 1)})
    graph = made.subgraph(tensors, tuple(range(11)), (11,), [join])
    with pytest.raises(GraphError, match="10 tensors at most"):
        predicted(file(made.model([graph], [made.code(2)])))


def test_settings_without_a_rule_are_listed(file):
    found = predicted(file(network(0)), python_malloc="malloc", sort_of_thing=3)
    assert [row.what for row in found.unmodelled] == ["python_malloc=malloc", "sort_of_thing=3"]


# -- the engine itself -------------------------------------------------------------------


def _told(data: bytes, arena: int) -> dict[str, int] | None:
    """The engine's account; None where it refuses. In a child, because some networks end the process."""
    from tflite_micro.python.tflite_micro import runtime

    from peakmem.measuring.runners.tflm import allocations

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            runtime.Interpreter.from_bytes(data, arena_size=arena).print_allocations()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as pipe:
        output = pipe.read()
    return None if os.waitpid(child, 0)[1] else {name: int(value) for name, value in allocations(output)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("block", range(4))
def test_random_networks_against_the_engine(block, file):
    pytest.importorskip("tflite_micro")
    compared = 0
    for seed in range(1000 + 50 * block, 1050 + 50 * block):
        data = network(seed)
        told = _told(data, 1 << 20)
        if told is None:
            continue
        found = predicted(file(data), arena=1 << 20).details
        assert {name: found[name] for name in told} == told, seed
        assert _told(data, found["smallest arena"]) is not None, seed
        compared += 1
    assert compared > 30


@pytest.mark.slow
def test_a_measured_process_holds_what_is_predicted(file):
    pytest.importorskip("tflite_micro")
    from peakmem.measuring.harness import order_for, run_process

    path = file(network(5))
    run = run_process(order_for(engine("tflm"), str(path), instrumented=True))
    assert run.outcome.status == "ok", run
    counted = {mark.phase: mark.counted for mark in run.marks}
    base = counted["import"].live_bytes
    for moment in predicted(path).moments:
        there = counted["run 3" if moment.phase == "steady" else moment.phase]
        assert there.live_bytes - base == pytest.approx(moment.live_bytes, abs=512)
        assert there.peak_bytes - base == pytest.approx(moment.peak_bytes, abs=512)
