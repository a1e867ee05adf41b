"""GGUF against gguf-py, against figures that llama.cpp prints, and files that are not whole."""

import struct

import pytest

import peakmem
from peakmem.dtypes import BLOCK_DTYPES, parse_dtype
from peakmem.errors import FormatError
from peakmem.frontends.gguf.kv_cache import kv_cache
from peakmem.frontends.gguf.reader import read_gguf
from peakmem.frontends.gguf.types import TENSOR_TYPES
from tests.fuzz.formats.gguf import KEYS, TENSORS, Writer, build

# -- files of gguf-py --------------------------------------------------------------------


def written(path, *, keys=None, types=None, big=False, alignment=None, rows=3):
    """A file by gguf-py with a tensor of each type; bytes by name."""
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    order = gguf.GGUFEndian.BIG if big else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", endianess=order)
    if alignment:
        writer.add_custom_alignment(alignment)
    if keys is not None:
        keys(writer)
    plain = {"F32": "f4", "F16": "f2", "F64": "f8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}
    found = {}
    for kind in types or gguf.GGML_QUANT_SIZES:
        _, nbytes = gguf.GGML_QUANT_SIZES[kind]
        name = f"{kind.name}.weight"
        if kind.name in plain:
            data = numpy.zeros((rows, 5), dtype=plain[kind.name])
            writer.add_tensor(name, data)
        else:
            data = numpy.zeros((rows, 2 * nbytes), dtype=numpy.uint8)
            writer.add_tensor(name, data, raw_dtype=kind)
        found[name] = data.nbytes
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return found


@pytest.mark.parametrize(
    "options",
    [{}, {"big": True}, {"alignment": 8}, {"alignment": 16}, {"rows": 1}, {"alignment": 64}, {"rows": 7, "big": True}],
)
def test_every_type_is_sized_to_the_byte(tmp_path, options):
    path = tmp_path / "all.gguf"
    expected = written(path, **options)
    report = peakmem.estimate(path)
    assert {one.name: one.nbytes for one in report.tensors} == expected
    assert report.weights_bytes == sum(expected.values()) == sum(share.nbytes for share in report.dtypes)
    parts = {detail.name: detail.nbytes for detail in report.details}
    assert parts["metadata and tensor list"] + parts["padding"] + report.weights_bytes == path.stat().st_size


def test_block_formats_are_those_of_gguf_py():
    gguf = pytest.importorskip("gguf")
    sizes = {kind.value: pair for kind, pair in gguf.GGML_QUANT_SIZES.items()}
    for number, dtype in TENSOR_TYPES.items():
        if dtype.block > 1 and number in sizes and number != 9:
            assert (dtype.block, dtype.block_bytes) == sizes[number], dtype
    assert set(sizes) <= set(TENSOR_TYPES)
    # block_q8_1 of ggml-common.h: two float16 and 32 bytes; gguf-py still counts two float32
    assert BLOCK_DTYPES["q8_1"].block_bytes == 36


def test_shapes_are_outermost_first(tmp_path):
    gguf = pytest.importorskip("gguf")
    written(tmp_path / "x.gguf", types=[gguf.GGMLQuantizationType.F32], rows=3)
    assert read_gguf(tmp_path / "x.gguf").tensors["F32.weight"].shape == (3, 5)


def test_long_vocabularies_are_stepped_over(tmp_path):
    def keys(writer):
        writer.add_token_list([f"token{at}" for at in range(70_000)])
        writer.add_token_scores([0.0] * 70_000)
        writer.add_chat_template("x" * 100_000)
        writer.add_file_type(15)

    written(tmp_path / "x.gguf", keys=keys)
    details = {detail.name: detail.text for detail in peakmem.estimate(tmp_path / "x.gguf").details}
    assert details["vocabulary"] == "70,000 tokens"
    assert details["file type"] == "Q4_K_M"
    assert details["architecture"] == "llama"


# -- versions, byte orders ---------------------------------------------------------------


@pytest.mark.parametrize(("version", "order"), [(1, "<"), (2, "<"), (3, "<"), (3, ">"), (2, ">")])
def test_versions_and_byte_orders(tmp_path, version, order):
    path = tmp_path / "x.gguf"
    path.write_bytes(build(version, order).data)
    graph = read_gguf(path)
    # 256×8 of Q6_K, 256×4 of Q4_K, 256 float32, 32×3 of Q4_0, 64×2 of Q8_0, 5 bfloat16
    assert [tensor.nbytes for tensor in graph.tensors.values()] == [1680, 576, 1024, 54, 136, 10]
    assert list(graph.tensors) == list(TENSORS)
    assert graph.tensors["token_embd.weight"].shape == (8, 256)
    names = {detail.name: detail.text for detail in graph.details}
    assert names["version"] == f"GGUF {version}" + (", big-endian" if order == ">" else "")
    assert names["file type"] == "Q4_K_M"
    assert names["vocabulary"] == "4 tokens"


def test_roles(tmp_path):
    (tmp_path / "x.gguf").write_bytes(build().data)
    roles = {one.name: one.role for one in peakmem.estimate(tmp_path / "x.gguf").tensors}
    assert roles["blk.0.attn_norm.weight"] == roles["output_norm.weight"] == "norm"
    assert roles["blk.0.attn_q.weight"] == roles["token_embd.weight"] == "weight"


def one(kind=0, sizes=(4,), offset=0, data=64, keys=(), count=1, name="w"):
    writer = Writer()
    writer.put("Q", count)
    writer.put("Q", len(keys))
    for key in keys:
        writer.key(*key)
    for at in range(count):
        writer.text(name)
        writer.put("I", len(sizes))
        for size in sizes:
            writer.put("Q", size)
        writer.put("I", kind)
        writer.put("Q", offset if not at else offset + 32)
    writer.data += bytes(-len(writer.data) % 32 + data)
    return bytes(writer.data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (one(kind=4), "of type Q4_2 \\(4\\), which ggml has removed"),
        (one(kind=31), "of type Q4_0_4_4 \\(31\\), which ggml has removed"),
        (one(kind=77), "tensor 'w' is of type 77, which is not known"),
        (one(kind=12, sizes=(255, 2)), "rows of 255 elements \\(expected a multiple of 256"),
        (one(kind=2, sizes=()), "rows of 1 elements"),
        (one(sizes=(17,)), "truncated: tensor 'w' ends at byte"),
        (one(offset=4), "is at offset 4"),
        (one(offset=1 << 63), "truncated"),
        (one(sizes=(9,), count=2, data=96), "'w' stands twice"),
        (one(sizes=(1, 1, 1, 1, 1)), "has 5 dimensions"),
        (one(sizes=(2**62, 8)), "larger than any address space"),
        (one(keys=(("general.alignment", 4, 3),)), "general.alignment is 3"),
        (one(keys=(("general.alignment", 8, "x"),)), "general.alignment is 'x'"),
        (one(keys=(("a", 4, 3), ("a", 4, 3))), "'a' stands twice"),
        (one(keys=(("a", 9, (9, ((9, ((9, ((9, ((9, ()),)),)),)),))),)), "nested too deeply"),
        (b"GGUF\x04\0\0\0" + bytes(16), "GGUF version 4"),
        (b"GGUF\x03\0\0\0" + bytes(16), "neither tensors nor metadata"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "18,446,744,073,709,551,615 tensors"),
        (b"GGUF\x03\0\0\0" + bytes(8) + struct.pack("<QQ", 1, 1 << 40), "a metadata key of"),
        (b"GGUF\x03\0", "truncated in the version"),
        (
            b"GGUF\x03\0\0\0" + struct.pack("<QQQ", 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 8, 1 << 50),
            "elements in 'a'",
        ),
        (
            b"GGUF\x03\0\0\0" + struct.pack("<QQQ", 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 4, 1 << 50),
            "truncated in 'a'",
        ),
        (b"GGUF\x03\0\0\0" + struct.pack("<QQQ", 0, 1, 1) + b"a" + struct.pack("<I", 13), "value type 13"),
    ],
)
def test_damage_is_named(tmp_path, data, message):
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=message) as fault:
        peakmem.estimate(path)
    assert fault.value.where == str(path)


