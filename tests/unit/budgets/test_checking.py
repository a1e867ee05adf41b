"""Budgets against models whose bytes are told by hand (see conftest): what holds, what is broken, what stays open."""

from __future__ import annotations

import json

import pytest

import peakmem
from peakmem.budgets.baseline import read_baseline
from peakmem.errors import FormatError, MissingLibrary, UsageError

GROWTH = 'baseline = "b.json"\n[model.a]\nsource = "net.onnx"\ngrowth = "5 %"\n'


def outcomes(report) -> dict[tuple[str, str, str], str]:
    return {(one.model, one.quantity, one.rule): one.outcome for one in report.findings}


def test_budgets_hold_to_the_byte(model, budgets):
    """Width 8: weights 32 * 8, peak 1,024 + 256 * 8, parameters 64."""
    size = model().stat().st_size
    at = {"peak": 3072, "weights": 256, "resident": 3328, "file_size": size}
    for more, outcome in ((0, "within"), (-1, "broken")):
        lines = "\n".join(f'{name} = "{value + more} B"' for name, value in at.items())
        report = peakmem.check(budgets(f'[model.a]\nsource = "net.onnx"\n{lines}\nparameters = {64 + more}\n'))
        assert set(outcomes(report).values()) == {outcome}
        assert {one.quantity: one.value for one in report.findings} == {**at, "parameters": 64}
        assert (report.outcome, report.exit_code) == (outcome, {"within": 0, "broken": 1}[outcome])
    peak = next(one for one in report.findings if one.quantity == "peak")
    assert "3.00 KiB (3,072 B)" in peak.said
    assert "over by 1 B (+0.0%)" in peak.said
    assert peak.line == 3
    assert peak.why[0] == "the peak is at first (Conv), alive there:"
    assert peak.why[1].endswith("1x8x8x8 float32: 2.00 KiB")


def test_an_arena_is_packed_and_aligned(model, budgets):
    """Width 3: 768 B in the middle and 1,024 B on either side, all multiples of 16: two at once are the peak."""
    model(width=3)
    report = peakmem.check(budgets('[model.a]\nsource = "net.onnx"\narena = "1792 B"\n'))
    assert [(one.outcome, one.value) for one in report.findings] == [("within", 1792)]


def test_one_model_that_does_not_read_hides_no_other(model, budgets, tmp_path):
    model()
    (tmp_path / "bad.onnx").write_bytes(b"\x08\xff")
    text = "".join(
        f'[model.{name}]\nsource = "{source}"\npeak = "{size}"\n'
        for name, source, size in (
            ("bad", "bad.onnx", "1 MiB"), ("gone", "gone.onnx", "1 MiB"), ("good", "net.onnx", "1 MiB"),
        )
    )  # fmt: skip
    report = peakmem.check(budgets(text))
    assert (report.within, report.broken, report.unanswered, report.exit_code) == (1, 0, 2, 2)
    report = peakmem.check(budgets(text + '[model.over]\nsource = "net.onnx"\npeak = "1 KiB"\nbatch = 1\n'))
    assert (report.within, report.broken, report.unanswered, report.exit_code) == (1, 1, 2, 1)
    assert [one.outcome for one in report.findings] == ["broken", "unanswered", "unanswered", "within"]
    gone = next(one for one in report.findings if one.model == "gone")
    assert "gone.onnx: there is no such file" in gone.said


def test_a_lower_bound_that_fits_is_no_answer_and_one_that_does_not_is(budgets, tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [8]), ("y", None))]
    node = helper.make_node("Mystery", ["x"], ["y"], domain="nobody")
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("nobody", 1)]), tmp_path / "m.onnx")
    report = peakmem.check(
        budgets('[model.a]\nsource = "m.onnx"\npeak = "1 GiB"\nweights = "1 B"\n'
                '[model.b]\nsource = "m.onnx"\nassume = "eager"\npeak = "31 B"\n')
    )  # fmt: skip
    assert outcomes(report) == {
        ("b", "peak", "budget"): "broken", ("a", "peak", "budget"): "unanswered", ("a", "weights", "budget"): "within",
    }  # fmt: skip
    assert "lower bound" in next(one.said for one in report.findings if one.outcome == "unanswered")


