"""The profile of MNN against getSessionInfo and the counter: small networks made in code, measured once.

The figures in SESSION and HEAP are the engine's own: MNN 3.6.1 of PyPI on an x86-64 with AVX2 (and AVX-512, which the
wheel does not use), `Interpreter.getSessionInfo(session, 0)` and the counted bytes above the mark "import" after
createSession, its peak, and after the first run; one process each, they repeat to the byte.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.binding import bound
from peakmem.engines.mnn import PROFILE
from peakmem.engines.mnn.allocators import Defer, Eager, Recursive
from peakmem.engines.mnn.convolution import _best_unit
from peakmem.engines.mnn.kernels import HEADER, divided, kernels
from peakmem.engines.mnn.values import Commands
from peakmem.engines.prediction import PHASES, Processor
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph
from peakmem.pipeline import load
from tests.unit.frontends import mnn_files as made
from tests.unit.frontends.tflite_files import Table

AVX2 = Processor(features=frozenset({"avx", "avx2", "fma", "avx512f"}), l2_bytes=1 << 20, cores=2)
NETWORKS = {"network": made.network(), "network 56": made.network(56), "branches": made.branches()}
SETTINGS = {
    "": {}, "2 threads": {"threads": 2}, "3 threads": {"threads": 3}, "level 0": {"winograd_level": 0},
    "level 1": {"winograd_level": 1}, "eager": {"allocator": "eager"},
    "eager 2": {"allocator": "eager", "threads": 2},
}  # fmt: skip
SESSION = {
    "network": (249376, 365728, 482080, 135808, 181920, 257056, 368800),
    "network 56": (452128, 568480, 684832, 335296, 384672, 456352, 596896),
    "branches": (891168, 1409312, 1927456, 653776, 670752, 1428384, 1982496),
}
# by network, then in the order of SETTINGS
HEAP = {
    "network": (301960, 302072, 314760),
    "network 56": (504729, 504841, 542873),
    "branches": (954366, 954478, 968702),
}
# at defaults: live and peak after loading, live after the first run
MODULE = {"network": (48149, 338797), "branches": (54775, 1057719)}
MODULE_AT_LOAD = {"network": (325381, 338773), "branches": (1042799, 1057727)}
# api=module, and with shape_mutable=off: live after loading and after the first run
STRUCTURES = 3000
# bytes by which the slopes of structures may be off in networks of eight operators


def network(folder: Path, data: bytes) -> Graph:
    path = folder / "net.mnn"
    path.write_bytes(data)
    return bound(load(path))


@pytest.mark.parametrize("name", NETWORKS)
def test_session_memory_is_the_engines_to_the_byte(tmp_path, name):
    graph = network(tmp_path, NETWORKS[name])
    found = [PROFILE.predict(graph, chosen, AVX2).details["session memory"] for chosen in SETTINGS.values()]
    assert tuple(found) == SESSION[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_heap_is_the_counters_but_for_structures(tmp_path, name):
    prediction = PROFILE.predict(network(tmp_path, NETWORKS[name]), {}, AVX2)
    loaded, first, _ = prediction.moments
    for predicted, counted in zip((loaded.live_bytes, loaded.peak_bytes, first.live_bytes), HEAP[name], strict=True):
        assert abs(predicted - counted) <= STRUCTURES
    assert prediction.kind == "estimate"
    assert not prediction.unmodelled
    assert tuple(moment.phase for moment in prediction.moments) == PHASES


@pytest.mark.parametrize("name", MODULE)
def test_a_module_plans_at_its_first_run_unless_its_shapes_are_fixed(tmp_path, name):
    graph = network(tmp_path, NETWORKS[name])
    for chosen, counted in (({}, MODULE), ({"shape_mutable": False}, MODULE_AT_LOAD)):
        moments = PROFILE.predict(graph, {"api": "module", **chosen}, AVX2).moments
        assert abs(moments[0].live_bytes - counted[name][0]) <= STRUCTURES
        assert abs(moments[1].live_bytes - counted[name][1]) <= STRUCTURES


def test_more_threads_hold_more_and_never_less_than_one(tmp_path):
    graph = network(tmp_path, NETWORKS["branches"])
    held = [PROFILE.predict(graph, {"threads": count}, AVX2).moments[1].peak_bytes for count in range(1, 9)]
    assert held == sorted(held)


def test_reading_is_the_peak_of_a_file_without_much_to_do(tmp_path):
    """The file, blocks of 4096 and 72 bytes with an entry each in a list that doubles, and the file again."""
    operators = [made.given("x", 0, (1, 4, 2, 2)), made.convert("c", 0, 1, made.NCHW, made.NC4HW4)]
    operators += [made.convolution("w", 1, 2, 4, 50_000, 1)]
    graph = network(tmp_path, made.file(operators, ["x", "x4", "y"], ["y"]))
    size = (tmp_path / "net.mnn").stat().st_size
    blocks = size // 4096 + 1
    loaded = PROFILE.predict(graph, {}, AVX2).moments[0]
    assert loaded.peak_at != "the end" or loaded.peak_bytes == loaded.live_bytes
    assert loaded.peak_bytes >= 2 * size + blocks * 72 + 16 * blocks


# -- parts -------------------------------------------------------------------------------


def test_the_planner_splits_joins_and_widens():
    """source/core/BufferAllocator.cpp by hand, in units of 64 bytes."""
    planner = Defer()
    first, second = planner.alloc(640), planner.alloc(128)
    assert planner.total == 768
    planner.free(first)
    third = planner.alloc(64)
    # cut from the first's place
    assert planner.total == 768
    planner.free(third)
    # joined with the rest of it again: 640 free
    wide = planner.alloc(1000)
    # larger than what is free: the chunk is widened to 1024
    assert planner.total == 1024 + 128
    planner.free(wide)
    planner.free(second)
    assert planner.total == 1152
    assert len(planner.free_chunks) == 1


def test_behind_a_barrier_nothing_is_given_out_again():
    planner = Defer()
    planner.free(planner.alloc(64))
    planner.begin()
    planner.free(planner.alloc(64))
    planner.free(planner.alloc(64))
    assert planner.total == 128
    planner.end()
    planner.free(planner.alloc(64))
    assert planner.total == 128


def test_static_memory_is_taken_again_and_given_back_whole():
    static = Eager()
    cache = static.alloc(1000)
    static.free(cache)
    part = static.alloc(100)
    # from the freed block, in whole units of 64
    assert (static.total, static.live) == (1000, 1000 + HEADER)
    static.collect()
    assert static.total == 1000
    static.free(part)
    static.collect()
    assert (static.total, static.live) == (0, 0)
    assert static.peak == 1000 + HEADER


def test_the_eager_planner_takes_from_static_memory():
    static = Eager()
    planner = Recursive(static)
    planner.free(planner.alloc(640))
    planner.alloc(64)
    assert (static.total, planner.total) == (640, 0)


def test_rows_are_shared_as_the_engine_does():
    """computeDivideSizes: steps of the quotient rounded up; the last thread takes what is left, or nothing."""
    assert divided(10, 4) == [3, 3, 3, 1]
    assert divided(3, 4) == [1, 1, 1, 0]


def test_winograd_tiles():
    """ConvolutionPackWinograd::bestWinogradUnit by hand: at 4x4 three of the tiles pay, none where one row is left."""
    assert _best_unit(3, 64, 64, (56, 56), 1, 3) == 6
    assert _best_unit(3, 64, 64, (56, 56), 1, 1) == 2
    assert _best_unit(3, 64, 64, (2, 2), 1, 3) == 2
    assert _best_unit(9, 64, 64, (56, 56), 1, 3) == 0


def test_blocks_follow_the_processor():
    assert kernels(AVX2, 1).pack == 8
    assert kernels(Processor(), 1).pack == 4
    assert kernels(Processor("aarch64"), 1).columns == 8


def test_views_become_rasters_where_they_are_read(tmp_path):
    commands = Commands(network(tmp_path, NETWORKS["branches"]), 8)
    assert [one.op_type for one in commands.commands] == [
        "Raster", "Convolution", "Convolution", "Raster", "Convolution", "Raster", "Softmax", "Raster",
    ]  # fmt: skip


# -- what is refused or stated -----------------------------------------------------------


def test_operators_without_a_rule_are_named(tmp_path):
    operators = [made.given("x", 0, (1, 8, 4, 4)), made.op(2, "which", (0,), (1,)), made.op(made.RELU, "r", (1,), (2,))]
    prediction = PROFILE.predict(network(tmp_path, made.file(operators, ["x", "a", "y"], ["y"])), {}, AVX2)
    assert prediction.kind == "lower bound"
    assert prediction.unmodelled[0].what == "operator ArgMax"
    assert prediction.unmodelled[0].nbytes == 8 * 4 * 4 * 4


@pytest.mark.parametrize(
    "chosen",
    [
        {"api": "none"},
        {"api": "module", "rearrange": True},
        {"threads": 0},
        {"winograd_level": 9},
        {"shape_mutable": False},
        {"nothing": 1},
    ],
    ids=str,
)
def test_settings_that_are_not_modelled_are_refused(tmp_path, chosen):
    with pytest.raises(UsageError):
        PROFILE.predict(network(tmp_path, NETWORKS["network"]), chosen, AVX2)


def test_graphs_that_a_session_rejects(tmp_path):
    with pytest.raises(GraphError, match=r"\.mnn"):
        PROFILE.predict(bound(load("mobilenet_v1")), {}, AVX2)
    loop = made.op(made.WHILE, "loop", (0,), (1,), made.WHILE_PARAM, Table({0: "condition"}))
    graph = load_only(tmp_path, made.file([made.given("x", 0, (1, 4)), loop], ["x", "y"], ["y"]))
    with pytest.raises(GraphError, match="body"):
        PROFILE.predict(graph, {}, AVX2)


def load_only(folder: Path, data: bytes) -> Graph:
    path = folder / "loop.mnn"
    path.write_bytes(data)
    return load(path)


def test_other_processors_are_stated_as_not_measured(tmp_path):
    prediction = PROFILE.predict(network(tmp_path, NETWORKS["network"]), {}, Processor("aarch64"))
    assert [one.what for one in prediction.unmodelled] == ["processor aarch64"]


# -- the engine itself -------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_the_engine_says_so_today(tmp_path, name):
    library = pytest.importorskip("MNN")
    path = tmp_path / "net.mnn"
    path.write_bytes(NETWORKS[name])
    cases = zip(SETTINGS.values(), SESSION[name], strict=True)
    # the pool of threads is as large as the first session asked
    for chosen, told in sorted(cases, key=lambda case: -case[0].get("threads", 1)):
        net = library.Interpreter(str(path))
        net.setSessionHint(2, int(chosen.get("allocator") == "eager"))
        net.setSessionHint(3, chosen.get("winograd_level", 3))
        session = net.createSession({"backend": "CPU", "numThread": chosen.get("threads", 1)})
        assert round(float(net.getSessionInfo(session, 0)) * 2**20) == pytest.approx(told, abs=1)