def test_any_cut_is_named(tmp_path):
    data, path = bytes(build().data), tmp_path / "x.gguf"
    for stop in range(8, len(data) - 32, 97):
        path.write_bytes(data[:stop])
        with pytest.raises(FormatError, match="truncated"):
            peakmem.estimate(path)


def test_tensors_that_overlap(tmp_path):
    writer = Writer()
    writer.put("Q", 2)
    writer.put("Q", 0)
    for name in ("a", "b"):
        writer.text(name)
        writer.put("I", 1)
        writer.put("Q", 16)
        writer.put("I", 0)
        writer.put("Q", 0 if name == "a" else 32)
    (tmp_path / "x.gguf").write_bytes(writer.data + bytes(256))
    with pytest.raises(FormatError, match="tensor 'b' at offset 32 overlaps"):
        peakmem.estimate(tmp_path / "x.gguf")


# -- split models ------------------------------------------------------------------------


def split(folder, count=3):
    pytest.importorskip("gguf")
    import gguf
    import numpy

    writer = gguf.GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=2)
    for at in range(2 * count):
        writer.add_tensor(f"blk.{at}.ffn_up.weight", numpy.zeros((4, 8), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("*.gguf"))


def test_all_parts_of_a_split_model_are_read(tmp_path):
    parts = split(tmp_path)
    assert len(parts) == 3
    for part in parts:
        report = peakmem.estimate(part)
        assert report.weights_bytes == 6 * 128
        assert len(report.tensors) == 6


def test_a_missing_part_is_named(tmp_path):
    parts = split(tmp_path)
    parts[1].unlink()
    with pytest.raises(FormatError, match=r"m-00002-of-00003\.gguf"):
        peakmem.estimate(parts[0])
    parts[2].rename(tmp_path / "other.gguf")
    with pytest.raises(FormatError, match="not named like it"):
        peakmem.estimate(tmp_path / "other.gguf")


# -- the key-value cache -----------------------------------------------------------------


def cache(architecture="llama", **keys):
    metadata = {"general.architecture": architecture}
    metadata |= {f"{architecture}.{name.replace('__', '.')}": value for name, value in keys.items()}
    return {detail.name: detail.nbytes for detail in kv_cache(metadata)}


MIB = 1 << 20


@pytest.mark.parametrize(
    ("keys", "mib"),
    [
        # llama.cpp prints "KV self size = 1024.00 MiB" for Llama 2 7B at 2048 tokens …
        ({"block_count": 32, "context_length": 2048, "embedding_length": 4096, "attention__head_count": 32}, 1024),
        # … and for Llama 3 8B at 8192
        ({"block_count": 32, "context_length": 8192, "embedding_length": 4096, "attention__head_count": 32,
          "attention__head_count_kv": 8}, 1024),
        # by hand, Mistral 7B: 2 × 32 layers × 32768 tokens × 8 heads × 128 × 2 B
        ({"block_count": 32, "context_length": 32768, "embedding_length": 4096, "attention__head_count": 32,
          "attention__head_count_kv": 8}, 4096),
        # by hand, Gemma 7B: 2 × 28 layers × 8192 tokens × 16 heads × 256 × 2 B
        ({"block_count": 28, "context_length": 8192, "embedding_length": 3072, "attention__head_count": 16,
          "attention__head_count_kv": 16, "attention__key_length": 256, "attention__value_length": 256}, 3584),
    ],
)  # fmt: skip
def test_cache_sizes(keys, mib):
    assert cache(**keys)["KV cache"] == mib * MIB


def test_heads_may_differ_by_layer():
    found = cache(
        block_count=3, context_length=10, embedding_length=64, attention__head_count=(4, 4, 4),
        attention__head_count_kv=(4, 0, 2),
    )  # fmt: skip
    assert found["KV cache per token"] == 2 * 2 * 16 * (4 + 0 + 2)


def test_latent_attention_keeps_one_compressed_key():
    # DeepSeek V2 as llama.cpp converts it: one head of 512 + 64, values made from it
    keys = {
        "block_count": 27, "context_length": 163840, "embedding_length": 2048, "attention__head_count": 16,
        "attention__head_count_kv": 1, "attention__key_length": 576, "attention__value_length": 512,
    }  # fmt: skip
    latent = cache("deepseek2", **keys, attention__key_length_mla=192, attention__value_length_mla=128)
    assert latent["KV cache per token"] == 27 * 576 * 2
    assert cache("deepseek2", **keys)["KV cache per token"] == 27 * (576 + 512) * 2


def test_windows_layer_by_layer():
    found = cache(
        "gpt-oss", block_count=4, context_length=1000, embedding_length=64, attention__head_count=4,
        attention__head_count_kv=1, attention__sliding_window=100, attention__sliding_window_pattern=(1, 0, 1, 0),
    )  # fmt: skip
    layer = 2 * 2 * 16
    assert found["KV cache"] == 4 * layer * 1000
    assert found["KV cache with windows"] == 2 * layer * 1000 + 2 * layer * 100


def test_a_window_without_its_layers_is_only_named():
    found = cache(block_count=2, context_length=1000, embedding_length=64, attention__head_count=4,
                  attention__sliding_window=100)  # fmt: skip
    assert found["sliding window"] is None
    assert "KV cache with windows" not in found


def test_recurrent_layers_are_said_to_be_unknown():
    assert cache("mamba", block_count=2, context_length=10, ssm__state_size=16) == {"recurrent state": None}
    hybrid = cache(
        "jamba", block_count=2, context_length=10, ssm__state_size=16, embedding_length=64, attention__head_count=4,
        attention__head_count_kv=(0, 2),
    )  # fmt: skip
    assert hybrid["recurrent state"] is None
    assert hybrid["KV cache"] == 10 * 2 * 2 * 16 * 2


@pytest.mark.parametrize(
    "keys",
    [
        {}, {"block_count": 2, "context_length": 8}, {"block_count": -1}, {"block_count": 1 << 60, "context_length": 1},
        {"block_count": 2, "embedding_length": 64, "attention__head_count": (4,)},
        {"block_count": 2, "embedding_length": "x", "attention__head_count": 0, "context_length": (1, 2)},
    ],
)  # fmt: skip
def test_nonsense_gives_no_number(keys):
    assert all(nbytes is None for nbytes in cache(**keys).values())


def test_files_without_a_language_model_have_no_cache():
    assert cache("clip", block_count=2, embedding_length=64, attention__head_count=4) == {}
    assert cache("bert", block_count=2, embedding_length=64, attention__head_count=4) == {}
    assert list(kv_cache({})) == []


# -- block formats on other models -------------------------------------------------------


def test_block_dtypes_by_name():
    assert parse_dtype("Q4_K") is BLOCK_DTYPES["q4_k"]
    assert parse_dtype("q6_k").nbytes(512) == 420
    assert parse_dtype("iq2_xxs").nbytes(4096) == 16 * 66


def test_a_float_file_counted_in_a_block_format(tmp_path):
    gguf = pytest.importorskip("gguf")
    numpy = pytest.importorskip("numpy")
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("blk.0.ffn_up.weight", numpy.zeros((4, 512), dtype=numpy.float32))
    writer.add_tensor("blk.0.ffn_norm.weight", numpy.zeros(512, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert peakmem.estimate(tmp_path / "x.gguf", dtype="q4_k").weights_bytes == 4 * 2 * 144 + 2048


def test_keys_of_the_seed_are_all_read(tmp_path):
    from peakmem.frontends.gguf.metadata import Skipped, read_beginning

    (tmp_path / "x.gguf").write_bytes(build().data)
    found = read_beginning(tmp_path / "x.gguf").metadata
    assert list(found) == [name for name, _, _ in KEYS]
    assert found["real"] == 0.5
    assert found["small"] == -3
    assert found["wide"] == -(2**40)
    assert found["llama.attention.head_count_kv"] == (4, 2)
    assert found["nested"] == Skipped(2)
