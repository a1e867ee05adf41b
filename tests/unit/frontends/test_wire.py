"""The protobuf walker against protobuf itself, and against bytes that are not protobuf."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from peakmem.errors import FormatError
from peakmem.frontends.onnx import wire
from peakmem.frontends.onnx.wire import BYTES, FIXED32, FIXED64, VARINT, WireError, WireFile
from peakmem.frontends.section import Section


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, kind: int, content: int | bytes) -> bytes:
    head = varint(number << 3 | kind)
    if isinstance(content, int):
        return head + varint(content)
    return head + (varint(len(content)) if kind == BYTES else b"") + content


def decoded(data: bytes) -> list[tuple[int, int, int | bytes]]:
    """The fields of `data` with their contents."""
    return [
        (number, kind, value if kind == VARINT else data[value:end])
        for number, kind, value, end in wire.fields(data, 0, len(data))
    ]


def decoded_from_file(path: Path) -> list[tuple[int, int, int | bytes]]:
    with WireFile(path) as file:
        return [
            (number, kind, value if kind == VARINT else file.read(value, end))
            for number, kind, value, end in file.fields(0, file.size)
        ]


contents = st.one_of(
    st.tuples(st.integers(1, 2**29 - 1), st.just(VARINT), st.integers(0, 2**64 - 1)),
    st.tuples(st.integers(1, 2**29 - 1), st.just(BYTES), st.binary(max_size=300)),
    st.tuples(st.integers(1, 2**29 - 1), st.just(FIXED32), st.binary(min_size=4, max_size=4)),
    st.tuples(st.integers(1, 2**29 - 1), st.just(FIXED64), st.binary(min_size=8, max_size=8)),
)


@given(st.lists(contents, max_size=12))
def test_what_is_written_is_read_back(items):
    data = b"".join(field(*item) for item in items)
    assert decoded(data) == items


@given(st.lists(contents, max_size=12), st.integers(1, 64))
def test_a_file_gives_the_same_fields_through_any_window(tmp_path_factory, items, window):
    path = tmp_path_factory.mktemp("wire") / "message"
    path.write_bytes(b"".join(field(*item) for item in items))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "_LEAST_WINDOW", window)
        patch.setattr(wire, "_MOST_WINDOW", 2 * window)
        assert decoded_from_file(path) == items


@given(st.binary(max_size=200))
def test_random_bytes_end_in_fields_or_in_a_wire_error(tmp_path_factory, data):
    def attempt(read):
        try:
            return read()
        except WireError:
            return "damaged"

    path = tmp_path_factory.mktemp("wire") / "message"
    path.write_bytes(data)
    assert attempt(lambda: decoded(data)) == attempt(lambda: decoded_from_file(path))


def test_an_onnx_tensor_reads_as_protobuf_wrote_it():
    tensor = helper.make_tensor("weights", TensorProto.INT64, [2, 3], [1, -1, 2**62, -(2**63), 0, 127])
    tensor.doc_string = "näme"
    data = tensor.SerializeToString()
    found = decoded(data)
    assert [content for number, _, content in found if number == 1] == [2, 3]
    (values,) = [content for number, _, content in found if number == 7]
    assert wire.packed_varints(values) == list(tensor.int64_data)
    assert (8, BYTES, b"weights") in found
    assert any(content == "näme".encode() for _, _, content in found)


def test_floats_are_little_endian():
    data = onnx.AttributeProto(name="a", type=onnx.AttributeProto.FLOAT, f=-0.15625).SerializeToString()
    (at,) = [value for number, kind, value, _ in wire.fields(data, 0, len(data)) if (number, kind) == (2, FIXED32)]
    assert wire.float32(data, at) == -0.15625


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_varints_of_every_length(value):
    data = field(5, VARINT, value)
    assert decoded(data) == [(5, VARINT, value)]
    assert wire.signed(value) == struct.unpack("<q", struct.pack("<Q", value))[0]


def test_a_varint_may_be_longer_than_it_needs_to_be():
    # Protobuf allows padding with empty groups of seven bits, up to ten bytes.
    assert decoded(b"\x08\x81\x80\x80\x00") == [(1, VARINT, 1)]
    assert decoded(b"\x08" + b"\x81" + b"\x80" * 8 + b"\x00") == [(1, VARINT, 1)]


def test_bits_beyond_64_are_dropped_as_protobuf_does():
    assert decoded(b"\x08" + b"\xff" * 9 + b"\x7f") == [(1, VARINT, 2**64 - 1)]


DAMAGED = {
    "eleven bytes": b"\x08" + b"\x80" * 10 + b"\x01",
    "a varint cut off": b"\x08\x80",
    "a tag cut off": b"\x80",
    "a length cut off": b"\x0a\x80",
    "a tag alone": b"\x08",
    "a length alone": b"\x0a",
    "fewer bytes than announced": b"\x0a\x05abc",
    "a length of 2^64 - 1": b"\x0a" + b"\xff" * 9 + b"\x01",
    "four bytes cut off": b"\x0d\x00\x00\x00",
    "eight bytes cut off": b"\x09\x00\x00\x00\x00\x00\x00\x00",
    "the start of a group": field(1, 3, 0)[:1],
    "the end of a group": field(1, 4, 0)[:1],
    "wire type 6": b"\x0e\x00",
    "wire type 7": b"\x0f\x00",
    "field 0": b"\x00\x00",
    "field 0 of bytes": b"\x02\x01a",
    "after a good field": b"\x08\x01" + b"\x0f",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_not_protobuf_is_refused(tmp_path, data):
    with pytest.raises(WireError):
        decoded(data)
    path = tmp_path / "message"
    path.write_bytes(data)
    with pytest.raises(WireError):
        decoded_from_file(path)


def test_a_field_may_not_reach_over_the_end_of_its_message():
    # The outer message is long enough; the inner one is not.
    data = field(1, BYTES, b"\x0a\x04ab") + b"cdef" * 3
    (number, _, start, end), *_ = wire.fields(data, 0, 6)
    assert number == 1
    with pytest.raises(WireError, match="past the end"):
        list(wire.fields(data, start, end))


@pytest.mark.parametrize("inner", [b"\x08", b"\x0a", b"\x08\x80", b"\x80"])
def test_a_number_may_not_reach_over_the_end_of_its_message(inner):
    data = field(1, BYTES, inner) + b"\x01\x01\x01"
    _, _, start, end = next(wire.fields(data, 0, len(data)))
    with pytest.raises(WireError):
        list(wire.fields(data, start, end))


def test_text_is_utf_8():
    assert wire.text("größe".encode(), 0, 7) == "größe"
    with pytest.raises(WireError, match="UTF-8"):
        wire.text(b"\xff\xfe", 0, 2)


def test_packed_numbers_cut_off():
    assert wire.packed_varints(b"") == []
    with pytest.raises(WireError):
        wire.packed_varints(b"\x01\x80")


def test_large_contents_are_stepped_over_and_not_read(tmp_path, monkeypatch):
    path = tmp_path / "message"
    big = 50 << 20
    with path.open("wb") as file:
        for name in (b"first", b"second", b"third"):
            file.write(field(1, BYTES, name) + varint(9 << 3 | BYTES) + varint(big))
            file.seek(big, os.SEEK_CUR)
        file.write(field(2, VARINT, 7))
    loaded = 0
    load = Section.pread

    def counted(self, start, count):
        nonlocal loaded
        loaded += count
        return load(self, start, count)

    monkeypatch.setattr(Section, "pread", counted)
    with WireFile(path) as file:
        found = list(file.fields(0, file.size))
        names = [file.read(value, end) for number, _, value, end in found if number == 1]
    assert names == [b"first", b"second", b"third"]
    assert [end - value for number, _, value, end in found if number == 9] == [big] * 3
    assert found[-1][:3] == (2, VARINT, 7)
    assert loaded < 64 << 10


def test_reading_on_reads_in_few_pieces(tmp_path, monkeypatch):
    path = tmp_path / "message"
    path.write_bytes(field(1, BYTES, b"x" * 30) * 50_000)
    calls = 0
    load = Section.pread

    def counted(self, start, count):
        nonlocal calls
        calls += 1
        return load(self, start, count)

    monkeypatch.setattr(Section, "pread", counted)
    assert len(decoded_from_file(path)) == 50_000
    assert calls < 24


def test_a_read_longer_than_the_window(tmp_path):
    path = tmp_path / "message"
    content = os.urandom(3 << 20)
    path.write_bytes(field(1, BYTES, content) + field(2, BYTES, b"after"))
    assert decoded_from_file(path) == [(1, BYTES, content), (2, BYTES, b"after")]


def test_a_read_beyond_the_end(tmp_path):
    path = tmp_path / "message"
    path.write_bytes(b"12345")
    with WireFile(path) as file:
        assert file.read(1, 5) == b"2345"
        with pytest.raises(WireError, match="ends at byte 5, 3 bytes too early"):
            file.read(2, 8)


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "message"
    path.write_bytes(b"x" * 100_000)
    with WireFile(path) as file:
        os.truncate(path, 10)
        with pytest.raises(WireError, match="ends early"):
            file.read(50_000, 50_010)


def test_no_text_or_list_is_as_long_as_a_weight(tmp_path, monkeypatch):
    monkeypatch.setattr(wire, "_LONGEST_READ", 1000)
    path = tmp_path / "message"
    path.write_bytes(b"x" * 5000)
    with WireFile(path) as file, pytest.raises(WireError, match="has 2000 bytes"):
        file.read(0, 2000)


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(FormatError, match="cannot be read"):
        WireFile(tmp_path / "nowhere")