def test_growth_needs_a_baseline_and_then_holds_against_it(model, budgets, tmp_path):
    """Width 20 is the first whose weights and middle are 5 % more at 21: 640 and 672 B; the peak 6,144 and 6,400."""
    model(width=20)
    path = budgets(GROWTH)
    report = peakmem.check(path)
    assert (report.exit_code, [one.hint for one in report.findings]) == (2, ["peakmem check --update-baseline"])
    assert not (tmp_path / "b.json").exists()
    report = peakmem.check(path, update_baseline=True)
    assert {(one.quantity, one.before): one.after for one in report.updated}["weights", None] == 640
    assert peakmem.check(path).exit_code == 0
    model(width=21)
    report = peakmem.check(path)
    broken = {one.quantity: (one.before, one.value, one.allowed) for one in report.findings if one.outcome == "broken"}
    assert "weights" not in broken  # 672 of 672 allowed
    assert (report.exit_code, broken) == (0, {})
    model(width=22)
    report = peakmem.check(path)
    weights = next(one for one in report.findings if one.quantity == "weights")
    assert (weights.outcome, weights.before, weights.value, weights.allowed) == ("broken", 640, 704, 672)
    assert weights.why == (
        "first (Conv, grown, 1x20x8x8 to 1x22x8x8): weights +32 B, at the peak +512 B",
        "second (Conv, grown): weights +32 B",
    )  # fmt: skip
    assert json.loads((tmp_path / "b.json").read_text())["models"]["a"]["values"]["weights"]["value"] == 640
    report = peakmem.check(path, update_baseline=True)
    assert {one.quantity: (one.before, one.after) for one in report.updated}["weights"] == (640, 704)
    assert peakmem.check(path).exit_code == 0


def test_a_smaller_model_is_within_and_says_so(model, budgets):
    model(width=20)
    path = budgets(GROWTH)
    peakmem.check(path, update_baseline=True)
    model(width=10)
    report = peakmem.check(path)
    assert report.exit_code == 0
    assert "-320 B, -50.00%" in next(one.said for one in report.findings if one.quantity == "weights")


def test_what_else_changed_is_named(model, budgets):
    model()
    peakmem.check(budgets(GROWTH), update_baseline=True)
    report = peakmem.check(budgets(GROWTH + 'dtype = "int8"\nassume = "eager"\n'))
    (finding,) = report.findings
    assert finding.outcome == "unanswered"
    assert 'dtype: not set then, "int8" now; assume: not set then, "eager" now' in finding.said
    report = peakmem.check(budgets(GROWTH.replace("model.a", "model.b")))
    assert "'b' is not in b.json" in report.findings[0].said


def test_another_version_is_named_and_judged(model, budgets, tmp_path):
    model()
    path = budgets(GROWTH)
    peakmem.check(path, update_baseline=True)
    data = json.loads((tmp_path / "b.json").read_text())
    data["models"]["a"]["peakmem"] = "0.0.1"
    (tmp_path / "b.json").write_text(json.dumps(data))
    report = peakmem.check(path)
    assert report.exit_code == 0
    assert "the baseline was made by peakmem 0.0.1" in report.models[0].notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "damaged"), ("[]", "no baseline"), ("", "damaged"), ('{"schema": "peakmem.estimate/1"}', "no baseline"),
        ('{"schema": "peakmem.baseline/1"}', "damaged"),
        ('{"schema": "peakmem.baseline/1", "models": {"a": 3}}', "damaged"),
        ("[" * 100_000, "damaged"),
    ],
)  # fmt: skip
def test_a_damaged_baseline_stops_and_is_not_replaced(model, budgets, tmp_path, text, said):
    model()
    path = budgets(GROWTH)
    (tmp_path / "b.json").write_text(text)
    for update in (False, True):
        with pytest.raises(FormatError, match=said) as fault:
            peakmem.check(path, update_baseline=update)
        assert "b.json" in str(fault.value)
    assert (tmp_path / "b.json").read_text() == text


def test_an_update_keeps_what_it_cannot_answer_and_drops_what_is_gone(model, budgets, tmp_path):
    model()
    model("other.onnx", width=4)
    both = GROWTH + GROWTH.partition("\n")[2].replace("model.a", "model.b").replace("net", "other")
    peakmem.check(budgets(both), update_baseline=True)
    (tmp_path / "other.onnx").unlink()
    report = peakmem.check(budgets(both), update_baseline=True)
    assert report.notes == ("b could not be answered and keeps what the baseline had",)
    assert [(one.model, one.quantity, one.outcome) for one in report.findings] == [("b", "growth", "unanswered")]
    assert report.exit_code == 2
    assert set(read_baseline(tmp_path / "b.json").models) == {"a", "b"}
    report = peakmem.check(budgets(GROWTH), update_baseline=True)
    assert set(read_baseline(tmp_path / "b.json").models) == {"a"}
    assert ("b", None) in {(one.model, one.after) for one in report.updated}


def test_an_update_of_one_model_leaves_the_others(model, budgets, tmp_path):
    model()
    model("other.onnx", width=4)
    both = GROWTH + GROWTH.partition("\n")[2].replace("model.a", "model.b").replace("net", "other")
    peakmem.check(budgets(both), update_baseline=True)
    before = read_baseline(tmp_path / "b.json").models["a"]
    model(width=30)
    model("other.onnx", width=30)
    peakmem.check(budgets(both), only=["b"], update_baseline=True)
    after = read_baseline(tmp_path / "b.json").models
    assert after["a"] == before
    assert after["b"].values["weights"].value == 960


