"""Asking ONNX's own inference about one operator, whatever the operator looks like."""

from __future__ import annotations

import sys

import pytest

from peakmem.dtypes import FLOAT32, INT4, INT64
from peakmem.frontends.onnx.rules import infer_with_onnx
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Operator
from peakmem.ir.shapes.call import Call, Unresolved

OPSETS = {"": 18}


def ask(op_type, shapes, *, dtypes=None, values=None, domain="", outputs=("y",), opsets=OPSETS, **attributes):
    names = tuple(f"x{at}" for at in range(len(shapes)))
    operator = Operator("op", op_type, names, outputs, attributes, domain)
    kinds = dtypes or [FLOAT32] * len(shapes)
    return infer_with_onnx(Call(operator, shapes, kinds, values or [None] * len(shapes), 18), opsets)


def test_shapes_and_dtypes_come_back():
    assert ask("MatMul", [(2, 3), (3, 5)]) == [((2, 5), FLOAT32)]
    assert ask("ArgMax", [(2, 3)], axis=1, keepdims=0) == [((2,), INT64)]


def test_symbols_go_there_and_back():
    batch = Symbol("batch")
    assert ask("Relu", [(batch, 3)]) == [((batch, 3), FLOAT32)]


def test_small_contents_are_handed_over():
    found = ask("Reshape", [(2, 6), (2,)], dtypes=[FLOAT32, INT64], values=[None, (3, -1)])
    assert found == [((3, 4), FLOAT32)]


def test_dtype_attributes_are_turned_into_onnx_numbers():
    assert ask("Cast", [(2,)], to="int4", opsets={"": 21}) == [((2,), INT4)]


def test_what_is_not_known_stays_open():
    assert ask("Relu", [None]) == [(None, FLOAT32)]
    ((shape, dtype),) = ask("NonZero", [(2, 3)])
    assert (shape[0], dtype) == (2, INT64)
    assert isinstance(shape[1], Symbol)
    assert ask("SequenceConstruct", [(2,), (3,)]) == [(None, None)]


def test_an_operator_onnx_does_not_know():
    assert ask("Mystery", [(2,)]) is None
    assert ask("Relu", [(2,)], domain="my.own", opsets={"": 18, "my.own": 1}) is None


@pytest.mark.parametrize("version", [18, 10**9])
def test_newer_operator_sets_than_onnx_has(version):
    assert ask("Relu", [(2,)], opsets={"": version}) == [((2,), FLOAT32)]


@pytest.mark.parametrize(
    "attributes", [{"axes": ()}, {"name": "a"}, {"inputs": 3}, {"doc_string": "b", "overload": "c"}]
)
def test_attributes_of_any_name_and_kind_do_not_end_the_analysis(attributes):
    try:
        assert ask("Relu", [(2,)], **attributes) == [((2,), FLOAT32)]
    except Unresolved as fault:
        assert "gives up" in str(fault)  # noqa: PT017 - either end is right


def test_a_refusal_is_told_in_one_line():
    with pytest.raises(Unresolved, match="ONNX's inference gives up") as caught:
        ask("MatMul", [(2, 3), (4, 5)])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_without_onnx_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(Unresolved, match=r"pip install 'peakmem\[onnx\]'"):
        ask("Relu", [(2,)])
