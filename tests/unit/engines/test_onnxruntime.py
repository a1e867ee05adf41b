"""The profile of ONNX Runtime against what the engine says and what the counter counted.

Written models: `SessionOptions.optimized_model_filepath` of onnxruntime 1.31.1 on x86-64 with AVX-512. Heap: bytes
above the mark "import", `peakmem measure NAME.onnx --engine onnxruntime --set …` (instrumented, fixed addresses), live
after load, most in load, live and most in run 1, live and most in run 3. Networks are `peakmem zoo export NAME`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from peakmem.binding import bound
from peakmem.engines.onnxruntime import PROFILE, predict, workspace
from peakmem.engines.onnxruntime.network import Network
from peakmem.engines.onnxruntime.objects import REGISTRIES
from peakmem.engines.onnxruntime.optimise import optimise
from peakmem.engines.onnxruntime.parse import string_steps, top
from peakmem.engines.onnxruntime.plan import Event, pattern_bytes, plan
from peakmem.engines.onnxruntime.prepack import pack
from peakmem.engines.prediction import PHASES, Prediction, Processor
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph
from peakmem.pipeline import load

AVX512 = Processor(features=frozenset({"avx", "avx2", "fma", "avx512f"}))
_GRAPHS: dict[str, Graph] = {}


def network(name: str) -> Graph:
    if name not in _GRAPHS:
        _GRAPHS[name] = bound(load(name))
    return _GRAPHS[name]


def rewritten(name: str, level: str, block: int = 16) -> Network:
    made = Network(network(name))
    optimise(made, level, block)
    return made


def forecast(name: str, **settings: bool | int | str) -> Prediction:
    return predict(network(name), settings, AVX512)


WRITTEN = (
    ("squeezenet1_1", "extended", {"FusedConv": 26, "Concat": 8, "MaxPool": 3}, 52, 4941984),
    ("squeezenet1_1", "all", {"Conv": 26, "Concat": 8, "MaxPool": 3, "ReorderOutput": 1}, 52, 4958400),
    ("mobilenet_v2", "extended", {"FusedConv": 35, "Conv": 17, "Add": 10, "Gemm": 1}, 106, 13951264),
    ("mobilenet_v2", "all", {"Conv": 52, "GlobalAveragePool": 1, "ReorderOutput": 1, "Gemm": 1}, 106, 13968224),
    ("resnet18", "basic", {"Conv": 20, "Relu": 17, "Add": 8}, 42, 46738848),
    ("resnet18", "extended", {"Conv": 11, "FusedConv": 9, "Add": 8, "Relu": 8}, 42, 46738848),
    ("resnet18", "all", {"Conv": 20, "MaxPool": 1, "GlobalAveragePool": 1, "ReorderOutput": 1}, 42, 46738848),
    ("alexnet", "all", {"Conv": 5, "MaxPool": 3, "FusedGemm": 2, "ReorderOutput": 1, "Gemm": 1}, 16, 244403360),
)


@pytest.mark.parametrize(("name", "level", "operators", "weights", "nbytes"), WRITTEN)
def test_rewritten_graphs_are_what_the_engine_writes(
    name: str, level: str, operators: dict[str, int], weights: int, nbytes: int
) -> None:
    made = rewritten(name, level)
    found = Counter(node.op_type for node in made.nodes.values())
    assert {op_type: found[op_type] for op_type in operators} == operators
    assert len(made.weights()) == weights
    assert sum(value.nbytes for value in made.weights()) == nbytes


def test_branches_run_in_the_engines_order() -> None:
    # of a fire module 1.31.1 writes squeeze, expand3x3, expand1x1
    names = [node.name for node in rewritten("squeezenet1_1", "all").order()][2:6]
    assert [name.rpartition("/")[2] for name in names] == ["squeeze", "expand3x3", "expand1x1", "concat"]


MOBILENET_RUN = (
    1605632, 1605632, 802816, 4816896, 1204224, 401408, 1806336, 1806336, 451584, 100352, 602112, 602112, 150528,
    50176, 301056, 301056, 75264, 451584, 451584, 112896, 31360, 188160, 188160, 62720, 250880, 5120, 5120, 4032,
)  # fmt: skip
# what run 2 asks for in its order, from the event list with arena=off mem_pattern=off


def test_requests_of_a_run_are_the_engines() -> None:
    made = rewritten("mobilenet_v2", "all")
    events = plan(made, workspace.of(made, 1)).events
    assert tuple(event.nbytes for event in events if event.nbytes) == MOBILENET_RUN
    assert pattern_bytes(events) == 6_823_936
    # "Extended allocation by" in run 2 with arena_extend=same_as_requested


def pattern_of(*rows: tuple[str, int]) -> int:
    return pattern_bytes(tuple(Event(name, 256 * units, step) for step, (name, units) in enumerate(rows)))


def test_a_pattern_fills_the_smallest_gap() -> None:
    rows = (("a", 3), ("b", 1), ("c", 2), ("d", 1), ("a", 0), ("c", 0), ("e", 2), ("f", 3), ("g", 3))
    # by hand, in units of 256 bytes: a 0-3, b 3-4, c 4-6, d 6-7; e goes to 4, f to 0, g behind all
    assert pattern_of(*rows) == 256 * 10


def test_the_end_of_a_pattern_is_a_gap_too() -> None:
    rows = (("a", 10), ("b", 1), ("c", 3), ("c", 0), ("a", 0), ("d", 2), ("e", 11))
    # by hand: a 0-10, b 10-11, c 11-14; d goes to 11, where less is left over than at 0, and e behind it
    assert pattern_of(*rows) == 256 * 24


def test_sizes_in_a_pattern_are_multiples_of_256() -> None:
    # a DequantizeLinear of 1000 x 1024 weights and one of 1000 biases before Gemm, cut off QDQ MobileNetV3-small, with
    # optimisation=disable arena=off: run 2 asks for one block of 4100096 bytes, and run 1 for 4096000 and 4032
    events = (Event("weight", 4_096_000, 0), Event("bias", 4_032, 1))
    assert pattern_bytes(events) == 4_100_096


def test_matrices_are_packed_to_whole_16_columns() -> None:
    # event list: + 5160960, - 5120000 at the end of loading MobileNetV2; 2064384 for ResNet18; VGG16's
    # last matrix is packed first, because fused nodes come behind in number
    assert [(one.before_bytes, one.after_bytes) for one in pack(rewritten("mobilenet_v2", "all"))] == [
        (5_120_000, 5_160_960)
    ]
    assert [one.after_bytes for one in pack(rewritten("resnet18", "all"))] == [2_064_384]
    assert [one.after_bytes for one in pack(rewritten("vgg16", "all"))] == [16_515_072, 411_041_792, 67_108_864]


def test_a_long_string_doubles() -> None:
    # event list of VGG16: its weight of 411,041,792 bytes
    assert string_steps(411_041_792) == [50_000_001, 100_000_001, 200_000_001, 400_000_001, 800_000_001]
    assert string_steps(67_108_864) == [50_000_001, 100_000_001]
    assert string_steps(9_437_184) == [9_437_185]


def test_the_peak_of_loading_by_hand() -> None:
    # two weights of 60 and 10 bytes, believed at once: strings 61 + 11, then a tensor of 60 beside both
    weights = [(60, [61]), (10, [11])]
    assert top(weights, [], 70, [], 0, buffer=0).nbytes == 61 + 11 + 60
    # the reader's buffer stands beside the strings only
    assert top(weights, [], 70, [], 0, buffer=1000).nbytes == 61 + 11 + 1000
    # a computed constant: its inputs copied, its result twice for a moment
    assert top(weights, [], 70, [], 0, buffer=0, made=[(60, 60)]).nbytes == 70 + 60 + 2 * 60
    # structures that kernels bring are not there when weights become tensors
    assert top(weights, [], 70, [], 0, buffer=0, objects=100, unmade=40).nbytes == 61 + 11 + 60 + 60


COUNTED: tuple[tuple[str, dict[str, bool | int | str], tuple[int, ...]], ...] = (
    ("mobilenet_v2", {}, (16243571, 30104905, 29825388, 29836100, 29825388, 29835816)),
    ("mobilenet_v2", {"arena": False, "mem_pattern": False},
     (16241875, 30103361, 16845796, 22871048, 16845796, 22871896)),
    ("mobilenet_v2", {"optimisation": "extended"}, (16155690, 28829358, 34064299, 34076583, 34064299, 34074979)),
    ("mobilenet_v2", {"optimisation": "disable", "arena": False},
     (16641636, 21790144, 17247269, 26893685, 17247269, 28584829)),
    ("mobilenet_v2", {"prepacking": False}, (30174529, 30251329, 43756346, 43767058, 43756346, 43766774)),
    ("mobilenet_v2", {"binding": "io"}, (16243571, 30104905, 29825684, 29836708, 29825684, 29835704)),
    ("mobilenet_v2", {"arena_extend": "same_as_requested"},
     (16243587, 30104921, 25128316, 25139028, 32165540, 32175968)),
    ("resnet18", {}, (48372123, 121421364, 57628044, 57632932, 57628044, 57633248)),
    ("resnet18", {"prepacking": False}, (95094634, 121421364, 104350555, 104355443, 104350555, 104355759)),
    ("squeezenet1_1", {}, (6603462, 17800137, 15859783, 15867059, 15859783, 15866943)),
    ("squeezenet1_1", {"threads": 2}, (6652350, 17849025, 15908703, 15915979, 15908703, 15915983)),
    ("vgg16", {"arena": False}, (555020729, 1387745617, 555625538, 581316584, 555625562, 581323184)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "counted"), COUNTED)
def test_heap_is_near_the_counters(name: str, settings: dict[str, bool | int | str], counted: tuple[int, ...]) -> None:
    found = forecast(name, **settings)
    assert not found.unmodelled
    for number, moment in enumerate(found.moments):
        assert moment.live_bytes == pytest.approx(counted[2 * number], rel=0.01), moment.phase
        assert moment.peak_bytes == pytest.approx(counted[2 * number + 1], rel=0.02), moment.phase


def test_every_moment_names_what_it_holds() -> None:
    found = forecast("mobilenet_v2")
    assert tuple(moment.phase for moment in found.moments) == PHASES
    for moment in found.moments:
        assert all(one.nbytes >= 0 and one.what for one in (*moment.live, *moment.peak))
        assert moment.peak_bytes >= moment.live_bytes * 0.999
        assert moment.peak_at
    assert found.details is not None
    assert found.details["arena extended"] == 12_582_912
    assert found.details["activations at most"] == 6_021_120
    # 1.31.1's profile: "mem_bytes_requested_in_use" at most, less weights
    assert found.moments[0].live[0].nbytes > REGISTRIES


def test_the_arena_shrinks_after_each_run() -> None:
    # counted with arena_shrinkage=on: 19,012,089 live after runs
    found = forecast("mobilenet_v2", arena_shrinkage=True)
    assert found.moments[2].live_bytes == pytest.approx(19_012_089, rel=0.005)


def test_what_the_processor_has_decides_the_layout() -> None:
    # platform.cpp: blocks of 8 on any x86-64 processor, of 16 with AVX-512
    for features in (frozenset[str](), frozenset({"avx", "avx2", "fma"})):
        found = predict(network("mobilenet_v2"), {}, Processor(features=features))
        assert found.details is not None
        assert found.details["nodes in blocks"] == 54
        assert "not measured" in found.notes[-1]
    assert not predict(network("mobilenet_v2"), {}, AVX512).notes
    phone = predict(network("mobilenet_v2"), {}, Processor("aarch64"))
    assert phone.details is not None
    assert phone.details["nodes in blocks"] == 0
    assert "not measured" in phone.notes[-1]


def test_what_has_no_rule_is_said() -> None:
    assert not forecast("vit_s16").unmodelled
    graph = network("resnet18")
    last = graph.operators[-1]
    other = replace(last, op_type="Einsum", attributes={"equation": "ab,cb->ac"}, inputs=last.inputs[:2])
    found = predict(replace(graph, operators=(*graph.operators[:-1], other)), {}, AVX512).unmodelled
    # its weight of 1000 x 512 floats and its result of 1000
    assert [(one.what, one.nbytes) for one in found] == [("operator Einsum", 4 * (512_000 + 1000))]


def test_the_profile_says_what_it_reads() -> None:
    assert (PROFILE.name, PROFILE.reads) == ("onnxruntime", ("onnx",))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"optimisation": "most"}, "optimisation level"),
        ({"speed": 1}, "no setting 'speed'"),
        ({"mmap": True}, "mmap is for"),
        ({"log": True}, "memory of its own"),
        ({"threads": 0}, "counted from 1"),
        ({"model_as_bytes": True}, "hands over a file"),
        ({"arena_max_extend": 1_000_001}, "makes the engine fail"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, bool | int | str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        forecast("squeezenet1_1", **settings)


def test_other_formats_are_refused() -> None:
    graph = Graph("other", {}, (), (), (), format="tflite", bound=True)
    with pytest.raises(GraphError, match="reads ONNX"):
        predict(graph, {}, AVX512)
