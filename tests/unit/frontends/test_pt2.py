"""Exported programs in files: hand-written ones field by field, and what torch.export.save writes."""

import copy
import json
import subprocess
import sys
import warnings

import pytest

import peakmem
from peakmem.errors import FormatError, GraphError, UsageError
from tests.unit.frontends import pt2_files

ASSUMPTIONS = ("naive", "eager", "inplace", "fused", "fused_add")


@pytest.fixture
def write(tmp_path):
    def writer(data, name="net.pt2"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return writer


def test_a_program_by_hand(write):
    graph = peakmem.load(write(pt2_files.archive(*pt2_files.convolution())))
    assert graph.format == "pt2"
    assert graph.defaults == {"s0": 2}
    assert [(op.name, op.op_type, op.aliases, op.scope) for op in graph.operators] == [
        ("conv", "conv2d", (), "conv"), ("act", "relu_", ((0, 0),), "act"), ("flatten", "flatten", ((0, 0),), ""),
        ("fc", "linear", (), "fc"),
    ]  # fmt: skip
    assert graph.operators[0].attributes == {
        "kernel_shape": (3, 3), "strides": (1, 1), "dilations": (1, 1), "pads": (1, 1, 1, 1), "group": 1,
    }  # fmt: skip
    report = peakmem.estimate(graph, assume="eager")
    # At the exported batch of 2: the input of 3·4·4 and the result of the convolution of 4·4·4, floats.
    assert report.peak.activation_bytes == 2 * (48 + 64) * 4
    assert report.parameters.trainable == 108 + 4 + 320
    assert report.parameters.elements["bias"] == 4
    assert any(detail.name == "dimension s0" and detail.text == "1 to 64" for detail in graph.details)


@pytest.mark.parametrize("options", [{"batch": 7}, {"dims": {"s0": 7}}, {"shapes": {"x": (7, 3, 4, 4)}}])
def test_an_open_dimension_is_followed_everywhere(write, options):
    path = write(pt2_files.archive(*pt2_files.convolution()))
    report = peakmem.estimate(path, assume="naive", **options)
    # Without sharing, the two maps of the activation are alive: 64 floats each, beside nothing else.
    assert report.peak.activation_bytes == 7 * 128 * 4
    assert report.kind == "estimate"


def test_formulas_of_dimensions(write):
    document, weights = pt2_files.convolution()
    values = document["graph_module"]["graph"]["tensor_values"]
    values["x"] = pt2_files.meta((pt2_files.DOUBLED, 3, 4, 4))
    path = write(pt2_files.archive(document, weights))
    graph = peakmem.load(path)
    assert str(graph.tensors["x"].shape[0]) == "2*s0"
    by_name = peakmem.estimate(graph, dims={"s0": 5}, assume="eager").peak.activation_bytes
    assert by_name == (10 * 48 + 5 * 64) * 4
    assert peakmem.estimate(graph, shapes={"x": (10, 3, 4, 4)}, assume="eager").peak.activation_bytes == by_name
    assert peakmem.estimate(graph, batch=10, assume="eager").peak.activation_bytes == by_name
    with pytest.raises(UsageError, match="s0"):
        peakmem.estimate(graph, batch=9)  # no whole s0 makes 9 of 2·s0


def test_a_formula_that_is_not_understood_is_unknown(write):
    document, weights = pt2_files.convolution()
    values = document["graph_module"]["graph"]["tensor_values"]
    values["linear"] = pt2_files.meta((("Piecewise((1, s0), (2, True))", 2), 5))
    report = peakmem.estimate(write(pt2_files.archive(document, weights)))
    assert report.kind == "lower bound"
    assert any("formulas are not understood" in note for note in report.assumptions)


def test_fixed_sizes_stay_as_they_are(write):
    document, table = pt2_files.condition()
    path = write(pt2_files.archive(document, table))
    with pytest.raises(UsageError, match="dynamic_shapes"):
        peakmem.estimate(path, shapes={"x": (8, 4)})


def test_bodies_states_and_copies(write):
    graph = peakmem.load(write(pt2_files.archive(*pt2_files.condition())))
    assert [operator.op_type for operator in graph.operators] == ["sum", "gt", "If", "copy_"]
    assert graph.tensors["table"].role == "state"
    report = peakmem.estimate(graph, assume="eager")
    assert report.peak.state_bytes == 64
    # x and the result of the branch, inside of it 2x before the sum; the condition.
    assert report.peak.activation_bytes == 3 * 64 + 1


def test_a_buffer_that_the_program_replaces_is_a_state(write):
    document = pt2_files.program(
        inputs=["x"], outputs=["y"], buffers={"b": "count"}, mutations=[("new", "count")],
        nodes=[
            pt2_files.node("add.Tensor", "new", self="b", other=1),
            pt2_files.node("mul.Tensor", "y", self="x", other="new"),
        ],
        values={name: pt2_files.meta((4,)) for name in ("x", "y", "b", "new")},
    )  # fmt: skip
    graph = peakmem.load(write(pt2_files.archive(document, {"count": ("weight_0", pt2_files.meta((4,)), 16)})))
    assert graph.tensors["count"].role == "state"
    assert graph.operators[-1].op_type == "copy_"
    # The new value lives until it is copied at the end.
    assert peakmem.estimate(graph, assume="eager").peak.activation_bytes == 3 * 16


def test_tied_weights_count_once(write):
    document, weights = pt2_files.convolution()
    document["graph_module"]["signature"]["input_specs"].insert(
        0, {"parameter": {"arg": {"name": "m2"}, "parameter_name": "tied.weight"}}
    )
    document["graph_module"]["graph"]["tensor_values"]["m2"] = pt2_files.meta((5, 64))
    weights = {**weights, "tied.weight": weights["fc.weight"]}
    report = peakmem.estimate(write(pt2_files.archive(document, weights)))
    assert report.parameters.trainable == 108 + 4 + 320


def test_the_archive_is_held_against_the_program(write):
    document, weights = pt2_files.convolution()
    member, meta, _ = weights["conv.weight"]
    short = {**weights, "conv.weight": (member, meta, 431)}
    with pytest.raises(FormatError, match="431 bytes"):
        peakmem.load(write(pt2_files.archive(document, short)))
    other = {**weights, "conv.weight": (member, pt2_files.meta((4, 3, 3, 2)), 432)}
    with pytest.raises(FormatError, match="4x3x3x2"):
        peakmem.load(write(pt2_files.archive(document, other)))
    longer = {**weights, "conv.weight": (member, meta, 532)}
    graph = peakmem.load(write(pt2_files.archive(document, longer)))
    assert [detail.nbytes for detail in graph.details if detail.name == "stored beyond the tensors"] == [100]
    fewer = {name: entry for name, entry in weights.items() if name != "fc.weight"}
    assert any("fc.weight" in note for note in peakmem.load(write(pt2_files.archive(document, fewer))).notes)


def test_the_older_layout(write):
    document, weights = pt2_files.convolution()
    old = peakmem.estimate(write(pt2_files.archive(document, old=True)))
    new = peakmem.estimate(write(pt2_files.archive(document, weights)))
    assert old.peak == new.peak
    assert old.parameters == new.parameters
    assert any("one pickle" in note for note in old.assumptions)


def test_several_programs_in_one_archive(write):
    document, weights = pt2_files.convolution()
    other = {"net/models/other.json": json.dumps(document)}
    graph = peakmem.load(write(pt2_files.archive(document, weights, extra=other)))
    assert any("called model was read" in note for note in graph.notes)
    two = pt2_files.archive(document, name="a", extra={"net/models/b.json": json.dumps(document)})
    with pytest.raises(FormatError, match="2 programs"):
        peakmem.load(write(two))


def test_compiled_packages_hold_no_graph(write):
    members = [("net/archive_format", "pt2"), ("net/data/aotinductor/model/x.wrapper.so", b"\x7fELF")]
    with pytest.raises(FormatError, match="AOTInductor"):
        peakmem.load(write(pt2_files.zipped(members)))


@pytest.mark.parametrize("major", [4, 9, 99, None, "8"])
def test_other_versions_of_the_schema(write, major):
    document, weights = pt2_files.convolution()
    document["schema_version"]["major"] = major
    with pytest.raises(FormatError, match="5 to 8"):
        peakmem.load(write(pt2_files.archive(document, weights)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("graph_module", "graph", "nodes", 0, "inputs", 0, "arg"), {"as_tensor": {"name": "nowhere"}}),
        (("graph_module", "graph", "nodes", 0, "target"), 7),
        (("graph_module", "graph", "nodes", 0, "outputs"), None),
        (("graph_module", "graph", "tensor_values", "x", "dtype"), 99),
        (("graph_module", "graph", "tensor_values", "x", "sizes"), [{"as_int": -4}]),
        (("graph_module", "graph", "tensor_values", "x", "sizes"), [{"as_int": 1}] * 99),
        (("graph_module", "graph", "tensor_values"), []),
        (("graph_module", "signature", "input_specs", 0), {}),
        (("graph_module", "signature"), None),
        (("graph_module",), None),
    ],
)
def test_damaged_documents(write, path, value):
    document, weights = pt2_files.convolution()
    document = copy.deepcopy(document)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises((FormatError, GraphError)):
        peakmem.load(write(pt2_files.archive(document, weights)))


