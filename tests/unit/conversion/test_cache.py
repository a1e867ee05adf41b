"""What is kept, under which key, and what happens to it when the system or somebody else interferes."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from peakmem.conversion import convert
from peakmem.conversion.cache import Cache, root
from peakmem.conversion.content import content_hash, files_of
from peakmem.errors import UsageError

pytestmark = pytest.mark.usefixtures("fake")


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PEAKMEM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert root() == tmp_path / ".cache" / "peakmem"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert root() == tmp_path / ".cache" / "peakmem"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert root() == tmp_path / "xdg" / "peakmem"
    monkeypatch.setenv("PEAKMEM_CACHE", str(tmp_path / "own"))
    assert root() == tmp_path / "own"
    assert root(tmp_path / "told") == tmp_path / "told"


def test_kept_by_content_not_by_name(relu, cache, tmp_path):
    first = convert(relu, "mnn", cache=cache)
    copy = tmp_path / "other.onnx"
    shutil.copy(relu, copy)
    again = convert(copy, "mnn", cache=cache)
    assert (first.steps[0].kept, again.steps[0].kept) == (False, True)
    assert again.path == first.path
    assert again.notes == first.notes == ("a note",)
    assert again.input_shapes == {"x": ((1, 4), "float32")}
    copy.write_bytes(copy.read_bytes() + b"\x32\x01x")
    # another field, which changes nothing but the bytes (doc_string)
    assert convert(copy, "mnn", cache=cache).path != first.path
    assert convert(relu, "mnn", options={"note": "another"}, cache=cache).path != first.path
    assert convert(relu, "mnn", shapes={"x": (1, 7)}, cache=cache).path != first.path


def test_only_the_result_is_kept_and_told_how(relu, cache):
    made = convert(relu, "mnn", cache=cache)
    home = Path(made.path).parent
    assert sorted(path.name for path in home.iterdir()) == ["model.mnn", "route.json"]
    assert made.steps[0].nbytes == Path(made.path).stat().st_size == 16
    told = json.loads((home / "route.json").read_text())
    assert told["made_from"]["options"] == {"mode": "works", "note": ""}
    assert told["tool"] == f"pytest {pytest.__version__}"
    assert told["from"] == relu
    assert list((cache / "scratch").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "gone", "json", "schema"])
def test_a_damaged_entry_is_made_again(damage, relu, cache):
    made = Path(convert(relu, "mnn", cache=cache).path)
    route = made.with_name("route.json")
    if damage == "cut":
        made.write_bytes(b"cut")
    elif damage == "gone":
        made.unlink()
    elif damage == "json":
        route.write_text('{"schema"')
    else:
        route.write_text(route.read_text().replace("conversion/1", "conversion/0"))
    again = convert(relu, "mnn", cache=cache)
    assert not again.steps[0].kept
    assert Path(again.path).stat().st_size == 16


def test_a_cache_that_cannot_be_written(relu, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match=r"converted models cannot be kept here \(Not a directory\)") as caught:
        convert(relu, "mnn", cache=tmp_path / "file")
    assert caught.value.hint == "PEAKMEM_CACHE=FOLDER, a folder with room"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache_still_serves(relu, cache):
    made = convert(relu, "mnn", cache=cache)
    for path in (cache, cache / "locks", cache / "scratch", cache / "conversions"):
        path.chmod(0o500)
    try:
        assert convert(relu, "mnn", cache=cache).path == made.path
        with pytest.raises(UsageError, match="Permission denied"):
            convert(relu, "mnn", options={"note": "new"}, cache=cache)
    finally:
        for path in (cache, cache / "locks", cache / "scratch", cache / "conversions"):
            path.chmod(0o700)


def test_what_killed_processes_left_is_swept(cache):
    store = Cache(cache)
    left = cache / "scratch" / "1.left"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"x")
    young = cache / "scratch" / "2.young"
    young.mkdir()
    old = time.time() - 1000
    os.utime(left, (old, old))
    with store.scratch() as busy:
        os.utime(busy, (old, old))
        assert not left.exists()
        assert young.exists()
        with store.scratch():
            assert busy.exists()
    assert not busy.exists()


def test_content_is_all_files_of_a_model(tmp_path):
    (tmp_path / "m.param").write_text("7767517\n")
    alone = files_of(tmp_path / "m.param", "ncnn")
    (tmp_path / "m.bin").write_bytes(b"weights")
    both = files_of(tmp_path / "m.param", "ncnn")
    assert [path.name for path in both] == ["m.param", "m.bin"]
    assert content_hash(alone) != content_hash(both)
    before = content_hash(both)
    (tmp_path / "m.bin").write_bytes(b"other w")
    assert content_hash(both) != before
    # Where one file ends and the next begins is part of the content.
    (tmp_path / "a").write_bytes(b"ab")
    (tmp_path / "b").write_bytes(b"c")
    one = content_hash((tmp_path / "a", tmp_path / "b"))
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"bc")
    assert content_hash((tmp_path / "a", tmp_path / "b")) != one


def test_external_data_is_part_of_the_content(tmp_path):
    onnx = pytest.importorskip("onnx")
    np = pytest.importorskip("numpy")
    weight = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])], [onnx.helper.make_tensor_value_info("y", 1, [1, 4])],
        [weight],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph), path, save_as_external_data=True, location="m.data", size_threshold=0)
    assert [file.name for file in files_of(path, "onnx")] == ["m.onnx", "m.data"]
