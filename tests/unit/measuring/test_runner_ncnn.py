"""The ncnn runner: options as ncnn has them, matrices as it lays them out, requests counted by hand.

A matrix of ncnn takes 4 bytes a number, each channel padded to 16 bytes, and 4 bytes for the count of its readers
(Mat::create, mat.cpp); the allocators are asked for that, malloc for 64 bytes more.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest

ncnn = pytest.importorskip("ncnn")

from peakmem.measuring.engine import engine  # noqa: E402
from peakmem.measuring.harness import order_for, run_process  # noqa: E402
from peakmem.measuring.inputs import Given, Port  # noqa: E402
from peakmem.measuring.record import Run  # noqa: E402
from peakmem.measuring.runners import ncnn as runner  # noqa: E402

SUM = "7767517\n3 4\nInput a 0 1 a 0=5 1=3 2=2\nInput b 0 1 b 0=5 1=3 2=2\nBinaryOp s 2 1 a b c 0=0\n"
POOL = "7767517\n2 2\nInput a 0 1 a 0=5 1=3 2=2\nPooling p 1 1 a b 0=0 1=3 2=1 3=1 5=1\n"
CONVOLUTION = "7767517\n2 2\nInput in 0 1 data 0=8 1=8 2=3\nConvolution c 1 1 data out 0=4 1=3 5=1 6=108\n"
WEIGHTS = struct.pack("<I", 0) + bytes(4 * 108 + 4 * 4)
# a flag (0: float32), the kernel, the bias
BRANCHES = """7767517
8 10
Input in 0 1 x 0=5 1=3 2=2
Split s 1 2 x y z
Pooling p 1 1 y p 0=0 1=3 2=1 3=1 5=1
Pooling q 1 1 z q 0=1 1=3 2=1 3=1 5=1
Split t 1 2 q r t
BinaryOp e 2 1 p r e 0=0
BinaryOp f 2 1 e t f 0=2
ReLU o 1 1 f out
"""


class Refused(Exception):
    pass


class Tools:
    """What a runner is given, in this process."""

    Unsupported = Missing = Refused
    instrumented = False
    ports: tuple[Any, ...] = ()

    def __init__(self, *, timeline: bool = False) -> None:
        self.timeline = timeline
        self.facts: dict[str, str] = {}
        self.notes: list[str] = []

    def fact(self, name: str, value: object) -> None:
        self.facts[name] = str(value)

    def note(self, operator: str) -> None:
        self.notes.append(operator)

    def output(self) -> str:
        return ""


def here(path: Path, shapes: list[tuple[int, ...]], *, timeline: bool = False, runs: int = 2, **chosen: Any) -> Tools:
    """Run a network in this process."""
    tools = Tools(timeline=timeline)
    work = runner.Runner({**engine("ncnn").defaults(), **chosen}, tools)
    work.start()
    ports = work.load(str(path))
    values = []
    for (name, dtype, _), shape in zip(ports, shapes, strict=True):
        count = 1
        for dim in shape:
            count *= dim
        values.append((name, shape, dtype, bytearray(4 * count)))
    work.feed(values)
    for _ in range(runs):
        work.run()
    work.release()
    return tools


def apart(path: Path, chosen: dict[str, Any] | None = None, **rest: Any) -> Run:
    """Run a network in a process of its own."""
    return run_process(order_for(engine("ncnn"), str(path), chosen or {}, runs=2, timeout=60, **rest))


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, weights: bytes | None = None) -> Path:
        path = tmp_path / "net.param"
        path.write_text(text)
        if weights is not None:
            (tmp_path / "net.bin").write_bytes(weights)
        return path

    return write


def test_defaults_are_ncnns_own() -> None:
    option = ncnn.Option()
    defaults = engine("ncnn").defaults()
    assert {name: defaults[name] for name in runner.OPTIONS} == {
        name: getattr(option, field) for name, field in runner.OPTIONS.items()
    }


def test_every_flag_that_ncnn_binds_is_a_setting() -> None:
    option = ncnn.Option()
    flags = {name for name in dir(option) if isinstance(getattr(option, name), bool)}
    graphics = {"use_vulkan_compute", "use_subgroup_ops", "use_tensor_storage"}
    assert flags - set(runner.OPTIONS.values()) == graphics


def test_an_option_that_is_not_bound_is_set_without_touching_another() -> None:
    place = runner.place_of_winograd23(ncnn)
    assert place is not None
    for _, default, offset in runner.UNBOUND.values():
        option = ncnn.Option()
        seen = {name: getattr(option, name) for name in dir(option) if not name.startswith("_")}
        assert runner.inside(option)[place + offset] == default
        runner.inside(option)[place + offset] = not default
        assert {name: getattr(option, name) for name in seen} == seen


def test_without_its_pools_ncnn_gives_everything_back(write: Any) -> None:
    """Live bytes after a run: a pool keeps both blobs of 292 and 132 B, without pools nothing stays."""
    path = write(POOL)
    held = {}
    for pools in (True, False):
        run = apart(path, {"pool_allocator": pools, "packing": False}, instrumented=True)
        assert run.outcome.status == "ok", run.outcome
        marks = {mark.phase: mark.counted for mark in run.marks}
        one, two, three = (marks[phase] for phase in ("inputs", "run 1", "run 2"))
        assert one is not None
        assert two is not None
        assert three is not None
        held[pools] = two.blocks - one.blocks
        assert three.blocks == two.blocks
    # two blocks and the entries of two lists that name them
    assert held[True] - held[False] == 4


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 5), (2, 2, 3, 5)])
def test_a_matrix_holds_its_numbers_row_by_row(shape: tuple[int, ...]) -> None:
    work = runner.Runner(dict(engine("ncnn").defaults()), Tools())
    work.start()
    count = 1
    for dim in shape:
        count *= dim
    mat = work._mat("x", shape, "float32", memoryview(bytearray(array("f", range(count)).tobytes())))
    assert (mat.dims, mat.w) == (len(shape), shape[-1])
    parts = [mat.channel(at) for at in range(shape[0])] if len(shape) > 2 else [mat]
    found: list[float] = []
    for part in parts:
        found += memoryview(part).cast("B").cast("f").tolist()
    assert found == list(range(count))


def test_indices_of_64_bits_become_32() -> None:
    work = runner.Runner(dict(engine("ncnn").defaults()), Tools())
    work.start()
    mat = work._mat("x", (3,), "int64", memoryview(bytearray(array("q", [1, -2, 3]).tobytes())))
    assert memoryview(mat).cast("B").cast("i").tolist() == [1, -2, 3]
    with pytest.raises(Refused, match="uint8"):
        work._mat("x", (3,), "uint8", memoryview(bytearray(3)))


def test_requests_by_hand(write: Any) -> None:
    # 5x3 numbers are 60 B, padded 64; two channels 128, and 4
    facts = here(write(SUM), [(2, 3, 5), (2, 3, 5)], record_allocators="direct").facts
    assert facts["events run 1"] == "b132 -1"
    assert facts["events run 2"] == "b132 -2"
    assert facts["weights"] == "all zero, there is no .bin"
    # a border of 1: 7x5 numbers are 140 B, padded 144; 288, and 4
    facts = here(write(POOL), [(2, 3, 5)], record_allocators="direct", packing=False).facts
    assert facts["events run 1"] == "w292 b132 -1 -2"
    assert [facts[f"{part} peak run 1"] for part in ("blob", "workspace", "blob and workspace")] == [
        "132",
        "292",
        "424",
    ]


def test_what_pools_hold_by_hand(write: Any) -> None:
    facts = here(write(POOL), [(2, 3, 5)], record_allocators="pool", packing=False, runs=3).facts
    assert (facts["blob pool held"], facts["workspace pool held"]) == ("132", "292")
    assert facts["events run 3"] == "w292 b132 -5 -6"


def test_a_pool_drops_its_smallest_block_at_ten() -> None:
    recorder = runner.Recorder(ncnn, keep=True)
    recorder.begin()
    pool = recorder.blob
    out = [pool.fastMalloc(100 * size) for size in range(1, 12)]
    for block in out:
        pool.fastFree(block)
    assert pool.most_held == 6600
    # eleven are kept: giving back drops none; 1,200 fits none of them, so the 100 goes
    block = pool.fastMalloc(1200)
    assert (pool.most_held, len(pool.held)) == (6600 - 100 + 1200, 10)
    pool.fastFree(block)
    block = pool.fastMalloc(150)
    # the first kept block that is large enough, not the best
    assert [whole for _, _, whole in pool.out.values()] == [200]
    pool.fastFree(block)
    pool.clear()


def test_a_walk_by_operators_asks_for_the_same(write: Any) -> None:
    path = write(BRANCHES)
    for light in (True, False):
        chosen = {"record_allocators": "direct", "lightmode": light}
        plain = here(path, [(2, 3, 5)], **chosen)
        walked = here(path, [(2, 3, 5)], timeline=True, **chosen)
        assert walked.facts == plain.facts
        layers = ["Split s", "Pooling p", "Pooling q", "Split t", "BinaryOp e", "BinaryOp f", "ReLU o"]
        begun = [note.replace("\t", " ").removeprefix("begin ") for note in walked.notes[:8]]
        assert begun == [*layers, "outputs"]


def test_inputs_of_an_embedding_are_indices(write: Any) -> None:
    path = write("7767517\n3 3\nInput a 0 1 a\nReshape r 1 1 a b 0=-1\nEmbed e 1 1 b c 0=8 1=20 2=0 3=160\n")
    run = apart(path, given=Given(shapes={"a": (1, 7)}))
    assert run.outcome.status == "ok"
    assert [(one.dtype, one.shape) for one in run.inputs] == [("int32", (1, 7))]


def test_a_shape_of_the_conversion_is_taken_as_it_is(write: Any) -> None:
    path = write("7767517\n2 2\nInput a 0 1 a\nReLU r 1 1 a b\n")
    # one channel of 4 numbers takes 16 B, four channels of one number are padded to 16 B each
    known = (Port("a", "float32", (1, 4, 1, 1)),)
    asked = {"record_allocators": "direct", "packing": False}
    assert apart(path, asked, ports=known).facts["events run 1"] == "b20 -1"
    given = Given(shapes={"a": (1, 4, 1, 1)})
    assert apart(path, asked, given=given).facts["events run 1"] == "b68 -1"
    assert apart(path, {**asked, "batch_axis": "keep"}, given=given).facts["events run 1"] == "b20 -1"


def test_a_binary_param_has_no_names(tmp_path: Path) -> None:
    indices = [ncnn.layer_to_index(name) for name in ("Input", "ReLU")]
    numbers = [7767517, 2, 2, indices[0], 0, 1, 0, -233, indices[1], 1, 1, 0, 1, -233]
    path = tmp_path / "net.param.bin"
    path.write_bytes(struct.pack(f"<{len(numbers)}i", *numbers))
    run = apart(path, given=Given(shapes={"blob0": (2, 3, 5)}))
    assert run.outcome.status == "ok", run
    assert run.facts["outputs"] == "blob1"


@pytest.mark.parametrize(
    ("text", "weights", "chosen", "status", "reason"),
    [
        (CONVOLUTION, WEIGHTS, {}, "ok", ""),
        (CONVOLUTION, WEIGHTS, {"mapped_model": True}, "ok", ""),
        (CONVOLUTION, WEIGHTS + b"more", {}, "ok", ""),
        (CONVOLUTION, WEIGHTS + b"more", {"mapped_model": True}, "unsupported", "consumed 452 != 456"),
        (CONVOLUTION, WEIGHTS[:200], {}, "unsupported", "ModelBin read weight_data failed"),
        (CONVOLUTION, b"", {}, "unsupported", "ModelBin read flag_struct failed"),
        (CONVOLUTION.replace("Convolution", "Frobnicate"), WEIGHTS, {}, "unsupported", "layer Frobnicate not exists"),
        ("none of it", None, {}, "unsupported", "parse magic failed"),
        ("7767517\n2 2\nReLU a 1 1 x y\nReLU b 1 1 y x\n", None, {}, "unsupported", "ncnn cannot read"),
    ],
)
def test_files_as_they_come(
    write: Any, text: str, weights: bytes | None, chosen: Any, status: str, reason: str
) -> None:
    run = apart(write(text, weights), chosen)
    assert (run.outcome.status, reason in run.outcome.reason) == (status, True), run.outcome


def test_settings_that_contradict_each_other_are_refused(write: Any) -> None:
    with pytest.raises(Refused, match="needs threads=1"):
        here(write(SUM), [], record_allocators="direct", threads=2)
    with pytest.raises(Refused, match="needs pool_allocator=on"):
        here(write(SUM), [], record_allocators="pool", pool_allocator=False)


def test_numpy_stays_outside(write: Any) -> None:
    program = (
        "import sys\n"
        "class Tools:\n"
        "    ports, timeline = (), False\n"
        "    fact = note = output = lambda *given: ''\n"
        "from peakmem.measuring.runners.ncnn import SETTINGS, Runner\n"
        "work = Runner({row[0]: row[1] for row in SETTINGS} | {'threads': 1}, Tools())\n"
        "work.start()\n"
        "work.feed([(name, (2, 3, 5), 'float32', bytearray(120)) for name, _, _ in work.load(sys.argv[1])])\n"
        "work.run()\n"
        "work.release()\n"
        "assert 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(write(SUM))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_events_of_ncnn_are_those_of_the_counter() -> None:
    pytest.importorskip("pnnx")
    program = Path(__file__).parents[3] / "benchmarks/ncnn_events.py"
    done = subprocess.run([sys.executable, str(program), "squeezenet1_1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("equal") == 8
