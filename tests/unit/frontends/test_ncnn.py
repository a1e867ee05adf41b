"""Reading ncnn files: grammar, inputs, weights and the .bin file, caches of decoders, faults."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import peakmem
from peakmem.binding import bound
from peakmem.dtypes import FLOAT16, FLOAT32, INT8, INT32, UINT8
from peakmem.errors import FormatError, GraphError, PeakmemError, ShapeError, UnboundDimension, UsageError
from peakmem.frontends.ncnn.layers import TYPES
from peakmem.frontends.ncnn.param import text_lines
from peakmem.frontends.ncnn.reader import read_ncnn
from peakmem.ir.dims import Symbol
from peakmem.parameters import parameters
from tests.unit.frontends.ncnn_files import CASES, binary, param_file, write

SHARED = Path(__file__).parents[3].parent / "shared" / "models" / "ncnn"

NET = """7767517
5 6
Input image 0 1 image
Convolution conv 1 1 image conv 0=8 1=3 4=1 5=1 6=216
Split split 1 2 conv a b
ReLU relu 1 1 a act 0=0.1
BinaryOp add 2 1 act b out 0=0
"""


def params(rest: str) -> dict[int, object]:
    return dict(next(text_lines(f"7767517\n1 1\nNoop n 0 0 {rest}", "test")).params)


# -- grammar -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0=3 1=-233", {0: 3, 1: -233}),
        ("0=0.5 1=1.000000e-05 2=2.f", {0: 0.5, 1: 1e-5, 2: 2.0}),
        ("-23303=3,1,2,3", {3: (1, 2, 3)}),
        ("-23300=2,0.5,1", {0: (0.5, 1)}),
        ("3=1,2,3", {3: (1, 2, 3)}),
        ("3=4,", {3: (4,)}),
        ('6="*(0w,2),0h"', {6: "*(0w,2),0h"}),
        ("6=abc", {6: "abc"}),
        ('6="with space" 0=1', {6: "with space", 0: 1}),
        ("-23303=0", {3: ()}),
    ],
)
def test_parameters(text: str, expected: dict[int, object]) -> None:
    assert params(text) == expected


@pytest.mark.parametrize("text", ["0", "x=1", "64=1", "-23364=1,1", "-23303=2,1", "-23303=1,x", "0=", "0=99999999999"])
def test_parameters_that_are_none(text: str) -> None:
    with pytest.raises(FormatError):
        params(text)


def test_layers_beyond_the_count_are_not_read(tmp_path: Path) -> None:
    """As ncnn does; files with a false count are around."""
    graph = read_ncnn(write(tmp_path, NET.replace("5 6", "4 6")))
    assert [operator.op_type for operator in graph.operators] == ["Convolution", "Split", "ReLU"]


def test_windows_line_ends_and_a_mark_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "net.param"
    path.write_bytes(b"\xef\xbb\xbf" + NET.replace("\n", "\r\n").encode())
    assert len(read_ncnn(path).operators) == 4


# -- graph -------------------------------------------------------------------------------


def test_graph(tmp_path: Path) -> None:
    graph = read_ncnn(write(tmp_path, NET))
    assert graph.format == "ncnn"
    assert graph.inputs == ("image",)
    assert graph.tensors["image"].shape is None
    assert graph.outputs == ("out",)
    conv, split, *_ = graph.operators
    assert conv.inputs == ("image", "conv.weight", "conv.bias")
    assert conv.attributes["kernel_shape"] == (3, 3)
    assert conv.attributes["pads"] == (1, 1, 1, 1)
    assert graph.tensors["conv.weight"].shape == (8, 3, 3, 3)
    assert split.aliases == ((0, 0), (1, 0))


def test_an_input_without_a_shape_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(UnboundDimension) as caught:
        peakmem.estimate(write(tmp_path, NET))
    assert caught.value.hint == "--shape image=3x224x224"


def test_a_split_costs_nothing(tmp_path: Path) -> None:
    """At the sum: the convolution's result (8×4×4×4 bytes), the activation's and the sum, 512 bytes each."""
    report = peakmem.estimate(write(tmp_path, NET), shapes={"image": (3, 4, 4)}, assume="naive")
    assert report.peak.activation_bytes == 3 * 512


def test_a_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one image at a time"):
        peakmem.estimate(write(tmp_path, NET), shapes={"image": (3, 4, 4)}, batch=2)


def test_shape_hints_are_declarations(tmp_path: Path) -> None:
    text = param_file(
        ["Input in 0 1 in -23330=4,3,8,6,5", "MyLayer own 1 1 in out -23330=4,2,7,9,1 0=3 -23301=2,1,2"], 2
    )
    graph = bound(read_ncnn(write(tmp_path, text)))
    assert graph.tensors["in"].shape == (5, 6, 8)
    assert graph.tensors["out"].shape == (9, 7)
    assert graph.operators[0].attributes == {"param_0": 3, "param_1": (1, 2)}


def test_a_custom_layer_is_an_unknown(tmp_path: Path) -> None:
    text = param_file(["Input in 0 1 in 0=8 1=6 2=5", "MyLayer own 1 1 in out"], 2)
    report = peakmem.estimate(write(tmp_path, text))
    assert report.kind == "lower bound"
    assert [(item.operator, item.op_type) for item in report.unknowns] == [("own", "MyLayer")]


def test_a_size_of_zero_is_a_symbol(tmp_path: Path) -> None:
    graph = read_ncnn(write(tmp_path, param_file(["Input in 0 1 in 0=-1 1=-1 2=3", "ReLU r 1 1 in out"], 2)))
    assert graph.tensors["in"].shape == (3, Symbol("in.height"), Symbol("in.width"))


def test_identifiers_are_whole_numbers(tmp_path: Path) -> None:
    rows = ["Input in 0 1 in 0=7", "Split s 1 2 in a b", "Embed e 1 1 a x 0=4 1=9 3=36", "Embed f 1 1 b y 0=4 1=9 3=36"]
    assert read_ncnn(write(tmp_path, param_file(rows, 5))).tensors["in"].dtype is INT32


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (["ReLU a 1 1 x y", "ReLU b 1 1 z y"], GraphError),
        (["ReLU a 1 1 y x", "ReLU b 1 1 x y"], GraphError),
        (["Convolution c 1 1 x y 0=4 1=3 6=100"], GraphError),
        (["Convolution c 1 1 x y 0=0 1=3 6=36"], GraphError),
        (["BatchNorm b 1 1 x y 0=-4"], GraphError),
        (["ReLU a 1"], FormatError),
        (["ReLU a 3 1 x y"], FormatError),
        (["Reshape r 1 1 x y 0=abc"], GraphError),
    ],
)
def test_faults(rows: list[str], fault: type[PeakmemError], tmp_path: Path) -> None:
    with pytest.raises(fault) as caught:
        read_ncnn(write(tmp_path, param_file(rows, 3)))
    assert "net.param" in str(caught.value)


@pytest.mark.parametrize("text", ["", "7767517", "7767517\n3\n", "7767517\n2 2\nReLU r 1 1 x y\n", "7767516\n1 1\nx\n"])
def test_files_that_are_cut_short(text: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError):
        read_ncnn(write(tmp_path, text))


@pytest.mark.parametrize(
    "text", ["square," * 500 + "9", "1w", "0q", "/(1,0)", "pow(9,9999)", "", "((", "+,1", "9" * 5000]
)
def test_expressions_that_cannot_be_computed(text: str, tmp_path: Path) -> None:
    with pytest.raises(PeakmemError):
        bound(read_ncnn(write(tmp_path, param_file(["Input in 0 1 in 0=8", f'Reshape r 1 1 in out 6="{text}"'], 2))))


def test_layers_of_one_name(tmp_path: Path) -> None:
    count = 3000
    rows = ["Input in 0 1 x0 0=8", *[f"ReLU same 1 1 x{at} x{at + 1}" for at in range(count)]]
    graph = read_ncnn(write(tmp_path, param_file(rows, count + 1)))
    assert len({operator.name for operator in graph.operators}) == count


# -- binary ------------------------------------------------------------------------------


def test_binary_files_say_the_same(tmp_path: Path) -> None:
    """Each case as text and as a binary file: the same shapes and the same weights."""
    chosen = [case for case in CASES if "f" not in case.params]
    assert len(chosen) > 500
    for case in chosen:
        text = bound(read_ncnn(write(tmp_path, case.text())))
        path = tmp_path / "net.param.bin"
        path.write_bytes(binary(case.text(), TYPES, {("Eltwise", 1)}))
        other = bound(read_ncnn(path))
        assert [op.op_type for op in other.operators] == [op.op_type for op in text.operators]
        for ours, theirs in zip(text.operators[-1].outputs, other.operators[-1].outputs, strict=True):
            assert text.tensors[ours].shape == other.tensors[theirs].shape, case
        assert sorted(t.count or 0 for t in text.tensors.values() if t.role == "constant") == sorted(
            t.count or 0 for t in other.tensors.values() if t.role == "constant"
        )


def test_binary_files_as_ncnn_reads_them(tmp_path: Path) -> None:
    """The writer of these tests against ncnn: it reads what it wrote and gives the same shape."""
    pytest.importorskip("ncnn")
    from tests.unit.frontends.ncnn_oracle import ask

    path = tmp_path / "net.param.bin"
    path.write_bytes(binary(NET.replace("0 1 image", "0 1 image 0=9 1=7 2=3"), TYPES))
    (answer,) = ask([{"param": str(path), "binary": True, "inputs": {"0": (3, 7, 9)}, "blobs": ["5"]}])
    assert answer["shapes"] == {"5": [8, 7, 9]}
    assert bound(read_ncnn(path)).tensors["blob5"].shape == (8, 7, 9)


@pytest.mark.parametrize("length", [3, 5, 12, 40, 100])
def test_a_binary_file_cut_short(length: int, tmp_path: Path) -> None:
    path = tmp_path / "net.param.bin"
    path.write_bytes(binary(NET, TYPES)[:length])
    with pytest.raises(FormatError):
        read_ncnn(path)


# -- weights -----------------------------------------------------------------------------

ONE = "7767517\n2 2\nInput in 0 1 in 0=8 1=8 2=3\nConvolution conv 1 1 in out 0=5 1=3 5=1 6=135\n"
WEIGHTS, BIAS = 135, 5


def with_bin(folder: Path, data: bytes, text: str = ONE) -> Path:
    (folder / "net.bin").write_bytes(data)
    return write(folder, text)


@pytest.mark.parametrize(
    ("tag", "payload", "dtype"),
    [
        (0, 4 * WEIGHTS, FLOAT32),
        (0x0002C056, 4 * WEIGHTS, FLOAT32),
        (0x01306B47, 2 * WEIGHTS + 2, FLOAT16),
        (0x000D4B38, WEIGHTS + 1, INT8),
        (0x00000001, 1024 + WEIGHTS + 1, UINT8),
    ],
)  # fmt: skip
def test_how_weights_are_stored(tag: int, payload: int, dtype: object, tmp_path: Path) -> None:
    path = with_bin(tmp_path, struct.pack("<I", tag) + bytes(payload + 4 * BIAS))
    graph = read_ncnn(path)
    assert graph.tensors["conv.weight"].dtype is dtype
    assert graph.tensors["conv.weight"].count == WEIGHTS
    assert graph.tensors["conv.bias"].dtype is FLOAT32
    assert sum(t.nbytes or 0 for t in graph.tensors.values() if t.role == "constant") <= 4 + payload + 4 * BIAS


@pytest.mark.parametrize("more", [-1, -4, -4 * BIAS, 4, 1000])
def test_a_bin_file_of_another_length(more: int, tmp_path: Path) -> None:
    data = bytes(4 + 4 * WEIGHTS + 4 * BIAS + 2000)[: 4 + 4 * WEIGHTS + 4 * BIAS + more]
    with pytest.raises(FormatError, match=r"net\.bin") as caught:
        read_ncnn(with_bin(tmp_path, data))
    assert caught.value.expected == "the .bin file that belongs to the .param file"


def test_the_bin_file_is_found_by_its_stem(tmp_path: Path) -> None:
    data = bytes(4 + 4 * WEIGHTS + 4 * BIAS)
    (tmp_path / "net.ncnn.bin").write_bytes(data)
    graph = read_ncnn(write(tmp_path, ONE, "net.ncnn.param"))
    assert [(detail.name, detail.nbytes) for detail in graph.details] == [(".bin file", len(data))]


def test_without_a_bin_file_its_length_is_told(tmp_path: Path) -> None:
    (detail,) = read_ncnn(write(tmp_path, ONE)).details
    assert detail.nbytes == 4 + 4 * WEIGHTS + 4 * BIAS


# -- decoders ----------------------------------------------------------------------------

DECODER = """7767517
12 20
Input in0 0 1 in0
Input in1 0 1 in1
Input cache 0 2 ck cv
RMSNorm norm 1 1 in0 n 0=16
Split s 1 3 n n0 n1 n2
Gemm q 1 1 n0 q0 10=-1 3=1 5=1 6=1 8=16 9=16
Gemm k 1 1 n1 k0 10=-1 3=1 5=1 6=1 8=8 9=16
Reshape qr 1 1 q0 q1 0=4 1=4 2=-1
Reshape kr 1 1 k0 k1 0=4 1=2 2=-1
Permute qp 1 1 q1 q2 0=2
Permute kp 1 1 k1 k2 0=2
SDPA a 6 3 q2 k2 k2 in1 ck cv out ok ov 5=1 7=1
"""


def test_caches_have_symbolic_lengths(tmp_path: Path) -> None:
    path = write(tmp_path, DECODER)
    graph = read_ncnn(path)
    tokens, past, context = Symbol("tokens"), Symbol("past"), Symbol("context")
    assert graph.tensors["in0"].shape == (tokens, 16)
    assert graph.tensors["in1"].shape == (tokens, context)
    assert graph.tensors["ck"].shape == graph.tensors["cv"].shape == (2, past, 4)
    done = bound(graph, dims={"tokens": 3, "past": 5, "context": 8})
    assert done.tensors["out"].shape == (4, 3, 4)
    assert done.tensors["ok"].shape == (2, 8, 4)


def test_states_of_linear_attention(tmp_path: Path) -> None:
    """By hand, from the layers' source: the state has (heads, key, value), the last rows (kernel, channels)."""
    more = """MemoryData w 0 1 kernel 0=3 1=1 2=24
MemoryData a 0 1 log 0=2
MemoryData d 0 1 bias 0=2
Input states 0 2 rows state
Gemm p 1 1 n2 x 10=-1 3=1 5=1 6=1 8=24 9=16
ShortConv c 3 2 kernel x rows y last
Slice t 1 3 y y0 y1 y2 -23300=3,8,8,8 1=1
Reshape r0 1 1 y0 z0 0=4 1=2 2=-1
Reshape r1 1 1 y1 z1 0=4 1=2 2=-1
Reshape r2 1 1 y2 z2 0=4 1=2 2=-1
Gemm g 1 1 gate g0 10=-1 3=1 5=1 6=1 8=2 9=16
GatedDeltaRule rule 8 2 log bias g0 g0 z0 z1 z2 state linear next
"""
    text = DECODER.replace("12 20", "24 40").replace("Split s 1 3 n n0 n1 n2", "Split s 1 4 n n0 n1 n2 gate") + more
    graph = read_ncnn(write(tmp_path, text))
    assert graph.tensors["rows"].shape == (3, 24)
    assert graph.tensors["state"].shape == (2, 4, 4)
    done = bound(graph, dims={"tokens": 5, "past": 3, "context": 8})
    assert done.unknowns == ()
    assert done.tensors["linear"].shape == (5, 2, 4)
    assert done.tensors["next"].shape == (2, 4, 4)
    assert done.tensors["last"].shape == (3, 24)