def test_an_update_without_a_baseline_is_refused(model, budgets):
    model()
    with pytest.raises(UsageError, match="no baseline is named"):
        peakmem.check(budgets('[model.a]\nsource = "net.onnx"\npeak = "1 MiB"\n'), update_baseline=True)


def test_weights_beside_the_file_are_not_left_out(budgets, tmp_path):
    """32 KiB of weights in a file of their own."""
    onnx = pytest.importorskip("onnx")
    import numpy
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(numpy.zeros((64, 128), numpy.float32), "w")
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 64]), ("y", [1, 128]))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], [weights])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx", save_as_external_data=True, location="m.bin",
              size_threshold=0)  # fmt: skip
    text = '[model.a]\nsource = "m.onnx"\nfile_size = "1 MiB"\n'
    report = peakmem.check(budgets(text))
    assert report.exit_code == 2
    assert "some lie in other files" in report.findings[0].said
    report = peakmem.check(budgets(text + 'files = ["m.bin"]\n'))
    assert [one.value for one in report.findings] == [(tmp_path / "m.onnx").stat().st_size + 32768]


def test_an_engine_s_quantities(model, budgets):
    """The engine's own numbers, as `peakmem.predict` gives them."""
    model()
    report = peakmem.check(
        budgets(
            '[model.a]\nsource = "net.onnx"\nengine = "onnxruntime"\n'
            'processor = "arch=x86_64,features=avx2+fma,cores=2"\npeak = "1 KiB"\nweights = "1 MiB"\n'
        )
    )
    from peakmem.processors import parse_processor

    chip = parse_processor("arch=x86_64,features=avx2+fma,cores=2")
    known = peakmem.predict("net.onnx", engines=["onnxruntime"], processor=chip)
    values = {one.quantity: one for one in report.models[0].values}
    assert values["peak"].value == known.candidates[0].heap_peak_bytes
    assert values["weights"].value == 256
    assert outcomes(report)["a", "peak", "budget"] == "broken"
    assert report.models[0].configuration["processor"] == "arch=x86_64,features=avx2+fma,cores=2"


def test_an_engine_with_an_arena_needs_the_arena(budgets):
    """TFLM's smallest arena is what `peak` and `arena` are."""
    name = "mobilenet_v1:width=0.25,resolution=128"
    try:
        (known,) = peakmem.predict(name, engines=["tflm"], settings=["quantise=int8"]).candidates
    except MissingLibrary as fault:
        pytest.skip(str(fault))
    if known.outcome == "missing":
        pytest.skip(known.reason)
    text = f'[model.a]\nsource = "{name}"\nengine = "tflm"\nset = {{ quantise = "int8" }}\n'
    report = peakmem.check(budgets(f'{text}peak = "1 B"\narena = "1 GiB"\n'))
    assert {one.value for one in report.findings} == {known.details["smallest arena"]}
    assert outcomes(report) == {("a", "peak", "budget"): "broken", ("a", "arena", "budget"): "within"}
    broken = next(one for one in report.findings if one.outcome == "broken")
    assert [line.partition(":")[0] for line in broken.why] == ["head", "tail"]


def test_a_training_step(budgets):
    """Along the graph no bound is known, so that nothing that fits is said to be within."""
    text = '[model.a]\nsource = "squeezenet1_1"\ntrain = { route = "graph", batch = 1, optimizer = "sgd" }\n'
    report = peakmem.check(budgets(f'{text}step_peak = "999 GiB"\n'))
    assert report.exit_code == 2
    assert "no upper bound is known" in report.findings[0].said
    assert peakmem.check(budgets(f'{text}step_peak = "1 B"\n')).exit_code == 1


def test_devices_are_judged_by_fit(budgets):
    """MobileNetV2 in float32 needs 5.7 MiB of activations and 13.5 MiB of weights; the board has 320 KiB and 1 MiB."""
    report = peakmem.check(
        budgets('[model.a]\nsource = "mobilenet_v2:width=0.35,resolution=96"\ndtype = "int8"\nfits = "stm32f746"\n')
    )
    said = {one.written: one for one in report.findings}
    assert said["stm32f746"].outcome in ("within", "broken", "unanswered")
    assert said["stm32f746"].value is not None


def test_an_internal_error_of_one_model_hides_no_other(model, budgets, monkeypatch):
    model()
    from peakmem.budgets import answers

    def fails(*_):
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(answers, "_stored", fails)
    report = peakmem.check(
        budgets('[model.a]\nsource = "net.onnx"\nweights = "1 MiB"\n[model.b]\nsource = "net.onnx"\npeak = "1 MiB"\n')
    )
    assert outcomes(report) == {("a", "weights", "budget"): "unanswered", ("b", "peak", "budget"): "within"}
    assert "internal error" in report.findings[0].said
