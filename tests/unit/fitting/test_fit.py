"""Whole answers, against figures that are known from elsewhere."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

import peakmem
from peakmem.errors import PeakmemError, UsageError
from peakmem.fitting.fit import fit
from peakmem.report.codec import from_json
from peakmem.report.fit import Fit
from tests.unit.fitting.networks import LIVE, MATRICES, WEIGHTS, small, unknown


def part(report, name):
    return next(one for one in report.parts if one.name == name)


def test_mcunets_gap_on_an_stm32f746():
    """MCUNet (arXiv:2007.10319, figure 1) sets 1.7 MB of MobileNetV2 in int8 against 320 kB of SRAM: 5.3 times.

    That counts the block's input throughout (`block_input_held`); what has to be alive at once is 1,505,280 B, which
    in 320 KiB is 4.59 times. Its 3.4 MB against 1 MB of flash are the bare elements of 3.47 million weights.
    """
    report = fit("mobilenet_v2", "stm32f746", dtype="int8", search="none", grow=())
    assert (report.outcome, report.over) == ("does not fit", ("RAM", "flash"))
    ram, flash = report.parts
    assert (ram.needed_bytes, ram.capacity_bytes) == (1_505_280, 327_680)
    assert report.gap == pytest.approx(1_505_280 / 327_680)
    held = peakmem.estimate("mobilenet_v2", dtype="int8").convention("block_input_held").nbytes
    assert round(held / 320_000, 1) == 5.3
    assert flash.needed_bytes > 3_400_000
    assert dict(flash.shares)["weights"] == 3_469_760


def test_resnet50_in_an_app_of_100_mb_is_a_matter_of_the_unit():
    """97.49 MiB of parameters are 102.23 MB: "98 MB" fits 100 only if both are MiB."""
    report = fit("resnet50", "phone-app", file="weights")
    assert report.outcome == "does not fit"
    (one,) = report.readings
    assert one.outcome == "fits"
    assert one.text == "102.44 MB in 100 MB: does not fit; 97.69 MiB in 100 MiB: fits"
    assert report.changes[0].names == ("dtype=float16",)


def test_resnet50_in_int8_fits_the_app_in_either_unit():
    report = fit("resnet50", "phone-app", dtype="int8")
    assert (report.outcome, report.readings) == ("fits", ())
    assert report.parts[0].needed_bytes == pytest.approx(26_000_000, rel=0.02)


def test_vgg16_is_too_large_for_the_app_and_not_for_the_phone():
    """138,357,544 parameters of four bytes."""
    app = fit("vgg16", "phone-app", search="none", file="weights").parts[0]
    assert app.needed_bytes == pytest.approx(138_357_544 * 4, rel=1e-4)
    assert app.outcome == "does not fit"
    phone = fit("vgg16", "iphone-11", storage="100 MB", search="none")
    assert {one.name: one.outcome for one in phone.parts} == {"RAM": "fits", "storage": "does not fit"}


def test_bits_per_weight_are_exact():
    """(capacity - all else) * 8 / elements of the matrices; scales of 18 channels go with int8."""
    capacity = LIVE + WEIGHTS - 500
    report = fit(small(), ram=capacity, search="none")
    exact = Fraction((capacity - LIVE - (WEIGHTS - MATRICES * 4)) * 8, MATRICES)
    assert report.bits_per_weight == float(exact) == pytest.approx(32 - 500 * 8 / MATRICES)
    assert report.bits_dtype == "float16"


def test_bits_that_no_weight_can_have():
    assert fit(small(), ram=LIVE - 1, search="none").bits_per_weight is None


def test_a_dtype_that_has_the_bits_but_not_its_scales_is_passed_over():
    """16.1 bits for each element; float16 takes 16 and halves biases, too; at 8.1 int8 wants 18 scales more."""
    room = LIVE + (WEIGHTS - MATRICES * 4) + MATRICES + 10
    report = fit(small(), ram=room, search="none")
    assert 8 < report.bits_per_weight < 16
    assert report.bits_dtype == "int4"


def test_how_many_devices_hold_the_weights_together():
    """Weights are split evenly, the rest is on each: ceil(weights / (capacity - rest))."""
    report = fit(small(), ram=LIVE + 500, search="none")
    assert report.devices_needed == math.ceil(WEIGHTS / 500)
    assert fit(small(), ram=LIVE + 500, devices=math.ceil(WEIGHTS / 500)).outcome == "fits"
    assert fit(small(), ram=LIVE + 500, devices=math.ceil(WEIGHTS / 500) - 1).outcome == "does not fit"
    assert fit(small(), ram=LIVE, search="none").devices_needed is None
    few = fit(small(), ram=LIVE + 500, devices=2, search="none")
    assert few.devices_needed == math.ceil(math.ceil(WEIGHTS / 2) * 2 / 500)
    assert few.bits_per_weight == pytest.approx((500 - (math.ceil(WEIGHTS / 2) - MATRICES * 2)) * 16 / MATRICES)


def test_exactly_the_capacity_fits():
    assert fit(small(), ram=LIVE + WEIGHTS).outcome == "fits"
    assert fit(small(), ram=LIVE + WEIGHTS - 1, search="none").outcome == "does not fit"


def test_what_has_no_size_is_not_called_fitting():
    report = fit(unknown(), ram="1MiB")
    assert (report.outcome, report.changes) == ("cannot tell", ())
    assert "no size" in report.parts[0].reason
    assert fit(unknown(), ram="1KiB").outcome == "does not fit"


def test_weights_alone_tell_storage_and_not_ram(tmp_path):
    """A safetensors file has no operators."""
    import json
    import struct

    header = json.dumps({"w": {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4000))
    report = fit(str(path), ram="1MiB", storage="1MiB")
    assert [one.outcome for one in report.parts] == ["cannot tell", "fits"]
    assert report.parts[1].needed_bytes == path.stat().st_size == 8 + len(header) + 4000
    assert report.outcome == "cannot tell"


def test_changes_by_name_are_tried_alone_and_together():
    report = fit("mobilenet_v2", "stm32f746", change=["dtype=int8", "resolution=96"], file="weights")
    dtype, size = "dtype=int8", "resolution=96"
    assert [one.names for one in report.changes] == [(dtype,), (size,), (dtype, size)]
    assert [dict(one.needed)["RAM"] for one in report.changes] == [1_505_280, 1_105_920, 276_480]
    assert report.changes[2].command == (
        "peakmem fit mobilenet_v2:resolution=96 --dtype int8 --file weights --device stm32f746"
    )


def test_every_change_says_what_typing_it_says():
    report = fit("mobilenet_v2:width=0.35,classes=10", "stm32f746", dtype="int8", grow=())
    assert report.changes
    for one in report.changes:
        spec, *flags = one.command.split()[2:]
        said = dict(zip(flags[::2], flags[1::2], strict=True))
        again = fit(
            spec, said["--device"], dtype=said.get("--dtype", ""), weights_dtype=said.get("--weights-dtype", ""),
            assume=said.get("--assume", "fused"), search="none", grow=(),
        )  # fmt: skip
        assert tuple((part.name, part.needed_bytes) for part in again.parts) == one.needed
        assert again.outcome == one.outcome


def test_all_can_be_tried_where_it_fits_and_nothing_where_it_does_not():
    assert fit("mobilenet_v2", "1GiB", grow=()).changes == ()
    assert fit("mobilenet_v2", "1MiB", search="none", grow=()).changes == ()
    assert fit("resnet50", "1GiB", search="all", dtype="int8", weights_dtype="int4", grow=()).searched


def test_a_model_in_memory_has_no_command():
    report = fit(small(), ram=LIVE)
    assert report.changes
    assert {one.command for one in report.changes} == {""}


def test_through_json_and_back():
    report = fit("resnet50", "phone-app", dtype="float32")
    assert report.changes
    assert from_json(report.to_json(), Fit) == report


@pytest.mark.parametrize(
    ("file", "dtype"), [("onnx", ""), ("ncnn", "float16"), ("tflite", "int8"), ("safetensors", "")]
)
def test_the_file_is_what_file_size_says(file, dtype):
    size = peakmem.file_size("mobilenet_v2", file, dtype or None)
    (found,) = fit("mobilenet_v2", storage="1GiB", file=file, dtype=dtype, grow=()).parts
    assert (found.needed_bytes, found.bound_bytes) == (size.nbytes, size.high_bytes)
    assert dict(found.shares) == {one.name: one.nbytes for one in size.parts if one.nbytes}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"dtype": "int9"}, "no dtype is called"),
        ({"dtype": "string"}, "nothing can be counted"),
        ({"assume": "fusd"}, "no execution assumption"),
        ({"devices": 0}, "--devices is 0"),
        ({"settings": ["lightmode=off"]}, "--set is for engines"),
        ({"engine": "ncnn", "dtype": "int8"}, "--dtype is for the graph alone"),
        ({"engine": "ncnnn"}, "ncnnn"),
        ({"engine": "ncnn", "file": "onnx"}, "--file is for the graph alone"),
        ({"file": "zip"}, "'zip' files"),
        ({"file": "tflit"}, "--file tflite"),
        ({"file": "ncnn", "dtype": "int4", "storage": "1MiB"}, "int4"),
        ({"change": ["sheep"]}, "no change is called"),
        ({"batch": 0}, "--batch is 0"),
        ({"grow": ["bach"]}, "--grow batch"),
    ],
)
def test_what_makes_no_sense_is_refused(asked, said):
    with pytest.raises(UsageError, match=said):
        fit("mobilenet_v2", **{"device": "1GiB", **asked})


def test_a_model_that_cannot_be_read(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(PeakmemError, match="onnx"):
        fit(str(tmp_path / "m.onnx"), "1GiB")


# -- engines -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("onnx")
    from peakmem.zoo import build
    from peakmem.zoo.export import export_onnx

    graph = build("mobilenet_v2", batch=1, width=0.35, resolution=96, classes=10)
    return str(export_onnx(graph, tmp_path_factory.mktemp("models") / "m.onnx"))


def test_an_engine_is_what_predict_says(model):
    (candidate,) = peakmem.predict(model, engines=["onnxruntime"]).candidates
    report = fit(model, "1GiB", engine="onnxruntime", search="none", grow=())
    found = report.parts[0]
    assert found.needed_bytes == candidate.process_bytes
    assert found.bound_bytes == max(candidate.process_bytes, candidate.baseline.anonymous_bytes + candidate.high_bytes)
    assert sum(nbytes for _, nbytes in found.shares) == found.needed_bytes


def test_an_engine_whose_range_was_not_measured_there_may_fit(model):
    report = fit(model, "iphone-11", engine="onnxruntime", search="none", grow=())
    phone = peakmem.Processor("aarch64")
    (candidate,) = peakmem.predict(model, engines=["onnxruntime"], processor=phone).candidates
    assert report.parts[0].needed_bytes == candidate.process_bytes
    assert (report.outcome, report.parts[0].bound_bytes) == ("may fit", None)
    assert "no bound is known" in report.parts[0].reason


def test_the_largest_batch_with_an_engine(model):
    report = fit(model, "40MiB", engine="onnxruntime", search="none", grow=["batch"])
    it = next(one for one in report.largest if one.knob == "batch")
    for batch, fits in ((it.value, True), (it.next_value, False)):
        (candidate,) = peakmem.predict(model, engines=["onnxruntime"], batch=int(batch)).candidates
        most = max(candidate.process_bytes, candidate.baseline.anonymous_bytes + candidate.high_bytes)
        assert (most <= 40 << 20) is fits


def test_an_option_of_an_engine_and_another_engine_are_changes(model):
    room = fit(model, "1GiB", engine="onnxruntime", search="none", grow=()).parts[0].needed_bytes - 1
    report = fit(model, ram=room, engine="onnxruntime", grow=())
    ranked = [one for one in report.changes if one.rank]
    assert ranked
    for one in ranked:
        assert dict(one.needed)["RAM"] <= room


def test_a_change_that_an_engine_does_not_know_is_refused(model):
    report = fit(model, "1GiB", engine="onnxruntime", change=["dtype=int8"], search="none", grow=())
    assert [(one.outcome, one.reason[:34]) for one in report.changes] == [
        ("refused", "--dtype is for the graph alone: an")
    ]


def test_a_maker_prints_kb_and_means_kib():
    """321,504 B are less than 320 KiB, which an STM32F746 has, and more than the 320 kB that are printed."""
    report = fit("mobilenet_v2:width=0.35,resolution=146,classes=10", "stm32f746", dtype="int8", grow=())
    assert report.outcome == "fits"
    (one,) = report.readings
    assert one.text == "313.97 KiB in 320 KiB: fits; 321.50 kB in 320 kB: does not fit"


def test_a_dtype_that_the_file_cannot_hold_is_passed_over():
    """ncnn's files hold 32, 16 and 8 bits: at 6 bits a weight nothing of that format does."""
    report = fit("squeezenet1_1", storage="900kB", file="ncnn", grow=())
    assert 4 < report.bits_per_weight < 8
    assert report.bits_dtype == ""
    assert {one.outcome for one in report.changes if one.names == ("weights=int4",)} <= {"refused"}
