import json

import pytest

import peakmem
from peakmem.measuring.record import (
    Bucket,
    Cell,
    Counted,
    Heap,
    InputUsed,
    LibraryShare,
    Machine,
    Mark,
    Measurement,
    Outcome,
    Row,
    Run,
    Spread,
    Step,
)
from peakmem.report.codec import from_json, schema


@pytest.fixture(scope="module")
def report():
    return peakmem.estimate("squeezenet1_1", batch=2, budget=10**9)


def test_json_round_trip(report):
    assert from_json(report.to_json()) == report


def test_a_measurement_comes_back_as_it_was():
    counted = Counted(1, 2, 3, 4, 5, 6, 7, 8, (LibraryShare("libncnn.so", 9, 10),), complete=False)
    mark = Mark(
        "run 1", 0.25, {"VmHWM": 1 << 40}, {"heap": Bucket(1, 2, 3, 4)}, Heap(1, 2, 3, 4), counted,
        {"memory.peak": 11}, hwm_reset=False,
    )  # fmt: skip
    bare = Mark("import", 0.0, {}, {}, None)
    fed = (InputUsed("in0", (1, 3, 224, 224), "float32", "random"),)
    runs = (
        Run(True, Outcome("ok"), (bare, mark), {"blobs": "12"}, "said\n", "", fed),
        Run(False, Outcome("timeout", "no end after 1 s", "load"), (), {}),
    )
    settings = {"lightmode": True, "threads": 1, "target": "exported"}
    steps = (Step("pnnx 1", "a.param", 7, True),)
    measured = Measurement(
        "resnet18", Machine("a", ("avx",), 2, {"L2": 1 << 20}, 1, 4096, "k", "c", "3", "never", "2"), {"TZ": "UTC"}, 1,
        (Cell("ncnn", "1", settings, {"lightmode": True}, "a.param", steps, runs),),
        (Row("ncnn", "1", {}, "timeout", "why", "load", {"peak_resident": Spread(1, 2, 3, 4)}, "run 1", ""),), ("n",),
    )  # fmt: skip
    back = from_json(measured.to_json(), peakmem.Measurement)
    assert back == measured
    assert back.cells[0].settings["lightmode"] is True
    with pytest.raises(peakmem.FormatError, match=r"'peakmem.measurement/1' \(expected 'peakmem.estimate/1'\)"):
        from_json(measured.to_json())


def test_dictionaries_hold_plain_data(report):
    data = report.to_dict()
    assert json.loads(json.dumps(data)) == json.loads(report.to_json())
    assert data["peak"]["activation_bytes"] == report.peak_bytes


def test_unknown_fields_are_ignored(report):
    data = json.loads(report.to_json())
    data["later"] = {"x": 1}
    data["peak"]["later"] = 2
    assert from_json(json.dumps(data)) == report


def test_the_report_fits_its_schema(report):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(json.loads(report.to_json()), schema())
    broken = json.loads(report.to_json())
    broken["peak"]["step"] = "three"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "the schema is None"),
        ('{"schema": "peakmem.estimate/9"}', "expected 'peakmem.estimate/1'"),
        ('{"schema": "peakmem.estimate/1"}', "does not fit its schema"),
    ],
)
def test_foreign_json_is_refused(text, message):
    with pytest.raises(peakmem.FormatError, match=message):
        from_json(text)
