"""What engines will hold: ranges by hand arithmetic, what is refused, what is said of versions and missing rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from peakmem.engines import bands as known
from peakmem.engines.bands import Band, bands, baseline
from peakmem.engines.prediction import Holding, Moment, Prediction, Processor, Unmodelled
from peakmem.engines.registry import LEVERS, PROFILES, profile
from peakmem.errors import FormatError, UsageError
from peakmem.measuring.engine import engine, said
from peakmem.prediction import predict, this_processor, verified
from peakmem.report.codec import from_json
from peakmem.report.prediction import Predictions

PARAM = """7767517
3 3
Input data 0 1 data 0=8 1=8 2=3
Convolution conv 1 1 data conv 0=4 1=3 4=1 5=1 6=108
ReLU relu 1 1 conv out
"""


class Stand:
    """A profile that says what the test wants."""

    name = "ncnn"
    reads = ("ncnn",)

    def __init__(self, **more):
        self.more = more

    def predict(self, _graph, settings, _processor):
        moments = tuple(
            Moment(phase, (Holding("weights", 700),), (Holding("weights", 700), Holding("workspace", extra)))
            for phase, extra in (("load", 0), ("run 1", 300), ("steady", 300))
        )
        return Prediction("ncnn", "1.0.1, 1.0.2", dict(settings), moments, **self.more)


@pytest.fixture
def tiny(tmp_path):
    (tmp_path / "tiny.param").write_text(PARAM)
    (tmp_path / "tiny.bin").write_bytes(b"\0" * (4 + 4 * 108 + 16))
    return str(tmp_path / "tiny.param")


@pytest.fixture
def stand(monkeypatch):
    def put(data=None, **more):
        monkeypatch.setattr("peakmem.prediction.profile", lambda _: Stand(**more))
        monkeypatch.setattr(known, "_data", lambda: data or {})

    return put


def row(phase, figure, low, high, group="untouched"):
    return {"phase": phase, "figure": figure, "group": group, "n": 9, "min": low, "median": 1.0, "p90": 0.05,
            "max": high, "below": 4}  # fmt: skip


def test_the_range_is_the_band_of_untouched_networks_and_what_has_no_rule(tiny, stand):
    """1,000 B ÷ 1.25 = 800; (1,000 + 80) ÷ 0.9 = 1,200."""
    rows = [row("run 1", "peak", 0.5, 2.0, "rules"), row("run 1", "live", 0.1, 9.0), row("run 1", "peak", 0.9, 1.25)]
    base = {"version": "1.0.1", "n": 3, "anonymous_bytes": 5000, "file_bytes": 1, "heap_bytes": 1, "python": "3.11"}
    stand({"ncnn": {"bands": [{"where": {}, "rows": rows}], "baseline": base}}, unmodelled=(Unmodelled("odd", "", 80),))
    one = predict(tiny, engines=["ncnn"]).candidates[0]
    assert (one.heap_peak_bytes, one.peak_phase) == (1000, "run 1")
    assert (one.low_bytes, one.high_bytes) == (800, 1200)
    assert one.process_bytes == 6000
    assert any("80 B may be missing" in note for note in one.notes)


def test_without_a_band_there_is_no_range(tiny, stand):
    stand()
    one = predict(tiny, engines=["ncnn"]).candidates[0]
    assert (one.low_bytes, one.high_bytes, one.process_bytes, one.bands) == (None, None, None, ())


def test_the_band_of_the_closest_settings(monkeypatch):
    parts = [{"where": {}, "rows": [row("load", "peak", 1, 1)]}]
    parts.append({"where": {"kernels": "reference"}, "rows": [row("load", "peak", 2, 2)]})
    data = {"litert": {"bands": parts}}
    monkeypatch.setattr(known, "_data", lambda: data)
    assert bands("litert", {"kernels": "reference", "threads": 1})[0].min == 2
    assert bands("litert", {"kernels": "builtin"})[0].min == 1
    assert bands("ncnn", {}) == ()
    assert baseline("ncnn") is None


def test_every_band_of_the_package_is_of_an_engine_with_a_profile():
    assert set(known._data()) <= set(PROFILES)
    for name, entry in known._data().items():
        for part in entry["bands"]:
            assert set(part["where"]) <= {setting.name for setting in engine(name).settings} | {"backend"}
            for one in part["rows"]:
                band = Band(**one)
                assert 0 < band.min <= band.median <= band.max
                assert 0 <= band.below <= band.n


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_names_its_engine_and_what_it_reads(name):
    one = profile(name)
    assert one.name == name
    assert one.reads
    for lever, values in LEVERS[name].items():
        there = {setting.name: setting for setting in engine(name).settings}
        if lever in there:
            assert all(there[lever].parse(said(one)) == one for one in values)


def test_another_version_says_so(tiny, stand, monkeypatch):
    stand()
    monkeypatch.setattr("peakmem.measuring.engine.Engine.version", lambda _: "9.9")
    notes = predict(tiny, engines=["ncnn"]).candidates[0].notes
    assert any("9.9 is installed, the rules were verified with 1.0.1, 1.0.2" in note for note in notes)
    monkeypatch.setattr("peakmem.measuring.engine.Engine.version", lambda _: "1.0.2")
    assert not any("verified" in note for note in predict(tiny, engines=["ncnn"]).candidates[0].notes)


@pytest.mark.parametrize(
    ("version", "good"), [("2.13.0", True), ("2.13.0+cpu", True), ("1.4", True), ("1.4.1", False), ("", False)]
)
def test_versions(version, good):
    assert verified(version, "2.13.0+cpu, 1.4") is good


def test_what_holds_it_in_so_much(tiny):
    report = predict(tiny, engines=["ncnn"], settings=["threads=1"], within=1 << 40)
    assert len(report.candidates) == 2**4
    sizes = [one.process_bytes for one in report.fitting]
    assert sizes == sorted(sizes)
    assert predict(tiny, engines=["ncnn"], within=1).fitting == ()
    with pytest.raises(UsageError, match="limit"):
        predict(tiny, engines=["ncnn"], within=0)


def test_the_report_goes_through_json(tiny):
    report = predict(tiny, engines=["ncnn"])
    assert from_json(report.to_json(), Predictions) == report


def test_the_processor_is_what_the_engine_is_told(tiny):
    here = this_processor()
    assert here.architecture in ("x86_64", "aarch64")
    assert here.l1_data_bytes > 0
    assert here.cores >= 1
    report = predict(tiny, engines=["ncnn"], processor=Processor(features=frozenset({"avx2", "fma", "f16c"})))
    assert report.processor.features == {"avx2", "fma", "f16c"}


def test_weights_and_live_peak_by_hand(tiny):
    """Weights: 4×3×3×3 and 4 biases; alive: 3×8×8 in and 4×8×8 out; floats."""
    report = predict(tiny, engines=["ncnn"])
    assert report.weights_bytes == 4 * (108 + 4)
    assert report.live_peak_bytes == 4 * (3 * 64 + 4 * 64)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engines": ["nosuch"]}, "nosuch"),
        ({"engines": []}, "no engine"),
        ({"engines": ["ncnn"], "settings": ["nosuch=1"]}, "nosuch"),
        ({"engines": ["ncnn"], "shapes": {"nosuch": (1, 2)}}, "nosuch"),
    ],
)
def test_what_does_not_fit_is_refused(tiny, options, words):
    with pytest.raises(UsageError, match=words):
        predict(tiny, **options)


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "bad.param").write_text("7767517\n9999999 1\nnonsense\n")
    with pytest.raises((FormatError, UsageError)):
        predict(str(tmp_path / "bad.param"), engines=["ncnn"])


def test_a_word_is_a_list_of_one(tiny):
    found = predict(Path(tiny), engines="ncnn", settings="winograd=on,off")
    assert found == predict(tiny, engines=["ncnn"], settings=["winograd=on,off"])
    assert from_json(found.to_json(), Predictions) == found


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"inputs": ["1x3x8x8"]}, "--input is for live modules"),
        ({"timeout": 0}, "a timeout of 0 s"),
        ({"timeout": 1e9}, "at most"),
        ({"within": 0}, "a limit of 0 B"),
    ],
)
def test_what_no_prediction_takes(tiny, more, said):
    with pytest.raises(UsageError, match=said):
        predict(tiny, engines=["ncnn"], **more)


def test_an_engine_loads_files_and_not_objects():
    with pytest.raises(UsageError, match="not an object"):
        predict(object(), engines=["ncnn"])
