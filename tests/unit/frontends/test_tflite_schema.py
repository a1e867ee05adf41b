"""The schema as data, held against the one that ai-edge-litert brings; files made in code are read by it too."""

from __future__ import annotations

import inspect
import re

import pytest

from peakmem.frontends.tflite import schema
from tests.unit.frontends import tflite_files as made

official = pytest.importorskip("ai_edge_litert.schema_py_generated")


def numbers(name: str) -> dict[str, int]:
    return {key: value for key, value in vars(getattr(official, name)).items() if isinstance(value, int)}


def test_every_operator_has_its_number():
    for name, number in numbers("BuiltinOperator").items():
        assert schema.OPERATORS[number] == name
    assert schema.OPERATORS[schema.CUSTOM] == "CUSTOM"


def test_every_type_has_its_number_and_width():
    bits = {"BOOL": 8, "STRING": None, "VARIANT": None, "RESOURCE": 32, "COMPLEX64": 64, "COMPLEX128": 128}
    for name, number in numbers("TensorType").items():
        wide = bits[name] if name in bits else int(re.search(r"(\d+)(_|$)", name).group(1))
        wide = 8 if name.startswith("FLOAT8") else wide
        assert schema.TYPES[number].bits == wide, name


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(schema.PADDINGS, "Padding"), (schema.ACTIVATIONS, "ActivationFunctionType"),
     (schema.MIRROR_MODES, "MirrorPadMode"), (schema.LSTM_KERNELS, "LSTMKernelType")],
)  # fmt: skip
def test_enumerations(ours, theirs):
    assert {name: number for number, name in enumerate(ours)} == numbers(theirs)


def fields(table: str) -> list[str]:
    """Field names of a table in order, from the generated functions that add them."""
    found = {}
    for name, function in vars(official).items():
        match = re.fullmatch(rf"{table}Add(\w+)", name)
        slot = re.search(r"Prepend\w+Slot\((\d+)", inspect.getsource(function)) if match else None
        if match and slot:
            found[int(slot.group(1))] = re.sub(r"(?<!^)(?=[A-Z])", "_", match.group(1)).lower()
    return [found[number] for number in sorted(found)]


@pytest.mark.parametrize(("union", "second"), [("BuiltinOptions", False), ("BuiltinOptions2", True)])
def test_options_have_their_fields_in_order(union, second):
    for table, kind in numbers(union).items():
        if table == "NONE":
            continue
        ours = [option.name for option in schema.options(kind, second)]
        theirs = fields(table)
        if not ours:
            assert not theirs, table
            continue
        assert [name.replace("_", "") for name in ours if not name.startswith("new_")] == [
            name.replace("_", "") for name in theirs if not name.startswith("new_")
        ], table


@pytest.mark.parametrize(
    ("table", "numbered", "names"),
    [("Model", schema.Model, {"VERSION": 0, "OPERATOR_CODES": 1, "SUBGRAPHS": 2, "BUFFERS": 4, "METADATA": 6}),
     ("SubGraph", schema.SubGraph, {"TENSORS": 0, "INPUTS": 1, "OUTPUTS": 2, "OPERATORS": 3, "NAME": 4})],
)  # fmt: skip
def test_tables_begin_as_the_schema_says(table, numbered, names):
    order = fields(table)
    for name, number in names.items():
        assert getattr(numbered, name) == number
        assert order[number].replace("_", "") == name.lower().replace("_", "")


def test_files_made_in_code_are_files():
    """The writer of these tests, read by the library of the format."""
    root = official.ModelT.InitFromObj(official.Model.GetRootAs(made.network(open_batch=True), 0))
    (graph,) = root.subgraphs
    assert [tensor.name for tensor in graph.tensors][:2] == [b"x", b"w1"]
    assert list(graph.tensors[0].shapeSignature) == [-1, 8, 8, 3]
    assert len(root.buffers[1].data) == 432
    assert graph.operators[0].builtinOptions.strideW == 2
    assert graph.tensors[9].quantization.scale.tolist() == [0.5] * 10
