"""Formulas of real networks, against hand arithmetic and against `peakmem.estimate` value by value."""

import json

import pytest

import peakmem
from peakmem.errors import UsageError
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Symbol
from peakmem.passes.assume import ASSUMPTIONS
from peakmem.report.codec import from_json
from peakmem.report.formula import Formula, Largest, PeakFormula
from peakmem.scaling import largest, peak_formula


def same(found, source, values, **settings):
    """That `estimate` says what the formula does; the values it says nothing of."""
    without = []
    for x in values:
        if found.piece(x) is None:
            without.append(x)
            continue
        report = peakmem.estimate(source, **{name: make(x) for name, make in settings.items()})
        assert (report.peak_bytes, report.peak.total_bytes) == (found.live_bytes(x), found.resident_bytes(x)), x
        assert report.peak.operator == found.piece(x).operator
    return without


def test_resnet50_by_hand():
    """At the first sum three tensors of 256 x 56 x 56 floats are alive; 25,610,152 numbers are stored."""
    found = peak_formula("resnet50", "batch")
    (piece,) = found.pieces
    assert piece.live == Formula((0, 3 * 256 * 56 * 56 * 4))
    assert piece.weights == Formula((4 * 25_610_152,))
    assert piece.resident == Formula((4 * 25_610_152, 3 * 256 * 56 * 56 * 4))
    assert (piece.operator, piece.low, piece.unbroken, found.kind) == ("layer1.0/add", 1, True, "exact")
    assert found.traces == 1


