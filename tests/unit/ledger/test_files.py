"""Files of claims: what is read, what is refused, and that the line is told."""

import contextlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakmem.errors import FormatError, PeakmemError
from peakmem.ledger import check_claims
from peakmem.ledger.file import claims
from peakmem.ledger.read import tree


def checked(tmp_path, text, name="claims.yaml", **asked):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return check_claims(path, **asked)


REFUSED = {
    "claims: &a [{claim: 1 B, compute: '1'}]\n": (1, "anchors and aliases"),
    "claims: [{claim: 1 B, compute: '1'}]\nsource: *x\n": (2, "anchors and aliases"),
    "claims: !!python/object/apply:os.system ['id']\n": (1, "the tag"),
    "claims:\n  - claim: 1 B\n    claim: 2 B\n": (3, "stands twice"),
    "claims:\n  - {id: a, claim: 1 B, compute: '1'}\n  - {id: a, claim: 1 B, compute: '1'}\n": (3, "given twice"),
    "claims:\n\t- x\n": (2, "not YAML"),
    "": (0, "0 documents"),
    "--- {}\n--- {}\n": (0, "2 documents"),
    "hello": (0, "no list of claims"),
    "source: x\n": (0, "no claims"),
    "claims: []\n": (0, "no claims"),
    "claims: 3\n": (0, "no claims"),
    "claims:\n  - hello\n": (2, "no network"),
    "claims:\n  - [1]\n": (2, "a claim is a list"),
    "claim: []\n": (1, "Try: claims"),
    "claims:\n  - {claim: 1 B, quantty: weights}\n": (2, "Try: quantity"),
    "claims:\n  - {claim: 1 B}\n": (2, "what claim 1 is compared with"),
    "claims:\n  - {quantity: weights}\n": (2, "claims nothing"),
    "claims:\n  - {claim: 1 B, compute: '1', quantity: weights}\n": (2, "both compute and quantity"),
    "claims:\n  - {claim: 1 B, practice: x, compute: '1'}\n": (2, "practice and computed"),
    "claims:\n  - {claim: 1 B, compute: '1', kind: exmple}\n": (2, "Try: example"),
    "claims:\n  - {claim: 1 B, compute: '1', line: seven}\n": (2, "line is 'seven'"),
    "claims:\n  - {claim: lots, compute: '1'}\n": (2, "no amount"),
    "claims:\n  - {claim: 1 B, quantity: wieghts}\n": (2, "Try: quantity: weights"),
    "claims:\n  - claim: 1 B\n    compute: lvie_fused()\n": (3, "Try: live_fused"),
    "claims:\n  - claim: 1 B\n    compute: '1'\n    because: 'it is {wieghts()}'\n": (4, "Try: weights"),
    "claims:\n  - claim: 1 B\n    compute: '1'\n    readings: [{as: x}]\n": (4, "needs `as` and `compute`"),
    "claims:\n  - claim: 1 B\n    compute: '1'\n    readings: 3\n": (4, "readings is '3'"),
    "context: 3\nclaims: [{claim: 1 B, compute: '1'}]\n": (1, "context is '3'"),
    "context: {bacth: 3}\nclaims: [{claim: 1 B, compute: '1'}]\n": (1, "Try: batch"),
    "context:\n  network: mobilnet_v2\nclaims: [{claim: 1 B, compute: '1'}]\n": (2, "Try: mobilenet_v2"),
    "context: {network: resnet50, width: 0.5}\nclaims: [{claim: 1 B, compute: '1'}]\n": (1, "no option 'width'"),
    "context: {width: 0.5}\nclaims: [{claim: 1 B, compute: '1'}]\n": (1, "needs a network"),
    "context: {dtype: float31}\nclaims: [{claim: 1 B, compute: '1'}]\n": (1, "float31"),
    "context: {batch: 0}\nclaims: [{claim: 1 B, compute: '1'}]\n": (1, "batch is 0"),
    "context: {batch: 1/2}\nclaims: [{claim: 1 B, compute: '1'}]\n": (1, "batch is '1/2'"),
    "context: {network: nothere.onnx}\nclaims: [{claim: 1 B, compute: '1'}]\n": (1, "no file"),
    "context: {network: 'torchvision.models:resnet50'}\nclaims: [{claim: 1 B, compute: '1'}]\n": (1, "not run"),
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_and_where(tmp_path, text):
    line, says = REFUSED[text]
    path = tmp_path / "claims.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PeakmemError) as fault:
        claims(path)
    assert says in str(fault.value)
    assert str(fault.value).startswith(f"{path}:{line}:" if line else str(path))


COMPUTED = {
    "claims:\n  - {claim: '13.4', quantity: weights, context: {network: vgg16}}\n": "a claim without a unit",
    "claims:\n  - {claim: 4 M parameters, quantity: weights, context: {network: vgg16}}\n": "parameters()",
    "claims:\n  - {claim: 1 B, quantity: weights}\n": "no network is named",
    "claims:\n  - {claim: 'yes', quantity: weights, context: {network: vgg16}}\n": "neither",
    "claims:\n  - {claim: 1 B, compute: 'weights(batchs=2)', context: {network: vgg16}}\n": "Try: batch",
    "claims:\n  - {claim: 1 B, compute: 'layer(\"output\", \"conv1\")', context: {network: vgg16}}\n": "no layer",
    "claims:\n  - {claim: 1 B, compute: 'layer(\"outpt\", \"conv1\")', context: {network: vgg16}}\n": "Try: output",
    "claims:\n  - {claim: 1 B, compute: 'parameters(\"wieght\")', context: {network: vgg16}}\n": "Try: weight",
    "claims:\n  - {claim: 1 B, compute: 'train(\"paek\")', context: {network: vgg16}}\n": "Try: peak",
    "claims:\n  - {claim: 1 B, compute: 'device(\"v1000\")'}\n": "no device",
    "claims:\n  - {claim: 1 B, compute: 'elements()'}\n": 'expected elements("224x224x3")',
    "claims:\n  - {claim: 1 B, compute: 'elements(3, 4)'}\n": 'expected elements("224x224x3")',
    "claims:\n  - {claim: 1 B, compute: 'elements(shap=3)'}\n": "elements takes no 'shap'",
    "claims:\n  - {claim: 1 B, compute: 'elements(\"2x-3\")'}\n": "a dimension",
    "claims:\n  - {claim: 1 B, compute: 'conv_output(2, 5)'}\n": "larger than",
    "claims:\n  - {claim: 1 B, compute: 'measured(\"ncnn-post\", \"vgg16.default.heap\")'}\n": "Try: vgg16.defaults.h",
    "claims:\n  - {claim: 1 B, compute: 'closed_form(\"adam4w\")'}\n": "Try: adam-4w",
    "claims:\n  - {claim: 1 B, compute: 'closed_form(\"adam-4w\")'}\n": "needs a network",
    "claims:\n  - {claim: 1 B, compute: 'fits(3, 4, 5, 6, 7)'}\n": "expected fits",
    "claims:\n  - {claim: $1, compute: 'cost(1000, 3, \"0.1\")'}\n": "GB-month",
    "claims:\n  - {claim: 1 B, compute: 'live_fused(batch=99999999999)', context: {network: vgg16}}\n": "address space",
}  # fmt: skip


@pytest.mark.parametrize("text", COMPUTED)
def test_what_cannot_be_computed_says_so_and_where(tmp_path, text):
    with pytest.raises(PeakmemError) as fault:
        checked(tmp_path, text)
    assert COMPUTED[text] in str(fault.value)
    assert str(fault.value).startswith(f"{tmp_path / 'claims.yaml'}:2: claim 1: ")


def test_sizes_are_bounded(tmp_path):
    for text, says in (
        ("a" * (1 << 20) + "a", "larger than"),
        ("[" * 40 + "]" * 40, "too deep"),
        ("claims:\n" + "  - {claim: 1 B, compute: '1'}\n" * 20_000, "keys and values"),
        ("claims: [{claim: 1 B, compute: '" + "1" * 20_000 + "'}]", "a text of"),
    ):
        path = tmp_path / "claims.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(FormatError, match=says):
            claims(path)


def test_other_bytes_than_text(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_bytes(os.urandom(64) + b"\xff\xfe\x80")
    with pytest.raises(FormatError):
        claims(path)
    with pytest.raises(FormatError, match="folder"):
        claims(tmp_path)
    with pytest.raises(FormatError, match="cannot be read"):
        claims(tmp_path / "none.yaml")


@given(st.text(max_size=200))
def test_any_text_is_a_tree_or_refused(text):
    with contextlib.suppress(FormatError):
        tree(text, "x")


def test_json_is_read_like_yaml(tmp_path):
    data = {"context": {"network": "vgg16"}, "claims": [{"claim": "138,357,544", "quantity": "parameters"}]}
    for indent in (None, 2, "\t"):
        found = checked(tmp_path, json.dumps(data, indent=indent), "claims.json")
        assert [one.verdict for one in found.statements] == ["right"]


def test_a_list_alone_is_a_file_of_claims(tmp_path):
    found = checked(tmp_path, "- {claim: 4 B, compute: dtype_bytes('float32')}\n")
    assert (found.right, found.statements[0].id, found.sources[0].source) == (1, "claim 1", "claims.yaml")


def test_lines_of_claims_are_kept(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text("claims:\n  - claim: 4 B\n    compute: '4'\n  - claim: 5 B\n    compute: '5'\n", encoding="utf-8")
    found = claims(path).claims
    assert [dict(one.lines)[""] for one in found] == [2, 4]
    assert found[1].where("compute") == f"{path}:5: claim 2"


def test_networks_are_files_beside_the_claims(tmp_path):
    """A layer table that stands in another folder than the current one."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "table.csv").write_text("layer,kernel,in,out\nconv,3x3x3x4,8x8x3,8x8x4\n", encoding="utf-8")
    # 3 x 3 x 3 x 4 elements of four bytes
    text = "context: {network: net/table.csv}\nclaims: [{claim: 432 B, quantity: weights_only}]\n"
    assert checked(tmp_path, text).statements[0].verdict == "right"


def test_names_as_papers_write_them(tmp_path):
    text = "claims:\n" + "".join(
        f"  - {{claim: {count}, quantity: parameters, context: {{network: {name}}}}}\n"
        for name, count in (("ResNet-50", 25_557_032), ("MobileNetV2", 3_504_872), ("VGG 16", 138_357_544))
    )
    assert checked(tmp_path, text).right == 3


def test_ids_are_chosen_by_name_and_pattern(tmp_path):
    text = "claims:\n" + "".join(f"  - {{id: a{n}, claim: 1 B, compute: '1'}}\n" for n in range(3))
    assert len(checked(tmp_path, text, only=["a1", "a2"]).statements) == 2
    assert len(checked(tmp_path, text, only=["a*"]).statements) == 3
    with pytest.raises(PeakmemError, match="Try: --only a"):
        checked(tmp_path, text, only=["a9"])


def test_one_word_for_size_and_count(tmp_path):
    """VGG16: 138,357,544 parameters, 553.43 MB."""
    text = "context: {network: vgg16}\nclaims:\n" + "".join(
        f"  - {{claim: {claim}, quantity: {quantity}}}\n"
        for claim, quantity in (
            ("138.4M parameters", "parameters"), ("553.4 MB", "parameters"), ("553.4 MB", "Model Size"),
            ("138.4 million", "model size"),
        )
    )  # fmt: skip
    assert checked(tmp_path, text).right == 4


def test_a_pipe_nobody_writes_into_is_refused(tmp_path):
    pipe = tmp_path / "claims.yaml"
    os.mkfifo(pipe)
    with pytest.raises(PeakmemError, match="this is no file"):
        check_claims(pipe)
