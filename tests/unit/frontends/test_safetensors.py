"""safetensors against the format's own library, and files that it refuses."""

import ctypes
import json
import struct

import pytest

import peakmem
from peakmem.errors import FormatError
from peakmem.frontends.safetensors.reader import STORED, read_safetensors


def file(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype="F32", shape=(2, 2), start=0, stop=16):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def stored(graph):
    return {name: (tensor.shape, str(tensor.dtype), tensor.nbytes) for name, tensor in graph.tensors.items()}


# -- files of the library ----------------------------------------------------------------


LIBRARY_NAMES = {
    "BOOL": "bool", "F4": "float4_e2m1fn_x2", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "C64": "complex64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
}  # fmt: skip
BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64, "BF16": 16} | {
    code: int(code[1:].split("_")[0]) for code in LIBRARY_NAMES if code[1:2].isdigit() and code != "C64"
}


def test_every_dtype_of_the_library_is_known():
    assert set(STORED) == set(LIBRARY_NAMES) | {"F6_E2M3", "F6_E3M2"}


@pytest.mark.parametrize("code", sorted(LIBRARY_NAMES))
def test_what_the_library_writes_is_sized_to_the_byte(tmp_path, code):
    library = pytest.importorskip("safetensors")
    if not hasattr(library, "TensorSpec"):
        pytest.skip("needs safetensors 0.8")
    size = 32 * BITS[code] // 8
    data = (ctypes.c_char * size)()
    # The library counts F4 in pairs and writes single elements.
    shape = [4, 4] if code == "F4" else [4, 8]
    spec = library.TensorSpec(dtype=LIBRARY_NAMES[code], shape=shape, data_ptr=ctypes.addressof(data), data_len=size)
    path = tmp_path / "one.safetensors"
    path.write_bytes(library.serialize({"w": spec}))
    tensor = read_safetensors(path).tensors["w"]
    assert (tensor.shape, tensor.nbytes) == ((4, 8), size)
    assert tensor.nbytes + 8 + int.from_bytes(path.read_bytes()[:8], "little") == path.stat().st_size


@pytest.mark.parametrize("code", ["F6_E2M3", "F6_E3M2"])
def test_six_bit_dtypes_as_the_library_reads_them(tmp_path, code):
    library = pytest.importorskip("safetensors")
    path = file(tmp_path / "six.safetensors", {"w": entry(code, (4, 8), 0, 24)}, bytes(24))
    assert list(library.safe_open(path, "np").keys()) == ["w"]
    assert read_safetensors(path).tensors["w"].nbytes == 24


def test_a_state_dict_written_by_the_library(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    state = {
        "fc.weight": torch.zeros(10, 6), "fc.bias": torch.zeros(10, dtype=torch.bfloat16),
        "norm.weight": torch.zeros(6), "steps": torch.zeros((), dtype=torch.int64),
        "f8": torch.zeros(3, 5, dtype=torch.float8_e4m3fn), "empty": torch.zeros(0, 4), "mask": torch.zeros(7) > 0,
    }  # fmt: skip
    save_file(state, tmp_path / "m.safetensors", metadata={"format": "pt"})
    report = peakmem.estimate(tmp_path / "m.safetensors")
    assert {one.name: one.nbytes for one in report.tensors} == {
        name: tensor.numel() * tensor.element_size() for name, tensor in state.items()
    }
    assert report.weights_bytes == sum(one.nbytes for one in report.tensors) == sum(d.nbytes for d in report.dtypes)
    assert report.parameters.trainable == 60 + 10 + 6 + 15
    assert report.kind == "lower bound"
    assert [unknown.operator for unknown in report.unknowns] == ["activations"]
    assert not report.peak.activations_known
    header = next(detail for detail in report.details if detail.name == "headers").nbytes
    assert header + report.weights_bytes == report.model.file_bytes
    assert peakmem.estimate(tmp_path / "m.safetensors", dtype="fp16").weights_bytes == 60 * 2 + 20 + 12 + 8 + 30 + 7
    assert json.loads(report.to_json())["tensors"]


def test_order_and_spacing_of_the_header_do_not_matter(tmp_path):
    text = b'{ "b" : {"data_offsets":[16,24], "shape" : [ 2 ], "dtype":"I32", "more": {} },\n'
    text = text.replace(b', "more": {} ', b', "more": null ')
    text += b'"a\\u00e9\\"":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"__metadata__":{"k":"v}"}}   '
    graph = read_safetensors(file(tmp_path / "x.safetensors", text, bytes(24)))
    assert stored(graph) == {'aé"': ((2, 2), "float32", 16), "b": ((2,), "int32", 8)}


def test_no_tensors(tmp_path):
    assert peakmem.estimate(file(tmp_path / "x.safetensors", {})).weights_bytes == 0


# -- files that are not whole ------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        ({"a": entry(stop=15)}, bytes(15), "takes bytes 0 to 15, which is 15"),
        ({"a": entry()}, bytes(15), "truncated: 15 bytes of data"),
        ({"a": entry()}, bytes(17), "longer than its tensors"),
        ({"a": entry(), "b": entry(start=20, stop=36)}, bytes(36), "leaves a hole of 4 bytes"),
        ({"a": entry(), "b": entry(start=12, stop=28)}, bytes(28), "overlaps"),
        ({"a": entry(dtype="Q4")}, bytes(16), "has the dtype 'Q4'"),
        ({"a": entry(shape=(2**63, 4))}, bytes(16), "larger than any address space"),
        ({"a": entry(shape=(2, -2))}, bytes(16), "no usable shape"),
        ({"a": entry(shape=(2.0, 2))}, bytes(16), "no usable shape"),
        ({"a": entry(shape=(True, 4))}, bytes(16), "no usable shape"),
        ({"a": {"dtype": "F32", "shape": [4]}}, bytes(16), "no usable data_offsets"),
        ({"a": entry(dtype="F4", shape=(3,), stop=2)}, bytes(2), "ends inside a byte"),
        ({"a": [1]}, b"", "entry of tensor 'a' is damaged"),
        ({"__metadata__": {"a": 1}}, b"", "something other than texts"),
        (b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":' + json.dumps(entry()).encode() + b"}", bytes(16),
         "names 'a' twice"),
        (b'{"a":{"dtype":"F32","dtype":"F32","shape":[0],"data_offsets":[0,0]}}', b"", "a key stands twice"),
        (b'{"a":' + b"[" * 100_000 + b"}", b"", "entry of tensor 'a' is damaged"),
        (b'{"a":' + b'{"a":' * 100_000 + b"}", b"", "entry of tensor 'a' is damaged"),
        (b"{} {}", b"", "goes on after its end"),
        (b'{"a"', b"", "no JSON at byte 9"),
        (b'{"\xff":1}', b"", "not UTF-8"),
    ],
)  # fmt: skip
def test_damage_is_named(tmp_path, header, data, message):
    path = file(tmp_path / "x.safetensors", header, data)
    with pytest.raises(FormatError, match=message) as fault:
        peakmem.estimate(path)
    assert fault.value.where == str(path)
    try:
        import safetensors
    except ImportError:
        return
    if "twice" not in message:  # the library lets the last of two stand
        with pytest.raises(safetensors.SafetensorError):
            safetensors.safe_open(path, "np")
    assert fault.value.exit_code == 2


