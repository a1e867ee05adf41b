import json

import pytest

import peakmem
from peakmem.report.codec import from_json, schema


@pytest.fixture(scope="module")
def report():
    return peakmem.estimate("squeezenet1_1", batch=2, budget=10**9)


def test_json_round_trip(report):
    assert from_json(report.to_json()) == report


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
