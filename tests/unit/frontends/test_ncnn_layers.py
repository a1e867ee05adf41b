"""Every layer of ncnn against ncnn itself: the shapes of its blobs, and how much of a .bin file it reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from peakmem.binding import bound
from peakmem.dtypes import INT8
from peakmem.frontends.ncnn.binary import expected_bytes
from peakmem.frontends.ncnn.layers import TYPES, values
from peakmem.frontends.ncnn.param import read_lines
from peakmem.frontends.ncnn.reader import read_ncnn
from peakmem.frontends.ncnn.weights import Weight, weights
from tests.unit.frontends.ncnn_files import CASES, Case, write

pytest.importorskip("ncnn", reason="ncnn is what these tests compare with")

from tests.unit.frontends.ncnn_oracle import ask

NOT_BUILT = {"ArgMax", "SPP"}
# left out of ncnn's own builds
DATA_DEPENDENT = {"DetectionOutput", "Proposal", "YoloDetectionOutput", "Yolov3DetectionOutput"}
ELSEWHERE = {"Input", "MemoryData"}
# tested below


def stored(path: Path) -> list[Weight]:
    """What the layers of a param file store."""
    return [
        weight
        for line in read_lines(path, TYPES)
        for weight in weights(line.op_type, values(line, "test"), "test")
    ]  # fmt: skip


def bin_file(found: Sequence[Weight]) -> bytes:
    """A .bin file of zeros; what is stored in bytes has the tag that says so."""
    parts = []
    for weight in found:
        tag = b"" if weight.packed else b"\0\0\0\0" if weight.dtype.bits == 32 else b"\x38\x4b\x0d\x00"
        parts.append((tag if weight.tagged else b"").ljust(expected_bytes(weight), b"\0"))
    return b"".join(parts)


def with_tail(text: str) -> str:
    """A param file with one more layer, of four bytes in the .bin file."""
    magic, counts, *rows = text.splitlines()
    layers, blobs = (int(word) for word in counts.split())
    return "\n".join([magic, f"{layers + 1} {blobs + 1}", *rows, "Bias tail 1 1 out0 tail 0=1", ""])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ncnn")
    jobs = []
    for at, case in enumerate(CASES):
        path = write(folder, case.text(), f"{at}.param")
        # Some layers do not look whether their last scales were read; the Bias after them does.
        tailed = write(folder, with_tail(case.text()), f"{at}-tail.param")
        data = bin_file(stored(tailed))
        bins = []
        if stored(path):
            for length in (len(data), len(data) - 4):
                (folder / f"{at}-{length}.data").write_bytes(data[:length])
                bins.append(str(folder / f"{at}-{length}.data"))
        jobs.append(
            {
                "param": str(path),
                "tail": str(tailed),
                "inputs": {f"in{number}": shape for number, shape in enumerate(case.inputs)},
                "blobs": [f"out{number}" for number in range(case.tops)],
                "bins": bins,
                "raw": "8=" in case.params or case.op_type in ("Quantize", "Requantize", "Cast"),
            }
        )
    return {case.id: answer for case, answer in zip(CASES, ask(jobs), strict=True)}


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_shapes_are_those_of_ncnn(case: Case, answers: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    graph = bound(read_ncnn(write(tmp_path, case.text())))
    theirs = answers[case.id]
    assert "fault" not in theirs, theirs
    assert {name: list(graph.tensors[name].shape or ()) for name in theirs["shapes"]} == theirs["shapes"]
    for name, size in theirs["bytes"].items():
        dtype = graph.tensors[name].dtype
        assert dtype is not None
        assert dtype.nbytes(1) == size
    assert graph.unknowns == ()
    if theirs["bins"]:
        # Four bytes less and ncnn misses something: the length is exact.
        whole, short = theirs["bins"]
        assert whole == 0
        assert short != 0


def test_every_layer_that_ncnn_builds_is_there() -> None:
    assert {case.op_type for case in CASES} == set(TYPES) - NOT_BUILT - DATA_DEPENDENT - ELSEWHERE


def test_types_are_numbered_as_in_ncnn() -> None:
    import ncnn

    assert [ncnn.layer_to_index(name) for name in TYPES] == list(range(len(TYPES)))


@pytest.mark.parametrize("sizes", ["0=5", "0=5 1=4", "0=5 1=4 2=3", "0=5 1=4 11=2 2=3", "0=5 1=4 2=3 21=0"])
def test_memory_data(sizes: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"7767517\n1 1\nMemoryData data 0 1 out0 {sizes}\n")
    data = bin_file(stored(path))
    (tmp_path / "exact").write_bytes(data)
    (tmp_path / "short").write_bytes(data[:-4])
    job = {"param": str(path), "tail": str(path), "inputs": {}, "blobs": ["out0"]}
    theirs = ask([{**job, "bins": [str(tmp_path / "exact"), str(tmp_path / "short")]}])[0]
    graph = bound(read_ncnn(path))
    assert list(graph.tensors["out0"].shape or ()) == theirs["shapes"]["out0"]
    assert theirs["bins"][0] == 0
    assert theirs["bins"][1] != 0


def test_detections_are_counted_at_their_most(tmp_path: Path) -> None:
    """An image of 13 x 13 places with 3 boxes each holds 507; in zeros each is found, at 0.5 of certainty."""
    text = (
        "7767517\n2 2\nInput in0 0 1 in0 0=13 1=13 2=255\n"
        "Yolov3DetectionOutput found 1 1 in0 out0 0=80 1=3 2=0.3 -23304=6,1.0,2.0,3.0,4.0,5.0,6.0 "
        "-23305=3,0.0,1.0,2.0 -23306=1,32.0\n"
    )
    path = write(tmp_path, text)
    theirs = ask([{"param": str(path), "inputs": {"in0": (255, 13, 13)}, "blobs": ["out0"]}])[0]
    assert theirs["shapes"] == {"out0": [507, 6]}
    assert bound(read_ncnn(path)).tensors["out0"].shape == (507, 6)


def test_int8_blobs_between_quantised_layers(tmp_path: Path) -> None:
    graph = bound(read_ncnn(write(tmp_path, Case("Convolution", "0=8 1=3 6=288 8=102", ((4, 10, 12),)).text())))
    assert graph.tensors["out0"].dtype is INT8
    assert graph.tensors["layer.weight"].dtype is INT8
