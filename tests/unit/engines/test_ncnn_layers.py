"""The profile of ncnn by type of layer and by level of features: requests and heap, measured once and kept as data.

`ncnn_layers.json` beside this file says the command, the version and the processor; nothing there comes from the code
under test.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peakmem.binding import bound
from peakmem.engines.ncnn import PROFILE
from peakmem.engines.ncnn.options import AVX512, options_of
from peakmem.engines.ncnn.profile import simulate
from peakmem.engines.prediction import Processor, Value
from peakmem.errors import UsageError
from peakmem.ir.graph import Graph
from peakmem.pipeline import load

NETWORKS: dict[str, Any] = json.loads(Path(__file__).with_name("ncnn_layers.json").read_text(encoding="utf-8"))[
    "networks"
]
SMALL = frozenset({"avx", "f16c", "fma", "avx2"})
LEVELS = {
    "sse2": frozenset[str](),
    "avx2": SMALL,
    "avx512": SMALL | AVX512 | {"avx512_vnni", "avx_vnni", "avx512_bf16"},
}
CASES = [
    (name, level, settings)
    for name, row in NETWORKS.items()
    for level, measured in row["measured"].items()
    for settings in measured
]
OBJECTS = 800
# bytes by which the table of structures and the engine's Python face may be off, in networks of a few layers
THREADS_UNUSED = 1700
# of a layer that computes in one thread, or in none, where a loop is assumed; for a moment
WORDS = {"on": True, "off": False}


def graph_of(folder: Path, layers: list[str]) -> Graph:
    blobs = set()
    for line in layers:
        words = line.split()
        bottoms, tops = int(words[2]), int(words[3])
        blobs |= set(words[4 + bottoms : 4 + bottoms + tops])
    path = folder / "network.param"
    path.write_text("\n".join(["7767517", f"{len(layers)} {len(blobs)}", *layers, ""]), encoding="utf-8")
    return bound(load(path))


def chosen(text: str) -> dict[str, Value]:
    pairs = (setting.partition("=") for setting in text.split())
    return {name: WORDS[value] if value in WORDS else int(value) for name, _, value in pairs}


def processor(level: str) -> Processor:
    return Processor(features=LEVELS[level], l2_bytes=1 << 20, cores=2)


@pytest.mark.parametrize(("name", "level", "settings"), CASES)
def test_requests_and_heap(tmp_path: Path, name: str, level: str, settings: str) -> None:
    row = NETWORKS[name]
    measured = row["measured"][level][settings]
    graph = graph_of(tmp_path, row["layers"])
    if measured["requests"]:
        blobs, works = simulate(graph, options_of(chosen(settings), processor(level))).requests[0]
        events = measured["requests"].split()
        assert list(blobs) == [int(event[1:]) for event in events if event[0] == "b"]
        assert list(works) == [int(event[1:]) for event in events if event[0] == "w"]
    moments = PROFILE.predict(graph, chosen(settings), processor(level)).moments
    ours = [size for moment in moments for size in (moment.live_bytes, moment.peak_bytes)]
    for at, (predicted, counted) in enumerate(zip(ours, measured["heap"], strict=True)):
        assert abs(predicted - counted) <= max(THREADS_UNUSED if at % 2 else OBJECTS, 0.018 * counted), at


def held(graph: Graph, level: str, category: str) -> int:
    moment = PROFILE.predict(graph, {}, processor(level)).moments[0]
    return sum(one.nbytes for one in moment.live if one.category == category)


def test_int8_weights_have_sums_behind_them_for_vnni(tmp_path: Path) -> None:
    graph = graph_of(
        tmp_path, ["Input in0 0 1 in0 0=8 1=8 2=64", "Convolution c 1 1 in0 o 0=64 1=1 5=0 6=4096 8=2"]
    )  # fmt: skip
    assert held(graph, "avx512", "repacked weights") == (64 + 4 * 16) * 64 + 4
    # K of 64 and 16 sums of 4 bytes, by 64 outputs
    assert held(graph, "avx2", "repacked weights") == 64 * 64 + 4
    # by 32 outputs in two tiles


def test_a_cache_grows_by_half(tmp_path: Path) -> None:
    layers = NETWORKS["sdpa_cache"]["layers"]
    moment = PROFILE.predict(graph_of(tmp_path, layers), {}, processor("avx512")).moments[1]
    state = next(one.nbytes for one in moment.peak if one.category == "state")
    assert state == 2 * (14 * 48 * 64 * 4 + 4)
    # 11 + 7 positions, 16 more at least, to a multiple of 16; keys and values of 14 heads of 64


def test_int8_layers_without_int8_are_refused(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, NETWORKS["int8_c1"]["layers"])
    with pytest.raises(UsageError, match="past their end"):
        PROFILE.predict(graph, {"int8_inference": False}, processor("avx512"))


def test_what_depends_on_the_data_is_listed_with_its_size(tmp_path: Path) -> None:
    layers = ["Input a 0 1 a 0=13 1=13 2=255", "Yolov3DetectionOutput d 1 1 a o 0=80 1=3 2=0.3 -23306=1,32.0"]
    graph = graph_of(tmp_path, layers)
    (one,) = PROFILE.predict(graph, {}, processor("avx512")).unmodelled
    boxes = 13 * 13 * 3
    assert "data" in one.reason
    assert one.nbytes == 4 * 6 * boxes + (3 * 28 + 8) * boxes
    # six floats of each, and lists of a box of 28 bytes: by anchor, of all, of those that stay, and their places


PHONE = Processor("aarch64", frozenset({"asimdhp"}), l2_bytes=512 << 10, cores=4)


def test_arm_is_marked_unverified(tmp_path: Path) -> None:
    prediction = PROFILE.predict(graph_of(tmp_path, NETWORKS["c3d"]["layers"]), {}, PHONE)
    assert prediction.verified == ""
    assert any("unverified" in note for note in prediction.notes)


@pytest.mark.parametrize(
    ("settings", "features", "blob", "weights"),
    [
        ({}, {"asimdhp"}, 2 * 32 * 16 * 16, 2 * 36 * 160 * 32),
        # fp16, F(4,3) because more than 128 channels go in
        ({"fp16_arithmetic": False}, {"asimdhp"}, 2 * 32 * 16 * 16, 2 * 9 * 160 * 32),
        # stored in fp16, computed in floats: packed as they are
        ({}, set[str](), 4 * 32 * 16 * 16, 4 * 36 * 160 * 32),
        ({"bf16_storage": True}, set[str](), 2 * 32 * 16 * 16, 4 * 36 * 160 * 32),
        # bf16 blobs, floats inside
        ({"winograd": False}, {"asimdhp"}, 2 * 32 * 16 * 16, 2 * 9 * 160 * 32),
    ],
)
def test_convolutions_of_arm(
    tmp_path: Path, settings: dict[str, Value], features: set[str], blob: int, weights: int
) -> None:
    layers = ["Input in0 0 1 in0 0=16 1=16 2=160", "Convolution c 1 1 in0 o 0=32 1=3 4=1 5=0 6=46080"]
    graph = graph_of(tmp_path, layers)
    phone = replace(PHONE, features=frozenset(features))
    moment = PROFILE.predict(graph, settings, phone).moments[0]
    assert sum(one.nbytes for one in moment.live if one.category == "repacked weights") == weights + 4
    assert blob + 4 in simulate(graph, options_of(settings, phone)).requests[0][0]


def test_int8_on_arm_is_listed(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, NETWORKS["int8_c1"]["layers"])
    (one,) = PROFILE.predict(graph, {}, PHONE).unmodelled
    assert "Arm" in one.reason
    assert one.nbytes == 4 * (64 * 64 + 64 + 64 + 1 + 64 * 56 * 56)