def test_a_stem_by_hand():
    """Two convolutions of stride 2: sides a = ceil(x / 2), c = ceil(a / 2); 3x² and 16a² floats, 16a² and 32c²."""
    b = GraphBuilder("stem")
    side = Symbol("side")
    y = b.conv(b.input("image", (1, 3, side, side)), 16, kernel=3, stride=2, pad=1)
    graph = b.finish(b.conv(y, 32, kernel=3, stride=2, pad=1))
    found = peak_formula(graph, "side", limits=(1, 200), every_residue=True)
    for x in range(1, 201):
        a = -(-x // 2)
        c = -(-a // 2)
        assert found.live_bytes(x) == 4 * max(3 * x * x + 16 * a * a, 16 * a * a + 32 * c * c), x
    assert found.modulus == 4


@pytest.mark.parametrize("assume", ASSUMPTIONS)
def test_every_assumption(assume):
    found = peak_formula("mobilenet_v2", "batch", assume=assume)
    assert same(found, "mobilenet_v2", (1, 2, 5, 64, 255), batch=lambda x: x, assume=lambda _: assume) == []


@pytest.mark.parametrize("dtype", ["float16", "int8", "int4"])
def test_every_kind_of_dtype(dtype):
    found = peak_formula("shufflenet_v2", "batch", dtype=dtype)
    assert same(found, "shufflenet_v2", (1, 2, 3, 31), batch=lambda x: x, dtype=lambda _: dtype) == []


def test_the_attention_matrix_takes_over():
    """GPT-2 on n tokens: logits of 50,257 n floats with what is beside them, then 12 heads of n² floats."""
    found = peak_formula("gpt2_small", "context")
    assert [piece.operator for piece in found.pieces] == ["lm_head/lm_head"]
    assert found.pieces[0].live == Formula((0, 4 * (50_257 + 768)))
    assert found.gaps[0].low == 1025
    assert "position table" in found.gaps[0].reason
    longer = peak_formula("gpt2_small:positions=8192", "sequence")
    assert longer.pieces[-1].live.coefficients[2] == 2 * 12 * 4  # scores before and after the softmax
    for x in (1, 129, 2062, 2063, 8192):
        report = peakmem.estimate(f"gpt2_small:positions=8192,context={x}")
        assert (report.peak_bytes, report.peak.operator) == (longer.live_bytes(x), longer.piece(x).operator)


def test_resolutions_of_every_remainder():
    found = peak_formula("squeezenet1_1", "resolution", limits=(20, 90), every_residue=True)
    for x in range(20, 91):
        try:
            wanted = peakmem.estimate(f"squeezenet1_1:resolution={x}").peak_bytes
        except UsageError:
            wanted = None
        assert found.live_bytes(x) == wanted, x


def test_weights_follow_the_resolution():
    """A position for each patch of 16 x 16 and one for the class, of 384 floats."""
    found = peak_formula("vit_s16", "resolution")
    weights = found.pieces[0].weights
    assert weights.at(224) - weights.at(208) == 4 * 384 * (14 * 14 - 13 * 13)
    assert found.residues == (0,)
    assert found.modulus == 16


def test_skips_that_are_cropped():
    found = peak_formula("unet", "resolution")
    values = (188, 508, 524, 572, 588, 604, 620, 636, 1020)
    assert [x for x in values if found.piece(x) is None] == []
    for x in values:
        assert found.live_bytes(x) == peakmem.estimate(f"unet:resolution={x}").peak_bytes


def test_an_axis_of_a_file_that_fixes_it(tmp_path):
    onnx = pytest.importorskip("onnx")
    assert onnx
    from peakmem.zoo import build
    from peakmem.zoo.export import export_onnx

    path = tmp_path / "net.onnx"
    export_onnx(build("squeezenet1_1", resolution=64), path)
    by_axis = peak_formula(path, "input.3")
    assert same(by_axis, path, (64, 80, 128), shapes=lambda x: {"input": (1, 3, 64, x)}) == []
    square = peak_formula(path, "resolution", every_residue=True, limits=(33, 80))
    assert same(square, path, range(33, 81, 5), shapes=lambda x: {"input": (1, 3, x, x)}) == []
    batch = peak_formula(path, "batch")
    assert same(batch, path, (1, 2, 9), batch=lambda x: x) == []


def test_a_shape_says_the_other_sizes():
    """Three tensors of 256 x 80 x 80 floats for each image of 320 x 320; an axis may be counted from the end."""
    wide = {"input": (7, 3, 320, 320)}
    assert peak_formula("resnet50", "batch", shapes=wide).live_bytes(5) == 5 * 3 * 256 * 80 * 80 * 4
    found = peak_formula("resnet50", "input.-1", limits=(200, 300))
    assert found.knob == "input.3"
    assert found.live_bytes(256) == 3 * 256 * 56 * 64 * 4


def test_the_number_of_layers_is_fitted():
    """12 · 768² weights of a layer, four bytes each, are some of the 28,351,660 that it adds."""
    found = peak_formula("gpt2_small", "layers", limits=(1, 16))
    assert found.kind == "fitted"
    step = found.resident_bytes(9) - found.resident_bytes(8)
    assert step == found.resident_bytes(16) - found.resident_bytes(15) > 4 * 12 * 768**2
    assert found.resident_bytes(12) == peakmem.estimate("gpt2_small").peak.total_bytes


def test_a_configuration_and_the_room_of_its_cache(tmp_path):
    """Two layers of 2 heads of 8 numbers, keys and values, in two bytes each: 128 bytes for a token."""
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
        "max_position_embeddings": 512, "torch_dtype": "float16", "hidden_act": "silu", "rms_norm_eps": 1e-5,
    }  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    room = peak_formula(path, "context", batch=1, dims={"sequence": 16})
    assert room.pieces[0].state == Formula((0, 128))
    assert room.gaps[0].high == 15
    length = peak_formula(path, "sequence", batch=1)
    assert same(length, path, (1, 5, 16, 100), dims=lambda x: {"sequence": x}, batch=lambda _: 1) == []


def test_a_model_in_memory_is_fitted():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16 * 16, 4))
    found = peak_formula(model, "batch", inputs=[(1, 3, 16, 16)])
    assert found.kind == found.pieces[0].kind == "fitted"
    assert found.live_bytes(9) == 9 * 4 * (3 + 8) * 16 * 16
    assert found.pieces[0].checked
    answer = largest(model, "batch", 10**8, inputs=[(1, 3, 16, 16)])
    assert answer.nbytes <= 10**8 < answer.next_nbytes


