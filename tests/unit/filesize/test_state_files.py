"""Files of tensors alone: safetensors, PyTorch's state_dict, GGUF; against the libraries that write them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakmem.dtypes import FLOAT16, FLOAT32, INT4, INT8, INT64, parse_dtype
from peakmem.errors import UsageError
from peakmem.filesize import gguf, safetensors, torch_zip
from peakmem.filesize.content import Stored, converted, scale

DTYPES = ["float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


def stored(name, shape, dtype=FLOAT32, role="weight", channels=1, row=0):
    count = 1
    for dim in shape:
        count *= dim
    return Stored(name, role, tuple(shape), dtype, count, channels, row)


def test_a_safetensors_header_by_hand():
    header = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}
    sheet = safetensors.sheet([stored("w", (2, 3))])
    length = len(json.dumps(header, separators=(",", ":")))
    assert length == 57
    assert sheet.around == {"names and shapes": 57, "header": 8, "padding": 7}
    assert sheet.nbytes == 8 + 64 + 24


NAMES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x7f"), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        NAMES.filter(lambda name: name != "__metadata__" and name.isprintable()),
        st.tuples(st.lists(st.integers(0, 5), max_size=3), st.sampled_from(DTYPES)),
        min_size=1, max_size=12,
    ),
    st.sampled_from([None, {"format": "pt"}]),
)  # fmt: skip
def test_safetensors_as_the_library_writes_them(tensors, metadata):
    numpy = pytest.importorskip("numpy")
    library = pytest.importorskip("safetensors.numpy")
    real = library.save({name: numpy.zeros(shape, dtype) for name, (shape, dtype) in tensors.items()}, metadata)
    made = [stored(name, shape, parse_dtype(dtype)) for name, (shape, dtype) in tensors.items()]
    assert safetensors.sheet(made, metadata).nbytes == len(real)


def test_four_bits_are_two_to_a_byte_and_bring_scales():
    made = converted([stored("w", (6, 4), channels=6), stored("b", (6,), role="bias")], INT4, lambda one: (scale(one),))
    sheet = safetensors.sheet(made)
    assert [(one.name, one.dtype.name, one.shape, one.nbytes) for one in sheet.stored] == [
        ("b", "float32", (6,), 24), ("w_scale", "float32", (6,), 24), ("w", "uint8", (6, 2), 12),
    ]  # fmt: skip
    odd = safetensors.sheet([stored("w", (3, 3), INT4)])
    assert odd.stored[0].nbytes == 5  # nine halves of a byte


def module(features=3):
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 300, features, bias=False)
            self.bn = torch.nn.BatchNorm2d(300)
            self.act = torch.nn.ReLU()
            self.more = torch.nn.Sequential(*(torch.nn.Linear(9, 9) for _ in range(12)))

    return torch, Net()


def test_a_state_dict_as_torch_saves_it(tmp_path):
    torch, net = module()
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        state = net.to(dtype).state_dict()
        torch.save(state, tmp_path / "net.pt")
        made = [
            stored(name, tuple(tensor.shape), parse_dtype(str(tensor.dtype).removeprefix("torch.")))
            for name, tensor in state.items()
        ]
        sheet = torch_zip.sheet(made, ["act"], "net")
        assert sheet.nbytes == (tmp_path / "net.pt").stat().st_size


def test_a_module_as_it_is_saved(tmp_path):
    torch, net = module()
    net.forward = lambda x: net.more(net.act(net.bn(net.conv(x)))[..., :9])
    from peakmem import file_size

    torch.save(net.eval().state_dict(), tmp_path / "model.pt")
    size = file_size(net, "pt", inputs=[(1, 3, 16, 16)])
    assert size.nbytes == (tmp_path / "model.pt").stat().st_size
    # the counters of the norm are no parameters and are saved all the same
    assert size.tensor_bytes == sum(tensor.nbytes for tensor in net.state_dict().values())


def test_tied_weights_and_what_the_code_keeps(tmp_path):
    """A state has tied weights under both names, their bytes once, and nothing of what forward makes by itself."""
    torch, _ = module()
    from peakmem import file_size

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(50, 8)
            self.head = torch.nn.Linear(8, 50, bias=False)
            self.head.weight = self.table.weight
            self.kept = torch.arange(7.0)
            self.register_buffer("unsaved", torch.ones(9), persistent=False)

        def forward(self, x):
            return self.head(self.table(x)).sum() + self.kept.sum() + self.unsaved.sum()

    net = Net().eval()
    torch.save(net.state_dict(), tmp_path / "model.pt")
    size = file_size(net, "pt", inputs=[torch.zeros(1, 5, dtype=torch.int64)])
    assert size.nbytes == (tmp_path / "model.pt").stat().st_size
    assert size.tensor_bytes == 4 * 50 * 8
    assert file_size(net, "safetensors", inputs=[torch.zeros(1, 5, dtype=torch.int64)]).tensor_bytes == 4 * 50 * 8


def test_a_module_in_formats_with_operators():
    torch, _ = module()
    from peakmem import file_size

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 10),
    ).eval()  # fmt: skip
    sizes = {
        (form, dtype): file_size(net, form, dtype, inputs=[(1, 3, 8, 8)])
        for form in ("onnx", "ncnn", "tflite") for dtype in (None, "int8")
    }  # fmt: skip
    for (_, dtype), size in sizes.items():
        assert size.folded
        assert size.part("weights") == (8 * 27 + 80) * (1 if dtype else 4)
        assert size.part("biases") == 4 * (8 + 10)
    assert not sizes["ncnn", None].notes


def test_gguf_by_hand():
    # 24 bytes of head; one pair: 8 + 20 name, 4 type, 8 + 7 text; a line: 8 + 1 name, 4, two sizes, 4, 8
    sheet = gguf.sheet([stored("w", (2, 3))])
    assert sheet.around["header"] == 24 + 28 + 4 + 15
    assert sheet.around["names and shapes"] == 9 + 4 + 16 + 4 + 8
    assert sheet.nbytes == 128 + 24 + 8  # head up to a multiple of 32, data up to the next


def test_gguf_as_its_library_writes_it(tmp_path):
    numpy = pytest.importorskip("numpy")
    library = pytest.importorskip("gguf")
    writer = library.GGUFWriter(tmp_path / "m.gguf", gguf.ARCHITECTURE)
    made = []
    for name, shape, dtype in (("a", (3, 5), FLOAT32), ("bias", (7,), FLOAT16), ("table.weight", (9, 64), FLOAT16)):
        writer.add_tensor(name, numpy.zeros(shape, dtype.name))
        made.append(stored(name, shape, dtype))
    block = parse_dtype("q8_0")
    writer.add_tensor("q", numpy.zeros((4, 68), "u1"), raw_shape=(4, 68), raw_dtype=library.GGMLQuantizationType.Q8_0)
    made.append(stored("q", (4, 64), block))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert gguf.sheet(made).nbytes == (tmp_path / "m.gguf").stat().st_size


@pytest.mark.parametrize(
    ("writer", "dtype", "words"),
    [
        (safetensors, parse_dtype("q4_k"), "safetensors has no tensors of q4_k"),
        (torch_zip, INT4, "no tensors of int4"),
        (gguf, parse_dtype("uint8"), "GGUF has no tensors of uint8"),
    ],
)
def test_what_a_format_cannot_hold(writer, dtype, words):
    with pytest.raises(UsageError, match=words):
        writer.sheet([stored("w", (256, 256), dtype, row=256)])


def test_blocks_are_for_rows_they_divide():
    rows = [stored("w", (4, 256), row=256), stored("v", (4, 100), row=100), stored("c", (2,), INT64)]
    assert [one.dtype.name for one in converted(rows, parse_dtype("q4_k"))] == ["q4_k", "float32", "int64"]
    assert converted(rows, parse_dtype("q4_k"))[0].nbytes == 4 * 144
    assert [one.dtype for one in converted(rows, INT8)] == [INT8, INT8, INT64]
