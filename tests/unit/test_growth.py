"""What grew between two states: rows and rests sum to the difference, and the operators are those that were changed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import peakmem
from peakmem import GraphBuilder
from peakmem.growth import snapshot
from peakmem.report.growth import Growth
from peakmem.zoo import NETWORKS


def network(widths, *, names=None, relu=True):
    """1x1 convolutions on 1x4x8x8, one for each width; 4 * inside * outside bytes of weights each."""
    made = GraphBuilder("net")
    x = made.input("x", (1, 4, 8, 8))
    for at, width in enumerate(widths):
        x = made.conv(x, width, kernel=1, name=names[at] if names else f"conv{at}")
        x = made.relu(x) if relu else x
    return made.finish(x)


def sums(report: Growth) -> None:
    """Every byte of the difference is told, once."""
    added = {name: report.quantity(name).added for name in ("weights", "live peak")}
    weights = sum(row.weights_b - row.weights_a for row in report.operators)
    assert weights + report.rest_weights_bytes == added["weights"]
    assert sum(row.peak_b - row.peak_a for row in report.operators) + report.rest_peak_bytes == added["live peak"]
    at_peak = [one.added_bytes for one in report.tensors if one.where == "at the peak"]
    assert sum(at_peak) + report.rest_peak_bytes == added["live peak"]


def test_the_same_network_has_not_grown():
    report = peakmem.what_grew(network([8, 16]), network([8, 16]))
    assert (report.operators, report.tensors, report.notes, report.unchanged) == ((), (), (), 2)
    assert {one.added for one in report.quantities} == {0}


def test_a_wider_layer_is_named_with_its_bytes():
    """8 to 12 channels in the middle: 4 * 4 * 4 and 4 * 4 * 16 bytes of weights more, 4 * 4 * 64 at the peak."""
    report = peakmem.what_grew(network([8, 16, 4]), network([12, 16, 4]))
    sums(report)
    rows = {row.name: row for row in report.operators}
    assert set(rows) == {"conv0", "conv1"}
    first = rows["conv0"]
    assert (first.weights_b - first.weights_a, first.peak_b - first.peak_a) == (64, 1024)
    assert (rows["conv1"].weights_b - rows["conv1"].weights_a, rows["conv1"].verdict) == (256, "grown")
    assert rows["conv0"].name == report.operators[0].name


def test_a_layer_that_came_and_one_that_went():
    """The second of three goes, at 4 * 8 * 8 bytes; what stood behind keeps its name. The peak moves to the input."""
    report = peakmem.what_grew(network([8, 8, 4], names=["a", "b", "c"]), network([8, 4], names=["a", "c"]))
    sums(report)
    assert [(row.a, row.b, row.verdict, row.weights_a, row.peak_b) for row in report.operators] == [
        ("b", "", "gone", 256, 0), ("x", "x", "grown", 0, 1024),
    ]  # fmt: skip
    back = peakmem.what_grew(network([8, 4], names=["a", "c"]), network([8, 8, 4], names=["a", "b", "c"]))
    assert [(row.a, row.b, row.verdict) for row in back.operators] == [("", "b", "new"), ("x", "x", "shrunk")]


def test_numbers_in_names_do_not_hide_what_is_new():
    """One layer more in front renames all behind it: conv1 is what conv0 was. Widths differ, so that sizes tell."""
    report = peakmem.what_grew(network([32, 16, 8, 4]), network([4, 32, 16, 8, 4]))
    sums(report)
    assert [(row.b, row.verdict, row.weights_b) for row in report.operators] == [("conv0", "new", 64)]
    assert [one.b for one in report.tensors if one.where == "stored"] == ["conv0/weight"]


def test_other_names_alone_are_no_growth():
    report = peakmem.what_grew(network([8, 16], names=["a", "b"]), network([8, 16], names=["c", "d"]))
    assert (report.operators, report.tensors) == ((), ())


def test_another_batch_dtype_and_assumption_are_named():
    a = snapshot(peakmem.estimate("mobilenet_v2", batch=1))
    b = snapshot(peakmem.estimate("mobilenet_v2", batch=2, dtype="int8", assume="eager"))
    said = " ".join(peakmem.what_grew(a, b).notes)
    assert "execution assumption: fused in A, eager in B" in said
    assert "counted dtype: as stored in A, int8 in B" in said
    assert "inputs: input 1x3x224x224 float32 in A, input 2x3x224x224" in said


def test_reports_and_models_give_the_same():
    """A stored report lists no tensors; operators and quantities are the same."""
    from peakmem.report.codec import from_json

    pair = [network([8, 16, 4]), network([12, 16, 4])]
    live = peakmem.what_grew(*pair)
    stored = peakmem.what_grew(*(from_json(peakmem.estimate(one).to_json()) for one in pair))
    assert (stored.operators, stored.quantities) == (live.operators, live.quantities)


def test_weights_alone_grow_without_a_peak(tmp_path):
    """Four by two float32 more, and nothing is said of activations."""
    numpy = pytest.importorskip("safetensors.numpy")
    import numpy as np

    for name, width in (("a", 4), ("b", 6)):
        numpy.save_file({"w": np.zeros((4, width), np.float32)}, tmp_path / f"{name}.safetensors")
    report = peakmem.what_grew(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert (report.quantity("weights").added, report.quantity("live peak").added) == (32, None)
    assert [(one.b, one.added_bytes) for one in report.tensors] == [("w", 32)]
    assert report.notes == tuple(f"{one} holds weights alone: its activations are not known" for one in "AB")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_every_byte_is_told_whatever_changed(a, b):
    sums(peakmem.what_grew(network(a), network(b)))


@pytest.mark.parametrize(
    ("a", "b"),
    [("mobilenet_v2", "mobilenet_v2:width=1.4"), ("resnet18", "resnet50"), ("squeezenet1_1", "mobilenet_v1")],
)
def test_every_byte_is_told_of_real_networks(a, b):
    sums(peakmem.what_grew(a, b))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_against_itself_and_at_batch_2(name):
    one = snapshot(peakmem.estimate(name, batch=1, tensors=True))
    assert peakmem.what_grew(one, one).operators == ()
    sums(peakmem.what_grew(one, snapshot(peakmem.estimate(name, batch=2, tensors=True))))
