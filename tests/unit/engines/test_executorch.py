"""ExecuTorch: planned buffers, what loading a method asks for, XNNPACK's delegates; against the engine's heap.

Recorded with executorch 1.4.1 and torch 2.13.0 (x86-64, AVX-512) by an instrumented run of the harness over the very
files that tests/unit/frontends/pte_files.py writes, three inferences: bytes above the mark "import".
"""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.conversion.route import convert
from peakmem.engines.executorch import PROFILE
from peakmem.engines.executorch.method import capacity, requests
from peakmem.engines.executorch.plan import plan
from peakmem.engines.prediction import Prediction, Processor, Value
from peakmem.errors import FormatError, GraphError, UsageError
from peakmem.frontends.pte.program import Program
from peakmem.frontends.pte.reader import read_places, read_pte
from peakmem.frontends.section import Section
from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.inputs import Port
from tests.unit.frontends import pte_files as made
from tests.unit.frontends.pte_files import call, listed, method, number, program, tensor

SKYLAKE = Processor(
    "x86_64",
    frozenset(("sse4_1", "ssse3", "avx", "f16c", "fma", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl")),
    32 * 1024,
    2 * 1024 * 1024,
)
NAME = 29
# characters of the path of the measured file: the binding keeps the path that it was given
RECORDED = {
    "": ((3072, 5304), (6536, 9384), (6536, 9384)),
    "load=bytes": ((4819, 7083), (8283, 11131), (8283, 11131)),
    "clone_outputs=off": ((3072, 5304), (6504, 8880), (6504, 8880)),
    "face=runtime": ((3072, 5304), (7576, 10424), (7576, 10424)),
}
# of the portable network: (live, peak) at load, in run 1 and in run 3; loading is from import on
XNNPACK = {"": (14914, 28683, 31355), "load=bytes": (18246, 32015, 34687), "clone_outputs=off": (14914, 28651, 31099)}
# of the convolution: live after load and after run 1, peak of run 1; its path is one character shorter


def predicted(path: Path, processor: Processor = SKYLAKE, **settings: Value) -> Prediction:
    return PROFILE.predict(read_pte(path), {**engine("executorch").defaults(), **settings}, processor)


def parsed(text: str) -> dict[str, Value]:
    name, _, value = text.partition("=")
    return {name: value == "on" if value in ("on", "off") else value} if name else {}


@pytest.fixture
def file(tmp_path):
    def write(data: bytes) -> Path:
        path = tmp_path / "net.pte"
        path.write_bytes(data)
        return path

    return write


def chain(*sizes: int, places=()) -> bytes:
    """relu after relu, each result of so many floats."""
    values = [tensor((size,), (1, at)) for size, at in zip(sizes, places, strict=True)]
    run = [call(0, at, at + 1, at + 1) for at in range(len(sizes) - 1)]
    total = max(4 * size + at for size, at in zip(sizes, places, strict=True))
    return program([method(values, run, (0,), (len(sizes) - 1,), (total,), [("aten::relu", "out")])])


# -- the plan ----------------------------------------------------------------------------


def test_the_greedy_plan_by_hand(file):
    # 64, 256, 128 and 64 B one after the other: 256 alone; 128 behind it, since both live in step 1; 64 of the input
    # meets 256 in step 0 and goes where 128 is; the last 64 meets 128 in step 2 and goes to the first object.
    path = file(chain(16, 64, 32, 16, places=(256, 0, 256, 0)))
    found = plan(read_pte(path), read_places(path), padding=0)
    assert found.greedy == 384
    assert dict(found.offsets) == {"input_0": 256, "relu_0": 0, "relu_1": 256, "relu_2": 0}
    assert found.naive == 512
    assert found.lower_bound == 384


def test_a_tensor_goes_behind_those_that_live_in_a_larger_place(file):
    # 400 B from step 0 to 0 make the first object; 160 and 16 B that live together later share it.
    values = [tensor((100,), (1, 0)), tensor((24,), (1, 400)), tensor((40,), (1, 0)), tensor((4,), (1, 160))]
    run = [call(0, 0, 1, 1), call(0, 1, 2, 2), call(1, 1, 2, 3, 3)]
    path = file(program([method(values, run, (0,), (3,), (496,), [("aten::relu", "out"), ("aten::add", "out")])]))
    found = plan(read_pte(path), read_places(path), padding=0)
    assert dict(found.offsets) == {"input_0": 0, "relu_0": 400, "relu_1": 0, "add_2": 160}
    assert found.greedy == 496


def test_states_keep_their_place_and_views_the_place_of_what_they_show(file):
    values = [
        tensor((4,), (1, 0), name="cache"), tensor((4,), (1, 16)), tensor((4,), (1, 32)), tensor((2, 2), (1, 32)),
        tensor((2, 2), (1, 16)),
    ]  # fmt: skip
    run = [call(0, 0, 1, 2, 2), call(1, 3, 4, 4)]
    path = file(program([method(values, run, (1,), (4,), (48,), [("aten::add", "out"), ("aten::relu", "out")])]))
    graph, places = read_pte(path), read_places(path)
    found = plan(graph, places, padding=0)
    # all of 16 B, the last first: the result; the sum, which the view keeps alive while it is read; the input, which is
    # dead by then; the state, which never is
    assert dict(found.offsets) == {"relu_1": 0, "add_0": 16, "input_0": 0, "cache": 32}
    assert found.greedy == 48
    assert found.lower_bound == 48


def test_what_the_file_has_planned_is_told_beside_what_the_planner_makes(file):
    good = predicted(file(chain(16, 64, 32, 16, places=(256, 0, 256, 0))))
    assert good.details["planned bytes"] == good.details["planned bytes by our planner"] == 384
    assert good.details["lower bound"] == 384
    assert "greedy planner makes" in good.notes[0]
    naive = predicted(file(chain(16, 64, 32, 16, places=(0, 64, 320, 448))))
    assert (naive.details["planned bytes"], naive.details["planned bytes by our planner"]) == (512, 384)
    assert "naively" in naive.notes[0]
    other = predicted(file(chain(16, 64, 32, 16, places=(256, 0, 256, 416))))
    assert "another planner" in other.notes[0]


# -- what loading asks for ---------------------------------------------------------------


def test_requests_of_a_method_by_hand(file):
    # 2 values of 16 B, a flag for the input; two tensors of rank 1, 4 B of strides and 64 B each; a delegate list of
    # nothing; a chain of 32 B; a kernel of 8 B and its arguments of 16 B; 3 pointers, 3 descriptions of 24 B, 3 ranks.
    path = file(chain(4, 4, places=(0, 16)))
    with Section(path) as section:
        found = requests(Program(section).method("forward"))
    assert [size for _, size in found.ordered] == [32, 1, 4, 64, 4, 64, 0, 32, 8, 16, 24, 72, 1, 1, 1]
    assert (found.nbytes, found.count, found.vector) == (324, 15, 16 * 8)
    # the most at once is not while the vector grows from 8 to 16 entries (238 + 128 + 64 B), but at the end
    assert found.growing == 324 + 128


def test_requests_of_lists_and_dynamic_shapes(file):
    values = [
        tensor((2, 3), (1, 0), dynamism=1), number(5), listed(made.INT_LIST, 1, 1, 1), listed(made.TENSOR_LIST, 0, 0),
        listed(made.OPTIONAL_LIST, 0, -1),
    ]  # fmt: skip
    path = file(program([method(values, [], (), (), (32,))]))
    with Section(path) as section:
        found = requests(Program(section).method("forward"))
    sizes = [size for group, size in found.ordered if group == "values"]
    assert sizes == [80, 8, 2, 8, 64, 24, 24, 24, 16, 16, 24, 16, 32, 24]


def test_a_vector_doubles():
    assert [capacity(count) for count in (0, 1, 2, 3, 4, 5, 1024, 1025)] == [0, 1, 2, 4, 4, 8, 1024, 2048]


# -- against the engine ------------------------------------------------------------------


@pytest.mark.parametrize("chosen", RECORDED)
def test_a_portable_network_is_the_engines_to_the_byte(chosen, file):
    path = file(made.portable())
    found = predicted(path, **parsed(chosen))
    longer = len(str(path)) - NAME if chosen != "load=bytes" else 0
    for moment, (live, peak) in zip(found.moments, RECORDED[chosen], strict=True):
        assert moment.live_bytes == live + longer
        assert abs(moment.peak_bytes - peak - longer) <= 16  # a list of as many strides as the result has axes
    assert found.unmodelled == ()


@pytest.mark.parametrize("chosen", XNNPACK)
@pytest.mark.parametrize("named", [False, True])
def test_a_delegate_of_xnnpack_is_the_engines_to_the_byte(chosen, named, file):
    path = file(made.convolution(named=named))
    longer = len(str(path)) - NAME + 1
    if chosen == "load=bytes":
        longer = path.stat().st_size - len(made.convolution())
    loaded, first, _ = predicted(path, **parsed(chosen)).moments
    live, running, peak = XNNPACK[chosen]
    assert (loaded.live_bytes, first.live_bytes, first.peak_bytes) == (live + longer, running + longer, peak + longer)


def test_what_stays_mapped_is_told_apart(file):
    data = made.portable()
    mapped = predicted(file(data)).moments[0].outside
    assert [one.category for one in mapped] == ["file"]
    assert mapped[0].nbytes == 2 * 4096  # tables and constants in one page, each mapped by itself
    assert predicted(file(data), load="bytes").moments[0].outside == ()


def test_the_largest_buffer_of_all_methods_is_taken(file):
    values = [tensor((4,), (1, 0)), tensor((4,), (1, 16))]
    small = method(values, [call(0, 0, 1, 1)], (0,), (1,), (32,), [("aten::relu", "out")])
    large = method(values, [call(0, 0, 1, 1)], (0,), (1,), (4000,), [("aten::relu", "out")], name="other")
    alone, both = predicted(file(program([small]))), predicted(file(program([small, large])))
    assert both.moments[0].live_bytes - alone.moments[0].live_bytes == 4000 - 32
    assert any("any method" in note for note in both.notes)


def test_results_without_a_place_are_the_bindings(file):
    # The list that holds them is 24 B for each result, planned or not; 4,000 B without a place come on top.
    planned = [tensor((1000,), (1, 0)), tensor((1000,), (1, 4000))]
    free = [tensor((1000,), (1, 0)), tensor((1000,))]
    ops = [("aten::relu", "out")]
    one = predicted(file(program([method(planned, [call(0, 0, 1, 1)], (0,), (1,), (8000,), ops)])))
    two = predicted(file(program([method(free, [call(0, 0, 1, 1)], (0,), (1,), (4000,), ops)])))
    assert one.moments[1].live_bytes == two.moments[1].live_bytes


# -- what is not modelled ----------------------------------------------------------------


def test_a_backend_without_a_rule_is_listed_with_its_data(file):
    values = [tensor((4,), (1, 0)), tensor((8,), (1, 16))]
    delegates = [made.delegate(0, "OtherBackend")]
    made_here = method(values, [call(0, 0, 1, kind=made.DELEGATE)], (0,), (1,), (64,), delegates=delegates)
    (missing,) = predicted(file(program([made_here], segments=[bytes(1000)]))).unmodelled
    assert (missing.what, missing.nbytes) == ("OtherBackend_0", 1000)


def test_products_that_use_a_blas_and_kernels_of_others_are_listed(file):
    values = [tensor((2, 4, 4), (1, 0)), tensor((2, 4, 4), (1, 128)), tensor((2, 4, 4), (1, 256))]
    for name, nbytes in (("aten::bmm", 128 * 1024), ("mine::special", 256)):
        run = [call(0, 0, 1, 2, 2)]
        path = file(program([method(values, run, (0, 1), (2,), (384,), [(name, "out")])]))
        (missing,) = predicted(path).unmodelled
        assert missing.nbytes == (nbytes if name == "aten::bmm" else 128)


def test_what_the_engine_or_the_profile_refuses(file):
    path = file(chain(4, 4, places=(0, 16)))
    with pytest.raises(UsageError, match="not known on riscv64"):
        predicted(path, Processor("riscv64"))
    with pytest.raises(UsageError, match="no method 'other'"):
        predicted(path, method="other")
    unbound = [tensor((4,), (1, 0)), tensor((4,), dynamism=2)]
    made_here = method(unbound, [call(0, 0, 1, 1)], (0,), (1,), (16,), [("aten::relu", "out")])
    with pytest.raises(GraphError, match="only running tells"):
        predicted(file(program([made_here])))
    graph = read_pte(file(chain(4, 4, places=(0, 16))))
    path.write_bytes(b"changed since")
    with pytest.raises(FormatError):
        PROFILE.predict(graph, {}, SKYLAKE)
    path.unlink()
    with pytest.raises(UsageError, match=r"predicted from a \.pte file"):
        PROFILE.predict(graph, {}, SKYLAKE)


def test_settings_without_a_rule_are_listed(file):
    path = file(chain(4, 4, places=(0, 16)))
    assert [one.what for one in predicted(path, python_malloc="malloc").unmodelled] == ["python_malloc=malloc"]
    assert [one.what for one in predicted(path, colour="red").unmodelled] == ["colour=red"]


# -- slow: the engine itself -------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["portable", "xnnpack"])
@pytest.mark.parametrize("network", ["squeezenet1_1", "mobilenet_v2", "resnet18"])
def test_networks_are_the_engines_to_the_byte(network, backend):
    pytest.importorskip("executorch")
    from peakmem.measuring.machine import machine

    done = convert(network, "pte", options={"backend": backend})
    ports = tuple(
        Port(f"input_{at}", dtype, tuple(shape)) for at, (shape, dtype) in enumerate(done.input_shapes.values())
    )
    run = run_process(order_for(engine("executorch"), Path(done.path), {}, instrumented=True, ports=ports, runs=3))
    assert run.outcome.status == "ok", run.outcome.reason
    marks = {mark.phase: mark.counted for mark in run.marks if mark.counted is not None}
    base = marks["import"].live_bytes
    here = machine()
    processor = Processor(
        "x86_64", frozenset(here.features), here.caches.get("L1d", 32768), here.caches.get("L2", 1 << 20),
        here.caches.get("L3", 0), 2,
    )  # fmt: skip
    found = predicted(Path(done.path), processor)
    assert found.details["planned bytes"] == found.details["planned bytes by our planner"]
    assert str(found.details["planned bytes"]) == run.facts["planned bytes"]
    for moment, phase in zip(found.moments, ("load", "run 1", "run 3"), strict=True):
        assert moment.live_bytes == pytest.approx(marks[phase].live_bytes - base, rel=0.002)
        assert moment.peak_bytes == pytest.approx(marks[phase].peak_bytes - base, rel=0.005)