@pytest.mark.parametrize(
    ("length", "message"),
    [(1 << 60, "truncated"), (100_000_001, "a header of 100,000,001 bytes"), (3, "no JSON")],
)
def test_a_hostile_length_costs_nothing(tmp_path, length, message):
    path = file(tmp_path / "x.safetensors", {"a": entry()}, bytes(16), length)
    with path.open("r+b") as hole:
        hole.truncate(200_000_000)
    with pytest.raises(FormatError, match=message):
        peakmem.estimate(path)


def test_shorter_than_a_length(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x01\x02")
    with pytest.raises(FormatError, match="truncated: 2 bytes"):
        peakmem.estimate(tmp_path / "x.safetensors")


# -- shards ------------------------------------------------------------------------------


def shards(folder, *, index=True, count=2, total=None, where=None):
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    for at, name in enumerate(names):
        file(folder / name, {f"l{at}.weight": entry()}, bytes(16))
    if index:
        weight_map = {f"l{at}.weight": name for at, name in enumerate(names)} if where is None else where
        content = {"metadata": {"total_size": 16 * count if total is None else total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    return folder


def test_an_index_and_a_folder_give_all_shards(tmp_path):
    shards(tmp_path)
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        report = peakmem.estimate(path)
        assert report.model.format == "safetensors"
        assert report.weights_bytes == 32
        assert not any("total" in note for note in report.assumptions)


def test_shards_without_an_index_are_taken_together(tmp_path):
    report = peakmem.estimate(shards(tmp_path, index=False))
    assert report.weights_bytes == 32
    assert any("no index" in note for note in report.assumptions)
    alone = peakmem.estimate(tmp_path / "model-00001-of-00002.safetensors")
    assert any("shard 1 of 2" in note for note in alone.assumptions)


def test_a_missing_shard_is_named(tmp_path):
    shards(tmp_path, count=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FormatError, match="model-00002-of-00003"):
        peakmem.estimate(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(FormatError, match="model-00002-of-00003"):
        peakmem.estimate(tmp_path)


def test_a_tensor_in_another_shard_than_the_index_says(tmp_path):
    shards(
        tmp_path,
        where={"l0.weight": "model-00002-of-00002.safetensors", "l1.weight": "model-00001-of-00002.safetensors"},
    )
    with pytest.raises(FormatError, match="2 tensors are not in the shard"):
        peakmem.estimate(tmp_path)


def test_another_total_is_a_note(tmp_path):
    report = peakmem.estimate(shards(tmp_path, total=33))
    assert any("33 bytes in total, its shards hold 32" in note for note in report.assumptions)


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a\\b", "", "..", "a\x00b", "x" * 300])
def test_a_shard_outside_the_folder_is_refused(tmp_path, name):
    shards(tmp_path, where={"l0.weight": name})
    with pytest.raises(FormatError, match="the index names the shard"):
        peakmem.estimate(tmp_path / "model.safetensors.index.json")


def test_a_tensor_in_two_shards(tmp_path):
    shards(tmp_path, index=False)
    file(tmp_path / "model-00002-of-00002.safetensors", {"l0.weight": entry()}, bytes(16))
    with pytest.raises(FormatError, match="stands in"):
        peakmem.estimate(tmp_path)


def test_several_models_in_a_folder(tmp_path):
    for name in ("a", "b"):
        file(tmp_path / f"{name}.safetensors", {"w": entry()}, bytes(16))
    with pytest.raises(FormatError, match="several models"):
        peakmem.estimate(tmp_path)


def test_a_config_beside_it_is_pointed_at(tmp_path):
    path = file(tmp_path / "model.safetensors", {"w": entry()}, bytes(16))
    assert "config.json" in peakmem.estimate(path).unknowns[0].hint
    (tmp_path / "config.json").write_text("{}")
    assert str(tmp_path) in peakmem.estimate(path).unknowns[0].hint


# -- packed weights ----------------------------------------------------------------------


def details(tmp_path, tensors, contents=b""):
    widths = {"I32": 4, "F16": 2, "U8": 1, "F32": 4, "I64": 8, "F8_E4M3": 1, "I8": 1, "U32": 4, "BF16": 2}
    header, offset = {}, 0
    for name, (code, *shape) in tensors.items():
        size = widths[code]
        for dim in shape:
            size *= dim
        header[name] = entry(code, shape, offset, offset + size)
        offset += size
    report = peakmem.estimate(file(tmp_path / "q.safetensors", header, contents + bytes(offset - len(contents))))
    return {detail.name: detail for detail in report.details}


@pytest.mark.parametrize(
    ("convention", "tensors", "elements"),
    [
        # 4096 × 11008, 8 elements in an int32 along the inputs
        ("gptq", {"p.qweight": ("I32", 512, 11008), "p.qzeros": ("I32", 32, 1376), "p.scales": ("F16", 32, 11008),
                  "p.g_idx": ("I32", 4096)}, 4096 * 11008),
        ("gptq", {"p.qweight": ("I32", 512, 64), "p.qzeros": ("I32", 32, 8), "p.scales": ("F16", 32, 64)}, 4096 * 64),
        # 3 bits: 32 elements in three int32
        ("gptq", {"p.qweight": ("I32", 384, 64), "p.qzeros": ("I32", 32, 6), "p.scales": ("F16", 32, 64)}, 4096 * 64),
        ("awq", {"p.qweight": ("I32", 4096, 1376), "p.qzeros": ("I32", 32, 1376), "p.scales": ("F16", 32, 11008)},
         4096 * 11008),
        ("bitsandbytes 4-bit", {"p.weight": ("U8", 8192, 1), "p.weight.absmax": ("F32", 256),
                                "p.weight.quant_map": ("F32", 16),
                                "p.weight.quant_state.bitsandbytes__nf4": ("U8", 80)}, 128 * 128),
        ("bitsandbytes int8", {"p.weight": ("I8", 16, 16), "p.SCB": ("F32", 16)}, 256),
        ("mxfp4", {"e.up_blocks": ("U8", 32, 5760, 90, 16), "e.up_scales": ("U8", 32, 5760, 90)}, 32 * 5760 * 2880),
        ("float8e4m3fn with weight_scale_inv",
         {"p.weight": ("F8_E4M3", 16, 16), "p.weight_scale_inv": ("F32", 1, 1)}, 256),
        ("nvfp4", {"p.weight": ("U8", 8, 16), "p.weight_scale": ("F8_E4M3", 8, 2), "p.weight_scale_2": ("F32",)}, 256),
        ("compressed-tensors, nvfp4", {"p.weight_packed": ("U8", 8, 16), "p.weight_scale": ("F8_E4M3", 8, 2)}, 256),
    ],
)  # fmt: skip
def test_packed_weights_count_their_elements(tmp_path, convention, tensors, elements):
    found = details(tmp_path, {**tensors, "norm.weight": ("BF16", 7)})
    assert f" {elements:,} elements" in found[f"quantised weights ({convention})"].text
    assert found["parameters once unpacked"].text.startswith(f"{elements + 7:,};")


def test_compressed_tensors_tell_the_shape(tmp_path):
    found = details(
        tmp_path,
        {"p.weight_shape": ("I64", 2), "p.weight_packed": ("I32", 8, 3), "p.weight_scale": ("BF16", 8, 1)},
        struct.pack("<2q", 8, 20),  # 20 columns take three int32 of 8 elements
    )
    assert " 160 elements" in found["quantised weights (compressed-tensors)"].text


def test_where_the_packing_is_open_no_number_is_given(tmp_path):
    found = details(tmp_path, {"p.weight": ("U32", 8, 8), "p.scales": ("F16", 8, 1), "p.biases": ("F16", 8, 1)})
    assert "not told" in found["quantised weights (mlx)"].text
    assert "parameters once unpacked" not in found
