"""LiteRT with XNNPACK, its default: which operators the delegate takes, and what the engine held."""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.engines.litert import LiteRT
from peakmem.engines.litert.delegate import choose, partition
from peakmem.engines.litert.model import read_model
from peakmem.engines.prediction import Prediction, Processor, Value
from peakmem.measuring.engine import engine
from peakmem.pipeline import load
from tests.unit.engines.tflite_random import network

FEATURES = """
avx avx2 avx_vnni avx512_bf16 avx512_bitalg avx512_vbmi2 avx512_vnni avx512_vp2intersect avx512_vpopcntdq avx512bw
avx512cd avx512dq avx512f avx512ifma avx512vbmi avx512vl f16c fma sse4_2
"""
ZEN5 = Processor("x86_64", frozenset(FEATURES.split()), 49152, 1 << 20, 32 << 20, 2)

RECORDED = """
0 107914; 2 108453; 5 180882; 6 117812; 8 111060; 10 116477; 13 125765; 15 104729; 19 123193; 20 133234; 22 107008; 23
105117; 24 111961; 26 110293; 27 123045; 28 107093; 31 101388; 32 108593; 37 122277; 38 104000; 39 102592
"""
# seed of tflite_random.network, and bytes that the interpreter holds after AllocateTensors: blocks that ai-edge-litert
# 2.3.0 has from its construction on, listed by a preloaded library, one thread, on AMD Zen 5
RECORDS = [tuple(int(word) for word in row.split()) for row in RECORDED.split(";")]


def predicted(path: Path, **settings: Value) -> Prediction:
    return LiteRT().predict(load(path), {**engine("litert").defaults(), **settings}, ZEN5)


@pytest.fixture
def file(tmp_path):
    def write(seed: int) -> Path:
        path = tmp_path / f"{seed}.tflite"
        path.write_bytes(network(seed))
        return path

    return write


@pytest.mark.parametrize(("seed", "told"), RECORDS)
def test_the_live_heap_is_that_of_the_engine(seed, told, file):
    found = predicted(file(seed))
    assert abs(found.moments[0].live_bytes - told) <= 8
    # nothing comes with the first run
    assert abs(found.moments[1].live_bytes - told) <= 8
    assert not found.unmodelled


@pytest.mark.parametrize("seed", [0, 2, 5, 13])
def test_every_operator_runs_once_and_only_chosen_ones_in_xnnpack(seed, file):
    part = read_model(file(seed)).parts[0]
    chosen = choose(part)
    for greedy in (True, False):
        subsets = partition(part, chosen.nodes, greedy=greedy)
        assert sorted(at for one in subsets for at in one.nodes) == list(range(len(part.calls)))
        assert {at for one in subsets if one.delegated for at in one.nodes} == chosen.nodes
    apart = partition(part, chosen.nodes, apart=True)
    assert all(len(one.nodes) == 1 for one in apart if one.delegated)


def test_threads_cost_their_pool_and_nothing_else(file):
    path = file(5)
    one, two, four = (predicted(path, threads=threads).moments[0].live_bytes for threads in (1, 2, 4))
    # 832 B, 256 B for each, and 368 B of libc for each that is started
    assert two - one == 832 + 2 * 256 + 368
    assert four - two == 2 * (256 + 368)


def test_a_caller_s_delegate_has_no_context_of_the_kernels(file):
    path = file(5)
    usual, latest = (predicted(path, latest_delegate_features=on).moments[0].live_bytes for on in (False, True))
    assert usual - latest == 496 + 40


def test_the_packed_weights_are_told_apart_from_the_mapped_file(file):
    path = file(5)
    moment = predicted(path).moments[0]
    assert any(row.category == "repacked weights" for row in moment.live)
    assert [row.nbytes for row in moment.outside] == [path.stat().st_size]


def test_operators_apart_take_more(file):
    path = file(5)
    together, alone = (predicted(path, disable_delegate_node_fusion=on) for on in (False, True))
    assert alone.moments[0].live_bytes > together.moments[0].live_bytes


def test_a_weight_cache_moves_packed_weights_into_a_mapped_file(file):
    path = file(5)
    plain, cached = (predicted(path, api="compiled_model", weight_cache=on) for on in (False, True))
    packed = sum(row.nbytes for row in plain.moments[0].live if row.category == "repacked weights")
    assert not any(row.category == "repacked weights" for row in cached.moments[0].live)
    assert [row.nbytes for row in cached.moments[0].outside] == [path.stat().st_size, packed]
    # the workspace of XNNPACK comes with the first run
    assert not any(row.what.startswith("tensors and operators' scratch") for row in plain.moments[0].live)
    assert any(row.what.startswith("tensors and operators' scratch") for row in plain.moments[1].live)


@pytest.mark.slow
def test_the_engine_takes_the_operators_that_the_delegate_is_said_to_take(file):
    library = pytest.importorskip("ai_edge_litert.interpreter")
    compared = 0
    for seed in range(3000, 3100):
        path = file(seed)
        interpreter = library.Interpreter(str(path), num_threads=1)
        part = read_model(path).parts[0]
        try:
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError):
            continue
        chosen = choose(part)
        steps = [row["op_name"] for row in interpreter._get_ops_details()]
        parts = sum(one.delegated for one in partition(part, chosen.nodes))
        assert steps.count("DELEGATE") == parts, seed
        compared += 1
    assert compared > 30
