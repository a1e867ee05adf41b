"""The profile of ncnn against its own allocators and the counter: small networks, measured once and kept as data.

`ncnn_measured.json` beside this file says the command, the version and the processor. Nothing here is computed by the
code under test; the last tests run the engine itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peakmem.binding import bound
from peakmem.engines.ncnn import PROFILE
from peakmem.engines.ncnn.options import options_of
from peakmem.engines.ncnn.profile import simulate
from peakmem.engines.prediction import PHASES, Prediction, Processor, Value
from peakmem.errors import GraphError, UsageError
from peakmem.ir.graph import Graph
from peakmem.pipeline import load

MEASURED = json.loads(Path(__file__).with_name("ncnn_measured.json").read_text(encoding="utf-8"))
NETWORKS: dict[str, Any] = MEASURED["networks"]
EPYC = Processor(
    features=frozenset({"avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
    l2_bytes=1 << 20,
    cores=2,
)
OBJECTS = 800
# bytes by which the table of structures and the engine's Python face may be off, in networks of a few layers
CAST_LOOPS = 1700
# of a loop's team in a cast within a layer, which is not modelled


def written(folder: Path, name: str, layers: list[str]) -> Path:
    blobs = set()
    for line in layers:
        words = line.split()
        bottoms, tops = int(words[2]), int(words[3])
        blobs |= set(words[4 + bottoms : 4 + bottoms + tops])
    path = folder / f"{name}.param"
    path.write_text("\n".join(["7767517", f"{len(layers)} {len(blobs)}", *layers, ""]), encoding="utf-8")
    return path


def network(folder: Path, name: str) -> Graph:
    return bound(load(written(folder, name, NETWORKS[name]["layers"])))


def chosen(text: str) -> dict[str, Value]:
    words = {"on": True, "off": False}
    pairs = (setting.partition("=") for setting in text.split())
    return {name: words[value] if value in words else int(value) for name, _, value in pairs}


def figures(prediction: Prediction) -> list[int]:
    return [size for moment in prediction.moments for size in (moment.live_bytes, moment.peak_bytes)]


@pytest.mark.parametrize("name", NETWORKS)
def test_requests_are_those_the_allocators_got(tmp_path: Path, name: str) -> None:
    found = simulate(network(tmp_path, name), options_of({}, EPYC))
    blobs, works = found.requests[0]
    assert list(blobs) == NETWORKS[name]["blob"]
    assert list(works) == NETWORKS[name]["workspace"]


@pytest.mark.parametrize(("name", "settings"), [(name, text) for name in NETWORKS for text in NETWORKS[name]["heap"]])
def test_heap_is_what_the_counter_counted(tmp_path: Path, name: str, settings: str) -> None:
    prediction = PROFILE.predict(network(tmp_path, name), chosen(settings), EPYC)
    for ours, theirs in zip(figures(prediction), NETWORKS[name]["heap"][settings], strict=True):
        assert abs(ours - theirs) <= max(CAST_LOOPS, OBJECTS, 0.005 * theirs)
    if name != "mha" and not prediction.unmodelled:
        steady = prediction.moments[2]
        assert abs(steady.live_bytes - NETWORKS[name]["heap"][settings][4]) <= OBJECTS


def test_moments_are_the_phases_and_add_up(tmp_path: Path) -> None:
    prediction = PROFILE.predict(network(tmp_path, "small4"), {}, EPYC)
    assert tuple(moment.phase for moment in prediction.moments) == PHASES
    assert prediction.verified == "1.0.20261020"
    for moment in prediction.moments:
        assert all(holding.nbytes > 0 for holding in moment.peak)
        assert moment.peak_bytes >= moment.live_bytes
    assert prediction.moments[1].peak_at


def test_without_light_mode_weights_and_blobs_stay(tmp_path: Path) -> None:
    graph = network(tmp_path, "small4")
    light, heavy = (PROFILE.predict(graph, {"lightmode": flag}, EPYC) for flag in (True, False))

    def held(prediction: Prediction, category: str) -> int:
        return sum(one.nbytes for one in prediction.moments[0].live if one.category == category)

    originals = sum(16 * -(-count * 4 // 16) + 4 for count in (108, 288, 576))
    # as Mat::create rounds them
    assert held(heavy, "weights") - held(light, "weights") == originals


def test_a_hinted_file_has_other_tiles(tmp_path: Path) -> None:
    layers = ["Input in0 0 1 in0 0=8 1=8 2=64", "Convolution c 1 1 in0 o 0=64 1=3 4=1 5=1 6=36864"]
    plain = bound(load(written(tmp_path, "plain", layers)))
    hinted = bound(load(written(tmp_path, "hinted", [layers[0], layers[1] + " -23330=4,3,8,8,64"])))

    def repacked(graph: Graph) -> int:
        moment = PROFILE.predict(graph, {}, EPYC).moments[0]
        return sum(one.nbytes for one in moment.live if one.category == "repacked weights")

    assert repacked(plain) == 36 * 64 * 64 * 4 + 4
    # F(4,3) where the size is not known: 36 elements for each pair of channels, all in one tile
    assert repacked(hinted) == 16 * 64 * 64 * 4 + 4
    # at a side of 10 F(2,3) is preferred: 16 elements


REFUSED: tuple[tuple[Mapping[str, Value], str], ...] = (
    ({"record_allocators": "pool"}, "record_allocators"),
    ({"batch_axis": "keep"}, "batch_axis"),
    ({"vulkan": True}, "vulkan"),
    ({"threads": 0}, "threads"),
)


@pytest.mark.parametrize(("settings", "word"), REFUSED)
def test_settings_that_are_not_modelled_are_refused(tmp_path: Path, settings: Mapping[str, Value], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        PROFILE.predict(network(tmp_path, "slice"), settings, EPYC)


def test_other_processors_and_other_formats_are_refused(tmp_path: Path) -> None:
    graph = network(tmp_path, "slice")
    with pytest.raises(UsageError, match="riscv64"):
        PROFILE.predict(graph, {}, replace(EPYC, architecture="riscv64"))
    with pytest.raises(UsageError, match="reads ncnn's files"):
        PROFILE.predict(bound(load("squeezenet1_1"), batch=1), {}, EPYC)


def test_what_a_layer_cannot_read_is_refused(tmp_path: Path) -> None:
    layers = ["Input in0 0 1 in0 0=16 1=16 2=8", "Convolution c 1 1 in0 o 0=8 1=1 6=64"]
    graph = bound(load(written(tmp_path, "flat", layers)))
    tensors = dict(graph.tensors)
    tensors["in0"] = replace(tensors["in0"], shape=(8,))
    with pytest.raises(GraphError, match="would not compute"):
        PROFILE.predict(replace(graph, tensors={**tensors, "o": replace(tensors["o"], shape=(8,))}), {}, EPYC)


def test_a_blob_without_a_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="shape is not known"):
        PROFILE.predict(load(written(tmp_path, "free", ["Input in0 0 1 in0", "ReLU r 1 1 in0 o"])), {}, EPYC)


def test_layers_without_a_rule_are_listed_with_what_they_hold(tmp_path: Path) -> None:
    layers = ["Input in0 0 1 in0 0=16 1=16 2=8", "MyOwn m 1 1 in0 o -23330=4,3,16,16,8"]
    prediction = PROFILE.predict(bound(load(written(tmp_path, "own", layers))), {}, EPYC)
    assert [(one.what, one.nbytes) for one in prediction.unmodelled] == [("m (MyOwn)", 4 * 8 * 16 * 16)]


def test_heads_side_by_side_are_listed(tmp_path: Path) -> None:
    prediction = PROFILE.predict(network(tmp_path, "mha"), {"threads": 2}, EPYC)
    assert "timing" in prediction.unmodelled[0].reason


def test_weights_quantised_in_blocks_are_listed(tmp_path: Path) -> None:
    layers = ["Input in0 0 1 in0 0=64 1=4", "MultiHeadAttention m 1 1 in0 o 0=64 1=4 2=4096 3=64 4=64 18=800"]
    prediction = PROFILE.predict(bound(load(written(tmp_path, "blocks", layers))), {}, EPYC)
    assert "int8" in prediction.unmodelled[0].reason
    assert prediction.unmodelled[0].nbytes >= 4 * 64 * 64 + 4 * 4 * 64


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["", "lightmode=off", "threads=2"])
@pytest.mark.parametrize("name", ["winograd", "group4", "lstm", "shuffle116"])
def test_the_engine_itself_holds_what_is_predicted(tmp_path: Path, name: str, settings: str) -> None:
    pytest.importorskip("ncnn")
    from peakmem.measuring.engine import engine
    from peakmem.measuring.harness import order_for, run_process
    from peakmem.measuring.machine import machine

    here = machine()
    path = written(tmp_path, name, NETWORKS[name]["layers"])
    run = run_process(order_for(engine("ncnn"), str(path), chosen(settings), instrumented=True))
    if run.outcome.status != "ok" or "avx512f" not in here.features:
        pytest.skip(run.outcome.reason or "another processor")
    counted = {mark.phase: mark.counted for mark in run.marks if mark.counted is not None}
    base = counted["import"].live_bytes
    physical = int(run.facts["processors"].split()[0])
    processor = Processor(features=frozenset(here.features), l2_bytes=here.caches.get("L2", 1 << 20), cores=physical)
    prediction = PROFILE.predict(bound(load(path)), chosen(settings), processor)
    for moment, phase in zip(prediction.moments, ("load", "run 1", "run 3"), strict=True):
        for ours, theirs in (
            (moment.live_bytes, counted[phase].live_bytes - base),
            (moment.peak_bytes, counted[phase].peak_bytes - base),
        ):
            assert abs(ours - theirs) <= max(CAST_LOOPS, 0.005 * theirs)