def test_json_that_unpacks_to_too_much(write):
    bomb = b'{"a": [' + b"[]," * 5_000_000 + b"[]]}"
    members = [("net/archive_format", "pt2"), ("net/models/model.json", bomb)]
    with pytest.raises(FormatError, match="parts"):
        peakmem.load(write(pt2_files.zipped(members, compress=True)))
    deep = [("net/archive_format", "pt2"), ("net/models/model.json", b"[" * 200_000)]
    with pytest.raises(FormatError):
        peakmem.load(write(pt2_files.zipped(deep, compress=True)))


def test_no_torch_is_imported(write):
    path = write(pt2_files.archive(*pt2_files.convolution()))
    code = f"import sys, peakmem; peakmem.estimate({str(path)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- what torch writes -------------------------------------------------------------------


def small_networks():
    torch = pytest.importorskip("torch")
    from tests.unit.frontends import torch_networks as networks

    image, ids = torch.randn(2, 3, 64, 64), torch.randint(0, 100, (2, 16))
    return {
        "mobilenet_v2": (lambda: networks.mobilenet_v2(inplace=True), image),
        "resnet18": (lambda: networks.resnet18(inplace=True), image),
        "squeezenet": (lambda: networks.squeezenet1_1(inplace=False), image),
        "googlenet": (networks.googlenet, image),
        "unet": (networks.UNet, image),
        "vit": (lambda: networks.ViT(layers=2, resolution=64), image),
        "gpt2": (lambda: networks.GPT2(layers=2, vocabulary=500), ids),
        "bert": (lambda: networks.Bert(layers=2, vocabulary=500), ids),
        "lstm": (networks.LSTM, torch.randn(2, 10, 128)),
        "llama": (lambda: networks.Llama(2, 64, 128, 4, 2, 500), ids),
    }


