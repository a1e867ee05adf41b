"""LiteRT's interpreter without XNNPACK: placing by hand, and against what the engine asked for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from peakmem.dtypes import FLOAT32
from peakmem.engines.litert import LiteRT
from peakmem.engines.litert.arena import Temporary, Tensor, introsort, plan, requested
from peakmem.engines.litert.products import blocks, eigen, shared
from peakmem.engines.litert.temporaries import nbytes_of, temporaries
from peakmem.engines.prediction import Prediction, Processor, Value
from peakmem.errors import UsageError
from peakmem.frontends.tflite.census import Body, Call, Listed, read_census
from peakmem.measuring.engine import engine
from peakmem.pipeline import load
from tests.unit.engines.tflite_random import network

RECORDED = """
0 832 832; 1 640 704; 2 3968 3968; 3 704 704; 4 1024 1536; 5 13888 17344; 6 3136 3136; 7 1984 1984; 8 896 896; 9 704
1024; 10 1024 1024; 11 3584 7232; 12 2752 3904; 13 2560 2560; 14 5696 5696; 15 576 576; 17 1536 1536; 19 2240 2240;
20 20800 20800; 21 4288 4672; 22 832 832; 23 1024 1024; 24 2816 2816; 25 768 768; 26 960 960; 27 5312 5312; 28 448
448; 29 1600 1600; 30 1792 1792; 31 448 448; 32 576 576; 33 6784 9088; 34 1024 1024; 35 512 512; 36 576 576; 37 1408
1408; 38 2048 3200; 39 704 704
"""
# seed of tflite_random.network, then bytes of both arenas together with the reference and with the built-in kernels:
# what AllocateTensors of ai-edge-litert 2.3.0 asks of aligned_alloc(64, …), listed by a preloaded library
RECORDS = [tuple(int(word) for word in row.split()) for row in RECORDED.split(";")]

RECORDED_LIVE = """
0 builtin 98554 99090; 0 reference 94772 94812; 2 builtin 102765 103261; 2 reference 95879 95879; 3 builtin 100633
101169; 3 reference 95827 95867; 4 builtin 103573 108949; 4 reference 99195 99691; 5 builtin 127446 128022; 5
reference 113180 113260; 6 builtin 104788 105284; 6 reference 100922 100922; 7 builtin 106717 112805; 7 reference
101315 101355; 8 builtin 99849 100385; 8 reference 95043 95083; 9 builtin 98760 103656; 9 reference 93974 93974; 10
builtin 103641 103681; 10 reference 98835 98875; 11 builtin 124597 145693; 11 reference 108471 108511; 12 builtin
113676 121772; 12 reference 101738 101738; 13 builtin 106222 109718; 13 reference 101416 101952; 14 builtin 104005
104005; 14 reference 98175 98175; 15 builtin 97229 97765; 15 reference 93107 93147; 19 builtin 104377 104913; 19
reference 100595 100635; 20 builtin 118942 119478; 20 reference 115076 115116; 22 builtin 97488 97984; 22 reference
93210 93210; 23 builtin 98601 98601; 23 reference 94819 94819; 24 builtin 99785 100321; 24 reference 96003 96043; 25
builtin 100704 104576; 25 reference 96350 96350; 26 builtin 99733 100229; 26 reference 95951 96447; 27 builtin 104553
105049; 27 reference 100771 101267; 28 builtin 99550 102726; 28 reference 94744 95280
"""
# seed, kernels, and bytes that the interpreter holds after AllocateTensors and after the first run: blocks that
# ai-edge-litert 2.3.0 has from its construction on, listed by a preloaded library, one thread
LIVE = [
    (int(seed), kernels, int(load), int(run))
    for seed, kernels, load, run in (row.split() for row in RECORDED_LIVE.split(";"))
]


def predicted(path: Path, kernels: str, **settings: Value) -> Prediction:
    chosen = {**engine("litert").defaults(), "kernels": kernels, **settings}
    return LiteRT().predict(load(path), chosen, Processor())


@pytest.fixture
def file(tmp_path):
    def write(data: bytes) -> Path:
        path = tmp_path / "net.tflite"
        path.write_bytes(data)
        return path

    return write


# -- by hand -----------------------------------------------------------------------------


def test_inputs_and_outputs_stay_and_others_share_by_size():
    # x (100) → a (300) → b (200) → y (100); x lasts, so it lies at 0; a and b follow by size, each at a multiple of 64.
    tensors = [Tensor(100), Tensor(300), Tensor(200), Tensor(100)]
    calls = [("CONV_2D", (0,), (1,), ()), ("CONV_2D", (1,), (2,), ()), ("CONV_2D", (2,), (3,), ())]
    found = plan(tensors, calls, (0,), (3,))
    assert found.offsets == {0: 0, 1: 128, 2: 448, 3: 128}
    # y is made when a is gone
    assert found.high_water == 448 + 200
    assert found.lower_bound == 100 + 300 + 200
    assert requested(648) == 768  # 648 + 63 = 711, rounded up to a multiple of 64
    assert requested(0) == 0


def test_a_sum_takes_the_bytes_of_an_input_that_nobody_else_reads():
    tensors = [Tensor(64) for _ in range(4)]
    calls = [("RELU", (0,), (1,), ()), ("ADD", (1, 1), (2,), ()), ("RELU", (2,), (3,), ())]
    assert plan(tensors, calls, (0,), (3,)).shared == {}  # read twice by the ADD itself
    calls = [("RELU", (0,), (1,), ()), ("ADD", (1, 0), (2,), ()), ("RELU", (2,), (3,), ())]
    assert plan(tensors, calls, (0,), (3,)).shared == {2: 1}
    assert plan(tensors, calls, (0,), (3,), preserve=True).shared == {}
    calls = [("RELU", (0,), (1,), ()), ("RESHAPE", (1,), (2,), ()), ("ADD", (1, 2), (3,), ())]
    assert plan(tensors, calls, (0,), (3,)).shared == {2: 1}  # a view may be read beside its source


def test_temporaries_live_for_one_operator_and_lasting_ones_lie_elsewhere():
    tensors = [Tensor(64), Tensor(64), Tensor(64)]
    calls = [
        ("CONV_2D", (0,), (1,), (Temporary(640),)),
        ("CONV_2D", (1,), (2,), (Temporary(128, persistent=True), Temporary(1000, heap=True))),
    ]
    found = plan(tensors, calls, (0,), (2,))
    assert (found.high_water, found.persistent, found.heap) == (64 + 640 + 64, 128, 1000)
    assert (found.workspace, found.lower_bound) == (640, 768)


@pytest.mark.parametrize("seed", range(30))
def test_no_two_tensors_of_the_same_time_overlap(seed):
    chance = random.Random(seed)
    tensors, calls = [Tensor(64 * chance.randint(1, 9) - chance.randint(0, 63))], []
    for _ in range(chance.randint(1, 25)):
        reads = [chance.randrange(len(tensors)) for _ in range(chance.randint(1, 2))]
        tensors.append(Tensor(64 * chance.randint(1, 9) - chance.randint(0, 63)))
        own = [Temporary(chance.randint(1, 300)) for _ in range(chance.randint(0, 2))]
        calls.append(("CONV_2D", reads, [len(tensors) - 1], own))
    last = len(tensors) - 1
    found = plan(tensors, calls, (0,), (last,))
    ends = {at: max((step for step, call in enumerate(calls) if at in call[1]), default=99) for at in range(last)}
    lives = {at: (at - 1, ends[at]) for at in range(1, last)} | {0: (0, 99), last: (last - 1, 99)}
    for one in lives:
        assert found.offsets[one] % 64 == 0
        for two in lives:
            alive = lives[one][0] <= lives[two][1] and lives[two][0] <= lives[one][1]
            if one < two and alive:
                low, high = sorted((one, two), key=lambda at: found.offsets[at])
                assert found.offsets[low] + tensors[low].nbytes <= found.offsets[high]
    assert found.lower_bound <= found.high_water


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 40, 300])
def test_the_sort_sorts(count):
    chance = random.Random(count)
    values = list(range(count))
    keys = {value: chance.randint(0, 5) for value in values}
    found = introsort(values, keys.__getitem__)
    assert sorted(found) == values
    assert [keys[value] for value in found] == sorted(keys.values())


@pytest.mark.parametrize(
    ("product", "threads", "told"),
    [
        # resnet18: 8519680 = 2 slices · 320 deep · 4 B · (64 channels + 17 blocks of 192 pixels), and 64 B of Eigen's
        ((64, 3136, 576), 4, 8519744),
        # two threads pack for themselves: 17 blocks are more than 16; a block of 192 · 320 floats for each
        ((64, 3136, 576), 2, 8519744 + 2 * 192 * 320 * 4 + 64),
        # all 147 deep at once, 30 blocks of 424 pixels
        ((64, 12544, 147), 4, 7518016),
        ((128, 784, 1152), 4, 2785344),
        ((256, 196, 128), 4, 237632),
        # mobilenet_v1: threads share 6 blocks of 192 channels, beside 4 blocks of 16 pixels
        ((1024, 49, 1024), 4, 3113024),
    ],
)
def test_blocks_that_threads_share_are_those_that_eigen_asked_for(product, threads, told):
    assert shared(*product, threads, Processor("x86_64", frozenset(), 49152, 1 << 20, 32 << 20)) == told


# -- whole files -------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "reference", "builtin"), RECORDS)
def test_the_arenas_are_those_that_the_engine_asked_for(seed, reference, builtin, file):
    path = file(network(seed))
    for kernels, told in (("reference", reference), ("builtin", builtin)):
        found = predicted(path, kernels)
        if not any(row.what.rpartition("_")[2].isdecimal() for row in found.unmodelled):
            # each operator has its rule
            assert found.details["arena"] + found.details["persistent arena"] == told


def test_what_is_not_modelled_is_refused_or_listed(file):
    path = file(network(0))
    with pytest.raises(UsageError, match="kernels=other"):
        predicted(path, "other")
    found = predicted(path, "reference", ynnpack=True)
    assert "ynnpack=True" in [row.what for row in found.unmodelled]
    assert not predicted(path, "reference").unmodelled


def test_a_file_in_memory_is_counted_and_a_mapped_one_lies_outside(file):
    path = file(network(0))
    mapped, read = predicted(path, "reference"), predicted(path, "reference", model_as_bytes=True)
    nbytes = path.stat().st_size
    for one, two in zip(mapped.moments, read.moments, strict=True):
        assert [row.nbytes for row in one.outside] == [nbytes]
        assert not two.outside
        assert two.live_bytes - one.live_bytes == nbytes + 33


def test_a_compiled_model_has_buffers_of_its_own_and_the_arena_from_the_first_run_on(file):
    path = file(network(0))
    body = read_census(path).bodies[0]
    ports = sum(nbytes_of(body.tensors[at]) for at in (*body.inputs, *body.outputs))
    found = predicted(path, "builtin", api="compiled_model")
    before, after = found.moments[0].live, found.moments[1].live
    assert not any(row.category == "activations" for row in before)
    assert [row.nbytes for row in after if row.what == "buffers of inputs and outputs"] == [ports]
    # it has no kernels of reference
    assert predicted(path, "reference", api="compiled_model").moments == found.moments


def test_ruy_keeps_what_it_packed_first_in_a_larger_block(file):
    # the fully connected layer of seed 28 is 3 deep: the kernel for one column takes 8 and more
    first, steady = predicted(file(network(28)), "builtin").moments[1:]
    assert any(row.what.startswith("matrices that ruy") for row in first.live)
    assert first.live == steady.live
    assert first.peak_bytes > steady.peak_bytes


def test_all_tensors_kept_take_more(file):
    path = file(network(0))
    less, more = (predicted(path, "reference", preserve_all_tensors=kept) for kept in (False, True))
    assert more.details["high water"] > less.details["high water"]


@pytest.mark.parametrize(("seed", "kernels", "load", "run"), LIVE)
def test_the_live_heap_is_that_of_the_engine(seed, kernels, load, run, file):
    found = predicted(file(network(seed)), kernels)
    assert abs(found.moments[0].live_bytes - load) <= 8
    # ruy's own objects differ by what it has run before
    assert abs(found.moments[1].live_bytes - run) <= (1000 if kernels == "builtin" else 8)


def test_a_convolution_of_several_threads_keeps_its_weights_turned():
    # 8·3·3·4 floats; with one thread: columns of 3·3·4 floats for 5·5 pixels
    body = Body(
        (
            Listed("x", (1, 5, 5, 4), FLOAT32, False, False, 0, 0),
            Listed("w", (8, 3, 3, 4), FLOAT32, True, False, 0, 0),
            Listed("y", (1, 5, 5, 8), FLOAT32, False, False, 0, 0),
        ),
        (Call("tflite", "CONV_2D", (0, 1, -1), (2,), (), {"strides": (1, 1), "dilations": (1, 1)}),),
        (0,),
        (2,),
    )
    (call,) = body.calls
    assert temporaries(call, body, reference=False) == [Temporary(25 * 36 * 4)]
    assert temporaries(call, body, reference=False, threads=2) == [Temporary(8 * 36 * 4, persistent=True)]
    assert temporaries(call, body, reference=True, threads=2) == []


def test_blocks_of_a_small_product_lie_on_the_stack():
    # 64 × 64 by 64 × 64 floats: rows take 16384 B of the first cache, 128 B are spare; 16256 / 256 = 63 columns fit, 60
    # in fours; 4 of 64 would be left, so both halves take 60 - 4·((60 - 4) // (4·2)) = 32
    assert blocks(64, 64, 64, 32768, 1 << 20) == (64, 32, 64)
    # 16 KiB and 8 KiB; the stack takes 128 KiB
    assert eigen(64, 64, 64, 32768, 1 << 20) == 0
    # a product with a single column packs nothing
    assert eigen(1000, 1, 4096, 32768, 1 << 20) == 0
    # 40 × 40: below 48 nothing is split
    assert blocks(40, 40, 40, 32768, 1 << 20) == (40, 40, 40)


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["reference", "builtin"])
def test_every_tensor_lies_where_the_engine_puts_it(kernels, file):
    library = pytest.importorskip("ai_edge_litert.interpreter")
    from peakmem.engines.litert.temporaries import NoRule

    kinds = library.OpResolverType
    kind = kinds.BUILTIN_REF if kernels == "reference" else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    compared = 0
    for seed in range(2000, 2120):
        path = file(network(seed))
        interpreter = library.Interpreter(str(path), experimental_op_resolver_type=kind, num_threads=1)
        body = read_census(path).bodies[0]
        try:
            interpreter.allocate_tensors()
            own = [temporaries(call, body, reference=kernels == "reference") for call in body.calls]
        except (RuntimeError, NoRule):
            continue
        tensors = [Tensor(0 if one.stored else nbytes_of(one), one.stored, one.variable) for one in body.tensors]
        calls = [(call.op_type, call.inputs, call.outputs, one) for call, one in zip(body.calls, own, strict=True)]
        found = plan(tensors, calls, body.inputs, body.outputs)
        mine = [at for at in found.offsets if at < len(tensors)]
        there = {at: interpreter.tensor(at)().ctypes.data for at in mine}
        base = there[mine[0]] - found.offsets[mine[0]]
        assert {at: there[at] - base for at in mine} == {at: found.offsets[at] for at in mine}, seed
        compared += 1
    assert compared > 60