def test_the_largest_batch_and_its_neighbours():
    """(2^30 - 102,440,608) / 9,633,792 = 100.8: 100 images fit."""
    answer = largest("resnet50", "batch", 2**30)
    assert (answer.value, answer.next_value, answer.how) == (100, 101, "solved")
    assert answer.nbytes == peakmem.estimate("resnet50", batch=100).peak.total_bytes
    assert answer.next_nbytes == peakmem.estimate("resnet50", batch=101).peak.total_bytes
    alone = largest("resnet50", "batch", 2**30, quantity="live", fixed_bytes=2**20)
    assert alone.value == (2**30 - 2**20) // 9_633_792


@pytest.mark.slow
def test_the_largest_resolution_of_all_and_of_a_grid():
    answer = largest("mobilenet_v2:width=0.35", "resolution", 320 * 1024, quantity="live")
    fitting = [x for x in range(33, 120) if _live("mobilenet_v2:width=0.35", x) <= 320 * 1024]
    assert answer.value == fitting[-1]
    grid = largest("mobilenet_v2:width=0.35", "resolution", 320 * 1024, quantity="live", multiple_of=16)
    assert grid.value == max(x for x in fitting if x % 16 == 0)
    assert grid.next_value == grid.value + 16


def _live(spec, x):
    return peakmem.estimate(f"{spec},resolution={x}").peak_bytes


def test_not_even_one_fits():
    answer = largest("resnet50", "batch", 10**6)
    assert (answer.value, answer.nbytes, answer.next_value) == (0, 0, 1)
    assert answer.next_nbytes == 102_440_608 + 9_633_792


def test_reports_are_read_back():
    found = peak_formula("lstm_2layer", "sequence")
    assert from_json(found.to_json(), PeakFormula) == found
    answer = largest("lstm_2layer", "batch", 10**7)
    assert from_json(answer.to_json(), Largest) == answer


def test_a_formula_is_not_put_in_where_it_does_not_hold():
    with pytest.raises(ValueError, match="does not hold at 3"):
        Formula((0, 1), 2).at(3)


@pytest.mark.parametrize(
    ("source", "knob", "message"),
    [
        ("resnet50", "resolutoin", "--symbolic resolution"),
        ("resnet50", "sequence", "one of batch, classes, resolution"),
        ("resnet50", "input.7", "has no size"),
        ("mobilenet_v2", "width", "rounds channels"),
        ("lstm_2layer", "batsch", "--symbolic batch"),
    ],
)
def test_unknown_knobs(source, knob, message):
    with pytest.raises(UsageError, match=message):
        peak_formula(source, knob)


def test_limits_that_hold_nothing():
    with pytest.raises(UsageError, match="no value lies between 9 and 3"):
        peak_formula("resnet50", limits=(9, 3))
    with pytest.raises(UsageError, match="no resolution lies between"):
        peak_formula("resnet50", "resolution", limits=(20_000, 30_000))
    with pytest.raises(UsageError, match="a capacity of -1"):
        largest("resnet50", "batch", -1)


def test_weights_alone_have_nothing_to_turn(tmp_path):
    path = tmp_path / "w.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(UsageError, match="no operators"):
        peak_formula(path, "batch")


def test_one_image_at_a_time(tmp_path):
    path = tmp_path / "net.param"
    path.write_text("7767517\n1 1\nInput data 0 1 data 0=8 1=8 2=3\n")
    with pytest.raises(UsageError, match="no batch to turn"):
        peak_formula(path, "batch")


def test_sizes_that_are_fixed_inside():
    """A table as large as the map is added to it, so that the image has one size."""
    b = GraphBuilder("fixed")
    x = b.conv(b.input("image", (1, 3, 64, 64)), 8, kernel=16)
    graph = b.finish(b.add(x, b.parameter("table", (1, 8, 49, 49))))
    with pytest.raises(UsageError, match="resolution can only be 64; elsewhere dimensions"):
        peak_formula(graph, "resolution", limits=(48, None))
