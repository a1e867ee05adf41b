"""The HDF5 header reader: files written by hand, and against h5py."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from peakmem.errors import FormatError
from peakmem.frontends.keras.hdf5 import Object, Unwritten, read_objects
from tests.unit.frontends.hdf5_files import hdf5


class InMemory:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.most = 0

    def pread(self, offset: int, count: int) -> bytes:
        self.most = max(self.most, count)
        return self.data[offset : offset + count]


def objects(data: bytes) -> dict[str, Object]:
    return read_objects(InMemory(data), "file")


def test_reads_groups_datasets_and_texts():
    found = objects(hdf5({"@note": "é" * 70_000, "a": {"@name": "x", "w": ((2, 3), "float32"), "n": ((), "int64")}}))
    assert found[""].attributes == {"note": "é" * 70_000}
    assert found["a"].attributes == {"name": "x"}
    assert found["a"].shape is None
    assert (found["a/w"].shape, str(found["a/w"].dtype), found["a/w"].stored_bytes) == ((2, 3), "float32", 24)
    assert (found["a/n"].shape, str(found["a/n"].dtype)) == ((), "int64")


def test_the_content_of_datasets_is_not_read():
    source = InMemory(hdf5({"w": ((1 << 20,), "float32")}))
    read_objects(source, "file")
    assert source.most < 1 << 16


def test_a_dataset_that_reaches_beyond_the_file():
    data = hdf5({"w": ((1 << 10,), "float32")})
    with pytest.raises(FormatError, match=r"truncated|outside"):
        objects(data[: len(data) // 2])


def test_a_lying_shape():
    data = hdf5({"w": ((1000,), "float32")}).replace((1000).to_bytes(8, "little"), (1 << 40).to_bytes(8, "little"))
    with pytest.raises(FormatError, match="lies outside of the file or has other room"):
        objects(data)


def test_other_files():
    with pytest.raises(FormatError, match="no HDF5"):
        objects(b"not at all")
    with pytest.raises(FormatError, match="superblock version 9"):
        objects(b"\x89HDF\r\n\x1a\n\x09" + bytes(100))


@pytest.fixture
def h5py():
    return pytest.importorskip("h5py")


def tree_of(h5py, data: bytes) -> dict[str, tuple[object, ...]]:
    """What h5py says of a file."""
    found: dict[str, tuple[object, ...]] = {}

    def visit(name: str, item: object) -> None:
        found[name] = (item.shape, str(item.dtype), item.nbytes) if isinstance(item, h5py.Dataset) else (None,)

    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(visit)
    return found


def seen(data: bytes) -> dict[str, tuple[object, ...]]:
    return {
        path: (item.shape, str(item.dtype), item.stored_bytes) if item.shape is not None else (None,)
        for path, item in objects(data).items()
        if path
    }


def test_our_writer_is_read_by_h5py(h5py):
    data = hdf5({"@config": "{}", "a": {"b": {"w": ((2, 3), "float16")}, "v": ((4,), "int8")}, "z": {}})
    assert seen(data) == tree_of(h5py, data)
    with h5py.File(io.BytesIO(data), "r") as file:
        assert file.attrs["config"] == "{}"


def written(h5py, fill, **options) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        fill(file)
    return stream.getvalue()


@pytest.mark.parametrize("many", [1, 7, 9, 40, 700])
def test_groups_of_any_size(h5py, many):
    """Over 8 members a node splits, over some hundred the tree gets levels."""

    def fill(file):
        for index in range(many):
            file.create_dataset(f"layers/layer_{index}/vars/0", shape=(index + 1, 2), dtype="float32")
            file[f"layers/layer_{index}/vars"].attrs["name"] = f"layer {index}"

    data = written(h5py, fill)
    assert seen(data) == tree_of(h5py, data)
    assert objects(data)["layers/layer_0/vars"].attributes["name"] == "layer 0"


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "uint32", "int64", "bool"]
)
def test_dtypes(h5py, dtype):
    data = written(h5py, lambda file: file.create_dataset("w", shape=(3, 2), dtype=dtype))
    assert str(objects(data)["w"].dtype) == dtype


def test_attributes_of_every_form(h5py):
    import numpy

    def fill(file):
        file.attrs["text"] = "short"
        file.attrs["bytes"] = b"bytes"
        file.attrs["long"] = "x" * 200_000
        file.attrs["names"] = numpy.array([b"one", b"three"])
        file.attrs["number"] = 3
        for index in range(30):
            file.attrs[f"more_{index}"] = f"value {index}"

    found = objects(written(h5py, fill))[""].attributes
    assert found["text"] == "short"
    assert found["bytes"] == "bytes"
    assert found["long"] == "x" * 200_000
    assert found["names"] == ("one", "three")
    assert "number" not in found
    assert found["more_29"] == "value 29"


def test_new_style_files(h5py):
    def fill(file):
        for index in range(5):
            file.create_dataset(f"g/{index}", shape=(index, 2), dtype="float32")
        file["g"].attrs["name"] = "here"

    data = written(h5py, fill, libver="latest")
    assert seen(data) == tree_of(h5py, data)
    assert objects(data)["g"].attributes["name"] == "here"


def test_a_group_in_a_fractal_heap_is_named(h5py):
    def fill(file):
        for index in range(50):
            file.create_group(f"group_{index}")

    with pytest.raises(Unwritten, match="fractal heaps"):
        objects(written(h5py, fill, libver="latest"))


def test_chunked_and_compressed_datasets_are_sized(h5py):
    data = written(
        h5py, lambda file: file.create_dataset("w", shape=(100, 100), dtype="float32", chunks=True, compression="gzip")
    )
    assert objects(data)["w"].stored_bytes == 40_000


def test_a_cycle_of_links_ends(h5py):
    def fill(file):
        file.create_group("a")["back"] = file["/"]
        file["soft"] = h5py.SoftLink("/a")

    assert "a" in objects(written(h5py, fill))


def test_no_file(tmp_path: Path):
    from peakmem.frontends.keras.reader import read_keras

    path = tmp_path / "x.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(FormatError, match=r"x\.h5"):
        read_keras(path)
