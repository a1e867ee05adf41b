"""The profile of PyTorch by parts: figures that MKL and oneDNN gave once, and arithmetic by hand, without torch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from peakmem.dtypes import parse_dtype
from peakmem.engines.prediction import PHASES, Processor
from peakmem.engines.pytorch import PROFILE
from peakmem.engines.pytorch.heap import Heap
from peakmem.engines.pytorch.layout import lies_dense
from peakmem.engines.pytorch.network import LIFETIMES, network_of
from peakmem.engines.pytorch.onednn import AVX2, AVX512, Convolution, plan
from peakmem.engines.pytorch.products import Mkl, buffer_bytes
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Detail, Graph, Operator, Tensor

FLOAT = parse_dtype("float32")
WIDE = Processor(features=frozenset({"avx2", "avx512f", "avx512bw"}), cores=2)
SGEMM = [
    ((64, 256, 784), 484_000), ((64, 160, 784), 600_736), ((64, 191, 784), 713_824), ((64, 193, 784), 367_264),
    ((64, 1024, 784), 717_472), ((8, 256, 784), 426_656), ((385, 256, 784), 811_680), ((64, 256, 12), 90_784),
    ((64, 256, 10), 0), ((3, 64, 784), 0), ((16, 1, 16), 0), ((64, 1024, 12_544), 5_030_560),
    ((197, 384, 1152), 1_204_384), ((1000, 512, 8), 0), ((4, 512, 1000), 797_344),
]  # fmt: skip
# rows, inner, columns of a float32 torch.mm → bytes of the block that mkl_blas_def_sgemm_getbufs_bdz asked for; malloc
# traced with an LD_PRELOAD library, MKL 2024.2 in torch 2.13.0+cpu, AMD EPYC


@pytest.mark.parametrize(("sizes", "nbytes"), SGEMM)
def test_buffers_of_mkl(sizes, nbytes):
    assert buffer_bytes(*sizes) == nbytes


def test_mkl_keeps_what_it_took():
    """The same products one after the other: 484,000, nothing, nothing, 598,688, 1,106,592, nothing (traced)."""
    heap = Heap()
    mkl = Mkl(heap, 1)
    taken = []
    for columns in (784, 100, 784, 1000, 2000, 500):
        before = heap.held.get("pools", 0)
        mkl.gemm(64, 256, columns)
        taken.append(heap.held["pools"] - before)
    assert taken == [484_000, 0, 0, 598_688, 1_106_592, 0]


@pytest.mark.parametrize(
    ("threads", "sizes", "blocks"),
    [
        (2, (64, 256, 784), [451_232, 451_232]), (2, (197, 768, 192), [318_112, 313_504]),
        (2, (4, 512, 1000), [797_344]), (3, (300, 384, 1536), [1_067_680, 1_067_680]),
        (4, (300, 384, 1536), [871_072] * 3), (4, (576, 96, 49), [426_656, 426_656]),
    ],
)  # fmt: skip
def test_threads_of_mkl(threads, sizes, blocks):
    mkl = Mkl(Heap(), threads)
    mkl.gemm(*sizes)
    assert sorted(size for sizes in mkl.kept for size in sizes) == sorted(blocks)


def convolution(ic, oc, groups=1, kernel=(3, 3), stride=1, pad=1, size=28, result=28, itemsize=4, bias=False):
    return Convolution(
        2, ic, oc, groups, (size, size), (result, result), kernel, (stride, stride), (pad, pad), (1, 1), bias, itemsize
    )


IMAGE = 2 * 28 * 28 * 4
KINDS = [
    # what ONEDNN_VERBOSE says of the kernel and the layouts; bytes by hand: channels padded to whole blocks
    (convolution(3, 32), AVX512, "jit", 0, 32 * 3 * 9 * 4, 32 * IMAGE),
    # src abcd, wei Acdb16a
    (convolution(20, 33), AVX512, "jit", 32 * IMAGE, 48 * 32 * 9 * 4, 48 * IMAGE),
    # src aBcd16b padded, wei ABcd16b16a
    (convolution(15, 17), AVX2, "jit", 16 * IMAGE, 24 * 16 * 9 * 4, 24 * IMAGE),
    # with ONEDNN_MAX_CPU_ISA=AVX2: aBcd8b
    (convolution(24, 24, 24), AVX512, "jit_dw", 32 * IMAGE, 32 * 9 * 4, 32 * IMAGE),
    # wei Abcde16a
    (convolution(24, 48, 2), AVX512, "jit", 24 * IMAGE, 48 * 12 * 9 * 4, 48 * IMAGE),
    # aBcd4b
    (convolution(24, 48, 2), AVX2, "gemm", 0, 0, 48 * IMAGE),
    (convolution(16, 32, 16), AVX512, "gemm", 0, 0, 32 * IMAGE),
    # no block of channels fits
    (convolution(3, 20, kernel=(1, 1), pad=0, stride=2, result=14), AVX512, "jit_1x1", 16 * IMAGE, 32 * 16 * 4,
     32 * IMAGE // 4),
]  # fmt: skip


@pytest.mark.parametrize(("one", "lanes", "kind", "source", "weights", "result"), KINDS)
def test_kernels_and_layouts_of_onednn(one, lanes, kind, source, weights, result):
    done = plan(one, 1, lanes)
    assert (done.kind, done.source, done.weights, done.result) == (kind, source, weights, result)


def test_scratch_of_strides_and_of_unfolding():
    """Traced: 200,832 and 401,536 for 64x56x56 in steps of two on one and two threads, 57,728 for 1 of 16 groups."""
    skipping = replace(convolution(64, 128, kernel=(1, 1), pad=0, stride=2, size=56, result=28), batch=1)
    assert plan(skipping, 1, AVX512).scratch == 200_832
    assert plan(skipping, 2, AVX512).scratch == 401_536
    assert plan(replace(convolution(16, 32, 16, size=40, result=40), batch=1), 1, AVX512).scratch == 57_728


def chain(*, details=(), form="torch", scopes=("", "", "")) -> Graph:
    """Three rectifications in a row of 4 MiB each, with the second held by a module where `scopes` say so."""
    tensors = {name: Tensor(name, (1, 1 << 20), FLOAT, "input" if name == "x" else "activation") for name in "xabc"}
    tensors["w"] = Tensor("w", (1000,), FLOAT, "constant")
    operators = tuple(
        Operator(made, "relu", (given,), (made,), domain="aten", scope=scope)
        for given, made, scope in zip("xab", "abc", scopes, strict=True)
    )
    return Graph("chain", tensors, operators, ("x",), ("c",), format=form, bound=True, details=tuple(details))


@pytest.mark.parametrize(
    ("graph", "tensors"),
    [
        (chain(), 2),
        # each goes behind its reader
        (chain(scopes=("", "block/one", "block/two")), 3),
        # `block` holds a until it returns
        (chain(scopes=("", "block/one", "block/two"), form="pt2"), 2),
        # an exported program has no frames
        (chain(details=[Detail(LIFETIMES, "3 2 3")]), 3),
        # a variable holds a to the end
    ],
)
def test_how_long_results_are_held(graph, tensors):
    steady = PROFILE.predict(graph, {}, WIDE).moments[-1]
    held = {one.category: one.nbytes for one in steady.peak}
    assert held["activations"] == tensors * (4 << 20)
    assert held["inputs and outputs"] == 4 << 20
    assert held["weights"] == 4000


def test_the_phases_and_what_stays():
    done = PROFILE.predict(chain(), {"threads": 1}, WIDE)
    assert tuple(one.phase for one in done.moments) == PHASES
    assert done.moments[1].live_bytes == done.moments[2].live_bytes
    assert not done.unmodelled


def test_a_dtype_is_changed_tensor_by_tensor():
    load = PROFILE.predict(chain(), {"dtype": "bfloat16"}, WIDE).moments[0]
    weights = {one.category: one.nbytes for one in load.peak}["weights"]
    assert weights == 6000
    assert {one.category: one.nbytes for one in load.live}["weights"] == 2000


@pytest.mark.parametrize(
    "settings", [{"mode": "grad"}, {"compiled": True}, {"jit": "freeze"}, {"channels_last": True}, {"profile": True}]
)
def test_settings_without_a_rule_are_refused(settings):
    with pytest.raises(UsageError, match="is not modelled"):
        PROFILE.predict(chain(), settings, WIDE)


def test_other_processors_and_graphs_are_refused():
    with pytest.raises(UsageError, match="AVX"):
        PROFILE.predict(chain(), {}, Processor("aarch64"))
    with pytest.raises(UsageError, match="AVX"):
        PROFILE.predict(chain(), {}, Processor())
    tiled = replace(WIDE, features=WIDE.features | {"amx_tile"})
    with pytest.raises(UsageError, match="AMX"):
        PROFILE.predict(chain(), {"dtype": "bfloat16"}, tiled)
    with pytest.raises(UsageError, match="kind onnx"):
        PROFILE.predict(chain(form="onnx"), {}, WIDE)


def test_operators_of_other_libraries_and_unknown_ones():
    graph = chain()
    strange = replace(graph.operators[1], op_type="fft_fft")
    known = replace(graph, operators=(graph.operators[0], strange, graph.operators[2]))
    missing = PROFILE.predict(known, {}, WIDE).unmodelled
    assert [one.nbytes for one in missing] == [4 << 20]
    assert "fft_fft" in missing[0].what
    foreign = replace(graph.operators[1], domain="torchvision")
    with pytest.raises(GraphError, match="torchvision"):
        PROFILE.predict(replace(graph, operators=(graph.operators[0], foreign, graph.operators[2])), {}, WIDE)


def test_a_size_that_is_not_known():
    graph = chain()
    with pytest.raises(UsageError, match="no known size"):
        network_of(replace(graph, tensors={**graph.tensors, "a": Tensor("a")}), "")


def test_what_lies_row_by_row():
    swap = {"perm": (0, 2, 1)}
    assert not lies_dense("permute", swap, (1, 4, 6), True, (1, 6, 4), own=False)
    assert lies_dense("permute", swap, (1, 1, 6), True, (1, 6, 1), own=False)
    assert lies_dense("slice", {"axis": 0}, (8, 4), True, (2, 4), own=False)
    assert not lies_dense("slice", {"axis": 1}, (8, 4), True, (8, 2), own=False)
    assert not lies_dense("add", {}, (4, 6), False, (4, 6), own=True)
    assert lies_dense("linear", {}, (4, 6), False, (4, 6), own=True)
