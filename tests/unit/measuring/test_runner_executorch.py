"""The ExecuTorch runner. Planned bytes: from the exporter's own objects and by hand."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import pytest
from tests.unit.measuring.standin import Refused, StandIn, chosen

from peakmem.measuring.engine import engine
from peakmem.measuring.harness import order_for, run_process
from peakmem.measuring.runners import executorch as runner

torch = pytest.importorskip("torch")
pytest.importorskip("executorch")

ADD = (
    "c-"
    "rlgzi!h|6vmGe$G9O9p;T3dN?29~hNwyrsvxRF29OvSJ0L{?h1jT(jANy?Xa$vcgbs`h9e4mnCdA0VBOt`U&<E%UHQ&8Hac$Q@qC#T1mVQ3>`k"
    "wop@BZ-?5#8V3xasb6yB6A?Ym_`j5{|A=`ZTG9_X=WzOwtiWkEjbCX6T>Bv5r`w@<#&=U`hoYF<&Q}w<cSwbc5Ptq1VdPU&Tlp+-"
    "BZ`0Fy%S3OuS3ebw_mzOUzNAceL;M>-+;@iUH1_9w=sQAl;fQRw=;-"
    "putP`2KZ1XDQ7YIgZf#W6tx)<MlPAi+Z}II?p*`#9W8>Sor(Gx?=hvw=0~d^RWp|GI<}kE$Y=cR=KS+ZJb$?^G$goI=>Stnf<C3&dA_#jpHTo2"
    "AwT%g7!OJL!Y${Pg8HTZ(LX0qZZ%1$8j8MtT(T5jG}A!F7}2h2KGyrb+wF_<BaZRoanaFJ4D7OjEj3#roD%JS--YS%XC$qLZYRkf96kW8HPNod"
    "HteR5TE(@SmNVByx50{8?eNCKligj*UtGVYQBYL|N0`$23^i-"
    "LbaJwP5$Nif64d2DAO@nM{p0^0fUW>_0kUa1J~|Ze&l%_%N|et(A^6&A9g05GjshXyMa5#=fUt`h`G14!hHK_H1WcTzq=krf#=#eEnA4$WorLy"
    "{$KdN;HnQwSL;m1VZrQRXfKiwTPOdsXVck>(afQXKd<j96bgkxp-?Ck3WY+U_`m!H$Ohg9"
)
# relu(x + y * w) for x, y and a buffer w of 1000 floats, written by
# to_edge(torch.export.export(…)).to_executorch() of ExecuTorch 1.4.1, which reports non_const_buffer_sizes [0, 12000]


@pytest.fixture
def program(tmp_path) -> Path:
    path = tmp_path / "add.pte"
    path.write_bytes(zlib.decompress(base64.b85decode(ADD)))
    return path


def begun(folder: Path, **settings):
    """A runner that has started."""
    tools = StandIn(folder)
    threads = torch.get_num_threads()
    made = runner.Runner(chosen(runner, **settings), tools)
    made.start()
    torch.set_num_threads(threads)
    return made, tools


def test_facts_and_inputs(program):
    made, tools = begun(program.parent)
    ports = made.load(str(program))
    assert ports == [("input_0", "float32", (1000,)), ("input_1", "float32", (1000,))]
    # x, y and y * w are needed at once: 3 · 4000; the sum takes y's place
    assert (tools.facts["planned buffers"], tools.facts["planned bytes"]) == ("12000", "12000")
    assert tools.facts["delegates"] == "none"
    assert tools.facts["operators outside of delegates"] == "3"
    assert tools.facts["file bytes"] == str(program.stat().st_size)
    assert tools.marks == ["read"]


@pytest.mark.parametrize(
    "settings", [{}, {"load": "bytes"}, {"verification": "minimal"}, {"clone_outputs": False}, {"threads": 2}]
)
def test_settings(program, settings):
    made, tools = begun(program.parent, **settings)
    ports = made.load(str(program))
    made.feed([(name, shape, dtype, bytearray(4000)) for name, dtype, shape in ports])
    for _ in range(3):
        made.run()
    assert tools.facts["threads of its pool"] == str(settings.get("threads", 1))
    assert (made.data is None) == (settings.get("load") != "bytes")
    made.release()
    assert made.method is None


def test_what_it_refuses(program):
    made, _ = begun(program.parent, method="backward")
    with pytest.raises(Refused, match="no method 'backward', it has forward"):
        made.load(str(program))
    made, _ = begun(program.parent)
    with pytest.raises(Refused, match="cannot be read: No such file"):
        made.load(str(program.with_name("nope.pte")))
    ports = made.load(str(program))
    made.feed([(name, (999,), dtype, bytearray(3996)) for name, dtype, _ in ports])
    with pytest.raises(Refused, match="ExecuTorch cannot run it"):
        made.run()


def test_damaged_files(program):
    made, _ = begun(program.parent)
    whole = program.read_bytes()
    for length in (0, 3, 7, 40, 200, 1000, len(whole) - 4000):
        program.write_bytes(whole[:length])
        with pytest.raises(Refused, match=r"this is no program of ExecuTorch|ExecuTorch cannot load it"):
            made.load(str(program))
    program.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(Refused, match="identifier is not ET12"):
        made.load(str(program))


def test_in_a_process_planned_memory_is_what_is_taken(program):
    run = run_process(order_for(engine("executorch"), str(program), runs=2, instrumented=True))
    assert run.outcome.status == "ok", run.outcome
    marks = {mark.phase: mark.counted for mark in run.marks}
    # the binding takes the planned buffers when it reads the program
    taken = marks["load"].live_bytes - marks["import"].live_bytes
    assert 12_000 <= taken < 12_000 + 16_384
    assert marks["run 2"].live_bytes == marks["run 1"].live_bytes
    assert [one.shape for one in run.inputs] == [(1000,), (1000,)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("delegated", [False, True])
def test_planned_sizes_are_those_of_the_exporter(tmp_path, delegated):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3)).eval()
    exported = torch.export.export(network, (torch.zeros(1, 3, 20, 20),))
    partitioner = [XnnpackPartitioner()] if delegated else []
    made = to_edge_transform_and_lower(exported, partitioner=partitioner).to_executorch()
    plan = made.executorch_program.execution_plan[0]
    path = tmp_path / "network.pte"
    path.write_bytes(made.buffer)
    started, tools = begun(tmp_path)
    assert started.load(str(path)) == [("input_0", "float32", (1, 3, 20, 20))]
    assert tools.facts["planned buffers"] == " ".join(map(str, plan.non_const_buffer_sizes[1:]))
    assert tools.facts["delegates"] == (" ".join(one.id for one in plan.delegates) or "none")
    assert tools.facts["operators outside of delegates"] == str(len(plan.operators))
    assert delegated == (tools.facts["delegates"] == "XnnpackBackend")
    if not delegated:
        # the first convolution's result, 8·18·18 floats, before and after relu
        assert int(tools.facts["planned bytes"]) == 2 * 8 * 18 * 18 * 4