def test_a_mask_of_another_length(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="mask is for 128 positions"):
        bound(read_ncnn(write(tmp_path, DECODER)), dims={"tokens": 3, "past": 5})


# -- the files at hand -------------------------------------------------------------------

INPUTS = {"qwen2.5_0.5b_decoder": {"tokens": 3, "past": 5, "context": 8}}
PUBLISHED = {"alexnet": 60_965_224, "vgg16": 138_357_544, "squeezenet": 1_235_496}
# parameters of the Caffe models, as their papers and model zoos give them


@pytest.mark.conformance
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared models are not here")
@pytest.mark.parametrize("path", sorted(SHARED.glob("*.param")), ids=lambda path: path.stem)
def test_blobs_of_the_shared_models(path: Path) -> None:
    pytest.importorskip("ncnn")
    from tests.unit.frontends.ncnn_oracle import ask

    graph = bound(read_ncnn(path), dims=INPUTS.get(path.stem))
    assert graph.unknowns == ()
    blobs = [name for operator in graph.operators for name in operator.outputs]
    inputs = {name: graph.tensors[name].shape for name in graph.inputs}
    (answer,) = ask([{"param": str(path), "inputs": inputs, "blobs": blobs}])
    ours = {name: list(graph.tensors[name].shape or ()) for name in blobs}
    if path.stem == "yolov4-tiny":  # what it detects depends on the image
        del ours["output"], answer["shapes"]["output"]
    assert ours == answer["shapes"]
    if path.stem in PUBLISHED:
        assert parameters(graph).trainable == PUBLISHED[path.stem]


@pytest.mark.parametrize("params", ["0=1 4=1", "0=1 7=1 8=1 18=1"])
def test_a_pooling_of_the_whole_blob_has_no_window_of_its_own(params: str, tmp_path: Path) -> None:
    """The file has a kernel of 0 there, which is no kernel."""
    text = f"7767517\n2 2\nInput image 0 1 image 0=8 1=8 2=3\nPooling pool 1 1 image out {params}\n"
    pool = peakmem.estimate(write(tmp_path, text)).layers[-1]
    assert (pool.kernel, pool.stride, pool.output.removesuffix("x1x1")) == ("", "", "3")
