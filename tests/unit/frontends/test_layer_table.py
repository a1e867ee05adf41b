"""Layer tables as papers write them, against published counts, hand arithmetic and an independent writer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import peakmem
from peakmem.errors import FormatError, PeakmemError
from peakmem.frontends import recognise
from peakmem.frontends.table.reader import read_layer_table, read_rows
from peakmem.frontends.table.source import LARGEST_FILE, LARGEST_YAML
from peakmem.frontends.table.words import phrase, role, shape
from peakmem.ir.dims import Symbol
from peakmem.parameters import parameters
from peakmem.pipeline import load

DATA = Path(__file__).parents[2] / "data" / "layer_tables"


@pytest.fixture
def written(tmp_path):
    """Read a table written down in the test."""

    def read(text: str, name: str = "table.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_layer_table(path)

    return read


def rows(graph):
    """(op type, kernel shape, output shape without the batch) of the operators."""
    found = []
    for operator in graph.operators:
        stored = [graph.tensors[n].shape for n in operator.inputs if n and graph.tensors[n].role == "constant"]
        found.append((operator.op_type, stored[0] if stored else None, graph.tensors[operator.outputs[0]].shape[1:]))
    return found


# -- published tables --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mobilenet_v1_paper.md", "mobilenet_v1_benchmark.md", "mobilenet_v1_benchmark.csv"])
def test_mobilenet_v1_has_the_weights_of_the_built_in_network(name):
    graph = read_layer_table(DATA / name)
    # 29.3 k of 4.2 M are biases and norms, which the table does not have: 27 norms over 10,944 channels, 1,000 biases.
    assert parameters(graph).trainable == 4_231_976 - 2 * 10_944 - 1000 == 4_209_088
    assert parameters(graph).weights_only == parameters(load("mobilenet_v1")).weights_only
    assert sum(operator.op_type == "Conv" for operator in graph.operators) == 27


def test_the_row_that_contradicts_the_next_one_is_named():
    graph = read_layer_table(DATA / "mobilenet_v1_paper.md")
    assert "row 20 (Conv / s1) reads 7x7x1024, but row 19 gives 4x4x1024: it starts from its own input" in graph.notes
    assert [graph.tensors[name].shape[1:] for name in graph.inputs] == [(3, 224, 224), (1024, 7, 7)]


def test_vgg16_d():
    graph = read_layer_table(DATA / "vgg16_d.csv")
    # 138,357,544 with 13,416 biases: 4,224 of the convolutions, 4096 + 4096 + 1000
    assert parameters(graph).trainable == 138_357_544 - (64 * 2 + 128 * 2 + 256 * 3 + 512 * 6) - 4096 * 2 - 1000
    ours = [row[2] for row in rows(graph) if row[0] in ("Conv", "MaxPool", "Gemm")]
    zoo = load("vgg16")
    assert ours == [row[2] for row in rows(zoo) if row[0] in ("Conv", "MaxPool", "Gemm")]


def test_biases_are_counted_when_the_file_says_so(written):
    text = (DATA / "vgg16_d.csv").read_text()
    assert parameters(written("bias: yes\n" + text)).trainable == 138_357_544


def test_mobilenet_v2_bottlenecks():
    graph = read_layer_table(DATA / "mobilenet_v2_paper.md")
    zoo = load("mobilenet_v2")
    # The paper's table ends in a 1x1 convolution, the network in a linear layer of the same size.
    assert parameters(graph).weights_only == parameters(zoo).weights_only == 3_469_760
    assert sum(operator.op_type == "Add" for operator in graph.operators) == 10
    mine, theirs = peakmem.estimate(graph), peakmem.estimate("mobilenet_v2")
    assert mine.peak_bytes == theirs.peak_bytes == 6_021_120


def test_it_answers_like_every_format():
    path = DATA / "vgg16_d.csv"
    assert recognise(path).name == "layer_table"
    report = peakmem.estimate(path, batch=2, dtype="int8")
    # conv1_2: 2 x 64 x 224 x 224 in, the same out, a byte each
    assert report.peak_bytes == 2 * 2 * 64 * 224 * 224
    assert report.model.format == "layer_table"


# -- the grammar -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ops", "kernel", "stride", "rest"),
    [
        ("conv 3x3x3x32 s2 in 224x224x3", ("conv",), (3, 3, 3, 32), (2, 2), {"input": (224, 224, 3)}),
        ("conv dw / s1 3x3x32 dw", ("dw",), (3, 3, 32), (1, 1), {}),
        ("Conv / s2", ("conv",), (), (2, 2), {}),
        ("FC / s1 1024 × 1000", ("fc",), (1024, 1000), (1, 1), {}),
        ("Avg Pool / s1 Pool 7 × 7", ("avg",), (7, 7), (1, 1), {}),
        ("Softmax / s1 Classifier", ("Softmax",), (), (1, 1), {}),
        ("3x3, 64", (), (3, 3), None, {"numbers": (64,)}),
        ("7x7, 64, stride 2", (), (7, 7), (2, 2), {"numbers": (64,)}),
        ("Conv3-256", ("conv",), (3, 3), None, {"channels": 256}),
        ("FC-4096", ("fc",), (), None, {"channels": 4096}),
        ("max-pool 3x3/2", ("max",), (3, 3), (2, 2), {}),
        ("conv + bn + relu 3x3 g32 d2 p0", ("conv", "bn", "Relu"), (3, 3), None,
         {"group": 32, "dilation": 2, "padding": (0, 0)}),
        ("conv 3x3x512x512 x5", ("conv",), (3, 3, 512, 512), None, {"repeat": 5}),
        ("5× Conv dw / s1 3 × 3 × 512", ("dw",), (3, 3, 512), (1, 1), {"repeat": 5}),
        ("Conv2DTranspose k4 s2 c64", ("tconv",), (4, 4), (2, 2), {"channels": 64}),
        ("depthwise separable conv 3x3, 64", ("sep",), (3, 3), None, {"numbers": (64,)}),
        ("global average pooling", ("gavg",), (), None, {}),
        ("$3 \\times 3$ conv, 64 filters, valid", ("conv",), (3, 3), None, {"channels": 64, "padding": "valid"}),
        ("fully connected 4096 -> 1000", ("fc",), (), None, {"numbers": (4096,), "channels": 1000}),
        ("add conv1_2", ("add",), (), None, {"refs": ("conv1_2",)}),
        ("nothing of the kind", (), (), None, {}),
    ],
)  # fmt: skip
def test_sentences(text, ops, kernel, stride, rest):
    found = phrase(text)
    assert (found.ops, found.kernel, found.stride) == (ops, kernel, stride)
    for name, value in rest.items():
        assert getattr(found, name) == value, name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("224x224x3", (224, 224, 3)), ("224 × 224 × 3", (224, 224, 3)), ("224² × 3", (224, 224, 3)),
        ("(None, 224, 224, 3)", (224, 224, 3)), ("[-1, 64, 112, 112]", (64, 112, 112)),
        ("[1, 3, 224, 224]", (1, 3, 224, 224)), ("1024", (1024,)), ("3, 224, 224", (3, 224, 224)), ("", ()), ("k", ()),
        ("$112^2 \\times 32$", (112, 112, 32)),
    ],
)  # fmt: skip
def test_shapes(text, value):
    assert shape(text) == value


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Layer", "layer"), ("Type / Stride", "type"), ("Filter Shape", "kernel"), ("Conv Size", "kernel"),
        ("Input Size", "input"), ("Output shape", "output"), ("#Params", "parameters"), ("Param #", "parameters"),
        ("Memory Usage (bs=1, input + output + conv params)", "memory"), ("Size (MB)", "memory"), ("Bytes", "memory"),
        ("MACs (M)", "ignored"), ("Mult-Adds", "ignored"), ("s", "stride"), ("n", "repeat"), ("c", "channels"),
        ("t", "expansion"), ("Filters", "channels"), ("Size/Stride", "kernel"), ("Filter", "kernel"),
        ("patch size/stride", "kernel"), ("Kernel / stride", "kernel"), ("In channels", "in_channels"),
        ("Out channels", "channels"), ("dtype", "dtype"), ("weights (KB)", "parameters"), ("zzz", ""),
    ],
)  # fmt: skip
def test_headers(header, name):
    assert role(header) == name


def test_padding_follows_from_what_is_printed(written):
    """LeNet-5: 32 -> 28 -> 14 -> 10 -> 5, so its convolutions have no padding, though nothing says so."""
    graph = written(
        "type,kernel,input\nconv,5x5x1x6,32x32x1\navg pool,2x2/2,28x28x6\nconv,5x5x6x16,14x14x6\n"
        "avg pool,2x2/2,10x10x16\nfc,400x120,5x5x16\nfc,120x84,\nfc,84x10,\n"
    )
    assert parameters(graph).weights_only == 150 + 2400 + 48_000 + 10_080 + 840
    assert [row[2] for row in rows(graph) if row[0] == "AveragePool"] == [(6, 14, 14), (16, 5, 5)]
    assert len(graph.inputs) == 1
    assert any(note.startswith("padding valid") and "rows 1, 3" in note for note in graph.notes)


def test_kernels_in_the_order_of_pytorch(written):
    graph = written("type,kernel,input,stride\nconv,16x3x5x5,3x32x32,1\nconv,32x16x3x3,16x32x32,2\n")
    assert [row[1] for row in rows(graph)] == [(16, 3, 5, 5), (32, 16, 3, 3)]
    assert [row[2] for row in rows(graph)] == [(16, 32, 32), (32, 16, 16)]


def test_groups_transposed_dilated_upsampled(written):
    graph = written(
        "- conv 3x3x8x32 g4 in 16x16x32\n- deconv 4x4, 16, s2\n- conv 3x3, 8 d2 valid\n"
        "- upsample x2\n- pw 4\n- dw 3x3\n",
        "list.md",
    )
    assert rows(graph) == [
        ("Conv", (32, 8, 3, 3), (32, 16, 16)),
        ("ConvTranspose", (32, 16, 4, 4), (16, 32, 32)),
        ("Conv", (8, 16, 3, 3), (8, 28, 28)),
        ("Resize", (4,), (8, 56, 56)),
        ("Conv", (4, 8, 1, 1), (4, 56, 56)),
        ("Conv", (4, 1, 3, 3), (4, 56, 56)),
    ]


def test_sums_and_concatenations_by_name(written):
    graph = written(
        "name,type,kernel,channels,from\nin,input 8x8x4,,,\na,conv,3x3,16,\nb,conv,3x3,16,\nc,add,,,a\n"
        "d,concat,,,a c\ne,conv,1x1,2,-2\n"
    )
    kinds = [(operator.op_type, len([n for n in operator.inputs if graph.tensors[n].role != "constant"]))
             for operator in graph.operators]  # fmt: skip
    assert kinds == [("Conv", 1), ("Conv", 1), ("Add", 2), ("Concat", 2), ("Conv", 1)]
    assert [row[2] for row in rows(graph)] == [(16, 8, 8), (16, 8, 8), (16, 8, 8), (32, 8, 8), (2, 8, 8)]
    assert graph.operators[4].inputs[0] == graph.operators[2].outputs[0]


def test_a_resnet_stem_in_the_words_of_its_paper(written):
    graph = written(
        "input: 224x224x3\n\n| layer | output size | 18-layer |\n|---|---|---|\n"
        "| conv1 | 112×112 | 7×7, 64, stride 2 |\n"
        "| pool1 | 56×56 | 3×3 max pool, stride 2 |\n| conv2_1 | 56×56 | 3×3, 64 |\n| conv2_2 | 56×56 | 3×3, 64 |\n"
        "| sum2 | 56×56 | add pool1 |\n| gap | 1×1 | average pool |\n| fc | | 1000-d fc, softmax |\n",
        "resnet.md",
    )
    assert [row[0] for row in rows(graph)] == [
        "Conv", "MaxPool", "Conv", "Conv", "Add", "GlobalAveragePool", "Flatten", "Gemm", "Softmax",
    ]  # fmt: skip
    assert [row[2] for row in rows(graph)][:5] == [(64, 112, 112)] + [(64, 56, 56)] * 4
    assert graph.operators[4].inputs[1] == graph.operators[1].outputs[0]
    assert parameters(graph).weights_only == 49 * 3 * 64 + 2 * 9 * 64 * 64 + 64 * 1000


def test_yaml_rows_repeats_and_settings(written):
    pytest.importorskip("yaml")
    graph = written(
        "layout: chw\ndtype: int8\nbatch: 4\nlayers:\n  - {type: input, output: [3, 32, 32]}\n"
        "  - {name: a, type: conv, kernel: 3, channels: 16}\n"
        "  - repeat: 3\n    rows:\n      - conv 3x3, 16\n      - relu\n  - add a\n  - fc 10\n",
        "net.yaml",
    )
    assert [operator.op_type for operator in graph.operators] == [
        "Conv", *["Conv", "Relu"] * 3, "Add", "Flatten", "Gemm",
    ]  # fmt: skip
    assert graph.defaults == {"batch": 4}
    assert {tensor.dtype.name for tensor in graph.tensors.values()} == {"int8"}
    assert graph.tensors["input"].shape == (Symbol("batch"), 3, 32, 32)


def test_a_lone_repeat_takes_the_rows_that_close(written):
    graph = written(
        "layer,kernel,input\nconv/s1,1x1x8x16,4x4x8\ndw/s1,3x3x16,4x4x16\nconv/s1,1x1x16x16,4x4x16\n… ×4,,\n"
    )
    assert sum(operator.op_type == "Conv" for operator in graph.operators) == 1 + 4 * 2


def test_several_tables_the_one_with_layers_is_taken(written):
    graph = written(
        "| Model | Memory |\n|---|---|\n| ResNet-50 | 7.2 MB |\n\n| Layer | Size |\n|---|---|\n"
        "| conv 3x3x3x8 in 8x8x3 | 1 |\n",
        "paper.md",
    )
    assert len(graph.operators) == 1


@pytest.mark.parametrize(
    ("column", "cell", "understood"),
    [
        ("stride", "abc", False), ("stride", "-2", False), ("stride", "2.5", False), ("stride", "2", True),
        ("stride", "2x2", True), ("padding", "zz", False), ("padding", "-1", False), ("padding", "same", True),
        ("padding", "1", True), ("dilation", "q", False), ("group", "?", False), ("group", "1", True),
        ("stride", "-", True),
    ],
)  # fmt: skip
def test_a_cell_that_says_nothing_is_named(written, column, cell, understood):
    graph = written(f"type,kernel,input,{column}\nconv,3x3x3x8,8x8x3,{cell}\n", "t.csv")
    said = f"row 1: the {column} {cell!r} is not understood and was passed over"
    assert (said not in graph.notes) is understood


# -- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "t.csv", "no layer table"),
        ("a,b\n1,2\n", "t.csv", "no layer table"),
        ("Just prose.\n", "t.md", "no layer table"),
        ("type,kernel,input\nconv,3x3,16x16x32\n", "t.csv", "row 1 (line 2) 'conv' does not say how many channels"),
        ("type,kernel,input\nconv,3x3 c4,8x16x32\n", "t.csv", "`layout: hwc` or `layout: chw`"),
        ("type,kernel\nconv,3x3x3x8\n", "t.csv", "has no input size"),
        ("type,kernel,input\nconv,,8x8x3\n", "t.csv", "has no kernel"),
        ("type,kernel,input\nlstm,,8x8x3\nconv,3x3x3x8,8x8x3\n", "t.csv", "a layer that is not read (lstm)"),
        ("type,kernel,input\nconv,3x3x3x8,8x8x3\nadd,,\n", "t.csv", "names no row to add"),
        ("type,kernel,input\nconv,3x3x3x8,8x8x3\nadd q,,\n", "t.csv", "reads 'q', which no row before it"),
        ("type,kernel,input\nconv,3x3x3x8,8x8x3\ninception,,8x8x8\n", "t.csv", "'inception' is no layer"),
        ("type,kernel,input\nconv,3x3x3x8,8x8x3\nconv,\"[3x3, 8; 3x3, 8]\",\n", "t.csv", "several kernels in one cell"),
        ("conv 3x3x3x8 in 8x8x3 x100000\n", "t.csv", "repeated 100000 times"),
        ("conv 3x3x3x8 in 999999999x8x3\n", "t.csv", "a size beyond"),
        ("conv 3x3x3x8 in 8x8x3\nlayout: zxy\n", "t.csv", "layout is 'zxy'"),
        ("conv 3x3x3x8 in 8x8x3\ndtype: int3\n", "t.csv", "no dtype is called 'int3'"),
        ("conv 5x5x3x8 p0 in 4x4x3\n", "t.csv", "does not fit"),
        ("conv 3x3x3x8 in 8x8x0\n", "t.csv", "has no input size"),
        ("conv 3x3x3x8 in 8x8x3\n… ×5\n", "t.csv", "repeats rows that do not give what they read"),
        ("\0", "t.csv", "not text"),
        ("x" * (LARGEST_FILE + 1), "t.csv", "larger than"),
        ("#" * (LARGEST_YAML + 1), "t.yaml", "larger than"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(written, text, name, message):
    with pytest.raises(FormatError) as fault:
        written(text, name)
    assert message in str(fault.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [conv 3x3x3x8]\nlayers: [*a, *a]\n", "aliases are not read"),
        ("layers: 3\n", "no list of layers"),
        ("- [1, 2]\n", "neither a sentence nor a mapping"),
        ("- !!python/object:os.system {}\n", "'tag:yaml.org,2002:python/object:os.system' is not read"),
        ("layers: !!python/object/apply:os.system ['true']\n", "the tag 'tag:yaml.org,2002:python/object/apply:os.sys"),
        ("layers: [{type: !local conv}]\n", "the tag '!local' is not read"),
        ("layers: [" + "{rows: [" * 30 + "]}" * 30 + "]\n", "too deep"),
        ("[" * 5000, "too deep"),
        ("a: b: c\n", "not YAML"),
        ("- {rows: [conv 3x3x3x8 in 8x8x3], repeat: many}\n", "repeat is 'many'"),
    ],
)
def test_yaml_is_read_safely(written, text, message):
    pytest.importorskip("yaml")
    with pytest.raises(FormatError) as fault:
        written(text, "t.yaml")
    assert message in str(fault.value)


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"conv \xff\xc3")
    with pytest.raises(PeakmemError, match="UTF-8"):
        read_rows(path)


# -- an independent writer ---------------------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """One layer of a random chain, with what it must come to by the formulas of any textbook."""

    kind: str
    kernel: int
    channels: int
    stride: int
    valid: bool


LAYERS = st.builds(
    Spec,
    kind=st.sampled_from(["conv", "dw", "pw", "max", "relu", "bn"]),
    kernel=st.sampled_from([1, 3, 5]),
    channels=st.integers(1, 40),
    stride=st.integers(1, 2),
    valid=st.booleans(),
)


def expected(specs: list[Spec], height: int, width: int, channels: int):
    """(op type, parameters, (channels, height, width)) of each layer, and the layers that fit."""
    found, kept = [], []
    for spec in specs:
        kernel = 1 if spec.kind == "pw" else spec.kernel
        if spec.kind in ("relu", "bn"):
            many = 4 * channels if spec.kind == "bn" else 0
            found.append(({"relu": "Relu", "bn": "BatchNormalization"}[spec.kind], many, (channels, height, width)))
            kept.append((spec, channels))
            continue
        if spec.valid and (kernel > height or kernel > width or (spec.kind == "max" and kernel == min(height, width))):
            continue
        if spec.kind == "max" and kernel >= min(height, width):
            continue  # as large as the image: a global pool, which papers write in many ways
        after = channels if spec.kind in ("dw", "max") else spec.channels
        many = {"conv": kernel * kernel * channels * after, "pw": channels * after, "dw": kernel * kernel * channels}
        kept.append((spec, channels))
        if spec.valid:
            height, width = (height - kernel) // spec.stride + 1, (width - kernel) // spec.stride + 1
        else:
            height, width = -(-height // spec.stride), -(-width // spec.stride)
        found.append(("MaxPool" if spec.kind == "max" else "Conv", many.get(spec.kind, 0), (after, height, width)))
        channels = after
    return found, kept


def image(sizes: tuple[int, int, int], layout: str, sign: str) -> str:
    channels, height, width = sizes
    order = (height, width, channels) if layout == "hwc" else (channels, height, width)
    return sign.join(map(str, order))


def cells(spec: Spec, before: int) -> tuple[str, str, str, str]:
    """(type, kernel, stride, padding) of a layer, spelled out."""
    size = f"{1 if spec.kind == 'pw' else spec.kernel}"
    if spec.kind in ("relu", "bn"):
        return spec.kind, "", "", ""
    kernel = {
        "conv": f"{size}x{size}x{before}x{spec.channels}", "pw": f"1x1x{before}x{spec.channels}",
        "dw": f"{size}x{size}x{before}", "max": f"{size}x{size}",
    }[spec.kind]  # fmt: skip
    spelled = {"conv": "Conv", "pw": "pointwise conv", "dw": "conv dw", "max": "max pool"}[spec.kind]
    return spelled, kernel, str(spec.stride), "valid" if spec.valid else "same"


@settings(max_examples=120, deadline=None)
@given(
    specs=st.lists(LAYERS, min_size=1, max_size=8),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40), st.integers(1, 9)),
    layout=st.sampled_from(["hwc", "chw"]),
    form=st.sampled_from(["csv", "tsv", "md", "list"]),
    sign=st.sampled_from(["x", " × ", "×"]),
    inputs=st.booleans(),
)
def test_a_table_written_from_a_chain_reads_back(tmp_path_factory, specs, size, layout, form, sign, inputs):
    height, width, channels = size
    wanted, kept = expected(specs, height, width, channels)
    if not wanted:
        return
    lines = []
    sizes = [(channels, height, width), *[want[2] for want in wanted]]
    for at, (spec, before) in enumerate(kept):
        kind, kernel, stride, padding = cells(spec, before)
        read = image(sizes[at], layout, sign) if at == 0 or inputs else ""
        lines.append((kind, kernel.replace("x", sign), stride, padding, read))
    header = ("Type", "Filter shape", "Stride", "Padding", "Input size")
    if form == "list":
        words = [
            f"{kind} {kernel} {f's{stride}' if stride else ''} {padding} {f'in {read}' if read else ''}"
            for kind, kernel, stride, padding, read in lines
        ]
        text = "".join(f"{line}\n" for line in words)
    elif form == "md":
        text = "".join(f"| {' | '.join(row)} |\n" for row in (header, ("---",) * 5, *lines))
    else:
        text = "".join((";" if form == "csv" else "\t").join(row) + "\n" for row in (header, *lines))
    path = tmp_path_factory.mktemp("tables") / f"t.{'csv' if form == 'list' else form}"
    path.write_text(f"layout: {layout}\n\n{text}", encoding="utf-8")
    graph = read_layer_table(path)
    found = []
    for operator in graph.operators:
        many = sum(graph.tensors[name].count for name in operator.inputs if graph.tensors[name].role == "constant")
        found.append((operator.op_type, many, graph.tensors[operator.outputs[0]].shape[1:]))
    assert found == wanted
    assert graph.inputs == ("input",)