SLOW = ("mobilenet_v2", "googlenet", "vit", "bert")
QUICK = ("resnet18", "squeezenet", "unet", "gpt2", "lstm", "llama")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_file_says_what_the_module_says(name, tmp_path):
    torch = pytest.importorskip("torch")
    make, given = small_networks()[name]
    module = make().eval()
    live, wide = peakmem.load(module, inputs=[given]), peakmem.load(module, inputs=[given], batch=5)
    path = tmp_path / "net.pt2"
    for dynamic in (None, ({0: torch.export.Dim.DYNAMIC},)):
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(module, (given,), dynamic_shapes=dynamic), path)
        read = peakmem.load(path)
        for assume in ASSUMPTIONS:
            ours = peakmem.estimate(read, assume=assume)
            assert ours.kind == "estimate"
            assert ours.peak.activation_bytes == peakmem.estimate(live, assume=assume).peak.activation_bytes
            if dynamic:
                bound = peakmem.estimate(read, assume=assume, batch=5).peak.activation_bytes
                assert bound == peakmem.estimate(wide, assume=assume).peak.activation_bytes
        trainable = sum(parameter.numel() for parameter in module.parameters())
        assert ours.parameters.trainable == trainable
        if dynamic is None:
            # Told by strides in the file, by memory in the module.
            assert [op.aliases for op in read.operators] == [op.aliases for op in live.operators]
            assert [op.scope for op in read.operators] == [op.scope for op in live.operators]


def test_decomposed_programs(tmp_path):
    torch = pytest.importorskip("torch")
    from tests.unit.frontends import torch_networks as networks

    module = networks.resnet18(inplace=True).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (torch.randn(1, 3, 64, 64),)).run_decompositions()
        torch.export.save(exported, tmp_path / "net.pt2")
    ours = peakmem.estimate(tmp_path / "net.pt2", assume="eager")
    zoo = peakmem.estimate("resnet18:resolution=64", assume="eager")
    # Only the pooling differs, which has its indices beside it here; it is not where the peak is.
    assert ours.peak.activation_bytes == zoo.peak.activation_bytes
    assert ours.parameters.trainable == zoo.parameters.trainable
